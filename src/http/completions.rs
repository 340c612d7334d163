//! `POST /v1/completions` and its aliases: texts that a model goes on with.

use super::call::{self, Door, check_owner, missing, wrong_type};
use crate::envelope::Envelope;
use crate::error::Result;
use crate::exchange::Face;
use crate::wire::json;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    call::serve(request, payload, Door::json(Face::Completions, check), call::nothing_more).await
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
