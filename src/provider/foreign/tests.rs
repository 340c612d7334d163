//! Golden cases in `tests/fixtures/LANGUAGE/`, one folder each; a case has any of these:
//!
//! - `request.json` (with `facts.json`) becomes `upstream.json`, or is refused with `refused.json`
//! - `answer.json` becomes `chat.json`, or is told as `told.json`; `stream.txt` becomes `chat.sse`; both in the context
//!   of the request if there is one
//! - `error.json`, a status and a body, becomes `told.json`
//!
//! A `stream.txt` is the upstream's stream; of Amazon's binary one each line is a message: its type, a space, its
//! payload. With `GATEWAY_BLESS` set the expectations are written instead; look through them before they are committed.

use super::*;
use crate::tap::{Step, Tap};
use crate::wire::eventstream;
use crate::wire::feed::Feed;
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// The folder of fixtures of each language, the provider and the model that a case means unless it says otherwise.
const LANGUAGES: &[(Language, &str, &str, &str, usize)] = &[
    (Language::Gemini, "gemini", "gemini", "gemini-2.5-flash", 40),
    (Language::Bedrock, "bedrock", "bedrock", "amazon.nova-pro-v1:0", 39),
    (Language::Cohere, "cohere", "cohere_chat", "command-a-03-2025", 27),
    (Language::Ollama, "ollama", "ollama", "qwen3:8b", 28),
    (Language::Replicate, "replicate", "replicate", "meta/meta-llama-3-8b-instruct", 34),
];

struct Case {
    name: String,
    language: Language,
    provider: &'static str,
    model: &'static str,
    folder: PathBuf,
}

impl Case {
    fn read(&self, file: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(file)).ok()
    }

    fn json(&self, file: &str) -> Value {
        self.read(file).map_or(json!({}), |text| serde_json::from_slice(&text).unwrap())
    }

    fn stream(&self) -> Option<Bytes> {
        let text = self.read("stream.txt")?;
        if self.language.framing() != Framing::EventStream {
            return Some(text.into());
        }
        let text = String::from_utf8(text).unwrap();
        let message = |line: &str| {
            let (kind, payload) = line.split_once(' ').unwrap();
            let headers: &[(&str, &str)] = match kind.split_once('!') {
                Some((_, kind)) => &[(":exception-type", kind), (":message-type", "exception")],
                None => &[(":event-type", kind), (":message-type", "event")],
            };
            eventstream::write(headers, payload.as_bytes())
        };
        Some(text.lines().filter(|line| !line.is_empty()).flat_map(message).collect::<Vec<u8>>().into())
    }

    fn translate(&self, body: &[u8], drop_params: bool) -> Result<Foreign> {
        let (facts, request) = (self.json("facts.json"), self.json("request.json"));
        let provider = match facts["provider"].as_str() {
            Some(name) => crate::provider::compatible::find(name).unwrap().name,
            None => self.provider,
        };
        let facts = Facts {
            provider,
            model: request["model"].as_str().unwrap_or(self.model),
            streams: request["stream"] == true,
            drop_params: drop_params || facts["drop_params"] == true,
            max_output: facts["max_output"].as_u64(),
            id: "0197c0de",
            created: 1_763_600_000,
        };
        super::request(self.language, body, &facts)
    }

    fn request(&self) -> Option<Result<Foreign>> {
        self.read("request.json").map(|body| self.translate(&body, false))
    }

    fn context(&self) -> Context {
        let made = self.request().and_then(Result::ok).map(|foreign| foreign.context);
        made.unwrap_or_else(|| {
            self.translate(br#"{"messages":[{"role":"user","content":"x"}]}"#, true).unwrap().context
        })
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
    let mut cases = Vec::new();
    for &(language, folder, provider, model, least) in LANGUAGES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
        let before = cases.len();
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
            cases.push(Case { name, language, provider, model, folder: path });
        }
        assert!(cases.len() - before >= least, "{folder}: {} cases", cases.len() - before);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
});

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// All frames of a stream that comes in these chunks.
fn run(chunks: impl IntoIterator<Item = Bytes>, context: Context) -> String {
    let (mut feed, mut stream) = (Feed::new(context.framing(), 1 << 20), Stream::new(context));
    let mut out = Vec::new();
    for chunk in chunks {
        feed.push(chunk);
        while let Ok(Some(piece)) = feed.take() {
            stream.piece(&piece);
        }
        out.extend_from_slice(&stream.take());
    }
    if let Ok(Some(rest)) = feed.finish() {
        stream.piece(&rest);
    }
    stream.end();
    out.extend_from_slice(&stream.take());
    String::from_utf8(out).unwrap()
}

fn cut(whole: &Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let (mut rest, mut chunks) = (whole.clone(), Vec::new());
    for cut in cuts {
        if rest.is_empty() {
            break;
        }
        chunks.push(rest.split_to((*cut).min(rest.len())));
    }
    chunks.push(rest);
    chunks
}

#[test]
fn every_case_is_as_expected() {
    for case in CASES.iter() {
        let mut seen = false;
        match case.request() {
            Some(Ok(foreign)) => {
                seen = true;
                case.expect("upstream.json", &pretty(&serde_json::from_slice(&foreign.body).unwrap()));
            }
            Some(Err(error)) => {
                seen = true;
                assert_eq!(error.kind, Kind::Invalid, "{}", case.name);
                case.expect("refused.json", &pretty(&error.body()));
            }
            None => (),
        }
        let origin = Origin::new(case.provider, []);
        if let Some(body) = case.read("answer.json") {
            seen = true;
            match answer(&case.context(), &body, &origin) {
                Ok(chat) => case.expect("chat.json", &pretty(&serde_json::from_slice(&chat).unwrap())),
                Err(error) => case.expect("told.json", &pretty(&error.body())),
            }
        }
        if let Some(stream) = case.stream() {
            seen = true;
            case.expect("chat.sse", &run([stream], case.context()));
        }
        if case.read("error.json").is_some() {
            seen = true;
            let error = case.json("error.json");
            let status = StatusCode::from_u16(u16::try_from(error["status"].as_u64().unwrap()).unwrap()).unwrap();
            let body = error["body"].to_string();
            let refusal = super::error(case.language, status, "", body.as_bytes());
            let told = from_upstream(&origin, refusal.status, &refusal.body);
            let told = json!({"status": told.status().as_u16(), "body": told.body(), "after": refusal.retry_after});
            case.expect("told.json", &pretty(&told));
        }
        assert!(seen, "{} holds nothing", case.name);
    }
}

/// The frames mean to their reader what they should: whole, cut, or failed.
#[test]
fn the_reader_of_the_frames_sees_how_a_stream_ended() {
    for case in CASES.iter() {
        let Some(stream) = case.stream() else { continue };
        let frames = run([stream], case.context());
        let mut tap = Tap::new(Arc::default(), true, crate::route::Tariff::default());
        tap.push(frames.clone().into());
        let last = loop {
            match tap.step() {
                Step::Forward(_) => (),
                Step::More => break tap.end(),
                step => break step,
            }
        };
        if case.name.contains("_cut") || case.name.contains("_error") {
            assert!(matches!(last, Step::Fail(_)), "{}: {frames}", case.name);
        } else {
            assert!(matches!(last, Step::Finish(_)), "{}: {frames}", case.name);
            assert!(tap.usage.is_some() || case.name.contains("no_usage"), "{}", case.name);
        }
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = format!("{{\"messages\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    for case in CASES.iter() {
        assert!(case.translate(deep.as_bytes(), true).is_err());
        assert!(answer(&case.context(), deep.as_bytes(), &Origin::default()).is_err());
    }
}

/// A file of a case, with some of its bytes changed.
fn mutated(file: &'static str) -> impl Strategy<Value = (usize, Vec<u8>)> {
    let with: Vec<usize> = (0..CASES.len()).filter(|case| CASES[*case].read(file).is_some()).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..6);
    (prop::sample::select(with), edits).prop_map(move |(case, edits)| {
        let mut bytes = match file {
            "stream.txt" => CASES[case].stream().unwrap_or_default().to_vec(),
            file => CASES[case].read(file).unwrap_or_default(),
        };
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
        let streams: Vec<&Case> = CASES.iter().filter(|case| case.stream().is_some()).collect();
        let case = streams[which.index(streams.len())];
        let whole = case.stream().unwrap();
        prop_assert_eq!(run(cut(&whole, &cuts), case.context()), run([whole], case.context()));
    }

    #[test]
    fn mutated_requests_never_panic((case, bytes) in mutated("request.json"), drop_params in any::<bool>()) {
        if let Ok(foreign) = CASES[case].translate(&bytes, drop_params) {
            prop_assert!(serde_json::from_slice::<Value>(&foreign.body).unwrap().is_object());
        }
    }

    #[test]
    fn mutated_answers_never_panic((case, bytes) in mutated("answer.json")) {
        let case = &CASES[case];
        if let Ok(chat) = answer(&case.context(), &bytes, &Origin::default()) {
            prop_assert!(serde_json::from_slice::<Value>(&chat).unwrap()["choices"][0]["finish_reason"].is_string());
        }
        let _ = super::error(case.language, StatusCode::BAD_REQUEST, "", &bytes);
    }

    #[test]
    fn mutated_streams_give_frames_of_json((case, bytes) in mutated("stream.txt"), cuts in prop::collection::vec(1usize..99, 0..9)) {
        let case = &CASES[case];
        let frames = run(cut(&bytes.into(), &cuts), case.context());
        for frame in frames.lines().filter(|line| !line.is_empty() && *line != "data: [DONE]") {
            prop_assert!(serde_json::from_str::<Value>(frame.strip_prefix("data: ").unwrap()).is_ok(), "{}", frame);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(which in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let case = &CASES[which.index(CASES.len())];
        let _ = case.translate(&bytes, true);
        let _ = answer(&case.context(), &bytes, &Origin::default());
        let _ = super::error(case.language, StatusCode::BAD_REQUEST, "", &bytes);
        let mut stream = Stream::new(case.context());
        stream.piece(&bytes);
        stream.end();
    }
}
