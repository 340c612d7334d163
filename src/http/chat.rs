//! `POST /v1/chat/completions` and its aliases.

use super::call::{self, check_owner, missing, wrong_type};
use super::{body, entry, reply, tools, wishes};
use crate::auth::{self, access};
use crate::call::Call;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::meter::{self, Meter};
use crate::wire::json;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use std::time::Instant;

pub async fn completions(request: HttpRequest, payload: Payload) -> HttpResponse {
    let mut meter = Meter::new(meter::new_id(), Instant::now());
    let id = meter.id;
    let answer = match begin(&request, payload, &mut meter).await {
        Ok(call) if tools::are_in(&call.envelope) => tools::answer(&request, call, meter).await,
        Ok(call) => call::answer(call, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    };
    reply::fit(&request, answer.unwrap_or_else(|error| reply::error(&error, &id)))
}

/// From the request to a call.
async fn begin(request: &HttpRequest, payload: Payload, meter: &mut Meter) -> Result<Call> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    meter.called_by(caller.clone());
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    let size = bytes.len();
    let max_nesting = live.config.server.max_nesting;
    let envelope = Envelope::parse(bytes, max_nesting)?;
    check(&envelope)?;
    let streams = envelope.flag("stream");
    let in_path = reply::path_part(request, "model");
    let in_body = envelope.string("model");
    // In Azure's form the path names the model.
    let model = in_path.as_deref().or(in_body.as_deref()).filter(|m| !m.is_empty()).ok_or_else(|| missing("model"))?;
    meter.asked(model, streams, size);
    let model = &*access::model(&live, &caller, model)?;
    let plan = live.routes.plan(model)?;
    let patience = call::patience(&envelope, request.headers())?;
    let wishes = wishes::of(&live, &caller, &envelope, request.headers(), meter)?;
    if live.config.ledger.enabled {
        meter.book(worker.pen.clone(), entry::of(request, &envelope, Face::Chat));
    }
    drop(in_body);
    Ok(Call {
        id: meter.id,
        face: Face::Chat,
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
        return Err(Error::invalid("'messages' is empty; at least one message is needed.").at_param("messages"));
    }
    for name in ["messages", "tools"] {
        if let Some(other) = envelope.get(name).and_then(|m| m.value.first_other) {
            return Err(wrong_type(&format!("{name}[{other}]"), "an object"));
        }
    }
    Ok(())
}
