//! Streamed chat completions as the events of a response.

use super::echo::{Echo, Status, Told};
use super::items::Items;
use crate::error::{Error, Kind, Origin, from_upstream};
use crate::meter;
use crate::usage::Usage;
use crate::wire::hub::calls::{Calls, Sink};
use crate::wire::hub::{self, Chunk, Delta, Piece};
use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use serde_json::json;

/// Translates one stream.
#[derive(Debug)]
pub struct Stream {
    echo: Echo,
    /// The response's.
    id: String,
    created: u64,
    model: String,
    estimated_input: u64,
    stage: Stage,
    items: Items,
    calls: Calls,
    finish: Option<Box<str>>,
    usage: Option<Usage>,
    deltas: u64,
    error: Option<Error>,
    /// The response object, once it is whole.
    response: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Started,
    Done,
}

impl Stream {
    /// A stream of the response named after that hexadecimal id. `model` is shown until the upstream names its own, and
    /// `estimated_input` counts if it never tells its usage.
    pub fn new(echo: Echo, id: &str, created: u64, model: &str, estimated_input: u64) -> Self {
        Stream {
            items: Items::new(id, &echo.custom),
            echo,
            id: format!("resp_{id}"),
            created,
            model: model.to_owned(),
            estimated_input,
            stage: Stage::Waiting,
            calls: Calls::default(),
            finish: None,
            usage: None,
            deltas: 0,
            error: None,
            response: None,
        }
    }

    /// Takes the joined data of one event, and adds what the client gets for it. What follows the end is ignored. A
    /// chunk that holds an error, or makes no sense, ends the stream: see [`Stream::failure`].
    pub fn chunk(&mut self, data: &[u8], out: &mut BytesMut) {
        if self.stage == Stage::Done {
            return;
        }
        if data.trim_ascii_start().starts_with(b"[DONE]") {
            self.start(out);
            return self.finish(out);
        }
        let chunk: Chunk<'_> = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(e) => return self.garbled(&crate::envelope::shorten(&e.to_string())),
        };
        if hub::is_error(chunk.error) {
            return self.stop(from_upstream(&Origin::default(), StatusCode::OK, data));
        }
        if let (Stage::Waiting, Some(model)) = (self.stage, hub::string(chunk.model)) {
            model.clone_into(&mut self.model);
        }
        self.start(out);
        let mut used = chunk.usage.or(chunk.x_groq.and_then(|groq| groq.usage));
        for choice in chunk.choices.into_iter().flatten() {
            // Nobody asked for others.
            if hub::number(choice.index).unwrap_or(0) > 0 {
                continue;
            }
            used = used.or(choice.usage);
            if let Some(delta) = choice.delta
                && let Err(what) = self.delta(&delta, out)
            {
                return self.garbled(what);
            }
            self.items.logprobs(choice.logprobs);
            if let Some(reason) = hub::string(choice.finish_reason) {
                self.finish = Some(reason.into());
            }
        }
        if self.items.is_full() {
            return self.garbled("it is larger than 64 MiB");
        }
        let used = used.and_then(|usage| Usage::read(usage.get().as_bytes()));
        self.usage = used.or(self.usage);
    }

    /// The upstream has ended the stream: what it has left out is added, if it had come to an end. An answer that
    /// breaks off before that is a failure.
    pub fn end(&mut self, out: &mut BytesMut) {
        if self.stage == Stage::Done {
            return;
        }
        if self.finish.is_some() {
            return self.finish(out);
        }
        self.stop(Error::new(Kind::Garbled, "The answer of the upstream broke off before it was complete."));
    }

    /// Whether the stream has come to its good end.
    pub fn has_succeeded(&self) -> bool {
        self.stage == Stage::Done && self.error.is_none()
    }

    /// Why the stream has ended early, told once.
    pub fn failure(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// The whole response, once the stream has succeeded.
    pub fn response(&self) -> Option<&Bytes> {
        self.response.as_ref()
    }

    /// The last events of a stream that failed: an `error`, and the response as it is left.
    pub fn failed(&mut self, error: &Error) -> Bytes {
        let mut out = BytesMut::new();
        let (code, message) = (code_of(error), error.to_string());
        self.items.event("error", &mut out, |event| {
            event.text("code", code);
            event.text("message", &message);
            event.json("param", "null");
        });
        let response = self.object(Status::Failed, Some((code, &message)));
        self.items.event("response.failed", &mut out, |event| event.json("response", response));
        self.stage = Stage::Done;
        out.freeze()
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut BytesMut) -> Result<(), &'static str> {
        let before = out.len();
        said(delta, &mut self.items, &mut self.calls, out)?;
        if out.len() > before {
            self.deltas += 1;
        }
        Ok(())
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.stage != Stage::Waiting {
            return;
        }
        self.stage = Stage::Started;
        for kind in ["response.created", "response.in_progress"] {
            let response = self.object(Status::InProgress, None);
            self.items.event(kind, out, |event| event.json("response", response));
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if let Err(what) = self.calls.finish(&mut self.items, out) {
            return self.garbled(what);
        }
        self.items.close(out);
        self.usage.get_or_insert(Usage {
            prompt_tokens: self.estimated_input,
            completion_tokens: self.deltas.max(meter::estimate(self.items.written)),
            ..Usage::default()
        });
        let status = Status::of(self.finish.as_deref());
        let response = self.object(status, None);
        let kind = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        self.items.event(kind, out, |event| event.json("response", &response));
        self.response = Some(response.into());
        self.stage = Stage::Done;
    }

    fn object(&self, status: Status, error: Option<(&str, &str)>) -> Vec<u8> {
        let mut out = Vec::new();
        let told = Told {
            id: &self.id,
            created: self.created,
            model: &self.model,
            status,
            output: &self.items.done,
            usage: self.usage.as_ref().filter(|_| status != Status::InProgress),
            error,
        };
        self.echo.write(&told, &mut out);
        out
    }

    fn garbled(&mut self, what: &str) {
        self.stop(Error::new(Kind::Garbled, format!("The answer of the upstream makes no sense: {what}.")));
    }

    fn stop(&mut self, error: Error) {
        self.stage = Stage::Done;
        self.error = Some(error);
    }
}

/// Tells what a delta says.
pub(super) fn said(
    delta: &Delta<'_>,
    items: &mut Items,
    calls: &mut Calls,
    out: &mut BytesMut,
) -> Result<(), &'static str> {
    let mut reasoning = hub::string(delta.reasoning_content).or(hub::string(delta.reasoning));
    for block in hub::thinking_blocks(delta.thinking_blocks) {
        calls.leave(items, out);
        if let Some(data) = hub::string(block.data) {
            items.redacted(data, out);
            continue;
        }
        // The same text stands in `reasoning_content` where there is one.
        if let Some(text) = reasoning.take().or(hub::string(block.thinking)) {
            items.thinking(text, out);
        }
        if let Some(signature) = hub::string(block.signature) {
            items.signature(signature, out);
        }
    }
    if let Some(text) = reasoning {
        calls.leave(items, out);
        items.thinking(text, out);
    }
    hub::pieces(delta.content, &mut |piece| {
        calls.leave(items, out);
        match piece {
            Piece::Thinking(text) => items.thinking(text, out),
            Piece::Text(text) => items.text(text, out),
        }
    });
    if let Some(text) = hub::string(delta.refusal) {
        calls.leave(items, out);
        items.refusal(text, out);
    }
    items.annotate(delta.annotations, out);
    for call in delta.tool_calls.iter().flatten() {
        calls.piece(call, items, out)?;
    }
    if let Some(function) = &delta.function_call {
        calls.legacy(function, items, out)?;
    }
    Ok(())
}

/// The one event of a stream that failed before its response was begun, or that another wrote.
pub fn error_event(error: &Error, number: u64) -> Bytes {
    let event = json!({"type": "error", "sequence_number": number, "code": code_of(error), "message": error.to_string(),
        "param": error.param()});
    format!("event: error\ndata: {event}\n\n").into()
}

/// OpenAI's code for an error inside a response.
pub fn code_of(error: &Error) -> &'static str {
    match error.status().as_u16() {
        429 => "rate_limit_exceeded",
        400..=499 => "invalid_prompt",
        _ => "server_error",
    }
}
