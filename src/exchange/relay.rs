//! A streamed answer on its way: the upstream's bytes in, the caller's events out.

use super::{Back, Teller};
use crate::error::{Error, Kind, Origin};
use crate::provider::{foreign, hub, tool_names};
use crate::route::Tariff;
use crate::tap::{Step, Tap};
use crate::usage::Usage;
use crate::wire::feed::{Broken, Feed};
use crate::wire::messages::{self, Watch};
use crate::wire::sse::{self, Content, Events};
use crate::wire::{completions, gemini, responses};
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
    Chat { foreign: Option<Box<Translator>>, tap: Tap },
    Messages(Watch),
    Responses(responses::Watch),
    FromChat { foreign: Option<Box<Translator>>, tap: Tap, telling: Telling },
}

/// A stream of chat on its way to a caller of another format.
#[derive(Debug)]
enum Telling {
    Messages { stream: Box<messages::Stream>, names: Arc<hub::ToolNames> },
    Responses(Box<responses::Stream>),
    Completions,
    Gemini(Box<gemini::Stream>),
}

impl Telling {
    fn new(to: Teller) -> Self {
        match to {
            Teller::Messages { model, id, estimated_input, names } => {
                Telling::Messages { stream: Box::new(messages::Stream::new(&model, &id, estimated_input)), names }
            }
            Teller::Responses { echo, model, id, created, estimated_input } => {
                Telling::Responses(Box::new(responses::Stream::new(*echo, &id, created, &model, estimated_input)))
            }
            Teller::Completions => Telling::Completions,
            Teller::Gemini { model, id, thoughts } => {
                Telling::Gemini(Box::new(gemini::Stream::new(model, id, thoughts)))
            }
        }
    }

    /// Tells the chunks that a step of the tap holds: one, or a last one and its `[DONE]`.
    fn chunks(&mut self, events: Bytes, out: &mut BytesMut) {
        let mut parts = Events::new(MAX_EVENT);
        parts.push(events);
        while let Ok(Some(event)) = parts.take() {
            let Content::Data(data) = sse::content(&event) else { continue };
            match self {
                Telling::Messages { stream, names } => match tool_names::restore(names, &data) {
                    Some(restored) => stream.chunk(&restored, out),
                    None => stream.chunk(&data, out),
                },
                Telling::Responses(stream) => stream.chunk(&data, out),
                Telling::Completions => completions::chunk(&data, out),
                Telling::Gemini(stream) => stream.chunk(&data, out),
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        match self {
            Telling::Messages { stream, .. } => stream.end(out),
            Telling::Responses(stream) => stream.end(out),
            Telling::Completions => (),
            Telling::Gemini(stream) => stream.end(out),
        }
    }

    fn has_succeeded(&self) -> bool {
        match self {
            Telling::Messages { stream, .. } => stream.has_succeeded(),
            Telling::Responses(stream) => stream.has_succeeded(),
            Telling::Completions | Telling::Gemini(_) => true,
        }
    }

    fn failure(&mut self) -> Option<Error> {
        match self {
            Telling::Messages { stream, .. } => stream.failure(),
            Telling::Responses(stream) => stream.failure(),
            Telling::Completions | Telling::Gemini(_) => None,
        }
    }
}

/// What stands between an upstream of another language and the tap.
#[derive(Debug)]
struct Translator {
    feed: Feed,
    stream: foreign::Stream,
    /// Nothing counts behind garbage, whether it came in the same piece or in a later one.
    garbled: bool,
}

impl Translator {
    fn new(context: foreign::Context) -> Self {
        Translator {
            feed: Feed::new(context.framing(), MAX_EVENT),
            stream: foreign::Stream::new(context),
            garbled: false,
        }
    }

    /// The chunks that these bytes mean.
    fn push(&mut self, chunk: Bytes) -> Bytes {
        self.feed.push(chunk);
        while !self.garbled {
            match self.feed.take() {
                Ok(Some(piece)) => self.stream.piece(&piece),
                Ok(None) => break,
                Err(Broken) => self.garbled = true,
            }
        }
        self.stream.take()
    }

    fn end(&mut self) -> Bytes {
        match self.feed.finish() {
            _ if self.garbled => (),
            Ok(Some(rest)) => self.stream.piece(&rest),
            Ok(None) => (),
            Err(Broken) => self.garbled = true,
        }
        self.stream.end();
        self.stream.take()
    }
}

impl Relay {
    /// `tariff` prices the usage that the caller is shown.
    pub fn new(back: Back, origin: Arc<Origin>, tariff: Tariff) -> Self {
        let translator = |from: Option<Box<foreign::Context>>| from.map(|context| Box::new(Translator::new(*context)));
        let way = match back {
            Back::Chat { from, shows_usage } => {
                Way::Chat { foreign: translator(from), tap: Tap::new(origin.clone(), shows_usage, tariff) }
            }
            Back::Messages => Way::Messages(Watch::new(origin.clone())),
            Back::Completions { shows_usage } => {
                Way::Chat { foreign: None, tap: Tap::new(origin.clone(), shows_usage, tariff) }
            }
            // It does not stream; what comes all the same is looked at as a stream of chat.
            Back::Plain { .. }
            | Back::Vectors { .. }
            | Back::GeminiVectors(..)
            | Back::Ranks(_)
            | Back::Pictures
            | Back::Transcript { .. }
            | Back::Painted { .. }
            | Back::Heard { .. } => Way::Chat { foreign: None, tap: Tap::new(origin.clone(), true, tariff) },
            Back::Responses => Way::Responses(responses::Watch::new(origin.clone())),
            Back::FromChat { from, to, shows_usage } => Way::FromChat {
                foreign: translator(from),
                // A format that says costs in its own way says none of the hub's.
                tap: Tap::new(
                    origin.clone(),
                    shows_usage,
                    match &to {
                        Teller::Completions => tariff,
                        Teller::Messages { .. } | Teller::Responses { .. } | Teller::Gemini { .. } => Tariff::default(),
                    },
                ),
                telling: Telling::new(to),
            },
        };
        Relay { way, origin, ended: false }
    }

    /// Takes the next bytes; [`Relay::step`] must have said [`Step::More`] before.
    pub fn push(&mut self, chunk: Bytes) {
        match &mut self.way {
            Way::Messages(watch) => watch.push(chunk),
            Way::Responses(watch) => watch.push(chunk),
            Way::Chat { foreign: None, tap } | Way::FromChat { foreign: None, tap, .. } => tap.push(chunk),
            Way::Chat { foreign: Some(foreign), tap } | Way::FromChat { foreign: Some(foreign), tap, .. } => {
                tap.push(foreign.push(chunk));
            }
        }
    }

    /// The upstream has ended the stream; nothing is pushed any more.
    pub fn end(&mut self) {
        self.ended = true;
        if let Way::Chat { foreign: Some(foreign), tap } | Way::FromChat { foreign: Some(foreign), tap, .. } =
            &mut self.way
        {
            tap.push(foreign.end());
        }
    }

    /// What is to be done next; once the upstream has ended it is never [`Step::More`].
    pub fn step(&mut self) -> Step {
        let ended = self.ended;
        match &mut self.way {
            Way::Chat { foreign, tap } => or_end(tap.step(), foreign.as_deref(), ended, &self.origin, || tap.end()),
            Way::Messages(watch) => or_end(watch.step(), None, ended, &self.origin, || watch.end()),
            Way::Responses(watch) => or_end(watch.step(), None, ended, &self.origin, || watch.end()),
            Way::FromChat { foreign, tap, telling } => {
                let mut out = BytesMut::new();
                loop {
                    if let Some(error) = telling.failure() {
                        return Step::Fail(error);
                    }
                    match or_end(tap.step(), foreign.as_deref(), ended, &self.origin, || tap.end()) {
                        Step::Forward(event) => telling.chunks(event, &mut out),
                        Step::Finish(event) => {
                            telling.chunks(event, &mut out);
                            telling.end(&mut out);
                            if telling.has_succeeded() {
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

    /// The whole response of a stream that has finished, where the caller's format has one.
    pub fn response(&self) -> Option<&Bytes> {
        match &self.way {
            Way::FromChat { telling: Telling::Responses(stream), .. } => stream.response(),
            Way::Responses(watch) => watch.response.as_ref(),
            _ => None,
        }
    }

    /// The last events of a stream that failed, where what went before matters to them.
    pub fn failed(&mut self, error: &Error) -> Option<Bytes> {
        match &mut self.way {
            Way::FromChat { telling: Telling::Responses(stream), .. } => Some(stream.failed(error)),
            Way::Responses(watch) => Some(responses::error_event(error, watch.events_so_far())),
            _ => None,
        }
    }

    /// The usage, as far as it is known.
    pub fn usage(&self) -> Option<Usage> {
        match &self.way {
            Way::Chat { foreign, tap } | Way::FromChat { foreign, tap, .. } => tap.usage.or_else(|| {
                let usage = foreign.as_ref()?.stream.usage_so_far()?;
                Some(Usage { completion_tokens: usage.completion_tokens.max(tap.seen_tokens()), ..usage })
            }),
            Way::Messages(watch) => watch.usage,
            Way::Responses(watch) => watch.usage,
        }
    }

    /// The upstream's id of the answer, once it is known.
    pub fn answer_id(&self) -> Option<&str> {
        match &self.way {
            Way::Chat { tap, .. } | Way::FromChat { tap, .. } => tap.answer_id.as_deref(),
            Way::Messages(watch) => watch.answer_id.as_deref(),
            Way::Responses(watch) => watch.answer_id.as_deref(),
        }
    }

    /// Output tokens so far, as far as they can be told without usage.
    pub fn seen_tokens(&self) -> u64 {
        match &self.way {
            Way::Chat { tap, .. } | Way::FromChat { tap, .. } => tap.seen_tokens(),
            Way::Messages(watch) => watch.seen_tokens(),
            Way::Responses(watch) => watch.seen_tokens(),
        }
    }
}

/// Where more is needed and there is none: what is wrong with the stream, or its end.
fn or_end(step: Step, foreign: Option<&Translator>, ended: bool, origin: &Origin, end: impl FnOnce() -> Step) -> Step {
    match step {
        Step::More if foreign.is_some_and(|foreign| foreign.garbled) => Step::Fail(Error::new(
            Kind::Garbled,
            format!("The answer of '{}' makes no sense: it is no event stream.", origin.provider),
        )),
        Step::More if ended => end(),
        step => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::anthropic;

    /// What a caller gets of a stream in pieces of this size, and whether it failed.
    fn told(stream: &[u8], size: usize) -> (BytesMut, bool) {
        let context = foreign::Context::Anthropic { context: anthropic::Context::default(), created: 1 };
        let back = Back::Chat { from: Some(Box::new(context)), shows_usage: false };
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
