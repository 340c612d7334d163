//! Callers of OpenAI's and Anthropic's formats over upstreams that speak languages of their own.
//!
//! The scripted upstream refuses what the true provider would; what a translation makes of each part of a request and
//! of an answer is told by the golden cases in `tests/fixtures`.

mod azure;
mod bedrock;
mod cohere;
mod databricks;
mod deepgram;
mod elevenlabs;
mod gemini;
mod huggingface;
mod ollama;
mod opencode;
mod replicate;

use crate::support::forms::form;
use crate::support::{Answer, Gate, Gateway, Reply, Step, Upstream, authorization, config, deployment};
use serde_json::{Value, json};

/// A gateway whose model `m` is this upstream model.
fn serve(up: &Upstream, model: &str, base: &str, more: &str) -> Gateway {
    let _ = up;
    Gateway::start(&config("", &[deployment("m", model, base) + more]))
}

fn hello() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
}

/// The request with these members beside its own.
fn with(mut body: Value, more: &Value) -> Value {
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

fn weather() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "description": "Current weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}

/// A conversation with everything that a client may send.
fn everything() -> Value {
    with(
        hello(),
        &json!({"max_tokens": 100, "tools": weather(), "tool_choice": "auto", "stop": ["END"],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}}]},
            {"role": "tool", "tool_call_id": "call_2", "content": "20 C"},
            {"role": "tool", "tool_call_id": "call_1", "content": "4 C"},
            {"role": "user", "content": "Thanks. And now?"},
        ]}),
    )
}

/// The same kind of conversation in Anthropic's format.
fn messages() -> Value {
    json!({"model": "m", "max_tokens": 100, "system": "Be brief.",
    "tools": [{"name": "weather", "description": "Current weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}],
    "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "4 C"}]},
    ]})
}

/// The chunks of a stream, which must end with `[DONE]`.
fn chunks(gateway: &Gateway, body: &Value) -> Vec<Value> {
    let body = with(body.clone(), &json!({"stream": true, "stream_options": {"include_usage": true}}));
    let mut client = gateway.open_chat(body.to_string());
    let head = client.head();
    assert_eq!(head.status(), 200, "{}", String::from_utf8_lossy(&client.rest()));
    let mut events = client.contents();
    assert_eq!(events.pop().as_deref(), Some("data: [DONE]"), "{events:#?}");
    events.iter().map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

/// The text that the chunks make up.
fn text_of(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// The text of an answer, whole and streamed, to callers of both formats: `Hello über there`, for 12 tokens and 5.
fn says_hello(gateway: &Gateway) {
    let told = gateway.chat(hello().to_string()).ok().json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello über there", "{told}");
    assert_eq!(told["choices"][0]["finish_reason"], "stop");
    assert_eq!((&told["usage"]["prompt_tokens"], &told["usage"]["completion_tokens"]), (&json!(12), &json!(5)));
    let told = chunks(gateway, &hello());
    assert_eq!(text_of(&told), "Hello über there");
    assert_eq!(told.last().unwrap()["usage"]["total_tokens"], 17, "{told:#?}");
    gateway.chat(everything().to_string()).ok();
    chunks(gateway, &everything());
    let told = gateway.post("/v1/messages", messages().to_string()).ok().json();
    assert_eq!(told["content"][0]["text"], "Hello über there", "{told}");
    assert_eq!((&told["usage"]["output_tokens"], &told["stop_reason"]), (&json!(5), &json!("end_turn")));
    let mut client = gateway.client();
    client.post("/v1/messages", with(messages(), &json!({"stream": true})).to_string());
    assert_eq!(client.head().status(), 200);
    let events = String::from_utf8(client.rest()).unwrap();
    assert!(events.contains("ber there") && events.contains("message_stop"), "{events}");
    for call in gateway.wait_calls(6) {
        assert_eq!((&call["outcome"], &call["prompt_tokens"]), (&json!("success"), &json!(12)), "{call}");
    }
}

/// A stream of these bytes under this type.
fn streamed(content_type: &str, pieces: &[&[u8]]) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let start = Reply(vec![crate::support::Step::Raw(head.into_bytes())]);
    let reply = pieces.iter().fold(start, |reply, piece| reply.then(crate::support::Step::EveryByte(piece.to_vec())));
    reply.end_body()
}

/// A gateway whose model `m` is this one of the provider; with these prices, or those of the tables.
fn priced(up: Upstream, provider: &str, model: &str, prices: &str) -> (Upstream, Gateway) {
    let info = if prices.is_empty() { String::new() } else { format!("info = {{ {prices} }}\n") };
    let gateway = serve(&up, &format!("{provider}/{model}"), up.origin(), &info);
    (up, gateway)
}

/// Silence: 16 kHz, 16 bit, mono.
fn wav(seconds: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend_from_slice(&16_000u32.to_le_bytes());
    file.extend_from_slice(&32_000u32.to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(32_000 * seconds as u32).to_le_bytes());
    file.resize(file.len() + 32_000 * seconds, 7);
    file
}

fn transcribes(gateway: &Gateway, texts: &[(&str, &str)], sound: &[u8]) -> Answer {
    let texts: Vec<(&str, &str)> = [("model", "m")].iter().chain(texts).copied().collect();
    let (kind, body) = form(&texts, &[("file", "a.wav", sound)]);
    let (name, key) = authorization();
    gateway.call("POST", "/v1/audio/transcriptions", &[(name, &key), ("Content-Type", &kind)], &body)
}

/// Has `Grüße!` spoken; the first bytes are there while the rest is not made.
fn sends_speech(over: impl FnOnce(Upstream) -> (Upstream, Gateway), voice: &str) -> (Upstream, Gateway) {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = Reply(vec![Step::Raw(head.into()), Step::Chunk(vec![0xff, 0xfb, 0x90, 0])]);
    let (up, gateway) = over(Upstream::new(reply.wait(&gate).then(Step::Chunk(vec![1, 2])).end_body()));
    let mut client = gateway.client();
    let (name, key) = authorization();
    let ask = json!({"model": "m", "input": "Grüße!", "voice": voice});
    client.post_with("/v1/audio/speech", &[(name, &key), ("Content-Type", "application/json")], ask.to_string());
    let head = client.head();
    assert_eq!((head.status(), head.header("content-type").as_deref()), (200, Some("audio/mpeg")));
    assert_eq!(client.chunk().unwrap().unwrap(), [0xff, 0xfb, 0x90, 0]);
    gate.open();
    assert_eq!(client.chunk().unwrap().unwrap(), [1, 2]);
    drop(client);
    (up, gateway)
}
