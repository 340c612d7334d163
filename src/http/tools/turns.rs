//! The model's side of the loop: turns are asked for one after the other, in chat's format whatever the caller's, and a
//! [`Voice`] tells the caller in his.

use super::pieces::{MOST_CALLS, add, gather, join};
use super::voice::{End, Step as Told, Voice};
use crate::call::{Call, Patience, Wishes};
use crate::clock::Ring;
use crate::dispatch;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::http::reply;
use crate::mcp::kit::Kit;
use crate::mcp::resume::{self, Pending};
use crate::mcp::rounds::{Done, Model, Wanted};
use crate::meter::{self, Meter};
use crate::provider::{Language, wants_reasoning};
use crate::route::{Deployment, Plan};
use crate::store::LedgerRow;
use crate::tap::Step;
use crate::wire::sse::{self, Content, Events};
use actix_web::http::header::HeaderValue;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Larger events of one step are refused before they come here.
const MAX_EVENT: usize = 32 << 20;

/// What is known of the call while it goes on, for headers.
#[derive(Default)]
pub struct About {
    pub deployment: Option<Arc<Deployment>>,
    pub attempts: meter::Attempts,
    pub waited: Duration,
}

/// The way to the caller: his voice, and the stream where he wants one.
#[derive(Clone)]
pub struct Teller {
    pub voice: Rc<RefCell<Box<dyn Voice>>>,
    out: Option<mpsc::Sender<Bytes>>,
}

impl Teller {
    /// Has something told. A caller who has left is noticed elsewhere.
    pub async fn tell<T>(&self, what: impl FnOnce(&mut dyn Voice, &mut BytesMut) -> T) -> T {
        let mut out = BytesMut::new();
        let told = what(&mut **self.voice.borrow_mut(), &mut out);
        if let Some(stream) = self.out.as_ref().filter(|_| !out.is_empty()) {
            let _ = stream.send(out.freeze()).await;
        }
        told
    }

    /// Tells a step, as a comment that clients pass over.
    pub async fn step(&self, what: &str) {
        let comment = format!(": mcp {}\n\n", crate::envelope::shorten(what));
        self.tell(|_, out| out.extend_from_slice(comment.as_bytes())).await;
    }
}

/// What the turns are asked with.
pub struct Asked {
    /// The request without messages and tools.
    pub body: Map<String, Value>,
    pub messages: Vec<Value>,
    /// The caller's own tools.
    pub own: Vec<Value>,
    /// The gateway's.
    pub functions: Vec<Value>,
}

pub struct Turns {
    worker: Rc<crate::gateway::Worker>,
    live: Arc<crate::gateway::Live>,
    caller: crate::auth::Caller,
    plan: Plan,
    patience: Patience,
    wishes: Wishes,
    face: Face,
    betas: Vec<Cow<'static, str>>,
    version: Option<HeaderValue>,
    streams: bool,
    asked: Asked,
    /// How many of the messages came with the request.
    given: usize,
    said: LedgerRow,
    meter: Option<Meter>,
    teller: Teller,
    pub about: Rc<RefCell<About>>,
    /// The name of the last turn.
    name: String,
    finish: Value,
    usage: Value,
    cost: u64,
    is_priced: bool,
    turns: usize,
}

/// One turn while it comes.
#[derive(Default)]
struct Turn {
    message: Map<String, Value>,
    calls: Vec<Value>,
    finish: Value,
}

impl Turns {
    pub fn new(call: Call, mut asked: Asked, voice: Box<dyn Voice>, said: LedgerRow) -> Turns {
        if call.streams {
            asked.body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        Turns {
            worker: call.worker,
            live: call.live,
            caller: call.caller,
            plan: call.plan,
            patience: call.patience,
            wishes: call.wishes,
            face: if call.face == Face::Chat { Face::Chat } else { Face::Hub },
            // What these stand for is done here.
            betas: call.betas.into_iter().filter(|beta| !beta.starts_with("mcp-client-")).collect(),
            version: call.version,
            streams: call.streams,
            given: asked.messages.len(),
            asked,
            said,
            meter: None,
            teller: Teller { voice: Rc::new(RefCell::new(voice)), out: None },
            about: Rc::default(),
            name: String::new(),
            finish: Value::Null,
            usage: Value::Null,
            cost: 0,
            is_priced: true,
            turns: 0,
        }
    }

    /// The first round settles with this meter; a stream goes out this way.
    pub fn start(&mut self, meter: Meter, out: Option<mpsc::Sender<Bytes>>) {
        self.meter = Some(meter);
        self.teller.out = out;
    }

    pub fn teller(&self) -> Teller {
        self.teller.clone()
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

    /// What all turns have cost, where all of them have a price.
    pub fn cost(&self) -> Option<u64> {
        self.is_priced.then_some(self.cost)
    }

    /// The name of the last turn, and what the caller has not seen: the rounds before, and the turn itself.
    pub fn turns(&mut self) -> (String, Vec<Value>, Value) {
        let messages = &mut self.asked.messages;
        let mut inner = messages.split_off(self.given.min(messages.len()));
        let message = inner.pop().unwrap_or(Value::Null);
        (self.name.clone(), inner, message)
    }

    /// Tells the caller what came of calls.
    pub async fn note(&mut self, results: &[Done], kit: &Kit) {
        let steps: Vec<Told<'_>> = results
            .iter()
            .map(|done| Told::of(&done.wanted, Some(&done.outcome), kit.find(&done.wanted.name)))
            .collect();
        self.teller.tell(|voice, out| voice.done(&steps, out)).await;
    }

    /// Hands calls over to the caller.
    pub async fn hand(&mut self, calls: &[Pending], is_kept: bool, kit: &Kit) {
        self.teller.tell(|voice, out| voice.hands(calls, is_kept, kit, out)).await;
    }

    /// The end of the answer: what is left of a stream, and the whole of it.
    pub fn end(&mut self) -> (Bytes, Bytes) {
        let mut out = BytesMut::new();
        let end = End { finish: self.finish.as_str(), usage: self.usage.take() };
        let whole = self.teller.voice.borrow_mut().end(end, &mut out);
        (out.freeze(), whole)
    }

    /// The request of the next turn.
    fn request(&self, tools: bool) -> Result<Envelope> {
        let mut body = self.asked.body.clone();
        let mut all = self.asked.own.clone();
        if tools {
            all.extend(self.asked.functions.iter().cloned());
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
        body.insert("messages".to_owned(), self.asked.messages.clone().into());
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
        let said = message.clone();
        self.teller.tell(|voice, out| voice.says(&body, said, out)).await?;
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
                    self.hear(chunk, &mut turn).await?;
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
    async fn hear(&mut self, mut chunk: Value, turn: &mut Turn) -> Result<()> {
        add(&mut self.usage, chunk["usage"].take());
        let Some(choice) = chunk["choices"].get_mut(0) else { return Ok(()) };
        let (delta, finish) = (choice["delta"].take(), choice["finish_reason"].take());
        if finish.is_string() {
            turn.finish = finish;
        }
        let Value::Object(mut delta) = delta else { return Ok(()) };
        if let Some(Value::Array(calls)) = delta.shift_remove("tool_calls") {
            calls.into_iter().for_each(|call| gather(&mut turn.calls, call));
        }
        delta.shift_remove("role");
        delta.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        for (name, value) in &delta {
            join(&mut turn.message, name, value);
        }
        self.teller.tell(|voice, out| voice.says(&chunk, delta, out)).await
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
        self.name = resume::new_name();
        calls.truncate(MOST_CALLS);
        for call in &mut calls {
            if let Some(call) = call.as_object_mut() {
                call.shift_remove("index");
                call.entry("type").or_insert_with(|| "function".into());
                call.entry("id").or_insert_with(|| format!("call_{}", crate::mcp::streams::new_id()).into());
            }
        }
        let (signs, remembers) = self.about.borrow().deployment.as_ref().map_or((false, false), |deployment| {
            let provider = deployment.provider;
            (provider.quirks.language == Language::Anthropic, wants_reasoning(provider))
        });
        let keeps = |name: &str| match name {
            "content" => true,
            "thinking_blocks" => signs,
            "reasoning_content" => remembers,
            _ => false,
        };
        message.retain(|name, _| keeps(name));
        let mut written = json!({"role": "assistant", "content": null});
        for (name, value) in message {
            written[name.as_str()] = value;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let wanted = calls
            .iter()
            .enumerate()
            .map(|(place, call)| Wanted {
                id: text(&call["id"]),
                key: resume::key(&self.name, place),
                name: text(&call["function"]["name"]),
                arguments: text(&call["function"]["arguments"]),
            })
            .collect();
        if !calls.is_empty() {
            written["tool_calls"] = calls.into();
        }
        self.asked.messages.push(written);
        self.finish = finish;
        wanted
    }
}

impl Model for Turns {
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
            face: self.face,
            envelope,
            streams: self.streams,
            plan: self.plan.clone(),
            patience: self.patience,
            wishes: self.wishes.clone(),
            betas: self.betas.clone(),
            version: self.version.clone(),
            history: None,
            files: None,
            presumed: None,
            is_kept_elsewhere: false,
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
        match meter.cost() {
            Some(cost) => self.cost = self.cost.saturating_add(cost),
            None => self.is_priced = false,
        }
        self.teller.tell(|voice, out| voice.pause(out)).await;
        let wanted = self.write_down(turn);
        self.turns += 1;
        Ok(wanted)
    }

    async fn take(&mut self, results: Vec<Done>, kit: &Kit) {
        self.note(&results, kit).await;
        let mut images = Vec::new();
        for done in results {
            for url in &done.outcome.images {
                images.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
            let result = json!({"role": "tool", "tool_call_id": done.wanted.id, "content": done.outcome.text});
            self.asked.messages.push(result);
        }
        // In this format a tool's message is text alone.
        let target = self.live.routes.target(self.plan.model());
        let sees = target.is_ok_and(|target| target.known().facts.supports("vision") == Some(true));
        if sees && !images.is_empty() {
            let mut content = vec![json!({"type": "text", "text": "The images of these results, in their order:"})];
            content.append(&mut images);
            self.asked.messages.push(json!({"role": "user", "content": content}));
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
