//! Golden cases, and what must hold for every input.
//!
//! A folder in `tests/fixtures/messages` is one case; the files in it say of what kind:
//! `request.json` -> `chat.json`, `answer.json` -> `message.json`, `chat.sse` -> `messages.sse`,
//! `native.sse` -> `watched.json`. A case that must fail has `error.json` instead of its second file.
//! With `WRITE_FIXTURES=1` in the environment the second files are written instead of compared.

mod order;
mod random;

use super::*;
use crate::error::Error;
use crate::tap::Step;
use crate::wire::sse::{self, Content, Events};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MODEL: &str = "claude-\"house\"";
const ID: &str = "msg_1";

/// The folders that hold a file of that name.
fn cases(file: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages");
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = folders.filter(|folder| folder.join(file).exists()).collect();
    found.sort();
    assert!(!found.is_empty(), "no case has a {file}");
    found
}

fn read(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap()
}

/// Compares with what the case's file holds.
fn check(folder: &Path, file: &str, told: &str) {
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        std::fs::write(folder.join(file), told).unwrap();
    }
    let path = folder.join(file);
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; told: {told}", path.display()));
    assert_eq!(told, expected, "{}", path.display());
}

fn pretty(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

fn check_result(folder: &Path, file: &str, result: Result<Vec<u8>, Error>) {
    match result {
        Ok(told) => check(folder, file, &pretty(&told)),
        Err(error) => check(folder, "error.json", &pretty(error.body().to_string().as_bytes())),
    }
}

/// Ends a stream, and writes why it failed if it did.
fn end(stream: &mut Stream, out: &mut BytesMut) {
    stream.end(out);
    if let Some(error) = stream.failure() {
        out.extend_from_slice(&error_event(&error, ""));
    }
}

/// Everything the client gets for the chunks of a stream.
fn translate(chunks: impl IntoIterator<Item = Bytes>) -> String {
    let mut events = Events::new(1 << 20);
    let mut stream = Stream::new(MODEL, ID, 7);
    let mut out = BytesMut::new();
    let mut see = |event: &[u8], out: &mut BytesMut| {
        if let Content::Data(data) = sse::content(event) {
            stream.chunk(&data, out);
        }
    };
    for chunk in chunks {
        events.push(chunk);
        while let Some(event) = events.take().unwrap() {
            see(&event, &mut out);
        }
    }
    let rest = events.finish();
    see(&rest, &mut out);
    end(&mut stream, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// What a watched stream comes to, for a client that gets all of it.
fn watch(chunks: impl IntoIterator<Item = Bytes>) -> (Vec<u8>, Value) {
    let mut watch = Watch::new(Arc::default());
    let mut out = Vec::new();
    let mut last = None;
    'all: for chunk in chunks {
        watch.push(chunk);
        loop {
            match watch.step() {
                Step::More => break,
                Step::Forward(event) => out.extend_from_slice(&event),
                step => {
                    last = Some(step);
                    break 'all;
                }
            }
        }
    }
    let how = match last.unwrap_or_else(|| watch.end()) {
        Step::Finish(event) => {
            out.extend_from_slice(&event);
            json!("finished")
        }
        Step::Fail(error) => error_body(&error, "req_1"),
        step => panic!("{step:?}"),
    };
    let usage = watch.usage.map(|u| {
        json!({"prompt": u.prompt_tokens, "completion": u.completion_tokens, "cached": u.cached_tokens,
            "cache_write": u.cache_write_tokens, "cache_write_1h": u.cache_write_1h_tokens, "reasoning": u.reasoning_tokens})
    });
    (out, json!({"how": how, "usage": usage, "seen": watch.seen_tokens()}))
}

#[test]
fn requests_become_chat_requests() {
    for folder in cases("request.json") {
        check_result(&folder, "chat.json", to_chat(read(&folder, "request.json").as_bytes()));
        estimate_tokens(read(&folder, "request.json").as_bytes()).unwrap();
    }
}

#[test]
fn answers_become_messages() {
    for folder in cases("answer.json") {
        check_result(&folder, "message.json", from_chat(read(&folder, "answer.json").as_bytes(), MODEL, ID));
    }
}

#[test]
fn streams_become_events_in_order() {
    for folder in cases("chat.sse") {
        let told = translate([read(&folder, "chat.sse").into()]);
        order::check(&told).unwrap_or_else(|what| panic!("{}: {what}", folder.display()));
        check(&folder, "messages.sse", &told);
    }
}

#[test]
fn native_streams_go_on_untouched() {
    for folder in cases("native.sse") {
        let stream = read(&folder, "native.sse");
        let (out, told) = watch([stream.clone().into()]);
        if told["how"] == "finished" {
            assert!(out.starts_with(stream.trim_end().as_bytes()), "{}", folder.display());
        } else {
            assert!(stream.as_bytes().starts_with(&out), "{}", folder.display());
        }
        check(&folder, "watched.json", &pretty(told.to_string().as_bytes()));
    }
}

#[test]
fn the_same_answer_streamed_and_whole_says_the_same() {
    let whole = br#"{"choices":[{"message":{"role":"assistant","content":"Hi","reasoning":"hm","tool_calls":[
        {"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}]}"#;
    let message: Value = serde_json::from_slice(&from_chat(whole, MODEL, ID).unwrap()).unwrap();
    let delta = String::from_utf8_lossy(whole).replace("\"message\"", "\"delta\"").replace('\n', "");
    let streamed = order::check(&translate([format!("data: {delta}\n\ndata: [DONE]\n\n").into()])).unwrap();
    assert_eq!(streamed.content, message["content"].as_array().unwrap().clone());
    assert_eq!(streamed.stop_reason, message["stop_reason"]);
}

#[test]
fn a_thinking_turn_comes_back_as_it_went() {
    let blocks = json!([{"type": "thinking", "thinking": "hm\n", "signature": "Eq=="}, {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]);
    let request = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": blocks}]});
    let chat: Value = serde_json::from_slice(&to_chat(request.to_string().as_bytes()).unwrap()).unwrap();
    let answer = json!({"choices": [{"message": chat["messages"][0], "finish_reason": "tool_calls"}]});
    let message = from_chat(answer.to_string().as_bytes(), MODEL, ID).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&message).unwrap()["content"], blocks);
}

#[test]
fn quiet_connections_get_a_ping() {
    assert_eq!(PING, b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
}
