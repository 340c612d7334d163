//! Audio of providers that do not speak OpenAI's format.
//!
//! A transcription or speech in OpenAI's words becomes a [`Request`] in the provider's; what was heard comes back as a
//! [`Transcript`], told in the format that the caller wants. Speech comes back as the bytes that it is. Pure.

mod deepgram;
mod elevenlabs;
#[cfg(test)]
mod tests;
mod transcript;

use super::hub::{Ask, bad};
use super::path::segment;
use super::{Facts, Language};
use crate::error::{Error, Kind, Origin, Result};
use crate::exchange::Plain;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fmt::Write;
pub use transcript::{Format, Transcript, Word};

/// A request in the provider's words.
#[derive(Debug)]
pub struct Request {
    /// Behind the base URL, with its query.
    pub path: String,
    /// An object: of the texts of a form where one is sent.
    pub body: Vec<u8>,
    /// The file goes alone, and no form around it.
    pub file_alone: bool,
    /// How what was heard is to be told.
    pub wish: Wish,
}

/// What the caller wants to have told of a transcription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    pub format: Format,
    pub words: bool,
    pub segments: bool,
}

/// The request that means the same as a checked one in OpenAI's words.
///
/// # Errors
/// A 400 that names what the provider does not take; a 501 for what it does not do.
pub fn request(language: Language, plain: Plain, body: &[u8], facts: &Facts<'_>) -> Result<Request> {
    let mut ask = Ask::read(body, facts)?;
    // For statistics, or the gateway's own.
    for name in ["model", "user", "metadata", "file"] {
        ask.take(name);
    }
    match (language, plain) {
        (Language::Deepgram, Plain::Transcription) => deepgram::listen(ask),
        (Language::Deepgram, Plain::Speech) => deepgram::speak(ask),
        (Language::ElevenLabs, Plain::Transcription) => elevenlabs::listen(ask),
        (Language::ElevenLabs, Plain::Speech) => elevenlabs::speak(ask),
        _ => {
            let what = if plain == Plain::Translation { "translates no audio" } else { "does not do this" };
            let message = format!("The provider '{}' {what}.", facts.provider);
            Err(Error::new(Kind::NotServed, message).at_param("model"))
        }
    }
}

/// What was heard, by an answer in the provider's words.
///
/// # Errors
/// It is no transcript.
pub fn heard(language: Language, body: &[u8], origin: &Origin) -> Result<Transcript> {
    let read = serde_json::from_slice::<Value>(body).ok();
    let read = read.as_ref().and_then(|told| match language {
        Language::Deepgram => deepgram::read(told),
        _ => elevenlabs::read(told),
    });
    read.ok_or_else(|| {
        let message = format!(
            "The answer of '{}' holds no transcript; check that its api_base leads to an API.",
            origin.provider
        );
        Error::new(Kind::Garbled, message)
    })
}

pub use deepgram::error as deepgram_error;
pub use elevenlabs::error as elevenlabs_error;

/// What of OpenAI's parameters is about the answer's form, and what none of these providers takes.
fn wish(ask: &mut Ask<'_>) -> Result<Wish> {
    if is_true(&ask.take("stream")) {
        let provider = ask.facts.provider;
        let message = format!("The provider '{provider}' does not stream transcriptions; leave 'stream' out.");
        return Err(Error::invalid(message).at_param("stream"));
    }
    let format = match ask.take("response_format").as_str() {
        None | Some("json" | "") => Format::Json,
        Some("verbose_json") => Format::Verbose,
        Some("text") => Format::Text,
        Some("srt") => Format::Srt,
        Some("vtt") => Format::Vtt,
        Some("diarized_json") => Format::Diarized,
        _ => return Err(bad("response_format", "must be one of: json, text, srt, verbose_json, vtt, diarized_json")),
    };
    let (mut words, mut segments) = (false, false);
    for name in ["timestamp_granularities[]", "timestamp_granularities"] {
        let wanted = match ask.take(name) {
            Value::Array(all) => all,
            Value::Null => continue,
            one => vec![one],
        };
        for one in wanted {
            match one.as_str() {
                Some("word") => words = true,
                Some("segment") => segments = true,
                _ => return Err(bad(name, "must be 'word' or 'segment'")),
            }
        }
    }
    if ask.take("chunking_strategy").as_str().is_some_and(|strategy| strategy != "auto") {
        ask.refuse("chunking_strategy", "")?;
    }
    for name in ["prompt", "include[]", "include", "known_speaker_names[]", "known_speaker_references[]"] {
        refuse_all_but(ask, name, "")?;
    }
    // OpenAI has segments unless words alone are wanted.
    Ok(Wish { format, words, segments: segments || !words })
}

/// Refuses a parameter, unless it is empty or says this.
fn refuse_all_but(ask: &mut Ask<'_>, name: &str, harmless: &str) -> Result<()> {
    match shown(&ask.take(name)).filter(|text| !text.is_empty() && text != harmless) {
        Some(_) => ask.refuse(name, ""),
        None => Ok(()),
    }
}

/// What would send an answer elsewhere: nobody here would see it, and it would cost.
fn no_other_place(ask: &mut Ask<'_>, names: &[&str]) -> Result<()> {
    let Some(name) = names.iter().find(|name| ask.has(name)) else { return Ok(()) };
    let message = format!("'{name}' would send the answer elsewhere, and cannot be set by a request.");
    Err(Error::invalid(message).at_param(*name))
}

/// OpenAI's streams of events are not made; the bytes themselves come as they are made anyway.
fn no_events(ask: &mut Ask<'_>) -> Result<()> {
    refuse_all_but(ask, "stream_format", "audio")
}

/// A voice by its name, or as the object that names one.
fn voice(ask: &mut Ask<'_>) -> Option<String> {
    let told = [ask.take("voice"), ask.take("voice_id")];
    let name = |told: &Value| {
        let inner = ["voice_id", "id", "name"].iter().find_map(|name| told[*name].as_str());
        told.as_str().or(inner).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
    };
    told.iter().find_map(name)
}

/// A value as a text; none for nothing, and for what has parts.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null => None,
        Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

fn is_true(value: &Value) -> bool {
    *value == true || value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// A query, put together pair by pair.
#[derive(Debug)]
struct Query(String);

impl Query {
    fn new(path: &str) -> Self {
        Query(path.to_owned())
    }

    fn add(&mut self, name: &str, value: &str) {
        let sign = if self.0.contains('?') { '&' } else { '?' };
        let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        // Writing to a string does not fail.
        let _ = write!(
            self.0,
            "{sign}{}={}",
            unreserved(escaped(name).to_string()),
            unreserved(escaped(value).to_string())
        );
    }

    /// A list is the same name several times.
    fn add_all(&mut self, name: &str, value: &Value) {
        match value {
            Value::Array(all) => all.iter().for_each(|one| self.add_all(name, one)),
            one => _ = shown(one).map(|text| self.add(name, &text)),
        }
    }
}

/// Names and dashes stay readable.
fn unreserved(escaped: String) -> String {
    escaped.replace("%2D", "-").replace("%5F", "_").replace("%2E", ".").replace("%7E", "~")
}

fn part(text: &str) -> String {
    segment(text)
}
