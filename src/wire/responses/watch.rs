//! Looks at answers that are in this format already, and go to the client as they came.

use crate::error::{Error, Kind as ErrorKind, Origin, from_upstream};
use crate::meter::{self, MAX_DEPTH};
use crate::price::Service;
use crate::tap::Step;
use crate::usage::{Usage, service};
use crate::wire::json::{self, Kind};
use crate::wire::sse::{self, Content, Events};
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use std::sync::Arc;

/// No single event is larger; the last one repeats the whole answer.
const MAX_EVENT: usize = 64 << 20;
/// How the names of events begin that are not looked into: they say a piece of something, or repeat it.
const PASSING: [&[u8]; 4] = [
    b"event: response.output_text.delta",
    b"event: response.function_call_arguments.delta",
    b"event: response.reasoning_summary_text.delta",
    b"event: response.reasoning_text.delta",
];

/// What is to be known of a response.
#[derive(Debug, Default, PartialEq)]
pub struct Native {
    pub usage: Option<Usage>,
    pub id: Option<String>,
    /// It says that it failed, or is no response at all.
    pub is_error: bool,
}

/// Looks at a whole response.
pub fn native(body: &[u8]) -> Native {
    let (mut told, mut output, mut error, mut failed) = (Native::default(), false, false, false);
    let mut class = Service::Standard;
    let read = json::object(body, MAX_DEPTH, |m| match &body[m.key] {
        b"usage" if m.value.kind == Kind::Object => told.usage = usage(&body[m.value.span]),
        b"id" => told.id = json::short_text(&body[m.value.span]),
        b"service_tier" => class = service(&body[m.value.span]),
        b"error" => error = m.value.kind != Kind::Null,
        b"status" => failed = &body[m.value.span] == b"\"failed\"",
        b"output" => output = m.value.kind == Kind::Array,
        _ => (),
    });
    told.is_error = read.is_err() || (error && (failed || !output));
    told.usage = told.usage.map(|usage| Usage { service: class, ..usage });
    told
}

/// A usage in this API's words.
pub fn usage(json: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Written {
        input_tokens: Option<f64>,
        output_tokens: Option<f64>,
        input_tokens_details: Option<Input>,
        output_tokens_details: Option<Output>,
    }
    #[derive(Deserialize, Default)]
    struct Input {
        cached_tokens: Option<f64>,
        cache_write_tokens: Option<f64>,
        audio_tokens: Option<f64>,
        image_tokens: Option<f64>,
    }
    #[derive(Deserialize, Default)]
    struct Output {
        reasoning_tokens: Option<f64>,
        audio_tokens: Option<f64>,
        image_tokens: Option<f64>,
    }
    let written: Written = serde_json::from_slice(json).ok()?;
    if written.input_tokens.is_none() && written.output_tokens.is_none() {
        return None;
    }
    let count = |number: Option<f64>| number.map_or(0, |n| n.max(0.0) as u64);
    let (input, output) =
        (written.input_tokens_details.unwrap_or_default(), written.output_tokens_details.unwrap_or_default());
    Some(Usage {
        prompt_tokens: count(written.input_tokens),
        completion_tokens: count(written.output_tokens),
        cached_tokens: count(input.cached_tokens),
        cache_write_tokens: count(input.cache_write_tokens),
        reasoning_tokens: count(output.reasoning_tokens),
        audio_in_tokens: count(input.audio_tokens),
        audio_out_tokens: count(output.audio_tokens),
        image_in_tokens: count(input.image_tokens),
        image_out_tokens: count(output.image_tokens),
        ..Usage::default()
    })
}

/// The state of one stream. To be stepped as [`Tap`](crate::tap::Tap) is.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    origin: Arc<Origin>,
    pub usage: Option<Usage>,
    /// The upstream's id of the answer.
    pub answer_id: Option<String>,
    /// The whole response, once it is there.
    pub response: Option<Bytes>,
    events_so_far: u64,
    deltas: u64,
    delta_bytes: usize,
    smallest_delta: usize,
}

impl Watch {
    pub fn new(origin: Arc<Origin>) -> Self {
        Watch {
            events: Events::new(MAX_EVENT),
            origin,
            usage: None,
            answer_id: None,
            response: None,
            events_so_far: 0,
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
            Err(sse::TooLarge) => self.garbled("an event of it is larger than 64 MiB"),
        }
    }

    /// The upstream has ended the stream: its last event is never left out.
    pub fn end(&mut self) -> Step {
        let rest = self.events.finish();
        if !rest.trim_ascii().is_empty() {
            match self.see(Bytes::from([&rest, b"\n\n".as_slice()].concat())) {
                Step::Forward(_) | Step::More => (),
                step => return step,
            }
        }
        Step::Fail(Error::new(
            ErrorKind::Garbled,
            format!("The answer of '{}' broke off before it was complete.", self.origin.provider),
        ))
    }

    /// Output tokens so far, as far as they can be told without usage.
    pub fn seen_tokens(&self) -> u64 {
        if self.deltas == 0 {
            return 0;
        }
        let frames = self.smallest_delta.saturating_mul(usize::try_from(self.deltas).unwrap_or(usize::MAX));
        self.deltas.max(meter::estimate(self.delta_bytes.saturating_sub(frames)))
    }

    /// How many events the upstream has sent: the number of the next one.
    pub fn events_so_far(&self) -> u64 {
        self.events_so_far
    }

    fn see(&mut self, event: Bytes) -> Step {
        self.events_so_far += 1;
        let passes =
            |start: &&[u8]| event.strip_prefix(*start).is_some_and(|rest| matches!(rest[..], [b'\n' | b'\r', ..]));
        if PASSING.iter().any(passes) {
            self.delta(event.len());
            return Step::Forward(event);
        }
        let data = match sse::content(&event) {
            Content::Nothing => return Step::Forward(event),
            Content::Garbage => return self.garbled("it is no event stream"),
            Content::Data(data) => data,
        };
        let (mut name, mut response) = (None, None);
        let read = json::object(&data, MAX_DEPTH, |m| match &data[m.key] {
            b"type" => name = json::short_text(&data[m.value.span]),
            b"response" if m.value.kind == Kind::Object => response = Some(m.value.span),
            _ => (),
        });
        if read.is_err() {
            return match data.trim_ascii() {
                b"[DONE]" => Step::Forward(event),
                _ => self.garbled("an event of it is not JSON"),
            };
        }
        let response = response.map(|span| &data[span]);
        match name.as_deref().unwrap_or_default() {
            "response.completed" | "response.incomplete" => {
                self.know(response);
                self.response = response.map(Bytes::copy_from_slice);
                Step::Finish(event)
            }
            "response.failed" | "error" => {
                self.know(response);
                Step::Fail(from_upstream(&self.origin, StatusCode::OK, response.unwrap_or(&data)))
            }
            name => {
                if name.ends_with(".delta") {
                    self.delta(event.len());
                } else if response.is_some() && self.answer_id.is_none() {
                    self.know(response);
                }
                Step::Forward(event)
            }
        }
    }

    fn know(&mut self, response: Option<&[u8]>) {
        let told = response.map(native).unwrap_or_default();
        self.usage = told.usage.or(self.usage);
        self.answer_id = told.id.or(self.answer_id.take());
    }

    fn delta(&mut self, size: usize) {
        self.deltas += 1;
        self.delta_bytes += size;
        self.smallest_delta = self.smallest_delta.min(size);
    }

    fn garbled(&self, what: &str) -> Step {
        Step::Fail(Error::new(
            ErrorKind::Garbled,
            format!("The answer of '{}' makes no sense: {what}.", self.origin.provider),
        ))
    }
}
