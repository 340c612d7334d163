//! What the readers of whole and of streamed chat completions share.

use super::RAW_ARGUMENTS;
use super::place::inner;
use super::write::{Object, quoted};
use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A call of a tool, or a piece of one.
#[derive(Deserialize)]
pub struct Call<'a> {
    #[serde(borrow)]
    pub index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub function: Option<Function<'a>>,
}

#[derive(Deserialize)]
pub struct Function<'a> {
    #[serde(borrow)]
    pub name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

/// LiteLLM's `thinking_blocks`: Anthropic's blocks as they were.
#[derive(Deserialize)]
pub struct Thinking<'a> {
    #[serde(borrow)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    pub signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

/// What stands between the quotes of a string that says something.
pub fn string(value: Option<&RawValue>) -> Option<&str> {
    let text = value?.get();
    (text.starts_with('"') && text.len() > 2).then(|| inner(text))
}

/// The blocks in a `thinking_blocks`; none where it is something else.
pub fn thinking_blocks(value: Option<&RawValue>) -> Vec<Thinking<'_>> {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}

/// A piece of a `content`.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Thinking(&'a str),
    Text(&'a str),
}

/// Shows the texts of a `content`: a string, or Mistral's list of text and thinking parts.
pub fn pieces<'a>(content: Option<&'a RawValue>, see: &mut dyn FnMut(Piece<'a>)) {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        text: Option<&'a RawValue>,
        #[serde(borrow)]
        refusal: Option<&'a RawValue>,
        #[serde(borrow)]
        thinking: Option<&'a RawValue>,
    }
    if let Some(text) = string(content) {
        return see(Piece::Text(text));
    }
    let Some(parts) = content.filter(|c| c.get().starts_with('[')) else { return };
    for part in serde_json::from_str::<Vec<Part<'a>>>(parts.get()).unwrap_or_default() {
        if let Some(text) = string(part.thinking) {
            see(Piece::Thinking(text));
        } else if let Some(inside) = part.thinking {
            for part in serde_json::from_str::<Vec<Part<'a>>>(inside.get()).unwrap_or_default() {
                if let Some(text) = string(part.text) {
                    see(Piece::Thinking(text));
                }
            }
        } else if let Some(text) = string(part.text).or(string(part.refusal)) {
            see(Piece::Text(text));
        }
    }
}

/// Why an answer ended, in Anthropic's words. A model that calls tools says so whatever its upstream calls it; a call
/// that was cut off for its length must not look complete.
pub fn stop_reason(finish: Option<&str>, calls: bool, refused: bool) -> &'static str {
    match finish {
        _ if refused => "refusal",
        Some("content_filter") => "refusal",
        Some("length") => "max_tokens",
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

/// Whether an `error` member says that there is one.
pub fn is_error(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| !matches!(value.get(), "null" | "false" | "\"\"" | "{}" | "0"))
}

/// A whole number, if it is one.
pub fn number(value: Option<&RawValue>) -> Option<usize> {
    value?.get().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
