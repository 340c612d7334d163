//! Endpoints that are asked in one JSON object and answer in one.

use crate::support::{Gateway, Reply, Upstream, config, model};
use serde_json::{Value, json};

fn over(answer: &Value) -> (Upstream, Gateway) {
    let up = Upstream::new(Reply::json(200, &answer.to_string())).rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    (up, gateway)
}

#[test]
fn embeddings_come_as_they_were_asked_for() {
    let answer = json!({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [1.0, -0.5]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7}});
    let (up, gateway) = over(&answer);
    let ask = json!({"model": "small", "input": ["a", "b"], "dimensions": 2, "timeout": 9});
    assert_eq!(gateway.post("/v1/embeddings", ask.to_string()).ok().json(), answer);
    let sent = up.only_request();
    assert!(sent.target.ends_with("/embeddings"), "{}", sent.target);
    assert_eq!(sent.json(), json!({"model": "small-up", "input": ["a", "b"], "dimensions": 2}));
    assert_eq!(gateway.only_call()["prompt_tokens"], 7);
    // The server knows numbers alone, the client reads base64.
    let ask = json!({"model": "small", "input": "a", "encoding_format": "base64"});
    let told = gateway.post("/embeddings", ask.to_string()).ok().json();
    assert_eq!(told["data"][0]["embedding"], "AACAPwAAAL8=");
    let (_, gateway) = over(&answer);
    gateway.post("/openai/deployments/small/embeddings", json!({"input": "a"}).to_string()).ok();
}

#[test]
fn reranking_moderations_and_images_go_through() {
    let cases = [
        (
            "/v2/rerank",
            "/rerank",
            json!({"query": "q", "documents": ["a", "b"], "top_n": 1}),
            json!({"results": [{"index": 1, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 4}}}),
        ),
        (
            "/v1/moderations",
            "/moderations",
            json!({"input": "x"}),
            json!({"id": "modr-1", "model": "m", "results": [{"flagged": false}]}),
        ),
        (
            "/v1/images/generations",
            "/images/generations",
            json!({"prompt": "a cat", "n": 1}),
            json!({"created": 1, "data": [{"b64_json": "AA=="}], "usage": {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}}),
        ),
    ];
    for (path, target, mut ask, answer) in cases {
        let (up, gateway) = over(&answer);
        ask["model"] = "small".into();
        assert_eq!(gateway.post(path, ask.to_string()).ok().json(), answer);
        assert!(up.only_request().target.ends_with(target));
        assert_eq!(gateway.only_call()["outcome"], "success");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let (up, gateway) = over(&json!({}));
    for (path, body, param) in [
        ("/v1/embeddings", json!({"model": "small"}), "input"),
        ("/v1/embeddings", json!({"model": "small", "input": []}), "input"),
        ("/v1/embeddings", json!({"model": "small", "input": 7}), "input"),
        ("/v1/embeddings", json!({"input": "a"}), "model"),
        ("/v1/embeddings", json!({"model": "small", "input": "a", "encoding_format": "hex"}), "encoding_format"),
        ("/v1/rerank", json!({"model": "small", "query": "q"}), "documents"),
        ("/v1/rerank", json!({"model": "small", "query": "q", "documents": "a"}), "documents"),
        ("/v1/images/generations", json!({"model": "small"}), "prompt"),
        ("/v1/embeddings", json!({"model": "small", "input": "a", "stream": true}), "stream"),
        ("/v1/moderations", json!({"model": "small", "input": "a", "api_key": "k"}), "api_key"),
    ] {
        assert_eq!(gateway.post(path, body.to_string()).error(400).param.as_deref(), Some(param), "{path} {body}");
    }
    assert_eq!(up.requests().len(), 0);
}

#[test]
fn an_error_of_the_upstream_is_the_callers() {
    let up = Upstream::new(Reply::error(400, "invalid_request_error", None, "too many inputs"))
        .rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let ask = json!({"model": "small", "input": "a"});
    assert!(gateway.post("/v1/embeddings", ask.to_string()).error(400).message.contains("too many inputs"));
    let (_, gateway) = over(&json!([1]));
    gateway.post("/v1/embeddings", ask.to_string()).error(502);
}
