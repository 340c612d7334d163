//! Ollama's `/api/chat`. Source: its types (`api/types.go`), and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, is_base64, items, members, no_strange_headers, text};
use serde_json::{Value, json};

pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("authorization").is_some_and(|key| key != format!("Bearer {UPSTREAM_KEY}")) {
        return Err(error(401, "unauthorized"));
    }
    if (seen.method.as_str(), seen.target.as_str()) != ("POST", "/api/chat") {
        return Err(Reply::answer(404, &[("Content-Type", "text/plain")], b"404 page not found"));
    }
    no_strange_headers(seen, &["authorization"]).and_then(|()| chat(seen)).map_err(|wrong| error(400, &wrong))
}

pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"error": message}).to_string())
}

fn chat(seen: &Seen) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    let known = [
        "model",
        "messages",
        "stream",
        "tools",
        "format",
        "think",
        "options",
        "keep_alive",
        "truncate",
        "shift",
        "logprobs",
        "top_logprobs",
    ];
    members(&body, "body", &known)?;
    let model = text(&body, "model", "body")?;
    if !body["stream"].is_boolean() {
        return Err("it streams unless it is told not to".to_owned());
    }
    if !body["options"].is_null() {
        let known = [
            "num_ctx",
            "num_predict",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repeat_penalty",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "stop",
        ];
        members(&body["options"], "options", &known)?;
    }
    match &body["think"] {
        Value::Null | Value::Bool(false) => (),
        Value::Bool(true) | Value::String(_) if model.starts_with("llama") => {
            return Err(format!("\"{model}\" does not support thinking"));
        }
        Value::Bool(_) => (),
        Value::String(level) if ["low", "medium", "high", "max"].contains(&level.as_str()) => (),
        other => return Err(format!("invalid think value: {other}")),
    }
    if !body["tools"].is_null() {
        for tool in items(&body["tools"], "tools")? {
            text(&tool["function"], "name", "tools.function")?;
            members(&tool["function"], "tools.function", &["name", "description", "parameters"])?;
        }
    }
    for message in items(&body["messages"], "messages")? {
        let known = ["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"];
        members(message, "message", &known)?;
        if !message["content"].is_string() {
            return Err("json: cannot unmarshal into Go struct field .messages.content of type string".to_owned());
        }
        if !["system", "user", "assistant", "tool"].contains(&text(message, "role", "message")?) {
            return Err("invalid role".to_owned());
        }
        for image in message["images"].as_array().into_iter().flatten() {
            if !image.as_str().is_some_and(is_base64) {
                return Err("illegal base64 data at input byte 4".to_owned());
            }
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            if !call["function"]["arguments"].is_object() {
                return Err("arguments must be an object".to_owned());
            }
        }
    }
    Ok(())
}
