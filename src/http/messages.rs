//! `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's API, over any upstream.

use super::call::{self, Door, check_owner, missing, wrong_type};
use super::{body, reply, tools};
use crate::auth::{self, access};
use crate::dispatch;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::{self, Face};
use crate::meter;
use crate::provider::Language;
use crate::upstream::{self, Endpoint, Request};
use crate::wire::{json, messages};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use std::borrow::Cow;
use std::time::Instant;
use uuid::Uuid;

/// More than any client asks for at once.
const MAX_BETAS: usize = 64;

pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    let door = Door::json(Face::Messages, check_call);
    call::serve(request, payload, door, async |request, call| {
        call.betas = betas(request.headers())?.collect();
        call.version = version(request.headers())?;
        Ok(())
    })
    .await
}

/// # Errors
/// As [`check`], and without `max_tokens`.
fn check_call(envelope: &Envelope) -> Result<()> {
    check(envelope)?;
    match envelope.get("max_tokens") {
        Some(_) => Ok(()),
        None => Err(missing("max_tokens")),
    }
}

pub async fn count_tokens(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let id = meter::new_id();
    let answer = count(&request, payload, &id).await;
    reply::plain_as(&request, started, id, answer.unwrap_or_else(|error| reply::anthropic_error(&error, &id)))
}

/// Counted by the upstream where it counts, else estimated.
async fn count(request: &HttpRequest, payload: Payload, id: &Uuid) -> Result<HttpResponse> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    let envelope = Envelope::parse(bytes, live.config.server.max_nesting)?;
    check(&envelope)?;
    let model = envelope.string("model").filter(|m| !m.is_empty()).ok_or_else(|| missing("model"))?;
    let model = access::model(&live, &caller, &model)?;
    let target = live.routes.target(&model)?;
    let mut builder = HttpResponse::Ok();
    builder.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    reply::call_id(&mut builder, id);
    reply::anthropic_id(&mut builder, Face::Messages, id);
    // What only the gateway knows of, nobody else can count.
    if target.dialect().language != Language::Anthropic || tools::are_in_messages(&envelope, &live) {
        let estimate = messages::estimate_tokens(envelope.bytes())?;
        return Ok(builder.json(json!({"input_tokens": estimate})));
    }
    let sending = Request {
        endpoint: Endpoint::Count,
        body: exchange::counting(&envelope, &target),
        files: None,
        betas: betas(request.headers())?.collect(),
        version: version(request.headers())?,
        detour: None,
    };
    let deployment = &target.deployment;
    let exchange = async {
        let response = worker.upstream.send(live.generation, &target, sending).await?;
        upstream::gather(response, live.config.server.answer_limit, deployment).await
    };
    let timeouts = call::patience(&envelope, request.headers())?.within(deployment.timeouts);
    let counted = tokio::select! {
        biased;
        counted = exchange => counted,
        ring = worker.clock.after(timeouts.whole) => Err(match ring {
            crate::clock::Ring::Late => dispatch::late(&target, timeouts.whole),
            crate::clock::Ring::Ending => dispatch::stopping(),
        }),
    };
    match counted {
        Ok(body) => Ok(builder.body(body)),
        // Servers that speak Anthropic's format need not count.
        Err(error) if matches!(error.status().as_u16(), 404 | 405 | 501) => {
            Ok(builder.json(json!({"input_tokens": messages::estimate_tokens(envelope.bytes())?})))
        }
        Err(error) => Err(error),
    }
}

/// What a member must be, where it is there and not null.
fn type_of(name: &[u8]) -> Option<json::Kind> {
    Some(match name {
        b"model" => json::Kind::String,
        b"messages" | b"tools" | b"stop_sequences" => json::Kind::Array,
        b"stream" => json::Kind::Bool,
        b"metadata" | b"thinking" | b"tool_choice" => json::Kind::Object,
        b"max_tokens" | b"temperature" | b"top_p" | b"top_k" => json::Kind::Number,
        _ => return None,
    })
}

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
        check_owner(name)?;
    }
    let messages = envelope.get("messages").ok_or_else(|| missing("messages"))?;
    if messages.value.items == 0 {
        return Err(Error::invalid("messages: at least one message is required").at_param("messages"));
    }
    for name in ["messages", "tools"] {
        if let Some(other) = envelope.get(name).and_then(|m| m.value.first_other) {
            return Err(wrong_type(&format!("{name}.{other}"), "an object"));
        }
    }
    Ok(())
}

/// The betas that the caller asks for. They go to upstreams that know what a beta is.
fn betas(headers: &HeaderMap) -> Result<impl Iterator<Item = Cow<'static, str>>> {
    let mut betas = Vec::new();
    for value in headers.get_all("anthropic-beta") {
        let list = value.to_str().unwrap_or("\0");
        for beta in list.split(',').map(str::trim).filter(|beta| !beta.is_empty()) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if beta.len() > 128 || !beta.bytes().all(plain) || betas.len() == MAX_BETAS {
                return Err(Error::invalid("The header 'anthropic-beta' must be a list of names divided by commas.")
                    .at_param("anthropic-beta"));
            }
            betas.push(Cow::Owned(beta.to_owned()));
        }
    }
    Ok(betas.into_iter())
}

/// The version of the API that the caller speaks, where it is not the usual one.
fn version(headers: &HeaderMap) -> Result<Option<HeaderValue>> {
    let Some(version) = headers.get("anthropic-version") else { return Ok(None) };
    let date = version.as_bytes();
    if date.len() != 10 || !date.iter().all(|b| b.is_ascii_digit() || *b == b'-') {
        return Err(Error::invalid("The header 'anthropic-version' must be a date, such as 2023-06-01.")
            .at_param("anthropic-version"));
    }
    Ok((date != b"2023-06-01").then(|| version.clone()))
}
