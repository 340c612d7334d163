//! An answer of chat completions as one of `generateContent`, whole and streamed.

use crate::error::{Error, Result};
use bytes::BytesMut;
use serde_json::{Value, json};

/// More calls than any answer has.
const MOST_CALLS: usize = 128;

/// The whole answer.
///
/// # Errors
/// Never for an answer that was read before.
pub fn from_chat(body: &[u8], model: &str, id: &str, thoughts: bool) -> Result<Vec<u8>> {
    let told: Value = serde_json::from_slice(body).map_err(|e| Error::invalid(e.to_string()))?;
    let candidates = told["choices"].as_array().into_iter().flatten().enumerate().map(|(index, choice)| {
        let message = &choice["message"];
        let mut parts = said(message, thoughts);
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        parts.extend(calls.map(|call| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            call_part(&text(&call["id"]), &text(&call["function"]["name"]), &text(&call["function"]["arguments"]))
        }));
        json!({"content": {"role": "model", "parts": parts}, "finishReason": finish(&choice["finish_reason"]), "index": index})
    });
    let answer = json!({"candidates": candidates.collect::<Vec<_>>(), "usageMetadata": usage(&told["usage"]),
        "modelVersion": model, "responseId": id});
    Ok(answer.to_string().into_bytes())
}

/// The thoughts and the text of a message or of a piece of one.
fn said(message: &Value, thoughts: bool) -> Vec<Value> {
    let text = |name: &str| message[name].as_str().filter(|text| !text.is_empty());
    let thought = text("reasoning_content").filter(|_| thoughts).map(|text| json!({"text": text, "thought": true}));
    thought.into_iter().chain(text("content").map(|text| json!({ "text": text }))).collect()
}

fn call_part(id: &str, name: &str, arguments: &str) -> Value {
    let args = serde_json::from_str(arguments).ok().filter(Value::is_object).unwrap_or_else(|| json!({}));
    json!({"functionCall": {"id": id, "name": name, "args": args}})
}

fn finish(reason: &Value) -> &'static str {
    match reason.as_str() {
        Some("length") => "MAX_TOKENS",
        Some("content_filter") => "SAFETY",
        Some("stop" | "tool_calls" | "function_call") => "STOP",
        _ => "OTHER",
    }
}

fn usage(usage: &Value) -> Value {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let (prompt, completion) = (count("/prompt_tokens"), count("/completion_tokens"));
    let thoughts = count("/completion_tokens_details/reasoning_tokens").min(completion);
    json!({"promptTokenCount": prompt, "candidatesTokenCount": completion - thoughts, "thoughtsTokenCount": thoughts,
        "cachedContentTokenCount": count("/prompt_tokens_details/cached_tokens"), "totalTokenCount": prompt + completion})
}

/// Tells a stream of chat. Calls are told whole, with the last event: Google's clients know no pieces of them.
#[derive(Debug)]
pub struct Stream {
    model: String,
    id: String,
    thoughts: bool,
    /// Id, name, arguments so far.
    calls: Vec<(String, String, String)>,
    finish: Option<Value>,
    usage: Value,
}

impl Stream {
    pub fn new(model: String, id: String, thoughts: bool) -> Self {
        Stream { model, id, thoughts, calls: Vec::new(), finish: None, usage: Value::Null }
    }

    /// A chunk of chat.
    pub fn chunk(&mut self, data: &[u8], out: &mut BytesMut) {
        let Ok(told) = serde_json::from_slice::<Value>(data) else { return };
        if told["usage"].is_object() {
            self.usage = told["usage"].clone();
        }
        let choice = &told["choices"][0];
        let delta = &choice["delta"];
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let place = call["index"].as_u64().unwrap_or(0) as usize;
            if place >= MOST_CALLS {
                continue;
            }
            while self.calls.len() <= place {
                self.calls.push(Default::default());
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (id, name, arguments) = &mut self.calls[place];
            id.push_str(&text(&call["id"]));
            name.push_str(&text(&call["function"]["name"]));
            arguments.push_str(&text(&call["function"]["arguments"]));
        }
        if !choice["finish_reason"].is_null() {
            self.finish = Some(choice["finish_reason"].clone());
        }
        let parts = said(delta, self.thoughts);
        if !parts.is_empty() {
            let candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
            self.event(json!({"candidates": [candidate]}), out);
        }
    }

    /// The last event.
    pub fn end(&mut self, out: &mut BytesMut) {
        let calls = std::mem::take(&mut self.calls);
        let parts: Vec<Value> = calls.iter().map(|(id, name, arguments)| call_part(id, name, arguments)).collect();
        // A last event without parts has an empty text, as Google's has.
        let parts = if parts.is_empty() { vec![json!({"text": ""})] } else { parts };
        let reason = finish(self.finish.as_ref().unwrap_or(&Value::Null));
        let candidate = json!({"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": 0});
        let usage = usage(&self.usage);
        self.event(json!({"candidates": [candidate], "usageMetadata": usage}), out);
    }

    fn event(&self, mut event: Value, out: &mut BytesMut) {
        event["modelVersion"] = self.model.as_str().into();
        event["responseId"] = self.id.as_str().into();
        out.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }
}
