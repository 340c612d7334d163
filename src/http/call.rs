//! What all routes of calls have in common: how a call begins and is answered, and what no request may say.

use super::explain::{self, EXPLAIN};
use super::responses::{Keeper, background};
use super::{body, entry, form, gemini, passage, reply, stream, tools, wishes};
use crate::auth::{self, access};
use crate::call::{Call, Patience};
use crate::dispatch;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::kept::Kept;
use crate::meter::{self, Meter};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use std::time::{Duration, Instant};

/// What a route of calls takes.
pub struct Door {
    pub face: Face,
    /// Refuses a body that is not as it should be.
    pub check: fn(&Envelope) -> Result<()>,
    /// The model that is meant where none is named.
    pub usual_model: Option<&'static str>,
    pub takes: Takes,
}

/// In which form a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Json,
    Form,
    Either,
}

impl Door {
    /// A route that takes JSON and a model's name.
    pub fn json(face: Face, check: fn(&Envelope) -> Result<()>) -> Self {
        Door { face, check, usual_model: None, takes: Takes::Json }
    }
}

/// Serves a call, from its request to its answer. `more` adds what only this format knows, before the call is booked.
pub async fn serve(
    request: HttpRequest,
    payload: Payload,
    door: Door,
    more: impl AsyncFnOnce(&HttpRequest, &mut Call) -> Result<()>,
) -> HttpResponse {
    let mut meter = Meter::new(meter::new_id(), Instant::now());
    let id = meter.id;
    let face = door.face;
    let answer = match begin(&request, payload, &mut meter, door, more).await {
        // What most calls do not come to is not a part of what is made, and moved, for each of them.
        Ok(call) if background::is_wanted(&call) => Box::pin(background::start(&request, call, meter)).await,
        Ok(call) if tools::are_in(&call) => Box::pin(tools::answer(&request, call, meter)).await,
        Ok(call) => answer(call, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    };
    reply::fit(
        &request,
        answer.unwrap_or_else(|error| match face {
            Face::Messages => reply::anthropic_error(&error, &id),
            Face::Gemini | Face::GeminiVectors(_) => reply::gemini_error(&error, &id),
            _ => reply::error(&error, &id),
        }),
    )
}

/// For a format that knows nothing more.
pub async fn nothing_more(_: &HttpRequest, _: &mut Call) -> Result<()> {
    Ok(())
}

/// From the request to a call.
async fn begin(
    request: &HttpRequest,
    payload: Payload,
    meter: &mut Meter,
    door: Door,
    more: impl AsyncFnOnce(&HttpRequest, &mut Call) -> Result<()>,
) -> Result<Call> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    meter.called_by(caller.clone());
    let limit = live.config.server.body_limit;
    let comes_as_form = match door.takes {
        Takes::Json => false,
        Takes::Form => true,
        Takes::Either => form::is_one(request),
    };
    let (bytes, files) = match comes_as_form {
        true => {
            let read = form::read(request, payload, limit, &worker, &live.config.state_dir);
            let (texts, files) = Box::pin(read).await?;
            (texts, Some(files))
        }
        false => (body::read(request, payload, limit, &worker.clock).await?, None),
    };
    let bytes = match door.face {
        Face::Gemini => gemini::told(request, &bytes)?,
        Face::GeminiVectors(embeds) => gemini::embeds(request, &bytes, embeds)?,
        _ => bytes,
    };
    let size = bytes.len();
    let envelope = Envelope::parse(bytes, live.config.server.max_nesting)?;
    (door.check)(&envelope)?;
    let streams = envelope.flag("stream");
    let in_path = reply::path_part(request, "model");
    let in_body = envelope.string("model");
    // In Azure's form the path names the model.
    let model = in_path.as_deref().or(in_body.as_deref()).filter(|m| !m.is_empty());
    let model = model.or(door.usual_model).ok_or_else(|| missing("model"))?;
    meter.asked(model, streams, size);
    let model = &*access::model(&live, &caller, model)?;
    let plan = live.routes.plan(model)?;
    let patience = patience(&envelope, request.headers())?;
    let wishes = wishes::of(&live, &caller, &envelope, request.headers(), meter)?;
    drop(in_body);
    let mut call = Call {
        id: meter.id,
        face: door.face,
        worker,
        live,
        caller,
        envelope,
        streams,
        plan,
        patience,
        wishes,
        betas: Vec::new(),
        version: None,
        history: None,
        files,
        presumed: None,
        is_kept_elsewhere: false,
    };
    more(request, &mut call).await?;
    if call.live.config.ledger.enabled {
        meter.book(call.worker.pen.clone(), entry::of(request, &call.envelope, door.face));
    }
    if call.live.routes.settings.pre_call_checks
        && let Some(region) = call.worker.gateway.customers.region(meter.end_user())
    {
        // What an administrator has set for the customer goes before what the request says.
        call.wishes.region = Some(region);
    }
    Ok(call)
}

/// Answers a call in the form that it asks for, and settles it.
///
/// # Errors
/// Why it could not be answered.
pub async fn answer(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    meter.keep(Kept::of(&call));
    if let Err(error) = call.worker.gateway.customers.admit(meter.end_user()) {
        meter.fail(&error);
        return Err(error);
    }
    match (call.face, call.streams) {
        (Face::Plain(plain), streams) if plain.is_passed_on(streams) => Box::pin(passage::answer(call, meter)).await,
        (_, true) => Box::pin(stream::answer(call, meter)).await,
        (_, false) => whole(call, meter).await,
    }
}

/// An answer in one piece.
async fn whole(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    match dispatch::whole(&call, &mut meter).await {
        Ok(answer) => {
            if let Some(keeper) = Keeper::of(&call) {
                let kept_by = answer.deployment.makes_responses.then(|| answer.deployment.id.clone());
                Box::pin(keeper.keep(answer.body.clone(), kept_by)).await;
            }
            meter.answered();
            meter.answered_as(answer.id.as_deref());
            meter.told(&answer.body);
            meter.presumes(call.presumed);
            meter.used(answer.usage);
            meter.saw(meter::estimate(answer.body.len()));
            meter.succeed();
            let mut builder = HttpResponse::Ok();
            builder.insert_header((CONTENT_TYPE, content_type(&answer)));
            let times = (meter.started.elapsed(), answer.waited);
            reply::call_headers(&mut builder, &meter.id, meter.attempts(), call.plan.label(), times);
            reply::deployment_headers(&mut builder, &answer.deployment);
            reply::cost(&mut builder, meter.cost());
            reply::anthropic_id(&mut builder, call.face, &meter.id);
            reply::upstream_headers(&mut builder, &answer.headers);
            reply::limits(&mut builder, &meter);
            if call.wishes.explains {
                builder.insert_header((EXPLAIN, explain::header(&meter.id, meter.trace.steps())));
            }
            Ok(builder.body(answer.body))
        }
        Err(error) => {
            meter.fail(&error);
            Err(reply::of_call(error, &meter, call.plan.label(), call.wishes.explains))
        }
    }
}

fn content_type(answer: &dispatch::Answer) -> HeaderValue {
    if !answer.is_text {
        return HeaderValue::from_static("application/json");
    }
    // Nothing that a browser would run.
    let is_plain = |kind: &&HeaderValue| {
        [&b"text/plain"[..], b"text/vtt", b"application/x-subrip"]
            .iter()
            .any(|plain| kind.as_bytes().starts_with(plain))
    };
    let kind = answer.headers.get(CONTENT_TYPE).filter(is_plain);
    kind.cloned().unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"))
}

static TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-timeout");
static STREAM_TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-stream-timeout");

/// How long the caller says that it wants to wait.
///
/// # Errors
/// A 400 for what is no time.
pub fn patience(envelope: &Envelope, headers: &HeaderMap) -> Result<Patience> {
    let header = |name: &HeaderName| {
        headers.get(name).map(|v| v.to_str().ok().and_then(|v| v.trim().parse::<f64>().ok()).ok_or(name.to_string()))
    };
    let read = |name: &str, header_name: &HeaderName| -> Result<Option<Duration>> {
        let seconds = match header(header_name) {
            Some(Ok(seconds)) => seconds,
            Some(Err(name)) => {
                return Err(Error::invalid(format!("The header '{name}' must be a number of seconds.")).at_param(name));
            }
            None => match envelope.get(name) {
                None => return Ok(None),
                Some(_) => envelope.number(name).ok_or_else(|| wrong_type(name, "a number of seconds"))?,
            },
        };
        if !(0.001..=86_400.0).contains(&seconds) {
            return Err(Error::invalid(format!("'{name}' must be between 0.001 and 86400 seconds.")).at_param(name));
        }
        Ok(Some(Duration::from_secs_f64(seconds)))
    };
    Ok(Patience { whole: read("timeout", &TIMEOUT)?, silence: read("stream_timeout", &STREAM_TIMEOUT)? })
}

pub fn missing(name: &str) -> Error {
    Error::invalid(format!("Missing required parameter: '{name}'.")).at_param(name)
}

pub fn wrong_type(name: &str, expected: &str) -> Error {
    Error::invalid(format!("Invalid type for '{name}': expected {expected}.")).at_param(name)
}

/// Where a request would be dialled, and with which key, is the operator's to say.
const NOT_FROM_CALLERS: &[&str] = &["api_base", "base_url", "api_key", "api_version", "custom_llm_provider"];

/// # Errors
/// A 400 for a member that no caller may set.
pub fn check_owner(name: &[u8]) -> Result<()> {
    match NOT_FROM_CALLERS.iter().find(|n| n.as_bytes() == name) {
        Some(name) => Err(Error::invalid(format!(
            "'{name}' cannot be set by a request; it belongs to the gateway's configuration."
        ))
        .at_param(*name)),
        None => Ok(()),
    }
}
