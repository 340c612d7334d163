//! What comes back: a message, or the events of one in Amazon's event stream.

use super::errors;
use crate::provider::hub::{Delta, Fault, Out, Sink};
use crate::usage::Usage;
use crate::wire::eventstream;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    output: Option<Output>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    service_tier: Value,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(default)]
    start: Value,
    #[serde(borrow, default)]
    delta: Option<Piece<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    service_tier: Value,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_use: Option<Input<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Reasoning<'a>>,
    #[serde(default)]
    citation: Value,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow, default)]
    input: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    redacted_content: Option<Cow<'a, str>>,
}

/// Reads the pieces of one answer.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    /// Takes one message of the stream; true where it was the last.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn piece(&mut self, data: &[u8], out: &mut Out<impl Sink>) -> Result<bool, Fault> {
        let message = eventstream::read(data).ok_or(Fault::Garbled("a message of it is not as it should be"))?;
        if message.message_type == "error" {
            return Err(errors::fault(message.kind, message.error_message));
        }
        let event: Event<'_> = serde_json::from_slice(message.payload)
            .map_err(|_| Fault::Garbled("a message of it is not as it should be"))?;
        if message.message_type == "exception" {
            return Err(errors::fault(message.kind, event.message.as_deref().unwrap_or_default()));
        }
        match message.kind {
            "messageStart" => out.begin(None, None),
            "contentBlockStart" => {
                let call = &event.start["toolUse"];
                if call.is_object() {
                    let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
                    out.call(0, &text("toolUseId"), &text("name"), None)?;
                }
            }
            "contentBlockDelta" => {
                if let Some(delta) = event.delta {
                    piece(delta, out)?;
                }
            }
            "contentBlockStop" => out.close(0)?,
            "messageStop" => out.finish(0, finish_reason(event.stop_reason.as_deref()))?,
            "metadata" => {
                out.usage = usage(&event.usage).or(out.usage);
                tier(&event.service_tier, out);
                return Ok(out.has_finished());
            }
            // Whatever will be invented.
            _ => (),
        }
        Ok(false)
    }

    /// Takes an answer in one piece.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn whole(&mut self, body: &[u8], out: &mut Out<impl Sink>) -> Result<(), Fault> {
        let response: Response =
            serde_json::from_slice(body).map_err(|_| Fault::Garbled("it is not as it should be"))?;
        let Some(output) = response.output else {
            let message = response.message.ok_or(Fault::Garbled("it has no 'output'"))?;
            return Err(Fault::Told { status: 502, kind: "server_error", message });
        };
        for block in output.message.content {
            self::block(&block, out)?;
        }
        out.usage = usage(&response.usage);
        tier(&response.service_tier, out);
        out.finish(0, finish_reason(response.stop_reason.as_deref()))
    }
}

fn piece(delta: Piece<'_>, out: &mut Out<impl Sink>) -> Result<(), Fault> {
    if let Some(text) = &delta.text {
        out.put(0, Delta::Text(text))?;
    }
    if let Some(call) = &delta.tool_use {
        out.arguments(0, &call.input)?;
    }
    if let Some(reasoning) = &delta.reasoning_content {
        if let Some(text) = &reasoning.text {
            out.put(0, Delta::Reasoning(text))?;
        }
        if let Some(signature) = &reasoning.signature {
            out.put(0, Delta::Signature(signature))?;
        }
        if let Some(data) = reasoning.redacted_content.as_ref().filter(|data| !data.is_empty()) {
            out.put(0, Delta::Redacted(data))?;
        }
    }
    if delta.citation.is_object() {
        out.put(0, Delta::Field("citation", &delta.citation))?;
    }
    Ok(())
}

fn block(block: &Value, out: &mut Out<impl Sink>) -> Result<(), Fault> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(said) = block["text"].as_str() {
        out.put(0, Delta::Text(said))?;
    }
    let call = &block["toolUse"];
    if call.is_object() {
        out.call(0, &text(&call["toolUseId"]), &text(&call["name"]), None)?;
        if !call["input"].is_null() {
            out.arguments(0, &call["input"].to_string())?;
        }
        out.close(0)?;
    }
    let reasoning = &block["reasoningContent"];
    if let Some(said) = reasoning["reasoningText"]["text"].as_str() {
        out.put(0, Delta::Reasoning(said))?;
        out.put(0, Delta::Signature(&text(&reasoning["reasoningText"]["signature"])))?;
    }
    if let Some(data) = reasoning["redactedContent"].as_str().filter(|data| !data.is_empty()) {
        out.put(0, Delta::Redacted(data))?;
    }
    let cited = &block["citationsContent"];
    for part in cited["content"].as_array().into_iter().flatten() {
        out.put(0, Delta::Text(&text(&part["text"])))?;
    }
    if cited["citations"].is_array() {
        out.put(0, Delta::Field("citations", &cited["citations"]))?;
    }
    let image = &block["image"];
    if let (Some(format), Some(data)) = (image["format"].as_str(), image["source"]["bytes"].as_str()) {
        out.put(0, Delta::Image(&format!("data:image/{format};base64,{data}")))?;
    }
    Ok(())
}

fn finish_reason(reason: Option<&str>) -> &'static str {
    match reason {
        Some("max_tokens" | "model_context_window_exceeded") => "length",
        Some("content_filtered" | "guardrail_intervened") => "content_filter",
        _ => "stop",
    }
}

fn tier<S: Sink>(told: &Value, out: &mut Out<S>) {
    if let Some(tier) = told["type"].as_str().filter(|tier| *tier != "default") {
        out.service = Some(tier.to_owned());
    }
}

/// Bedrock's counts stand apart from each other; OpenAI's prompt holds what was read from a cache or written into it.
pub fn usage(told: &Value) -> Option<Usage> {
    let of = |name: &str| told[name].as_f64().map(|count| count.max(0.0) as u64);
    let (input, output) = (of("inputTokens")?, of("outputTokens")?);
    let read = of("cacheReadInputTokens").unwrap_or(0);
    let written = of("cacheWriteInputTokens").unwrap_or(0);
    let one_hour = told["cacheDetails"].as_array().into_iter().flatten();
    let one_hour: u64 =
        one_hour.filter(|part| part["ttl"] == "1h").filter_map(|part| part["inputTokens"].as_u64()).sum();
    Some(Usage {
        prompt_tokens: input.saturating_add(read).saturating_add(written),
        completion_tokens: output,
        cached_tokens: read,
        cache_write_tokens: written,
        cache_write_1h_tokens: one_hour.min(written),
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_of_the_cache_are_a_part_of_the_prompt() {
        let told = json!({"inputTokens": 10, "outputTokens": 5, "totalTokens": 45, "cacheReadInputTokens": 20,
            "cacheWriteInputTokens": 10, "cacheDetails": [{"ttl": "1h", "inputTokens": 4}]});
        let usage = usage(&told).unwrap();
        assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens), (40, 20, 10));
        assert_eq!(usage.cache_write_1h_tokens, 4);
    }
}
