//! Responses that nobody has to wait for: made while the caller is told that they are, and kept when they are there.
//!
//! The call runs on the worker that took it. What becomes of the response is said by whoever changes it first in the store:
//! the call itself, or who cancels or forgets it, by whichever gateway.

pub mod follow;
mod recording;

use super::keep::{self, Keeper};
use crate::call::Call;
use crate::dispatch;
use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::http::{call, reply, tools};
use crate::meter::{self, Meter};
use crate::wire::responses;
use crate::wire::sse::{self, Content, Events};
use actix_web::body::MessageBody;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use recording::Recording;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Responses that one process makes at once.
const MOST: usize = 1000;
/// None takes longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// The responses that are being made, and how each of them is told to end.
#[derive(Debug, Default)]
pub struct Underway(Mutex<HashMap<String, Making>>);

#[derive(Debug, Clone)]
struct Making {
    end: Arc<Notify>,
    /// Where its events can be followed.
    recording: Option<Arc<Recording>>,
}

impl Underway {
    fn begin(&self, id: &str, streams: bool) -> Option<Making> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            return None;
        }
        let making = Making { end: Arc::default(), recording: streams.then(Arc::default) };
        all.insert(id.to_owned(), making.clone());
        Some(making)
    }

    /// Whether any is being made.
    pub fn is_busy(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether it is being made here.
    pub fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// The events of one that is being made here.
    fn recording(&self, id: &str) -> Option<Arc<Recording>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id)?.recording.clone()
    }

    /// Takes it out of the list; none where somebody else has done so.
    fn take(&self, id: &str) -> Option<Making> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

/// Leaves the list when the call ends in whatever way, a panic or the end of the worker among them.
struct Place {
    gateway: Arc<Gateway>,
    id: String,
    making: Making,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.underway.take(&self.id);
        if let Some(recording) = &self.making.recording {
            recording.end();
        }
    }
}

/// Whether a checked request asks for one.
pub fn is_wanted(call: &Call) -> bool {
    call.face == crate::exchange::Face::Responses && call.envelope.flag("background")
}

/// Begins one, and answers with how it stands.
///
/// # Errors
/// It cannot be made in the background.
pub async fn start(request: &HttpRequest, mut call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let begun = begin(&mut call, &meter);
    let (keeper, pending, making) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            meter.fail(&error);
            return Err(error);
        }
    };
    let gateway = call.worker.gateway.clone();
    let recording = making.recording.clone();
    let id = pending["id"].as_str().unwrap_or_default().to_owned();
    let place = Place { gateway: gateway.clone(), id, making };
    if let Err(error) = gateway.customers.admit(meter.end_user()) {
        meter.fail(&error);
        return Err(error);
    }
    // Whoever is told its id can ask for it at once.
    let kept = match keeper.keep_pending(&pending, recording.is_some()).await {
        Ok(kept) => kept,
        Err(error) => {
            meter.fail(&error);
            return Err(error);
        }
    };
    let mut builder = HttpResponse::Ok();
    reply::call_id(&mut builder, &meter.id);
    let said = tools::are_in(&call).then(|| tools::Said::of(request, &call, &meter));
    call.is_kept_elsewhere = true;
    if let Some(recording) = recording {
        let created = json!({"type": "response.created", "response": &pending});
        recording.add(created, &place.id)?;
        let keep_alive = call.live.config.server.keep_alive;
        let answer = follow::begun(&mut builder, recording.clone(), keep_alive);
        let (own, id) = (pending.clone(), place.id.clone());
        let made = async move {
            let opened = match said {
                Some(said) => Box::pin(tools::admitted(said, call, meter)).await,
                None => Box::pin(call::answer(call, meter)).await,
            };
            let told = match opened {
                Ok(opened) => record(opened, &recording, &id).await,
                Err(error) => Err(error),
            };
            // How it ends is told when it is kept.
            told.or_else(|error| Ok(json!({"type": "response.failed", "response": failed(&error, own)})))
        };
        actix_web::rt::spawn(make(made, kept, pending, place));
        return Ok(answer);
    }
    let mut told = pending.clone();
    told["status"] = "queued".into();
    let own = pending.clone();
    let made = async move {
        let body = match said {
            Some(said) => Box::pin(tools::whole(said, call, meter)).await,
            None => Box::pin(whole(call, meter)).await,
        };
        body.map(|body| json!({"response": finished(&body, own)}))
    };
    actix_web::rt::spawn(make(made, kept, pending, place));
    Ok(builder.json(told))
}

/// Writes down the events of a streamed answer; the last one, which holds the whole response, is given back.
///
/// # Errors
/// There was none.
async fn record(answer: HttpResponse, recording: &Recording, id: &str) -> Result<Value> {
    let mut body = Box::pin(answer.into_body());
    let garbled = |what: &str| Error::new(Kind::Garbled, what);
    let (mut events, mut said) = (Events::new(recording::MOST), None);
    while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        events.push(chunk.map_err(|_| garbled("The answer broke off."))?);
        while let Some(event) = events.take().map_err(|_| garbled("An event of the answer is too large."))? {
            let Content::Data(data) = sse::content(&event) else { continue };
            let Ok(event) = serde_json::from_slice::<Value>(&data) else { continue };
            match event["type"].as_str() {
                // That is told already.
                Some("response.created" | "response.queued") | None => (),
                Some("response.completed" | "response.incomplete" | "response.failed") => return Ok(event),
                Some("error") => said = event["message"].as_str().map(str::to_owned),
                Some(_) => recording.add(event, id)?,
            }
        }
    }
    Err(garbled(said.as_deref().unwrap_or("The answer of the upstream broke off.")))
}

/// Waits for a response, and keeps it unless somebody else has said what becomes of it.
async fn make(made: impl Future<Output = Result<Value>>, mut kept: keep::Pending, pending: Value, place: Place) {
    // A connection that nobody sees: the process does not end for want of others.
    let _visit = place.gateway.visitors.enter();
    let made = tokio::time::timeout(LONGEST, made);
    tokio::pin!(made);
    let made = loop {
        tokio::select! {
            biased;
            () = place.making.end.notified() => return,
            made = &mut made => break made.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("The response was not there within {LONGEST:?}.")))
            }),
            () = tokio::time::sleep(keep::SIGN) => if !kept.goes_on().await {
                return;
            },
        }
    };
    let mut last = made.unwrap_or_else(|error| json!({"type": "response.failed", "response": failed(&error, pending)}));
    last["response"]["id"] = place.id.as_str().into();
    last["response"]["background"] = true.into();
    let response = last["response"].clone();
    let Some(recording) = &place.making.recording else { return kept.end(response, None).await };
    // Whoever hears the last event can go on from the response at once.
    let end = String::from_utf8(recording.next(last.clone()).to_vec()).unwrap_or_default();
    let events = recording.text().map(|text| text + &end);
    kept.end(response, events).await;
    let _ = recording.add(last, &place.id);
}

/// Takes what is about the background out of the request, since the upstream is waited for.
fn begin(call: &mut Call, meter: &Meter) -> Result<(Keeper, Value, Making)> {
    let wrong = |what: &str, at: &str| Error::invalid(what).at_param(at);
    let Some(keeper) = Keeper::of(call) else {
        let what =
            "A response in the background has to be kept: 'store' must not be false, nor server.keep_responses \"0s\".";
        return Err(wrong(what, "background"));
    };
    let request: Map<String, Value> = serde_json::from_slice(call.envelope.bytes())
        .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
    let mut edits = Edits::default();
    if let Some(place) = call.envelope.find("background") {
        edits.remove(place);
    }
    call.envelope = Envelope::parse(edits.apply(&call.envelope), call.live.config.server.max_nesting)?;
    let pending = responses::pending(&request, &meter.id, call.plan.model());
    let id = pending["id"].as_str().unwrap_or_default();
    let making = call.worker.gateway.underway.begin(id, call.streams).ok_or_else(|| {
        let what = format!("This gateway makes {MOST} responses in the background already; try again later.");
        Error::new(Kind::Unreachable, what)
    })?;
    Ok((keeper, pending, making))
}

/// The answer of a call without tools of the gateway's.
async fn whole(call: Call, mut meter: Meter) -> Result<Bytes> {
    meter.keep(crate::kept::Kept::of(&call));
    match dispatch::whole(&call, &mut meter).await {
        Ok(answer) => {
            meter.answered();
            meter.answered_as(answer.id.as_deref());
            meter.told(&answer.body);
            meter.used(answer.usage);
            meter.saw(meter::estimate(answer.body.len()));
            meter.succeed();
            Ok(answer.body)
        }
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    }
}

/// The response under the id that the caller knows, whatever the upstream calls it.
fn finished(body: &[u8], pending: Value) -> Value {
    let Ok(mut response) = serde_json::from_slice::<Value>(body) else {
        return failed(&Error::new(Kind::Garbled, "The answer of the upstream makes no sense."), pending);
    };
    response["id"] = pending["id"].clone();
    response["background"] = true.into();
    response
}

fn failed(error: &Error, mut pending: Value) -> Value {
    pending["status"] = "failed".into();
    pending["error"] = json!({"code": responses::code_of(error), "message": error.to_string()});
    pending
}

/// Cancels the response that the path names, and gives it as it is then.
///
/// # Errors
/// There is none, it was not made in the background, or the store does not answer.
pub async fn cancel(request: &HttpRequest) -> Result<Value> {
    let (gateway, mut kept) = keep::find_with_gateway(request).await?;
    let id = kept.response["id"].as_str().unwrap_or_default().to_owned();
    if kept.response["background"] != true {
        let what = format!("The response {id} is finished; only one made in the background can be cancelled.");
        return Err(Error::invalid(what));
    }
    if kept.response["status"] != "in_progress" {
        return Ok(kept.response);
    }
    kept.response["status"] = "cancelled".into();
    keep::again(request, &id, &kept).await?;
    // One that another gateway makes ends there with its next sign of life.
    forget(&gateway, &id);
    Ok(kept.response)
}

/// Ends the making of a response that is forgotten.
pub fn forget(gateway: &Gateway, id: &str) {
    if let Some(making) = gateway.underway.take(id) {
        making.end.notify_one();
    }
}
