//! The model's side of the loop, in OpenAI chat's format: turns are asked for one after the other, and told to the caller
//! as one answer.

use crate::call::{Call, Patience, Wishes};
use crate::clock::Ring;
use crate::dispatch;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::http::reply;
use crate::mcp::resume::Pending;
use crate::mcp::rounds::{Done, Model, Wanted};
use crate::meter::{self, Meter};
use crate::provider::Language;
use crate::route::{Deployment, Plan};
use crate::store::LedgerRow;
use crate::tap::Step;
use crate::wire::sse::{self, Content, Events};
use actix_web::http::header::HeaderValue;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Calls of one turn.
const MOST_CALLS: usize = 128;
/// Larger events of one step are refused before they come here.
const MAX_EVENT: usize = 32 << 20;

/// What is known of the call while it goes on, for headers.
#[derive(Default)]
pub struct About {
    pub deployment: Option<Arc<Deployment>>,
    pub attempts: meter::Attempts,
    pub waited: Duration,
}

/// The way to a caller who wants a stream.
#[derive(Clone, Default)]
pub struct Teller(Option<mpsc::Sender<Bytes>>);

impl Teller {
    async fn chunk(&self, chunk: &Value) {
        if let Some(out) = &self.0 {
            // A caller who has left is noticed elsewhere.
            let _ = out.send(Bytes::from(format!("data: {chunk}\n\n"))).await;
        }
    }

    /// Tells a step, as a comment that clients pass over.
    pub async fn step(&self, what: &str) {
        if let Some(out) = &self.0 {
            let _ = out.send(Bytes::from(format!(": mcp {}\n\n", crate::envelope::shorten(what)))).await;
        }
    }
}

pub struct Chat {
    worker: Rc<crate::gateway::Worker>,
    live: Arc<crate::gateway::Live>,
    caller: crate::auth::Caller,
    plan: Plan,
    patience: Patience,
    wishes: Wishes,
    streams: bool,
    shows_usage: bool,
    /// The request without messages and tools.
    body: Map<String, Value>,
    messages: Vec<Value>,
    /// How many of them came with the request.
    given: usize,
    own: Vec<Value>,
    functions: Vec<Value>,
    said: LedgerRow,
    meter: Option<Meter>,
    out: Teller,
    pub about: Rc<RefCell<About>>,
    // What the answer is made of.
    /// The first chunk, or the last whole answer, without what belongs to one turn.
    frame: Value,
    text: String,
    reasoning: String,
    finish: Value,
    usage: Value,
    cost: u64,
    turns: usize,
    wanted: Vec<Value>,
    results: Vec<Value>,
    handed: Vec<Pending>,
}

/// One turn while it comes.
#[derive(Default)]
struct Turn {
    message: Map<String, Value>,
    calls: Vec<Value>,
    finish: Value,
}

impl Chat {
    pub fn new(
        call: Call,
        mut body: Map<String, Value>,
        messages: Vec<Value>,
        own: Vec<Value>,
        functions: Vec<Value>,
        said: LedgerRow,
    ) -> Chat {
        let shows_usage = body.get("stream_options").is_some_and(|options| options["include_usage"] == true);
        if call.streams {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        Chat {
            worker: call.worker,
            live: call.live,
            caller: call.caller,
            plan: call.plan,
            patience: call.patience,
            wishes: call.wishes,
            streams: call.streams,
            shows_usage,
            body,
            given: messages.len(),
            messages,
            own,
            functions,
            said,
            meter: None,
            out: Teller::default(),
            about: Rc::default(),
            frame: Value::Null,
            text: String::new(),
            reasoning: String::new(),
            finish: Value::Null,
            usage: Value::Null,
            cost: 0,
            turns: 0,
            wanted: Vec::new(),
            results: Vec::new(),
            handed: Vec::new(),
        }
    }

    /// The first round settles with this meter; a stream goes out this way.
    pub fn start(&mut self, meter: Meter, out: Option<mpsc::Sender<Bytes>>) {
        self.meter = Some(meter);
        self.out = Teller(out);
    }

    pub fn teller(&self) -> Teller {
        self.out.clone()
    }

    pub fn streams(&self) -> bool {
        self.streams
    }

    pub fn label(&self) -> HeaderValue {
        self.plan.label()
    }

    pub fn live(&self) -> &Arc<crate::gateway::Live> {
        &self.live
    }

    /// The calls that the caller goes on with.
    pub fn hand(&mut self, calls: Vec<Pending>) {
        self.handed = calls;
    }

    /// What the caller has not seen: the rounds before, and the last turn.
    pub fn turns(&mut self) -> (Vec<Value>, Value) {
        let mut inner = self.messages.split_off(self.given.min(self.messages.len()));
        let message = inner.pop().unwrap_or(Value::Null);
        (inner, message)
    }

    /// Remembers results for the caller.
    pub fn note(&mut self, results: &[Done]) {
        for done in results {
            self.wanted.push(json!({"id": done.wanted.id, "type": "function",
                "function": {"name": done.wanted.name, "arguments": done.wanted.arguments}}));
            self.results.push(json!({"tool_call_id": done.wanted.id, "name": done.wanted.name,
                "result": done.outcome.text, "is_error": done.outcome.is_error}));
        }
    }

    /// The request of the next turn.
    fn request(&self, tools: bool) -> Result<Envelope> {
        let mut body = self.body.clone();
        let mut all = self.own.clone();
        if tools {
            all.extend(self.functions.iter().cloned());
        }
        // A choice that forces a call is for the first turn alone: it would never let the model answer.
        let forces = body.get("tool_choice").is_some_and(|choice| choice.is_object() || choice == "required");
        if all.is_empty() || (forces && self.turns > 0) {
            body.shift_remove("tool_choice");
        }
        if all.is_empty() {
            body.shift_remove("parallel_tool_calls");
        } else {
            body.insert("tools".to_owned(), all.into());
        }
        body.insert("messages".to_owned(), self.messages.clone().into());
        let bytes = serde_json::to_vec(&body).map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
        Envelope::parse(Bytes::from(bytes), self.live.config.server.max_nesting)
    }

    async fn whole(&mut self, call: &Call, meter: &mut Meter) -> Result<Turn> {
        let answer = dispatch::whole(call, meter).await?;
        meter.answered();
        meter.answered_as(answer.id.as_deref());
        meter.used(answer.usage);
        meter.saw(meter::estimate(answer.body.len()));
        meter.succeed();
        self.saw(&answer.deployment, meter, answer.waited);
        let mut body: Value = serde_json::from_slice(&answer.body)
            .map_err(|e| Error::new(Kind::Garbled, format!("The upstream's answer is not JSON: {e}.")))?;
        add(&mut self.usage, body["usage"].take());
        let mut choice = body["choices"][0].take();
        let Value::Object(mut message) = choice["message"].take() else {
            return Err(Error::new(Kind::Garbled, "The upstream's answer holds no message."));
        };
        let calls = match message.shift_remove("tool_calls") {
            Some(Value::Array(calls)) => calls,
            _ => Vec::new(),
        };
        let first_id = self.frame["id"].take();
        if !first_id.is_null() {
            body["id"] = first_id;
        }
        self.frame = body;
        Ok(Turn { message, calls, finish: choice["finish_reason"].take() })
    }

    async fn streamed(&mut self, call: &Call, meter: &mut Meter) -> Result<Turn> {
        let mut open = dispatch::open(call, meter).await?;
        meter.answered();
        self.saw(&open.deployment.clone(), meter, open.waited);
        let mut turn = Turn::default();
        loop {
            let step = open.first.take().unwrap_or_else(|| open.relay.step());
            let (event, is_last) = match step {
                Step::Forward(event) => (event, false),
                Step::Finish(event) => (event, true),
                Step::Fail(error) => {
                    note(&open, meter);
                    return Err(error);
                }
                Step::More => {
                    note(&open, meter);
                    let silence = open.silence;
                    tokio::select! {
                        biased;
                        chunk = open.response.next() => match chunk {
                            Some(Ok(chunk)) => open.relay.push(chunk),
                            _ => open.relay.end(),
                        },
                        ring = call.worker.clock.after(silence) => return Err(match ring {
                            Ring::Late => Error::new(Kind::Timeout, format!("The upstream sent nothing for {silence:?}.")),
                            Ring::Ending => dispatch::stopping(),
                        }),
                    }
                    continue;
                }
            };
            let mut parts = Events::new(MAX_EVENT);
            parts.push(event);
            while let Ok(Some(event)) = parts.take() {
                if let Content::Data(data) = sse::content(&event)
                    && let Ok(chunk) = serde_json::from_slice::<Value>(&data)
                {
                    self.hear(chunk, &mut turn).await;
                }
            }
            if is_last {
                note(&open, meter);
                meter.succeed();
                break;
            }
        }
        turn.calls.retain(|call| call["function"]["name"].is_string());
        Ok(turn)
    }

    /// Takes a chunk in, and tells the caller what is for him.
    async fn hear(&mut self, mut chunk: Value, turn: &mut Turn) {
        add(&mut self.usage, chunk["usage"].take());
        let Some(choice) = chunk["choices"].get_mut(0) else { return };
        let (mut delta, finish) = (choice["delta"].take(), choice["finish_reason"].take());
        if finish.is_string() {
            turn.finish = finish;
        }
        let Some(members) = delta.as_object_mut() else { return };
        if let Some(Value::Array(calls)) = members.shift_remove("tool_calls") {
            calls.into_iter().for_each(|call| gather(&mut turn.calls, call));
        }
        members.shift_remove("role");
        members.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        for (name, value) in members.iter() {
            join(&mut turn.message, name, value);
        }
        let is_first = self.frame.is_null();
        if is_first {
            self.frame = chunk.clone();
            if let Some(frame) = self.frame.as_object_mut() {
                frame.shift_remove("choices");
                frame.shift_remove("usage");
            }
        }
        if let Some(text) = members.get("content").and_then(Value::as_str) {
            let text = self.apart(text, turn);
            self.text.push_str(&text);
            members.insert("content".to_owned(), text.into());
        }
        if is_first {
            members.insert("role".to_owned(), "assistant".into());
            members.entry("content").or_insert_with(|| "".into());
        }
        if !members.is_empty() {
            let chunk = self.chunk(delta, Value::Null);
            self.out.chunk(&chunk).await;
        }
    }

    /// Texts of two turns do not run into each other.
    fn apart(&self, text: &str, turn: &Turn) -> String {
        let begins = turn.message.get("content").and_then(Value::as_str).is_some_and(|all| all.len() == text.len());
        let needs_space = begins && !self.text.is_empty() && !self.text.ends_with('\n');
        if needs_space { format!("\n\n{text}") } else { text.to_owned() }
    }

    fn chunk(&self, delta: Value, finish: Value) -> Value {
        let mut chunk = self.frame.clone();
        chunk["object"] = "chat.completion.chunk".into();
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        chunk
    }

    fn saw(&mut self, deployment: &Arc<Deployment>, meter: &Meter, waited: Duration) {
        let mut about = self.about.borrow_mut();
        about.deployment = Some(deployment.clone());
        about.attempts = meter.attempts();
        about.waited += waited;
    }

    /// The message of a turn as the next request has it, and its calls.
    fn write_down(&mut self, turn: Turn) -> Vec<Wanted> {
        let Turn { mut message, mut calls, finish } = turn;
        calls.truncate(MOST_CALLS);
        for call in &mut calls {
            if let Some(call) = call.as_object_mut() {
                call.shift_remove("index");
                call.entry("type").or_insert_with(|| "function".into());
                call.entry("id").or_insert_with(|| format!("call_{}", crate::mcp::streams::new_id()).into());
            }
        }
        let is_anthropic =
            self.about.borrow().deployment.as_ref().is_some_and(|d| d.provider.quirks.language == Language::Anthropic);
        let keeps = |name: &str| name == "content" || (name == "thinking_blocks" && is_anthropic);
        message.retain(|name, _| keeps(name));
        let mut written = json!({"role": "assistant", "content": null});
        for (name, value) in message {
            written[name.as_str()] = value;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let wanted = calls
            .iter()
            .map(|call| Wanted {
                id: text(&call["id"]),
                name: text(&call["function"]["name"]),
                arguments: text(&call["function"]["arguments"]),
            })
            .collect();
        if !calls.is_empty() {
            written["tool_calls"] = calls.into();
        }
        self.messages.push(written);
        self.finish = finish;
        wanted
    }

    fn fields(&self) -> Value {
        let mut fields =
            json!({"mcp_list_tools": self.functions, "mcp_tool_calls": self.wanted, "mcp_call_results": self.results});
        let waiting: Vec<&str> =
            self.handed.iter().filter(|call| call.tool.is_some()).map(|call| call.id.as_str()).collect();
        if !waiting.is_empty() {
            fields["mcp_approval_requests"] = waiting.into();
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
    fn reason(&self) -> Value {
        match &self.finish {
            _ if !self.handed.is_empty() => "tool_calls".into(),
            Value::String(reason) if reason != "tool_calls" => reason.as_str().into(),
            _ => "stop".into(),
        }
    }

    /// The whole answer. `missing` names servers that were not there.
    pub fn answer(&mut self, missing: &Map<String, Value>) -> Value {
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
        message["provider_specific_fields"] = self.all_fields(missing);
        let mut body = self.frame.take();
        body["choices"] = json!([{"index": 0, "message": message, "finish_reason": self.reason()}]);
        if !self.usage.is_null() {
            body["usage"] = self.usage.take();
        }
        body
    }

    fn all_fields(&self, missing: &Map<String, Value>) -> Value {
        let mut fields = self.fields();
        if !missing.is_empty() {
            fields["mcp_missing_servers"] = missing.clone().into();
        }
        fields
    }

    /// The last events of a stream.
    pub fn ending(&mut self, missing: &Map<String, Value>) -> Bytes {
        let mut delta = json!({"provider_specific_fields": self.all_fields(missing)});
        if !self.handed.is_empty() {
            delta["tool_calls"] = self.handed().into();
        }
        let mut events = format!("data: {}\n\n", self.chunk(delta, self.reason()));
        if self.shows_usage && !self.usage.is_null() {
            let mut last = self.chunk(Value::Null, Value::Null);
            last["choices"] = json!([]);
            last["usage"] = self.usage.take();
            events += &format!("data: {last}\n\n");
        }
        events += "data: [DONE]\n\n";
        events.into()
    }
}

impl Model for Chat {
    async fn turn(&mut self, tools: bool) -> Result<Vec<Wanted>> {
        let envelope = self.request(tools)?;
        let mut meter = match self.meter.take() {
            Some(meter) => meter,
            None => {
                let mut meter = Meter::new(meter::new_id(), Instant::now());
                meter.called_by(self.caller.clone());
                meter.asked(self.plan.model(), self.streams, envelope.bytes().len());
                if self.live.config.ledger.enabled {
                    meter.book(self.worker.pen.clone(), self.said.clone());
                }
                meter
            }
        };
        let call = Call {
            id: meter.id,
            worker: self.worker.clone(),
            live: self.live.clone(),
            caller: self.caller.clone(),
            face: Face::Chat,
            envelope,
            streams: self.streams,
            plan: self.plan.clone(),
            patience: self.patience,
            wishes: self.wishes.clone(),
            betas: Vec::new(),
            version: None,
            history: None,
            files: None,
            presumed: None,
        };
        let told = match self.streams {
            true => self.streamed(&call, &mut meter).await,
            false => self.whole(&call, &mut meter).await,
        };
        let turn = match told {
            Ok(turn) => turn,
            Err(error) => {
                meter.fail(&error);
                return Err(reply::of_call(error, &meter, self.plan.label(), self.wishes.explains));
            }
        };
        self.cost = self.cost.saturating_add(meter.cost().unwrap_or(0));
        if !self.streams {
            let text = |name: &str| turn.message.get(name).and_then(Value::as_str).unwrap_or_default();
            let (content, reasoning) = (text("content").to_owned(), text("reasoning_content").to_owned());
            if !content.is_empty() {
                let content = self.apart(&content, &turn);
                self.text.push_str(&content);
            }
            self.reasoning.push_str(&reasoning);
        }
        let wanted = self.write_down(turn);
        self.turns += 1;
        Ok(wanted)
    }

    fn take(&mut self, results: Vec<Done>) {
        self.note(&results);
        let mut images = Vec::new();
        for done in results {
            for url in &done.outcome.images {
                images.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
            self.messages.push(json!({"role": "tool", "tool_call_id": done.wanted.id, "content": done.outcome.text}));
        }
        // In this format a tool's message is text alone.
        let target = self.live.routes.target(self.plan.model());
        let sees = target.is_ok_and(|target| target.known().facts.supports("vision") == Some(true));
        if sees && !images.is_empty() {
            let mut content = vec![json!({"type": "text", "text": "The images of these results, in their order:"})];
            content.append(&mut images);
            self.messages.push(json!({"role": "user", "content": content}));
        }
    }

    fn cost_nanos(&self) -> u64 {
        self.cost
    }
}

fn note(open: &dispatch::Open, meter: &mut Meter) {
    meter.used(open.relay.usage());
    meter.saw(open.relay.seen_tokens());
    meter.answered_as(open.relay.answer_id());
}

/// Adds the numbers of a usage object to a sum.
fn add(sum: &mut Value, usage: Value) {
    match (sum, usage) {
        (_, Value::Null) => {}
        (sum @ Value::Null, usage) => *sum = usage,
        (Value::Object(sum), Value::Object(usage)) => {
            for (name, value) in usage {
                add(sum.entry(name).or_insert(Value::Null), value);
            }
        }
        (sum @ Value::Number(_), usage @ Value::Number(_)) => {
            *sum = match (sum.as_u64(), usage.as_u64()) {
                (Some(a), Some(b)) => a.saturating_add(b).into(),
                _ => (sum.as_f64().unwrap_or(0.0) + usage.as_f64().unwrap_or(0.0)).into(),
            };
        }
        (sum, usage) => *sum = usage,
    }
}

/// Puts the pieces of a call together.
fn gather(calls: &mut Vec<Value>, piece: Value) {
    let index = piece["index"].as_u64().and_then(|i| usize::try_from(i).ok());
    // Some servers send whole calls without an index.
    let place = index.unwrap_or(calls.len());
    if place >= MOST_CALLS {
        return;
    }
    while calls.len() <= place {
        calls.push(json!({"function": {"arguments": ""}}));
    }
    let call = &mut calls[place];
    for name in ["id", "type"] {
        if let Some(text) = piece[name].as_str().filter(|text| !text.is_empty()) {
            call[name] = text.into();
        }
    }
    // Signatures of thoughts, which upstreams want back.
    for name in ["extra_content", "provider_specific_fields"] {
        if !piece[name].is_null() {
            call[name] = piece[name].clone();
        }
    }
    let function = &piece["function"];
    if let Some(name) = function["name"].as_str().filter(|name| !name.is_empty()) {
        call["function"]["name"] = name.into();
    }
    if let Some(more) = function["arguments"].as_str() {
        let all = format!("{}{more}", call["function"]["arguments"].as_str().unwrap_or_default());
        call["function"]["arguments"] = all.into();
    }
}

/// Joins a delta to the message: texts are appended, lists go on.
fn join(message: &mut Map<String, Value>, name: &str, delta: &Value) {
    match (message.get_mut(name), delta) {
        (Some(Value::String(all)), Value::String(more)) => all.push_str(more),
        (Some(Value::Array(all)), Value::Array(more)) => {
            for item in more {
                match all.last_mut() {
                    Some(last)
                        if last["type"] == "thinking"
                            && item["type"] == "thinking"
                            && !last["signature"].is_string() =>
                    {
                        let text = |value: &Value| value["thinking"].as_str().unwrap_or_default().to_owned();
                        last["thinking"] = (text(last) + &text(item)).into();
                        if item["signature"].is_string() {
                            last["signature"] = item["signature"].clone();
                        }
                    }
                    _ => all.push(item.clone()),
                }
            }
        }
        _ => drop(message.insert(name.to_owned(), delta.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_in_pieces_and_usage_is_summed() {
        let mut calls = Vec::new();
        for piece in [
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "x", "arguments": "{\"a\""}}),
            json!({"index": 1, "id": "b", "function": {"name": "y", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": ":1}"}}),
            json!({"index": 100_000, "function": {"arguments": "no"}}),
        ] {
            gather(&mut calls, piece);
        }
        assert_eq!(calls[0]["function"], json!({"arguments": "{\"a\":1}", "name": "x"}));
        assert_eq!((calls.len(), &calls[1]["id"]), (2, &json!("b")));
        let mut sum = Value::Null;
        add(&mut sum, json!({"prompt_tokens": 3, "details": {"cached": 1}, "cost": 0.5}));
        add(&mut sum, json!({"prompt_tokens": 4, "details": {"cached": 2, "audio": null}, "cost": 0.25}));
        assert_eq!(sum, json!({"prompt_tokens": 7, "details": {"cached": 3, "audio": null}, "cost": 0.75}));
    }

    #[test]
    fn thoughts_are_joined_until_they_are_signed() {
        let mut message = Map::new();
        for part in [
            json!({"type": "thinking", "thinking": "a"}),
            json!({"type": "thinking", "thinking": "b"}),
            json!({"type": "thinking", "thinking": "", "signature": "s"}),
            json!({"type": "thinking", "thinking": "c"}),
        ] {
            join(&mut message, "thinking_blocks", &json!([part]));
        }
        let blocks = &message["thinking_blocks"];
        assert_eq!(blocks[0], json!({"type": "thinking", "thinking": "ab", "signature": "s"}));
        assert_eq!(blocks[1]["thinking"], "c");
    }
}
