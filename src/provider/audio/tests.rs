//! Golden cases in `tests/fixtures/audio/`, one folder each; a case has `case.json`, and any of these:
//!
//! - its `request` becomes `upstream.json`, or is refused with `refused.json`
//! - `answer.json` is told as `told.json` or `told.txt`, in the form that the request wants
//! - `error.json`, a status and a body, becomes `told.json`
//!
//! With `GATEWAY_BLESS` set the expectations are written instead; look through them before they are committed.

use super::*;
use crate::error::from_upstream;
use crate::provider::{compatible, foreign};
use actix_web::http::StatusCode;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

fn expect(folder: &Path, file: &str, made: &str) {
    let path = folder.join(file);
    if std::env::var_os("GATEWAY_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(made, expected, "{}", path.display());
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[test]
fn golden_cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio");
    let mut count = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let read = |file: &str| {
            let text = std::fs::read(folder.join(file)).ok()?;
            Some(serde_json::from_slice::<Value>(&text).unwrap())
        };
        let case = read("case.json").unwrap();
        let provider = compatible::find(case["provider"].as_str().unwrap()).unwrap();
        let (language, origin) = (provider.quirks.language, Origin::new(provider.name, []));
        let facts = Facts {
            provider: provider.name,
            model: case["model"].as_str().unwrap(),
            streams: false,
            drop_params: case["drop_params"] == true,
            max_output: None,
            id: "0197c0de",
            created: 1_763_600_000,
        };
        let plain = match case["endpoint"].as_str() {
            Some("speech") => Plain::Speech,
            Some("translation") => Plain::Translation,
            _ => Plain::Transcription,
        };
        let mut wish = Wish::default();
        if !case["request"].is_null() {
            match request(language, plain, case["request"].to_string().as_bytes(), &facts) {
                Ok(made) => {
                    wish = made.wish;
                    let body: Value = serde_json::from_slice(&made.body).unwrap();
                    let sent = json!({"path": made.path, "body": body, "file_alone": made.file_alone});
                    expect(&folder, "upstream.json", &pretty(&sent));
                }
                Err(refused) => expect(&folder, "refused.json", &pretty(&refused.body())),
            }
        }
        if let Some(answer) = read("answer.json") {
            let told = heard(language, answer.to_string().as_bytes(), &origin);
            match told.map(|heard| heard.told(wish)) {
                Ok((text, true)) => expect(&folder, "told.txt", &String::from_utf8(text).unwrap()),
                Ok((json, false)) => expect(&folder, "told.json", &pretty(&serde_json::from_slice(&json).unwrap())),
                Err(error) => expect(&folder, "told.json", &pretty(&error.body())),
            }
        }
        if let Some(error) = read("error.json") {
            let status = StatusCode::from_u16(u16::try_from(error["status"].as_u64().unwrap()).unwrap()).unwrap();
            let body = error["body"].to_string();
            let refusal = foreign::error(language, status, "", body.as_bytes());
            let error = from_upstream(&origin, refusal.status, &refusal.body);
            expect(&folder, "told.json", &pretty(&json!({"status": error.status().as_u16(), "body": error.body()})));
        }
        count += 1;
    }
    assert!(count >= 30, "{count} cases");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(text in "[ -~]{0,60}", number in any::<f64>(), size in 0usize..40) {
        let word = json!({"word": text, "text": text, "type": "word", "start": number, "end": number / 3.0, "speaker": size, "speaker_id": text});
        let words = vec![word; size];
        let deepgram = json!({"metadata": {"duration": number}, "results": {"channels": [{"alternatives": [{"transcript": text, "words": words}]}]}});
        let elevenlabs = json!({"text": text, "words": words, "audio_duration_secs": number});
        for (language, body) in [(Language::Deepgram, deepgram), (Language::ElevenLabs, elevenlabs)] {
            let heard = heard(language, body.to_string().as_bytes(), &Origin::default()).unwrap();
            for format in [Format::Json, Format::Verbose, Format::Diarized, Format::Text, Format::Srt, Format::Vtt] {
                heard.told(Wish { format, words: true, segments: true });
            }
        }
    }
}
