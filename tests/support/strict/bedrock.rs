//! Bedrock's Converse. Source: its service model, and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, is_base64, items, members, no_strange_headers, only, text};
use serde_json::{Value, json};

/// By bearer key.
pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("authorization").as_deref() != Some(&format!("Bearer {UPSTREAM_KEY}")) {
        return Err(error(
            403,
            "AccessDeniedException",
            "Authentication failed: Please make sure your API Key is valid.",
        ));
    }
    let path = seen.target.strip_prefix("/model/").and_then(|rest| rest.split_once('/'));
    match path {
        Some((model, "converse" | "converse-stream")) if !model.contains(':') => (),
        _ => return Err(error(404, "UnknownOperationException", "")),
    }
    no_strange_headers(seen, &["authorization"])
        .and_then(|()| converse(seen))
        .map_err(|wrong| error(400, "ValidationException", &wrong))
}

pub fn error(status: u16, name: &str, message: &str) -> Reply {
    let headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", name)];
    Reply::answer(status, &headers, json!({"message": message}).to_string().as_bytes())
}

/// A message of the event stream.
pub fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    let (name, value) = kind.split_once('!').map_or((":event-type", kind), |(_, value)| (":exception-type", value));
    let message = if name == ":event-type" { "event" } else { "exception" };
    for (name, value) in [(name, value), (":content-type", "application/json"), (":message-type", message)] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((headers.len() + payload.len() + 16) as u32).to_be_bytes());
    bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&crc(&bytes).to_be_bytes());
    bytes.extend_from_slice(&headers);
    bytes.extend_from_slice(payload.as_bytes());
    bytes.extend_from_slice(&crc(&bytes).to_be_bytes());
    bytes
}

/// On purpose not the program's own: zlib's checksum, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

fn converse(seen: &Seen) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    let known = [
        "messages",
        "system",
        "inferenceConfig",
        "toolConfig",
        "additionalModelRequestFields",
        "outputConfig",
        "guardrailConfig",
        "performanceConfig",
        "serviceTier",
        "requestMetadata",
    ];
    members(&body, "body", &known)?;
    if !body["inferenceConfig"].is_null() {
        members(&body["inferenceConfig"], "inferenceConfig", &["maxTokens", "temperature", "topP", "stopSequences"])?;
    }
    for block in body["system"].as_array().into_iter().flatten() {
        only(block, "system", &["text", "cachePoint", "guardContent"])?;
    }
    let has_tools = tools(&body["toolConfig"])?;
    let (mut last, mut open): (&str, Vec<&str>) = ("assistant", Vec::new());
    for message in items(&body["messages"], "messages")? {
        let role = text(message, "role", "messages")?;
        if role == last {
            return Err("A conversation must alternate between user and assistant roles.".to_owned());
        }
        last = role;
        for block in items(&message["content"], "content")? {
            let (kind, value) = only(
                block,
                "content",
                &["text", "image", "document", "toolUse", "toolResult", "reasoningContent", "cachePoint"],
            )?;
            match kind {
                "text" if value.as_str().is_none_or(|said| said.trim().is_empty()) => {
                    return Err("The text field in the ContentBlock object is blank.".to_owned());
                }
                "image" => {
                    let format = text(value, "format", "image")?;
                    let bytes = text(&value["source"], "bytes", "image.source")?;
                    if !["png", "jpeg", "gif", "webp"].contains(&format) || !is_base64(bytes) {
                        return Err("The image is not as it should be.".to_owned());
                    }
                }
                "toolUse" if has_tools => {
                    let id = text(value, "toolUseId", "toolUse")?;
                    if !value["input"].is_object() {
                        return Err("toolUse.input must be an object".to_owned());
                    }
                    open.push(id);
                }
                "toolResult" if has_tools => {
                    let id = text(value, "toolUseId", "toolResult")?;
                    let at = open.iter().position(|known| *known == id);
                    open.remove(at.ok_or("toolResult without a toolUse")?);
                    items(&value["content"], "toolResult.content")?;
                }
                "toolUse" | "toolResult" => {
                    return Err("The toolConfig field must be defined when using toolUse content blocks.".to_owned());
                }
                _ => (),
            }
        }
        if role == "user" && !open.is_empty() {
            return Err(format!("Expected toolResult blocks for the following Ids: {open:?}"));
        }
    }
    if last == "user" { Ok(()) } else { Err("the last turn must be the user's".to_owned()) }
}

fn tools(config: &Value) -> Result<bool, Wrong> {
    if config.is_null() {
        return Ok(false);
    }
    members(config, "toolConfig", &["tools", "toolChoice"])?;
    for tool in items(&config["tools"], "toolConfig.tools")? {
        let (_, spec) = only(tool, "tools", &["toolSpec", "cachePoint"])?;
        let name = text(spec, "name", "toolSpec")?;
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.len() > 64 || !name.bytes().all(fine) || spec["inputSchema"]["json"]["type"] != "object" {
            return Err(format!("toolSpec {name}"));
        }
    }
    if !config["toolChoice"].is_null() {
        only(&config["toolChoice"], "toolChoice", &["auto", "any", "tool"])?;
    }
    Ok(true)
}
