//! Reads a stream as strictly as OpenAI's clients may.

use serde_json::Value;
use std::collections::BTreeMap;

/// Checks names, numbers, order and repetitions of all events.
pub fn check(stream: &str) -> Result<(), String> {
    let (mut number, mut ended) = (0, false);
    // The items that are open or over, as the events have told them.
    let mut items: Vec<Value> = Vec::new();
    let mut open: Option<usize> = None;
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for event in stream.split_terminator("\n\n") {
        let wrong = |what: &str| Err(format!("{what}: {event}"));
        let (name, data) = event.split_once('\n').ok_or("one line only")?;
        let name = name.strip_prefix("event: ").ok_or("no name")?;
        let data = data.strip_prefix("data: ").ok_or("no data")?;
        let data: Value = serde_json::from_str(data).map_err(|e| format!("{e}: {event}"))?;
        if ended {
            return wrong("after the end");
        }
        if data["type"] != name || data["sequence_number"] != number {
            return wrong("a wrong type or number");
        }
        if (number == 0) != (name == "response.created") && name != "error" && name != "response.failed" {
            return wrong("a wrong start");
        }
        number += 1;
        let last = items.len().checked_sub(1);
        if let Some(id) = data.get("item_id") {
            let at = open.ok_or("about no item")?;
            if data["output_index"] != at || items[at]["id"] != *id {
                return wrong("about another item");
            }
        }
        match name {
            "response.output_item.added" => {
                if open.is_some() || data["output_index"] != items.len() {
                    return wrong("an item inside another");
                }
                let item = &data["item"];
                let good = match item["type"].as_str().unwrap_or_default() {
                    "message" => item["content"].as_array().is_some_and(Vec::is_empty),
                    "reasoning" => item["summary"].as_array().is_some_and(Vec::is_empty),
                    "function_call" => item["arguments"] == "" && item["call_id"].is_string(),
                    "custom_tool_call" => item["input"] == "" && item["call_id"].is_string(),
                    _ => false,
                };
                if !good {
                    return wrong("a bad item");
                }
                items.push(item.clone());
                open = Some(items.len() - 1);
            }
            "response.output_item.done" => {
                let at = last.ok_or("no item")?;
                if open != Some(at) || data["item"]["id"] != items[at]["id"] {
                    return wrong("the end of another item");
                }
                items[at] = data["item"].clone();
                open = None;
                texts.clear();
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                ended = true;
                let response = &data["response"];
                let word = name.trim_start_matches("response.");
                let counted = name == "response.failed" || response["usage"]["total_tokens"].is_u64();
                if response["status"] != word || !counted || response["object"] != "response" {
                    return wrong("a bad end");
                }
                if name != "response.failed" && (open.is_some() || response["output"] != Value::from(items.clone())) {
                    return wrong("other items than those that were told");
                }
            }
            name if name.ends_with(".delta") => {
                let kind = name.trim_end_matches(".delta").to_owned();
                texts.entry(kind).or_default().push_str(data["delta"].as_str().ok_or("no delta")?);
            }
            "response.output_text.done" => compare(&texts, name, &data["text"])?,
            "response.refusal.done" => compare(&texts, name, &data["refusal"])?,
            "response.reasoning_summary_text.done" => compare(&texts, name, &data["text"])?,
            "response.function_call_arguments.done" => compare(&texts, name, &data["arguments"])?,
            "response.custom_tool_call_input.done" => compare(&texts, name, &data["input"])?,
            _ => (),
        }
    }
    if ended { Ok(()) } else { Err("no end".to_owned()) }
}

fn compare(texts: &BTreeMap<String, String>, name: &str, whole: &Value) -> Result<(), String> {
    let told = texts.get(name.trim_end_matches(".done")).map_or("", String::as_str);
    if whole == told { Ok(()) } else { Err(format!("{name} says {whole} and its deltas {told:?}")) }
}
