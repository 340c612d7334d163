//! A streamed answer: chunks of a chat completion, as they come.

use super::out::{Delta, Fault, Head, Out, Sink, openai};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

/// Chunks that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Frames {
    out: BytesMut,
    /// Every chunk up to its choices, once the answer has begun.
    head: Box<[u8]>,
    /// Choices whose role was told.
    begun: usize,
}

impl Frames {
    /// The chunks so far.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    fn head(&mut self, head: &Head) {
        if self.head.is_empty() {
            let (id, model) = (Value::from(head.id.as_str()), Value::from(head.model.as_str()));
            let created = head.context.created;
            let kind = "chat.completion.chunk";
            let text =
                format!(r#"data: {{"id":{id},"object":"{kind}","created":{created},"model":{model},"choices":["#);
            self.head = text.into_bytes().into();
        }
        self.out.put_slice(&self.head);
    }

    /// The roles of all choices up to this one.
    fn begin(&mut self, head: &Head, choice: usize) {
        while self.begun <= choice {
            self.head(head);
            let index = self.begun;
            let role = r#""delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
            self.out.put_slice(format!("{{\"index\":{index},{role}\n\n").as_bytes());
            self.begun += 1;
        }
    }

    fn chunk(&mut self, head: &Head, choice: usize, write: impl FnOnce(&mut BytesMut)) {
        self.begin(head, choice);
        self.head(head);
        self.out.put_slice(format!(r#"{{"index":{choice},"delta":"#).as_bytes());
        write(&mut self.out);
        self.out.put_slice(b",\"finish_reason\":null}]}\n\n");
    }
}

impl Sink for Frames {
    fn delta(&mut self, head: &Head, choice: usize, delta: Delta<'_>) {
        let legacy = head.context.legacy_functions;
        self.chunk(head, choice, |out| match delta {
            Delta::Text(text) => wrap(out, r#"{"content":"#, &text, "}"),
            Delta::Reasoning(text) => {
                wrap(out, r#"{"reasoning_content":"#, &text, "");
                wrap(out, r#","thinking_blocks":[{"type":"thinking","thinking":"#, &text, r#","signature":""}]}"#);
            }
            Delta::Signature(text) => {
                wrap(out, r#"{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"#, &text, "}]}");
            }
            Delta::Redacted(data) => {
                wrap(out, r#"{"thinking_blocks":[{"type":"redacted_thinking","data":"#, &data, "}]}");
            }
            Delta::Call { name, .. } if legacy => {
                wrap(out, r#"{"function_call":"#, &json!({"name": name, "arguments": ""}), "}");
            }
            Delta::Call { place, id, name, fields } => {
                let mut call = json!({"index": place, "id": id, "type": "function",
                    "function": {"name": name, "arguments": ""}});
                if let Some(fields) = fields {
                    call["provider_specific_fields"] = fields.clone();
                }
                wrap(out, r#"{"tool_calls":["#, &call, "]}");
            }
            Delta::Arguments { text, .. } if legacy => {
                wrap(out, r#"{"function_call":{"arguments":"#, &text, "}}");
            }
            Delta::Arguments { place, text } => {
                let open = format!(r#"{{"tool_calls":[{{"index":{place},"function":{{"arguments":"#);
                wrap(out, &open, &text, "}}]}");
            }
            Delta::Image(url) => {
                let image = json!([{"index": 0, "type": "image_url", "image_url": {"url": url}}]);
                wrap(out, r#"{"images":"#, &image, "}");
            }
            Delta::Annotation(annotation) => wrap(out, r#"{"annotations":["#, annotation, "]}"),
            Delta::Field(name, value) => wrap(out, r#"{"provider_specific_fields":"#, &json!({name: value}), "}"),
            Delta::Logprobs(items) => wrap(out, r#"{},"logprobs":{"content":"#, items, "}"),
        });
    }
}

fn wrap(out: &mut BytesMut, open: &str, value: &impl Serialize, close: &str) {
    out.put_slice(open.as_bytes());
    // Texts and values of ours can always be written.
    let _ = serde_json::to_writer((&mut *out).writer(), value);
    out.put_slice(close.as_bytes());
}

impl Out<Frames> {
    /// The last chunks with choices, the one with usage, and the end.
    pub fn done(&mut self) {
        self.begin(None, None);
        let ends: Vec<_> = self.ends().collect();
        for &(choice, reason) in &ends {
            self.sink.begin(&self.head, choice);
            self.sink.head(&self.head);
            let end = format!(r#"{{"index":{choice},"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
            self.sink.out.put_slice(end.as_bytes());
            self.sink.out.put_slice(b"\n\n");
        }
        if let Some(usage) = &self.usage {
            self.sink.head(&self.head);
            self.sink.out.put_slice(b"],\"usage\":");
            self.sink.out.put_slice(openai(usage).to_string().as_bytes());
            if let Some(service) = &self.service {
                wrap(&mut self.sink.out, ",\"service_tier\":", service, "");
            }
            self.sink.out.put_slice(b"}\n\n");
        }
        self.sink.out.put_slice(b"data: [DONE]\n\n");
    }

    /// An error, behind which nothing follows.
    pub fn fail(&mut self, fault: &Fault) {
        let frame = fault.frame(self.head.context.provider);
        self.sink.out.put_slice(format!("data: {frame}\n\n").as_bytes());
    }
}
