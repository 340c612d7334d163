//! A whole chat completion as an Anthropic message.

use super::usage;
use super::words;
use crate::envelope::shorten;
use crate::error::{Error, Kind};
use crate::usage::Usage;
use crate::wire::hub::{self, Answer, Call, Function, Message, Piece};
use crate::wire::write::{Object, comma, quoted};
use crate::wire::{MAX_DEPTH, place};

/// The `content` being written.
#[derive(Debug)]
pub(super) struct Content {
    pub json: Vec<u8>,
    pub empty: bool,
}

impl Content {
    pub fn block(&mut self, kind: &str) -> Object<'_> {
        comma(&mut self.json, &mut self.empty);
        let mut block = Object::open(&mut self.json);
        block.text("type", kind);
        block
    }

    /// A text as it stands between quotes.
    fn text(&mut self, raw: &str) {
        let mut block = self.block("text");
        block.json("text", format!("\"{raw}\""));
        block.close();
    }

    fn thinking(&mut self, raw: &str, signature: &str) {
        let mut block = self.block("thinking");
        block.json("thinking", format!("\"{raw}\""));
        block.json("signature", format!("\"{signature}\""));
        block.close();
    }
}

/// Translates a whole `chat.completion` into an Anthropic `message` of that id, made by that model as the client calls
/// it: thinking first, then text, then tool calls. Thinking without a signature gets an empty one. Arguments that are no
/// JSON object are kept as text under [`RAW_ARGUMENTS`](super::RAW_ARGUMENTS).
///
/// # Errors
/// The answer holds no message, or a call of a tool without a name.
pub fn from_chat(body: &[u8], model: &str, id: &str) -> Result<Vec<u8>, Error> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|e| garbled(&shorten(&e.to_string())))?;
    let choice = answer.choices.and_then(|choices| choices.into_iter().next());
    let Some(choice) = choice else { return Err(garbled("it holds no choices")) };
    let message = choice.message.unwrap_or_default();

    let mut content = Content { json: Vec::with_capacity(body.len()), empty: true };
    let refused = said(&message, &mut content);
    let legacy = message.function_call.map(|function| Call { index: None, id: None, function: Some(function) });
    let mut calls = 0;
    for call in message.tool_calls.into_iter().flatten().chain(legacy) {
        let function = call.function.unwrap_or(Function { name: None, arguments: None });
        let Some(name) = hub::string(function.name) else {
            return Err(garbled("it calls a tool without naming it"));
        };
        let id = words::tool_id(hub::string(call.id).unwrap_or_default(), id, calls);
        let mut block = content.block("tool_use");
        block.json("id", format!("\"{id}\""));
        block.json("name", format!("\"{name}\""));
        words::input(function.arguments, MAX_DEPTH, block.slot("input"));
        block.close();
        calls += 1;
    }

    let finish = choice.finish_reason.map(|reason| place::inner(reason.get()));
    let used = answer.usage.and_then(|usage| Usage::read(usage.get().as_bytes())).unwrap_or_default();
    Ok(message_of(id, model, &content, words::stop_reason(finish, calls > 0, refused), &used))
}

/// The whole message.
pub(super) fn message_of(id: &str, model: &str, content: &Content, stop_reason: &str, used: &Usage) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.json.len() + 400);
    let mut written = Object::open(&mut out);
    written.json("id", quoted(id));
    written.text("type", "message");
    written.text("role", "assistant");
    written.json("model", quoted(model));
    let slot = written.slot("content");
    slot.push(b'[');
    slot.extend_from_slice(&content.json);
    slot.push(b']');
    written.text("stop_reason", stop_reason);
    written.json("stop_sequence", "null");
    usage::write(used, written.slot("usage"));
    written.close();
    out
}

/// What a message says, calls apart: thinking first, then texts. Says whether it refuses.
pub(super) fn said(message: &Message<'_>, content: &mut Content) -> bool {
    thinking(message, content);
    // All thinking goes in front; only Mistral's parts can hold it in between.
    hub::pieces(message.content, &mut |piece| {
        if let Piece::Thinking(text) = piece {
            content.thinking(text, "");
        }
    });
    hub::pieces(message.content, &mut |piece| {
        if let Piece::Text(text) = piece {
            content.text(text);
        }
    });
    let refusal = hub::string(message.refusal);
    if let Some(refusal) = refusal {
        content.text(refusal);
    }
    refusal.is_some()
}

/// Blocks as they were where the upstream tells them; else its reasoning as one block.
fn thinking(message: &Message<'_>, content: &mut Content) {
    let mut any = false;
    for block in hub::thinking_blocks(message.thinking_blocks) {
        if let Some(data) = hub::string(block.data) {
            any = true;
            let mut written = content.block("redacted_thinking");
            written.json("data", format!("\"{data}\""));
            written.close();
            continue;
        }
        let (text, signature) = (hub::string(block.thinking), hub::string(block.signature));
        if text.is_some() || signature.is_some() {
            any = true;
            content.thinking(text.unwrap_or_default(), signature.unwrap_or_default());
        }
    }
    let reasoning = hub::string(message.reasoning_content).or(hub::string(message.reasoning));
    if let (false, Some(reasoning)) = (any, reasoning) {
        content.thinking(reasoning, "");
    }
}

fn garbled(what: &str) -> Error {
    Error::new(Kind::Garbled, format!("The answer of the upstream makes no sense: {what}."))
}
