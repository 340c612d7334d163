//! Events of OpenAI's Realtime API, as far as what they cost is concerned.

use super::json::{self, Kind};
use crate::usage::Usage;
use serde::Deserialize;

/// Deeper nesting holds nothing that counts.
const MAX_DEPTH: usize = 128;
/// The type of an event stands this near to its beginning.
const HEAD: usize = 256;

/// What an event of the server means for the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An answer begins.
    Begun,
    /// A part of one.
    Part,
    /// An answer is over, and used this.
    Done(Option<Usage>),
    Other,
}

/// Looks at an event of the server.
pub fn event(text: &[u8]) -> Event {
    // Nearly all of them are parts; audio is long, and not read through.
    let head = &text[..text.len().min(HEAD)];
    if memchr::memmem::find(head, b"\"response.").is_none() {
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
        for other in
            [&b""[..], b"null", b"{", br#"{"type":"session.created","session":{}}"#, br#"{"a":"response.done"}"#]
        {
            assert_eq!(event(other), Event::Other);
        }
    }
}
