//! Upstreams that fail: before the answer as a status, in the middle of a stream as an error event, never in silence.

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::feed::pass;
use crate::support::reply::{DONE, WHOLE, event, finish, text};
use crate::support::{Client, ErrorBody, Gate, Gateway, Reply, Step, Upstream, config, model};
use serde_json::json;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn serve(upstream: &Upstream) -> Gateway {
    serve_with(upstream, "")
}

fn serve_with(upstream: &Upstream, lines: &str) -> Gateway {
    Gateway::start(&config("", &[model("small", upstream) + lines]))
}

/// Both kinds of calls, with what the caller sees when the upstream fails before its answer.
const BOTH: [&str; 2] = [HELLO, STREAM];

fn assert_failed(gateway: &Gateway, calls: usize) {
    let calls = gateway.wait_calls(calls);
    assert!(calls.iter().all(|call| call["outcome"] == "failure"), "{calls:#?}");
}

/// The events of a stream that must end in an error; returns the content before it, and the error.
fn broken_stream(client: &mut Client) -> (Vec<String>, ErrorBody) {
    assert_eq!(client.head().status(), 200);
    let mut events = client.contents();
    assert!(!events.iter().any(|e| e.contains("[DONE]")), "a broken stream must not look complete: {events:#?}");
    let last = events.pop().unwrap();
    (events, ErrorBody::of_event(&last))
}

#[test]
fn a_refused_provider_key_is_a_401_that_says_whose_key_it_was() {
    let up = Upstream::new(Reply::error(401, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key"));
    let gateway = serve(&up);
    for body in BOTH {
        let error = gateway.chat(body).error(401);
        let message = error.message.to_lowercase();
        assert!(message.contains("provider") && message.contains("key"), "{error:?}");
    }
    assert_failed(&gateway, 2);
}

#[test]
fn a_bad_request_upstream_keeps_status_message_code_and_param() {
    let error = json!({"error": {"message": "maximum context length is 128 tokens", "type": "invalid_request_error",
        "param": "messages", "code": "context_length_exceeded"}});
    let gateway = serve(&Upstream::new(Reply::json(400, &error.to_string())));
    for body in BOTH {
        let error = gateway.chat(body).error(400);
        assert!(error.message.contains("maximum context length is 128 tokens"), "{error:?}");
        assert_eq!(error.code, "context_length_exceeded");
        assert_eq!(error.param.as_deref(), Some("messages"));
        assert_eq!(error.kind, "invalid_request_error");
    }
}

#[test]
fn a_rate_limit_upstream_is_passed_on_with_its_waiting_time() {
    let body =
        json!({"error": {"message": "slow down", "type": "tokens", "param": null, "code": "rate_limit_exceeded"}});
    let headers = [("Content-Type", "application/json"), ("Retry-After", "7"), ("retry-after-ms", "6500")];
    let gateway = serve(&Upstream::new(Reply::answer(429, &headers, body.to_string().as_bytes())));
    for body in BOTH {
        let answer = gateway.chat(body);
        let error = answer.error(429);
        assert_eq!(error.code, "rate_limit_exceeded");
        assert_eq!(answer.header("retry-after").as_deref(), Some("7"));
        assert_eq!(answer.header("retry-after-ms").as_deref(), Some("6500"));
    }
}

#[test]
fn a_refusal_upstream_is_told_with_the_id_that_its_operators_ask_for() {
    let headers = [("Content-Type", "application/json"), ("x-request-id", "req_9"), ("set-cookie", "a=b")];
    let body = json!({"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}});
    let up = Upstream::new(Reply::answer(429, &headers, body.to_string().as_bytes()));
    let gateway = serve(&up);
    for body in BOTH {
        let answer = gateway.chat(body);
        answer.error(429);
        assert_eq!(answer.header("llm_provider-x-request-id").as_deref(), Some("req_9"));
        assert_eq!(answer.header("x-should-retry").as_deref(), Some("false"));
        let label = |name: &str| answer.header(&format!("x-litellm-{name}"));
        assert_eq!(
            (label("model-group").as_deref(), label("model-api-base").as_deref()),
            (Some("small"), Some(up.base()))
        );
        assert!(label("model-id").is_some() && label("attempted-retries").is_some() && label("call-id").is_some());
        assert!(answer.header("set-cookie").is_none() && answer.header("llm_provider-set-cookie").is_none());
    }
}

#[test]
fn a_200_without_choices_is_a_502() {
    for body in ["{}", r#"{"id":"x","object":"list","data":[]}"#] {
        let gateway = serve(&Upstream::new(Reply::json(200, body)));
        assert!(gateway.chat(HELLO).error(502).message.contains("choices"), "{body}");
    }
}

#[test]
fn server_errors_upstream_keep_their_status() {
    for status in [500, 502, 503] {
        let gateway = serve(&Upstream::new(Reply::error(status, "server_error", None, "The server had an error")));
        for body in BOTH {
            assert!(gateway.chat(body).error(status).message.contains("The server had an error"));
        }
        assert_failed(&gateway, 2);
    }
}

#[test]
fn error_bodies_of_other_shapes_are_read_too() {
    for (body, wanted) in [
        (r#"{"error":"model not loaded"}"#, "model not loaded"),
        (r#"{"message":"no such thing"}"#, "no such thing"),
        (r#"{"detail":[{"loc":["body","n"],"msg":"value is too large"}]}"#, "value is too large"),
        (r#"{"detail":"busy"}"#, "busy"),
        ("plain words", "plain words"),
    ] {
        let gateway = serve(&Upstream::new(Reply::json(400, body)));
        let error = gateway.chat(HELLO).error(400);
        assert!(error.message.contains(wanted), "{body} became {error:?}");
    }
}

#[test]
fn an_html_error_becomes_a_readable_one() {
    let page = "<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>";
    let gateway = serve(&Upstream::new(Reply::answer(502, &[("Content-Type", "text/html")], page.as_bytes())));
    for body in BOTH {
        let error = gateway.chat(body).error(502);
        assert!(!error.message.contains('<'), "{error:?}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::new(Reply::whole());
    let target = format!("{}/chat/completions", elsewhere.base());
    for status in [301, 302, 307, 308] {
        let gateway = serve(&Upstream::new(Reply::answer(status, &[("Location", &target)], b"")));
        gateway.chat(HELLO).error(502);
    }
    assert!(elsewhere.requests().is_empty(), "the provider's key went to another address");
}

#[test]
fn a_deployment_without_its_key_is_a_401_that_names_the_variable_and_others_are_served() {
    let up = Upstream::new(Reply::whole());
    let models = [model("small", &up), model("lost", &up).replace("UPSTREAM_KEY", "LOST_KEY")];
    let gateway = Gateway::start(&config("", &models));
    gateway.chat(HELLO).ok();
    assert!(gateway.chat(HELLO.replace("small", "lost")).error(401).message.contains("LOST_KEY"));
    gateway.wait_log("the warning at the start", |line| line.contains("LOST_KEY"));
}

#[test]
fn an_error_without_a_body_still_has_a_message() {
    let gateway = serve(&Upstream::new(Reply::answer(503, &[], b"")));
    gateway.chat(HELLO).error(503);
}

#[test]
fn a_200_with_an_error_inside_is_an_error() {
    let body = r#"{"error":{"message":"credits are used up","code":402}}"#;
    let gateway = serve(&Upstream::new(Reply::json(200, body)));
    for body in BOTH {
        assert!(gateway.chat(body).any_error().message.contains("credits are used up"));
    }
    assert_failed(&gateway, 2);
}

#[test]
fn a_200_that_is_not_json_is_a_502() {
    for body in ["<html>welcome</html>", "", "{\"choices\":[", "null"] {
        let gateway = serve(&Upstream::new(Reply::json(200, body)));
        gateway.chat(HELLO).error(502);
        assert_failed(&gateway, 1);
    }
}

#[test]
fn a_stream_that_starts_with_an_error_is_an_error_status() {
    let first =
        event(&json!({"error": {"message": "overloaded", "type": "server_error", "code": null, "param": null}}));
    let gateway = serve(&Upstream::new(Reply::stream().send(&first).end_body()));
    assert!(gateway.chat(STREAM).any_error().message.contains("overloaded"));
    assert_failed(&gateway, 1);
}

#[test]
fn a_stream_that_ends_before_its_first_event_is_an_error_status() {
    let gateway = serve(&Upstream::new(Reply::stream().end_body()));
    gateway.chat(STREAM).error(502);
}

#[test]
fn garbage_in_place_of_http_is_a_502() {
    let garbage = Step::Raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec());
    let gateway = serve(&Upstream::new(Reply(vec![garbage, Step::Close])));
    for body in BOTH {
        gateway.chat(body).error(502);
    }
    assert_failed(&gateway, 2);
}

#[test]
fn a_reset_before_the_answer_is_an_error_status() {
    let gateway = serve(&Upstream::new(Reply(vec![Step::Reset])));
    for body in BOTH {
        let answer = gateway.chat(body);
        assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        answer.any_error();
    }
    assert_failed(&gateway, 2);
}

#[test]
fn an_upstream_that_hangs_up_without_an_answer_is_an_error_status() {
    let gateway = serve(&Upstream::new(Reply(vec![Step::Close])));
    for body in BOTH {
        let answer = gateway.chat(body);
        assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        answer.any_error();
    }
}

#[test]
fn a_whole_answer_cut_short_is_a_502() {
    let half =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":".to_vec();
    for end in [Step::Close, Step::Reset] {
        let gateway = serve(&Upstream::new(Reply(vec![Step::Raw(half.clone()), end])));
        gateway.chat(HELLO).error(502);
        assert_failed(&gateway, 1);
    }
}

#[test]
fn an_answer_over_the_limit_is_a_502() {
    let up = Upstream::new(Reply::json(200, &format!("{{\"choices\":[],\"x\":\"{}\"}}", "x".repeat(20_000))));
    let gateway = Gateway::start(&config("answer_limit = \"10KiB\"", &[model("small", &up)]));
    gateway.chat(HELLO).error(502);
}

#[test]
fn an_upstream_that_never_answers_is_a_504_and_is_left() {
    let up = Upstream::new(Reply::silence());
    let gateway = serve_with(&up, "timeout = \"300ms\"\n");
    for (count, body) in BOTH.iter().enumerate() {
        let start = Instant::now();
        gateway.chat(body).error(504);
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
        up.wait_departures(count + 1);
    }
    assert_failed(&gateway, 2);
}

#[test]
fn a_whole_answer_that_stalls_halfway_is_a_504() {
    let half =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\":".to_vec();
    let up = Upstream::new(Reply(vec![Step::Raw(half), Step::Hold]));
    serve_with(&up, "timeout = \"300ms\"\n").chat(HELLO).error(504);
    up.wait_departures(1);
}

#[test]
fn a_stream_has_a_time_limit_of_its_own() {
    let up = Upstream::new(Reply::silence());
    let gateway = serve_with(&up, "timeout = \"60s\"\nstream_timeout = \"300ms\"\n");
    gateway.chat(STREAM).error(504);
}

#[test]
fn the_time_limits_of_the_defaults_apply_too() {
    let up = Upstream::new(Reply::silence());
    let gateway = Gateway::start(&(config("", &[model("small", &up)]) + "[defaults]\ntimeout = \"300ms\"\n"));
    gateway.chat(HELLO).error(504);
}

#[test]
fn a_long_stream_may_take_longer_than_its_longest_silence() {
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    let reply = gates.iter().fold(Reply::stream().send(&text("0")), |r, gate| r.wait(gate).send(&text("n")));
    let up = Upstream::new(reply.end());
    let gateway = serve_with(&up, "timeout = \"500ms\"\nstream_timeout = \"500ms\"\n");
    let mut client = gateway.open_chat(STREAM);
    client.head();
    assert!(client.content().unwrap().contains('0'));
    for gate in &gates {
        pass(Duration::from_millis(200));
        gate.open();
        assert!(client.content().unwrap().contains('n'));
    }
    assert_eq!(client.contents().last().map(String::as_str), Some("data: [DONE]"));
}

#[test]
fn a_connection_that_is_not_accepted_ends_at_the_connect_timeout() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let patience = Duration::from_millis(200);
    let _queue: Vec<TcpStream> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok()).take(100).collect();
    let base = format!("http://{address}/v1");
    let models =
        crate::support::deployment("small", "openai/up", &base) + "connect_timeout = \"300ms\"\ntimeout = \"60s\"\n";
    let start = Instant::now();
    let answer = Gateway::start(&config("", &[models])).chat(HELLO);
    answer.error(503);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_stream_cut_inside_an_event_ends_in_an_error_event() {
    for end in [Step::Close, Step::Reset] {
        let up = Upstream::new(Reply::stream().send(&text("a")).send("data: {\"choices\":[{\"ind").then(end));
        let gateway = serve(&up);
        let (content, error) = broken_stream(&mut gateway.open_chat(STREAM));
        assert_eq!(content.len(), 1, "{content:#?} {error:?}");
        assert_failed(&gateway, 1);
    }
}

#[test]
fn a_stream_cut_between_events_ends_in_an_error_event() {
    let gateway = serve(&Upstream::new(Reply::stream().send(&text("a")).then(Step::Close)));
    let (content, _) = broken_stream(&mut gateway.open_chat(STREAM));
    assert_eq!(content.len(), 1);
    assert_failed(&gateway, 1);
}

#[test]
fn a_stream_that_ends_properly_but_too_early_ends_in_an_error_event() {
    let gateway = serve(&Upstream::new(Reply::stream().send(&text("a")).end_body()));
    let (content, _) = broken_stream(&mut gateway.open_chat(STREAM));
    assert_eq!(content.len(), 1);
    assert_failed(&gateway, 1);
}

#[test]
fn a_stream_that_stalls_ends_in_an_error_event_and_the_upstream_is_left() {
    let up = Upstream::new(Reply::stream().send(&text("a")).then(Step::Hold));
    let gateway = serve_with(&up, "stream_timeout = \"300ms\"\n");
    let (content, error) = broken_stream(&mut gateway.open_chat(STREAM));
    assert_eq!(content.len(), 1);
    assert!(error.kind.contains("timeout"), "{error:?}");
    up.wait_departures(1);
    assert_failed(&gateway, 1);
}

#[test]
fn garbage_in_a_stream_ends_in_an_error_event_and_is_not_passed_on() {
    for garbage in ["data: {\"choices\": [}\n\n", "data: <html>oops</html>\n\n", "data: \u{fffd}\u{0}\n\n"] {
        let up = Upstream::new(Reply::stream().send(&text("a")).send(garbage).end());
        let gateway = serve(&up);
        let (content, _) = broken_stream(&mut gateway.open_chat(STREAM));
        assert_eq!(content.len(), 1, "{garbage}");
        assert_failed(&gateway, 1);
    }
}

#[test]
fn bytes_that_are_not_text_in_a_stream_end_in_an_error_event() {
    let up = Upstream::new(
        Reply::stream().send(&text("a")).then(Step::Chunk(b"data: {\"a\":\"\xff\xfe\"}\n\n".to_vec())).end(),
    );
    let (content, _) = broken_stream(&mut serve(&up).open_chat(STREAM));
    assert_eq!(content.len(), 1);
}

#[test]
fn broken_chunked_encoding_in_a_stream_ends_in_an_error_event() {
    let up = Upstream::new(
        Reply::stream().send(&text("a")).then(Step::Raw(b"zz\r\nnonsense\r\n".to_vec())).then(Step::Close),
    );
    let gateway = serve(&up);
    let (content, _) = broken_stream(&mut gateway.open_chat(STREAM));
    assert_eq!(content.len(), 1);
}

#[test]
fn an_event_without_end_is_bounded() {
    let up = Upstream::new(
        (0..80).fold(Reply::stream().send(&text("a")), |r, _| r.send(&"x".repeat(1 << 20))).then(Step::Hold),
    );
    let gateway = serve_with(&up, "stream_timeout = \"5s\"\n");
    let (content, _) = broken_stream(&mut gateway.open_chat(STREAM));
    assert_eq!(content.len(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 300_000, "the gateway grew to {peak} kB");
}

#[test]
fn an_error_event_in_midstream_is_the_last_event() {
    let broken = event(&json!({"error": {"message": "the model crashed", "type": "server_error", "code": 500}}));
    let gateway = serve(&Upstream::new(Reply::stream().send(&text("a")).send(&broken).send(DONE).end_body()));
    let (content, error) = broken_stream(&mut gateway.open_chat(STREAM));
    assert_eq!(content.len(), 1);
    assert!(error.message.contains("the model crashed"), "{error:?}");
    assert_failed(&gateway, 1);
}

#[test]
fn a_cut_after_the_finish_chunk_is_no_failure() {
    let gateway = serve(&Upstream::new(Reply::stream().send(&text("a")).send(&finish()).send(DONE).then(Step::Close)));
    let answer = gateway.chat(STREAM).ok();
    assert!(answer.text().ends_with(DONE));
    assert_eq!(gateway.only_call()["outcome"], "success");
}

#[test]
fn one_broken_stream_does_not_touch_another() {
    let gate = Gate::new();
    let (good, bad) = (
        Upstream::new(Reply::stream().send(&text("a")).wait(&gate).end()),
        Upstream::new(Reply::stream().send(&text("a")).then(Step::Reset)),
    );
    let gateway = Gateway::start(&config("", &[model("small", &good), model("bad", &bad)]));
    let mut open = gateway.open_chat(STREAM);
    open.head();
    open.content();
    broken_stream(&mut gateway.open_chat(STREAM.replace("small", "bad")));
    gate.open();
    assert_eq!(open.contents().last().map(String::as_str), Some("data: [DONE]"));
}

#[test]
fn the_connection_to_the_caller_survives_an_error_status() {
    let up = Upstream::queue(vec![Reply::error(500, "server_error", None, "no"), Reply::whole()]);
    let gateway = serve(&up);
    let mut client = gateway.client();
    client.post("/v1/chat/completions", HELLO);
    client.answer().error(500);
    client.post("/v1/chat/completions", HELLO);
    client.answer().ok();
}

#[test]
fn no_call_gets_the_answer_of_another() {
    let whole = |text: &str| {
        let body = format!(r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}}}}]}}"#);
        Reply::json(200, &body)
    };
    for odd in ["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", ""] {
        let up = Upstream::script(move |seen| {
            let said = seen.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
            let Step::Raw(answer) = whole(&format!("answer to {said}")).0.remove(0) else { return Reply::silence() };
            // Without an interim answer, the oddity is a second answer that nobody asked for.
            let more = if odd.is_empty() { answer.clone() } else { Vec::new() };
            Reply(vec![Step::Raw([odd.as_bytes(), &answer, &more].concat())])
        });
        let gateway = serve(&up);
        for round in 0..5 {
            let said = format!("question {round}");
            let answer = gateway.chat(HELLO.replace("hi", &said));
            let own = answer.text().contains(&format!("answer to {said}"));
            assert!(own || answer.status >= 500, "{odd:?} {said}: {} {}", answer.status, answer.text());
        }
    }
}

#[test]
fn an_answer_that_comes_late_behind_an_interim_one_reaches_who_asked() {
    for interim in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let first = Gate::new();
        let held = first.clone();
        let up = Upstream::script(move |seen| match seen.text().contains("question 0") {
            true => Reply::after(&held, Reply::texts(&["first"])).before(format!("HTTP/1.1 {interim}\r\n\r\n")),
            false => Reply::texts(&["mine"]),
        });
        // One worker, so that both calls could share a connection.
        let gateway = Gateway::start(&config("workers = 1", &[model("small", &up)]));
        let mut one = gateway.open_chat(STREAM.replace("hi", "question 0"));
        let mut other = gateway.open_chat(STREAM.replace("hi", "question 1"));
        let answer = other.answer();
        assert!(answer.text().contains("mine"), "{interim}: {} {}", answer.status, answer.text());
        first.open();
        let answer = one.answer();
        assert!(answer.text().contains("first"), "{interim}: {} {}", answer.status, answer.text());
    }
}

#[test]
fn what_comes_late_behind_an_answer_without_a_body_reaches_nobody() {
    let first = Gate::new();
    let held = first.clone();
    let up = Upstream::script(move |seen| match seen.text().contains("question 0") {
        true => Reply::after(&held, Reply::whole()).before("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        false => Reply::texts(&["mine"]),
    });
    let gateway = Gateway::start(&config("workers = 1", &[model("small", &up)]));
    gateway.chat(HELLO.replace("hi", "question 0")).error(502);
    // The connection would be taken for an idle one by now.
    let mut other = gateway.open_chat(STREAM.replace("hi", "question 1"));
    pass(Duration::from_millis(100));
    first.open();
    let answer = other.answer();
    assert!(answer.text().contains("mine"), "{} {}", answer.status, answer.text());
}

#[test]
fn an_answer_without_a_length_goes_on_to_the_end_of_its_connection() {
    let up = Upstream::script(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        Reply(vec![Step::Raw(head.into()), Step::Raw(WHOLE.into()), Step::Close])
    });
    let gateway = Gateway::start(&config("workers = 1", &[model("small", &up)]));
    for _ in 0..2 {
        assert_eq!(gateway.chat(HELLO).status, 200);
    }
}
