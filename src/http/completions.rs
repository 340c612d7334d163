//! `POST /v1/completions` and its aliases: texts that a model goes on with.

use super::call::{self, check_owner, missing, wrong_type};
use super::{body, entry, reply, wishes};
use crate::auth::{self, access};
use crate::call::Call;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::exchange::Face;
use crate::meter::{self, Meter};
use crate::wire::json;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use std::time::Instant;

pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    let mut meter = Meter::new(meter::new_id(), Instant::now());
    let id = meter.id;
    let answer = match begin(&request, payload, &mut meter).await {
        Ok(call) => call::answer(call, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    };
    reply::fit(&request, answer.unwrap_or_else(|error| reply::error(&error, &id)))
}

async fn begin(request: &HttpRequest, payload: Payload, meter: &mut Meter) -> Result<Call> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    meter.called_by(caller.clone());
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    let size = bytes.len();
    let envelope = Envelope::parse(bytes, live.config.server.max_nesting)?;
    check(&envelope)?;
    let streams = envelope.flag("stream");
    let in_path = reply::path_part(request, "model");
    let in_body = envelope.string("model");
    let model = in_path.as_deref().or(in_body.as_deref()).filter(|m| !m.is_empty()).ok_or_else(|| missing("model"))?;
    meter.asked(model, streams, size);
    let model = &*access::model(&live, &caller, model)?;
    let plan = live.routes.plan(model)?;
    let patience = call::patience(&envelope, request.headers())?;
    let wishes = wishes::of(&live, &caller, &envelope, request.headers(), meter)?;
    if live.config.ledger.enabled {
        meter.book(worker.pen.clone(), entry::of(request, &envelope, Face::Completions));
    }
    drop(in_body);
    Ok(Call {
        id: meter.id,
        face: Face::Completions,
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
    })
}

/// # Errors
/// A 400 that names the member at fault.
fn check(envelope: &Envelope) -> Result<()> {
    for member in envelope.members().iter().filter(|m| m.value.kind != json::Kind::Null) {
        let name = envelope.name(member);
        let kind = match name {
            b"model" | b"suffix" | b"user" => json::Kind::String,
            b"stream" | b"echo" => json::Kind::Bool,
            b"stream_options" | b"logit_bias" => json::Kind::Object,
            b"temperature" | b"top_p" | b"n" | b"max_tokens" | b"best_of" | b"seed" => json::Kind::Number,
            _ => member.value.kind,
        };
        if member.value.kind != kind {
            return Err(wrong_type(&String::from_utf8_lossy(name), kind.with_article()));
        }
        check_owner(name)?;
    }
    match envelope.get("prompt").map(|member| member.value.kind) {
        Some(json::Kind::String | json::Kind::Array) => Ok(()),
        None | Some(json::Kind::Null) => Err(missing("prompt")),
        Some(_) => Err(wrong_type("prompt", "a string or an array")),
    }
}
