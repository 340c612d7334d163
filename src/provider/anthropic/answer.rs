//! A whole answer: from a Messages API message to a chat completion.

use super::errors::{self, Inner};
use super::usage::Usage;
use super::{Context, JSON_TOOL};
use crate::error::{Error, Kind};
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Cow<'a, str>>,
    stop_details: Option<Value>,
    container: Option<Value>,
    context_management: Option<Value>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Inner<'a>>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(default)]
    citations: Option<Vec<Value>>,
}

/// Makes the chat completion that means the same as Anthropic's message; `created` is its time in Unix seconds.
///
/// # Errors
/// The upstream's own error if the body is one, or [`Kind::Garbled`].
pub fn answer(body: &[u8], context: &Context, created: u64) -> Result<Vec<u8>, Error> {
    let message: Message<'_> = serde_json::from_slice(body).map_err(|fault| garbled(&fault.to_string()))?;
    if let Some(error) = message.error {
        let told = error.in_a_stream();
        let text = |name: &str| told["error"][name].as_str().unwrap_or_default().to_owned();
        let status = text("code").parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.filter(|status| status.as_u16() != 529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        return Err(Error::new(Kind::Upstream(status), text("message")).with_type(text("type")));
    }
    let Some(content) = message.content else { return Err(garbled("it has no 'content'")) };

    let mut said = Said::default();
    for block in content {
        said.block(block, context)?;
    }
    let finish_reason = finish_reason(message.stop_reason.as_deref(), said.calls.len(), context);
    for (name, value) in [
        ("stop_sequence", message.stop_sequence.map(|text| Value::from(text.as_ref()))),
        ("stop_details", message.stop_details),
        ("container", message.container),
        ("context_management", message.context_management),
    ] {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            said.fields.insert(name.to_owned(), value);
        }
    }
    let mut usage = Usage::default();
    if let Some(counts) = message.usage {
        usage.update(counts);
    }
    let mut completion = json!({
        "id": message.id.unwrap_or_default(),
        "object": "chat.completion",
        "created": created,
        "model": message.model.unwrap_or_default(),
        "choices": [{
            "index": 0,
            "message": said.message(context),
            "logprobs": null,
            "finish_reason": finish_reason,
        }],
        "usage": usage.openai(),
    });
    if let Some(service) = usage.service() {
        completion["service_tier"] = service.into();
    }
    Ok(completion.to_string().into_bytes())
}

/// OpenAI's word for why the answer ended, given how many calls of the caller's own tools it holds.
pub(super) fn finish_reason(stop_reason: Option<&str>, calls: usize, context: &Context) -> &'static str {
    match stop_reason {
        Some("max_tokens" | "model_context_window_exceeded" | "pause_turn" | "compaction") => "length",
        Some("refusal") => "content_filter",
        _ if calls == 0 => "stop",
        _ if context.legacy_functions => "function_call",
        _ => "tool_calls",
    }
}

/// What the blocks of an answer came to.
#[derive(Default)]
struct Said {
    text: String,
    /// Length of the text so far, in characters.
    chars: usize,
    has_text: bool,
    reasoning: String,
    thinking: Vec<Value>,
    calls: Vec<Value>,
    annotations: Vec<Value>,
    /// One list for every text block that has any.
    citations: Vec<Value>,
    /// What has no twin.
    fields: Map<String, Value>,
}

impl Said {
    fn block(&mut self, raw: &RawValue, context: &Context) -> Result<(), Error> {
        let block: Block<'_> = serde_json::from_str(raw.get()).map_err(|fault| garbled(&fault.to_string()))?;
        let owned = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
        match block.kind.as_ref() {
            "text" => {
                let text = block.text.unwrap_or_default();
                let start = self.chars;
                self.say(&text);
                if let Some(citations) = block.citations.filter(|citations| !citations.is_empty()) {
                    let end = self.chars;
                    self.annotations.extend(citations.iter().filter_map(|citation| annotation(citation, start, end)));
                    self.citations.push(citations.into());
                }
            }
            "thinking" => {
                let thinking = owned(block.thinking);
                self.reasoning.push_str(&thinking);
                let signature = owned(block.signature);
                self.thinking.push(json!({"type": "thinking", "thinking": thinking, "signature": signature}));
            }
            "redacted_thinking" => {
                self.thinking.push(json!({"type": "redacted_thinking", "data": owned(block.data)}));
            }
            "tool_use" => {
                let name = block.name.unwrap_or_default();
                let arguments = block.input.map_or("{}", RawValue::get);
                if context.json_tool && name == JSON_TOOL {
                    self.say(arguments);
                } else {
                    self.calls.push(json!({
                        "id": block.id.unwrap_or_default(),
                        "type": "function",
                        "function": {"name": context.names.given(&name), "arguments": arguments},
                    }));
                }
            }
            kind => {
                if let Some(field) = field_of(kind) {
                    let value: Value = serde_json::from_str(raw.get()).map_err(|fault| garbled(&fault.to_string()))?;
                    if let Value::Array(list) = self.fields.entry(field).or_insert_with(|| json!([])) {
                        list.push(value);
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.chars += text.chars().count();
        self.has_text = true;
    }

    fn message(mut self, context: &Context) -> Value {
        // An answer of calls alone has no content; one of nothing at all is an empty text.
        let content = if self.has_text || self.calls.is_empty() { self.text.into() } else { Value::Null };
        let mut message = json!({"role": "assistant", "content": content});
        if !self.calls.is_empty() {
            if context.legacy_functions {
                message["function_call"] = self.calls.swap_remove(0)["function"].take();
            } else {
                message["tool_calls"] = self.calls.into();
            }
        }
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.into();
        }
        if !self.thinking.is_empty() {
            message["thinking_blocks"] = self.thinking.into();
        }
        if !self.annotations.is_empty() {
            message["annotations"] = self.annotations.into();
        }
        if !self.citations.is_empty() {
            self.fields.insert("citations".to_owned(), self.citations.into());
        }
        if !self.fields.is_empty() {
            message["provider_specific_fields"] = self.fields.into();
        }
        message
    }
}

/// Where blocks of hosted tools are kept among the `provider_specific_fields`, by LiteLLM's names.
pub(super) fn field_of(kind: &str) -> Option<&'static str> {
    match kind {
        "web_search_tool_result" | "web_fetch_tool_result" => Some("web_search_results"),
        "server_tool_use" | "mcp_tool_use" => Some("server_tool_use"),
        "compaction" => Some("compaction_blocks"),
        _ if kind.ends_with("_tool_result") => Some("tool_results"),
        _ => None,
    }
}

/// OpenAI's form of a citation of the web; it is about the text between the two places.
fn annotation(citation: &Value, start: usize, end: usize) -> Option<Value> {
    let url = citation["url"].as_str()?;
    let title = citation["title"].as_str().unwrap_or_default();
    let inner = json!({"start_index": start, "end_index": end, "url": url, "title": title});
    Some(json!({"type": "url_citation", "url_citation": inner}))
}

fn garbled(what: &str) -> Error {
    let told = errors::garbled(what);
    Error::new(Kind::Garbled, told["error"]["message"].as_str().unwrap_or_default())
}
