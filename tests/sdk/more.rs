//! The official OpenAI SDKs as callers of what is no chat: audio, pictures, embeddings, Responses.

use super::{MODEL, Play, Sdk, listed, pieces};
use crate::support::forms::parts;
use crate::support::mcp::{Kind, Outcome, ToolServer, tool};
use crate::support::reply::{delta, event};
use crate::support::{Reply, Step, Upstream, model};
use serde_json::json;

/// Each scenario stands for one test per SDK.
macro_rules! scenarios {
    ($($name:ident: $replies:expr;)*) => {
        const ALL: &[&str] = &[$(stringify!($name)),*];

        mod python {
            use super::*;
            $(#[test] fn $name() { holds(Sdk::Python, stringify!($name), $replies); })*
        }

        mod node {
            use super::*;
            $(#[test] fn $name() { holds(Sdk::Node, stringify!($name), $replies); })*
        }
    };
}

scenarios! {
    transcription: vec![Reply::json(200, r#"{"text":"hello","usage":{"type":"duration","seconds":2}}"#)];
    transcription_as_text: vec![Reply::answer(200, &[("Content-Type", "text/plain")], b"hello\n")];
    transcription_streamed: vec![transcript()];
    translation: vec![Reply::json(200, r#"{"text":"hello"}"#)];
    speech: vec![spoken()];
    picture: vec![pictures()];
    picture_edited: vec![pictures()];
    embeddings: vec![vectors(&[[1.0, -0.5], [0.0, 0.25]]), vectors(&[[1.0, -0.5]])];
    response: vec![Reply::whole()];
    response_streamed: vec![pieces()];
    response_with_tools: vec![uses_a_tool(), pieces(), Reply::whole()];
    response_in_the_background: vec![Reply::whole()];
    refused: vec![Reply::error(400, "invalid_request_error", None, "That is no sound.")];
}

#[test]
fn every_scenario_is_played() {
    for sdk in [Sdk::Python, Sdk::Node] {
        let Some(listed) = listed(sdk, "more") else { continue };
        let mut played = ALL.to_vec();
        played.sort_unstable();
        assert_eq!(listed, played);
    }
}

fn holds(sdk: Sdk, scenario: &str, replies: Vec<Reply>) {
    let calls = replies.len();
    let upstream = Upstream::queue(replies).rules(|rules| rules.is_free = true);
    // Its tools are there for whoever asks for them.
    let house = house();
    let entry = model(MODEL, &upstream) + &format!("[mcp_servers.house]\nurl = \"{}\"\n", house.url());
    let Some(play) = Play::over(sdk, "more", scenario, upstream, entry, calls) else { return };
    let (upstream, gateway) = play.ends();
    gateway.wait_calls(calls);
    let seen = upstream.requests();
    let is_form = seen[0].header("content-type").is_some_and(|kind| kind.starts_with("multipart/"));
    if is_form {
        let parts = parts(&seen[0]);
        assert!(parts.iter().any(|part| part.name == "model" && part.content == b"sdk-model-up"));
        let files: Vec<_> = parts.iter().filter_map(|part| part.filename.clone()).collect();
        let expected: &[&str] =
            if scenario == "picture_edited" { &["one.png", "two.png", "mask.png"] } else { &["speech.wav"] };
        assert_eq!(files, expected);
    }
}

/// A server of tools.
pub fn house() -> ToolServer {
    ToolServer::new(Kind::Legacy { sessions: false }, vec![tool("look", &[])], |_, _| {
        Outcome::Text("milk and bread".to_owned())
    })
}

/// A turn that calls the tool of the house and waits for its result.
pub fn uses_a_tool() -> Reply {
    let call =
        json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "house-look", "arguments": "{}"}});
    let pieces =
        [delta(json!({"role": "assistant", "tool_calls": [call]}), None), delta(json!({}), Some("tool_calls"))];
    pieces.iter().fold(Reply::stream(), |reply, piece| reply.send(piece)).send("data: [DONE]\n\n").end_body()
}

fn transcript() -> Reply {
    let delta = |text: &str| event(&json!({"type": "transcript.text.delta", "delta": text}));
    let done = event(&json!({"type": "transcript.text.done", "text": "hello"}));
    Reply::stream().send(&delta("hel")).send(&delta("lo")).send(&done).send("data: [DONE]\n\n").end_body()
}

fn spoken() -> Reply {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    Reply(vec![Step::Raw(head.into()), Step::Chunk(b"one".to_vec()), Step::Chunk(b"two".to_vec())]).end_body()
}

fn pictures() -> Reply {
    Reply::json(200, r#"{"created":1,"data":[{"b64_json":"AA=="}]}"#)
}

fn vectors(all: &[[f64; 2]]) -> Reply {
    let data: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}))
        .collect();
    let usage = json!({"prompt_tokens": 2, "total_tokens": 2});
    Reply::json(200, &json!({"object": "list", "model": "m", "data": data, "usage": usage}).to_string())
}
