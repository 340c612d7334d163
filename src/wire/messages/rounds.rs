//! Several turns of a chat, with calls of tools between them, told as one message: as a stream, or in one piece.
//!
//! Source of the blocks: Anthropic's page on its MCP connector (`mcp_tool_use`, `mcp_tool_result`).

use super::answer::{self, Content, message_of};
use super::stream::{self, Blocks};
use super::words;
use crate::envelope::shorten;
use crate::error::{Error, Kind};
use crate::usage::Usage;
use crate::wire::MAX_DEPTH;
use crate::wire::hub::calls::{Calls, Sink};
use crate::wire::hub::{Delta, Message, string};
use crate::wire::write::escape;
use bytes::BytesMut;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The message as it grows.
#[derive(Debug)]
pub struct Rounds {
    model: String,
    id: String,
    estimated_input: u64,
    has_begun: bool,
    streams: bool,
    blocks: Blocks,
    content: Content,
    has_own: bool,
    has_refused: bool,
}

impl Rounds {
    /// The message of that id, made by that model as the client calls it.
    pub fn new(model: &str, id: &str, estimated_input: u64, streams: bool) -> Self {
        Rounds {
            model: model.to_owned(),
            id: id.to_owned(),
            estimated_input,
            has_begun: false,
            streams,
            blocks: Blocks::of(id),
            content: Content { json: Vec::new(), empty: true },
            has_own: false,
            has_refused: false,
        }
    }

    /// The first event, once.
    pub fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.has_begun, true) && self.streams {
            stream::start(&self.id, &self.model, self.estimated_input, out);
        }
    }

    /// A delta of chat, or a whole message where nobody wants a stream; without calls.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn says(&mut self, said: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let garbled =
            |what: &str| Error::new(Kind::Garbled, format!("The answer of the upstream makes no sense: {what}."));
        if self.streams {
            let delta: Delta<'_> = serde_json::from_slice(said).map_err(|e| garbled(&shorten(&e.to_string())))?;
            self.has_refused |= string(delta.refusal).is_some();
            return stream::said(&delta, &mut self.blocks, &mut Calls::default(), out).map_err(garbled);
        }
        let message: Message<'_> = serde_json::from_slice(said).map_err(|e| garbled(&shorten(&e.to_string())))?;
        self.has_refused |= answer::said(&message, &mut self.content);
        Ok(())
    }

    /// What was being said is over.
    pub fn pause(&mut self, out: &mut BytesMut) {
        self.blocks.close(out);
    }

    /// A call that the gateway makes.
    pub fn uses(&mut self, id: &str, name: &str, server: &str, arguments: &str, out: &mut BytesMut) {
        let block = json!({"type": "mcp_tool_use", "id": id, "name": name, "server_name": server, "input": {}});
        self.call(block, arguments, out);
    }

    /// What came of it.
    pub fn result(&mut self, id: &str, is_error: bool, text: &str, out: &mut BytesMut) {
        let block = json!({"type": "mcp_tool_result", "tool_use_id": id, "is_error": is_error,
            "content": [{"type": "text", "text": text}]});
        match self.streams {
            true => self.blocks.whole(&block.to_string(), None, out),
            false => self.put(&block),
        }
    }

    /// A call that is the caller's.
    pub fn calls(&mut self, id: &str, name: &str, arguments: &str, out: &mut BytesMut) {
        self.has_own = true;
        let id = words::tool_id(id, &self.id, 0);
        self.call(json!({"type": "tool_use", "id": id, "name": name, "input": {}}), arguments, out);
    }

    fn call(&mut self, mut block: Value, arguments: &str, out: &mut BytesMut) {
        let mut input = Vec::new();
        let raw = RawValue::from_string(Value::from(arguments).to_string()).ok();
        words::input(raw.as_deref(), MAX_DEPTH, &mut input);
        if self.streams {
            let mut text = Vec::new();
            escape(&mut text, &String::from_utf8_lossy(&input));
            return self.blocks.whole(&block.to_string(), Some(&String::from_utf8_lossy(&text)), out);
        }
        block["input"] = serde_json::from_slice(&input).unwrap_or_else(|_| json!({}));
        self.put(&block);
    }

    fn put(&mut self, block: &Value) {
        crate::wire::write::comma(&mut self.content.json, &mut self.content.empty);
        self.content.json.extend_from_slice(block.to_string().as_bytes());
    }

    /// The end: the last events, or the whole message.
    pub fn finish(&mut self, finish: Option<&str>, used: Option<Usage>, out: &mut BytesMut) -> Vec<u8> {
        let reason = words::stop_reason(finish, self.has_own, self.has_refused);
        let used = used.unwrap_or(Usage { prompt_tokens: self.estimated_input, ..Usage::default() });
        if !self.streams {
            return message_of(&self.id, &self.model, &self.content, reason, &used);
        }
        self.blocks.finish(out);
        stream::end(reason, &used, out);
        Vec::new()
    }
}
