//! From a checked call to an answer: a deployment is chosen, asked, and where it fails another one, until the first
//! byte of an answer is there.
//!
//! It knows formats by [`exchange`] alone, and settles nothing: the [`Meter`] is told where the call goes and what
//! failed on the way, and is settled by whoever hands the answer out.

mod admission;
mod backoff;
mod course;
mod fault;
mod opening;
mod passage;
pub mod recent;
mod signatures;
pub mod trace;

use crate::call::Call;
use crate::clock::Ring;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::{self, Back};
use crate::meter::Meter;
use crate::mock::Rehearsal;
use crate::route::{Deployment, Plan, Target, Tariff, Timeouts};
use crate::upstream::{self, Request};
use crate::usage::Usage;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
pub use admission::{Admission, admit};
use bytes::Bytes;
use course::attempts;
pub use course::{nobody, note};
pub use fault::Fault;
pub use opening::{Open, open};
pub use passage::{Passage, pass};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A whole answer, in the caller's format.
pub struct Answer {
    pub body: Bytes,
    /// It is plain text, no JSON.
    pub is_text: bool,
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
    let (mut sent, (headers, whole)) = attempts(call, meter, async |sent: &mut Sent| {
        let deployment = &sent.target.deployment;
        let exchange = async {
            let request = std::mem::replace(&mut sent.request, Request::call(Default::default()));
            let mut response = call.worker.upstream.send(call.live.generation, &sent.target, request).await?;
            let headers = response.take_headers();
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
    sent.admission.succeeded(whole.usage.as_ref());
    Ok(Answer {
        body: whole.body,
        is_text: whole.is_text,
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

/// What is asked in a group: the caller's request, or the one that a fallback makes of it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    plan: &'a Plan,
    envelope: &'a Envelope,
    /// What the call wants to have made up.
    rehearsal: Option<&'a Rehearsal>,
}

/// What goes to this deployment.
///
/// # Errors
/// It cannot be called as it is configured, or does not take what is asked.
fn prepare(call: &Call, asked: &Asked<'_>, target: &Target) -> Result<(Request, Back)> {
    if let Some(why) = &target.deployment.unserved {
        return Err(why.clone());
    }
    let ask = exchange::Ask { envelope: asked.envelope, model: asked.plan.model(), ..call.ask() };
    let outbound = exchange::outbound(&ask, target)?;
    let betas = outbound.betas.into_iter().map(Cow::Borrowed).chain(call.betas.iter().cloned()).collect();
    let request = Request {
        endpoint: outbound.endpoint,
        body: outbound.body,
        files: call.files.clone(),
        betas,
        version: call.version.clone(),
        detour: outbound.detour,
    };
    Ok((request, outbound.back))
}

const TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-timeout");

pub fn late(target: &Target, limit: Duration) -> Error {
    let deployment = &target.deployment;
    // As LiteLLM writes seconds.
    let told = HeaderValue::from_str(&format!("{:?}", limit.as_secs_f64())).ok();
    Error::new(
        Kind::Timeout,
        format!(
            "'{}' did not answer within {limit:?} (timeout of the model '{}').",
            deployment.provider.name, deployment.name
        ),
    )
    .with_headers(told.into_iter().map(|limit| (TIMEOUT, limit)).collect())
}

pub fn stopping() -> Error {
    Error::new(Kind::Stopping, "The gateway is being stopped or restarted; try again.")
}
