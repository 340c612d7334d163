//! Watches the events of a stream that is in Anthropic's format already, and goes to the client as it came.

use super::problem::status_of;
use super::usage::Counts;
use crate::error::{Error, Kind as ErrorKind, Origin, from_upstream};
use crate::meter::{self, MAX_DEPTH};
use crate::tap::Step;
use crate::usage::Usage;
use crate::wire::json::{self, Kind};
use crate::wire::sse::{self, Content, Events};
use bytes::Bytes;
use std::sync::Arc;

/// No single event is larger.
const MAX_EVENT: usize = 16 << 20;
/// How nearly all events begin. They are not looked into.
const DELTA: &[u8] = b"event: content_block_delta";
const STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// The state of one stream. To be stepped as [`Tap`](crate::tap::Tap) is.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    origin: Arc<Origin>,
    counts: Counts,
    /// As far as it is known: before the upstream's last word its output tokens are an estimate.
    pub usage: Option<Usage>,
    /// The upstream's id of the answer.
    pub answer_id: Option<String>,
    /// The upstream has told the final counts and why it stopped.
    is_complete: bool,
    deltas: u64,
    delta_bytes: usize,
    smallest_delta: usize,
}

impl Watch {
    pub fn new(origin: Arc<Origin>) -> Self {
        Watch {
            events: Events::new(MAX_EVENT),
            origin,
            counts: Counts::default(),
            usage: None,
            answer_id: None,
            is_complete: false,
            deltas: 0,
            delta_bytes: 0,
            smallest_delta: usize::MAX,
        }
    }

    /// Takes the next bytes; [`Watch::step`] must have said [`Step::More`] before.
    pub fn push(&mut self, chunk: Bytes) {
        self.events.push(chunk);
    }

    pub fn step(&mut self) -> Step {
        match self.events.take() {
            Ok(Some(event)) => self.see(event),
            Ok(None) => Step::More,
            Err(sse::TooLarge) => self.garbled("an event of it is larger than 16 MiB"),
        }
    }

    /// The upstream has ended the stream.
    pub fn end(&mut self) -> Step {
        let rest = self.events.finish();
        let mut last = Bytes::new();
        if !rest.trim_ascii().is_empty() {
            match self.see(Bytes::from([&rest, b"\n\n".as_slice()].concat())) {
                Step::Forward(event) => last = event,
                step => return step,
            }
        }
        // Some servers leave the last event out.
        if self.is_complete {
            return Step::Finish(Bytes::from([&last, STOP].concat()));
        }
        Step::Fail(Error::new(
            ErrorKind::Garbled,
            format!("The answer of '{}' broke off before it was complete.", self.origin.provider),
        ))
    }

    /// Output tokens so far, as far as they can be told without usage: one an event, or one for four bytes of what the
    /// events hold beyond their frame.
    pub fn seen_tokens(&self) -> u64 {
        if self.deltas == 0 {
            return 0;
        }
        let frames = self.smallest_delta.saturating_mul(usize::try_from(self.deltas).unwrap_or(usize::MAX));
        self.deltas.max(meter::estimate(self.delta_bytes.saturating_sub(frames)))
    }

    fn see(&mut self, event: Bytes) -> Step {
        let is_delta = event.strip_prefix(DELTA).is_some_and(|rest| matches!(rest.first(), Some(b'\n' | b'\r')));
        if is_delta {
            self.delta(event.len());
            return Step::Forward(event);
        }
        let data = match sse::content(&event) {
            Content::Nothing => return Step::Forward(event),
            Content::Garbage => return self.garbled("it is no event stream"),
            Content::Data(data) => data,
        };
        let (mut name, mut message, mut usage, mut delta, mut error) = (None, None, None, None, false);
        let read = json::object(&data, MAX_DEPTH, |m| match &data[m.key] {
            b"type" => name = Some(m.value.span),
            b"message" if m.value.kind == Kind::Object => message = Some(m.value.span),
            b"usage" if m.value.kind == Kind::Object => usage = Some(m.value.span),
            b"delta" if m.value.kind == Kind::Object => delta = Some(m.value.span),
            b"error" => error = m.value.kind != Kind::Null,
            _ => (),
        });
        if read.is_err() {
            return self.garbled("an event of it is not JSON");
        }
        match name.map_or(&b""[..], |span| &data[span]) {
            b"\"content_block_delta\"" => self.delta(event.len()),
            b"\"message_start\"" => {
                let id = message.clone().and_then(|span| member(&data[span], b"id"));
                self.answer_id = id.and_then(|id| json::short_text(&id));
                let usage = message.and_then(|span| member(&data[span], b"usage"));
                if usage.is_some_and(|usage| self.counts.read(&usage)) {
                    self.usage = Some(self.counts.usage());
                }
            }
            b"\"message_delta\"" => {
                if usage.is_some_and(|span| self.counts.read(&data[span])) {
                    self.usage = Some(self.counts.usage());
                }
                let reason = delta.and_then(|span| member(&data[span], b"stop_reason"));
                self.is_complete |= reason.is_some_and(|reason| reason.starts_with(b"\""));
            }
            b"\"message_stop\"" => return Step::Finish(event),
            b"\"error\"" => return self.fail(&data),
            _ if error => return self.fail(&data),
            _ => (),
        }
        Step::Forward(event)
    }

    /// Counts a delta. Until the upstream tells the final usage, what was seen is the best there is.
    fn delta(&mut self, bytes: usize) {
        self.deltas += 1;
        self.delta_bytes += bytes;
        self.smallest_delta = self.smallest_delta.min(bytes);
        let seen = self.seen_tokens();
        if let Some(usage) = self.usage.as_mut().filter(|_| !self.is_complete) {
            usage.completion_tokens = usage.completion_tokens.max(seen);
        }
    }

    /// An error inside a stream has a name and no status.
    fn fail(&self, data: &[u8]) -> Step {
        let name = member(data, b"error").and_then(|error| member(&error, b"type"));
        let name = name.and_then(|name| serde_json::from_slice::<String>(&name).ok()).unwrap_or_default();
        Step::Fail(from_upstream(&self.origin, status_of(&name), data))
    }

    fn garbled(&self, what: &str) -> Step {
        Step::Fail(Error::new(
            ErrorKind::Garbled,
            format!("The answer of '{}' makes no sense: {what}.", self.origin.provider),
        ))
    }
}

/// The JSON of a member of an object.
fn member(object: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    json::object(object, MAX_DEPTH, |m| {
        if &object[m.key] == name {
            found = Some(m.value.span);
        }
    })
    .ok()?;
    found.map(|span| object[span].to_vec())
}
