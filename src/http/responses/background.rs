//! Responses that nobody waits for: made while the caller is told that they are, and kept when they are there.
//!
//! The call runs on the worker that took it. What becomes of the response is said by whoever changes it first in the store:
//! the call itself, or who cancels or forgets it, by whichever gateway.

use super::keep::{self, Keeper};
use crate::call::Call;
use crate::dispatch;
use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::http::{reply, tools};
use crate::meter::{self, Meter};
use crate::wire::responses;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Responses that one process makes at once.
const MOST: usize = 1000;
/// None takes longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// The responses that are being made, and how each of them is told to end.
#[derive(Debug, Default)]
pub struct Underway(Mutex<HashMap<String, Arc<Notify>>>);

impl Underway {
    fn begin(&self, id: &str) -> Option<Arc<Notify>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            return None;
        }
        let end = Arc::new(Notify::new());
        all.insert(id.to_owned(), end.clone());
        Some(end)
    }

    /// Whether any is being made.
    pub fn is_busy(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes it out of the list; none where somebody else has done so.
    fn take(&self, id: &str) -> Option<Arc<Notify>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

/// Leaves the list when the call ends in whatever way, a panic or the end of the worker among them.
struct Place {
    gateway: Arc<Gateway>,
    id: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.underway.take(&self.id);
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
    let (keeper, pending, end) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            meter.fail(&error);
            return Err(error);
        }
    };
    let gateway = call.worker.gateway.clone();
    let place = Place { gateway: gateway.clone(), id: pending["id"].as_str().unwrap_or_default().to_owned() };
    if let Err(error) = gateway.customers.admit(meter.end_user()) {
        meter.fail(&error);
        return Err(error);
    }
    // Whoever is told its id can ask for it at once.
    let kept = match keeper.keep_pending(&pending).await {
        Ok(kept) => kept,
        Err(error) => {
            meter.fail(&error);
            return Err(error);
        }
    };
    let mut builder = HttpResponse::Ok();
    reply::call_id(&mut builder, &meter.id);
    let mut told = pending.clone();
    told["status"] = "queued".into();
    let said = tools::are_in(&call).then(|| tools::Said::of(request, &call, &meter));
    let made = async move {
        match said {
            Some(said) => Box::pin(tools::whole(said, call, meter)).await,
            None => Box::pin(whole(call, meter)).await,
        }
    };
    actix_web::rt::spawn(make(made, kept, pending, place, end));
    Ok(builder.json(told))
}

/// Waits for a response, and keeps it unless somebody else has said what becomes of it.
async fn make(
    made: impl Future<Output = Result<Bytes>>,
    mut kept: keep::Pending,
    pending: Value,
    place: Place,
    end: Arc<Notify>,
) {
    // A connection that nobody sees: the process does not end for want of others.
    let _visit = place.gateway.visitors.enter();
    let made = tokio::time::timeout(LONGEST, made);
    tokio::pin!(made);
    let made = loop {
        tokio::select! {
            biased;
            () = end.notified() => return,
            made = &mut made => break made.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("The response was not there within {LONGEST:?}.")))
            }),
            () = tokio::time::sleep(keep::SIGN) => if !kept.goes_on().await {
                return;
            },
        }
    };
    let response = match made {
        Ok(body) => finished(&body, pending),
        Err(error) => failed(&error, pending),
    };
    kept.end(response).await;
}

/// Takes what is about the background out of the request, since the upstream is waited for.
fn begin(call: &mut Call, meter: &Meter) -> Result<(Keeper, Value, Arc<Notify>)> {
    let wrong = |what: &str, at: &str| Error::invalid(what).at_param(at);
    if call.streams {
        let what = "A response in the background is not streamed; ask for it by its id, or leave 'background' out.";
        return Err(wrong(what, "stream"));
    }
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
    let end = call.worker.gateway.underway.begin(id).ok_or_else(|| {
        let what = format!("This gateway makes {MOST} responses in the background already; try again later.");
        Error::new(Kind::Unreachable, what)
    })?;
    Ok((keeper, pending, end))
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
    if let Some(end) = gateway.underway.take(id) {
        end.notify_one();
    }
}
