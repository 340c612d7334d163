//! Anthropic's words for what a chat completion says.

use super::RAW_ARGUMENTS;
use crate::wire::json;
use crate::wire::place::inner;
use crate::wire::write::{Object, quoted};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Why an answer ended, in Anthropic's words. A model that calls tools says so whatever its upstream calls it; a call
/// that was cut off for its length must not look complete.
pub fn stop_reason(finish: Option<&str>, calls: bool, refused: bool) -> &'static str {
    match finish {
        _ if refused => "refusal",
        // Z.ai's and Mistral's own words.
        Some("content_filter" | "sensitive") => "refusal",
        Some("length" | "model_length") => "max_tokens",
        _ if calls => "tool_use",
        _ => "end_turn",
    }
}

/// The id of a call as Anthropic wants it, `[A-Za-z0-9_-]+`; where there is none, one made of the message's id and the
/// number of the call. Other characters become `_`, the same ones each time, since the client sends it back.
pub fn tool_id<'a>(raw: &'a str, message_id: &str, number: usize) -> Cow<'a, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let fit = |text: &str| -> String { text.chars().map(|c| if fits(c) { c } else { '_' }).collect() };
    if raw.is_empty() {
        let message = message_id.strip_prefix("msg_").unwrap_or(message_id);
        return format!("toolu_{}_{number}", fit(message)).into();
    }
    if raw.chars().all(fits) { raw.into() } else { fit(raw).into() }
}

/// Writes the arguments of a call as the object that Anthropic's `input` is. What is no object goes, as it was written,
/// under [`RAW_ARGUMENTS`].
pub fn input(arguments: Option<&RawValue>, max_depth: usize, out: &mut Vec<u8>) {
    let is_object = |text: &str| json::object(text.as_bytes(), max_depth, |_| ()).is_ok();
    let written = arguments.map_or("", RawValue::get);
    let text = if written.starts_with('"') {
        // Half a surrogate pair is no text; what is told of it is its escaped form.
        json::unescape(inner(written).as_bytes()).unwrap_or(Cow::Borrowed(written))
    } else {
        Cow::Borrowed(written)
    };
    if text.trim_ascii().is_empty() {
        out.extend_from_slice(b"{}");
    } else if is_object(&text) {
        out.extend_from_slice(text.trim_ascii().as_bytes());
    } else {
        let mut object = Object::open(out);
        object.json(RAW_ARGUMENTS, quoted(&text));
        object.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hub::{Piece, pieces};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn arguments_become_an_object_whatever_they_are() {
        for (arguments, expected) in [
            (r#""{\"a\": [1.0]}""#, r#"{"a": [1.0]}"#),
            (r#""""#, "{}"),
            (r#"" ""#, "{}"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#""{\"a\":""#, r#"{"raw_arguments":"{\"a\":"}"#),
            (r#""[1]""#, r#"{"raw_arguments":"[1]"}"#),
        ] {
            let mut out = Vec::new();
            input(Some(&raw(arguments)), 8, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{arguments}");
        }
    }

    #[test]
    fn ids_fit_and_contents_of_every_shape_are_read() {
        assert_eq!(tool_id("call_1", "msg_a", 0), "call_1");
        assert_eq!(tool_id("functions.find:0", "msg_a", 0), "functions_find_0");
        assert_eq!(tool_id("", "msg_a", 2), "toolu_a_2");
        let content =
            raw(r#"[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a\n"}]"#);
        let mut seen = Vec::new();
        pieces(Some(&content), &mut |piece| seen.push(piece));
        assert_eq!(seen, [Piece::Thinking("hm"), Piece::Text("a\\n")]);
        assert_eq!(stop_reason(Some("stop"), true, false), "tool_use");
        assert_eq!(stop_reason(Some("length"), true, false), "max_tokens");
        assert_eq!(stop_reason(Some("eos"), false, false), "end_turn");
        assert_eq!(stop_reason(Some("model_length"), false, false), "max_tokens");
    }
}
