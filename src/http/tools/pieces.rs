//! Pieces of a streamed chat, put together: the message of a turn, its calls, and the usage of all turns.

use serde_json::{Map, Value, json};

/// Calls of one turn.
pub const MOST_CALLS: usize = 128;

/// Adds the numbers of a usage object to a sum.
pub fn add(sum: &mut Value, usage: Value) {
    match (sum, usage) {
        (_, Value::Null) => {}
        (sum @ Value::Null, usage) => *sum = usage,
        (Value::Object(sum), Value::Object(usage)) => {
            for (name, value) in usage {
                add(sum.entry(name).or_insert(Value::Null), value);
            }
        }
        (sum @ Value::Number(_), usage @ Value::Number(_)) => {
            *sum = match (sum.as_u64(), usage.as_u64()) {
                (Some(a), Some(b)) => a.saturating_add(b).into(),
                _ => (sum.as_f64().unwrap_or(0.0) + usage.as_f64().unwrap_or(0.0)).into(),
            };
        }
        (sum, usage) => *sum = usage,
    }
}

/// Puts the pieces of a call together.
pub fn gather(calls: &mut Vec<Value>, piece: Value) {
    let index = piece["index"].as_u64().and_then(|i| usize::try_from(i).ok());
    // Some servers send whole calls without an index.
    let place = index.unwrap_or(calls.len());
    if place >= MOST_CALLS {
        return;
    }
    while calls.len() <= place {
        calls.push(json!({"function": {"arguments": ""}}));
    }
    let call = &mut calls[place];
    for name in ["id", "type"] {
        if let Some(text) = piece[name].as_str().filter(|text| !text.is_empty()) {
            call[name] = text.into();
        }
    }
    // Signatures of thoughts, which upstreams want back.
    for name in ["extra_content", "provider_specific_fields"] {
        if !piece[name].is_null() {
            call[name] = piece[name].clone();
        }
    }
    let function = &piece["function"];
    if let Some(name) = function["name"].as_str().filter(|name| !name.is_empty()) {
        call["function"]["name"] = name.into();
    }
    if let Some(more) = function["arguments"].as_str() {
        let all = format!("{}{more}", call["function"]["arguments"].as_str().unwrap_or_default());
        call["function"]["arguments"] = all.into();
    }
}

/// Joins a delta to the message: texts are appended, lists go on.
pub fn join(message: &mut Map<String, Value>, name: &str, delta: &Value) {
    match (message.get_mut(name), delta) {
        (Some(Value::String(all)), Value::String(more)) => all.push_str(more),
        (Some(Value::Array(all)), Value::Array(more)) => {
            for item in more {
                match all.last_mut() {
                    Some(last)
                        if last["type"] == "thinking"
                            && item["type"] == "thinking"
                            && !last["signature"].is_string() =>
                    {
                        let text = |value: &Value| value["thinking"].as_str().unwrap_or_default().to_owned();
                        last["thinking"] = (text(last) + &text(item)).into();
                        if item["signature"].is_string() {
                            last["signature"] = item["signature"].clone();
                        }
                    }
                    _ => all.push(item.clone()),
                }
            }
        }
        _ => drop(message.insert(name.to_owned(), delta.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_in_pieces_and_usage_is_summed() {
        let mut calls = Vec::new();
        for piece in [
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "x", "arguments": "{\"a\""}}),
            json!({"index": 1, "id": "b", "function": {"name": "y", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": ":1}"}}),
            json!({"index": 100_000, "function": {"arguments": "no"}}),
        ] {
            gather(&mut calls, piece);
        }
        assert_eq!(calls[0]["function"], json!({"arguments": "{\"a\":1}", "name": "x"}));
        assert_eq!((calls.len(), &calls[1]["id"]), (2, &json!("b")));
        let mut sum = Value::Null;
        add(&mut sum, json!({"prompt_tokens": 3, "details": {"cached": 1}, "cost": 0.5}));
        add(&mut sum, json!({"prompt_tokens": 4, "details": {"cached": 2, "audio": null}, "cost": 0.25}));
        assert_eq!(sum, json!({"prompt_tokens": 7, "details": {"cached": 3, "audio": null}, "cost": 0.75}));
    }

    #[test]
    fn thoughts_are_joined_until_they_are_signed() {
        let mut message = Map::new();
        for part in [
            json!({"type": "thinking", "thinking": "a"}),
            json!({"type": "thinking", "thinking": "b"}),
            json!({"type": "thinking", "thinking": "", "signature": "s"}),
            json!({"type": "thinking", "thinking": "c"}),
        ] {
            join(&mut message, "thinking_blocks", &json!([part]));
        }
        let blocks = &message["thinking_blocks"];
        assert_eq!(blocks[0], json!({"type": "thinking", "thinking": "ab", "signature": "s"}));
        assert_eq!(blocks[1]["thinking"], "c");
    }
}
