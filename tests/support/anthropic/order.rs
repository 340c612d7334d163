//! A strict reader of Messages streams: every event in its place, or it says which is not.

use crate::support::Client;
use serde_json::{Map, Value};

/// What a stream came to.
#[derive(Debug, Default)]
pub struct Read {
    /// The message put together, as the API's own clients would.
    pub message: Value,
    pub blocks: Vec<Value>,
    pub pings: usize,
    /// The data of an `error` event, which must be the last.
    pub error: Option<Value>,
    pub is_complete: bool,
}

/// Reads what is left of a stream.
pub fn read(client: &mut Client) -> Read {
    let mut events = Vec::new();
    while let Some(event) = client.event() {
        events.push(event);
    }
    check(&events)
}

/// Checks a whole stream of events, each without its empty line.
pub fn check(events: &[String]) -> Read {
    let mut read = Read::default();
    let mut open: Option<(Value, String)> = None;
    for event in events {
        let (name, data) = parts(event);
        assert!(!read.is_complete && read.error.is_none(), "{name} behind the end: {events:#?}");
        let has_begun = !read.message.is_null();
        match name.as_str() {
            "ping" => read.pings += 1,
            "error" => {
                assert!(data["error"]["type"].is_string() && data["error"]["message"].is_string(), "{data}");
                read.error = Some(data);
            }
            "message_start" => {
                assert!(!has_begun, "a second message_start");
                check_start(&data["message"]);
                read.message = data["message"].clone();
            }
            "content_block_start" => {
                assert!(has_begun && open.is_none(), "a block within a block: {events:#?}");
                assert!(read.message["stop_reason"].is_null(), "a block behind message_delta");
                assert_eq!(data["index"], read.blocks.len(), "indexes rise by one");
                check_open(&data["content_block"]);
                open = Some((data["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(data["index"], read.blocks.len());
                let (block, json) = open.as_mut().expect("a delta within a block");
                add(block, json, &data["delta"]);
            }
            "content_block_stop" => {
                assert_eq!(data["index"], read.blocks.len());
                let (mut block, json) = open.take().expect("a block that is open");
                if matches!(block["type"].as_str(), Some("tool_use" | "mcp_tool_use")) && !json.is_empty() {
                    block["input"] = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
                }
                read.blocks.push(block);
            }
            "message_delta" => {
                assert!(has_begun && open.is_none(), "message_delta within a block");
                assert!(data["usage"]["output_tokens"].is_u64(), "{data}");
                let delta = data["delta"].as_object().expect("a delta");
                assert!(delta.contains_key("stop_sequence") && delta["stop_reason"].is_string(), "{data}");
                merge(&mut read.message, delta);
                let usage = data["usage"].as_object().expect("usage").clone();
                merge(&mut read.message["usage"], &usage);
            }
            "message_stop" => {
                assert!(read.message["stop_reason"].is_string(), "message_stop before message_delta");
                read.is_complete = true;
            }
            other => panic!("an unknown event {other}"),
        }
    }
    let uses_tools = read.blocks.iter().any(|block| block["type"] == "tool_use");
    assert!(!read.is_complete || uses_tools == (read.message["stop_reason"] == "tool_use"), "{:#}", read.message);
    assert!(read.is_complete || read.error.is_some(), "a silent end: {events:#?}");
    read
}

/// The name and the data of an event, which must agree.
pub fn parts(event: &str) -> (String, Value) {
    let (name, data) = event.split_once('\n').unwrap_or_else(|| panic!("an event of one line: {event:?}"));
    let name = name.strip_prefix("event: ").unwrap_or_else(|| panic!("an event without a name: {event:?}"));
    let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("an event without data: {event:?}"));
    let data: Value = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {event:?}"));
    assert_eq!(data["type"], name, "{event:?}");
    (name.to_owned(), data)
}

fn check_start(message: &Value) {
    assert_eq!((&message["type"], &message["role"]), (&"message".into(), &"assistant".into()), "{message}");
    assert!(message["id"].as_str().is_some_and(|id| id.starts_with("msg_")), "{message}");
    assert!(message["model"].is_string() && message["content"].as_array().is_some_and(Vec::is_empty), "{message}");
    assert!(message["stop_reason"].is_null() && message["usage"]["input_tokens"].is_u64(), "{message}");
}

fn check_open(block: &Value) {
    let fits = match block["type"].as_str() {
        Some("text") => block["text"] == "",
        Some("thinking") => block["thinking"] == "" && block["signature"] == "",
        Some("tool_use") => {
            block["input"].as_object().is_some_and(Map::is_empty)
                && block["id"].is_string()
                && block["name"].is_string()
        }
        Some("redacted_thinking") => block["data"].is_string(),
        Some("mcp_tool_use") => block["input"] == serde_json::json!({}) && block["server_name"].is_string(),
        Some("mcp_tool_result") => block["tool_use_id"].is_string() && block["content"].is_array(),
        _ => false,
    };
    assert!(fits, "a block does not begin so: {block}");
}

fn add(block: &mut Value, json: &mut String, delta: &Value) {
    let piece = |name: &str| delta[name].as_str().unwrap_or_else(|| panic!("{name} is no text: {delta}"));
    let (of, member) = match delta["type"].as_str() {
        Some("text_delta") => ("text", "text"),
        Some("thinking_delta") => ("thinking", "thinking"),
        Some("signature_delta") => ("thinking", "signature"),
        Some("input_json_delta") => {
            assert!(matches!(block["type"].as_str(), Some("tool_use" | "mcp_tool_use")), "{block}");
            json.push_str(piece("partial_json"));
            return;
        }
        _ => panic!("an unknown delta: {delta}"),
    };
    assert_eq!(block["type"], of, "{delta}");
    let text = block[member].as_str().unwrap_or_default().to_owned() + piece(member);
    block[member] = text.into();
}

fn merge(into: &mut Value, members: &Map<String, Value>) {
    for (name, value) in members {
        into[name] = value.clone();
    }
}
