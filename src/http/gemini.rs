//! Google's format for callers: `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens`,
//! `:embedContent` and `:batchEmbedContents` (also under `/v1`), over any upstream, and `GET /v1beta/models`. A call is
//! told in OpenAI's format as it comes in; its answer is told back.

use super::call::{self, Door, Takes};
use super::{body, models, reply};
use crate::auth::{self, access};
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::gateway::Live;
use crate::meter;
use crate::wire::gemini::{self, Embeds};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::{Value, json};
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
        Some("embedContent") => embedded(request, payload, Embeds::One).await,
        Some("batchEmbedContents") => embedded(request, payload, Embeds::Many).await,
        Some("countTokens") => {
            let (started, id) = (Instant::now(), meter::new_id());
            let answer = count(&request, payload).await;
            reply::plain_as(&request, started, id, answer.unwrap_or_else(|error| reply::gemini_error(&error, &id)))
        }
        _ => {
            let id = meter::new_id();
            let why = "A model is asked for generateContent, streamGenerateContent, countTokens, embedContent or batchEmbedContents.";
            let error = Error::new(Kind::NotFound, why);
            reply::plain_as(&request, Instant::now(), id, reply::gemini_error(&error, &id))
        }
    }
}

async fn embedded(request: HttpRequest, payload: Payload, embeds: Embeds) -> HttpResponse {
    let door = Door { face: Face::GeminiVectors(embeds), check: |_| Ok(()), usual_model: None, takes: Takes::Json };
    call::serve(request, payload, door, call::nothing_more).await
}

/// The request as one of OpenAI's embeddings.
///
/// # Errors
/// A 400 that names what cannot be told so.
pub fn embeds(request: &HttpRequest, body: &[u8], embeds: Embeds) -> Result<Bytes> {
    let (model, _) = asked(request).unwrap_or_default();
    gemini::to_embeddings(body, &model, embeds).map(Bytes::from)
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

/// Google lists so many at once where nothing is said, and at most a thousand.
const PAGE: usize = 50;
const LONGEST_PAGE: usize = 1000;

/// `GET /v1beta/models`
pub async fn list(request: HttpRequest) -> HttpResponse {
    let (started, id) = (Instant::now(), meter::new_id());
    let answer = async {
        let (live, caller) = models::admitted(&request).await?;
        let size = match models::query(&request, "pageSize").map(|size| size.parse::<usize>()) {
            None | Some(Ok(0)) => PAGE,
            Some(Ok(size)) => size.min(LONGEST_PAGE),
            Some(Err(_)) => return Err(Error::invalid("'pageSize' must be a number.").at_param("pageSize")),
        };
        let from = match models::query(&request, "pageToken").filter(|token| !token.is_empty()) {
            None => 0,
            Some(token) => token
                .parse::<usize>()
                .map_err(|_| Error::invalid("'pageToken' is none that was given out.").at_param("pageToken"))?,
        };
        let catalogs = models::catalogs(&request, &live).await;
        let mut names = live.routes.expanded_names(&live.config.prices, false, &catalogs);
        names.retain(|name| access::may_use(&live, &caller, name));
        let page: Vec<Value> = names.iter().skip(from).take(size).map(|name| shown(&live, name)).collect();
        let mut told = json!({"models": page});
        let next = from.saturating_add(size);
        if next < names.len() {
            told["nextPageToken"] = next.to_string().into();
        }
        Ok(HttpResponse::Ok().json(told))
    };
    let answer = answer.await.unwrap_or_else(|error| reply::gemini_error(&error, &id));
    reply::plain_as(&request, started, id, answer)
}

/// `GET /v1beta/models/{model}`
pub async fn one(request: HttpRequest) -> HttpResponse {
    let (started, id) = (Instant::now(), meter::new_id());
    let answer = async {
        let (live, caller) = models::admitted(&request).await?;
        let name = reply::path_part(&request, "call").or_else(|| reply::path_part(&request, "id")).unwrap_or_default();
        match live.routes.serves(&name) && access::may_use(&live, &caller, &name) {
            true => Ok(HttpResponse::Ok().json(shown(&live, &name))),
            false => Err(models::unknown(&live, &caller, &name)),
        }
    };
    let answer = answer.await.unwrap_or_else(|error| reply::gemini_error(&error, &id));
    reply::plain_as(&request, started, id, answer)
}

/// A model as Google has it.
fn shown(live: &Live, name: &str) -> Value {
    let facts = models::known(live, name);
    let fact = |name: &str| facts.get(name).and_then(Value::as_u64);
    let methods: &[&str] = match facts.get("mode").and_then(Value::as_str) {
        Some("embedding") => &["embedContent", "batchEmbedContents", "countTokens"],
        _ => &["generateContent", "streamGenerateContent", "countTokens"],
    };
    let mut shown = json!({"name": format!("models/{name}"), "version": "1", "displayName": name,
        "supportedGenerationMethods": methods});
    for (to, count) in [("inputTokenLimit", fact("max_input_tokens")), ("outputTokenLimit", fact("max_output_tokens"))]
    {
        if let Some(count) = count {
            shown[to] = count.into();
        }
    }
    shown
}
