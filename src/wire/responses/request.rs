//! A Responses request as an OpenAI chat completions request.

use super::echo::Echo;
use super::{input, tools};
use crate::envelope::shorten;
use crate::error::Error;
use serde_json::{Map, Value, json};

/// Members that would change the answer and cannot be said in chat completions.
const REFUSED: [(&str, &str); 3] = [
    ("conversation", "conversations are kept by OpenAI alone; use 'previous_response_id', or send the items again"),
    ("prompt", "prompt templates are kept by OpenAI alone; send 'instructions' and 'input'"),
    ("moderation", "the upstream of this model does not moderate"),
];
/// Members of the same name and meaning in both formats.
const SAME: [&str; 9] = [
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
    "extra_body",
];

/// A request in chat's format.
#[derive(Debug)]
pub struct Asked {
    pub chat: Vec<u8>,
    pub echo: Echo,
    /// The items of the conversation so far, this request's included, as a JSON array.
    pub items: Vec<Value>,
    /// How many of them were there before this request.
    pub old: usize,
}

/// Translates a request of the Responses API into one of chat completions. `history` are the items of the response that
/// it goes on from.
///
/// Without a word and without effect, because the answer means the same without it: `include` of what is never there,
/// `truncation`, `context_management`, `metadata` (it stands in the answer), `max_tool_calls` (of hosted tools),
/// `stream_options`, the summary and the context of `reasoning`, and what hosted tools did in earlier turns.
///
/// # Errors
/// A 400 that names the member which is wrong or cannot be said in chat's format.
pub fn to_chat(body: &[u8], history: Vec<Value>) -> Result<Asked, Error> {
    let request: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => return Err(Error::invalid("The request body must be a JSON object.")),
    };
    for (name, why) in REFUSED {
        if request.contains_key(name) {
            return Err(wrong(name, why));
        }
    }
    if request.get("background") == Some(&Value::Bool(true)) {
        return Err(wrong("background", "the upstream of this model does not work in the background; leave it out"));
    }

    let mut chat = Map::new();
    chat.insert("model".to_owned(), request.get("model").cloned().unwrap_or_default());
    let tools = tools::read(&request)?;
    let new = input::items(request.get("input"))?;
    let old = history.len();
    let items: Vec<Value> = history.into_iter().chain(new).collect();
    let instructions = request.get("instructions").map(input::instructions).transpose()?.flatten();
    let messages = input::messages(&items, old, instructions)?;
    if messages.is_empty() {
        return Err(wrong("input", "at least one item is needed"));
    }
    chat.insert("messages".to_owned(), messages.into());
    for name in SAME {
        if let Some(value) = request.get(name) {
            chat.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(most) = request.get("max_output_tokens") {
        chat.insert("max_completion_tokens".to_owned(), most.clone());
    }
    logprobs(&request, &mut chat);
    if let Some(reasoning) = request.get("reasoning") {
        let reasoning = reasoning.as_object().ok_or_else(|| wrong("reasoning", "an object is expected here"))?;
        if let Some(effort) = reasoning.get("effort").filter(|effort| !effort.is_null()) {
            chat.insert("reasoning_effort".to_owned(), effort.clone());
        }
    }
    if let Some(text) = request.get("text") {
        format(text, &mut chat)?;
    }
    tools.write(&mut chat);
    if request.get("stream") == Some(&Value::Bool(true)) {
        chat.insert("stream".to_owned(), true.into());
        chat.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    let chat = serde_json::to_vec(&chat).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(Asked { chat, echo: Echo::of(&request, tools.custom), items, old })
}

/// A 400 about a member.
pub(super) fn wrong(at: &str, what: &str) -> Error {
    Error::invalid(format!("{at}: {what}.")).at_param(at)
}

/// `include: ["message.output_text.logprobs"]`, or a number of them, asks for the logprobs of chat.
fn logprobs(request: &Map<String, Value>, chat: &mut Map<String, Value>) {
    let included = request.get("include").and_then(Value::as_array);
    let asked = included.is_some_and(|list| list.iter().any(|name| name == "message.output_text.logprobs"));
    let top = request.get("top_logprobs").filter(|top| top.as_u64() != Some(0));
    if asked || top.is_some() {
        chat.insert("logprobs".to_owned(), true.into());
    }
    if let Some(top) = top {
        chat.insert("top_logprobs".to_owned(), top.clone());
    }
}

/// `text` is `response_format` and `verbosity`.
fn format(text: &Value, chat: &mut Map<String, Value>) -> Result<(), Error> {
    let text = text.as_object().ok_or_else(|| wrong("text", "an object is expected here"))?;
    if let Some(verbosity) = text.get("verbosity").filter(|v| !v.is_null()) {
        chat.insert("verbosity".to_owned(), verbosity.clone());
    }
    let Some(format) = text.get("format").filter(|f| !f.is_null()) else { return Ok(()) };
    let members = format.as_object().ok_or_else(|| wrong("text.format", "an object is expected here"))?;
    let written = match members.get("type").and_then(Value::as_str).unwrap_or_default() {
        "text" => return Ok(()),
        "json_object" => json!({"type": "json_object"}),
        "json_schema" => {
            if !members.get("schema").is_some_and(Value::is_object) {
                return Err(wrong("text.format.schema", "a schema is expected here"));
            }
            let inside = members.iter().filter(|(name, value)| *name != "type" && !value.is_null());
            let inside: Map<String, Value> = inside.map(|(name, value)| (name.clone(), value.clone())).collect();
            json!({"type": "json_schema", "json_schema": inside})
        }
        other => {
            let what =
                format!("the format '{}' is not known; 'text', 'json_object' and 'json_schema' are", shorten(other));
            return Err(wrong("text.format.type", &what));
        }
    };
    chat.insert("response_format".to_owned(), written);
    Ok(())
}
