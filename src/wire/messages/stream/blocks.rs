//! The events of content blocks: one open at a time, with consecutive indexes. All texts are given as they stand between
//! the quotes of JSON.

use crate::wire::hub::calls::Sink;
use crate::wire::messages::words;
use bytes::BytesMut;
use std::fmt::Write;

/// The block that is open, and the index of the next.
#[derive(Debug, Default)]
pub struct Blocks {
    /// The message's, for calls without one.
    id: String,
    open: Open,
    next: usize,
    /// Bytes of text in the deltas, for an estimate of their tokens.
    written: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    /// A signature is the last thing a block of thinking holds.
    Thinking {
        signed: bool,
    },
    Text,
    Tool,
}

impl Blocks {
    /// The blocks of the message of that id.
    pub fn of(id: &str) -> Self {
        Blocks { id: id.to_owned(), ..Blocks::default() }
    }

    pub fn written(&self) -> usize {
        self.written
    }

    pub fn text(&mut self, text: &str, out: &mut BytesMut) {
        if self.open != Open::Text {
            self.begin(Open::Text, &["{\"type\":\"text\",\"text\":\"\"}"], out);
        }
        self.delta("{\"type\":\"text_delta\",\"text\":\"", text, out);
    }

    pub fn thinking(&mut self, text: &str, out: &mut BytesMut) {
        if self.open != (Open::Thinking { signed: false }) {
            self.begin_thinking(out);
        }
        self.delta("{\"type\":\"thinking_delta\",\"thinking\":\"", text, out);
    }

    /// Signs the block of thinking that is open; without one, or behind an earlier signature, an empty block: that is
    /// what thinking looks like whose text is not shown.
    pub fn signature(&mut self, signature: &str, out: &mut BytesMut) {
        if self.open != (Open::Thinking { signed: false }) {
            self.begin_thinking(out);
        }
        let before = self.written;
        self.delta("{\"type\":\"signature_delta\",\"signature\":\"", signature, out);
        self.written = before;
        self.open = Open::Thinking { signed: true };
    }

    /// Thinking that nobody may read comes whole.
    pub fn redacted(&mut self, data: &str, out: &mut BytesMut) {
        self.begin(Open::Thinking { signed: true }, &["{\"type\":\"redacted_thinking\",\"data\":\"", data, "\"}"], out);
        self.close(out);
    }

    /// A block that comes whole; `delta` is what its one delta holds, as JSON, where it has one.
    pub fn whole(&mut self, block: &str, delta: Option<&str>, out: &mut BytesMut) {
        self.begin(Open::Tool, &[block], out);
        if let Some(delta) = delta {
            self.delta("{\"type\":\"input_json_delta\",\"partial_json\":\"", delta, out);
        }
        self.close(out);
    }

    /// Closes the last block. A message must have one: some clients take a stream without for a broken one.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.next == 0 {
            self.begin(Open::Text, &["{\"type\":\"text\",\"text\":\"\"}"], out);
        }
        self.close(out);
    }

    fn begin_thinking(&mut self, out: &mut BytesMut) {
        let block = "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}";
        self.begin(Open::Thinking { signed: false }, &[block], out);
    }

    fn begin(&mut self, open: Open, block: &[&str], out: &mut BytesMut) {
        self.close(out);
        self.open = open;
        out.extend_from_slice(b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":");
        index(self.next, out);
        self.next += 1;
        out.extend_from_slice(b",\"content_block\":");
        for piece in block {
            out.extend_from_slice(piece.as_bytes());
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn delta(&mut self, head: &str, text: &str, out: &mut BytesMut) {
        self.written += text.len();
        out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        index(self.next.saturating_sub(1), out);
        out.extend_from_slice(b",\"delta\":");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\"}}\n\n");
    }
}

impl Sink for Blocks {
    fn call(&mut self, id: &str, number: usize, name: &str, out: &mut BytesMut) {
        let id = words::tool_id(id, &self.id, number).into_owned();
        self.begin(
            Open::Tool,
            &["{\"type\":\"tool_use\",\"id\":\"", &id, "\",\"name\":\"", name, "\",\"input\":{}}"],
            out,
        );
    }

    fn arguments(&mut self, piece: &str, out: &mut BytesMut) {
        if self.open == Open::Tool && !piece.is_empty() {
            self.delta("{\"type\":\"input_json_delta\",\"partial_json\":\"", piece, out);
        }
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open == Open::Nothing {
            return;
        }
        self.open = Open::Nothing;
        out.extend_from_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
        index(self.next.saturating_sub(1), out);
        out.extend_from_slice(b"}\n\n");
    }
}

fn index(index: usize, out: &mut BytesMut) {
    // Writing into a buffer that grows cannot fail.
    let _ = write!(out, "{index}");
}
