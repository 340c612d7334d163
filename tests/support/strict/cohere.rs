//! Cohere's `/v2/chat`. Source: its API reference, and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, items, members, no_strange_headers, text};
use serde_json::{Value, json};

pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("authorization").as_deref() != Some(&format!("Bearer {UPSTREAM_KEY}")) {
        return Err(error(401, "invalid api token"));
    }
    if (seen.method.as_str(), seen.target.as_str()) != ("POST", "/v2/chat") {
        return Err(error(404, "page not found"));
    }
    no_strange_headers(seen, &["authorization"]).and_then(|()| chat(seen)).map_err(|wrong| error(400, &wrong))
}

pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"id": "e1", "message": message}).to_string())
}

fn chat(seen: &Seen) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    let known = [
        "model",
        "messages",
        "stream",
        "max_tokens",
        "temperature",
        "p",
        "k",
        "stop_sequences",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logprobs",
        "tools",
        "strict_tools",
        "tool_choice",
        "response_format",
        "thinking",
        "documents",
        "citation_options",
        "safety_mode",
        "priority",
    ];
    members(&body, "body", &known)?;
    text(&body, "model", "body")?;
    let within = |name: &str, least: f64, most: f64| match body[name].as_f64() {
        Some(number) if !(least..=most).contains(&number) => Err(format!("invalid value for {name}: {number}")),
        _ => Ok(()),
    };
    within("p", 0.01, 0.99)?;
    within("frequency_penalty", 0.0, 1.0)?;
    within("presence_penalty", 0.0, 1.0)?;
    if body["stop_sequences"].as_array().is_some_and(|stops| stops.len() > 5) {
        return Err("too many stop sequences".to_owned());
    }
    let choice = &body["tool_choice"];
    if !(choice.is_null() || (["REQUIRED", "NONE"].iter().any(|known| choice == known) && !body["tools"].is_null())) {
        return Err(format!("invalid tool_choice {choice}"));
    }
    let is_plain = body["tools"].is_null() && body["documents"].is_null();
    if !(is_plain || body["response_format"].is_null()) {
        return Err("response_format is not supported with tools or documents".to_owned());
    }
    if !body["tools"].is_null() {
        for tool in items(&body["tools"], "tools")? {
            let function = members(&tool["function"], "tools.function", &["name", "description", "parameters"])?;
            if function["parameters"]["type"] != "object" {
                return Err("parameters must be an object".to_owned());
            }
        }
    }
    messages(&body["messages"])
}

fn messages(list: &Value) -> Result<(), Wrong> {
    let mut open: Vec<&str> = Vec::new();
    let mut last = "";
    for message in items(list, "messages")? {
        last = text(message, "role", "messages")?;
        if last != "tool" && !open.is_empty() {
            return Err(format!("missing tool results: {open:?}"));
        }
        match last {
            "system" => text(message, "content", "system").map(drop)?,
            "user" => match &message["content"] {
                Value::String(said) if !said.is_empty() => (),
                parts => {
                    for part in items(parts, "user.content")? {
                        match part["type"].as_str() {
                            Some("text") => text(part, "text", "part").map(drop)?,
                            Some("image_url") => text(&part["image_url"], "url", "image_url").map(drop)?,
                            _ => return Err(format!("part: {part}")),
                        }
                    }
                }
            },
            "assistant" => {
                let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                if calls.is_empty() || message.get("content").is_some() {
                    text(message, "content", "assistant")?;
                }
                for call in calls {
                    let arguments = text(&call["function"], "arguments", "function")?;
                    serde_json::from_str::<Value>(arguments).map_err(|e| e.to_string())?;
                    open.push(text(call, "id", "tool_calls")?);
                }
            }
            "tool" => {
                let id = text(message, "tool_call_id", "tool")?;
                let at = open.iter().position(|known| *known == id).ok_or("unknown tool call id")?;
                open.remove(at);
            }
            other => return Err(format!("invalid role {other}")),
        }
    }
    if ["user", "tool"].contains(&last) { Ok(()) } else { Err("the last message must be the user's".to_owned()) }
}
