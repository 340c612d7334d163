//! Calls in which the gateway runs tools itself: chat completions, Responses and Messages that ask for tools of servers,
//! and turns that such a call has left to the caller. There is one loop, in chat's format: each other format is translated
//! into that on its way in, and has a voice of its own on the way back.

mod history;
mod messages;
mod output;
mod pieces;
mod responses;
mod turns;
mod voice;

use super::entry;
use crate::call::Call;
use crate::envelope::{Envelope, shorten};
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::gateway::Live;
use crate::mcp::booking::Booking;
use crate::mcp::kit::{self, Chosen, Kit, Wish};
use crate::mcp::outcome::Outcome;
use crate::mcp::resume::{self, Pending, Turn};
use crate::mcp::rounds::{self, Caps, End, Handed, Wanted};
use crate::mcp::{Asked, check_arguments};
use crate::meter::Meter;
use crate::store::LedgerRow;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::time::Duration;
use turns::Turns;
use voice::{Step, Voice};

/// Whether a checked call is one of these.
pub fn are_in(call: &Call) -> bool {
    let envelope = &call.envelope;
    let of_servers = || offers(envelope);
    let goes_on = || holds(envelope, "approved_tool_calls", b"\"");
    match call.face {
        Face::Chat => holds(envelope, "messages", resume::PREFIX.as_bytes()) || goes_on() || of_servers(),
        Face::Responses => of_servers() || responses::goes_on(call),
        Face::Messages => are_in_messages(envelope, &call.live),
        _ => false,
    }
}

/// Whether a request of Messages is one.
pub fn are_in_messages(envelope: &Envelope, live: &Live) -> bool {
    offers(envelope)
        || holds(envelope, "approved_tool_calls", b"\"")
        || messages::goes_on(envelope)
        || messages::names_ours(envelope, live)
}

/// Whether there are tools of the type `mcp`.
fn offers(envelope: &Envelope) -> bool {
    holds(envelope, "tools", b"\"mcp\"") && list(envelope, "tools").iter().any(kit::is_entry)
}

fn holds(envelope: &Envelope, name: &str, needle: &[u8]) -> bool {
    envelope.get(name).is_some_and(|m| memchr::memmem::find(envelope.text(&m.value), needle).is_some())
}

fn list(envelope: &Envelope, name: &str) -> Vec<Value> {
    let text = envelope.get(name).map(|member| envelope.text(&member.value));
    text.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default()
}

/// What a request says about itself, for the rows of all its turns and calls.
pub struct Said {
    headers: HeaderMap,
    row: LedgerRow,
}

impl Said {
    pub fn of(request: &HttpRequest, call: &Call, meter: &Meter) -> Self {
        let mut row = entry::of(request, &call.envelope, call.face);
        // By this the rows of one call are found together.
        row.trace_id.get_or_insert_with(|| meter.id.to_string());
        Said { headers: request.headers().clone(), row }
    }
}

/// Answers such a call.
///
/// # Errors
/// Why it could not be answered.
pub async fn answer(request: &HttpRequest, call: Call, mut meter: Meter) -> Result<HttpResponse> {
    if let Err(error) = call.worker.gateway.customers.admit(meter.end_user()) {
        meter.fail(&error);
        return Err(error);
    }
    let said = Said::of(request, &call, &meter);
    admitted(said, call, meter).await
}

/// The answer of such a call, which is admitted already.
///
/// # Errors
/// As [`answer`].
pub async fn admitted(said: Said, call: Call, mut meter: Meter) -> Result<HttpResponse> {
    match begin(said, call, &mut meter).await {
        Ok(run) => output::send(run, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    }
}

/// The whole answer of such a call, which is admitted already.
///
/// # Errors
/// As [`answer`].
pub async fn whole(said: Said, call: Call, mut meter: Meter) -> Result<Bytes> {
    match begin(said, call, &mut meter).await {
        Ok(mut run) => output::whole(&mut run, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    }
}

/// A call that is ready for its first round.
struct Run {
    turns: Turns,
    kit: Kit,
    hands: Hands,
    caps: Caps,
    face: Face,
    /// Keeps the answer, where it is one that is kept.
    keeper: Option<super::responses::Keeper>,
    /// The caller wants to see what is done.
    steps: bool,
}

/// A request as it is read in its own format.
struct Read {
    asked: turns::Asked,
    kit: Kit,
    voice: Box<dyn Voice>,
    /// Calls of tools, at most.
    most_calls: Option<usize>,
}

async fn begin(said: Said, call: Call, meter: &mut Meter) -> Result<Run> {
    let Said { headers, row } = said;
    let bytes = call.envelope.bytes();
    let body: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
    let gateway = call.worker.gateway.clone();
    gateway.database.settled().await;
    let settings = &call.live.config.mcp.tools;
    let hands = Hands {
        worker: call.worker.clone(),
        live: call.live.clone(),
        caller: call.caller.clone(),
        said: row.clone(),
        headers: headers.clone(),
        result_limit: settings.result_limit,
    };
    let mut read = match call.face {
        Face::Responses => responses::read(&call, body, &hands).await?,
        Face::Messages => messages::read(&call, body, &hands).await?,
        _ => chat(&call, body, &hands).await?,
    };
    history::prompts(&mut read.asked.messages, &read.kit, &hands).await;
    let caps = Caps {
        rounds: settings.max_rounds,
        time: settings.max_time,
        cost_nanos: settings.max_cost_nanos,
        calls: read.most_calls,
    };
    let steps = headers.get("x-mcp-steps").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    meter.asked(call.plan.model(), call.streams, bytes.len());
    let (face, keeper) = (call.face, super::responses::Keeper::of(&call));
    let turns = Turns::new(call, read.asked, read.voice, row);
    Ok(Run { turns, kit: read.kit, hands, caps, face, keeper, steps })
}

/// A chat completion.
async fn chat(call: &Call, mut body: Map<String, Value>, hands: &Hands) -> Result<Read> {
    if body.get("n").is_some_and(|n| n.as_u64() != Some(1) && !n.is_null()) {
        return Err(Error::invalid("With tools of the type 'mcp' there is one answer; leave 'n' out.").at_param("n"));
    }
    let tools = match body.shift_remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    let own: Vec<Value> = tools.iter().filter(|tool| !kit::is_entry(tool)).cloned().collect();
    let own_names = own.iter().filter_map(|tool| tool["function"]["name"].as_str()).map(str::to_owned).collect();
    let approved = approved(&mut body)?;
    let Some(Value::Array(messages)) = body.shift_remove("messages") else {
        return Err(super::call::missing("messages"));
    };
    let kit = hands.kit(call, &Wish::among(&tools), own_names).await?;
    let (messages, _) = hands.expand(messages, &approved, &kit).await?;
    let shows_usage = body.get("stream_options").is_some_and(|options| options["include_usage"] == true);
    let voice = Box::new(voice::Chat::new(call.streams, shows_usage, &kit));
    let asked = turns::Asked { body, messages, own, functions: kit.functions() };
    Ok(Read { asked, kit, voice, most_calls: None })
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
    /// The tools that a request wishes for.
    ///
    /// # Errors
    /// As [`Kit::select`], and a 400 where the model is known to call no tools.
    async fn kit(&self, call: &Call, wishes: &[Wish], own: Vec<String>) -> Result<Kit> {
        if !wishes.is_empty() {
            takes_tools(call)?;
        }
        Kit::select(&self.worker.gateway.mcp, &self.live, &self.caller, wishes, own, &self.headers).await
    }

    async fn expand(
        &self,
        messages: Vec<Value>,
        approved: &HashSet<String>,
        kit: &Kit,
    ) -> Result<(Vec<Value>, Vec<history::Allowed>)> {
        history::expand(messages, approved, kit, self, self.live.config.mcp.tools.resume_age).await
    }

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
        let Run { turns, kit, hands, caps, face, steps, .. } = self;
        let told = turns.teller();
        let call = async |chosen: &Chosen, wanted: &Wanted, left: Duration| {
            told.tell(|voice, out| voice.begins(&Step::of(wanted, None, Some(chosen)), out)).await;
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
        match rounds::run(turns, kit, *caps, call).await? {
            End::Answered => Ok(()),
            End::Handed(handed) => {
                turns.note(&handed.done, kit).await;
                // Elsewhere the answer itself shows what came before: only what waits for leave has to be kept.
                let is_kept = *face == Face::Chat || !handed.waiting.is_empty();
                let (name, turn) = kept(turns, kit, handed, *face == Face::Chat);
                if is_kept {
                    let age = hands.live.config.mcp.tools.resume_age;
                    resume::keep(&hands.worker.gateway.store, &hands.caller, &name, &turn, age).await?;
                }
                turns.hand(&turn.calls, is_kept, kit).await;
                Ok(())
            }
        }
    }
}

/// What is kept of a turn that is handed over, and of the rounds before where the caller does not see them.
fn kept(turns: &mut Turns, kit: &Kit, handed: Handed, with_rounds: bool) -> (String, Turn) {
    let results = handed.done.iter().map(|done| (done.wanted.id.clone(), done.outcome.text.clone())).collect();
    let own = handed.own.into_iter().map(|wanted| (wanted, None));
    let waiting = handed.waiting.into_iter().map(|wanted| {
        let tool = kit.find(&wanted.name).map(|chosen| &chosen.offered);
        let tool = tool.map(|offered| (offered.server.name.clone(), offered.tool.name.clone()));
        (wanted, tool)
    });
    let calls = own.chain(waiting).map(|(wanted, tool)| Pending {
        id: resume::id(&wanted.key),
        own_id: wanted.id,
        tool,
        name: wanted.name,
        arguments: wanted.arguments,
        approved: false,
        begun: false,
    });
    let calls = calls.collect();
    let (name, mut inner, message) = turns.turns();
    if !with_rounds {
        inner.clear();
    }
    (name, Turn { inner, message, calls, results })
}

/// What a model is told a tool is called that a message quotes and this request does not offer.
fn name_of(kit: &Kit, label: &str, shown: &str) -> String {
    if let Some(tool) = kit.find_shown(label, shown) {
        return tool.offered.name.clone();
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    format!("{label}-{shown}").chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect()
}
