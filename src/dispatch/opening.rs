//! Streams up to the first event that says something: until then a failure is an ordinary error, and another
//! deployment may be asked.

use super::admission::Admission;
use super::course::attempts;
use super::{Sent, late, stopping};
use crate::call::Call;
use crate::clock::Ring;
use crate::error::{Error, Kind, Result};
use crate::exchange::{self, Back, Relay};
use crate::meter::Meter;
use crate::route::{Deployment, Target, Timeouts};
use crate::tap::Step;
use crate::upstream::{self, Request, broken_off};
use crate::wire::sse;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stream whose first event is there.
pub struct Open {
    pub response: upstream::Response,
    pub relay: Relay,
    pub first: Option<Step>,
    /// The upstream's body has been read to its end, and must not be asked again.
    pub ended: bool,
    /// Who answers.
    pub deployment: Arc<Deployment>,
    /// The longest silence from here on.
    pub silence: Duration,
    /// How long upstreams were waited for.
    pub waited: Duration,
    pub admission: Admission,
}

/// Asks for a stream and waits for the first event that says something.
///
/// # Errors
/// Why no deployment began to answer.
pub async fn open(call: &Call, meter: &mut Meter) -> Result<Open> {
    let asked = Instant::now();
    let (mut sent, begun) = attempts(call, meter, async |sent: &mut Sent| {
        let limits = sent.limits;
        tokio::select! {
            biased;
            begun = begin(call, sent) => begun,
            ring = call.worker.clock.after(limits.silence) => Err(match ring {
                Ring::Late => late_stream(&sent.target, limits),
                Ring::Ending => stopping(),
            }),
        }
    })
    .await?;
    sent.admission.answered();
    let Begun { response, relay, first, ended } = begun;
    Ok(Open {
        response,
        relay,
        first: Some(first),
        ended,
        deployment: sent.target.deployment,
        silence: sent.limits.silence,
        waited: asked.elapsed(),
        admission: sent.admission,
    })
}

struct Begun {
    response: upstream::Response,
    relay: Relay,
    first: Step,
    ended: bool,
}

async fn begin(call: &Call, sent: &mut Sent) -> Result<Begun> {
    let deployment = &sent.target.deployment;
    let request = std::mem::replace(&mut sent.request, Request::call(Default::default()));
    let mut response = call.worker.upstream.send(call.live.generation, &sent.target, request).await?;
    if !is_stream(response.headers(), &sent.back) {
        return Err(no_stream(response, &sent.back, call.live.config.server.answer_limit, deployment).await);
    }
    let mut relay = Relay::new(sent.back.clone(), deployment.origin.clone(), sent.tariff.clone());
    let mut ended = false;
    loop {
        match relay.step() {
            Step::Fail(error) => return Err(error),
            // Comments are the upstream's way to say that it is not there yet.
            Step::Forward(event) if sse::content(&event) == sse::Content::Nothing => continue,
            first @ (Step::Forward(_) | Step::Finish(_)) => return Ok(Begun { response, relay, first, ended }),
            Step::More => match response.next().await {
                Some(Ok(chunk)) => relay.push(chunk),
                Some(Err(e)) => return Err(broken_off(deployment, &e)),
                None => {
                    ended = true;
                    relay.end();
                }
            },
        }
    }
}

fn late_stream(target: &Target, timeouts: Timeouts) -> Error {
    if timeouts.silence == timeouts.whole {
        return late(target, timeouts.whole);
    }
    let deployment = &target.deployment;
    Error::new(
        Kind::Timeout,
        format!(
            "'{}' sent nothing within {:?} (stream_timeout of the model '{}').",
            deployment.provider.name, timeouts.silence, deployment.name
        ),
    )
}

fn is_stream(headers: &HeaderMap, back: &Back) -> bool {
    // Some servers name no type; their events are checked one by one anyway.
    headers.get(CONTENT_TYPE).is_none_or(|kind| back.framing().fits(kind.as_bytes()))
}

/// An answer of another type than a stream: an error in disguise, or a server that cannot stream.
async fn no_stream(response: upstream::Response, back: &Back, limit: usize, deployment: &Deployment) -> Error {
    let whole = match upstream::gather(response, limit, deployment).await {
        Ok(body) => exchange::whole(back, body, &deployment.origin),
        Err(error) => return error,
    };
    let provider = deployment.provider.name;
    match whole {
        Ok(_) => Error::new(
            Kind::Garbled,
            format!("'{provider}' was asked for a stream and answered in one piece; ask it without stream."),
        ),
        Err(error) if error.kind == Kind::Garbled => Error::new(
            Kind::Garbled,
            format!("'{provider}' was asked for a stream and answered with something else; check api_base."),
        ),
        Err(error) => error,
    }
}
