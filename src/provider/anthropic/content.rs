//! Parts of messages: from OpenAI's to Anthropic's content blocks. Blocks that are Anthropic's own pass as they are.

use super::betas::Betas;
use super::images;
use crate::error::Error;
use serde_json::{Map, Value, json};

/// Who speaks: decides which parts make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    /// The result of a call.
    Tool,
}

/// The blocks of a message's `content`: a text, parts, or nothing. Anthropic refuses blank texts, so these are left
/// out; a cache mark on one moves to the block before it.
///
/// # Errors
/// A 400 that names the part which has no twin.
pub(super) fn blocks(content: Value, speaker: Speaker, place: &str, betas: &mut Betas) -> Result<Vec<Value>, Error> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text_block(text)]),
        Value::Array(parts) => {
            let mut blocks: Vec<Value> = Vec::with_capacity(parts.len());
            for (i, part) in parts.into_iter().enumerate() {
                let place = format!("{place}.content[{i}]");
                let mark = cache_mark(&part);
                match block(part, speaker, &place, betas)? {
                    Some(mut block) => {
                        set_mark(&mut block, mark);
                        blocks.push(block);
                    }
                    None => {
                        if let Some(before) = blocks.last_mut() {
                            set_mark(before, mark);
                        }
                    }
                }
            }
            Ok(blocks)
        }
        _ => Err(Error::invalid(format!("'{place}.content' must be a string, or an array of parts."))
            .at_param(format!("{place}.content"))),
    }
}

pub(super) fn text_block(text: impl Into<String>) -> Value {
    json!({"type": "text", "text": text.into()})
}

/// The `cache_control` of a part, message or tool; OpenAI's explicit breakpoints mean the same.
pub(super) fn cache_mark(of: &Value) -> Option<Value> {
    match (&of["cache_control"], &of["prompt_cache_breakpoint"]) {
        (mark @ Value::Object(_), _) => Some(mark.clone()),
        (_, Value::Object(point)) => Some(match point.get("ttl").and_then(Value::as_str) {
            Some("12h") => json!({"type": "ephemeral", "ttl": "1h"}),
            _ => json!({"type": "ephemeral"}),
        }),
        _ => None,
    }
}

/// Sets a cache mark unless there is one already, or the block cannot bear one.
pub(super) fn set_mark(block: &mut Value, mark: Option<Value>) {
    let bears = !matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"));
    if let (Some(mark), Value::Object(block), true) = (mark, block, bears) {
        block.entry("cache_control").or_insert(mark);
    }
}

/// A thinking block as Anthropic gave it; `None` for one without its signature, which is somebody else's.
pub(super) fn thinking_block(block: &Value) -> Option<Value> {
    let text = |name: &str| block[name].as_str();
    match block["type"].as_str()? {
        "thinking" => {
            let signature = text("signature").filter(|signature| !signature.is_empty())?;
            let thinking = text("thinking").unwrap_or_default();
            Some(json!({"type": "thinking", "thinking": thinking, "signature": signature}))
        }
        "redacted_thinking" => {
            let data = text("data").filter(|data| !data.is_empty())?;
            Some(json!({"type": "redacted_thinking", "data": data}))
        }
        _ => None,
    }
}

fn block(part: Value, speaker: Speaker, place: &str, betas: &mut Betas) -> Result<Option<Value>, Error> {
    let part = match part {
        Value::String(text) => return Ok(non_blank(text)),
        Value::Object(part) => part,
        _ => return Err(Error::invalid(format!("'{place}' must be an object with a 'type'.")).at_param(place)),
    };
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (kind.as_str(), speaker) {
        ("text" | "input_text" | "output_text", _) => text_part(part, place),
        ("refusal", Speaker::Assistant) => Ok(part.get("refusal").and_then(Value::as_str).and_then(non_blank)),
        ("thinking" | "redacted_thinking", Speaker::Assistant) => Ok(thinking_block(&Value::Object(part))),
        (_, Speaker::System) => Err(unknown(&kind, place, "a system message takes text only")),
        ("image_url" | "input_image", _) => match part.get("image_url") {
            Some(image) => images::image(image, place).map(Some),
            None => images::file(&part, place, betas).map(Some),
        },
        ("file", _) => match part.get("file") {
            Some(Value::Object(file)) => images::file(file, place, betas).map(Some),
            _ => images::file(&part, place, betas).map(Some),
        },
        ("input_file", _) => images::file(&part, place, betas).map(Some),
        (kind, _) if is_native(kind) => Ok(Some(native(part, betas))),
        _ => Err(unknown(&kind, place, "text, images and files can be sent")),
    }
}

/// Texts may carry `citations`, which Anthropic gave with them.
fn text_part(mut part: Map<String, Value>, place: &str) -> Result<Option<Value>, Error> {
    let Some(Value::String(text)) = part.remove("text") else {
        return Err(Error::invalid(format!("'{place}.text' must be a string.")).at_param(format!("{place}.text")));
    };
    let mut block = non_blank(text);
    if let (Some(block), Some(Value::Array(citations))) = (&mut block, part.remove("citations")) {
        block["citations"] = citations.into();
    }
    Ok(block)
}

fn non_blank(text: impl Into<String>) -> Option<Value> {
    let text = text.into();
    (!text.trim().is_empty()).then(|| text_block(text))
}

/// Kinds of blocks that only Anthropic has.
fn is_native(kind: &str) -> bool {
    matches!(
        kind,
        "image"
            | "document"
            | "search_result"
            | "server_tool_use"
            | "mcp_tool_use"
            | "tool_use"
            | "tool_result"
            | "tool_reference"
            | "container_upload"
            | "compaction"
    ) || kind.ends_with("_tool_result")
}

fn native(mut part: Map<String, Value>, betas: &mut Betas) -> Value {
    part.shift_remove("prompt_cache_breakpoint");
    let part = Value::Object(part);
    if part["source"]["type"] == "file" || part["type"] == "container_upload" {
        betas.add(super::betas::FILES);
    }
    part
}

fn unknown(kind: &str, place: &str, instead: &str) -> Error {
    let kind: String = kind.chars().take(60).collect();
    Error::invalid(format!("'{place}' of the type '{kind}' cannot be sent to Anthropic: {instead}."))
        .at_param(format!("{place}.type"))
}
