//! The items of an answer: told as events, one open at a time, and kept for the response that repeats them.
//!
//! Texts are given, and kept, as they stand between the quotes of JSON.

mod served;

use super::SEALED;
use super::tools::INPUT;
use crate::wire::hub::calls::Sink;
use crate::wire::json;
use crate::wire::write::{Object, quote};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde_json::Value;
use serde_json::value::RawValue;
pub use served::Served;
use std::fmt::Write;

/// The response that repeats all items is not larger.
const MOST: usize = 64 << 20;

#[derive(Debug, Default)]
pub struct Items {
    /// The hexadecimal id of the answer: items are named after it.
    id: String,
    /// Names of tools that take a text.
    custom: Vec<String>,
    sequence: u64,
    /// Finished items, with commas between them.
    pub done: Vec<u8>,
    count: usize,
    open: Open,
    /// What the open item says so far.
    text: String,
    /// Annotations and logprobs of the open text, with commas between them.
    annotations: String,
    annotated: usize,
    logprobs: String,
    /// Blocks of thinking that were signed, and where in the text the next of them begins.
    blocks: String,
    signed_to: usize,
    /// Bytes of text in all deltas, for an estimate of their tokens.
    pub written: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    /// Whether its text has begun.
    Reasoning {
        begun: bool,
    },
    Text,
    Refusal,
    Call {
        /// As it stands between quotes, like the name.
        id: String,
        name: String,
        custom: bool,
    },
}

impl Items {
    pub fn new(id: &str, custom: &[String]) -> Self {
        Items { id: id.to_owned(), custom: custom.to_vec(), ..Items::default() }
    }

    /// Whether more would be too much to repeat.
    pub fn is_full(&self) -> bool {
        self.done.len() + self.text.len() + self.logprobs.len() > MOST
    }

    /// An event of that type; `fill` writes what is its own.
    pub fn event(&mut self, kind: &str, out: &mut BytesMut, fill: impl FnOnce(&mut Object<'_>)) {
        let mut json = Vec::with_capacity(160);
        let mut event = Object::open(&mut json);
        event.text("type", kind);
        event.json("sequence_number", self.sequence.to_string());
        fill(&mut event);
        event.close();
        self.sequence += 1;
        // Writing into a buffer that grows cannot fail.
        let _ = write!(out, "event: {kind}\ndata: ");
        out.extend_from_slice(&json);
        out.extend_from_slice(b"\n\n");
    }

    /// An event about the open item.
    fn about(&mut self, kind: &str, out: &mut BytesMut, fill: impl FnOnce(&mut Object<'_>)) {
        let (id, index) = (self.item_id(), self.count);
        self.event(kind, out, |event| {
            event.text("item_id", &id);
            event.json("output_index", index.to_string());
            fill(event);
        });
    }

    fn item_id(&self) -> String {
        let prefix = match &self.open {
            Open::Nothing | Open::Text | Open::Refusal => "msg",
            Open::Reasoning { .. } => "rs",
            Open::Call { custom: true, .. } => "ctc",
            Open::Call { custom: false, .. } => "fc",
        };
        format!("{prefix}_{}{:04x}", self.id, self.count)
    }

    pub fn text(&mut self, text: &str, out: &mut BytesMut) {
        if self.open != Open::Text {
            self.begin_message(Open::Text, out);
        }
        self.say("response.output_text.delta", text, out, |event| event.json("logprobs", "[]"));
    }

    pub fn refusal(&mut self, text: &str, out: &mut BytesMut) {
        if self.open != Open::Refusal {
            self.begin_message(Open::Refusal, out);
        }
        self.say("response.refusal.delta", text, out, |_| ());
    }

    /// Logprobs of the text that was told last.
    pub fn logprobs(&mut self, logprobs: Option<&RawValue>) {
        #[derive(serde::Deserialize)]
        struct Written<'a> {
            #[serde(borrow)]
            content: Option<Vec<&'a RawValue>>,
        }
        let Some(raw) = logprobs.filter(|_| self.open == Open::Text) else { return };
        let Ok(written) = serde_json::from_str::<Written<'_>>(raw.get()) else { return };
        for one in written.content.into_iter().flatten() {
            if !self.logprobs.is_empty() {
                self.logprobs.push(',');
            }
            self.logprobs.push_str(one.get());
        }
    }

    /// Notes on the text, such as the page that it cites.
    pub fn annotate(&mut self, annotations: Option<&RawValue>, out: &mut BytesMut) {
        let list: Option<Vec<Value>> = annotations.and_then(|list| serde_json::from_str(list.get()).ok());
        for one in list.into_iter().flatten() {
            let Some(kind) = one.get("type").and_then(Value::as_str).map(str::to_owned) else { continue };
            // Chat has what belongs to a note under its type, here it stands beside it.
            let flat = match one.get(&kind) {
                Some(Value::Object(inside)) => {
                    let mut flat = inside.clone();
                    flat.insert("type".to_owned(), kind.into());
                    Value::Object(flat)
                }
                _ => one,
            };
            if self.open != Open::Text {
                self.begin_message(Open::Text, out);
            }
            let (flat, number) = (flat.to_string(), self.annotated);
            self.annotated += 1;
            if !self.annotations.is_empty() {
                self.annotations.push(',');
            }
            self.annotations.push_str(&flat);
            self.about("response.output_text.annotation.added", out, |event| {
                event.json("content_index", "0");
                event.json("annotation_index", number.to_string());
                event.json("annotation", flat);
            });
        }
    }

    pub fn thinking(&mut self, text: &str, out: &mut BytesMut) {
        self.begin_reasoning(out);
        if self.open == (Open::Reasoning { begun: false }) {
            self.open = Open::Reasoning { begun: true };
            self.about("response.reasoning_summary_part.added", out, |event| {
                event.json("summary_index", "0");
                event.json("part", "{\"type\":\"summary_text\",\"text\":\"\"}");
            });
        }
        self.written += text.len();
        self.text.push_str(text);
        self.about("response.reasoning_summary_text.delta", out, |event| {
            event.json("summary_index", "0");
            event.json("delta", format!("\"{text}\""));
        });
    }

    /// Signs the thinking that was told since the last signature.
    pub fn signature(&mut self, signature: &str, out: &mut BytesMut) {
        self.begin_reasoning(out);
        let thinking = &self.text[self.signed_to..];
        let block = format!("{{\"type\":\"thinking\",\"thinking\":\"{thinking}\",\"signature\":\"{signature}\"}}");
        self.signed_to = self.text.len();
        self.block(&block);
    }

    /// Thinking that nobody may read.
    pub fn redacted(&mut self, data: &str, out: &mut BytesMut) {
        self.begin_reasoning(out);
        self.block(&format!("{{\"type\":\"redacted_thinking\",\"data\":\"{data}\"}}"));
    }

    fn block(&mut self, block: &str) {
        if !self.blocks.is_empty() {
            self.blocks.push(',');
        }
        self.blocks.push_str(block);
    }

    fn say(&mut self, kind: &str, text: &str, out: &mut BytesMut, fill: impl FnOnce(&mut Object<'_>)) {
        self.written += text.len();
        self.text.push_str(text);
        self.about(kind, out, |event| {
            event.json("content_index", "0");
            event.json("delta", format!("\"{text}\""));
            fill(event);
        });
    }

    fn begin_reasoning(&mut self, out: &mut BytesMut) {
        if !matches!(self.open, Open::Reasoning { .. }) {
            self.begin(Open::Reasoning { begun: false }, out);
        }
    }

    fn begin_message(&mut self, open: Open, out: &mut BytesMut) {
        self.begin(open, out);
        let part = self.part();
        self.about("response.content_part.added", out, |event| {
            event.json("content_index", "0");
            event.json("part", part);
        });
    }

    /// The open part of a message, as far as it is written.
    fn part(&self) -> String {
        let text = &self.text;
        match self.open {
            Open::Refusal => format!("{{\"type\":\"refusal\",\"refusal\":\"{text}\"}}"),
            _ => format!(
                "{{\"type\":\"output_text\",\"text\":\"{text}\",\"annotations\":[{}],\"logprobs\":[{}]}}",
                self.annotations, self.logprobs
            ),
        }
    }

    fn begin(&mut self, open: Open, out: &mut BytesMut) {
        self.close(out);
        self.open = open;
        let (item, index) = (self.item(false), self.count);
        self.event("response.output_item.added", out, |event| {
            event.json("output_index", index.to_string());
            event.json("item", item);
        });
    }

    /// The open item, as it begins or as it ends.
    fn item(&self, over: bool) -> Vec<u8> {
        let mut json = Vec::new();
        let mut item = Object::open(&mut json);
        item.text("id", &self.item_id());
        let status = if over { "completed" } else { "in_progress" };
        match &self.open {
            Open::Reasoning { begun } => {
                item.text("type", "reasoning");
                let text = match *begun && over {
                    true => format!("[{{\"type\":\"summary_text\",\"text\":\"{}\"}}]", self.text),
                    false => "[]".to_owned(),
                };
                item.json("summary", text);
                if over && !self.blocks.is_empty() {
                    let sealed = STANDARD.encode(format!("[{}]", self.blocks));
                    item.json("encrypted_content", format!("\"{SEALED}{sealed}\""));
                }
            }
            Open::Call { id, name, custom } => {
                item.text("type", if *custom { "custom_tool_call" } else { "function_call" });
                item.text("status", status);
                item.json("call_id", format!("\"{id}\""));
                item.json("name", format!("\"{name}\""));
                match custom {
                    true => quote(item.slot("input"), &if over { self.input() } else { String::new() }),
                    false => item.json("arguments", format!("\"{}\"", if over { self.text.as_str() } else { "" })),
                }
            }
            Open::Nothing | Open::Text | Open::Refusal => {
                item.text("type", "message");
                item.text("status", status);
                item.text("role", "assistant");
                item.json("content", if over { format!("[{}]", self.part()) } else { "[]".to_owned() });
            }
        }
        item.close();
        json
    }

    /// The text that was written for a custom tool; what is no object with it is the text itself.
    fn input(&self) -> String {
        let text = json::unescape(self.text.as_bytes()).unwrap_or_else(|| self.text.as_str().into());
        match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(mut arguments)) => match arguments.remove(INPUT) {
                Some(Value::String(input)) => input,
                Some(other) => other.to_string(),
                None => text.into_owned(),
            },
            _ => text.into_owned(),
        }
    }
}

impl Sink for Items {
    fn call(&mut self, id: &str, number: usize, name: &str, out: &mut BytesMut) {
        let id = match id {
            "" => format!("call_{}{number:04x}", self.id),
            id => id.to_owned(),
        };
        let custom = self.custom.iter().any(|custom| custom == name);
        self.begin(Open::Call { id, name: name.to_owned(), custom }, out);
    }

    fn arguments(&mut self, piece: &str, out: &mut BytesMut) {
        let Open::Call { custom, .. } = self.open else { return };
        if piece.is_empty() {
            return;
        }
        self.written += piece.len();
        self.text.push_str(piece);
        // The input of a custom tool is wrapped: it is told when it is whole.
        if !custom {
            self.about("response.function_call_arguments.delta", out, |event| {
                event.json("delta", format!("\"{piece}\""));
            });
        }
    }

    fn close(&mut self, out: &mut BytesMut) {
        let text = format!("\"{}\"", self.text);
        match self.open.clone() {
            Open::Nothing => return,
            Open::Reasoning { begun: false } => (),
            Open::Reasoning { begun: true } => {
                self.about("response.reasoning_summary_text.done", out, |event| {
                    event.json("summary_index", "0");
                    event.json("text", &text);
                });
                self.about("response.reasoning_summary_part.done", out, |event| {
                    event.json("summary_index", "0");
                    let mut part = Object::open(event.slot("part"));
                    part.text("type", "summary_text");
                    part.json("text", &text);
                    part.close();
                });
            }
            Open::Text => {
                let (logprobs, part) = (format!("[{}]", self.logprobs), self.part());
                self.about("response.output_text.done", out, |event| {
                    event.json("content_index", "0");
                    event.json("text", &text);
                    event.json("logprobs", logprobs);
                });
                self.part_done(part, out);
            }
            Open::Refusal => {
                let part = self.part();
                self.about("response.refusal.done", out, |event| {
                    event.json("content_index", "0");
                    event.json("refusal", &text);
                });
                self.part_done(part, out);
            }
            Open::Call { custom: false, name, .. } => {
                self.about("response.function_call_arguments.done", out, |event| {
                    event.json("name", format!("\"{name}\""));
                    event.json("arguments", &text);
                });
            }
            Open::Call { custom: true, .. } => {
                let input = self.input();
                self.about("response.custom_tool_call_input.delta", out, |event| event.text("delta", &input));
                self.about("response.custom_tool_call_input.done", out, |event| event.text("input", &input));
            }
        }
        let item = self.item(true);
        self.put(item, out);
        self.open = Open::Nothing;
        (self.annotated, self.signed_to) = (0, 0);
        for text in [&mut self.text, &mut self.annotations, &mut self.logprobs, &mut self.blocks] {
            text.clear();
        }
    }
}

impl Items {
    /// An item is whole.
    fn put(&mut self, item: Vec<u8>, out: &mut BytesMut) {
        if !self.done.is_empty() {
            self.done.push(b',');
        }
        self.done.extend_from_slice(&item);
        let index = self.count;
        self.event("response.output_item.done", out, |event| {
            event.json("output_index", index.to_string());
            event.json("item", item);
        });
        self.count += 1;
    }

    fn part_done(&mut self, part: String, out: &mut BytesMut) {
        self.about("response.content_part.done", out, |event| {
            event.json("content_index", "0");
            event.json("part", part);
        });
    }
}
