//! A call on its way from the request to the answer, whatever format it has.

use super::reply;
use crate::clock::Ring;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::{self, Back, Face, Whole};
use crate::gateway::{Live, Worker};
use crate::meter::{self, Meter};
use crate::route::{Target, Timeouts};
use crate::upstream::{self, Request};
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call that is checked and routed, and not sent yet.
pub struct Call {
    pub face: Face,
    pub worker: Rc<Worker>,
    pub live: Arc<Live>,
    pub target: Target,
    pub request: Request,
    pub back: Back,
    pub timeouts: Timeouts,
    /// The public name that was asked for.
    pub group: HeaderValue,
}

/// An answer in one piece.
pub async fn whole(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let Call { face, worker, live, target, request, back, timeouts, group } = call;
    let deployment = &target.deployment;
    let asked = Instant::now();
    let exchange = async {
        let response = worker.upstream.send(live.generation, &target, request).await?;
        let headers = response.headers().clone();
        let body = upstream::gather(response, live.config.server.answer_limit, deployment).await?;
        Ok((headers, body))
    };
    let result = tokio::select! {
        biased;
        result = exchange => result,
        ring = worker.clock.after(timeouts.whole) => Err(match ring {
            Ring::Late => late(&target, timeouts.whole),
            Ring::Ending => stopping(),
        }),
    };
    let told = result.and_then(|(headers, body)| Ok((headers, exchange::whole(&back, body, &deployment.origin)?)));
    match told {
        Ok((headers, Whole { body, usage, id })) => {
            let waited = asked.elapsed();
            meter.answered();
            meter.answered_as(id.as_deref());
            meter.used(usage);
            meter.saw(meter::estimate(body.len()));
            meter.succeed();
            let mut builder = HttpResponse::Ok();
            builder.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
            reply::call_headers(&mut builder, &meter.id, deployment, group, meter.started.elapsed(), waited);
            reply::cost(&mut builder, meter.cost());
            reply::anthropic_id(&mut builder, face, &meter.id);
            reply::upstream_headers(&mut builder, &headers);
            Ok(builder.body(body))
        }
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    }
}

/// The name that was asked for, as a header value.
pub fn group(model: &str, target: &Target) -> HeaderValue {
    let own = &target.deployment.labels.group;
    if model == target.deployment.name {
        return own.clone();
    }
    HeaderValue::from_str(model).unwrap_or_else(|_| own.clone())
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

/// The deployment's time limits, or the shorter ones that the caller asks for.
pub fn timeouts(envelope: &Envelope, headers: &HeaderMap, limits: Timeouts) -> Result<Timeouts> {
    let header = |name: &str| {
        headers.get(name).map(|v| v.to_str().ok().and_then(|v| v.trim().parse::<f64>().ok()).ok_or(name.to_owned()))
    };
    let read = |name: &str, header_name: &str| -> Result<Option<Duration>> {
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
    let whole = read("timeout", "x-litellm-timeout")?;
    let silence = read("stream_timeout", "x-litellm-stream-timeout")?;
    Ok(Timeouts {
        whole: whole.map_or(limits.whole, |t| t.min(limits.whole)),
        silence: silence.or(whole).map_or(limits.silence, |t| t.min(limits.silence)),
    })
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
