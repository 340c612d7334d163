//! Answers that are passed on as they come: audio, and streams that nobody translates. As with every stream, a failure
//! before the first bytes is an ordinary error, and another deployment may be asked.

use super::admission::Admission;
use super::course::attempts;
use super::{Sent, late, stopping};
use crate::call::Call;
use crate::clock::Ring;
use crate::error::{Error, Kind, Result};
use crate::exchange;
use crate::meter::Meter;
use crate::route::Deployment;
use crate::upstream::{self, Request, broken_off};
use actix_web::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer whose first bytes are there.
pub struct Passage {
    pub response: upstream::Response,
    pub first: Bytes,
    /// Who answers.
    pub deployment: Arc<Deployment>,
    /// The longest silence from here on.
    pub silence: Duration,
    /// How long upstreams were waited for.
    pub waited: Duration,
    pub admission: Admission,
}

/// Asks for an answer and waits for its first bytes.
///
/// # Errors
/// Why no deployment began to answer.
pub async fn pass(call: &Call, meter: &mut Meter) -> Result<Passage> {
    let asked = Instant::now();
    let (mut sent, (response, first)) = attempts(call, meter, async |sent: &mut Sent| {
        let limit = sent.limits.silence;
        tokio::select! {
            biased;
            begun = begin(call, sent) => begun,
            ring = call.worker.clock.after(limit) => Err(match ring {
                Ring::Late => late(&sent.target, limit),
                Ring::Ending => stopping(),
            }),
        }
    })
    .await?;
    sent.admission.answered();
    Ok(Passage {
        response,
        first,
        deployment: sent.target.deployment,
        silence: sent.limits.silence,
        waited: asked.elapsed(),
        admission: sent.admission,
    })
}

async fn begin(call: &Call, sent: &mut Sent) -> Result<(upstream::Response, Bytes)> {
    let deployment = &sent.target.deployment;
    let request = std::mem::replace(&mut sent.request, Request::call(Default::default()));
    let mut response = call.worker.upstream.send(call.live.generation, &sent.target, request).await?;
    let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if kind.starts_with(b"application/json") || kind.starts_with(b"text/html") {
        let body = upstream::gather(response, call.live.config.server.answer_limit, deployment).await?;
        return Err(match exchange::whole(&sent.back, body, &deployment.origin) {
            Err(error) if error.kind != Kind::Garbled => error,
            _ => Error::new(
                Kind::Garbled,
                format!(
                    "'{}' answered with something else than was asked for; check api_base.",
                    deployment.provider.name
                ),
            ),
        });
    }
    loop {
        match response.next().await {
            Some(Ok(first)) if first.is_empty() => (),
            Some(Ok(first)) => return Ok((response, first)),
            Some(Err(e)) => return Err(broken_off(deployment, &e)),
            None => {
                let message = format!("The answer of '{}' is empty.", deployment.provider.name);
                return Err(Error::new(Kind::Garbled, message));
            }
        }
    }
}
