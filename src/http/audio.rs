//! Audio in OpenAI's format: `POST /v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/audio/speech`.

use super::call::{self, Door, Takes, check_owner, missing, wrong_type};
use crate::call::Presumed;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::exchange::{Face, Plain};
use crate::limits::bound::characters;
use crate::usage::Usage;
use crate::wire::json::Kind;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

/// `POST /v1/audio/transcriptions`
pub async fn transcriptions(request: HttpRequest, payload: Payload) -> HttpResponse {
    hear(request, payload, Plain::Transcription).await
}

/// `POST /v1/audio/translations`
pub async fn translations(request: HttpRequest, payload: Payload) -> HttpResponse {
    hear(request, payload, Plain::Translation).await
}

async fn hear(request: HttpRequest, payload: Payload, plain: Plain) -> HttpResponse {
    let door = Door { face: Face::Plain(plain), check: check_heard, usual_model: None, takes: Takes::Form };
    call::serve(request, payload, door, async |_, call| {
        let files = call.files.as_ref().filter(|files| files.has("file")).ok_or_else(|| missing("file"))?;
        // By the second, where the answer does not say.
        let (millis_in, is_guess) = files.millis().await;
        call.presumed = Some(Presumed { usage: Usage { millis_in, ..Usage::default() }, is_guess });
        Ok(())
    })
    .await
}

fn check_heard(envelope: &Envelope) -> Result<()> {
    for member in envelope.members() {
        let name = envelope.name(member);
        let is_list = name.ends_with(b"[]") || matches!(name, b"include" | b"timestamp_granularities");
        if member.value.kind == Kind::Array && !is_list && name != b"tags" {
            let name = String::from_utf8_lossy(name);
            return Err(wrong_type(&name, "one text, not several"));
        }
        check_owner(name)?;
    }
    Ok(())
}

/// `POST /v1/audio/speech`
pub async fn speech(request: HttpRequest, payload: Payload) -> HttpResponse {
    let door = Door::json(Face::Plain(Plain::Speech), check_spoken);
    call::serve(request, payload, door, async |_, call| {
        let usage = Usage { characters_in: characters(&call.envelope), ..Usage::default() };
        call.presumed = Some(Presumed { usage, is_guess: false });
        Ok(())
    })
    .await
}

fn check_spoken(envelope: &Envelope) -> Result<()> {
    for member in envelope.members().iter().filter(|m| m.value.kind != Kind::Null) {
        let name = envelope.name(member);
        let kind = match name {
            b"model" | b"input" | b"instructions" | b"response_format" | b"stream_format" => Kind::String,
            b"speed" => Kind::Number,
            _ => member.value.kind,
        };
        if member.value.kind != kind {
            return Err(wrong_type(&String::from_utf8_lossy(name), kind.with_article()));
        }
        check_owner(name)?;
    }
    match envelope.string("input") {
        Some(text) if !text.is_empty() => Ok(()),
        _ => Err(missing("input")),
    }
}
