//! The turns of a conversation: whose they are, what they hold, and what must follow what.

use super::{Model, Refusal, refuse, reply};
use serde_json::{Map, Value};

/// The blocks that each role may write.
const OF_USER: &[&str] = &["text", "image", "document", "tool_result", "search_result"];
const OF_ASSISTANT: &[&str] = &["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use"];

/// Turns alternate, begin with the user's, and every use of a tool is answered at once. The API itself would merge
/// turns of one role; a gateway that leaves that to it would lose the order of results and texts, so here it is refused.
pub fn check(members: &Map<String, Value>, model: Model) -> Result<(), Refusal> {
    let turns = members.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if turns.is_empty() {
        return Err(refuse("messages: at least one message is required"));
    }
    let thinks = members.get("thinking").is_some_and(|thinking| thinking["type"] == "enabled");
    let mut open: Vec<&str> = Vec::new();
    let mut uses_tools = false;
    for (i, turn) in turns.iter().enumerate() {
        let role = turn["role"].as_str().unwrap_or_default();
        if let Some(extra) = turn.as_object().into_iter().flatten().find(|(n, _)| *n != "role" && *n != "content") {
            return Err(refuse(format!("messages.{i}.{}: Extra inputs are not permitted", extra.0)));
        }
        if role != ["user", "assistant"][i % 2] {
            return Err(refuse(format!("messages.{i}.role: roles must alternate, beginning with \"user\": {role:?}")));
        }
        let blocks = blocks(turn, i)?;
        let allowed = if role == "user" { OF_USER } else { OF_ASSISTANT };
        for (j, block) in blocks.iter().enumerate() {
            check_block(block, allowed).map_err(|what| refuse(format!("messages.{i}.content.{j}: {what}")))?;
        }
        if role == "user" {
            check_results(blocks, &mut open, i)?;
        } else {
            open = blocks.iter().filter(|b| b["type"] == "tool_use").filter_map(|b| b["id"].as_str()).collect();
            uses_tools |= !open.is_empty();
            // The loop that is under way: its thinking must be there, and come first.
            let is_last = i + 2 == turns.len();
            let first = blocks.first().and_then(|b| b["type"].as_str()).unwrap_or_default();
            if thinks && is_last && !open.is_empty() && !matches!(first, "thinking" | "redacted_thinking") {
                return Err(refuse(format!(
                    "messages.{i}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`."
                )));
            }
        }
    }
    if !open.is_empty() {
        return Err(refuse("`tool_use` ids were found without `tool_result` blocks immediately after"));
    }
    if uses_tools && members.get("tools").is_none() {
        return Err(refuse("Requests which include `tool_use` or `tool_result` blocks must define tools"));
    }
    let last = turns.last().unwrap_or(&Value::Null);
    if last["role"] == "assistant" {
        if !model.prefill || thinks {
            return Err(refuse("This model does not support assistant message prefill."));
        }
        let text = last["content"].as_str().or_else(|| last["content"].as_array()?.last()?["text"].as_str());
        if text.is_some_and(|text| text.ends_with(char::is_whitespace)) {
            return Err(refuse("messages: final assistant content cannot end with trailing whitespace"));
        }
    }
    Ok(())
}

fn blocks(turn: &Value, at: usize) -> Result<&[Value], Refusal> {
    match &turn["content"] {
        Value::String(text) if text.is_empty() => {
            Err(refuse(format!("messages.{at}: all messages must have non-empty content")))
        }
        Value::String(_) => Ok(&[]),
        Value::Array(blocks) if !blocks.is_empty() => Ok(blocks),
        _ => Err(refuse(format!("messages.{at}.content: Input should be a valid list"))),
    }
}

/// Results come first, one for each use of a tool in the turn before.
fn check_results(blocks: &[Value], open: &mut Vec<&str>, at: usize) -> Result<(), Refusal> {
    let mut others = false;
    for block in blocks {
        if block["type"] != "tool_result" {
            others = true;
            continue;
        }
        if others {
            return Err(refuse(format!("messages.{at}: `tool_result` blocks must come first")));
        }
        let id = block["tool_use_id"].as_str().unwrap_or_default();
        let place = open.iter().position(|known| *known == id).ok_or_else(|| {
            refuse(format!("messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}."))
        })?;
        open.remove(place);
    }
    match open.first() {
        Some(id) => Err(refuse(format!(
            "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {id}."
        ))),
        None => Ok(()),
    }
}

fn check_block(block: &Value, allowed: &[&str]) -> Result<(), String> {
    let kind = block["type"].as_str().unwrap_or_default();
    if !allowed.contains(&kind) {
        return Err(format!("Input tag '{kind}' found using 'type' does not match any of the expected tags"));
    }
    let text = |name: &str| block[name].as_str().unwrap_or_default();
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let known: &[&str] = match kind {
        "text" => &["text", "citations"],
        "image" => &["source"],
        "document" => &["source", "title", "context", "citations"],
        "tool_result" => &["tool_use_id", "content", "is_error"],
        "search_result" => &["source", "title", "content", "citations"],
        "thinking" => &["thinking", "signature"],
        "redacted_thinking" => &["data"],
        _ => &["id", "name", "input"],
    };
    let extra = block.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    if let Some(extra) = extra.into_iter().find(|n| !known.contains(n) && !matches!(*n, "type" | "cache_control")) {
        return Err(format!("{extra}: Extra inputs are not permitted"));
    }
    let fits = match kind {
        "text" if text("text").is_empty() => return Err("text content blocks must be non-empty".to_owned()),
        "thinking" if text("signature") != reply::signature(text("thinking")) => {
            return Err("Invalid `signature` in `thinking` block".to_owned());
        }
        "redacted_thinking" => text("data") == reply::REDACTED,
        "tool_use" => is_id(text("id")) && block["input"].is_object() && !text("name").is_empty(),
        "tool_result" => {
            is_id(text("tool_use_id"))
                && match &block["content"] {
                    Value::Array(inner) => {
                        inner
                            .iter()
                            .try_for_each(|b| check_block(b, &["text", "image", "document", "search_result"]))?;
                        true
                    }
                    other => other.is_null() || other.is_string(),
                }
        }
        "image" | "document" => is_source(&block["source"], kind),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("the {kind} block is not as it should be: {block}")) }
}

fn is_source(source: &Value, kind: &str) -> bool {
    let text = |name: &str| source[name].as_str().unwrap_or_default();
    let image = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    match source["type"].as_str() {
        Some("base64") if kind == "image" => image.contains(&text("media_type")) && !text("data").is_empty(),
        Some("base64") => text("media_type") == "application/pdf" && !text("data").is_empty(),
        Some("text") => kind == "document" && text("media_type") == "text/plain" && !text("data").is_empty(),
        Some("url") => text("url").starts_with("http"),
        Some("file") => !text("file_id").is_empty(),
        _ => false,
    }
}
