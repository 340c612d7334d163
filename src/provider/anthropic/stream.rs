//! A streamed answer: from the Messages API's events to chunks of a chat completion.
//!
//! Texts are copied from event to chunk as they are written, escapes included; no tree is built for them. Source: the
//! "streaming messages" page.

use super::answer::{field_of, finish_reason};
use super::errors::{self, Inner};
use super::usage::Usage;
use super::{Context, JSON_TOOL};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

/// More calls than any answer holds.
const MAX_CALLS: usize = 4096;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Inner<'a>>,
}

#[derive(Deserialize)]
struct Start<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// A block as it starts, and a piece of one: their members do not clash.
#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_details: Option<&'a RawValue>,
}

/// A call whose arguments are coming.
#[derive(Debug)]
struct Call {
    /// The number of its block.
    block: u64,
    /// Its place among the calls; none for the tool whose input is the answer.
    place: Option<usize>,
    /// Its arguments, if the start held them already.
    whole: Option<String>,
    has_arguments: bool,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Stream {
    context: Context,
    created: u64,
    /// Every chunk up to its `delta`, once the stream has begun.
    head: Option<Box<[u8]>>,
    usage: Usage,
    open: Vec<Call>,
    /// Calls of the caller's tools so far.
    calls: usize,
    stop_reason: Option<String>,
    has_ended: bool,
}

impl Stream {
    /// A stream that has not begun; `created` is its time in Unix seconds.
    pub fn new(context: Context, created: u64) -> Self {
        Stream {
            context,
            created,
            head: None,
            usage: Usage::default(),
            open: Vec::new(),
            calls: 0,
            stop_reason: None,
            has_ended: false,
        }
    }

    /// Takes the joined data of one event and writes what it means: no frame, or several. An error, and an event that
    /// makes no sense, become a frame with an `error`, after which nothing follows.
    pub fn event(&mut self, data: &[u8], out: &mut BytesMut) {
        if self.has_ended || data.trim_ascii() == b"[DONE]" {
            return;
        }
        if let Err(what) = self.read(data, out) {
            self.fail(&errors::garbled(what), out);
        }
    }

    /// The upstream has closed the stream. One that did not end before is cut, and gets no end here either: who reads
    /// the frames sees that `[DONE]` is missing.
    pub fn end(&mut self, _out: &mut BytesMut) {
        self.has_ended = true;
    }

    /// What is known of the usage before the end, for a stream that does not get there: the input is counted at the
    /// start, while the output's count is none yet.
    pub fn usage_so_far(&self) -> Option<crate::usage::Usage> {
        self.usage.so_far()
    }

    fn read(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), &'static str> {
        let event: Event<'_> = serde_json::from_slice(data).map_err(|_| "an event of it is not as it should be")?;
        match event.kind.as_ref() {
            "message_start" => self.start(event.message, out)?,
            "content_block_start" => {
                let block = event.content_block.map(piece).transpose()?;
                if let (Some(block), Some(raw)) = (block, event.content_block) {
                    self.block_start(event.index, &block, raw, out)?;
                }
            }
            "content_block_delta" => {
                let delta = event.delta.map(piece).transpose()?;
                if let Some(delta) = delta.filter(|delta| is_known(&delta.kind)) {
                    self.block_delta(event.index, &delta, out);
                }
            }
            "content_block_stop" => self.block_stop(event.index, out),
            "message_delta" => {
                if let Some(usage) = event.usage {
                    self.usage.update(usage);
                }
                let delta = event.delta.map(piece).transpose()?;
                if let Some(delta) = delta {
                    if let Some(reason) = delta.stop_reason {
                        self.stop_reason = Some(reason.into_owned());
                    }
                    let details = delta.stop_details.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
                    for (name, value) in [
                        ("stop_sequence", delta.stop_sequence.map(|stop| Value::from(stop.as_ref()))),
                        ("stop_details", details.filter(|details| !details.is_null())),
                    ] {
                        if let Some(value) = value {
                            let fields = json!({"provider_specific_fields": {name: value}});
                            self.chunk(out, |out| put(out, &fields));
                        }
                    }
                }
            }
            "message_stop" => self.finish(out),
            // An error without a type is a proxy's on the way.
            "error" | "" => {
                let Some(error) = event.error else { return Err("an event of it has no meaning") };
                self.fail(&error.in_a_stream(), out);
            }
            // Pings, and whatever will be invented.
            _ => (),
        }
        Ok(())
    }

    fn start(&mut self, message: Option<&RawValue>, out: &mut BytesMut) -> Result<(), &'static str> {
        let Some(message) = message else { return Err("its start holds no message") };
        let start: Start<'_> = serde_json::from_str(message.get()).map_err(|_| "its start is not as it should be")?;
        if let Some(usage) = start.usage {
            self.usage.update(usage);
        }
        self.begin(&start.id.unwrap_or_default(), &start.model.unwrap_or_default(), out);
        Ok(())
    }

    /// Sends the chunk with the role, once.
    fn begin(&mut self, id: &str, model: &str, out: &mut BytesMut) {
        if self.head.is_some() {
            return;
        }
        let (id, model, created) = (Value::from(id), Value::from(model), self.created);
        let head = format!(
            r#"data: {{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"choices":["#
        );
        self.head = Some(head.into_bytes().into());
        self.chunk(out, |out| out.put_slice(br#"{"role":"assistant","content":""}"#));
    }

    fn block_start(
        &mut self,
        index: u64,
        block: &Piece<'_>,
        raw: &RawValue,
        out: &mut BytesMut,
    ) -> Result<(), &'static str> {
        match block.kind.as_ref() {
            "text" | "thinking" => self.block_delta(index, block, out),
            "redacted_thinking" => {
                if let Some(data) = text_of(block.data) {
                    let open = br#"{"thinking_blocks":[{"type":"redacted_thinking","data":"#;
                    self.wrapped(open, data, b"}]}", out);
                }
            }
            "tool_use" => self.call_start(index, block, out)?,
            kind => {
                if let (Some(field), Ok(value)) = (field_of(kind), serde_json::from_str::<Value>(raw.get())) {
                    let fields = json!({"provider_specific_fields": {field: [value]}});
                    self.chunk(out, |out| put(out, &fields));
                }
            }
        }
        Ok(())
    }

    fn call_start(&mut self, index: u64, block: &Piece<'_>, out: &mut BytesMut) -> Result<(), &'static str> {
        if self.open.len() >= MAX_CALLS {
            return Err("it has too many open calls");
        }
        let name = block.name.as_deref().unwrap_or_default();
        let whole = block.input.map(RawValue::get).filter(|input| input.len() > 2 && input.starts_with('{'));
        let whole = whole.map(str::to_owned);
        let is_answer = self.context.json_tool && name == JSON_TOOL;
        let place = (!is_answer).then_some(self.calls);
        self.open.retain(|call| call.block != index);
        self.open.push(Call { block: index, place, whole, has_arguments: false });
        let Some(place) = place else { return Ok(()) };
        self.calls += 1;
        let function = json!({"name": self.context.names.given(name), "arguments": ""});
        let delta = if self.context.legacy_functions {
            json!({"function_call": function})
        } else {
            let id = block.id.as_deref().unwrap_or_default();
            json!({"tool_calls": [{"index": place, "id": id, "type": "function", "function": function}]})
        };
        // The older form has room for one call.
        if !self.context.legacy_functions || place == 0 {
            self.chunk(out, |out| put(out, &delta));
        }
        Ok(())
    }

    fn block_delta(&mut self, index: u64, delta: &Piece<'_>, out: &mut BytesMut) {
        if let Some(text) = text_of(delta.text) {
            self.wrapped(br#"{"content":"#, text, b"}", out);
        }
        if let Some(thinking) = text_of(delta.thinking) {
            self.chunk(out, |out| {
                out.put_slice(br#"{"reasoning_content":"#);
                out.put_slice(thinking);
                out.put_slice(br#","thinking_blocks":[{"type":"thinking","thinking":"#);
                out.put_slice(thinking);
                out.put_slice(br#","signature":""}]}"#);
            });
        }
        if let Some(signature) = text_of(delta.signature) {
            let open = br#"{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"#;
            self.wrapped(open, signature, b"}]}", out);
        }
        if let Some(json) = text_of(delta.partial_json) {
            self.arguments(index, json, out);
        }
        if let Some(Ok(citation)) = delta.citation.map(|raw| serde_json::from_str::<Value>(raw.get())) {
            let fields = json!({"provider_specific_fields": {"citation": citation}});
            self.chunk(out, |out| put(out, &fields));
        }
    }

    /// A piece of a call's arguments: a JSON text in quotes.
    fn arguments(&mut self, index: u64, json: &[u8], out: &mut BytesMut) {
        // What hosted tools are told is of no use to the caller.
        let Some(call) = self.open.iter_mut().rfind(|call| call.block == index) else { return };
        call.has_arguments = true;
        match call.place {
            None => self.wrapped(br#"{"content":"#, json, b"}", out),
            Some(0) if self.context.legacy_functions => {
                self.wrapped(br#"{"function_call":{"arguments":"#, json, b"}}", out);
            }
            Some(_) if self.context.legacy_functions => (),
            Some(place) => {
                let open = format!(r#"{{"tool_calls":[{{"index":{place},"function":{{"arguments":"#);
                self.wrapped(open.as_bytes(), json, b"}}]}", out);
            }
        }
    }

    fn block_stop(&mut self, index: u64, out: &mut BytesMut) {
        let Some(at) = self.open.iter().position(|call| call.block == index) else { return };
        self.close(at, out);
    }

    /// A call without arguments has empty ones.
    fn close(&mut self, at: usize, out: &mut BytesMut) {
        if !self.open[at].has_arguments {
            let whole = self.open[at].whole.take();
            let json = Value::from(whole.as_deref().unwrap_or("{}")).to_string();
            self.arguments(self.open[at].block, json.as_bytes(), out);
        }
        self.open.swap_remove(at);
    }

    /// The last chunk with a choice, the one with usage, and the end.
    fn finish(&mut self, out: &mut BytesMut) {
        while !self.open.is_empty() {
            self.close(0, out);
        }
        self.begin("", "", out);
        let reason = finish_reason(self.stop_reason.as_deref(), self.calls, &self.context);
        let head = self.head.as_deref().unwrap_or_default();
        out.put_slice(head);
        out.put_slice(format!(r#"{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#).as_bytes());
        out.put_slice(b"\n\n");
        out.put_slice(head);
        out.put_slice(br#"],"usage":"#);
        put(out, &self.usage.openai());
        if let Some(service) = self.usage.service() {
            out.put_slice(b",\"service_tier\":");
            put(out, &service.into());
        }
        out.put_slice(b"}\n\ndata: [DONE]\n\n");
        self.has_ended = true;
    }

    fn fail(&mut self, error: &Value, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        put(out, error);
        out.put_slice(b"\n\n");
        self.has_ended = true;
    }

    /// A chunk whose delta is one text between two pieces of JSON.
    fn wrapped(&mut self, open: &[u8], text: &[u8], close: &[u8], out: &mut BytesMut) {
        self.chunk(out, |out| {
            out.put_slice(open);
            out.put_slice(text);
            out.put_slice(close);
        });
    }

    fn chunk(&mut self, out: &mut BytesMut, delta: impl FnOnce(&mut BytesMut)) {
        self.begin("", "", out);
        out.put_slice(self.head.as_deref().unwrap_or_default());
        out.put_slice(br#"{"index":0,"delta":"#);
        delta(out);
        out.put_slice(b",\"finish_reason\":null}]}\n\n");
    }
}

fn piece(raw: &RawValue) -> Result<Piece<'_>, &'static str> {
    serde_json::from_str(raw.get()).map_err(|_| "a block of it is not as it should be")
}

/// New kinds of deltas may be invented, and may mean other things by the same members.
fn is_known(delta: &str) -> bool {
    matches!(delta, "text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta" | "citations_delta")
}

/// A JSON string as it is written, unless it is empty or something else. It holds no line break, so it may stand in
/// an event.
fn text_of(raw: Option<&RawValue>) -> Option<&[u8]> {
    let text = raw?.get();
    (text.len() > 2 && text.starts_with('"')).then_some(text.as_bytes())
}

fn put(out: &mut BytesMut, value: &Value) {
    out.put_slice(value.to_string().as_bytes());
}
