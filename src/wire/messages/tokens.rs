//! How many tokens a request has, for upstreams that cannot count them.

use super::request::bad_body;
use crate::error::Error;
use crate::wire::json::Kind;
use crate::wire::place::{Members, Place, Val, inner};

/// What Anthropic's own rule (width times height over 750) gives for an image at its largest.
const IMAGE: u64 = 1600;
/// A page of a PDF, read as text and as an image.
const PAGE: u64 = 2000;
/// Base64 characters of such a page: about 50 kB.
const PAGE_BASE64: usize = 70_000;
/// What surrounds a message, and a tool.
const MESSAGE: u64 = 4;
const TOOL: u64 = 12;
/// Blocks hold blocks no deeper than this: a result holds a document that holds text.
const MAX_NESTING: usize = 8;

/// An estimate of a request's input tokens, made without a tokenizer: one for four ASCII characters, one for two of the
/// other alphabets, one for each character beyond those (Chinese, emoji); 1600 for an image, 2000 for a PDF's page,
/// taking a page for 50 kB; tools by the length of their JSON; and a few around each message and tool.
/// It errs on the high side: a client that compacts a little early fares better than one that is refused.
///
/// # Errors
/// A 400 when the body is no request.
pub fn estimate_tokens(body: &[u8]) -> Result<u64, Error> {
    let root = Place::ROOT;
    let request = Val::root(body).map_err(bad_body)?;
    let mut tokens = request.get("system").map_or(0, |system| content(system, MAX_NESTING));
    let at = root.name("messages");
    for (i, message) in request.need("messages", &root)?.items(&at)?.into_iter().enumerate() {
        let message = message.members(&at.index(i))?;
        tokens += MESSAGE + message.get("content").map_or(0, |value| content(value, MAX_NESTING));
    }
    if let Some(tools) = request.get("tools") {
        for tool in tools.items(&root.name("tools"))? {
            tokens += TOOL + text(tool.json);
        }
    }
    Ok(tokens)
}

/// A string, or a list of blocks.
fn content(value: Val<'_>, depth: usize) -> u64 {
    let at = Place::ROOT;
    match (value.kind, depth.checked_sub(1)) {
        (Kind::String, _) => text(inner(value.json)),
        (Kind::Array, Some(depth)) => {
            let items = value.items(&at).unwrap_or_default();
            items.into_iter().map(|item| item.members(&at).map_or(0, |item| block(&item, depth))).sum()
        }
        _ => text(value.json),
    }
}

fn block(block: &Members<'_>, depth: usize) -> u64 {
    let member = |name: &str| block.get(name).map_or(0, |value| content(value, depth));
    match block.get("type").map_or("", |kind| inner(kind.json)) {
        "image" => IMAGE,
        "document" => member("title") + member("context") + block.get("source").map_or(0, |value| source(value, depth)),
        // Encrypted; nobody but Anthropic knows how much it is.
        "redacted_thinking" => 0,
        "thinking" => member("thinking"),
        "tool_use" | "server_tool_use" => {
            member("name") + block.get("input").map_or(0, |input| MESSAGE + text(input.json))
        }
        _ => ["text", "content", "title", "source", "tool_name"].iter().map(|name| member(name)).sum(),
    }
}

fn source(value: Val<'_>, depth: usize) -> u64 {
    let Ok(source) = value.members(&Place::ROOT) else { return 0 };
    match source.get("type").map_or("", |kind| inner(kind.json)) {
        "base64" => {
            let pages = source.get("data").map_or(0, |data| data.json.len()).div_ceil(PAGE_BASE64).max(1);
            PAGE * pages as u64
        }
        "text" => source.get("data").map_or(0, |data| text(inner(data.json))),
        "content" => source.get("content").map_or(0, |value| content(value, depth)),
        _ => PAGE,
    }
}

/// Quarters of tokens, by how many bytes UTF-8 has for a character.
fn text(text: &str) -> u64 {
    let quarter = |c: char| match c.len_utf8() {
        1 => 1,
        2 => 2,
        _ => 4,
    };
    text.chars().map(quarter).sum::<u64>().div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_shown_and_offered_counts() {
        let count = |body: &str| estimate_tokens(body.as_bytes()).unwrap();
        assert_eq!(count(r#"{"messages":[{"role":"user","content":"abcdefgh"}]}"#), 6);
        assert_eq!(count(r#"{"system":"abcd","messages":[{"role":"user","content":"日本"}]}"#), 7);
        let image = r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"AAAA"}},
            {"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"abcd"}]}]}]}"#;
        assert_eq!(count(image), 1605);
        let tools = r#"{"messages":[],"tools":[{"name":"a","input_schema":{"type":"object"}}]}"#;
        assert_eq!(count(tools), 12 + 12);
        let pdf = r#"{"messages":[{"content":[{"type":"document","source":{"type":"base64","data":""}}]}]}"#;
        assert_eq!(count(pdf), 2004);
        assert_eq!(estimate_tokens(b"{}").unwrap_err().body()["error"]["param"], "messages");
    }
}
