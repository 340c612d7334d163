//! OpenAI's chat completions: one message, and what was done in its `provider_specific_fields`.

use super::{End, Step, Voice};
use crate::error::{Error, Result};
use crate::mcp::kit::Kit;
use crate::mcp::resume::Pending;
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

pub struct Chat {
    streams: bool,
    shows_usage: bool,
    functions: Vec<Value>,
    /// Servers that were not there.
    missing: Map<String, Value>,
    /// The first chunk, or the last whole answer, without what belongs to one turn.
    frame: Value,
    text: String,
    reasoning: String,
    /// The turn has said something already.
    speaks: bool,
    wanted: Vec<Value>,
    results: Vec<Value>,
    handed: Vec<Pending>,
}

impl Chat {
    pub fn new(streams: bool, shows_usage: bool, kit: &Kit) -> Self {
        Chat {
            streams,
            shows_usage,
            functions: kit.functions(),
            missing: kit
                .missing
                .iter()
                .map(|(server, fault)| (server.name.clone(), fault.to_string().into()))
                .collect(),
            frame: Value::Null,
            text: String::new(),
            reasoning: String::new(),
            speaks: false,
            wanted: Vec::new(),
            results: Vec::new(),
            handed: Vec::new(),
        }
    }

    /// Texts of two turns do not run into each other.
    fn apart(&mut self, text: &str) -> String {
        let begins = !std::mem::replace(&mut self.speaks, true);
        let needs_space = begins && !self.text.is_empty() && !self.text.ends_with('\n');
        let text = if needs_space { format!("\n\n{text}") } else { text.to_owned() };
        self.text.push_str(&text);
        text
    }

    fn chunk(&self, delta: Value, finish: Value) -> Value {
        let mut chunk = self.frame.clone();
        chunk["object"] = "chat.completion.chunk".into();
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        chunk
    }

    fn fields(&self) -> Value {
        let mut fields =
            json!({"mcp_list_tools": self.functions, "mcp_tool_calls": self.wanted, "mcp_call_results": self.results});
        let waiting: Vec<&str> =
            self.handed.iter().filter(|call| call.tool.is_some()).map(|call| call.id.as_str()).collect();
        if !waiting.is_empty() {
            fields["mcp_approval_requests"] = waiting.into();
        }
        if !self.missing.is_empty() {
            fields["mcp_missing_servers"] = self.missing.clone().into();
        }
        fields
    }

    fn handed(&self) -> Vec<Value> {
        let call = |(index, call): (usize, &Pending)| {
            let mut told = json!({"id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": call.arguments}});
            if self.streams {
                told["index"] = index.into();
            }
            told
        };
        self.handed.iter().enumerate().map(call).collect()
    }

    /// What the last turn finished with. Calls that were carried out are no reason for the caller.
    fn reason(&self, finish: Option<&str>) -> Value {
        match finish {
            _ if !self.handed.is_empty() => "tool_calls".into(),
            Some(reason) if reason != "tool_calls" => reason.into(),
            _ => "stop".into(),
        }
    }

    fn whole(&mut self, end: End<'_>) -> Bytes {
        let mut message = json!({"role": "assistant", "content": self.text});
        if self.text.is_empty() && !self.handed.is_empty() {
            message["content"] = Value::Null;
        }
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.as_str().into();
        }
        if !self.handed.is_empty() {
            message["tool_calls"] = self.handed().into();
        }
        message["provider_specific_fields"] = self.fields();
        let mut body = self.frame.take();
        body["choices"] = json!([{"index": 0, "message": message, "finish_reason": self.reason(end.finish)}]);
        if !end.usage.is_null() {
            body["usage"] = end.usage;
        }
        body.to_string().into()
    }
}

fn put(out: &mut BytesMut, chunk: &Value) {
    out.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
}

impl Voice for Chat {
    fn says(&mut self, frame: &Value, mut said: Map<String, Value>, out: &mut BytesMut) -> Result<()> {
        let text = said.get("content").and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let text = text.map(|text| self.apart(&text));
        if !self.streams {
            let first_id = self.frame["id"].take();
            self.frame = frame.clone();
            if !first_id.is_null() {
                self.frame["id"] = first_id;
            }
            self.reasoning.push_str(said.get("reasoning_content").and_then(Value::as_str).unwrap_or_default());
            return Ok(());
        }
        let is_first = self.frame.is_null();
        if is_first {
            self.frame = frame.clone();
            if let Some(frame) = self.frame.as_object_mut() {
                frame.shift_remove("choices");
                frame.shift_remove("usage");
            }
        }
        if let Some(text) = text {
            said.insert("content".to_owned(), text.into());
        }
        if is_first {
            said.insert("role".to_owned(), "assistant".into());
            said.entry("content").or_insert_with(|| "".into());
        }
        if !said.is_empty() {
            put(out, &self.chunk(said.into(), Value::Null));
        }
        Ok(())
    }

    fn pause(&mut self, _: &mut BytesMut) {
        self.speaks = false;
    }

    fn begins(&mut self, _: &Step<'_>, _: &mut BytesMut) {}

    fn done(&mut self, steps: &[Step<'_>], _: &mut BytesMut) {
        for Step { wanted, outcome, .. } in steps {
            self.wanted.push(json!({"id": wanted.id, "type": "function",
                "function": {"name": wanted.name, "arguments": wanted.arguments}}));
            if let Some(outcome) = outcome {
                self.results.push(json!({"tool_call_id": wanted.id, "name": wanted.name, "result": outcome.text,
                    "is_error": outcome.is_error}));
            }
        }
    }

    fn hands(&mut self, calls: &[Pending], _: bool, _: &Kit, _: &mut BytesMut) {
        self.handed = calls.to_vec();
    }

    fn end(&mut self, end: End<'_>, out: &mut BytesMut) -> Bytes {
        if !self.streams {
            return self.whole(end);
        }
        let mut delta = json!({"provider_specific_fields": self.fields()});
        if !self.handed.is_empty() {
            delta["tool_calls"] = self.handed().into();
        }
        put(out, &self.chunk(delta, self.reason(end.finish)));
        if self.shows_usage && !end.usage.is_null() {
            let mut last = self.chunk(Value::Null, Value::Null);
            last["choices"] = json!([]);
            last["usage"] = end.usage;
            put(out, &last);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        Bytes::new()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        error.event()
    }
}
