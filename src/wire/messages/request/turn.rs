//! The turns of a conversation as messages.

use super::parts::{Part, Parts, cache, unknown};
use crate::error::Error;
use crate::wire::json::Kind;
use crate::wire::messages::billing;
use crate::wire::place::{Members, Place, Val, inner};
use crate::wire::write::{Object, comma, quote};
use std::borrow::Cow;

/// Between the blocks of a system prompt, as written in JSON.
const PARAGRAPH: &str = "\\n\\n";

/// The messages being written.
struct Messages<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl Messages<'_> {
    fn open(&mut self, role: &str) -> Object<'_> {
        comma(self.out, &mut self.empty);
        let mut message = Object::open(self.out);
        message.text("role", role);
        message
    }

    /// Adds what was moved out of results, as a user's message.
    fn flush(&mut self, moved: &mut Parts<'_>) {
        if !moved.is_empty() {
            self.add("user", moved, None);
            moved.0.clear();
        }
    }

    fn add(&mut self, role: &str, content: &Parts<'_>, joint: Option<&str>) {
        let mut message = self.open(role);
        content.write(message.slot("content"), joint);
        message.close();
    }
}

/// Writes `messages`, with what `system` says in front.
///
/// # Errors
/// A 400 that names the member at fault.
pub fn messages(request: &Members<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let root = Place::ROOT;
    out.push(b'[');
    let mut messages = Messages { out, empty: true };
    if let Some(system) = request.get("system") {
        let mut system = Parts::texts(system, &root.name("system"))?;
        without_billing(&mut system);
        if !system.is_empty() {
            messages.add("system", &system, Some(PARAGRAPH));
        }
    }
    let at = root.name("messages");
    let items = request.need("messages", &root)?.items(&at)?;
    if items.is_empty() {
        return Err(at.wrong("at least one message is required"));
    }
    // All results of one turn's calls must stand together, also when each of them is a message of its own; what was
    // moved out of them comes behind.
    let mut moved = Parts::default();
    for (i, item) in items.into_iter().enumerate() {
        let at = at.index(i);
        let message = item.members(&at)?;
        let content = message.need("content", &at)?;
        let content_at = at.name("content");
        let role = message.text("role", &at)?;
        if role != "user" {
            messages.flush(&mut moved);
        }
        match &*role {
            "user" => user(content, &content_at, &mut moved, &mut messages)?,
            "assistant" => assistant(content, &content_at, &mut messages)?,
            "system" => messages.add("system", &Parts::texts(content, &content_at)?, Some(PARAGRAPH)),
            other => {
                let other = crate::envelope::shorten(other);
                let what = format!("the role '{other}' is not known; 'user', 'assistant' and 'system' are");
                return Err(at.name("role").wrong(what));
            }
        }
    }
    messages.flush(&mut moved);
    out.push(b']');
    Ok(())
}

/// Claude Code's billing line changes with every request, which no prompt cache survives, and only Anthropic reads it.
fn without_billing(system: &mut Parts<'_>) {
    system.0.retain_mut(|part| match part {
        Part::Text { raw, .. } => match billing::line_end(raw) {
            Some(end) => {
                *raw = Cow::Owned(raw[end..].to_owned());
                !raw.is_empty()
            }
            None => true,
        },
        Part::Json(_) => true,
    });
}

/// A user's turn: first the results of tools, as OpenAI demands, then all the rest as one message.
fn user<'a>(content: Val<'a>, at: &Place<'_>, moved: &mut Parts<'a>, messages: &mut Messages<'_>) -> Result<(), Error> {
    if content.kind == Kind::String && moved.is_empty() {
        let mut message = messages.open("user");
        message.json("content", content.json);
        message.close();
        return Ok(());
    }
    let mut own = Parts::default();
    let mut answered = false;
    if content.kind == Kind::String {
        own.0.push(Part::Text { raw: inner(content.json).into(), cache: None });
    } else {
        for (i, item) in content.blocks(at)?.into_iter().enumerate() {
            let at = at.index(i);
            let block = item.members(&at)?;
            let kind = block.text("type", &at)?;
            if kind == "tool_result" {
                answered = true;
                tool_result(&block, &at, moved, messages)?;
            } else if !own.block(&kind, &block, &at)? {
                return Err(unknown(&kind, &at));
            }
        }
    }
    if !own.is_empty() || !answered {
        moved.0.append(&mut own.0);
        messages.add("user", moved, None);
        moved.0.clear();
    }
    Ok(())
}

/// The result of a tool: its texts are a `tool` message. Such messages hold nothing else, so images and files are
/// moved into the user's message behind it, with a word on whose result they are.
fn tool_result<'a>(
    block: &Members<'a>,
    at: &Place<'_>,
    moved: &mut Parts<'a>,
    messages: &mut Messages<'_>,
) -> Result<(), Error> {
    let id = block.string("tool_use_id", at)?;
    let mut parts = Parts::default();
    let content_at = at.name("content");
    match block.get("content") {
        Some(content) if content.kind == Kind::String => {
            parts.0.push(Part::Text { raw: inner(content.json).into(), cache: None });
        }
        Some(content) => {
            for (i, item) in content.blocks(&content_at)?.into_iter().enumerate() {
                let at = content_at.index(i);
                let block = item.members(&at)?;
                let kind = block.text("type", &at)?;
                if !parts.block(&kind, &block, &at)? {
                    return Err(unknown(&kind, &at));
                }
            }
        }
        None => (),
    }
    let mut mark = cache(block);
    let mut text = String::new();
    let mut others = Vec::new();
    for part in parts.0 {
        match part {
            Part::Text { raw, cache } => {
                mark = mark.or(cache);
                if !text.is_empty() {
                    text.push_str("\\n");
                }
                text.push_str(&raw);
            }
            other @ Part::Json(_) => others.push(other),
        }
    }
    // OpenAI has no mark for failures: the model must read it.
    if block.get("is_error").is_some_and(Val::is_true) && !text.starts_with("Error") {
        text.insert_str(0, if text.is_empty() { "Error" } else { "Error: " });
    }
    if !others.is_empty() {
        if text.is_empty() {
            text.push_str("The result is in the next message.");
        }
        let note = format!("From the result of the tool call {}:", inner(id));
        moved.0.push(Part::Text { raw: note.into(), cache: None });
        moved.0.append(&mut others);
    }
    let mut message = messages.open("tool");
    message.json("tool_call_id", id);
    message.json("content", format!("\"{text}\""));
    if let Some(mark) = mark {
        message.json("cache_control", mark);
    }
    message.close();
    Ok(())
}

/// What the blocks of an assistant's turn become.
#[derive(Default)]
struct Turn<'a> {
    content: Parts<'a>,
    /// The texts of all thinking, as they stand between quotes.
    reasoning: String,
    /// Blocks that Anthropic can check, as they were written.
    signed: Vec<&'a str>,
    calls: Vec<u8>,
    /// A mark on a call is a mark on the message: calls have no place for one.
    mark: Option<&'a str>,
}

/// An assistant's turn is one message.
fn assistant(content: Val<'_>, at: &Place<'_>, messages: &mut Messages<'_>) -> Result<(), Error> {
    if content.kind == Kind::String {
        let mut message = messages.open("assistant");
        message.json("content", content.json);
        message.close();
        return Ok(());
    }
    let mut turn = Turn::default();
    for (i, item) in content.blocks(at)?.into_iter().enumerate() {
        let at = at.index(i);
        turn.block(item, &at)?;
    }
    let mut message = messages.open("assistant");
    if turn.content.is_empty() && !turn.calls.is_empty() {
        message.json("content", "null");
    } else {
        // Blocks of one turn continue each other, often in the middle of a sentence.
        turn.content.write(message.slot("content"), Some(""));
    }
    if !turn.reasoning.is_empty() {
        message.json("reasoning_content", format!("\"{}\"", turn.reasoning));
    }
    if !turn.signed.is_empty() {
        message.json("thinking_blocks", format!("[{}]", turn.signed.join(",")));
    }
    if !turn.calls.is_empty() {
        let slot = message.slot("tool_calls");
        slot.push(b'[');
        slot.extend_from_slice(&turn.calls);
        slot.push(b']');
    }
    if let Some(mark) = turn.mark {
        message.json("cache_control", mark);
    }
    message.close();
    Ok(())
}

impl<'a> Turn<'a> {
    fn block(&mut self, item: Val<'a>, at: &Place<'_>) -> Result<(), Error> {
        let block = item.members(at)?;
        let kind = block.text("type", at)?;
        match &*kind {
            "text" => self.content.text(&block, at)?,
            "thinking" => {
                let text = inner(block.string("thinking", at)?);
                if !text.is_empty() && !self.reasoning.is_empty() {
                    self.reasoning.push_str("\\n");
                }
                self.reasoning.push_str(text);
                // Without a signature it did not come from Anthropic, which would refuse it.
                if block.get("signature").is_some_and(|signature| !inner(signature.json).is_empty()) {
                    self.signed.push(item.json);
                }
            }
            "redacted_thinking" => {
                block.string("data", at)?;
                self.signed.push(item.json);
            }
            "tool_use" => self.call(&block, at)?,
            // A summary in place of earlier turns.
            "compaction" => {
                if let Some(content) = block.get("content") {
                    let raw = inner(content.string(&at.name("content"))?).into();
                    self.content.0.push(Part::Text { raw, cache: cache(&block) });
                }
            }
            "server_tool_use" | "mcp_tool_use" => (),
            hosted if hosted.ends_with("_tool_result") => (),
            _ => return Err(unknown(&kind, at)),
        }
        Ok(())
    }

    fn call(&mut self, block: &Members<'a>, at: &Place<'_>) -> Result<(), Error> {
        let (id, name) = (block.string("id", at)?, block.string("name", at)?);
        let input = match block.get("input") {
            Some(input) => {
                input.members(&at.name("input"))?;
                input.json
            }
            None => "{}",
        };
        self.mark = cache(block).or(self.mark);
        let mut empty = self.calls.is_empty();
        comma(&mut self.calls, &mut empty);
        let mut call = Object::open(&mut self.calls);
        call.json("id", id);
        call.text("type", "function");
        let mut function = Object::open(call.slot("function"));
        function.json("name", name);
        quote(function.slot("arguments"), input);
        function.close();
        call.close();
        Ok(())
    }
}
