//! Out and in again: what goes through both translations means the same.

use crate::provider::anthropic::{self, Context, Facts};
use crate::wire::messages;
use crate::wire::sse::{self, Content, Events};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

const MODEL: &str = "claude-sonnet-4-5";

/// Texts as lists of parts, and turns of one role as one turn: the API takes both forms for the same.
fn plain(request: &mut Value) {
    let parts = |content: &mut Value| {
        if let Some(text) = content.as_str() {
            *content = json!([{"type": "text", "text": text}]);
        }
    };
    if let Some(system) = request.get_mut("system") {
        parts(system);
    }
    let mut turns: Vec<Value> = Vec::new();
    for mut turn in request["messages"].as_array().cloned().unwrap_or_default() {
        parts(&mut turn["content"]);
        for part in turn["content"].as_array_mut().into_iter().flatten() {
            if part["type"] == "tool_result" {
                parts(&mut part["content"]);
            }
        }
        match turns.last_mut() {
            Some(last) if last["role"] == turn["role"] => {
                let more = turn["content"].as_array().cloned().unwrap_or_default();
                last["content"].as_array_mut().unwrap().extend(more);
            }
            _ => turns.push(turn),
        }
    }
    request["messages"] = turns.into();
}

fn through_the_hub(request: &Value) -> Value {
    let chat = messages::to_chat(request.to_string().as_bytes()).unwrap();
    let facts = Facts { model: MODEL, drop_params: false, max_output: None };
    let mut hub: Value = serde_json::from_slice(&chat).unwrap();
    // What `prepare` takes out for every upstream of this language.
    hub.as_object_mut().unwrap().remove("stream_options");
    serde_json::from_slice(&anthropic::request(hub.to_string().as_bytes(), &facts).unwrap().body).unwrap()
}

#[test]
fn a_request_survives_both_translations() {
    let mut request = json!({
        "model": MODEL,
        "max_tokens": 1000,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_k": 7,
        "stream": true,
        "metadata": {"user_id": "u1"},
        "tools": [
            {"name": "light", "description": "Switches a light.", "input_schema": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}},
            {"name": "clock", "description": "Tells the time.", "input_schema": {"type": "object", "properties": {}}, "cache_control": {"type": "ephemeral"}},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?\n\"quoted\" é 🦀"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "A lamp.", "signature": "c2lnbmVk"},
                {"type": "redacted_thinking", "data": "aGlkZGVu"},
                {"type": "text", "text": "A lamp; I switch it on."},
                {"type": "tool_use", "id": "toolu_1", "name": "light", "input": {"on": true, "level": 1.5}},
                {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "noon"}]},
                {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}},
            ]},
        ],
    });
    let mut came = through_the_hub(&request);
    plain(&mut request);
    plain(&mut came);
    for (name, value) in request.as_object().unwrap() {
        assert_eq!(&came[name], value, "{name}");
    }
    let added: Vec<&String> = came.as_object().unwrap().keys().filter(|name| request.get(name).is_none()).collect();
    assert!(added.is_empty(), "{added:?}");
}

fn answer() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL,
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "It is \"noon\".\nReally."},
            {"type": "tool_use", "id": "toolu_1", "name": "light", "input": {"on": true}},
            {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 20, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 1500, "output_tokens": 30},
    })
}

#[test]
fn a_whole_answer_survives_both_translations() {
    let first = answer();
    let chat = anthropic::answer(first.to_string().as_bytes(), &Context::default(), 1).unwrap();
    let again: Value = serde_json::from_slice(&messages::from_chat(&chat, MODEL, "msg_1").unwrap()).unwrap();
    for name in ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"] {
        assert_eq!(again[name], first[name], "{name}");
    }
}

/// The answer as Anthropic streams it, cut into small pieces.
fn events() -> Vec<Value> {
    let whole = answer();
    let mut message = whole.clone();
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = 1.into();
    let mut events = vec![json!({"type": "message_start", "message": message})];
    for (index, block) in whole["content"].as_array().unwrap().iter().enumerate() {
        let mut start = block.clone();
        let text = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
        let deltas = match block["type"].as_str().unwrap() {
            "thinking" => {
                start["thinking"] = "".into();
                start["signature"] = "".into();
                vec![
                    json!({"type": "thinking_delta", "thinking": text("thinking")}),
                    json!({"type": "signature_delta", "signature": text("signature")}),
                ]
            }
            "text" => {
                start["text"] = "".into();
                text("text").split_inclusive(' ').map(|t| json!({"type": "text_delta", "text": t})).collect()
            }
            _ => {
                start["input"] = json!({});
                let input = block["input"].to_string();
                let (a, b) = input.split_at(input.len() / 2);
                [a, b].map(|part| json!({"type": "input_json_delta", "partial_json": part})).to_vec()
            }
        };
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.extend(deltas.into_iter().map(|d| json!({"type": "content_block_delta", "index": index, "delta": d})));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": "tool_use", "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": whole["usage"]}));
    events.push(json!({"type": "message_stop"}));
    events
}

/// What a client makes of Anthropic's events.
fn gathered(stream: &[u8]) -> Value {
    let (mut message, mut inputs) = (Value::Null, std::collections::BTreeMap::<u64, String>::new());
    each(stream, |data| {
        let event: Value = serde_json::from_slice(data).unwrap();
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                for (name, into) in [("text", "text"), ("thinking", "thinking"), ("signature", "signature")] {
                    if let Some(more) = delta[name].as_str() {
                        let block = &mut message["content"][index as usize][into];
                        *block = format!("{}{more}", block.as_str().unwrap_or_default()).into();
                    }
                }
                inputs.entry(index).or_default().push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            _ => (),
        }
    });
    for (index, input) in inputs.into_iter().filter(|(_, input)| !input.is_empty()) {
        message["content"][index as usize]["input"] = serde_json::from_str(&input).unwrap();
    }
    message
}

fn each(stream: &[u8], mut see: impl FnMut(&[u8])) {
    let mut events = Events::new(1 << 20);
    events.push(Bytes::copy_from_slice(stream));
    while let Some(event) = events.take().unwrap() {
        if let Content::Data(data) = sse::content(&event) {
            see(&data);
        }
    }
}

#[test]
fn a_streamed_answer_survives_both_translations() {
    let mut out = anthropic::Stream::new(Context::default(), 1);
    let mut chunks = BytesMut::new();
    for event in events() {
        out.event(event.to_string().as_bytes(), &mut chunks);
    }
    out.end(&mut chunks);
    let mut back = messages::Stream::new(MODEL, "msg_1", 9);
    let mut stream = BytesMut::new();
    each(&chunks, |data| back.chunk(data, &mut stream));
    back.end(&mut stream);
    let (came, whole) = (gathered(&stream), answer());
    for name in ["content", "stop_reason", "usage"] {
        assert_eq!(came[name], whole[name], "{name}");
    }
}
