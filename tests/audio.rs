//! Audio, and pictures that come as forms.

use crate::support::forms::{form, parts};
use crate::support::{Answer, Gate, Gateway, Reply, Step, Upstream, authorization, config, model};
use serde_json::{Value, json};
use std::fmt::Write;

/// A second of silence: 16 kHz, 16 bit, mono.
fn wav(seconds: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend_from_slice(&16_000u32.to_le_bytes());
    file.extend_from_slice(&32_000u32.to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(32_000 * seconds as u32).to_le_bytes());
    file.resize(file.len() + 32_000 * seconds, 7);
    file
}

/// A gateway over an upstream that takes whatever is sent, with prices.
fn over(reply: Reply, prices: &str) -> (Upstream, Gateway) {
    let up = Upstream::new(reply).rules(|rules| rules.is_free = true);
    let mut toml = config("", &[model("small", &up)]);
    if !prices.is_empty() {
        let _ = writeln!(toml, "info = {{ {prices} }}");
    }
    let gateway = Gateway::start(&toml);
    (up, gateway)
}

fn send(gateway: &Gateway, path: &str, (kind, body): (String, Vec<u8>)) -> Answer {
    let (name, key) = authorization();
    gateway.call("POST", path, &[(name, &key), ("Content-Type", &kind)], &body)
}

#[test]
fn a_transcription_goes_up_as_a_form_and_costs_its_seconds() {
    let told = json!({"text": "hello", "usage": {"type": "duration", "seconds": 4}});
    let (up, gateway) = over(Reply::json(200, &told.to_string()), "input_cost_per_second = 0.0001");
    let sound = wav(20);
    let texts = [
        ("model", "small"),
        ("temperature", "0.0"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("timeout", "9"),
        ("metadata", "{\"tags\":[\"voice\"]}"),
    ];
    let answer = send(&gateway, "/v1/audio/transcriptions", form(&texts, &[("file", "a \"b\".wav", &sound)])).ok();
    assert_eq!(answer.json(), told);
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.0004"));
    let seen = up.only_request();
    assert_eq!(seen.target, "/v1/audio/transcriptions");
    let mut sent = parts(&seen);
    let file = sent.pop().unwrap();
    assert_eq!((file.name.as_str(), file.kind.as_deref()), ("file", Some("audio/wav")));
    assert!(file.filename.unwrap().starts_with("a ") && file.content == sound);
    let texts: Vec<(&str, String)> =
        sent.iter().map(|p| (p.name.as_str(), String::from_utf8_lossy(&p.content).into_owned())).collect();
    let expected = [
        ("model", "small-up"),
        ("temperature", "0.0"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ];
    assert_eq!(texts, expected.map(|(name, text)| (name, text.to_owned())));
    let call = gateway.only_call();
    assert_eq!((&call["outcome"], &call["cost_usd"]), (&json!("success"), &json!("0.0004")));
    // Nothing of it is left on the disk.
    let left = std::fs::read_dir(gateway.dir())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("upload"));
    assert_eq!(left.count(), 0);
}

#[test]
fn where_the_answer_says_no_length_the_file_does() {
    for (format, reply) in [
        ("json", Reply::json(200, r#"{"text":"hello"}"#)),
        (
            "srt",
            Reply::answer(
                200,
                &[("Content-Type", "text/plain; charset=utf-8")],
                b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
            ),
        ),
    ] {
        let (up, gateway) = over(reply, "input_cost_per_second = 0.001");
        let texts = [("model", "small"), ("response_format", format)];
        let answer = send(&gateway, "/audio/translations", form(&texts, &[("file", "a.wav", &wav(3))])).ok();
        assert_eq!(up.only_request().target, "/v1/audio/translations");
        assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.003"), "{format}");
        let is_text = answer.header("content-type").unwrap().starts_with("text/plain");
        assert_eq!(is_text, format == "srt");
        assert!(answer.text().contains("hello"));
    }
}

#[test]
fn a_form_is_sent_again_to_whoever_is_asked_next() {
    let first = Upstream::new(Reply::error(500, "server_error", None, "no")).rules(|rules| rules.is_free = true);
    let second = Upstream::new(Reply::json(200, r#"{"text":"hello"}"#)).rules(|rules| rules.is_free = true);
    let order = |model: String, order: u32| model.replace("[[models]]", &format!("[[models]]\norder = {order}"));
    let gateway = Gateway::start(&config("", &[order(model("small", &first), 1), order(model("small", &second), 2)]));
    let sound = wav(30);
    send(&gateway, "/v1/audio/transcriptions", form(&[("model", "small")], &[("file", "a.wav", &sound)])).ok();
    for up in [first, second] {
        assert!(up.wait_requests(1).iter().all(|seen| parts(seen).last().unwrap().content == sound));
    }
}

#[test]
fn a_streamed_transcription_comes_event_by_event() {
    let delta = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"hel\"}\n\n";
    let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"hello\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":4,\"total_tokens\":18}}\n\n";
    let gate = Gate::new();
    let reply = Reply::stream().send(delta).wait(&gate).send(done).send("data: [DONE]\n\n").end_body();
    let (up, gateway) = over(reply, "");
    let (kind, body) = form(&[("model", "small"), ("stream", "true")], &[("file", "a.wav", &wav(1))]);
    let mut client = gateway.client();
    let (name, key) = authorization();
    client.request("POST", "/v1/audio/transcriptions", &[(name, &key), ("Content-Type", &kind)], &body);
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert!(head.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(client.event().unwrap().contains("\"hel\""));
    gate.open();
    assert!(client.event().unwrap().contains("hello"));
    let calls = gateway.wait_calls(1);
    assert_eq!((&calls[0]["prompt_tokens"], &calls[0]["completion_tokens"]), (&json!(14), &json!(4)));
    assert_eq!(String::from_utf8_lossy(&parts(&up.only_request())[1].content), "true");
}

#[test]
fn speech_comes_as_it_is_made_and_costs_its_letters() {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = Reply(vec![Step::Raw(head.into()), Step::Chunk(vec![0xff, 0xfb, 0x90, 0])])
        .wait(&gate)
        .then(Step::Chunk(vec![1, 2]))
        .end_body();
    let (up, gateway) = over(reply, "input_cost_per_character = 0.000015");
    let mut client = gateway.client();
    let (name, key) = authorization();
    let ask = json!({"model": "small", "input": "Grüße!", "voice": "alloy", "num_retries": 0});
    client.post_with("/v1/audio/speech", &[(name, &key), ("Content-Type", "application/json")], ask.to_string());
    let head = client.head();
    assert_eq!((head.status(), head.header("content-type").as_deref()), (200, Some("audio/mpeg")));
    assert_eq!(head.header("x-litellm-response-cost").as_deref(), Some("0.00009"));
    // The first bytes are there while the rest is not made.
    assert_eq!(client.chunk().unwrap().unwrap(), [0xff, 0xfb, 0x90, 0]);
    gate.open();
    assert_eq!(client.chunk().unwrap().unwrap(), [1, 2]);
    assert_eq!(gateway.wait_calls(1)[0]["cost_usd"], "0.00009");
    assert_eq!(up.only_request().json(), json!({"model": "small-up", "input": "Grüße!", "voice": "alloy"}));
}

#[test]
fn speech_that_breaks_off_does_not_end_as_if_it_were_whole() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 9\r\n\r\nabc";
    let reply = Reply(vec![Step::Raw(head.into()), Step::Close]);
    let (_, gateway) = over(reply, "");
    let mut client = gateway.client();
    let (name, key) = authorization();
    client.post_with(
        "/audio/speech",
        &[(name, &key)],
        json!({"model": "small", "input": "a", "voice": "v"}).to_string(),
    );
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"abc");
    assert!(client.chunk().is_err());
    assert_eq!(gateway.wait_calls(1)[0]["outcome"], "failure");
}

#[test]
fn an_upstream_that_answers_with_something_else_is_told() {
    let (_, gateway) = over(Reply::json(200, r#"{"error":{"message":"no voice"}}"#), "");
    let ask = json!({"model": "small", "input": "a", "voice": "v"}).to_string();
    assert!(gateway.post("/v1/audio/speech", &ask).any_error().message.contains("no voice"));
    let (_, gateway) = over(Reply::json(200, r#"{"object":"list"}"#), "");
    gateway.post("/v1/audio/speech", &ask).error(502);
    let (_, gateway) = over(Reply::error(400, "invalid_request_error", None, "bad format"), "");
    let told = send(&gateway, "/v1/audio/transcriptions", form(&[("model", "small")], &[("file", "a.wav", b"x")]));
    assert!(told.error(400).message.contains("bad format"));
}

#[test]
fn bad_forms_are_refused_by_name() {
    let (up, gateway) = over(Reply::json(200, "{}"), "");
    let file = [("file", "a.wav", &b"RIFF"[..])];
    for (path, form, status, param) in [
        ("/v1/audio/transcriptions", form(&[], &file), 400, Some("model")),
        ("/v1/audio/transcriptions", form(&[("model", "small")], &[]), 400, Some("file")),
        (
            "/v1/audio/transcriptions",
            form(&[("model", "small"), ("api_base", "http://x")], &file),
            400,
            Some("api_base"),
        ),
        (
            "/v1/audio/transcriptions",
            form(&[("model", "small"), ("prompt", "a"), ("prompt", "b")], &file),
            400,
            Some("prompt"),
        ),
        ("/v1/audio/transcriptions", form(&[("model", "nobody")], &file), 400, None),
        ("/v1/audio/transcriptions", ("application/json".to_owned(), b"{}".to_vec()), 400, None),
        ("/v1/audio/transcriptions", ("multipart/form-data; boundary=x".to_owned(), b"--x\r\n".to_vec()), 400, None),
        ("/v1/images/edits", form(&[("model", "small"), ("prompt", "a")], &file), 400, Some("image")),
        ("/v1/images/edits", form(&[("model", "small")], &[("image[]", "a.png", b"x")]), 400, Some("prompt")),
    ] {
        let error = send(&gateway, path, form).error(status);
        assert!(param.is_none() || error.param.as_deref() == param, "{error:?}");
    }
    for ask in [json!({"model": "small", "voice": "v"}), json!({"model": "small", "input": 7})] {
        assert_eq!(gateway.post("/v1/audio/speech", ask.to_string()).error(400).param.as_deref(), Some("input"));
    }
    assert_eq!(up.requests().len(), 0);
    let large = Gateway::start(&config("body_limit = \"1MiB\"", &[model("small", &up)]));
    send(&large, "/v1/audio/transcriptions", form(&[("model", "small")], &[("file", "a.wav", &wav(60))])).error(413);
    let (name, key) = authorization();
    let no_key = large.call("POST", "/v1/audio/transcriptions", &[(name, &format!("{key}x"))], b"");
    no_key.error(401);
}

#[test]
fn pictures_are_edited_from_forms_and_from_json() {
    let told = json!({"created": 1, "data": [{"b64_json": "AA=="}, {"b64_json": "AA=="}]});
    let (up, gateway) = over(Reply::json(200, &told.to_string()), "output_cost_per_image = 0.04");
    let files = [("image[]", "a.png", &b"one"[..]), ("image[]", "b.png", b"two"), ("mask", "m.png", b"three")];
    let answer =
        send(&gateway, "/v1/images/edits", form(&[("model", "small"), ("prompt", "a cat"), ("n", "2")], &files)).ok();
    assert_eq!((answer.json(), answer.header("x-litellm-response-cost").as_deref()), (told, Some("0.08")));
    let sent = parts(&up.only_request());
    let names: Vec<&str> = sent.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["model", "prompt", "n", "image[]", "image[]", "mask"]);
    assert_eq!((sent[2].content.as_slice(), sent[4].content.as_slice()), (&b"2"[..], &b"two"[..]));
    let ask = json!({"model": "small", "prompt": "a cat", "images": [{"image_url": "https://x.example/a.png"}]});
    gateway.post("/images/edits", ask.to_string()).ok();
    let seen = up.wait_requests(2);
    assert_eq!((seen[1].target.as_str(), &seen[1].json()["images"]), ("/v1/images/edits", &ask["images"]));
    send(&gateway, "/v1/images/variations", form(&[("model", "small")], &files[..1])).ok();
}

#[test]
fn pictures_may_be_streamed() {
    let partial = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA==\"}\n\n";
    let done = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"AA==\",\"usage\":{\"input_tokens\":5,\"output_tokens\":9,\"total_tokens\":14}}\n\n";
    let (_, gateway) = over(Reply::stream().send(partial).send(done).end_body(), "");
    let ask: Value = json!({"model": "small", "prompt": "a cat", "stream": true});
    let told = gateway.post("/v1/images/generations", ask.to_string()).ok().text();
    assert_eq!(told, format!("{partial}{done}"));
    let call = gateway.only_call();
    assert_eq!((&call["prompt_tokens"], &call["completion_tokens"]), (&json!(5), &json!(9)));
}

#[test]
fn a_chunked_answer_that_is_cut_is_no_success() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = Reply(vec![Step::Raw(head.into()), Step::Chunk(b"some sound".to_vec()), Step::Close]);
    let (_up, gateway) = over(reply, "input_cost_per_character = 0.001");
    let (name, key) = authorization();
    let mut client = gateway.client();
    client.request("POST", "/v1/audio/speech", &[(name, &key)], br#"{"model":"small","input":"hello","voice":"a"}"#);
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"some sound");
    assert!(client.chunk().is_err(), "nobody takes it for whole");
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn a_length_that_is_guessed_is_marked() {
    let (_up, gateway) = over(Reply::json(200, r#"{"text":"hello"}"#), "input_cost_per_second = 0.001");
    send(&gateway, "/v1/audio/transcriptions", form(&[("model", "small")], &[("file", "a.bin", &[7; 8000])])).ok();
    assert_eq!(gateway.only_call()["estimated"], true);
    let (_up, gateway) = over(Reply::json(200, r#"{"text":"hello"}"#), "input_cost_per_second = 0.001");
    send(&gateway, "/v1/audio/transcriptions", form(&[("model", "small")], &[("file", "a.wav", &wav(1))])).ok();
    assert_eq!(gateway.only_call()["estimated"], false);
}
