//! Hugging Face's router: conversations in OpenAI's format, and the pipelines of `hf-inference`.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, items, members, no_strange_headers};
use serde_json::{Value, json};

pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("authorization").as_deref() != Some(&format!("Bearer {UPSTREAM_KEY}")) {
        return Err(error(401, "Invalid username or password."));
    }
    let call = match seen.target.as_str() {
        "/v1/chat/completions" => chat(seen),
        "/hf-inference/models/BAAI/bge-m3/pipeline/feature-extraction" => features(seen),
        _ => return Err(error(404, "Not Found")),
    };
    no_strange_headers(seen, &["authorization"]).and(call).map_err(|wrong| error(400, &wrong))
}

pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"error": message}).to_string())
}

fn chat(seen: &Seen) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    let model = body["model"].as_str().unwrap_or_default();
    let (name, host) = model.split_once(':').unwrap_or((model, ""));
    if name.split('/').count() != 2 || host.contains('/') {
        return Err(format!("The requested model '{model}' does not exist"));
    }
    items(&body["messages"], "messages").map(drop)
}

fn features(seen: &Seen) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    members(&body, "body", &["inputs", "normalize", "truncate", "prompt_name", "truncation_direction"])?;
    items(&body["inputs"], "inputs").map(drop)
}
