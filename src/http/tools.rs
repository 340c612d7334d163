//! Chat completions in which the gateway runs tools itself: `tools` of the type `mcp`, and turns that such a call has left
//! to the caller.

mod chat;
mod history;
mod output;

use super::entry;
use crate::call::Call;
use crate::envelope::{Envelope, shorten};
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::mcp::booking::Booking;
use crate::mcp::kit::{self, Chosen, Kit};
use crate::mcp::outcome::Outcome;
use crate::mcp::resume::{self, Pending, Turn};
use crate::mcp::rounds::{self, Caps, End, Handed, Wanted};
use crate::mcp::{Asked, check_arguments};
use crate::meter::Meter;
use crate::store::LedgerRow;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse};
use chat::Chat;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::time::Duration;

/// Whether a checked call is one of these.
pub fn are_in(envelope: &Envelope) -> bool {
    let holds = |name: &str, needle: &[u8]| {
        envelope.get(name).is_some_and(|m| memchr::memmem::find(envelope.text(&m.value), needle).is_some())
    };
    if holds("messages", resume::PREFIX.as_bytes()) || holds("approved_tool_calls", b"\"") {
        return true;
    }
    holds("tools", b"\"mcp\"") && {
        let tools = envelope.get("tools").map(|member| envelope.text(&member.value));
        let tools: Vec<Value> = tools.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
        tools.iter().any(kit::is_entry)
    }
}

/// Answers such a call.
///
/// # Errors
/// Why it could not be answered.
pub async fn answer(request: &HttpRequest, call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let mut said = entry::of(request, &call.envelope, Face::Chat);
    // By this the rows of one call are found together.
    said.trace_id.get_or_insert_with(|| meter.id.to_string());
    match begin(request.headers(), call, &mut meter, said).await {
        Ok(run) => output::send(request, run, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    }
}

/// A call that is ready for its first round.
struct Run {
    chat: Chat,
    kit: Kit,
    hands: Hands,
    caps: Caps,
    /// The caller wants to see what is done.
    steps: bool,
}

async fn begin(headers: &HeaderMap, call: Call, meter: &mut Meter, said: LedgerRow) -> Result<Run> {
    let bytes = call.envelope.bytes();
    let mut body: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
    if body.get("n").is_some_and(|n| n.as_u64() != Some(1) && !n.is_null()) {
        return Err(Error::invalid("With tools of the type 'mcp' there is one answer; leave 'n' out.").at_param("n"));
    }
    let tools = match body.shift_remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    let entries: Vec<(usize, &Value)> = tools.iter().enumerate().filter(|(_, tool)| kit::is_entry(tool)).collect();
    let own: Vec<Value> = tools.iter().filter(|tool| !kit::is_entry(tool)).cloned().collect();
    let own_names = own.iter().filter_map(|tool| tool["function"]["name"].as_str()).map(str::to_owned).collect();
    if !entries.is_empty() {
        takes_tools(&call)?;
    }
    let approved = approved(&mut body)?;
    let Some(Value::Array(messages)) = body.shift_remove("messages") else {
        return Err(super::call::missing("messages"));
    };
    let gateway = call.worker.gateway.clone();
    gateway.database.settled().await;
    let kit = Kit::select(&gateway.mcp, &call.live, &call.caller, &entries, own_names, headers).await?;
    let settings = &call.live.config.mcp.tools;
    let hands = Hands {
        worker: call.worker.clone(),
        live: call.live.clone(),
        caller: call.caller.clone(),
        said: said.clone(),
        headers: headers.clone(),
        result_limit: settings.result_limit,
    };
    let mut messages = history::expand(messages, &approved, &kit, &hands, settings.resume_age).await?;
    history::prompts(&mut messages, &kit, &hands).await;
    let caps = Caps { rounds: settings.max_rounds, time: settings.max_time, cost_nanos: settings.max_cost_nanos };
    let steps = headers.get("x-mcp-steps").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    meter.asked(call.plan.model(), call.streams, bytes.len());
    Ok(Run { chat: Chat::new(call, body, messages, own, kit.functions(), said), kit, hands, caps, steps })
}

/// # Errors
/// A 400 where the model is known to call no tools.
fn takes_tools(call: &Call) -> Result<()> {
    let Ok(target) = call.live.routes.target(call.plan.model()) else { return Ok(()) };
    if target.known().facts.supports("function_calling") != Some(false) {
        return Ok(());
    }
    let message = format!("The model '{}' cannot call tools; choose another one.", shorten(call.plan.model()));
    Err(Error::invalid(message).at_param("tools"))
}

/// The ids in `approved_tool_calls`, a member that speaks to the gateway alone.
fn approved(body: &mut Map<String, Value>) -> Result<HashSet<String>> {
    match body.shift_remove("approved_tool_calls") {
        None | Some(Value::Null) => Ok(HashSet::new()),
        Some(Value::Array(ids)) if ids.iter().all(Value::is_string) => {
            Ok(ids.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Some(_) => Err(super::call::wrong_type("approved_tool_calls", "a list of ids")),
    }
}

/// Carries calls out.
struct Hands {
    worker: std::rc::Rc<crate::gateway::Worker>,
    live: std::sync::Arc<crate::gateway::Live>,
    caller: crate::auth::Caller,
    said: LedgerRow,
    headers: HeaderMap,
    result_limit: usize,
}

impl Hands {
    async fn call(&self, chosen: &Chosen, wanted: &Wanted, left: Duration) -> Outcome {
        let offered = &chosen.offered;
        let text = if wanted.arguments.trim().is_empty() { "{}" } else { &wanted.arguments };
        let arguments = match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => arguments,
            Ok(Value::Null) => Map::new(),
            _ => return Outcome::failed("Error: the arguments are no JSON object."),
        };
        if let Some(name) = offered.forbidden(&arguments) {
            return Outcome::failed(format!("Error: the parameter '{}' may not be given.", shorten(name)));
        }
        let arguments = Value::Object(arguments);
        if let Err(what) = check_arguments(offered, &arguments) {
            return Outcome::failed(format!("Error: {what}. Nothing was done."));
        }
        let Value::Object(arguments) = arguments else { return Outcome::default() };
        let mut booking = match Booking::open(&self.worker, &self.live, &self.caller, offered, &self.said).await {
            Ok(booking) => booking,
            Err(error) => return Outcome::failed(format!("Error: {error}")),
        };
        let asked = Asked { headers: Some(&self.headers), limit: Some(left), ..Asked::default() };
        let result = self.worker.gateway.mcp.call(offered, arguments, asked).await;
        booking.end(&result);
        Outcome::of(&result, &offered.server.prefix, self.result_limit)
    }
}

impl Run {
    /// Runs the loop to its end; what is handed over is kept.
    async fn go(&mut self) -> Result<()> {
        let Run { chat, kit, hands, caps, steps } = self;
        let told = chat.teller();
        let call = async |chosen: &Chosen, wanted: &Wanted, left: Duration| {
            if *steps {
                told.step(&format!("calls {}", wanted.name)).await;
            }
            let outcome = hands.call(chosen, wanted, left).await;
            if *steps {
                let how = if outcome.is_error { "failed" } else { "done" };
                told.step(&format!("{} {how}", wanted.name)).await;
            }
            outcome
        };
        match rounds::run(chat, kit, *caps, call).await? {
            End::Answered => Ok(()),
            End::Handed(handed) => {
                let (name, turn) = kept(chat, kit, handed);
                let age = hands.live.config.mcp.tools.resume_age;
                resume::keep(&hands.worker.gateway.store, &hands.caller, &name, &turn, age).await?;
                chat.hand(turn.calls);
                Ok(())
            }
        }
    }
}

/// What is kept of a turn that is handed over.
fn kept(chat: &mut Chat, kit: &Kit, handed: Handed) -> (String, Turn) {
    let name = resume::new_name();
    chat.note(&handed.done);
    let results = handed.done.iter().map(|done| (done.wanted.id.clone(), done.outcome.text.clone())).collect();
    let own = handed.own.into_iter().map(|wanted| (wanted, None));
    let waiting = handed.waiting.into_iter().map(|wanted| {
        let tool = kit.find(&wanted.name).map(|chosen| &chosen.offered);
        let tool = tool.map(|offered| (offered.server.name.clone(), offered.tool.name.clone()));
        (wanted, tool)
    });
    let calls = own.chain(waiting).enumerate().map(|(place, (wanted, tool))| Pending {
        id: resume::id(&name, place),
        own_id: wanted.id,
        tool,
        name: wanted.name,
        arguments: wanted.arguments,
        approved: false,
        begun: false,
    });
    let calls = calls.collect();
    let (inner, message) = chat.turns();
    (name, Turn { inner, message, calls, results })
}
