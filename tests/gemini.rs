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

#[test]
fn texts_are_embedded_by_any_upstream() {
    let vectors = r#"{"object":"list","data":[{"index":0,"embedding":[1.0,-5e-1]},{"index":1,"embedding":[0.25,0.0]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let up = Upstream::new(Reply::json(200, vectors)).rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[model("embed", &up)]));
    let text = |text: &str| json!({"model": "models/embed", "content": {"parts": [{"text": text}]}, "taskType": "CLUSTERING", "outputDimensionality": 2});
    let both = json!({"requests": [text("a"), text("b")]}).to_string();
    let told = gateway.post("/v1beta/models/embed:batchEmbedContents", &both).ok();
    assert_eq!(
        told.text(),
        r#"{"embeddings":[{"values":[1.0,-5e-1]},{"values":[0.25,0.0]}],"usageMetadata":{"promptTokenCount":2}}"#
    );
    let sent = up.only_request();
    assert_eq!(sent.json(), json!({"model": "embed-up", "input": ["a", "b"], "dimensions": 2}));
    assert_eq!(sent.target, "/v1/embeddings");
    let one = gateway.post("/v1beta/models/embed:embedContent", text("a").to_string()).ok().json();
    assert_eq!(one["embedding"]["values"], json!([1.0, -0.5]));
    let error = gateway.post("/v1beta/models/embed:embedContent", "{}");
    assert_eq!((error.status, &error.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    let row = &crate::ledger::rows(&gateway, 2)[0];
    assert_eq!((&row["call_type"], &row["prompt_tokens"]), (&json!("aembedding"), &json!(2)));
}

#[test]
fn models_are_listed_by_pages_in_googles_form() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up), model("other", &up)]));
    let first = gateway.get("/v1beta/models?pageSize=1").ok().json();
    let name = first["models"][0]["name"].as_str().unwrap();
    assert_eq!(first["models"][0]["supportedGenerationMethods"][0], "generateContent");
    let token = first["nextPageToken"].as_str().unwrap();
    let second = gateway.get(&format!("/v1beta/models?pageSize=1&pageToken={token}")).ok().json();
    assert!(second["models"][0]["name"] != name && second["nextPageToken"].is_null(), "{second}");
    assert_eq!(gateway.get("/v1beta/models/small").ok().json()["name"], "models/small");
    let unknown = gateway.get("/v1beta/models/smal");
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert_eq!(gateway.get("/v1beta/models?pageSize=x").status, 400);
}
