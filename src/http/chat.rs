//! `POST /v1/chat/completions` and its aliases: the way of a call from its key to its answer.

use super::{body, reply, stream};
use crate::clock::Ring;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result, from_upstream};
use crate::gateway::{Live, Worker};
use crate::meter::{self, Meter};
use crate::provider::{Prepared, prepare};
use crate::route::{Target, Timeouts};
use crate::upstream;
use crate::wire::json;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call that is checked and routed, and not sent yet.
pub struct Call {
    pub worker: Rc<Worker>,
    pub live: Arc<Live>,
    pub target: Target,
    pub prepared: Prepared,
    pub timeouts: Timeouts,
    /// The public name that was asked for.
    pub group: HeaderValue,
}

pub async fn completions(request: HttpRequest, payload: Payload) -> HttpResponse {
    let mut meter = Meter::new(meter::new_id(), Instant::now());
    let id = meter.id;
    let answer = match begin(&request, payload, &mut meter).await {
        Ok((call, true)) => stream::answer(call, meter).await,
        Ok((call, false)) => whole(call, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    };
    reply::fit(&request, answer.unwrap_or_else(|error| reply::error(&error, &id)))
}

/// From the request to a call; true where its answer is to be streamed.
async fn begin(request: &HttpRequest, payload: Payload, meter: &mut Meter) -> Result<(Call, bool)> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    meter.called_by(live.auth.caller(request.headers())?);
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    let size = bytes.len();
    let envelope = Envelope::parse(bytes, live.config.server.max_nesting)?;
    check(&envelope)?;
    let streams = envelope.flag("stream");
    let in_path = reply::path_part(request, "model");
    let in_body = envelope.string("model");
    // In Azure's form the path names the model.
    let model = in_path.as_deref().or(in_body.as_deref()).filter(|m| !m.is_empty()).ok_or_else(|| missing("model"))?;
    meter.asked(model, streams, size);
    let target = live.routes.target(model)?;
    meter.sent_to(&target.deployment);
    let prepared = prepare(&envelope, &target.deployment.shape, target.model(), streams)?;
    let timeouts = timeouts(&envelope, request.headers(), target.deployment.timeouts)?;
    let group = if model == target.deployment.name {
        target.deployment.labels.group.clone()
    } else {
        HeaderValue::from_str(model).unwrap_or_else(|_| target.deployment.labels.group.clone())
    };
    Ok((Call { worker, live, target, prepared, timeouts, group }, streams))
}

/// An answer in one piece.
async fn whole(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let deployment = &call.target.deployment;
    let asked = Instant::now();
    let exchange = async {
        let response =
            call.worker.upstream.send(call.live.generation, &call.target, call.prepared.body.clone()).await?;
        let headers = response.headers().clone();
        let body = upstream::gather(response, call.live.config.server.answer_limit, deployment).await?;
        Ok((headers, body))
    };
    let result = tokio::select! {
        biased;
        result = exchange => result,
        ring = call.worker.clock.after(call.timeouts.whole) => Err(match ring {
            Ring::Late => late(&call),
            Ring::Ending => stopping(),
        }),
    };
    let checked = result.and_then(|(headers, body)| {
        let seen = meter::whole(&body).map_err(|_| {
            Error::new(
                Kind::Garbled,
                format!(
                    "The answer of '{}' is not a JSON object; check that its api_base leads to an API.",
                    deployment.provider.name
                ),
            )
        })?;
        if seen.is_error {
            return Err(from_upstream(&deployment.origin, StatusCode::OK, &body));
        }
        Ok((headers, body, seen.usage))
    });
    match checked {
        Ok((headers, body, usage)) => {
            let waited = asked.elapsed();
            meter.answered();
            meter.used(usage);
            meter.saw(meter::estimate(body.len()));
            meter.succeed();
            let mut builder = HttpResponse::Ok();
            builder.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
            reply::call_headers(
                &mut builder,
                &meter.id,
                deployment,
                call.group.clone(),
                meter.started.elapsed(),
                waited,
            );
            reply::upstream_headers(&mut builder, &headers);
            Ok(builder.body(body))
        }
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    }
}

pub fn late(call: &Call) -> Error {
    let deployment = &call.target.deployment;
    Error::new(
        Kind::Timeout,
        format!(
            "'{}' did not answer within {:?} (timeout of the model '{}').",
            deployment.provider.name, call.timeouts.whole, deployment.name
        ),
    )
}

pub fn stopping() -> Error {
    Error::new(Kind::Stopping, "The gateway is being stopped or restarted; try again.")
}

/// The deployment's time limits, or the shorter ones that the caller asks for.
fn timeouts(envelope: &Envelope, headers: &HeaderMap, limits: Timeouts) -> Result<Timeouts> {
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

/// What a member must be, where it is there and not null.
fn type_of(name: &[u8]) -> Option<json::Kind> {
    Some(match name {
        b"model" | b"user" => json::Kind::String,
        b"messages" | b"tools" | b"functions" => json::Kind::Array,
        b"stream" | b"parallel_tool_calls" | b"drop_params" => json::Kind::Bool,
        b"stream_options" | b"logit_bias" | b"response_format" => json::Kind::Object,
        b"temperature"
        | b"top_p"
        | b"n"
        | b"max_tokens"
        | b"max_completion_tokens"
        | b"presence_penalty"
        | b"frequency_penalty"
        | b"seed"
        | b"top_logprobs" => json::Kind::Number,
        _ => return None,
    })
}

/// Where a request would be dialled, and with which key, is the operator's to say.
const NOT_FROM_CALLERS: &[&str] = &["api_base", "base_url", "api_key", "api_version", "custom_llm_provider"];

/// # Errors
/// A 400 that names the member at fault.
fn check(envelope: &Envelope) -> Result<()> {
    for member in envelope.members().iter().filter(|m| m.value.kind != json::Kind::Null) {
        let name = envelope.name(member);
        if let Some(kind) = type_of(name)
            && member.value.kind != kind
        {
            return Err(wrong_type(&String::from_utf8_lossy(name), kind.with_article()));
        }
        if let Some(name) = NOT_FROM_CALLERS.iter().find(|n| n.as_bytes() == name) {
            return Err(Error::invalid(format!(
                "'{name}' cannot be set by a request; it belongs to the gateway's configuration."
            ))
            .at_param(*name));
        }
    }
    let messages = envelope.get("messages").ok_or_else(|| missing("messages"))?;
    if messages.value.items == 0 {
        return Err(Error::invalid("'messages' is empty; at least one message is needed.").at_param("messages"));
    }
    for name in ["messages", "tools"] {
        if let Some(other) = envelope.get(name).and_then(|m| m.value.first_other) {
            return Err(wrong_type(&format!("{name}[{other}]"), "an object"));
        }
    }
    if let Some(tools) = envelope.get("tools") {
        check_tools(envelope.text(&tools.value))?;
    }
    Ok(())
}

/// Tools that the gateway would have to run itself must not reach an upstream.
fn check_tools(tools: &[u8]) -> Result<()> {
    if memchr::memmem::find(tools, b"\"mcp\"").is_none() {
        return Ok(());
    }
    let (mut place, mut found) = (0, None);
    // The text was checked as a part of the body.
    let _ = json::array(tools, usize::MAX, |tool| {
        let text = &tools[tool.span];
        let _ = json::object(text, usize::MAX, |m| {
            if &text[m.key] == b"type" && &text[m.value.span] == b"\"mcp\"" {
                found.get_or_insert(place);
            }
        });
        place += 1;
    });
    match found {
        Some(place) => Err(Error::invalid("Tools of the type 'mcp' are not served yet; take this one out.")
            .at_param(format!("tools[{place}].type"))),
        None => Ok(()),
    }
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("Missing required parameter: '{name}'.")).at_param(name)
}

fn wrong_type(name: &str, expected: &str) -> Error {
    Error::invalid(format!("Invalid type for '{name}': expected {expected}.")).at_param(name)
}
