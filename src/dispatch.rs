//! From a checked call to an answer: a deployment is chosen, asked, and where it fails another one, until the first
//! byte of an answer is there.
//!
//! It knows formats by [`exchange`] alone, and settles nothing: the [`Meter`] is told where the call goes and what
//! failed on the way, and is settled by whoever hands the answer out.

mod admission;
mod fault;
mod opening;

use crate::call::Call;
use crate::clock::Ring;
use crate::error::{Error, Kind, Result};
use crate::exchange::{self, Back};
use crate::meter::Meter;
use crate::route::{Deployment, Target, Tariff, Timeouts};
use crate::upstream::{self, Request};
use crate::usage::Usage;
use actix_web::http::header::HeaderMap;
use admission::Admission;
use bytes::Bytes;
pub use fault::Fault;
pub use opening::{Open, open};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A whole answer, in the caller's format.
pub struct Answer {
    pub body: Bytes,
    pub usage: Option<Usage>,
    /// The upstream's id of it.
    pub id: Option<String>,
    /// The upstream's headers.
    pub headers: HeaderMap,
    /// Who answered.
    pub deployment: Arc<Deployment>,
    /// How long upstreams were waited for.
    pub waited: Duration,
}

/// Asks for an answer in one piece.
///
/// # Errors
/// Why no deployment answered.
pub async fn whole(call: &Call, meter: &mut Meter) -> Result<Answer> {
    let asked = Instant::now();
    let (sent, (headers, whole)) = attempts(call, meter, async |sent: &mut Sent| {
        let deployment = &sent.target.deployment;
        let exchange = async {
            let request = std::mem::replace(&mut sent.request, Request::call(Default::default()));
            let response = call.worker.upstream.send(call.live.generation, &sent.target, request).await?;
            let headers = response.headers().clone();
            let body = upstream::gather(response, call.live.config.server.answer_limit, deployment).await?;
            Ok((headers, exchange::whole(&sent.back, body, &deployment.origin)?))
        };
        tokio::select! {
            biased;
            result = exchange => result,
            ring = call.worker.clock.after(sent.limits.whole) => Err(match ring {
                Ring::Late => late(&sent.target, sent.limits.whole),
                Ring::Ending => stopping(),
            }),
        }
    })
    .await?;
    Ok(Answer {
        body: whole.body,
        usage: whole.usage,
        id: whole.id,
        headers,
        deployment: sent.target.deployment,
        waited: asked.elapsed(),
    })
}

/// One attempt: a deployment that admitted the call, and what it is sent.
struct Sent {
    target: Target,
    request: Request,
    back: Back,
    limits: Timeouts,
    tariff: Tariff,
    admission: Admission,
}

/// Goes from deployment to deployment until one of them gives what `one` waits for.
async fn attempts<T>(call: &Call, meter: &mut Meter, one: impl AsyncFn(&mut Sent) -> Result<T>) -> Result<(Sent, T)> {
    let mut tried: Vec<usize> = Vec::new();
    let mut last: Option<Error> = None;
    loop {
        let Some(target) = call.plan.next(&tried) else {
            return Err(last.unwrap_or_else(|| Error::new(Kind::Internal, "The model has no deployment.")));
        };
        let place = target.deployment.index;
        meter.sent_to(&target);
        meter.admit(call).await?;
        let begun = Instant::now();
        let outcome = match prepare(call, meter, target) {
            Ok(mut sent) => {
                meter.open(call.live.config.ledger.serve_unaccounted)?;
                one(&mut sent).await.map(|got| (sent, got))
            }
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let fault = Fault::of(&error);
        meter.failed_at(&error, begun);
        if !fault.may_go_elsewhere() {
            return Err(error);
        }
        // Of several errors the caller is told the one that is about its own call, if there is one.
        last = Some(match last {
            Some(earlier) if Fault::of(&earlier).is_telling() && !fault.is_telling() => earlier,
            _ => error,
        });
        tried.push(place);
    }
}

/// What is sent to this deployment, if it takes the call.
fn prepare(call: &Call, meter: &Meter, target: Target) -> Result<Sent> {
    if let Some(why) = &target.deployment.unserved {
        return Err(why.clone());
    }
    let outbound = exchange::outbound(&call.ask(), &target)?;
    let admission = admission::admit(call, &target)?;
    let limits = call.patience.within(target.deployment.timeouts);
    let betas = outbound.betas.into_iter().map(Cow::Borrowed).chain(call.betas.iter().cloned()).collect();
    let request = Request { endpoint: outbound.endpoint, body: outbound.body, betas, version: call.version.clone() };
    Ok(Sent { target, request, back: outbound.back, limits, tariff: meter.tariff(), admission })
}

pub fn late(target: &Target, limit: Duration) -> Error {
    let deployment = &target.deployment;
    Error::new(
        Kind::Timeout,
        format!(
            "'{}' did not answer within {limit:?} (timeout of the model '{}').",
            deployment.provider.name, deployment.name
        ),
    )
}

pub fn stopping() -> Error {
    Error::new(Kind::Stopping, "The gateway is being stopped or restarted; try again.")
}
