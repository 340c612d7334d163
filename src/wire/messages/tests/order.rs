//! Reads a stream as strictly as Anthropic's clients may, and gathers what it says.

use serde_json::Value;

/// What a stream comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Gathered {
    pub content: Vec<Value>,
    pub stop_reason: Value,
    pub usage: Value,
    /// The message of the error it ended with.
    pub error: Option<String>,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Before,
    Between,
    Inside { kind: String, signed: bool, json: String },
    Stopping,
    Over,
}

/// Checks names, order, indexes and kinds of all events.
pub fn check(stream: &str) -> Result<Gathered, String> {
    let mut told = Gathered::default();
    let mut stage = Stage::Before;
    if !stream.is_empty() && !stream.ends_with("\n\n") {
        return Err("the last event is not ended".to_owned());
    }
    for event in stream.split_terminator("\n\n") {
        stage = next(stage, event, &mut told).map_err(|what| format!("{what}: {event}"))?;
    }
    match stage {
        Stage::Over => Ok(told),
        other => Err(format!("it ends at {other:?}")),
    }
}

fn next(stage: Stage, event: &str, told: &mut Gathered) -> Result<Stage, String> {
    let (name, data) = event.split_once('\n').ok_or("one line only")?;
    let name = name.strip_prefix("event: ").ok_or("no name")?;
    let data = data.strip_prefix("data: ").ok_or("no data")?;
    if data.contains(['\n', '\r']) {
        return Err("a line break in the data".to_owned());
    }
    let data: Value = serde_json::from_str(data).map_err(|e| e.to_string())?;
    if data["type"] != name {
        return Err("name and type differ".to_owned());
    }
    let last = told.content.len().checked_sub(1);
    match (stage, name) {
        (Stage::Over, _) => Err("after the end".to_owned()),
        (_, "error") => {
            told.error = Some(data["error"]["message"].as_str().ok_or("no message")?.to_owned());
            data["error"]["type"].as_str().ok_or("no type")?;
            Ok(Stage::Over)
        }
        (stage, "ping") => Ok(stage),
        (Stage::Before, "message_start") => {
            let message = &data["message"];
            let empty = message["content"].as_array().is_some_and(Vec::is_empty);
            let numbers = message["usage"]["input_tokens"].is_u64() && message["usage"]["output_tokens"].is_u64();
            let nulls = message["stop_reason"].is_null() && message["stop_sequence"].is_null();
            let named = message["id"].is_string() && message["model"].is_string();
            if !(empty && numbers && nulls && named && message["type"] == "message" && message["role"] == "assistant") {
                return Err("a bad start".to_owned());
            }
            Ok(Stage::Between)
        }
        (Stage::Between, "content_block_start") => {
            if data["index"] != told.content.len() {
                return Err("a wrong index".to_owned());
            }
            let block = &data["content_block"];
            let kind = block["type"].as_str().ok_or("no type of block")?.to_owned();
            let good = match &*kind {
                "text" => block["text"] == "",
                "thinking" => block["thinking"] == "" && block["signature"] == "",
                "redacted_thinking" => block["data"].is_string(),
                "tool_use" => {
                    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let id = block["id"].as_str().unwrap_or_default();
                    let input = block["input"].as_object().is_some_and(|input| input.is_empty());
                    input
                        && !id.is_empty()
                        && id.chars().all(fits)
                        && block["name"].as_str().is_some_and(|n| !n.is_empty())
                }
                _ => false,
            };
            if !good {
                return Err("a bad block".to_owned());
            }
            told.content.push(block.clone());
            Ok(Stage::Inside { kind, signed: false, json: String::new() })
        }
        (Stage::Inside { kind, mut signed, mut json }, "content_block_delta") => {
            let last = last.ok_or("no block")?;
            if data["index"] != last {
                return Err("the delta of another block".to_owned());
            }
            let delta = &data["delta"];
            let text = |name: &str| delta[name].as_str().filter(|t| !t.is_empty()).ok_or("an empty delta");
            let mut add = |member: &str, more: &str| {
                let before = told.content[last][member].as_str().unwrap_or_default().to_owned();
                told.content[last][member] = (before + more).into();
            };
            match (&*kind, delta["type"].as_str().unwrap_or_default(), signed) {
                ("text", "text_delta", _) => add("text", text("text")?),
                ("thinking", "thinking_delta", false) => add("thinking", text("thinking")?),
                ("thinking", "signature_delta", false) => {
                    add("signature", text("signature")?);
                    signed = true;
                }
                ("tool_use", "input_json_delta", _) => json.push_str(text("partial_json")?),
                _ => return Err("a delta that does not fit".to_owned()),
            }
            Ok(Stage::Inside { kind, signed, json })
        }
        (Stage::Inside { json, .. }, "content_block_stop") => {
            let last = last.ok_or("no block")?;
            if data["index"] != last {
                return Err("the stop of another block".to_owned());
            }
            if !json.is_empty() {
                told.content[last]["input"] = serde_json::from_str(&json).unwrap_or(Value::String(json));
            }
            Ok(Stage::Between)
        }
        (Stage::Between, "message_delta") => {
            if told.content.is_empty() {
                return Err("a message without blocks".to_owned());
            }
            told.stop_reason = data["delta"]["stop_reason"].clone();
            told.usage = data["usage"].clone();
            let known = ["end_turn", "max_tokens", "tool_use", "refusal"];
            let reason = told.stop_reason.as_str().is_some_and(|reason| known.contains(&reason));
            let sequence = data["delta"].as_object().is_some_and(|d| d.get("stop_sequence") == Some(&Value::Null));
            let counted = told.usage["input_tokens"].is_u64() && told.usage["output_tokens"].is_u64();
            if reason && sequence && counted { Ok(Stage::Stopping) } else { Err("a bad message_delta".to_owned()) }
        }
        (Stage::Stopping, "message_stop") => Ok(Stage::Over),
        (stage, _) => Err(format!("it may not come at {stage:?}")),
    }
}
