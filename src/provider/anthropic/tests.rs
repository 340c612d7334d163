//! Golden cases in `tests/fixtures/anthropic/`, one folder each; a case has any of these:
//!
//! - `request.json` (with `facts.json`) becomes `upstream.json` and needs `betas.json`, or is refused with `refused.json`
//! - `answer.json` becomes `chat.json`, `stream.sse` becomes `chat.sse`, both in the context of the request if there is
//!   one
//! - `error.json`, a status and a body, becomes `told.json`
//!
//! With `GATEWAY_BLESS` set the expectations are written instead; look through them before they are committed.

use super::*;
use crate::error::{Origin, from_upstream};
use crate::tap::{Step, Tap};
use crate::wire::sse::{Content, Events, content};
use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

const CREATED: u64 = 1_763_600_000;

struct Case {
    name: String,
    folder: PathBuf,
}

impl Case {
    fn read(&self, file: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(file)).ok()
    }

    fn facts(&self) -> (Value, Value) {
        let facts = self.read("facts.json").map_or(json!({}), |facts| serde_json::from_slice(&facts).unwrap());
        let request = self.read("request.json").map_or(json!({}), |facts| serde_json::from_slice(&facts).unwrap());
        (facts, request["model"].clone())
    }

    fn request(&self) -> Option<crate::error::Result<Foreign>> {
        let (facts, model) = self.facts();
        let facts = Facts {
            model: model.as_str().unwrap_or_default(),
            drop_params: facts["drop_params"] == true,
            max_output: facts["max_output"].as_u64(),
        };
        self.read("request.json").map(|body| request(&body, &facts))
    }

    fn context(&self) -> Context {
        self.request().and_then(Result::ok).map(|foreign| foreign.context).unwrap_or_default()
    }

    fn expect(&self, file: &str, made: &str) {
        let path = self.folder.join(file);
        if std::env::var_os("GATEWAY_BLESS").is_some() {
            std::fs::write(&path, made).unwrap();
            return;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(made, expected, "{}/{file}", self.name);
    }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/anthropic");
    let mut cases: Vec<Case> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|folder| Case { name: folder.file_name().unwrap().to_string_lossy().into_owned(), folder })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
});

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn pretty_bytes(body: &[u8]) -> String {
    pretty(&serde_json::from_slice(body).unwrap())
}

/// All frames of a stream that comes in these chunks.
fn run(chunks: impl IntoIterator<Item = Bytes>, context: Context) -> String {
    let (mut stream, mut events) = (Stream::new(context, CREATED), Events::new(1 << 20));
    let mut out = BytesMut::new();
    for chunk in chunks {
        events.push(chunk);
        while let Some(event) = events.take().unwrap() {
            if let Content::Data(data) = content(&event) {
                stream.event(&data, &mut out);
            }
        }
    }
    stream.end(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn every_case_is_as_expected() {
    assert!(CASES.len() >= 25);
    for case in CASES.iter() {
        let mut seen = false;
        match case.request() {
            Some(Ok(foreign)) => {
                seen = true;
                case.expect("upstream.json", &pretty_bytes(&foreign.body));
                if !foreign.betas.is_empty() || case.read("betas.json").is_some() {
                    case.expect("betas.json", &pretty(&json!(foreign.betas)));
                }
            }
            Some(Err(error)) => {
                seen = true;
                case.expect("refused.json", &pretty(&error.body()));
            }
            None => (),
        }
        if let Some(body) = case.read("answer.json") {
            seen = true;
            match answer(&body, &case.context(), CREATED) {
                Ok(chat) => case.expect("chat.json", &pretty_bytes(&chat)),
                Err(error) => case.expect("told.json", &pretty(&error.body())),
            }
        }
        if let Some(stream) = case.read("stream.sse") {
            seen = true;
            case.expect("chat.sse", &run([stream.into()], case.context()));
        }
        if let Some(error) = case.read("error.json") {
            seen = true;
            let error: Value = serde_json::from_slice(&error).unwrap();
            let status = StatusCode::from_u16(u16::try_from(error["status"].as_u64().unwrap()).unwrap()).unwrap();
            let body = error["body"].to_string();
            let told = from_upstream(&Origin::new("anthropic", []), status, &super::error(body.as_bytes()));
            let told = json!({"status": told.status().as_u16(), "body": told.body()});
            case.expect("told.json", &pretty(&told));
        }
        assert!(seen, "{} holds nothing", case.name);
    }
}

/// The frames mean to their reader what they should: whole, cut, or failed.
#[test]
fn the_reader_of_the_frames_sees_how_a_stream_ended() {
    for case in CASES.iter() {
        let Some(stream) = case.read("stream.sse") else { continue };
        let mut tap = Tap::new(Arc::default(), true, crate::route::Tariff::default());
        tap.push(run([stream.clone().into()], case.context()).into());
        let last = loop {
            match tap.step() {
                Step::Forward(_) => (),
                Step::More => break tap.end(),
                step => break step,
            }
        };
        let text = String::from_utf8(stream).unwrap();
        if text.contains("\"error\"") || !text.contains("message_stop") {
            assert!(matches!(last, Step::Fail(_)), "{}", case.name);
        } else {
            assert!(matches!(last, Step::Finish(_)), "{}", case.name);
            assert!(tap.usage.is_some(), "{}", case.name);
        }
    }
}

/// Whatever is cut off, the stream is not taken for whole.
#[test]
fn a_cut_stream_never_ends_well() {
    for case in CASES.iter() {
        let Some(stream) = case.read("stream.sse") else { continue };
        let events = String::from_utf8(stream).unwrap();
        let events: Vec<&str> = events.split_inclusive("\n\n").collect();
        for end in 0..events.len() {
            let cut = events[..end].concat();
            if cut.contains("message_stop") {
                break;
            }
            assert!(!run([cut.into()], case.context()).contains("[DONE]"), "{}", case.name);
        }
    }
}

#[test]
fn the_callers_numbers_and_spelling_of_arguments_survive() {
    let body = json!({"model": "claude-opus-4-5", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "function",
            "function": {"name": "f", "arguments": " {\"n\": 12345678901234567890123, \"x\":1.10} "}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]});
    let facts = Facts { model: "claude-opus-4-5", drop_params: false, max_output: None };
    let foreign = request(body.to_string().as_bytes(), &facts).unwrap();
    let text = String::from_utf8(foreign.body).unwrap();
    assert!(text.contains(r#""input":{"n": 12345678901234567890123, "x":1.10}"#), "{text}");
}

#[test]
fn an_hour_in_the_cache_is_a_beta() {
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]});
    let facts = Facts { model: "claude-opus-4-5", drop_params: false, max_output: None };
    let betas = |body: &Value| request(body.to_string().as_bytes(), &facts).unwrap().betas;
    assert_eq!(betas(&body), ["extended-cache-ttl-2025-04-11"]);
    let said = json!({"messages": [{"role": "user", "content": "\"ttl\":\"1h\""}]});
    assert!(betas(&said).is_empty());
}

#[test]
fn deep_nesting_is_an_error() {
    let facts = Facts { model: "claude-opus-4-5", drop_params: false, max_output: None };
    let deep = format!("{{\"messages\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(request(deep.as_bytes(), &facts).is_err());
    let deep = format!("{{\"type\":\"message\",\"content\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(answer(deep.as_bytes(), &Context::default(), CREATED).is_err());
}

/// A file of a case, with some of its bytes changed.
fn mutated(file: &'static str) -> impl Strategy<Value = (usize, Vec<u8>)> {
    let with: Vec<usize> = (0..CASES.len()).filter(|case| CASES[*case].read(file).is_some()).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..6);
    (prop::sample::select(with), edits).prop_map(move |(case, edits)| {
        let mut bytes = CASES[case].read(file).unwrap_or_default();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                // Structure is hit more often than by chance.
                2 if at < bytes.len() => bytes[at] = b"{}[]\",:0n\\"[usize::from(byte) % 10],
                _ if at < bytes.len() => bytes[at] = byte,
                _ => (),
            }
        }
        (case, bytes)
    })
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_frames(which in any::<prop::sample::Index>(), cuts in prop::collection::vec(1usize..200, 0..60)) {
        let streams: Vec<&Case> = CASES.iter().filter(|case| case.read("stream.sse").is_some()).collect();
        let case = streams[which.index(streams.len())];
        let whole = Bytes::from(case.read("stream.sse").unwrap());
        let (mut rest, mut chunks) = (whole.clone(), Vec::new());
        for cut in cuts {
            if rest.is_empty() { break; }
            chunks.push(rest.split_to(cut.min(rest.len())));
        }
        chunks.push(rest);
        prop_assert_eq!(run(chunks, case.context()), run([whole], case.context()));
    }

    #[test]
    fn mutated_requests_never_panic((case, bytes) in mutated("request.json"), drop_params in any::<bool>()) {
        let model = CASES[case].facts().1;
        let facts = Facts { model: model.as_str().unwrap_or_default(), drop_params, max_output: Some(8192) };
        if let Ok(foreign) = request(&bytes, &facts) {
            let sent: Value = serde_json::from_slice(&foreign.body).unwrap();
            prop_assert_eq!(&sent["messages"][0]["role"], "user");
            prop_assert!(sent["max_tokens"].is_u64());
        }
    }

    #[test]
    fn mutated_answers_never_panic((case, bytes) in mutated("answer.json")) {
        if let Ok(chat) = answer(&bytes, &CASES[case].context(), CREATED) {
            prop_assert!(serde_json::from_slice::<Value>(&chat).is_ok());
        }
        let _ = super::error(&bytes);
    }

    #[test]
    fn mutated_streams_give_frames_of_json((case, bytes) in mutated("stream.sse")) {
        let (mut stream, mut events) = (Stream::new(CASES[case].context(), CREATED), Events::new(1 << 20));
        let mut out = BytesMut::new();
        events.push(bytes.into());
        while let Ok(Some(event)) = events.take() {
            if let Content::Data(data) = content(&event) {
                stream.event(&data, &mut out);
            }
        }
        stream.end(&mut out);
        for frame in out[..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && *line != b"data: [DONE]") {
            let frame = frame.strip_prefix(b"data: ").unwrap();
            // A lone half of a surrogate pair passes as it came: readers replace it.
            let halves = frame.windows(3).any(|w| w.eq_ignore_ascii_case(b"\\ud"));
            prop_assert!(halves || serde_json::from_slice::<Value>(frame).is_ok());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let facts = Facts { model: "claude-opus-4-5", drop_params: true, max_output: None };
        let _ = request(&bytes, &facts);
        let _ = answer(&bytes, &Context::default(), CREATED);
        let _ = super::error(&bytes);
        let mut stream = Stream::new(Context::default(), CREATED);
        stream.event(&bytes, &mut BytesMut::new());
    }
}
