//! ElevenLabs' `/v1/speech-to-text` and `/v1/text-to-speech`. Source: its API reference
//! (<https://elevenlabs.io/docs/api-reference>).

use super::{Query, Request, Transcript, Wish, Word, no_events, no_other_place, part, refuse_all_but, voice, wish};
use crate::error::{Error, Result};
use crate::provider::audio::Format;
use crate::provider::foreign::Refusal;
use crate::provider::hub::{Ask, bad};
use actix_web::http::StatusCode;
use serde_json::{Map, Value};

/// Its voices have no names in its API; OpenAI's names stand for these as they do at LiteLLM.
const VOICES: &[(&str, &str)] = &[
    ("alloy", "21m00Tcm4TlvDq8ikWAM"),
    ("amber", "5Q0t7uMcjvnagumLfvZi"),
    ("ash", "AZnzlk1XvdvUeBnXmlld"),
    ("august", "D38z5RcWu1voky8WS1ja"),
    ("blue", "2EiwWnXFnvU5JabPnv8n"),
    ("coral", "9BWtsMINqrJLrRacOk9x"),
    ("lily", "EXAVITQu4vr4xnSDxMaL"),
    ("onyx", "29vD33N1CtxCmqQRPOHJ"),
    ("sage", "CwhRBWXzGAHq8TQ4Fs17"),
    ("verse", "CYw3kZ02Hs0563khs1Fj"),
];

/// What of speech stands in the query.
const QUERY: &[&str] = &["optimize_streaming_latency", "enable_logging"];

pub fn listen(mut ask: Ask<'_>) -> Result<Request> {
    no_other_place(&mut ask, &["webhook", "webhook_id", "webhook_metadata", "cloud_storage_url", "source_url"])?;
    let wish = wish(&mut ask)?;
    let mut texts = Map::new();
    texts.insert("model_id".to_owned(), ask.facts.model.into());
    if let Some(language) = ask.take("language").as_str().filter(|language| !language.is_empty()) {
        texts.insert("language_code".to_owned(), language.into());
    }
    if wish.format == Format::Diarized && !ask.has("diarize") {
        texts.insert("diarize".to_owned(), true.into());
    }
    texts.extend(ask.rest());
    let body = Value::Object(texts).to_string().into_bytes();
    Ok(Request { path: "v1/speech-to-text".to_owned(), body, file_alone: false, wish })
}

pub fn speak(mut ask: Ask<'_>) -> Result<Request> {
    no_events(&mut ask)?;
    refuse_all_but(&mut ask, "instructions", "")?;
    let voice = voice(&mut ask)
        .ok_or_else(|| Error::invalid("ElevenLabs needs a 'voice': the id of one of its voices.").at_param("voice"))?;
    let known = VOICES.iter().find(|(name, _)| voice.eq_ignore_ascii_case(name));
    let voice = known.map_or(voice.as_str(), |(_, id)| id);
    let own = ask.take("output_format");
    let format = ask.take("response_format");
    let format = match (own.as_str(), format.as_str()) {
        (Some(own), _) => own,
        (None, None | Some("mp3" | "")) => "mp3_44100_128",
        (None, Some("opus")) => "opus_48000_128",
        // What OpenAI means by it.
        (None, Some("pcm")) => "pcm_24000",
        // One of its own.
        (None, Some(other)) if other.contains('_') => other,
        (None, Some(_)) => {
            return Err(bad("response_format", "must be mp3, opus or pcm for ElevenLabs, or a format of its own"));
        }
    };
    let mut query = Query::new(&format!("v1/text-to-speech/{}/stream", part(voice)));
    query.add("output_format", format);
    for name in QUERY {
        query.add_all(name, &ask.take(name));
    }
    let mut body = Map::new();
    body.insert("text".to_owned(), ask.take("input"));
    body.insert("model_id".to_owned(), ask.facts.model.into());
    let mut settings = match ask.take("voice_settings") {
        Value::Object(settings) => settings,
        Value::Null => Map::new(),
        _ => return Err(bad("voice_settings", "must be an object")),
    };
    if let Some(speed) = ask.number("speed")? {
        settings.insert("speed".to_owned(), speed);
    }
    if !settings.is_empty() {
        body.insert("voice_settings".to_owned(), settings.into());
    }
    body.extend(ask.rest());
    let body = Value::Object(body).to_string().into_bytes();
    Ok(Request { path: query.0, body, file_alone: false, wish: Wish::default() })
}

pub fn read(told: &Value) -> Option<Transcript> {
    // Of several channels each has a transcript.
    let parts: Vec<&Value> = match told["transcripts"].as_array() {
        Some(parts) => parts.iter().collect(),
        None => vec![told],
    };
    let mut heard = Transcript {
        id: told["transcription_id"].as_str().map(str::to_owned),
        language: parts.first().and_then(|part| part["language_code"].as_str()).map(str::to_owned),
        seconds: told["audio_duration_secs"].as_f64(),
        ..Transcript::default()
    };
    let mut texts = Vec::new();
    for part in parts {
        texts.push(part["text"].as_str()?.trim());
        for word in part["words"].as_array().into_iter().flatten() {
            let text = word["text"].as_str().unwrap_or_default();
            if word["type"] == "spacing" {
                if let Some(last) = heard.words.last_mut() {
                    last.shown.push_str(text);
                }
                continue;
            }
            heard.words.push(Word {
                word: text.to_owned(),
                shown: text.to_owned(),
                start: word["start"].as_f64().unwrap_or(0.0),
                end: word["end"].as_f64().unwrap_or(0.0),
                speaker: word["speaker_id"].as_str().map(str::to_owned),
                is_said: word["type"] != "audio_event",
            });
        }
    }
    heard.words.sort_by(|a, b| a.start.total_cmp(&b.start));
    heard.text = texts.join("\n");
    Some(heard)
}

/// The refusal that an error status means: `{"detail": {"status", "message"}}`, or FastAPI's list of faults.
pub fn error(status: StatusCode, body: &[u8]) -> Refusal<'_> {
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = &read["detail"];
    let text = |name: &str| detail[name].as_str().filter(|text| !text.is_empty());
    let code = text("code").or(text("status"));
    let Some(message) = text("message") else {
        return match status.as_u16() {
            422 => Refusal { status: StatusCode::BAD_REQUEST, ..Refusal::plain(status, body) },
            _ => Refusal::plain(status, body),
        };
    };
    match (status.as_u16(), code) {
        // The key is good, and its account is empty.
        (401 | 402, Some("quota_exceeded")) => Refusal::told(402, message, "", Some("insufficient_quota")),
        (422, code) => Refusal::told(400, message, "invalid_request_error", code),
        (other, code) => Refusal::told(other, message, "", code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_account_is_no_bad_key() {
        let body = json!({"detail": {"status": "quota_exceeded", "message": "none left"}}).to_string();
        let told = error(StatusCode::UNAUTHORIZED, body.as_bytes());
        assert_eq!(told.status, 402);
        let told = error(StatusCode::UNPROCESSABLE_ENTITY, br#"{"detail":[{"loc":["body","text"],"msg":"too long"}]}"#);
        assert_eq!(told.status, 400);
    }
}
