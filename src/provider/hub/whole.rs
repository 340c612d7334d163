//! An answer in one piece.

use super::out::{Delta, Head, Out, Sink, openai};
use serde_json::{Map, Value, json};

/// What the pieces of an answer came to.
#[derive(Debug, Default)]
pub struct Whole {
    choices: Vec<Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    text: String,
    has_text: bool,
    reasoning: String,
    thinking: Vec<Value>,
    /// Whether the last of `thinking` waits for its signature.
    thinks: bool,
    calls: Vec<(Value, String)>,
    images: Vec<Value>,
    annotations: Vec<Value>,
    fields: Map<String, Value>,
    logprobs: Vec<Value>,
}

impl Sink for Whole {
    fn delta(&mut self, _: &Head, choice: usize, delta: Delta<'_>) {
        if self.choices.len() <= choice {
            self.choices.resize_with(choice + 1, Choice::default);
        }
        let said = &mut self.choices[choice];
        match delta {
            Delta::Text(text) => {
                said.text.push_str(text);
                said.has_text = true;
            }
            Delta::Reasoning(text) => {
                said.reasoning.push_str(text);
                match said.thinking.last_mut().filter(|_| said.thinks) {
                    Some(last) => {
                        if let Value::String(before) = &mut last["thinking"] {
                            before.push_str(text);
                        }
                    }
                    None => said.thinking.push(json!({"type": "thinking", "thinking": text, "signature": ""})),
                }
                said.thinks = true;
            }
            Delta::Signature(text) => {
                match said.thinking.last_mut().filter(|_| said.thinks) {
                    Some(last) => last["signature"] = text.into(),
                    None => said.thinking.push(json!({"type": "thinking", "thinking": "", "signature": text})),
                }
                said.thinks = false;
            }
            Delta::Redacted(data) => {
                said.thinking.push(json!({"type": "redacted_thinking", "data": data}));
                said.thinks = false;
            }
            Delta::Call { id, name, fields, .. } => {
                let mut call = json!({"id": id, "type": "function", "function": {"name": name}});
                if let Some(fields) = fields {
                    call["provider_specific_fields"] = fields.clone();
                }
                said.calls.push((call, String::new()));
            }
            Delta::Arguments { place, text } => {
                if let Some((_, arguments)) = said.calls.get_mut(place) {
                    arguments.push_str(text);
                }
            }
            Delta::Image(url) => {
                let index = said.images.len();
                said.images.push(json!({"index": index, "type": "image_url", "image_url": {"url": url}}));
            }
            Delta::Annotation(annotation) => said.annotations.push(annotation.clone()),
            Delta::Field(name, value) => _ = said.fields.insert(name.to_owned(), value.clone()),
            Delta::Logprobs(items) => said.logprobs.extend(items.as_array().into_iter().flatten().cloned()),
        }
    }
}

impl Choice {
    fn message(self, legacy: bool) -> Value {
        // An answer of calls alone has no content; one of nothing at all is an empty text.
        let content = if self.has_text || self.calls.is_empty() { self.text.into() } else { Value::Null };
        let mut message = json!({"role": "assistant", "content": content});
        let mut calls: Vec<Value> = self
            .calls
            .into_iter()
            .map(|(mut call, arguments)| {
                call["function"]["arguments"] = arguments.into();
                call
            })
            .collect();
        match (legacy, calls.is_empty()) {
            (_, true) => (),
            (true, _) => message["function_call"] = calls.swap_remove(0)["function"].take(),
            (false, _) => message["tool_calls"] = calls.into(),
        }
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.into();
        }
        for (name, list) in
            [("thinking_blocks", self.thinking), ("images", self.images), ("annotations", self.annotations)]
        {
            if !list.is_empty() {
                message[name] = list.into();
            }
        }
        if !self.fields.is_empty() {
            message["provider_specific_fields"] = self.fields.into();
        }
        message
    }
}

impl Out<Whole> {
    /// The chat completion.
    pub fn completion(mut self) -> Vec<u8> {
        self.begin(None, None);
        let ends: Vec<_> = self.ends().collect();
        let legacy = self.head.context.legacy_functions;
        let mut said = std::mem::take(&mut self.sink.choices);
        said.resize_with(ends.len().max(1), Choice::default);
        let choices: Vec<Value> = said
            .into_iter()
            .enumerate()
            .map(|(index, mut choice)| {
                let reason = ends.get(index).map_or("stop", |(_, reason)| reason);
                let logprobs = match std::mem::take(&mut choice.logprobs) {
                    none if none.is_empty() => Value::Null,
                    items => json!({"content": items, "refusal": null}),
                };
                let message = choice.message(legacy);
                json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
            })
            .collect();
        let mut completion = json!({
            "id": self.head.id,
            "object": "chat.completion",
            "created": self.head.context.created,
            "model": self.head.model,
            "choices": choices,
        });
        // Without it the meter estimates; zeros would be taken for a count.
        if let Some(usage) = &self.usage {
            completion["usage"] = openai(usage);
        }
        if let Some(service) = &self.service {
            completion["service_tier"] = service.as_str().into();
        }
        completion.to_string().into_bytes()
    }
}
