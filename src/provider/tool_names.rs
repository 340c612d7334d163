//! Names of tools that are too long for OpenAI's format: it takes 64 characters, and Anthropic's clients, whose MCP tools
//! carry the name of their server, send up to 128. The upstream is told a shorter one, the caller hears the one he gave.

use super::hub::{NameRule, ToolNames};
use crate::envelope::{Edits, Envelope};
use crate::error::Result;
use crate::wire::json::{self, Kind};
use serde_json::Value;
use std::ops::Range;

const LONGEST: usize = 64;
/// The characters of names are the caller's business: only what is too long is written otherwise.
const RULE: NameRule = NameRule { longest: LONGEST, letter_first: false };

/// The chat with names that fit, and which ones they were; `None` where all of them fit.
///
/// # Errors
/// The changed body is not acceptable, which does not happen to one that was.
pub fn shorten(chat: &Envelope, max_nesting: usize) -> Result<Option<(Envelope, ToolNames)>> {
    let places = places(chat);
    let text = |place: &Range<usize>| std::str::from_utf8(&chat.bytes()[place.clone()]).unwrap_or_default();
    if places.iter().all(|place| place.len() <= LONGEST) {
        return Ok(None);
    }
    let names = ToolNames::new(RULE, places.iter().map(text));
    let mut edits = Edits::default();
    for place in &places {
        let (given, sent) = (text(place), names.sent(text(place)));
        if given != sent {
            edits.splice(place.clone(), sent.as_bytes().to_vec());
        }
    }
    Ok(Some((Envelope::parse(edits.apply(chat), max_nesting)?, names)))
}

/// An answer, or an event of a stream, with the names that the caller gave; `None` where it calls nothing.
pub fn restore(names: &ToolNames, answer: &[u8]) -> Option<Vec<u8>> {
    if names.is_empty() || memchr::memmem::find(answer, b"\"tool_calls\"").is_none() {
        return None;
    }
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    for choice in answer["choices"].as_array_mut()? {
        for of in ["message", "delta"] {
            let calls = choice.get_mut(of).and_then(|said| said.get_mut("tool_calls")).and_then(Value::as_array_mut);
            for call in calls.into_iter().flatten() {
                if let Some(name) = call.get_mut("function").and_then(|function| function.get_mut("name"))
                    && let Some(given) = name.as_str().map(|sent| names.given(sent).to_owned())
                {
                    *name = given.into();
                }
            }
        }
    }
    Some(answer.to_string().into_bytes())
}

/// Where names of functions stand, between their quotes: of the tools, of the choice among them, of the calls so far.
fn places(chat: &Envelope) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let list = |name: &str| chat.get(name).filter(|m| m.value.kind == Kind::Array).map(|m| m.value.span.clone());
    for tool in list("tools").into_iter().flat_map(|tools| elements(chat, tools)) {
        found.extend(name_of(chat, tool));
    }
    if let Some(choice) = chat.get("tool_choice").filter(|m| m.value.kind == Kind::Object) {
        found.extend(name_of(chat, choice.value.span.clone()));
    }
    for message in list("messages").into_iter().flat_map(|messages| elements(chat, messages)) {
        let calls = member(chat, message, b"tool_calls", Kind::Array);
        for call in calls.into_iter().flat_map(|calls| elements(chat, calls)) {
            found.extend(name_of(chat, call));
        }
    }
    found
}

/// The name in the `function` of a tool, a choice or a call. One that is written with escapes stays as it is.
fn name_of(chat: &Envelope, holder: Range<usize>) -> Option<Range<usize>> {
    let function = member(chat, holder, b"function", Kind::Object)?;
    let quoted = member(chat, function, b"name", Kind::String)?;
    let name = quoted.start + 1..quoted.end - 1;
    (!chat.bytes()[name.clone()].contains(&b'\\')).then_some(name)
}

/// The objects of an array. All of this was checked when the body was parsed.
fn elements(chat: &Envelope, array: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let _ = json::array(&chat.bytes()[array.clone()], usize::MAX, |item| {
        if item.kind == Kind::Object {
            found.push(array.start + item.span.start..array.start + item.span.end);
        }
    });
    found
}

fn member(chat: &Envelope, object: Range<usize>, name: &[u8], kind: Kind) -> Option<Range<usize>> {
    let text = &chat.bytes()[object.clone()];
    let mut found = None;
    let _ = json::object(text, usize::MAX, |m| {
        if &text[m.key] == name && m.value.kind == kind {
            found = Some(object.start + m.value.span.start..object.start + m.value.span.end);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn long_names_go_up_short_and_come_back_long() {
        let long = "mcp__".to_owned() + &"x".repeat(80);
        let body = format!(
            r#"{{"model":"m","tools":[{{"type":"function","function":{{"parameters":{{"n":1.0}},"name":"{long}"}}}},{{"type":"function","function":{{"name":"b"}}}}],"tool_choice":{{"type":"function","function":{{"name":"{long}"}}}},"messages":[{{"role":"user","content":"{long}"}},{{"role":"assistant","tool_calls":[{{"id":"1","function":{{"name":"{long}","arguments":"{{}}"}}}}]}}]}}"#
        );
        let chat = Envelope::parse(Bytes::from(body.clone()), 32).unwrap();
        let (sent, names) = shorten(&chat, 32).unwrap().unwrap();
        let short = names.sent(&long);
        assert!(short.len() == LONGEST && short.starts_with("mcp__xxx"), "{short}");
        let expected = body.replace(&format!(r#""name":"{long}""#), &format!(r#""name":"{short}""#));
        assert_eq!(sent.bytes(), expected.as_bytes());

        let event = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"function":{{"name":"{short}"}}}}]}}}}]}}"#);
        assert_eq!(restore(&names, event.as_bytes()).unwrap(), event.replace(short, &long).as_bytes());
        assert!(restore(&names, br#"{"choices":[{"delta":{"content":"x"}}]}"#).is_none());
    }

    #[test]
    fn names_that_fit_leave_the_body_alone() {
        let body = r#"{"tools":[{"function":{"name":"a"}},{"type":"x"}],"tool_choice":"auto","messages":[{}]}"#;
        let chat = Envelope::parse(Bytes::from_static(body.as_bytes()), 32).unwrap();
        assert!(shorten(&chat, 32).unwrap().is_none());
    }
}
