//! Endpoints that are asked in one JSON object and answer in one: embeddings, reranking, moderations, images.

use super::call::{self, Door, Takes, check_owner, missing, wrong_type};
use super::models;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::{Face, Plain};
use crate::wire::json::{self, Kind};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

/// What OpenAI takes where no model is named.
const MODERATOR: &str = "omni-moderation-latest";

/// `POST /v1/embeddings`
pub async fn embeddings(request: HttpRequest, payload: Payload) -> HttpResponse {
    let wants_id = models::is_mistrals(&request);
    let answer = serve(request, payload, Plain::Embeddings, |envelope| check(envelope, &["input"])).await;
    if wants_id { with_id(answer) } else { answer }
}

/// The same answer with an id, the call's, where it has none.
fn with_id(answer: HttpResponse) -> HttpResponse {
    let id = answer.headers().get("x-litellm-call-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let Some(id) = id.filter(|_| answer.status().is_success()) else { return answer };
    answer.map_body(|_, body| match body.try_into_bytes() {
        Ok(bytes) => match bytes.strip_prefix(b"{").filter(|_| !has_id(&bytes)) {
            Some(rest) => BoxBody::new([format!("{{\"id\":\"embd-{id}\",").as_bytes(), rest].concat()),
            None => BoxBody::new(bytes),
        },
        Err(body) => body,
    })
}

fn has_id(body: &[u8]) -> bool {
    let mut found = false;
    let read = json::object(body, crate::meter::MAX_DEPTH, |member| found |= &body[member.key] == b"id");
    // What is no object, or an empty one, gets none.
    found || read.is_err() || !body.contains(&b':')
}

/// `POST /v1/rerank`
pub async fn rerank(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Rerank, |envelope| check(envelope, &["query", "documents"])).await
}

/// `POST /v1/moderations`
pub async fn moderations(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Moderations, |envelope| check(envelope, &["input"])).await
}

/// `POST /v1/images/generations`
pub async fn images(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Images, |envelope| {
        check_members(envelope)?;
        check_needed(envelope, &["prompt"])
    })
    .await
}

/// `POST /v1/images/edits`
pub async fn image_edits(request: HttpRequest, payload: Payload) -> HttpResponse {
    pictured(request, payload, Plain::ImageEdits, &["prompt"]).await
}

/// `POST /v1/images/variations`
pub async fn image_variations(request: HttpRequest, payload: Payload) -> HttpResponse {
    pictured(request, payload, Plain::ImageVariations, &[]).await
}

/// A request that brings pictures, in a form or named in JSON.
async fn pictured(
    request: HttpRequest,
    payload: Payload,
    plain: Plain,
    needed: &'static [&'static str],
) -> HttpResponse {
    let door = Door { face: Face::Plain(plain), check: check_owners, usual_model: None, takes: Takes::Either };
    call::serve(request, payload, door, async |_, call| {
        check_needed(&call.envelope, needed)?;
        let in_form = call.files.as_ref().is_some_and(|files| files.has("image"));
        // In JSON they stand under another name.
        let is_there =
            in_form || (call.files.is_none() && ["image", "images"].iter().any(|n| call.envelope.get(n).is_some()));
        if is_there { Ok(()) } else { Err(missing("image")) }
    })
    .await
}

fn check_owners(envelope: &Envelope) -> Result<()> {
    envelope.members().iter().try_for_each(|member| check_owner(envelope.name(member)))
}

async fn serve(
    request: HttpRequest,
    payload: Payload,
    plain: Plain,
    check: fn(&Envelope) -> Result<()>,
) -> HttpResponse {
    let usual_model = (plain == Plain::Moderations).then_some(MODERATOR);
    let door = Door { face: Face::Plain(plain), check, usual_model, takes: Takes::Json };
    call::serve(request, payload, door, call::nothing_more).await
}

/// # Errors
/// A 400 that names the member at fault.
fn check(envelope: &Envelope, needed: &[&str]) -> Result<()> {
    check_members(envelope)?;
    check_needed(envelope, needed)?;
    if envelope.flag("stream") {
        let why = "This endpoint does not stream; leave 'stream' out.";
        return Err(Error::invalid(why).at_param("stream"));
    }
    let format = envelope.string("encoding_format");
    if let Some(other) = format.as_deref().filter(|f| !matches!(*f, "float" | "base64")) {
        let shown = crate::envelope::shorten(other);
        let message = format!("'encoding_format' must be 'float' or 'base64', not '{shown}'.");
        return Err(Error::invalid(message).at_param("encoding_format"));
    }
    Ok(())
}

fn check_members(envelope: &Envelope) -> Result<()> {
    for member in envelope.members().iter().filter(|m| m.value.kind != Kind::Null) {
        let name = envelope.name(member);
        let kind = match name {
            b"model" | b"user" | b"encoding_format" | b"query" | b"prompt" => Kind::String,
            b"dimensions" | b"top_n" | b"n" => Kind::Number,
            b"documents" => Kind::Array,
            b"stream" | b"return_documents" => Kind::Bool,
            _ => member.value.kind,
        };
        if member.value.kind != kind {
            return Err(wrong_type(&String::from_utf8_lossy(name), kind.with_article()));
        }
        check_owner(name)?;
    }
    Ok(())
}

fn check_needed(envelope: &Envelope, needed: &[&str]) -> Result<()> {
    for name in needed {
        match envelope.get(name).map(|member| &member.value) {
            None => return Err(missing(name)),
            Some(value) if value.kind == Kind::Null => return Err(missing(name)),
            Some(value) if value.kind == Kind::Array && value.items == 0 => {
                return Err(Error::invalid(format!("'{name}' is empty; at least one is needed.")).at_param(*name));
            }
            Some(value) if matches!(value.kind, Kind::Number | Kind::Bool | Kind::Object) => {
                return Err(wrong_type(name, "a string or an array"));
            }
            Some(_) => (),
        }
    }
    Ok(())
}
