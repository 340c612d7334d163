//! Replicate.

use super::{chunks, hello, serve, streamed, text_of, with};
use crate::support::strict::replicate::{self, ID};
use crate::support::{Gateway, Reply, Seen, Step, Upstream};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn prediction(status: &str, more: &Value) -> Value {
    with(json!({"id": ID, "status": status, "output": null, "error": null, "urls": {}}), more)
}

fn done() -> Value {
    prediction(
        "succeeded",
        &json!({"output": ["Hello ü", "ber", " there"], "metrics": {"input_token_count": 12, "output_token_count": 5}}),
    )
}

/// The prediction ends with the third look at it; `first` is how it begins.
fn over(first: Value, then: Value) -> (Upstream, Gateway) {
    let looks = AtomicUsize::new(0);
    let up = Upstream::script(move |seen: &Seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("POST", target) if target.ends_with("/cancel") => {
            Reply::json(200, &prediction("canceled", &json!({})).to_string())
        }
        ("POST", _) => Reply::json(201, &first.to_string()),
        _ => match looks.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reply::json(200, &prediction("processing", &json!({})).to_string()),
            _ => Reply::json(200, &then.to_string()),
        },
    })
    .strict(replicate::check);
    let prices = "info = { input_cost_per_token = 5e-8, output_cost_per_token = 2.5e-7 }\n";
    let gateway = serve(&up, "replicate/meta/meta-llama-3-8b-instruct", up.origin(), prices);
    (up, gateway)
}

#[test]
fn a_prediction_that_is_done_at_once_is_the_answer() {
    let (up, gateway) = over(done(), Value::Null);
    let asked = with(
        hello(),
        &json!({"max_tokens": 9, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]}),
    );
    let answer = gateway.chat(asked.to_string()).ok();
    // 12 tokens at 0.05 and 5 at 0.25 for a million.
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.00000185"));
    let told = answer.json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello über there");
    assert_eq!((&told["choices"][0]["finish_reason"], &told["usage"]["total_tokens"]), (&json!("stop"), &json!(17)));
    let seen = up.only_request();
    assert_eq!(seen.target, "/v1/models/meta/meta-llama-3-8b-instruct/predictions");
    assert_eq!(seen.header("prefer").as_deref(), Some("wait"));
    assert_eq!(seen.json()["input"], json!({"prompt": "hi", "system_prompt": "Be brief.", "max_tokens": 9}));
    let told = gateway
        .post(
            "/v1/messages",
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).to_string(),
        )
        .ok()
        .json();
    assert_eq!(told["content"][0]["text"], "Hello über there");
}

#[test]
fn a_prediction_is_looked_at_until_it_has_ended() {
    let (up, gateway) = over(prediction("starting", &json!({})), done());
    let told = gateway.chat(hello().to_string()).ok().json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello über there");
    assert_eq!(up.requests().len(), 4, "one request and three looks");
    // What does not stream comes as a stream in one piece.
    let told = chunks(&gateway, &hello());
    assert_eq!(
        (text_of(&told).as_str(), &told.last().unwrap()["usage"]["total_tokens"]),
        ("Hello über there", &json!(17))
    );
    let (_, gateway) =
        over(prediction("starting", &json!({})), prediction("failed", &json!({"error": "CUDA out of memory"})));
    for stream in [false, true] {
        let asked = with(hello(), &json!({"num_retries": 0, "stream": stream}));
        assert_eq!(gateway.chat(asked.to_string()).any_error().message, "CUDA out of memory");
    }
}

#[test]
fn a_prediction_streams_from_its_own_address() {
    let address = Arc::new(std::sync::OnceLock::<String>::new());
    let known = address.clone();
    let up = Upstream::script(move |seen: &Seen| match seen.method.as_str() {
        "POST" => {
            let url = format!("{}/streams/one", known.get().unwrap());
            Reply::json(201, &prediction("starting", &json!({"urls": {"stream": url}})).to_string())
        }
        _ => {
            let event = |name: &str, data: &str| format!("event: {name}\nid: 1:0\ndata: {data}\n\n");
            let pieces =
                [event("output", "Hello ü"), event("output", "ber"), event("output", " there"), event("done", "{}")];
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            streamed("text/event-stream", &pieces)
        }
    })
    .strict(replicate::check);
    address.set(up.origin().to_owned()).unwrap();
    let gateway = serve(&up, "replicate/meta/meta-llama-3-8b-instruct", up.origin(), "");
    let told = chunks(&gateway, &hello());
    assert_eq!(text_of(&told), "Hello über there");
    assert!(up.requests()[0].json()["stream"] == true && up.requests().len() == 2, "nothing is canceled");
    let call = gateway.only_call();
    assert_eq!((&call["outcome"], &call["estimated"]), (&json!("success"), &json!(true)), "{call}");
}

#[test]
fn a_stream_elsewhere_is_not_asked() {
    let evil = Upstream::new(Reply::json(200, "{}"));
    let url = json!({"urls": {"stream": format!("{}/streams/one", evil.origin())}});
    let (_, gateway) = over(prediction("starting", &url), done());
    assert_eq!(text_of(&chunks(&gateway, &hello())), "Hello über there");
    assert!(evil.requests().is_empty());
}

#[test]
fn a_prediction_that_nobody_waits_for_is_canceled() {
    let up = Upstream::script(|seen: &Seen| match seen.method.as_str() {
        "POST" => Reply::json(201, &prediction("starting", &json!({})).to_string()),
        _ => Reply(vec![Step::Hold]),
    })
    .strict(replicate::check);
    let gateway = serve(&up, "replicate/meta/meta-llama-3-8b-instruct", up.origin(), "");
    let client = gateway.open_chat(hello().to_string());
    up.wait_requests(2);
    drop(client);
    let last = up.wait_requests(3).pop().unwrap();
    assert_eq!((last.method.as_str(), last.target), ("POST", format!("/v1/predictions/{ID}/cancel")));
    // So it is where the time is over.
    gateway.chat(with(hello(), &json!({"timeout": 0.5, "num_retries": 0})).to_string()).error(504);
    assert!(up.wait_requests(6).pop().unwrap().target.ends_with("/cancel"));
}

#[test]
fn replicates_pictures_and_refusals_are_told() {
    let painted = prediction(
        "succeeded",
        &json!({"output": ["https://replicate.delivery/a.png", "https://replicate.delivery/b.png"]}),
    );
    let (up, gateway) = over(prediction("starting", &json!({})), painted);
    let ask = |more: &Value| with(json!({"model": "m", "prompt": "a cat"}), more).to_string();
    let told = gateway
        .post("/v1/images/generations", ask(&json!({"n": 2, "size": "512x768", "aspect_ratio": "1:1"})))
        .ok()
        .json();
    assert_eq!(told["data"][1], json!({"url": "https://replicate.delivery/b.png"}));
    let input = json!({"prompt": "a cat", "num_outputs": 2, "width": 512, "height": 768, "aspect_ratio": "1:1"});
    assert_eq!(up.requests()[0].json()["input"], input);
    let error = gateway.post("/v1/images/generations", ask(&json!({"response_format": "b64_json"}))).error(400);
    assert_eq!(error.param.as_deref(), Some("response_format"));
    let tools = with(hello(), &json!({"tools": super::weather()}));
    assert_eq!(gateway.chat(tools.to_string()).error(400).param.as_deref(), Some("tools"));
    gateway.post("/v1/embeddings", json!({"model": "m", "input": "a"}).to_string()).error(501);
    let up = Upstream::new(replicate::error(402, "Insufficient credit", "Go and pay.")).strict(replicate::check);
    let answer = serve(&up, "replicate/a/b", up.origin(), "").chat(hello().to_string());
    assert_eq!(
        (answer.error(402).message.as_str(), answer.header("x-should-retry").as_deref()),
        ("Go and pay.", Some("false"))
    );
    // An id that is none never stands in a path.
    let (up, gateway) = over(with(prediction("starting", &json!({})), &json!({"id": "../../account"})), done());
    gateway.chat(with(hello(), &json!({"num_retries": 0})).to_string()).error(502);
    assert_eq!(up.requests().len(), 1);
}
