//! Batches of requests that a provider answers within a day, at half the price: `POST /v1/batches`, `GET /v1/batches`,
//! `GET /v1/batches/{id}`, `POST /v1/batches/{id}/cancel`.
//!
//! A batch belongs to the key that made it, as its files do, and those that it makes. What it used is booked when it is
//! first seen to be over, by whoever asks for it or by [`watch`].

mod bill;
pub mod watch;

use super::call::missing;
use super::files::shelf::{self, Item};
use super::files::{Account, Asker, booked, found, path, text, told};
use super::{body, entry, reply};
use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Result};
use crate::exchange::Face;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use serde_json::Value;
use std::time::Instant;

/// Members that speak to the gateway alone.
const OURS: &[&str] = &["model", "target_model_names", "custom_llm_provider", "litellm_metadata", "litellm_call_id"];
/// So many are asked for at the same time.
const AT_ONCE: usize = 8;

/// `POST /v1/batches`
pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    reply::plain(&request, started, Box::pin(created(&request, payload)).await)
}

async fn created(request: &HttpRequest, payload: Payload) -> Result<HttpResponse> {
    let asker = Asker::of(request).await?;
    let config = &asker.live.config;
    let bytes = body::read(request, payload, config.server.body_limit, &asker.worker.clock).await?;
    let envelope = Envelope::parse(bytes, config.server.max_nesting)?;
    let input = text(&envelope, "input_file_id")?.ok_or_else(|| missing("input_file_id"))?;
    text(&envelope, "endpoint")?.ok_or_else(|| missing("endpoint"))?;
    let file = asker.shelf(shelf::FILE).find(&input).await?;
    if file.purpose != "batch" {
        let message = "The file was not sent with the purpose 'batch', so that nobody has looked at its requests.";
        return Err(Error::invalid(message).at_param("input_file_id"));
    }
    // Where the file lies is where the batch is made.
    let account = Account::of_item(&asker.live, &file)?;
    let mut edits = Edits::default();
    for name in OURS {
        if let Some(place) = envelope.find(name) {
            edits.remove(place);
        }
    }
    let mut booking = asker.book(request, "/v1/batches", "acreate_batch", &account.deployment).await?;
    let answer = account.ask(&asker, Method::POST, "batches", json_headers(), edits.apply(&envelope).boxed()).await;
    let object = booked(&mut booking, answer)?;
    let id = object["id"].as_str().unwrap_or_default().to_owned();
    let item = Item {
        deployment: account.deployment.id.clone(),
        purpose: "batch".to_owned(),
        models: file.models,
        object,
        is_booked: false,
        said: Some(Box::new(entry::of(request, &envelope, Face::Chat))),
    };
    if let Err(error) = asker.shelf(shelf::BATCH).keep(&id, &item).await {
        // What nobody could find again must not cost anything.
        let path = path("batches", &id, "/cancel");
        let _ = account.ask(&asker, Method::POST, &path, json_headers(), BoxBody::new(())).await;
        return Err(error);
    }
    if let Err(error) = watch::begin(&asker.worker.gateway, &asker.caller.owner(), &id).await {
        tracing::warn!("a batch is booked only when somebody looks at it: {error}");
    }
    Ok(told(&asker, item.object))
}

/// `GET /v1/batches`
pub async fn list(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let asker = Asker::of(&request).await?;
        let page = asker.shelf(shelf::BATCH).page(&request, 100).await?;
        let asker = &asker;
        let seen = futures_util::stream::iter(page.items).map(async |(id, item): (String, Item)| {
            let last = item.object.clone();
            match is_over(&last) && item.is_booked {
                true => last,
                // What cannot be asked for now is told as it was.
                false => look(asker, &id, item).await.unwrap_or(last),
            }
        });
        let data: Vec<Value> = seen.buffered(AT_ONCE).collect().await;
        Ok(HttpResponse::Ok().json(shelf::listed(data, page.has_more)))
    };
    reply::plain(&request, started, Box::pin(answer).await)
}

/// `GET /v1/batches/{id}`
pub async fn get(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let (asker, id, item) = found(&request, shelf::BATCH).await?;
        let object = look(&asker, &id, item).await?;
        Ok(told(&asker, object))
    };
    reply::plain(&request, started, Box::pin(answer).await)
}

/// `POST /v1/batches/{id}/cancel`
pub async fn cancel(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let (asker, id, item) = found(&request, shelf::BATCH).await?;
        let account = Account::of_item(&asker.live, &item)?;
        let path = path("batches", &id, "/cancel");
        let object = account.ask(&asker, Method::POST, &path, json_headers(), BoxBody::new(())).await?;
        take(&asker, &account, &id, item, &object).await?;
        Ok(told(&asker, object))
    };
    reply::plain(&request, started, Box::pin(answer).await)
}

fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// The batch as it is now.
async fn look(asker: &Asker, id: &str, item: Item) -> Result<Value> {
    let account = Account::of_item(&asker.live, &item)?;
    let path = path("batches", id, "");
    let object = account.ask(asker, Method::GET, &path, HeaderMap::new(), BoxBody::new(())).await?;
    take(asker, &account, id, item, &object).await?;
    Ok(object)
}

/// Takes over what is new of a batch: the files that it made are its owner's, and what it used is booked once.
async fn take(asker: &Asker, account: &Account, id: &str, item: Item, object: &Value) -> Result<()> {
    let files = asker.shelf(shelf::FILE);
    for name in ["output_file_id", "error_file_id"] {
        let Some(file) = object[name].as_str().filter(|file| !file.is_empty() && file.len() <= shelf::LONGEST_ID)
        else {
            continue;
        };
        if item.object[name].as_str() == Some(file) {
            continue;
        }
        let made = serde_json::json!({"id": file, "object": "file", "purpose": "batch_output"});
        let deployment = account.deployment.id.clone();
        files
            .keep(file, &Item { deployment, purpose: "batch_output".to_owned(), object: made, ..Item::default() })
            .await?;
    }
    let mut used = None;
    if is_over(object) && !item.is_booked {
        match bill::used(asker, account, &item, object).await {
            Ok(found) => used = Some(found),
            Err(error) => tracing::debug!("what a batch used is not known yet: {error}"),
        }
    }
    let is_known = used.is_some();
    let update = |item: &mut Item| {
        item.object = object.clone();
        item.is_booked |= is_known;
    };
    // Of several who see its end, the one who writes it down books it.
    let is_first = asker.shelf(shelf::BATCH).update(id, update).await?;
    if let Some(used) = used.filter(|_| is_first) {
        bill::book(asker, account, &item, used).await;
        watch::end(&asker.worker.gateway, &asker.caller.owner(), id).await;
    }
    Ok(())
}

fn is_over(object: &Value) -> bool {
    matches!(object["status"].as_str(), Some("completed" | "failed" | "expired" | "cancelled"))
}
