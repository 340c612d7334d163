//! Deepgram's `/listen` and `/speak`. Source: its API reference (<https://developers.deepgram.com/reference>).
//!
//! Everything but the sound and the text stands in the query; a member that is not OpenAI's goes there as it is, as
//! LiteLLM has it.

use super::{Query, Request, Transcript, Wish, Word, no_events, no_other_place, refuse_all_but, voice, wish};
use crate::error::{Error, Result};
use crate::provider::audio::Format;
use crate::provider::foreign::Refusal;
use crate::provider::hub::{Ask, bad};
use actix_web::http::StatusCode;
use serde_json::{Value, json};

const CALLBACKS: &[&str] = &["callback", "callback_method"];

/// Voices that OpenAI's clients name when nobody has chosen one.
const OPENAIS: &[&str] =
    &["alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar"];

/// Models that hear in which language is spoken.
const GENERAL: &[&str] = &["nova-3", "nova-2", "nova", "enhanced", "base"];

pub fn listen(mut ask: Ask<'_>) -> Result<Request> {
    let model = ask.facts.model;
    no_other_place(&mut ask, CALLBACKS)?;
    let wish = wish(&mut ask)?;
    // Its models have no temperature, and OpenAI's clients send the lowest unasked.
    let temperature = ask.take("temperature");
    if super::shown(&temperature).and_then(|t| t.parse::<f64>().ok()).is_some_and(|t| t != 0.0) {
        ask.refuse("temperature", "")?;
    }
    let mut query = Query::new("listen");
    query.add("model", model);
    match ask.take("language").as_str().filter(|language| !language.is_empty()) {
        Some(language) => query.add("language", language),
        // It would take everything for English.
        None if !ask.has("detect_language") && hears_languages(model) => query.add("detect_language", "true"),
        None => (),
    }
    if !ask.has("smart_format") {
        // Without it there are no sentences.
        query.add("smart_format", "true");
    }
    if wish.format == Format::Diarized && !ask.has("diarize") {
        query.add("diarize", "true");
    }
    for (name, value) in ask.rest() {
        query.add_all(&name, &value);
    }
    Ok(Request { path: query.0, body: b"{}".to_vec(), file_alone: true, wish })
}

fn hears_languages(model: &str) -> bool {
    GENERAL.contains(&model.strip_suffix("-general").unwrap_or(model))
}

pub fn speak(mut ask: Ask<'_>) -> Result<Request> {
    no_other_place(&mut ask, CALLBACKS)?;
    no_events(&mut ask)?;
    refuse_all_but(&mut ask, "instructions", "")?;
    if ask.number("speed")?.and_then(|speed| speed.as_f64()).is_some_and(|speed| speed != 1.0) {
        ask.refuse("speed", "")?;
    }
    let voice = voice(&mut ask);
    let text = ask.take("input");
    let mut query = Query::new("speak");
    query.add("model", &spoken_by(ask.facts.model, voice.as_deref())?);
    let format = ask.take("response_format");
    let own = ask.has("encoding");
    let given: &[(&str, &str)] = match format.as_str() {
        // `encoding` is its own word for the same.
        _ if own => &[],
        None | Some("mp3" | "") => &[("encoding", "mp3")],
        Some("opus") => &[("encoding", "opus")],
        Some("aac") => &[("encoding", "aac")],
        Some("flac") => &[("encoding", "flac")],
        Some("wav") => &[("encoding", "linear16"), ("container", "wav")],
        // What OpenAI means by it.
        Some("pcm") => &[("encoding", "linear16"), ("container", "none"), ("sample_rate", "24000")],
        Some(_) => return Err(bad("response_format", "must be one of: mp3, opus, aac, flac, wav, pcm")),
    };
    for (name, value) in given.iter().filter(|(name, _)| !ask.has(name)) {
        query.add(name, value);
    }
    for (name, value) in ask.rest() {
        query.add_all(&name, &value);
    }
    let body = json!({"text": text}).to_string().into_bytes();
    Ok(Request { path: query.0, body, file_alone: false, wish: Wish::default() })
}

/// The model that has the voice: `aura-2-thalia-en` is a family, a voice and a language. A caller chooses among the
/// voices of the deployment's family; what OpenAI's clients say by default is no choice.
fn spoken_by(model: &str, voice: Option<&str>) -> Result<String> {
    let (family, rest) = match model.strip_prefix("aura-2") {
        Some(rest) => ("aura-2", rest),
        None => ("aura", model.strip_prefix("aura").unwrap_or(model)),
    };
    let own = rest.strip_prefix('-').filter(|own| !own.is_empty());
    let unknown = |voice: &str| {
        let shown: String = voice.chars().take(100).collect();
        let message = format!("The model '{model}' of Deepgram has no voice '{shown}'; name one of its own.");
        Error::invalid(message).at_param("voice")
    };
    match voice.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(model.to_owned()),
        Some(voice) if OPENAIS.contains(&voice) && own.is_some() => Ok(model.to_owned()),
        Some(voice) if OPENAIS.contains(&voice) => Err(unknown(voice)),
        Some(voice) if voice.starts_with("aura") => match voice.strip_prefix(family) {
            Some(behind) if behind.starts_with('-') && (family != "aura" || !behind.starts_with("-2-")) => {
                Ok(voice.to_owned())
            }
            _ => Err(unknown(voice)),
        },
        Some(voice) if !voice.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => Err(unknown(voice)),
        // A name alone speaks the deployment's language.
        Some(voice) => {
            let language = own.and_then(|own| own.rsplit_once('-')).map_or("en", |(_, language)| language);
            Ok(match voice.contains('-') {
                true => format!("{family}-{voice}"),
                false => format!("{family}-{voice}-{language}"),
            })
        }
    }
}

pub fn read(told: &Value) -> Option<Transcript> {
    let channels = told["results"]["channels"].as_array()?;
    let mut heard = Transcript {
        seconds: told["metadata"]["duration"].as_f64(),
        id: told["metadata"]["request_id"].as_str().map(str::to_owned),
        language: channels.first().and_then(|c| c["detected_language"].as_str()).map(str::to_owned),
        ..Transcript::default()
    };
    let mut texts = Vec::new();
    for (number, channel) in channels.iter().enumerate() {
        let best = &channel["alternatives"][0];
        texts.extend(best["transcript"].as_str().filter(|text| !text.is_empty()));
        for word in best["words"].as_array().into_iter().flatten() {
            let plain = word["word"].as_str().unwrap_or_default();
            let speaker = word["speaker"].as_u64().map(|speaker| format!("{number}/{speaker}"));
            heard.words.push(Word {
                word: plain.to_owned(),
                shown: format!("{} ", word["punctuated_word"].as_str().unwrap_or(plain)),
                start: word["start"].as_f64().unwrap_or(0.0),
                end: word["end"].as_f64().unwrap_or(0.0),
                speaker: speaker.or_else(|| (channels.len() > 1).then(|| number.to_string())),
                is_said: true,
            });
        }
    }
    heard.words.sort_by(|a, b| a.start.total_cmp(&b.start));
    heard.text = texts.join("\n");
    Some(heard)
}

/// The refusal that an error status means: `{"err_code", "err_msg"}`, or newer `{"category", "message", "details"}`.
pub fn error(status: StatusCode, body: &[u8]) -> Refusal<'_> {
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| read[name].as_str().filter(|text| !text.is_empty());
    let Some(message) = text("err_msg").or(text("message")).or(text("reason")) else {
        return Refusal::plain(status, body);
    };
    let message = match text("details") {
        Some(details) if details != message => format!("{message} {details}"),
        _ => message.to_owned(),
    };
    Refusal::told(status.as_u16(), &message, "", text("err_code").or(text("category")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_is_one_of_the_deployments_family() {
        for (model, voice, expected) in [
            ("aura-2-thalia-en", None, Some("aura-2-thalia-en")),
            ("aura-2-thalia-en", Some("alloy"), Some("aura-2-thalia-en")),
            ("aura-2-thalia-en", Some("Orion"), Some("aura-2-orion-en")),
            ("aura-2-nestor-es", Some("celeste"), Some("aura-2-celeste-es")),
            ("aura-2", Some("celeste-es"), Some("aura-2-celeste-es")),
            ("aura-2", Some("aura-2-luna-en"), Some("aura-2-luna-en")),
            ("aura-asteria-en", Some("luna"), Some("aura-luna-en")),
            // A family has a price.
            ("aura-asteria-en", Some("aura-2-luna-en"), None),
            ("aura-2", Some("aura-luna-en"), None),
            ("aura-2", Some("alloy"), None),
            ("aura-2", Some("../x"), None),
        ] {
            assert_eq!(spoken_by(model, voice).ok().as_deref(), expected, "{model} {voice:?}");
        }
    }

    #[test]
    fn only_general_models_are_asked_for_the_language() {
        assert!(hears_languages("nova-3") && hears_languages("nova-2-general"));
        assert!(!hears_languages("nova-2-medical") && !hears_languages("whisper-large"));
    }
}
