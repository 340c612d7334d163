//! Claude Code's billing line.

use crate::wire::MAX_DEPTH;
use crate::wire::json::{self, Kind};
use crate::wire::place::inner;
use std::ops::Range;

/// How the line begins. What follows changes with every request.
const HEADER: &str = "x-anthropic-billing-header:";

/// Where, in a text as it stands between quotes, the billing line at its start ends: behind the line breaks that follow.
pub fn line_end(raw: &str) -> Option<usize> {
    if !raw.starts_with(HEADER) {
        return None;
    }
    let bytes = raw.as_bytes();
    let mut at = HEADER.len();
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'\\', Some(b'n')) => {
                while bytes[at..].starts_with(b"\\n") {
                    at += 2;
                }
                return Some(at);
            }
            (b'\\', _) => at += 2,
            _ => at += 1,
        }
    }
    Some(raw.len())
}

/// Takes the billing line out of the `system` of an Anthropic request, for vendors other than Anthropic: it changes with
/// every request, so that no prompt cache would ever be hit. A block that holds nothing else goes with it. All other
/// bytes stay as they are.
///
/// `None` when there is nothing to take out, or the body is no JSON object (which is for others to tell).
pub fn strip_billing_header(body: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(body, HEADER.as_bytes())?;
    let text = std::str::from_utf8(body).ok()?;
    let mut system = None;
    json::object(body, MAX_DEPTH, |m| {
        if &text[m.key] == "system" {
            system = Some(m.value);
        }
    })
    .ok()?;
    let system = system?;
    let cuts = match system.kind {
        Kind::String => cut(text, &system.span).into_iter().collect(),
        Kind::Array if system.first_other.is_none() => cuts(text, &system.span)?,
        _ => return None,
    };
    if cuts.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    for cut in cuts {
        out.extend_from_slice(&body[at..cut.start]);
        at = cut.end;
    }
    out.extend_from_slice(&body[at..]);
    Some(out)
}

/// What to cut out of an array of blocks, in order.
fn cuts(text: &str, array: &Range<usize>) -> Option<Vec<Range<usize>>> {
    let mut blocks = Vec::new();
    json::array(&text.as_bytes()[array.clone()], MAX_DEPTH, |v| {
        let block = array.start + v.span.start..array.start + v.span.end;
        let string = text_of(text, &block);
        let line = string.as_ref().and_then(|string| cut(text, string));
        let whole = line.as_ref().zip(string).is_some_and(|(line, string)| line.end + 1 == string.end);
        blocks.push((block, line, whole));
    })
    .ok()?;
    let last_kept = blocks.iter().rposition(|(_, _, whole)| !whole);
    let mut cuts = Vec::new();
    for (i, (block, line, whole)) in blocks.iter().enumerate() {
        // A block goes with the comma behind it; those after the last kept one go with the comma before them.
        match (blocks.get(i + 1), last_kept) {
            (Some((next, ..)), Some(last)) if *whole && i < last => cuts.push(block.start..next.start),
            _ if !whole => cuts.extend(line.clone()),
            _ => (),
        }
    }
    let from = match last_kept {
        Some(last) => blocks[last].0.end,
        None => blocks.first()?.0.start,
    };
    let to = blocks.last()?.0.end;
    if from < to && last_kept.is_none_or(|last| last + 1 < blocks.len()) {
        cuts.push(from..to);
    }
    Some(cuts)
}

/// The billing line at the start of the string that stands at `span`.
fn cut(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let end = line_end(inner(&text[span.clone()]))?;
    Some(span.start + 1..span.start + 1 + end)
}

/// Where the `text` of a block stands.
fn text_of(text: &str, block: &Range<usize>) -> Option<Range<usize>> {
    let mut found = None;
    let inside = &text[block.clone()];
    json::object(inside.as_bytes(), MAX_DEPTH, |m| {
        if &inside[m.key] == "text" && m.value.kind == Kind::String {
            found = Some(block.start + m.value.span.start..block.start + m.value.span.end);
        }
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(body: &str) -> Option<String> {
        strip_billing_header(body.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_the_billing_line_goes() {
        const BLOCK: &str = r#"{"type":"text","text":"x-anthropic-billing-header: cc_version=2; cch=1f;"}"#;
        for (before, after) in [
            (
                format!(r#"{{"system": [ {BLOCK} , {{"type":"text","text":"a"}} ]}}"#),
                r#"{"system": [ {"type":"text","text":"a"} ]}"#,
            ),
            (format!(r#"{{"system":[{{"text":"a"}}, {BLOCK}], "n":1.0}}"#), r#"{"system":[{"text":"a"}], "n":1.0}"#),
            (format!(r#"{{"system":[{BLOCK},{{"text":"a"}},{BLOCK},{BLOCK}]}}"#), r#"{"system":[{"text":"a"}]}"#),
            (format!(r#"{{"system":[{BLOCK},{BLOCK}]}}"#), r#"{"system":[]}"#),
            (r#"{"system":"x-anthropic-billing-header: a\n\nBe brief."}"#.into(), r#"{"system":"Be brief."}"#),
            (
                r#"{"system":[{"text":"x-anthropic-billing-header: a\nBe brief.","type":"text"}]}"#.into(),
                r#"{"system":[{"text":"Be brief.","type":"text"}]}"#,
            ),
        ] {
            assert_eq!(strip(&before).as_deref(), Some(after), "{before}");
        }
    }

    #[test]
    fn other_bodies_stay() {
        for body in [
            r#"{"system":"Be brief."}"#,
            r#"{"messages":[{"content":"x-anthropic-billing-header: quoted"}]}"#,
            r#"{"system":"Say x-anthropic-billing-header: now"}"#,
            r#"{"system":["x-anthropic-billing-header: a"]}"#,
            r#"{"system":"x-anthropic-billing-header: a"#,
        ] {
            assert_eq!(strip(body), None, "{body}");
        }
    }
}
