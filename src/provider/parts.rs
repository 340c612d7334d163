//! Answers in OpenAI's format whose content is a list of parts, thinking among them: Mistral's and Databricks'. OpenAI's
//! clients expect a text there, and thinking beside it.

use memchr::memmem;
use serde_json::{Map, Value, json};

/// The answer, or the chunk of one, with text for content; none where it is so already.
pub fn flatten(json: &[u8]) -> Option<Vec<u8>> {
    let is_list = |at: usize| json[at + 10..].trim_ascii_start().starts_with(b"[");
    memmem::find_iter(json, b"\"content\":").any(is_list).then_some(())?;
    let mut told: Value = serde_json::from_slice(json).ok()?;
    let mut changed = false;
    for choice in told.get_mut("choices")?.as_array_mut()? {
        for name in ["message", "delta"] {
            if let Some(message) = choice.get_mut(name).and_then(Value::as_object_mut) {
                changed |= level(message);
            }
        }
    }
    changed.then(|| told.to_string().into_bytes())
}

fn level(message: &mut Map<String, Value>) -> bool {
    let Some(Value::Array(parts)) = message.get_mut("content").map(Value::take) else { return false };
    let (mut text, mut thinking, mut blocks) = (None::<String>, String::new(), Vec::new());
    let mut think = |said: &str, signature: &Value| {
        thinking.push_str(said);
        let mut block = json!({"type": "thinking", "thinking": said});
        if signature.is_string() {
            block["signature"] = signature.clone();
        }
        blocks.push(block);
    };
    for part in &parts {
        match part["type"].as_str() {
            Some("thinking") => match &part["thinking"] {
                Value::Array(inner) => {
                    let said: String = inner.iter().filter_map(|one| one["text"].as_str()).collect();
                    think(&said, &part["signature"]);
                }
                said => think(said.as_str().unwrap_or_default(), &part["signature"]),
            },
            Some("reasoning") => {
                for one in part["summary"].as_array().into_iter().flatten() {
                    think(one["text"].as_str().unwrap_or_default(), &one["signature"]);
                }
            }
            _ => {
                if let Some(said) = part["text"].as_str() {
                    text.get_or_insert_default().push_str(said);
                }
            }
        }
    }
    message.insert("content".to_owned(), text.map_or(Value::Null, Value::from));
    if !thinking.is_empty() {
        message.entry("reasoning_content").or_insert(thinking.into());
    }
    if !blocks.is_empty() {
        message.entry("thinking_blocks").or_insert(blocks.into());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::foreign::{Context, Stream};

    #[test]
    fn an_event_of_several_lines_stays_one() {
        let mut stream = Stream::new(Context::Parts);
        stream.piece(b"{\"choices\":\n[]}");
        assert_eq!(&stream.take()[..], b"data: {\"choices\":\ndata: []}\n\n");
    }

    #[test]
    fn lists_become_text_and_thinking() {
        let told = |name: &str, content: Value| {
            let body = json!({"id": "a", "choices": [{"index": 0, name: {"role": "assistant", "content": content}}]});
            flatten(body.to_string().as_bytes())
                .map(|told| serde_json::from_slice::<Value>(&told).unwrap()["choices"][0][name].clone())
        };
        let databricks = json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "s=="}]},
            {"type": "text", "text": "Hello "}, {"type": "text", "text": "Oslo"}]);
        let message = told("message", databricks).unwrap();
        assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Hello Oslo"), &json!("hm")));
        assert_eq!(message["thinking_blocks"], json!([{"type": "thinking", "thinking": "hm", "signature": "s=="}]));
        let mistral = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]);
        let delta = told("delta", mistral).unwrap();
        assert_eq!((&delta["content"], &delta["reasoning_content"]), (&Value::Null, &json!("hm")));
        assert_eq!(told("message", json!([])).unwrap()["content"], Value::Null);
        assert!(told("message", json!("\"content\": [")).is_none());
        assert!(flatten(b"{\"content\": [").is_none() && flatten(b"[{\"content\":[]}]").is_none());
    }
}
