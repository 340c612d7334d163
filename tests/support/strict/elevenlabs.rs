//! ElevenLabs. Source: its API reference, and the errors it answers with.

use super::super::forms::parts;
use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, members, query, text};
use serde_json::{Value, json};

/// Speech to text, and text to speech.
pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("xi-api-key").as_deref() != Some(UPSTREAM_KEY) || seen.header("authorization").is_some() {
        return Err(error(401, "invalid_api_key", "Invalid API key"));
    }
    let path = seen.target.split('?').next().unwrap_or_default();
    let voice = path.strip_prefix("/v1/text-to-speech/").and_then(|rest| rest.strip_suffix("/stream"));
    match (path, voice) {
        ("/v1/speech-to-text", _) => listen(seen).map_err(|wrong| error(400, "invalid_parameters", &wrong)),
        (_, Some(voice)) if voice.len() != 20 => Err(error(404, "voice_not_found", "A voice was not found.")),
        (_, Some(_)) => speak(seen).map_err(|wrong| error(400, "invalid_parameters", &wrong)),
        _ => Err(Reply::json(404, r#"{"detail":"Not Found"}"#)),
    }
}

pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"detail": {"status": code, "message": message}}).to_string())
}

fn listen(seen: &Seen) -> Result<(), Wrong> {
    let known = [
        "model_id",
        "file",
        "language_code",
        "temperature",
        "tag_audio_events",
        "num_speakers",
        "timestamps_granularity",
        "diarize",
        "seed",
    ];
    let parts = parts(seen);
    if let Some(part) = parts.iter().find(|part| !known.contains(&part.name.as_str())) {
        return Err(format!("unexpected {}", part.name));
    }
    let of = |name: &str| parts.iter().find(|part| part.name == name);
    match (of("model_id").map(|part| part.content.starts_with(b"scribe_")), of("file")) {
        (Some(true), Some(file)) if file.filename.is_some() && !file.content.is_empty() => Ok(()),
        _ => Err("no model of speech, or no file".to_owned()),
    }
}

fn speak(seen: &Seen) -> Result<(), Wrong> {
    for (name, value) in query(seen)? {
        let fits = match name.as_str() {
            "output_format" => ["mp3_44100_128", "opus_48000_128", "pcm_24000", "ulaw_8000"].contains(&value.as_str()),
            "optimize_streaming_latency" | "enable_logging" => true,
            _ => false,
        };
        if !fits {
            return Err(format!("unexpected {name}={value}"));
        }
    }
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    members(
        &body,
        "body",
        &["text", "model_id", "language_code", "voice_settings", "seed", "apply_text_normalization"],
    )?;
    text(&body, "text", "body")?;
    if !text(&body, "model_id", "body")?.starts_with("eleven_") {
        return Err("A model with this id does not exist".to_owned());
    }
    let settings = &body["voice_settings"];
    if !settings.is_null() {
        members(settings, "voice_settings", &["stability", "similarity_boost", "style", "use_speaker_boost", "speed"])?;
        if settings["speed"].as_f64().is_some_and(|speed| !(0.7..=1.2).contains(&speed)) {
            return Err("speed must be between 0.7 and 1.2".to_owned());
        }
    }
    Ok(())
}
