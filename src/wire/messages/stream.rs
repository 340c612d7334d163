//! Streamed chat completions as Anthropic's events.
//!
//! The order of Anthropic's events is strict: one block at a time, with rising indexes; OpenAI's deltas may come mixed.
//! Texts are copied from one format into the other as they were escaped.

mod blocks;

use super::usage;
use super::words;
use crate::error::{Error, Kind, Origin, from_upstream};
use crate::meter;
use crate::usage::Usage;
use crate::wire::hub::calls::Calls;
use crate::wire::hub::{self, Chunk, Delta, Piece};
use crate::wire::write::{Object, quote};
use actix_web::http::StatusCode;
pub(super) use blocks::Blocks;
use bytes::BytesMut;

/// The event that keeps a quiet connection open. It may stand anywhere in a stream.
pub const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Translates one stream.
#[derive(Debug)]
pub struct Stream {
    model: String,
    id: String,
    estimated_input: u64,
    stage: Stage,
    blocks: Blocks,
    calls: Calls,
    /// Why the answer ended, once the upstream has said it.
    finish: Option<Box<str>>,
    refused: bool,
    usage: Option<Usage>,
    deltas: u64,
    delta_bytes: usize,
    error: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Started,
    Done,
}

impl Stream {
    /// A stream of the message of that id, made by that model as the client calls it. `estimated_input` is shown until
    /// the upstream tells its own count, and for good if it never does.
    pub fn new(model: &str, id: &str, estimated_input: u64) -> Self {
        Stream {
            model: model.to_owned(),
            id: id.to_owned(),
            estimated_input,
            stage: Stage::Waiting,
            blocks: Blocks::of(id),
            calls: Calls::default(),
            finish: None,
            refused: false,
            usage: None,
            deltas: 0,
            delta_bytes: 0,
            error: None,
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
            Err(e) => return self.fail(&crate::envelope::shorten(&e.to_string())),
        };
        if hub::is_error(chunk.error) {
            let error = from_upstream(&Origin::default(), StatusCode::OK, data);
            return self.stop(error);
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
                return self.fail(what);
            }
            if let Some(reason) = hub::string(choice.finish_reason) {
                self.finish = Some(reason.into());
            }
        }
        let used = used.and_then(|usage| Usage::read(usage.get().as_bytes()));
        self.usage = used.or(self.usage);
        // Usage comes with the last chunk or behind it; before that it is a running count.
        if used.is_some() && self.finish.is_some() {
            self.finish(out);
        }
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
        let error = Error::new(Kind::Garbled, "The answer of the upstream broke off before it was complete.");
        self.stop(error);
    }

    /// Whether the stream has come to its good end.
    pub fn has_succeeded(&self) -> bool {
        self.stage == Stage::Done && self.error.is_none()
    }

    /// Why the stream has ended early, told once. The client is to get it as a last event, behind what was written so
    /// far.
    pub fn failure(&mut self) -> Option<Error> {
        self.error.take()
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut BytesMut) -> Result<(), &'static str> {
        let before = out.len();
        self.refused |= hub::string(delta.refusal).is_some();
        said(delta, &mut self.blocks, &mut self.calls, out)?;
        if out.len() > before {
            self.deltas += 1;
        }
        self.delta_bytes = self.blocks.written() + self.calls.held();
        Ok(())
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.stage != Stage::Waiting {
            return;
        }
        self.stage = Stage::Started;
        start(&self.id, &self.model, self.estimated_input, out);
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if let Err(what) = self.calls.finish(&mut self.blocks, out) {
            return self.fail(what);
        }
        self.blocks.finish(out);
        let used = self.usage.unwrap_or(Usage {
            prompt_tokens: self.estimated_input,
            completion_tokens: self.deltas.max(meter::estimate(self.delta_bytes)),
            ..Usage::default()
        });
        let reason = words::stop_reason(self.finish.as_deref(), self.calls.any(), self.refused);
        end(reason, &used, out);
        self.stage = Stage::Done;
    }

    fn fail(&mut self, what: &str) {
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
    blocks: &mut Blocks,
    calls: &mut Calls,
    out: &mut BytesMut,
) -> Result<(), &'static str> {
    let mut reasoning = hub::string(delta.reasoning_content).or(hub::string(delta.reasoning));
    for block in hub::thinking_blocks(delta.thinking_blocks) {
        // The same text stands in `reasoning_content` where there is one.
        let data = hub::string(block.data);
        let text = if data.is_none() { reasoning.take().or(hub::string(block.thinking)) } else { None };
        let signature = hub::string(block.signature);
        if data.or(text).or(signature).is_some() {
            calls.leave(blocks, out);
        }
        if let Some(data) = data {
            blocks.redacted(data, out);
            continue;
        }
        if let Some(text) = text {
            blocks.thinking(text, out);
        }
        if let Some(signature) = signature {
            blocks.signature(signature, out);
        }
    }
    if let Some(text) = reasoning {
        calls.leave(blocks, out);
        blocks.thinking(text, out);
    }
    hub::pieces(delta.content, &mut |piece| {
        calls.leave(blocks, out);
        match piece {
            Piece::Thinking(text) => blocks.thinking(text, out),
            Piece::Text(text) => blocks.text(text, out),
        }
    });
    if let Some(text) = hub::string(delta.refusal) {
        calls.leave(blocks, out);
        blocks.text(text, out);
    }
    for call in delta.tool_calls.iter().flatten() {
        calls.piece(call, blocks, out)?;
    }
    if let Some(function) = &delta.function_call {
        calls.legacy(function, blocks, out)?;
    }
    Ok(())
}

/// The event that a message begins with.
pub(super) fn start(id: &str, model: &str, estimated_input: u64, out: &mut BytesMut) {
    out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
    quote(out, id);
    out.extend_from_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    quote(out, model);
    out.extend_from_slice(b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    let mut json = Vec::new();
    usage::write(&Usage { prompt_tokens: estimated_input, ..Usage::default() }, &mut json);
    out.extend_from_slice(&json);
    out.extend_from_slice(b"}}\n\n");
}

/// The two events that a message ends with.
pub(super) fn end(stop_reason: &str, used: &Usage, out: &mut BytesMut) {
    let mut json = Vec::new();
    let mut event = Object::open(&mut json);
    event.text("type", "message_delta");
    let mut delta = Object::open(event.slot("delta"));
    delta.text("stop_reason", stop_reason);
    delta.json("stop_sequence", "null");
    delta.close();
    usage::write(used, event.slot("usage"));
    event.close();
    out.extend_from_slice(b"event: message_delta\ndata: ");
    out.extend_from_slice(&json);
    out.extend_from_slice(b"\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}
