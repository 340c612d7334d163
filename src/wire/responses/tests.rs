//! Golden cases, and what must hold for every input.
//!
//! A folder in `tests/fixtures/responses` is one case; the files in it say of what kind: `request.json` -> `chat.json`,
//! `answer.json` -> `response.json`, `chat.sse` -> `responses.sse`. A case that must fail has `error.json` instead of its
//! second file. With `WRITE_FIXTURES=1` in the environment the second files are written instead of compared.

mod order;

use super::*;
use crate::tap::Step;
use crate::wire::sse::{self, Content, Events};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ID: &str = "0badcafe";

/// The folders of a kind of fixtures that hold a file of that name.
fn cases(kind: &str, file: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(kind);
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = folders.filter(|folder| folder.join(file).exists()).collect();
    found.sort();
    assert!(!found.is_empty(), "no case has a {file}");
    found
}

fn read(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap()
}

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

fn echo(request: &str) -> Echo {
    to_chat(request.as_bytes(), Vec::new()).unwrap().echo
}

fn stream() -> Stream {
    let echo = echo(r#"{"model":"m","input":"x","tools":[{"type":"custom","name":"patch"}]}"#);
    Stream::new(echo, ID, 1_763_600_000, "asked", 7)
}

fn end(stream: &mut Stream, out: &mut BytesMut) {
    stream.end(out);
    if let Some(error) = stream.failure() {
        let last = stream.failed(&error);
        out.extend_from_slice(&last);
    }
}

/// Everything the client gets for the bytes of a stream.
fn translate(chunks: impl IntoIterator<Item = Bytes>) -> String {
    let mut events = Events::new(1 << 20);
    let mut stream = stream();
    let mut out = BytesMut::new();
    for chunk in chunks {
        events.push(chunk);
        while let Some(event) = events.take().unwrap() {
            if let Content::Data(data) = sse::content(&event) {
                stream.chunk(&data, &mut out);
            }
        }
    }
    end(&mut stream, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn requests_become_chats() {
    for folder in cases("responses", "request.json") {
        match to_chat(read(&folder, "request.json").as_bytes(), Vec::new()) {
            Ok(asked) => check(&folder, "chat.json", &pretty(&asked.chat)),
            Err(error) => check(&folder, "error.json", &pretty(error.body().to_string().as_bytes())),
        }
    }
}

#[test]
fn answers_become_responses() {
    for folder in cases("responses", "answer.json") {
        let echo = echo(
            r#"{"model":"m","input":"x","temperature":0.5,"metadata":{"a":"b"},"tools":[{"type":"custom","name":"patch"}]}"#,
        );
        match from_chat(read(&folder, "answer.json").as_bytes(), &echo, ID, 1_763_600_000) {
            Ok(told) => check(&folder, "response.json", &pretty(&told)),
            Err(error) => check(&folder, "error.json", &pretty(error.body().to_string().as_bytes())),
        }
    }
}

#[test]
fn streams_become_events() {
    for folder in cases("responses", "chat.sse") {
        let told = translate([read(&folder, "chat.sse").into()]);
        order::check(&told).unwrap_or_else(|e| panic!("{}: {e}\n{told}", folder.display()));
        check(&folder, "responses.sse", &told);
    }
}

#[test]
fn a_response_goes_on_with_its_history_and_keeps_signed_thinking() {
    let answer = json!({"model": "m", "choices": [{"finish_reason": "tool_calls", "message": {
        "content": null, "reasoning_content": "hm\n", "thinking_blocks": [{"type": "thinking", "thinking": "hm\n", "signature": "s\"1"}],
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}]});
    let told = from_chat(answer.to_string().as_bytes(), &Echo::default(), ID, 1).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    let mut history = vec![json!({"role": "user", "content": "q"})];
    history.extend(told["output"].as_array().unwrap().iter().cloned());
    let next = r#"{"model":"m","input":[{"type":"function_call_output","call_id":"call_1","output":"7"}]}"#;
    let asked = to_chat(next.as_bytes(), history).unwrap();
    assert_eq!((asked.items.len(), asked.old), (4, 3));
    let chat: Value = serde_json::from_slice(&asked.chat).unwrap();
    let expected = json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "reasoning_content": "hm\n",
         "thinking_blocks": [{"type": "thinking", "thinking": "hm\n", "signature": "s\"1"}],
         "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}],
         "content": null},
        {"role": "tool", "tool_call_id": "call_1", "content": "7"}
    ]);
    assert_eq!(chat["messages"], expected);
}

#[test]
fn a_native_answer_tells_its_usage() {
    let body =
        br#"{"id":"resp_1","object":"response","status":"completed","error":null,"output":[],"service_tier":"flex",
        "usage":{"input_tokens":20,"input_tokens_details":{"cached_tokens":5},"output_tokens":9,
        "output_tokens_details":{"reasoning_tokens":4},"total_tokens":29}}"#;
    let told = native(body);
    let usage = told.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (20, 5));
    assert_eq!((usage.completion_tokens, usage.reasoning_tokens), (9, 4));
    assert_eq!((told.id.as_deref(), told.is_error), (Some("resp_1"), false));
    assert!(native(br#"{"error":{"message":"x"}}"#).is_error);
    assert!(native(b"<html>").is_error);
}

/// One chunk of a chat, sensible or not.
fn chunk() -> impl Strategy<Value = String> {
    let text = prop_oneof![Just(String::new()), "[a-z\"\\\\\n é😀]{1,6}".prop_map(|text| text)];
    let call = (
        prop_oneof![Just(None), (0u8..3).prop_map(Some)],
        prop_oneof![Just(None), Just(Some("")), Just(Some("a")), Just(Some("b:1"))],
        prop_oneof![Just(None), Just(Some("f")), Just(Some("patch"))],
        prop_oneof![Just(json!(null)), Just(json!("")), Just(json!("{\"input\":")), Just(json!("\"1\"}")), Just(json!({"a": 1}))],
    )
        .prop_map(|(index, id, name, arguments)| {
            json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
    let note = json!([{"type": "url_citation", "url_citation": {"url": "u", "start_index": 0, "end_index": 1}}, 7]);
    let delta = prop_oneof![
        4 => text.clone().prop_map(|t| json!({"content": t})),
        2 => text.clone().prop_map(|t| json!({"reasoning_content": t})),
        1 => text.clone().prop_map(|t| json!({"refusal": t})),
        1 => (text.clone(), text.clone()).prop_map(|(t, s)| json!({"reasoning_content": t,
            "thinking_blocks": [{"type": "thinking", "thinking": t, "signature": s}]})),
        1 => text.prop_map(|t| json!({"thinking_blocks": [{"type": "redacted_thinking", "data": t}]})),
        1 => Just(json!({"annotations": note})),
        5 => prop::collection::vec(call, 1..3).prop_map(|calls| json!({"tool_calls": calls})),
        1 => Just(json!({})),
    ];
    let finish = prop_oneof![8 => Just(Value::Null), 1 => Just(json!("stop")), 1 => Just(json!("length"))];
    prop_oneof![
        20 => (delta, finish).prop_map(|(delta, finish)| {
            let logprobs = json!({"content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}]});
            json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}]}).to_string()
        }),
        1 => Just(json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}).to_string()),
        1 => prop_oneof![Just("[DONE]"), Just("{\"error\":{\"message\":\"x\"}}"), Just("{"), Just("[]")].prop_map(str::to_owned),
    ]
}

fn cut(stream: &str, cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = Bytes::from(stream.to_owned());
    let mut chunks: Vec<Bytes> = cuts.iter().map(|cut| rest.split_to((*cut).min(rest.len()))).collect();
    chunks.push(rest);
    chunks
}

/// Changes one byte of a file.
fn changed(kind: &str, file: &str, which: Index, at: Index, byte: u8) -> Vec<u8> {
    let cases = cases(kind, file);
    let mut bytes = std::fs::read(which.get(&cases).join(file)).unwrap();
    let at = at.index(bytes.len());
    bytes[at] = byte;
    bytes
}

proptest! {
    #[test]
    fn every_sequence_of_chunks_gives_events_in_order(chunks in prop::collection::vec(chunk(), 0..30)) {
        let (mut stream, mut out) = (stream(), BytesMut::new());
        for chunk in &chunks {
            stream.chunk(chunk.as_bytes(), &mut out);
        }
        end(&mut stream, &mut out);
        let told = String::from_utf8(out.to_vec()).unwrap();
        let checked = order::check(&told);
        prop_assert!(checked.is_ok(), "{checked:?}\n{told}");
    }

    #[test]
    fn any_chunking_gives_the_same_events(which in any::<Index>(), cuts in prop::collection::vec(1usize..90, 0..60)) {
        let cases = cases("messages", "chat.sse");
        let stream = read(which.get::<PathBuf>(&cases), "chat.sse");
        prop_assert_eq!(translate(cut(&stream, &cuts)), translate([stream.into()]));
    }

    #[test]
    fn changed_streams_keep_their_order(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>()) {
        let told = translate([changed("messages", "chat.sse", which, at, byte).into()]);
        let checked = order::check(&told);
        prop_assert!(checked.is_ok(), "{checked:?}\n{told}");
    }

    #[test]
    fn changed_requests_and_answers_never_panic(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>()) {
        let body = changed("responses", "request.json", which, at, byte);
        if let Ok(asked) = to_chat(&body, Vec::new()) {
            prop_assert!(serde_json::from_slice::<Value>(&asked.chat).is_ok());
        }
        let body = changed("messages", "answer.json", which, at, byte);
        if let Ok(told) = from_chat(&body, &Echo::default(), ID, 1) {
            prop_assert!(serde_json::from_slice::<Value>(&told).is_ok(), "{}", String::from_utf8_lossy(&told));
        }
        let _ = native(&body);
    }

    #[test]
    fn a_native_stream_is_watched_alike_in_any_chunking(cuts in prop::collection::vec(1usize..90, 0..60)) {
        let tools = cases("responses", "chat.sse").into_iter().find(|case| case.ends_with("stream-tools")).unwrap();
        let stream = translate([read(&tools, "chat.sse").into()]);
        let watched = |chunks: Vec<Bytes>| {
            let (mut watch, mut out) = (Watch::new(Arc::default()), BytesMut::new());
            for chunk in chunks {
                watch.push(chunk);
                loop {
                    match watch.step() {
                        Step::Forward(event) => out.extend_from_slice(&event),
                        Step::Finish(event) => {
                            out.extend_from_slice(&event);
                            return (out, watch.usage, watch.answer_id, true);
                        }
                        Step::Fail(_) => return (out, watch.usage, watch.answer_id, false),
                        Step::More => break,
                    }
                }
            }
            let ended = matches!(watch.end(), Step::Finish(_));
            (out, watch.usage, watch.answer_id, ended)
        };
        let told = watched(cut(&stream, &cuts));
        prop_assert!(told.0[..] == *stream.as_bytes());
        prop_assert!(told.3 && told.1.is_some() && told.2.as_deref() == Some("resp_0badcafe"));
    }
}
