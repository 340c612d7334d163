//! A streamed answer on its way: the upstream's bytes in, the caller's events out.

use super::Back;
use crate::error::{Error, Kind, Origin};
use crate::provider::{anthropic, tool_names};
use crate::route::Tariff;
use crate::tap::{Step, Tap};
use crate::usage::Usage;
use crate::wire::messages::{self, Watch};
use crate::wire::sse::{self, Content, Events};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// No single event of an upstream is larger.
const MAX_EVENT: usize = 16 << 20;

/// Steps through a stream, as [`Tap`] does, in whatever format it comes and goes.
#[derive(Debug)]
pub struct Relay {
    way: Way,
    origin: Arc<Origin>,
    ended: bool,
}

#[derive(Debug)]
enum Way {
    Chat(Tap),
    ChatFromMessages { events: Events, stream: Box<anthropic::Stream>, tap: Tap, garbled: bool },
    Messages(Watch),
    MessagesFromChat { tap: Tap, stream: Box<messages::Stream>, names: Arc<anthropic::ToolNames> },
}

impl Relay {
    /// `tariff` prices the usage that the caller is shown.
    pub fn new(back: Back, origin: Arc<Origin>, tariff: Tariff) -> Self {
        let way = match back {
            Back::Chat { shows_usage } => Way::Chat(Tap::new(origin.clone(), shows_usage, tariff)),
            Back::ChatFromMessages { context, created, shows_usage } => Way::ChatFromMessages {
                events: Events::new(MAX_EVENT),
                stream: Box::new(anthropic::Stream::new(context, created)),
                tap: Tap::new(origin.clone(), shows_usage, tariff),
                garbled: false,
            },
            Back::Messages => Way::Messages(Watch::new(origin.clone())),
            Back::MessagesFromChat { model, id, estimated_input, names } => Way::MessagesFromChat {
                tap: Tap::new(origin.clone(), true, Tariff::default()),
                stream: Box::new(messages::Stream::new(&model, &id, estimated_input)),
                names,
            },
        };
        Relay { way, origin, ended: false }
    }

    /// Takes the next bytes; [`Relay::step`] must have said [`Step::More`] before.
    pub fn push(&mut self, chunk: Bytes) {
        match &mut self.way {
            Way::Chat(tap) | Way::MessagesFromChat { tap, .. } => tap.push(chunk),
            Way::Messages(watch) => watch.push(chunk),
            Way::ChatFromMessages { events, stream, tap, garbled } => {
                events.push(chunk);
                let mut out = BytesMut::new();
                // Nothing counts behind garbage, whether it came in the same piece or in a later one.
                while !*garbled {
                    match events.take() {
                        Ok(Some(event)) => *garbled |= !translate(&event, stream, &mut out),
                        Ok(None) => break,
                        Err(sse::TooLarge) => *garbled = true,
                    }
                }
                tap.push(out.freeze());
            }
        }
    }

    /// The upstream has ended the stream; nothing is pushed any more.
    pub fn end(&mut self) {
        self.ended = true;
        if let Way::ChatFromMessages { events, stream, tap, garbled } = &mut self.way {
            let rest = events.finish();
            let mut out = BytesMut::new();
            if !*garbled && !rest.trim_ascii().is_empty() {
                *garbled |= !translate(&rest, stream, &mut out);
            }
            stream.end(&mut out);
            tap.push(out.freeze());
        }
    }

    /// What is to be done next; once the upstream has ended it is never [`Step::More`].
    pub fn step(&mut self) -> Step {
        let ended = self.ended;
        match &mut self.way {
            Way::Chat(tap) => or_end(tap.step(), ended, || tap.end()),
            Way::Messages(watch) => or_end(watch.step(), ended, || watch.end()),
            Way::ChatFromMessages { tap, garbled, .. } => match tap.step() {
                Step::More if *garbled => Step::Fail(Error::new(
                    Kind::Garbled,
                    format!("The answer of '{}' makes no sense: it is no event stream.", self.origin.provider),
                )),
                step => or_end(step, ended, || tap.end()),
            },
            Way::MessagesFromChat { tap, stream, names } => {
                let mut out = BytesMut::new();
                loop {
                    if let Some(error) = stream.failure() {
                        return Step::Fail(error);
                    }
                    match or_end(tap.step(), ended, || tap.end()) {
                        Step::Forward(event) => chunk(event, stream, names, &mut out),
                        Step::Finish(event) => {
                            chunk(event, stream, names, &mut out);
                            stream.end(&mut out);
                            if stream.has_succeeded() {
                                return Step::Finish(out.freeze());
                            }
                        }
                        step => return step,
                    }
                    if !out.is_empty() {
                        return Step::Forward(out.freeze());
                    }
                }
            }
        }
    }

    /// The usage, as far as it is known.
    pub fn usage(&self) -> Option<Usage> {
        match &self.way {
            Way::Chat(tap) | Way::MessagesFromChat { tap, .. } => tap.usage,
            Way::ChatFromMessages { tap, stream, .. } => tap.usage.or_else(|| {
                let usage = stream.usage_so_far()?;
                Some(Usage { completion_tokens: usage.completion_tokens.max(tap.seen_tokens()), ..usage })
            }),
            Way::Messages(watch) => watch.usage,
        }
    }

    /// The upstream's id of the answer, once it is known.
    pub fn answer_id(&self) -> Option<&str> {
        match &self.way {
            Way::Chat(tap) | Way::ChatFromMessages { tap, .. } | Way::MessagesFromChat { tap, .. } => {
                tap.answer_id.as_deref()
            }
            Way::Messages(watch) => watch.answer_id.as_deref(),
        }
    }

    /// Output tokens so far, as far as they can be told without usage.
    pub fn seen_tokens(&self) -> u64 {
        match &self.way {
            Way::Chat(tap) | Way::ChatFromMessages { tap, .. } | Way::MessagesFromChat { tap, .. } => tap.seen_tokens(),
            Way::Messages(watch) => watch.seen_tokens(),
        }
    }
}

fn or_end(step: Step, ended: bool, end: impl FnOnce() -> Step) -> Step {
    match step {
        Step::More if ended => end(),
        step => step,
    }
}

/// Gives the translation an event; false where it is none.
fn translate(event: &[u8], stream: &mut anthropic::Stream, out: &mut BytesMut) -> bool {
    match sse::content(event) {
        Content::Data(data) => stream.event(&data, out),
        Content::Nothing => (),
        Content::Garbage => return false,
    }
    true
}

/// Gives the translation the chunks that a step of the tap holds: one, or a last one and its `[DONE]`.
fn chunk(events: Bytes, stream: &mut messages::Stream, names: &anthropic::ToolNames, out: &mut BytesMut) {
    let mut parts = Events::new(MAX_EVENT);
    parts.push(events);
    while let Ok(Some(event)) = parts.take() {
        if let Content::Data(data) = sse::content(&event) {
            let named = tool_names::restore(names, &data);
            stream.chunk(named.as_deref().unwrap_or(&data), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a caller gets of a stream in pieces of this size, and whether it failed.
    fn told(stream: &[u8], size: usize) -> (BytesMut, bool) {
        let context = anthropic::Context::default();
        let back = Back::ChatFromMessages { context, created: 1, shows_usage: false };
        let mut relay = Relay::new(back, Arc::default(), Tariff::default());
        let (mut out, mut pieces) = (BytesMut::new(), stream.chunks(size));
        loop {
            match relay.step() {
                Step::Forward(event) => out.extend_from_slice(&event),
                Step::Finish(_) => return (out, false),
                Step::Fail(_) => return (out, true),
                Step::More => match pieces.next() {
                    Some(piece) => relay.push(Bytes::copy_from_slice(piece)),
                    None => relay.end(),
                },
            }
        }
    }

    #[test]
    fn nothing_counts_behind_garbage() {
        let start = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\"}}\n\n";
        let delta = "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
        let stream = format!("{start}no event\n\n{delta}");
        let (whole, failed) = told(stream.as_bytes(), stream.len());
        assert!(failed && !whole.is_empty());
        assert_eq!((whole, failed), told(stream.as_bytes(), 1));
    }
}
