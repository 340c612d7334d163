//! `POST /v1/chat/completions` and its aliases.

use super::call::{self, Door, check_owner, missing, wrong_type};
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::wire::json;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

pub async fn completions(request: HttpRequest, payload: Payload) -> HttpResponse {
    call::serve(request, payload, Door::json(Face::Chat, check), call::nothing_more).await
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
