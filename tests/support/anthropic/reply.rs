//! What the scripted Anthropic answers: whole messages, and streams event by event.

use crate::support::{Reply, Step};
use serde_json::{Value, json};

/// What `redacted_thinking` holds.
pub const REDACTED: &str = "EmwKAhgBREDACTED";

/// The signature that belongs to a text of thinking. It tells whether the text comes back unchanged.
pub fn signature(thinking: &str) -> String {
    let hash =
        thinking.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("EqQB{hash:016x}==")
}

pub fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

pub fn thinking(thinking: &str) -> Value {
    json!({"type": "thinking", "thinking": thinking, "signature": signature(thinking)})
}

pub fn redacted() -> Value {
    json!({"type": "redacted_thinking", "data": REDACTED})
}

pub fn tool_use(id: &str, name: &str, input: &Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

/// Ordinary usage: 12 tokens in, 5 out.
pub fn usage() -> Value {
    json!({"input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5,
        "service_tier": "standard"})
}

/// Usage with all that has a price of its own: 20 plain, 1500 read from the cache, 400 written for five minutes and 300
/// for an hour, 30 out.
pub fn cached_usage() -> Value {
    json!({"input_tokens": 20, "cache_creation_input_tokens": 700, "cache_read_input_tokens": 1500,
        "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 300},
        "output_tokens": 30, "output_tokens_details": {"thinking_tokens": 18}, "service_tier": "standard"})
}

/// A message of these blocks.
pub fn message(blocks: &[Value], stop: &str, usage: &Value) -> Value {
    json!({"id": "msg_01Up", "type": "message", "role": "assistant", "model": "claude-echo", "content": blocks,
        "stop_reason": stop, "stop_sequence": null, "usage": usage})
}

pub fn whole(blocks: &[Value], stop: &str) -> Reply {
    whole_using(blocks, stop, &usage())
}

pub fn whole_using(blocks: &[Value], stop: &str, usage: &Value) -> Reply {
    let headers =
        [("Content-Type", "application/json"), ("request-id", "req_up1"), ("anthropic-ratelimit-requests-limit", "50")];
    Reply::answer(200, &headers, message(blocks, stop, usage).to_string().as_bytes())
}

/// "Hello über there".
pub fn hello() -> Reply {
    whole(&[text("Hello über there")], "end_turn")
}

pub fn error_body(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_up2"})
}

pub fn error(status: u16, kind: &str, message: &str) -> Reply {
    Reply::json(status, &error_body(kind, message).to_string())
}

pub fn overloaded() -> Reply {
    error(529, "overloaded_error", "Overloaded")
}

/// An event: its name is the type of its data.
pub fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

pub const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// `message_start`. Its `output_tokens` is a guess, as the API's own is.
pub fn start(usage: &Value) -> String {
    let mut usage = usage.clone();
    usage["output_tokens"] = json!(1);
    let mut message = message(&[], "", &usage);
    message["stop_reason"] = Value::Null;
    event(&json!({"type": "message_start", "message": message}))
}

/// The events of one block, its content cut into pieces.
pub fn block(index: usize, block: &Value) -> Vec<String> {
    let delta = |delta: Value| event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
    let whole = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
    let (open, deltas) = match block["type"].as_str() {
        Some("text") => {
            let pieces = cut(&whole("text"), 6).into_iter().map(|p| delta(json!({"type": "text_delta", "text": p})));
            (json!({"type": "text", "text": ""}), pieces.collect())
        }
        Some("thinking") => {
            let pieces = cut(&whole("thinking"), 9).into_iter();
            let mut deltas: Vec<String> =
                pieces.map(|p| delta(json!({"type": "thinking_delta", "thinking": p}))).collect();
            deltas.push(delta(json!({"type": "signature_delta", "signature": whole("signature")})));
            (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
        }
        Some("tool_use") => {
            let input = if block["input"] == json!({}) { String::new() } else { block["input"].to_string() };
            let pieces = [String::new()].into_iter().chain(cut(&input, 7));
            let deltas = pieces.map(|p| delta(json!({"type": "input_json_delta", "partial_json": p}))).collect();
            (json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}}), deltas)
        }
        _ => (block.clone(), Vec::new()),
    };
    let open = event(&json!({"type": "content_block_start", "index": index, "content_block": open}));
    let close = event(&json!({"type": "content_block_stop", "index": index}));
    [vec![open], deltas, vec![close]].concat()
}

fn cut(text: &str, size: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

/// The last two events.
pub fn end(stop: &str, usage: &Value) -> String {
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage});
    event(&delta) + &event(&json!({"type": "message_stop"}))
}

/// The events of a whole stream.
pub fn events(blocks: &[Value], stop: &str, usage: &Value) -> Vec<String> {
    let mut all = vec![start(usage), PING.to_owned()];
    all.extend(blocks.iter().enumerate().flat_map(|(index, b)| block(index, b)));
    all.push(end(stop, usage));
    all
}

/// A stream of these blocks.
pub fn stream(blocks: &[Value], stop: &str) -> Reply {
    stream_using(blocks, stop, &usage())
}

pub fn stream_using(blocks: &[Value], stop: &str, usage: &Value) -> Reply {
    events(blocks, stop, usage).iter().fold(Reply::stream(), |reply, event| reply.send(event)).end_body()
}

/// The same with every byte in a chunk of its own.
pub fn stream_by_bytes(blocks: &[Value], stop: &str) -> Reply {
    let all = events(blocks, stop, &usage()).concat();
    Reply::stream().then(Step::EveryByte(all.into_bytes())).end_body()
}

/// "Hello über there", in pieces.
pub fn pieces() -> Reply {
    stream(&[text("Hello über there")], "end_turn")
}

/// A stream that has said "Hello über" and is not complete.
pub fn begun() -> Reply {
    let mut events = block(0, &text("Hello über"));
    events.pop();
    events.iter().fold(Reply::stream().send(&start(&usage())), |reply, event| reply.send(event))
}

/// The two calls that all tests of tools make.
pub fn calls() -> [Value; 2] {
    [("toolu_oslo", "Oslo"), ("toolu_rome", "Rome")]
        .map(|(id, place)| tool_use(id, "get_weather", &json!({"place": place})))
}

/// What is thought before them.
pub const THOUGHT: &str = "The user wants two places, so I ask for both.";

/// Thinking, a sentence and two calls.
pub fn loop_blocks() -> Vec<Value> {
    let [oslo, rome] = calls();
    vec![thinking(THOUGHT), text("I look."), oslo, rome]
}
