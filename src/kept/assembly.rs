//! A streamed answer put together as the whole answer that it would have been: OpenAI's chat and text completions,
//! Anthropic's Messages, and the Responses API, told apart by what their events say.

use serde_json::{Map, Value, json};

/// An answer that is put together event by event, as long as there is room.
#[derive(Debug)]
pub struct Assembly {
    whole: Map<String, Value>,
    /// Bytes of events that may still be taken in.
    left: usize,
    is_cut: bool,
}

/// Choices, blocks and calls that one answer has at most.
const MOST_PARTS: usize = 64;
/// Of an event, beside the text that it brings: its names and numbers.
const FRAME: usize = 256;
/// Of a small event so much stays: a token, and what goes with it.
const SHARE: usize = 32;
/// Lists of a delta whose items grow, or come one by one; any other comes as a whole.
const LISTS: [&str; 6] = ["tool_calls", "annotations", "citations", "images", "reasoning_details", "thinking_blocks"];

impl Assembly {
    /// What is put together has about so many bytes at most.
    pub fn new(limit: usize) -> Self {
        Assembly { whole: Map::new(), left: limit, is_cut: false }
    }

    /// Takes an event of the stream, with its lines.
    pub fn push(&mut self, event: &[u8]) {
        for line in event.split(|byte| *byte == b'\n') {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            if self.is_cut || data.trim_ascii() == b"[DONE]" {
                continue;
            }
            // The texts of a stream are small, and what is around them is said once in the whole.
            let size = data.len().saturating_sub(FRAME).max(data.len() / SHARE);
            match (self.left.checked_sub(size), serde_json::from_slice(data)) {
                (Some(left), Ok(Value::Object(event))) => {
                    self.left = left;
                    self.take(event);
                }
                (None, _) => self.is_cut = true,
                (Some(_), _) => (),
            }
        }
    }

    /// The whole answer; none where nothing came.
    pub fn whole(mut self) -> Option<Value> {
        if self.is_cut {
            self.whole.insert("cut".to_owned(), true.into());
        }
        // The arguments of a tool come as the text of an object.
        for block in self.whole.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
            let read = block.get("input").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
            if let (Some(input), Some(place)) = (read, block.get_mut("input")) {
                *place = input;
            }
        }
        (!self.whole.is_empty()).then(|| Value::Object(self.whole))
    }

    fn take(&mut self, mut event: Map<String, Value>) {
        if let Some(Value::Array(choices)) = event.remove("choices") {
            return self.chunk(event, choices);
        }
        let index = event.get("index").and_then(Value::as_u64);
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            // The end of a response holds all of it.
            "response.created" | "response.completed" | "response.incomplete" | "response.failed" => {
                if let Some(Value::Object(response)) = event.remove("response") {
                    self.whole = response;
                }
            }
            "message_start" => {
                if let Some(Value::Object(message)) = event.remove("message") {
                    self.whole = message;
                }
            }
            "content_block_start" => {
                if let (Some(index), Some(block)) = (index, event.remove("content_block"))
                    && let Some(place) = part(&mut self.whole, "content", index)
                {
                    *place = block;
                }
            }
            "content_block_delta" => {
                if let (Some(index), Some(delta)) = (index, event.get("delta"))
                    && let Some(block) = part(&mut self.whole, "content", index)
                {
                    grow(block, delta);
                }
            }
            "message_delta" => {
                let parts = [event.remove("delta"), event.remove("usage").map(|usage| json!({ "usage": usage }))];
                for members in parts.into_iter().flatten() {
                    merge(&mut self.whole, members);
                }
            }
            _ => {
                if let Some(error) = event.remove("error") {
                    self.whole.insert("error".to_owned(), error);
                }
            }
        }
    }

    /// A chunk of a chat or text completion.
    fn chunk(&mut self, mut event: Map<String, Value>, choices: Vec<Value>) {
        if event.get("object").and_then(Value::as_str) == Some("chat.completion.chunk") {
            event.insert("object".to_owned(), "chat.completion".into());
        }
        event.retain(|_, value| !value.is_null());
        self.whole.extend(event);
        for choice in choices {
            let Value::Object(mut choice) = choice else { continue };
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            let Some(place) = part(&mut self.whole, "choices", index) else { continue };
            if !place.is_object() {
                *place = json!({ "index": index });
            }
            let Value::Object(whole) = place else { continue };
            if let Some(delta) = choice.remove("delta") {
                add(whole.entry("message").or_insert_with(|| json!({})), &delta);
            }
            if let Some(Value::String(text)) = choice.remove("text") {
                append(whole, "text", &text);
            }
            choice.retain(|_, value| !value.is_null());
            whole.extend(choice);
        }
    }
}

/// The place in a list, which grows up to it.
fn part<'a>(whole: &'a mut Map<String, Value>, list: &str, index: u64) -> Option<&'a mut Value> {
    let index = usize::try_from(index).ok().filter(|index| *index < MOST_PARTS)?;
    let items = whole.entry(list).or_insert_with(|| json!([]));
    if !items.is_array() {
        *items = json!([]);
    }
    let items = items.as_array_mut()?;
    if items.len() <= index {
        items.resize(index + 1, Value::Null);
    }
    items.get_mut(index)
}

fn append(members: &mut Map<String, Value>, name: &str, text: &str) {
    match members.get_mut(name) {
        Some(Value::String(whole)) => whole.push_str(text),
        _ => {
            members.insert(name.to_owned(), text.into());
        }
    }
}

fn merge(whole: &mut Map<String, Value>, members: Value) {
    if let Value::Object(members) = members {
        for (name, value) in members {
            match (whole.get_mut(&name), value) {
                (Some(Value::Object(inner)), value @ Value::Object(_)) => merge(inner, value),
                (_, Value::Null) => (),
                (_, value) => {
                    whole.insert(name, value);
                }
            }
        }
    }
}

/// Adds a delta of OpenAI's to a message: texts grow, calls of tools by their index, everything else is said once.
fn add(message: &mut Value, delta: &Value) {
    let (Value::Object(whole), Value::Object(delta)) = (message, delta) else { return };
    for (name, value) in delta {
        match value {
            Value::Null => (),
            Value::String(text) if !matches!(name.as_str(), "role" | "id" | "type" | "name") => {
                append(whole, name, text)
            }
            Value::Object(_) => {
                let inner = whole.entry(name.clone()).or_insert_with(|| json!({}));
                // A call's function is the only object that grows; it is two levels deep.
                add(inner, value);
            }
            Value::Array(items) if LISTS.contains(&name.as_str()) => {
                for item in items {
                    let index = item.get("index").and_then(Value::as_u64);
                    let place = match index {
                        Some(index) => part(whole, name, index),
                        None => next(whole, name),
                    };
                    let Some(place) = place else { continue };
                    if !place.is_object() {
                        *place = json!({});
                    }
                    add(place, item);
                }
            }
            other => {
                whole.insert(name.clone(), other.clone());
            }
        }
    }
}

/// A new place at the end of a list.
fn next<'a>(whole: &'a mut Map<String, Value>, list: &str) -> Option<&'a mut Value> {
    let length = whole.get(list).and_then(Value::as_array).map_or(0, Vec::len);
    part(whole, list, length as u64)
}

/// Adds a delta of Anthropic's to a block.
fn grow(block: &mut Value, delta: &Value) {
    let Value::Object(block) = block else { return };
    for (of_delta, of_block) in
        [("text", "text"), ("thinking", "thinking"), ("signature", "signature"), ("partial_json", "input")]
    {
        if let Some(text) = delta.get(of_delta).and_then(Value::as_str) {
            append(block, of_block, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Something that could be an event, with the names that matter.
    fn any_event() -> impl Strategy<Value = Value> {
        const NAMES: [&str; 12] = [
            "choices",
            "index",
            "delta",
            "tool_calls",
            "type",
            "content_block",
            "message",
            "content",
            "response",
            "input",
            "error",
            "text",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u64>().prop_map(Value::from),
            "[a-z]{0,9}".prop_map(Value::from),
            Just(json!("content_block_delta")),
            Just(json!("message_start")),
            Just(json!("response.completed")),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((0..NAMES.len(), inner), 0..6).prop_map(|members| {
                    Value::Object(members.into_iter().map(|(name, value)| (NAMES[name].to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_events_are_taken_without_harm(
            events in proptest::collection::vec(any_event(), 0..30),
            text in any::<Vec<u8>>(),
        ) {
            let mut assembly = Assembly::new(2000);
            for event in &events {
                assembly.push(format!("data: {event}\n\n").as_bytes());
                assembly.push(&text);
            }
            let all: usize = events.iter().map(|event| event.to_string().len()).sum();
            let whole = assembly.whole().map_or(0, |whole| whole.to_string().len());
            prop_assert!(whole <= all + 2000 + events.len() * MOST_PARTS * 40, "{} of {}", whole, all);
        }
    }

    fn whole(events: &[Value]) -> Value {
        let mut assembly = Assembly::new(10_000);
        for event in events {
            assembly.push(format!("event: x\ndata: {event}\n\n").as_bytes());
        }
        assembly.push(b"data: [DONE]\n\n");
        assembly.whole().unwrap()
    }

    #[test]
    fn chunks_become_a_completion() {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let call = |part: Value| json!({"tool_calls": [part]});
        let answer = whole(&[
            chunk(json!({"role": "assistant", "content": "He"}), Value::Null),
            chunk(json!({"content": "llo"}), Value::Null),
            chunk(
                call(
                    json!({"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"a"}}),
                ),
                Value::Null,
            ),
            chunk(call(json!({"index": 0, "function": {"arguments": "\":1}"}})), json!("tool_calls")),
            json!({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 1}}),
        ]);
        let message = json!({"role": "assistant", "content": "Hello", "tool_calls":
            [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]});
        assert_eq!(
            answer,
            json!({"id": "c", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 1},
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
        );
        let text = |text: &str| json!({"object": "text_completion", "choices": [{"index": 0, "text": text}]});
        assert_eq!(whole(&[text("a"), text("b")])["choices"][0]["text"], "ab");
    }

    #[test]
    fn events_become_a_message_or_a_response() {
        let answer = whole(&[
            json!({"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            json!({"type": "message_stop"}),
        ]);
        assert_eq!(answer["content"][0]["text"], "Hi");
        assert_eq!(answer["content"][1]["input"], json!({"a": 1}));
        assert_eq!(
            (&answer["stop_reason"], &answer["usage"]),
            (&json!("end_turn"), &json!({"input_tokens": 3, "output_tokens": 2}))
        );
        let answer = whole(&[
            json!({"type": "response.created", "response": {"id": "r"}}),
            json!({"type": "response.output_text.delta", "delta": "Hi"}),
            json!({"type": "response.completed", "response": {"id": "r", "output": []}}),
        ]);
        assert_eq!(answer, json!({"id": "r", "output": []}));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut assembly = Assembly::new(1000);
        let text = "x".repeat(600);
        for _ in 0..1000 {
            let event = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
            assembly.push(format!("data: {event}\n\n").as_bytes());
        }
        for index in [5, u64::MAX] {
            assembly.push(format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}}}}]}}\n\n").as_bytes());
        }
        let whole = assembly.whole().unwrap();
        assert_eq!(whole["cut"], true);
        assert!(whole.to_string().len() < 10_000);
        assert_eq!(Assembly::new(10).whole(), None);
        let lists = json!({"choices": [{"index": 0, "delta": {"a": [1], "tool_calls": [7, {"index": 3}]}}]});
        let mut many = Assembly::new(1000);
        many.push(format!("data: {lists}\n").as_bytes());
        many.push(format!("data: {lists}\n").as_bytes());
        let message = &many.whole().unwrap()["choices"][0]["message"];
        assert_eq!((&message["a"], message["tool_calls"].as_array().map(Vec::len)), (&json!([1]), Some(5)));
        let mut odd = Assembly::new(1000);
        for event in [
            "data: {",
            "data: 7",
            "data: {\"choices\":[7]}",
            "data: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":7}",
        ] {
            odd.push(event.as_bytes());
        }
    }
}
