//! Deepgram. Source: its API reference, and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, members, query, text};
use serde_json::{Value, json};

/// `/listen` and `/speak`.
pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("authorization").as_deref() != Some(&format!("Token {UPSTREAM_KEY}")) {
        return Err(error(401, "INVALID_AUTH", "Invalid credentials."));
    }
    let call = match seen.target.split('?').next() {
        Some("/v1/listen") => listen(seen),
        Some("/v1/speak") => speak(seen),
        _ => return Err(error(404, "NOT_FOUND", "Not found")),
    };
    call.map_err(|wrong| error(400, "Bad Request", &wrong))
}

pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"err_code": code, "err_msg": message, "request_id": "r"}).to_string())
}

fn known(seen: &Seen, names: &[&str]) -> Result<Vec<(String, String)>, Wrong> {
    let pairs = query(seen)?;
    match pairs.iter().find(|(name, value)| !names.contains(&name.as_str()) || value.is_empty()) {
        Some((name, value)) => Err(format!("Failed to deserialize query parameters: {name}={value}")),
        None => Ok(pairs),
    }
}

fn listen(seen: &Seen) -> Result<(), Wrong> {
    let names = [
        "model",
        "language",
        "detect_language",
        "smart_format",
        "punctuate",
        "diarize",
        "utterances",
        "paragraphs",
        "multichannel",
        "keyterm",
        "keywords",
        "numerals",
        "tag",
    ];
    let pairs = known(seen, &names)?;
    let has = |name: &str| pairs.iter().any(|(known, _)| known == name);
    if !has("model") || (has("language") && has("detect_language")) {
        return Err(format!("no model, or two languages: {pairs:?}"));
    }
    let kind = seen.header("content-type").unwrap_or_default();
    if !kind.starts_with("audio/") && kind != "application/octet-stream" {
        return Err(format!("unsupported content type {kind}"));
    }
    match seen.body.starts_with(b"RIFF") {
        true => Ok(()),
        false => Err("corrupt or unsupported data".to_owned()),
    }
}

fn speak(seen: &Seen) -> Result<(), Wrong> {
    let pairs = known(seen, &["model", "encoding", "container", "sample_rate", "bit_rate"])?;
    let of = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if !of("model").is_some_and(|model| model.starts_with("aura-") && model.split('-').count() >= 3) {
        return Err(format!("No such model/language/tier combination found: {:?}", of("model")));
    }
    if of("encoding") == Some("mp3") && of("sample_rate").is_some_and(|rate| rate != "22050") {
        return Err("sample_rate is not applicable when encoding=mp3".to_owned());
    }
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    members(&body, "body", &["text"])?;
    match text(&body, "text", "body")?.chars().count() {
        0..=2000 => Ok(()),
        _ => Err("Input text exceeds maximum character limit of 2000".to_owned()),
    }
}
