//! A whole chat completion as a response.

use super::echo::{Echo, Status, Told};
use super::items::Items;
use crate::envelope::shorten;
use crate::error::{Error, Kind};
use crate::usage::Usage;
use crate::wire::hub::calls::{Calls, Sink};
use crate::wire::hub::{self, Answer, Piece};
use crate::wire::place::inner;
use bytes::BytesMut;

/// Translates a whole `chat.completion` into the response of that id: reasoning first, then text, then calls of tools.
///
/// # Errors
/// The answer holds no message, or a call of a tool without a name.
pub fn from_chat(body: &[u8], echo: &Echo, id: &str, created: u64) -> Result<Vec<u8>, Error> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|e| garbled(&shorten(&e.to_string())))?;
    let choice = answer.choices.and_then(|choices| choices.into_iter().next());
    let Some(choice) = choice else { return Err(garbled("it holds no choices")) };
    let message = choice.message.unwrap_or_default();

    // The events that these make are nobody's; the items are what is wanted.
    let (mut items, mut events) = (Items::new(id, &echo.custom), BytesMut::new());
    let mut reasoning = hub::string(message.reasoning_content).or(hub::string(message.reasoning));
    for block in hub::thinking_blocks(message.thinking_blocks) {
        if let Some(data) = hub::string(block.data) {
            items.redacted(data, &mut events);
            continue;
        }
        // The blocks say in parts what `reasoning_content` says at once.
        if let Some(text) = hub::string(block.thinking) {
            reasoning = None;
            items.thinking(text, &mut events);
        }
        if let Some(signature) = hub::string(block.signature) {
            items.signature(signature, &mut events);
        }
    }
    if let Some(text) = reasoning {
        items.thinking(text, &mut events);
    }
    hub::pieces(message.content, &mut |piece| match piece {
        Piece::Thinking(text) => items.thinking(text, &mut events),
        Piece::Text(text) => items.text(text, &mut events),
    });
    items.logprobs(choice.logprobs);
    items.annotate(message.annotations, &mut events);
    if let Some(refusal) = hub::string(message.refusal) {
        items.refusal(refusal, &mut events);
    }
    let mut calls = Calls::default();
    for call in message.tool_calls.iter().flatten() {
        calls.piece(call, &mut items, &mut events).map_err(garbled)?;
        calls.leave(&mut items, &mut events);
    }
    if let Some(function) = &message.function_call {
        calls.legacy(function, &mut items, &mut events).map_err(garbled)?;
    }
    calls.finish(&mut items, &mut events).map_err(garbled)?;
    items.close(&mut events);

    let usage = answer.usage.and_then(|usage| Usage::read(usage.get().as_bytes()));
    let finish = choice.finish_reason.map(|reason| inner(reason.get()));
    let model = hub::string(answer.model).unwrap_or_default();
    let mut out = Vec::with_capacity(items.done.len() + 1024);
    let told = Told {
        id: &format!("resp_{id}"),
        created,
        model,
        status: Status::of(finish),
        output: &items.done,
        usage: usage.as_ref(),
        error: None,
    };
    echo.write(&told, &mut out);
    Ok(out)
}

fn garbled(what: &str) -> Error {
    Error::new(Kind::Garbled, format!("The answer of the upstream makes no sense: {what}."))
}
