//! Events of OpenAI's Realtime API, as far as what they cost is concerned.

use super::audio;
use super::json::{self, Kind};
use crate::envelope::shorten;
use crate::usage::Usage;
use serde::Deserialize;
use serde_json::Value;

/// Deeper nesting holds nothing that counts.
const MAX_DEPTH: usize = 128;
/// The type of an event stands this near to its beginning.
const HEAD: usize = 256;

/// What an event of the server means for the bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An answer begins.
    Begun,
    /// A part of one.
    Part,
    /// An answer is over, and used this.
    Done(Option<Usage>),
    /// How the session is set up: which model writes down what the caller says, where one does.
    Session(Option<String>),
    /// What the caller said is written down, and that used this.
    Heard(Option<Usage>),
    Other,
}

/// Looks at an event of the server.
pub fn event(text: &[u8]) -> Event {
    // Nearly all of them are parts; audio is long, and not read through.
    let head = &text[..text.len().min(HEAD)];
    let says = |word: &[u8]| memchr::memmem::find(head, word).is_some();
    if says(b"session.created\"") || says(b"session.updated\"") {
        return session(text);
    }
    if says(b"\"conversation.item.input_audio_transcription.completed\"") {
        return match kind(text).as_deref() {
            Some("conversation.item.input_audio_transcription.completed") => Event::Heard(audio::usage(text)),
            _ => Event::Other,
        };
    }
    if !says(b"\"response.") {
        return Event::Other;
    }
    if memchr::memmem::find(head, b".delta\"").is_some() {
        return Event::Part;
    }
    let (mut kind, mut response) = (None, None);
    let read = json::object(text, MAX_DEPTH, |m| match &text[m.key.clone()] {
        b"type" => kind = json::short_text(&text[m.value.span]),
        b"response" if m.value.kind == Kind::Object => response = Some(m.value.span),
        _ => (),
    });
    match (read, kind.as_deref()) {
        (Ok(()), Some("response.created")) => Event::Begun,
        (Ok(()), Some("response.done")) => Event::Done(response.and_then(|span| usage_of(&text[span]))),
        _ => Event::Other,
    }
}

fn kind(text: &[u8]) -> Option<String> {
    let mut kind = None;
    let read = json::object(text, MAX_DEPTH, |m| {
        if &text[m.key.clone()] == b"type" {
            kind = json::short_text(&text[m.value.span]);
        }
    });
    read.ok().and(kind)
}

/// Of a session that talks, and of one that only listens; in the words of both versions of the API.
fn session(text: &[u8]) -> Event {
    let Ok(told) = serde_json::from_slice::<Value>(text) else { return Event::Other };
    let kinds =
        ["session.created", "session.updated", "transcription_session.created", "transcription_session.updated"];
    if !told["type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
        return Event::Other;
    }
    let session = &told["session"];
    let set = [&session["audio"]["input"]["transcription"]["model"], &session["input_audio_transcription"]["model"]];
    Event::Session(set.iter().find_map(|model| model.as_str()).map(|model| shorten(model).to_string()))
}

fn usage_of(response: &[u8]) -> Option<Usage> {
    let mut usage = None;
    json::object(response, MAX_DEPTH, |m| {
        if &response[m.key.clone()] == b"usage" && m.value.kind == Kind::Object {
            usage = Some(m.value.span);
        }
    })
    .ok()?;
    read(&response[usage?])
}

fn read(json: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Written {
        input_tokens: Option<f64>,
        output_tokens: Option<f64>,
        input_token_details: Option<Details>,
        output_token_details: Option<Details>,
    }
    #[derive(Deserialize, Default)]
    struct Details {
        cached_tokens: Option<f64>,
        audio_tokens: Option<f64>,
        image_tokens: Option<f64>,
    }
    let written: Written = serde_json::from_slice(json).ok()?;
    let count = |number: Option<f64>| number.map_or(0, |n| n.max(0.0) as u64);
    let (input, output) =
        (written.input_token_details.unwrap_or_default(), written.output_token_details.unwrap_or_default());
    Some(Usage {
        prompt_tokens: count(written.input_tokens),
        completion_tokens: count(written.output_tokens),
        cached_tokens: count(input.cached_tokens),
        audio_in_tokens: count(input.audio_tokens),
        image_in_tokens: count(input.image_tokens),
        audio_out_tokens: count(output.audio_tokens),
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writes_down_what_is_said_is_known_and_what_it_used() {
        let set = |text: &str| event(text.as_bytes());
        let model = Event::Session(Some("gpt-4o-transcribe".to_owned()));
        let new = r#"{"type":"session.updated","session":{"audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#;
        let old = r#"{"type":"transcription_session.created","session":{"input_audio_transcription":{"model":"gpt-4o-transcribe"}}}"#;
        assert_eq!((set(new), set(old)), (model.clone(), model));
        assert_eq!(set(r#"{"type":"session.created","session":{}}"#), Event::Session(None));
        let heard = r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","transcript":"hi",
            "usage":{"type":"tokens","total_tokens":48,"input_tokens":38,"input_token_details":{"text_tokens":10,"audio_tokens":28},"output_tokens":10}}"#;
        let Event::Heard(Some(usage)) = set(heard) else { panic!("it is heard") };
        assert_eq!((usage.prompt_tokens, usage.audio_in_tokens, usage.completion_tokens), (38, 28, 10));
        let timed = r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"duration","seconds":2.5}}"#;
        let Event::Heard(Some(usage)) = set(timed) else { panic!("it is heard") };
        assert_eq!(usage.millis_in, 2500);
    }

    #[test]
    fn answers_begin_go_on_and_are_over() {
        let begun = br#"{"type":"response.created","event_id":"e","response":{"id":"r","usage":null}}"#;
        assert_eq!(event(begun), Event::Begun);
        let part = br#"{"type":"response.output_audio.delta","event_id":"e","delta":"AAAA"}"#;
        assert_eq!(event(part), Event::Part);
        let done = br#"{"type":"response.done","event_id":"e","response":{"id":"r","status":"completed","output":[{"type":"message"}],
            "usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,
            "input_token_details":{"text_tokens":119,"audio_tokens":13,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":64}},
            "output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;
        let Event::Done(Some(usage)) = event(done) else { panic!("it is over") };
        assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.audio_in_tokens), (132, 64, 13));
        assert_eq!((usage.completion_tokens, usage.audio_out_tokens), (121, 91));
        assert_eq!(event(br#"{"type":"response.done","response":{"status":"failed"}}"#), Event::Done(None));
        for other in [&b""[..], b"null", b"{", br#"{"a":"response.done"}"#] {
            assert_eq!(event(other), Event::Other);
        }
    }
}
