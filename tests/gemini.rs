//! Callers that speak Google's format.

use crate::support::reply::{delta, text};
use crate::support::{Gateway, MASTER_KEY, Reply, Upstream, config, model};
use serde_json::{Value, json};

fn hello() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}], "generationConfig": {"maxOutputTokens": 50}})
}

fn serve(reply: Reply) -> (Upstream, Gateway) {
    let up = Upstream::new(reply);
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    (up, gateway)
}

#[test]
fn content_is_generated_by_any_upstream() {
    let (up, gateway) = serve(Reply::whole());
    // Google's clients show the key so.
    let headers = [("x-goog-api-key", MASTER_KEY), ("Content-Type", "application/json")];
    let told =
        gateway.call("POST", "/v1beta/models/small:generateContent", &headers, hello().to_string().as_bytes()).ok();
    let told = told.json();
    assert_eq!(told["candidates"][0]["content"], json!({"role": "model", "parts": [{"text": "Hello über there"}]}));
    assert_eq!(
        (&told["candidates"][0]["finishReason"], &told["usageMetadata"]["totalTokenCount"]),
        (&json!("STOP"), &json!(17))
    );
    let sent = up.only_request().json();
    assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!("small-up"), &json!(50)));
    let call = gateway.only_call();
    assert_eq!(
        (&call["model"], &call["prompt_tokens"], &call["completion_tokens"]),
        (&json!("small"), &json!(12), &json!(5))
    );
}

#[test]
fn a_stream_comes_in_googles_events() {
    let call = delta(
        json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}),
        None,
    );
    let (_, gateway) = serve(Reply::stream().send(&text("Hel")).send(&text("lo")).send(&call).end());
    let told = gateway.post("/v1beta/models/small:streamGenerateContent?alt=sse", hello().to_string()).ok();
    assert!(told.header("content-type").unwrap().starts_with("text/event-stream"));
    let events: Vec<Value> =
        told.text().split("\n\n").filter_map(|e| serde_json::from_str(e.strip_prefix("data: ")?).ok()).collect();
    let parts: Vec<&Value> = events.iter().map(|event| &event["candidates"][0]["content"]["parts"][0]).collect();
    assert_eq!(
        parts,
        [
            &json!({"text": "Hel"}),
            &json!({"text": "lo"}),
            &json!({"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}})
        ]
    );
    assert_eq!(events[2]["usageMetadata"]["candidatesTokenCount"], 5);
    assert_eq!(gateway.only_call()["outcome"], "success");
}

#[test]
fn what_goes_wrong_is_told_in_googles_form() {
    let (up, gateway) = serve(Reply::error(429, "rate_limit_error", None, "slow down"));
    let told = gateway.post("/v1beta/models/small:generateContent", hello().to_string());
    assert_eq!((told.status, &told.json()["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    for (path, body, status, word) in [
        ("/v1beta/models/small:generateContent", "{}".to_owned(), 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/nobody:generateContent", hello().to_string(), 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/small:streamGenerateContent", hello().to_string(), 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/small:embed", hello().to_string(), 404, "NOT_FOUND"),
    ] {
        let told = gateway.post(path, body);
        assert_eq!((told.status, &told.json()["error"]["status"]), (status, &json!(word)), "{path}: {}", told.text());
    }
    let told = gateway.call("POST", "/v1beta/models/small:generateContent", &[("x-goog-api-key", "sk-x")], b"{}");
    assert_eq!((told.status, &told.json()["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
    assert!(up.requests().len() <= 3);
}

#[test]
fn a_stream_that_breaks_off_says_so() {
    let (_, gateway) = serve(Reply::stream().send(&text("Hel")).end_body());
    let told = gateway.post("/v1beta/models/small:streamGenerateContent?alt=sse", hello().to_string()).ok().text();
    let last = told.trim_end().rsplit("\n\n").next().unwrap().strip_prefix("data: ").unwrap().to_owned();
    assert!(serde_json::from_str::<Value>(&last).unwrap()["error"]["code"].is_number(), "{told}");
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn the_version_in_the_path_makes_no_difference() {
    let (up, gateway) = serve(Reply::whole());
    for base in ["/v1", "/v1beta", ""] {
        gateway.post(&format!("{base}/models/small:generateContent"), hello().to_string()).ok();
    }
    assert_eq!(up.requests().len(), 3);
    assert_eq!(gateway.get("/v1/models/small").ok().json()["id"], "small");
    let told = gateway.post("/v1/models/small", hello().to_string());
    assert_eq!((told.status, &told.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
}

#[test]
fn tokens_are_counted() {
    let (up, gateway) = serve(Reply::whole());
    let told = gateway.post("/v1beta/models/small:countTokens", hello().to_string()).ok().json();
    assert!(told["totalTokens"].as_u64().unwrap() > 0);
    assert_eq!(up.requests().len(), 0);
}
