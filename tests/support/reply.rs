//! What the scripted upstream does with one request, step by step.

use serde_json::{Value, json};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

/// What wakes the thread that plays a reply.
#[derive(Debug)]
pub enum Signal {
    Request(super::upstream::Seen),
    GateOpened,
    Gone,
}

/// A barrier that a test opens once; every reply that stands before it then goes on.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    waiting: Vec<Sender<Signal>>,
}

impl Gate {
    pub fn new() -> Self {
        Gate::default()
    }

    pub fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.open = true;
        for waiting in state.waiting.drain(..) {
            // A connection that is gone does not wait any more.
            let _ = waiting.send(Signal::GateOpened);
        }
    }

    /// Whether the gate is open; if it is not, `signals` is told when it opens.
    pub fn is_open_or_tell(&self, signals: &Sender<Signal>) -> bool {
        let mut state = self.0.lock().unwrap();
        if !state.open {
            state.waiting.push(signals.clone());
        }
        state.open
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes as they are, in one write.
    Raw(Vec<u8>),
    /// One chunk of a chunked body.
    Chunk(Vec<u8>),
    /// One chunk that is sent only if the request asks for usage in the stream.
    ChunkIfUsageAsked(Vec<u8>),
    /// Every byte as a chunk and a write of its own.
    EveryByte(Vec<u8>),
    /// Until the test opens the gate, or the gateway leaves.
    Wait(Gate),
    /// Until the gateway leaves.
    Hold,
    /// An orderly close.
    Close,
    /// A reset.
    Reset,
}

/// An answer, or a fault in place of one.
#[derive(Clone, Debug)]
pub struct Reply(pub Vec<Step>);

pub const EVENT_STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
pub const DONE: &str = "data: [DONE]\n\n";

/// The answer that [`Reply::whole`] gives: member order, spacing and escapes are unusual on purpose.
pub const WHOLE: &str = concat!(
    r#"{"id":"chatcmpl-9a1", "object":"chat.completion","created":1763600000 ,"model":"up-2026-01-01","#,
    r#""choices":[{"message":{"content":"Hello \u00fcber there","role":"assistant","refusal":null},"index":0,"#,
    r#""logprobs":null,"finish_reason":"stop"}],"x_new_member":{"b":1,"a":[1.0,1e2]},"system_fingerprint":null,"#,
    r#""usage":{"completion_tokens":5,"prompt_tokens":12,"total_tokens":17}}"#
);

/// The usage chunk of a stream: 12 tokens in, 5 out.
pub fn usage_chunk() -> String {
    event(&json!({"id": "chatcmpl-9a1", "object": "chat.completion.chunk", "created": 1763600000, "model": "up",
        "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}}))
}

/// An event that carries JSON.
pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A chunk of a streamed answer.
pub fn delta(delta: Value, finish: Option<&str>) -> String {
    event(&json!({"id": "chatcmpl-9a1", "object": "chat.completion.chunk", "created": 1763600000, "model": "up",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

/// A chunk of text.
pub fn text(content: &str) -> String {
    delta(json!({"content": content}), None)
}

/// The chunk that says that the answer is complete.
pub fn finish() -> String {
    delta(json!({}), Some("stop"))
}

impl Reply {
    /// A whole answer with these headers.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Some Reason\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        Reply(vec![Step::Raw([head.as_bytes(), body].concat())])
    }

    pub fn json(status: u16, body: &str) -> Self {
        Reply::answer(status, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// A good answer, not streamed.
    pub fn whole() -> Self {
        Reply::json(200, WHOLE)
    }

    /// An error in OpenAI's shape.
    pub fn error(status: u16, kind: &str, code: Option<&str>, message: &str) -> Self {
        Reply::json(
            status,
            &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string(),
        )
    }

    /// The head of a stream; add [`Reply::then`] and an end.
    pub fn stream() -> Self {
        Reply(vec![Step::Raw(EVENT_STREAM.into())])
    }

    /// A complete stream of these texts; its usage chunk is sent only if it was asked for.
    pub fn texts(contents: &[&str]) -> Self {
        let start = Reply::stream().send(&delta(json!({"role": "assistant", "content": ""}), None));
        contents.iter().fold(start, |reply, content| reply.send(&text(content))).end()
    }

    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// One chunk of the body.
    pub fn send(self, bytes: &str) -> Self {
        self.then(Step::Chunk(bytes.as_bytes().to_vec()))
    }

    pub fn wait(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    /// The good end of a stream: finish chunk, usage if asked for, `[DONE]`, end of the body.
    pub fn end(self) -> Self {
        self.send(&finish()).then(Step::ChunkIfUsageAsked(usage_chunk().into())).send(DONE).end_body()
    }

    /// The end of the chunked body, whatever was in it.
    pub fn end_body(self) -> Self {
        self.then(Step::Chunk(Vec::new()))
    }

    /// The same reply after a wait.
    pub fn after(gate: &Gate, reply: Reply) -> Self {
        let mut steps = vec![Step::Wait(gate.clone())];
        steps.extend(reply.0);
        Reply(steps)
    }

    /// The same reply behind these bytes.
    pub fn before(mut self, bytes: String) -> Self {
        self.0.insert(0, Step::Raw(bytes.into()));
        self
    }

    /// Never an answer; the connection stays open until the gateway leaves.
    pub fn silence() -> Self {
        Reply(vec![Step::Hold])
    }

    /// The bytes of the body, as a reader of the stream should see them; `usage` says whether it was asked for.
    pub fn body(&self, usage: bool) -> String {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|step| match step {
                Step::Chunk(data) | Step::EveryByte(data) => data.clone(),
                Step::ChunkIfUsageAsked(data) if usage => data.clone(),
                _ => Vec::new(),
            })
            .collect();
        String::from_utf8(bytes).unwrap()
    }
}
