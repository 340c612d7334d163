//! Endpoints that are asked in one JSON object and answer in one.

use crate::support::{Gateway, Reply, Upstream, config, deployment, model};
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

/// What Ollama, Gemini and Cohere are sent, and what they answer.
#[test]
fn embeddings_of_other_languages_come_as_openais() {
    let gemini = json!({"embeddings": [{"values": [1.0, -0.5]}]});
    let ollama = json!({"model": "m", "embeddings": [[1.0, -0.5]], "prompt_eval_count": 3});
    let cohere =
        json!({"id": "e", "embeddings": {"float": [[1.0, -0.5]]}, "meta": {"billed_units": {"input_tokens": 3}}});
    let voyage = json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1.0, -0.5]}], "usage": {"total_tokens": 3}});
    for (model, base, target, sent, answer) in [
        (
            "gemini/gemini-embedding-001",
            "/v1beta",
            "/v1beta/models/gemini-embedding-001:batchEmbedContents",
            json!({"requests": [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]}}]}),
            gemini,
        ),
        ("ollama/nomic-embed-text", "", "/api/embed", json!({"model": "nomic-embed-text", "input": ["a"]}), ollama),
        (
            "cohere/embed-v4.0",
            "/v2",
            "/v2/embed",
            json!({"model": "embed-v4.0", "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]}),
            cohere,
        ),
        (
            "bedrock/amazon.titan-embed-text-v2:0",
            "",
            "/model/amazon.titan-embed-text-v2%3A0/invoke",
            json!({"inputText": "a"}),
            json!({"embedding": [1.0, -0.5], "inputTextTokenCount": 3}),
        ),
        (
            "vertex_ai/gemini-embedding-001",
            "",
            "/v1beta1/publishers/google/models/gemini-embedding-001:predict",
            json!({"instances": [{"content": "a"}]}),
            json!({"predictions": [{"embeddings": {"values": [1.0, -0.5], "statistics": {"token_count": 3}}}]}),
        ),
        ("voyage/voyage-3", "/v1", "/v1/embeddings", json!({"model": "voyage-3", "input": "a"}), voyage),
    ] {
        let up = Upstream::new(Reply::json(200, &answer.to_string())).rules(|rules| rules.is_free = true);
        let gateway = Gateway::start(&config("", &[deployment("m", model, &format!("{}{base}", up.origin()))]));
        let ask = json!({"model": "m", "input": "a", "encoding_format": "base64", "user": "u"});
        let told = gateway.post("/v1/embeddings", ask.to_string()).ok().json();
        assert_eq!(
            (&told["object"], &told["data"][0]["index"], &told["data"][0]["embedding"]),
            (&json!("list"), &json!(0), &json!("AACAPwAAAL8=")),
            "{model}"
        );
        let seen = up.only_request();
        assert_eq!((seen.target.as_str(), seen.json()), (target, sent), "{model}");
        assert!(gateway.only_call()["prompt_tokens"].as_u64().unwrap() >= 1, "{model}");
        let floats = gateway.post("/v1/embeddings", json!({"model": "m", "input": ["a"]}).to_string()).ok().json();
        assert_eq!(floats["data"][0]["embedding"], json!([1.0, -0.5]));
    }
}

#[test]
fn rerankers_of_other_words_are_asked_and_charged() {
    let cohere = json!({"id": "r", "results": [{"index": 1, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 1}}});
    let voyage =
        json!({"object": "list", "data": [{"index": 1, "relevance_score": 0.9}], "usage": {"total_tokens": 40}});
    for (model, base, limit, answer, cost) in [
        ("cohere/rerank-v3.5", "/v2", "top_n", cohere, "0.002"),
        ("voyage/rerank-2", "/v1", "top_k", voyage, "0.000002"),
    ] {
        let up = Upstream::new(Reply::json(200, &answer.to_string())).rules(|rules| rules.is_free = true);
        let gateway = Gateway::start(&config("", &[deployment("m", model, &format!("{}{base}", up.origin()))]));
        let ask = json!({"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": true});
        let told = gateway.post("/rerank", ask.to_string()).ok();
        assert_eq!(told.json()["results"], json!([{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}]));
        assert_eq!(told.header("x-litellm-response-cost").as_deref(), Some(cost), "{model}");
        let seen = up.only_request();
        assert_eq!((seen.target.clone(), &seen.json()[limit]), (format!("{base}/rerank"), &json!(1)));
    }
}

#[test]
fn what_a_provider_has_no_words_for_is_refused() {
    let up = Upstream::new(Reply::json(200, "{}")).rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[deployment("m", "anthropic/claude-x", up.base())]));
    gateway.post("/v1/embeddings", json!({"model": "m", "input": "a"}).to_string()).error(501);
    gateway.post("/v1/rerank", json!({"model": "m", "query": "a", "documents": ["a"]}).to_string()).error(501);
    assert_eq!(up.requests().len(), 0);
}
