//! Google's format for callers: `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent` and
//! `:countTokens` (also under `/v1`), over any upstream. A call is told in chat as it comes in; its answer is told back.

use super::call::{self, Door, Takes};
use super::{body, reply};
use crate::auth::{self, access};
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::meter;
use crate::wire::gemini;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::json;
use std::time::Instant;

/// What the path asks for: the model, and what is to be done.
fn asked(request: &HttpRequest) -> Option<(String, String)> {
    let call = reply::path_part(request, "call").or_else(|| reply::path_part(request, "id"))?;
    let (model, what) = call.rsplit_once(':')?;
    Some((model.strip_prefix("models/").unwrap_or(model).to_owned(), what.to_owned()))
}

pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    match asked(&request).as_ref().map(|(_, what)| what.as_str()) {
        Some("generateContent" | "streamGenerateContent") => {
            let door = Door { face: Face::Gemini, check: |_| Ok(()), usual_model: None, takes: Takes::Json };
            call::serve(request, payload, door, call::nothing_more).await
        }
        Some("countTokens") => {
            let (started, id) = (Instant::now(), meter::new_id());
            let answer = count(&request, payload).await;
            reply::plain_as(&request, started, id, answer.unwrap_or_else(|error| reply::gemini_error(&error, &id)))
        }
        _ => {
            let id = meter::new_id();
            let why = "A model is asked for generateContent, streamGenerateContent or countTokens.";
            let error = Error::new(Kind::NotFound, why);
            reply::plain_as(&request, Instant::now(), id, reply::gemini_error(&error, &id))
        }
    }
}

/// The request as one of chat.
///
/// # Errors
/// A 400 that names what cannot be told in chat.
pub fn told(request: &HttpRequest, body: &[u8]) -> Result<Bytes> {
    let (model, what) = asked(request).unwrap_or_default();
    let streams = what == "streamGenerateContent";
    if streams && !request.query_string().split('&').any(|pair| pair == "alt=sse") {
        return Err(Error::invalid("Streams are served as events: ask with '?alt=sse'.").at_param("alt"));
    }
    gemini::to_chat(body, &model, streams).map(Bytes::from)
}

/// Estimated, as for every upstream that is not asked.
async fn count(request: &HttpRequest, payload: Payload) -> Result<HttpResponse> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    // Both forms that Google takes.
    let whole = Envelope::parse(bytes, live.config.server.max_nesting)?;
    let inner = whole.get("generateContentRequest").map(|member| whole.text(&member.value).to_vec());
    let chat = told(request, &inner.unwrap_or_else(|| whole.bytes().to_vec()))?;
    let (model, _) = asked(request).unwrap_or_default();
    let model = access::model(&live, &caller, &model)?;
    live.routes.plan(&model)?;
    Ok(HttpResponse::Ok().json(json!({"totalTokens": meter::estimate(chat.len())})))
}
