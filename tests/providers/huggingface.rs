//! Hugging Face.

use super::{serve, with};
use crate::support::strict::huggingface;
use crate::support::{Reply, Upstream};
use serde_json::{Value, json};

fn chat() -> Reply {
    let told = json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]});
    Reply::json(200, &told.to_string())
}

#[test]
fn a_host_of_the_router_stands_behind_the_model() {
    let up = Upstream::new(chat()).strict(huggingface::check);
    for (model, expected) in [
        ("huggingface/together/deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1:together"),
        ("huggingface/openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("huggingface/openai/gpt-oss-120b:cerebras", "openai/gpt-oss-120b:cerebras"),
    ] {
        let gateway = serve(&up, model, up.base(), "");
        gateway.chat(super::hello().to_string()).ok();
        assert_eq!(up.requests().last().unwrap().json()["model"], expected);
    }
}

#[test]
fn hugging_face_makes_vectors_of_texts_and_of_tokens() {
    for (reply, expected) in
        [("[[0.5,-1.0],[1,2]]", json!([0.5, -1.0])), ("[[[1,3],[3,5]],[[1,2]]]", json!([2.0, 4.0]))]
    {
        let up = Upstream::new(Reply::json(200, reply)).strict(huggingface::check);
        let base = format!("{}/hf-inference", up.origin());
        let gateway = serve(&up, "huggingface/BAAI/bge-m3", &base, "");
        let ask = |more: &Value| with(json!({"model": "m", "input": ["a", "b"]}), more).to_string();
        let told = gateway.post("/v1/embeddings", ask(&json!({"normalize": true}))).ok().json();
        assert_eq!((&told["data"][0]["embedding"], told["data"].as_array().unwrap().len()), (&expected, 2));
        assert!(told["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
        assert_eq!(up.only_request().json(), json!({"normalize": true, "inputs": ["a", "b"]}));
        let error = gateway.post("/v1/embeddings", ask(&json!({"dimensions": 8}))).error(400);
        assert_eq!(error.param.as_deref(), Some("dimensions"));
    }
    let up = Upstream::new(huggingface::error(503, "Model is loading")).strict(huggingface::check);
    let base = format!("{}/hf-inference", up.origin());
    let gateway = serve(&up, "huggingface/BAAI/bge-m3", &base, "");
    let told = gateway.post("/v1/embeddings", json!({"model": "m", "input": "a", "num_retries": 0}).to_string());
    assert_eq!(told.error(503).message, "Model is loading");
}
