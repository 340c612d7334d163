//! Files of a provider: `POST /v1/files`, `GET /v1/files`, `GET` and `DELETE /v1/files/{id}`, `GET .../content`.
//!
//! A file lies with the provider, and belongs to the key that sent it: to all others it is not there. Where it goes is
//! said by a model or a provider of the configuration, never by an address.

mod account;
mod lines;
pub mod shelf;

use super::call::{missing, wrong_type};
use super::pass::{self, Booking, Onward, Terms};
use super::{form, reply};
use crate::auth::{self, Caller};
use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Kind, Result};
use crate::form::Outgoing;
use crate::gateway::{Live, Worker};
use crate::meter;
use crate::route::{Deployment, Tariff};
use crate::store;
pub use account::{Account, SEGMENT, Wanted};
use actix_web::body::BoxBody;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::http::{Method, header::HeaderMap};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use shelf::{Item, Shelf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// Members of the form that speak to the gateway alone.
const OURS: &[&str] =
    &["model", "target_model_names", "target_storage", "custom_llm_provider", "litellm_metadata", "litellm_call_id"];

/// Who asks, and what answers him.
pub struct Asker {
    pub worker: Rc<Worker>,
    pub live: Arc<Live>,
    pub caller: Caller,
    pub id: Uuid,
}

impl Asker {
    /// # Errors
    /// The caller may not ask.
    pub async fn of(request: &HttpRequest) -> Result<Self> {
        let worker = reply::worker(request)?.clone();
        let live = worker.gateway.live();
        let caller = auth::caller(&worker.gateway, &live, request).await?;
        Ok(Asker { worker, live, caller, id: meter::new_id() })
    }

    pub fn shelf(&self, kind: &'static str) -> Shelf<'_> {
        Shelf { gateway: &self.worker.gateway, owner: self.caller.owner(), kind }
    }

    /// Opens the row of a call that costs nothing by itself.
    ///
    /// # Errors
    /// A limit does not admit it.
    pub async fn book(
        &self,
        request: &HttpRequest,
        endpoint: &str,
        call_type: &'static str,
        deployment: &Deployment,
    ) -> Result<Booking> {
        let terms = Terms {
            endpoint,
            call_type,
            provider: deployment.provider.name,
            api_base: &deployment.api_base,
            model: &deployment.name,
            upstream_model: None,
            deployment: Some(deployment),
            cost_nanos: 0,
            tariff: Tariff::default(),
            body: None,
            streams: false,
            spends: call_type == "acreate_batch",
            is_owed: false,
            routed: None,
        };
        Booking::open(request, &self.worker, &self.live, &self.caller, terms, self.id).await
    }
}

/// `POST /v1/files`
pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    reply::plain(&request, started, Box::pin(created(&request, payload)).await)
}

async fn created(request: &HttpRequest, payload: Payload) -> Result<HttpResponse> {
    let asker = Asker::of(request).await?;
    let (live, config) = (&asker.live, &asker.live.config);
    let (texts, files) =
        form::read(request, payload, config.server.body_limit, &asker.worker, &config.state_dir).await?;
    let envelope = Envelope::parse(texts, config.server.max_nesting)?;
    let purpose = envelope.string("purpose").filter(|purpose| !purpose.is_empty());
    let purpose = purpose.ok_or_else(|| missing("purpose"))?.into_owned();
    if !files.has("file") {
        return Err(missing("file"));
    }
    let account = Account::choose(&asker, &Wanted::of(request, Some(&envelope))?)?;
    let (files, models) = match purpose.as_str() {
        "batch" => {
            let mut lines = lines::Lines::new(live, &asker.caller, &account.deployment);
            let files = files.with_lines("file", &config.state_dir, |number, line| lines.check(number, line)).await?;
            (files, lines.models())
        }
        _ => (files, Vec::new()),
    };
    let mut edits = Edits::default();
    for name in OURS {
        if let Some(place) = envelope.find(name) {
            edits.remove(place);
        }
    }
    let form = Outgoing::new(&edits.apply(&envelope), &files);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, form.content_type());
    let mut booking = asker.book(request, "/v1/files", "acreate_file", &account.deployment).await?;
    let answer = account.ask(&asker, Method::POST, "files", headers, BoxBody::new(form)).await;
    let object = booked(&mut booking, answer)?;
    let id = object["id"].as_str().unwrap_or_default().to_owned();
    let item = Item { deployment: account.deployment.id.clone(), purpose, models, object, ..Item::default() };
    if let Err(error) = asker.shelf(shelf::FILE).keep(&id, &item).await {
        // What nobody could find again is not left behind.
        let _ = account.ask(&asker, Method::DELETE, &path("files", &id, ""), HeaderMap::new(), BoxBody::new(())).await;
        return Err(error);
    }
    Ok(told(&asker, item.object))
}

/// The answer of an upstream, whose call is over with it.
///
/// # Errors
/// The call failed; or the answer is no object with an id.
pub fn booked(booking: &mut Booking, answer: Result<Value>) -> Result<Value> {
    let answer = answer.and_then(|object| match object["id"].as_str() {
        Some(id) if !id.is_empty() && id.len() <= shelf::LONGEST_ID => Ok(object),
        _ => Err(Error::new(Kind::Garbled, "The provider's answer names no id.")),
    });
    match &answer {
        Ok(object) => {
            booking.answered_as(object["id"].as_str().map(str::to_owned));
            booking.settle("success", 200, None);
        }
        Err(error) => booking.settle("failure", error.status().as_u16(), Some(&error.to_string())),
    }
    answer
}

/// `GET /v1/files`
pub async fn list(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let asker = Asker::of(&request).await?;
        let purpose = shelf::query(&request, "purpose");
        let page = asker.shelf(shelf::FILE).page(&request, 10_000).await?;
        let wanted = |item: &Item| purpose.as_deref().is_none_or(|purpose| item.purpose == purpose);
        let data: Vec<Value> = page.items.into_iter().filter(|(_, i)| wanted(i)).map(|(_, i)| i.object).collect();
        Ok(HttpResponse::Ok().json(shelf::listed(data, page.has_more)))
    };
    reply::plain(&request, started, answer.await)
}

/// `GET /v1/files/{id}`
pub async fn get(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let (asker, id, item) = found(&request, shelf::FILE).await?;
        let account = Account::of_item(&asker.live, &item)?;
        let path = path("files", &id, "");
        let object = account.ask(&asker, Method::GET, &path, HeaderMap::new(), BoxBody::new(())).await?;
        Ok(told(&asker, object))
    };
    reply::plain(&request, started, answer.await)
}

/// `DELETE /v1/files/{id}`
pub async fn delete(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let (asker, id, item) = found(&request, shelf::FILE).await?;
        let account = Account::of_item(&asker.live, &item)?;
        let path = path("files", &id, "");
        let asked = account.ask(&asker, Method::DELETE, &path, HeaderMap::new(), BoxBody::new(())).await;
        let object = match asked {
            // Gone is gone.
            Err(error) if error.status() == 404 => json!({"id": id, "object": "file", "deleted": true}),
            other => other?,
        };
        asker.shelf(shelf::FILE).forget(&id).await?;
        Ok(told(&asker, object))
    };
    reply::plain(&request, started, answer.await)
}

/// `GET /v1/files/{id}/content`
pub async fn content(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let (asker, id, item) = found(&request, shelf::FILE).await?;
        let account = Account::of_item(&asker.live, &item)?;
        let (url, headers) =
            account.request(&asker, &Method::GET, &path("files", &id, "/content"), HeaderMap::new()).await?;
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let booking = asker.book(&request, "/v1/files/{id}/content", "afile_content", &account.deployment).await?;
        let onward = Onward {
            transport: &account.deployment.transport,
            authority: &authority,
            method: Method::GET,
            url,
            headers,
            body: BoxBody::new(()),
            fault: Default::default(),
        };
        pass::send(&asker.worker, onward, booking, None).await
    };
    reply::plain(&request, started, answer.await)
}

/// What the path names, where the caller has it.
///
/// # Errors
/// 404 where the caller has nothing of that name.
pub async fn found(request: &HttpRequest, kind: &'static str) -> Result<(Asker, String, Item)> {
    let asker = Asker::of(request).await?;
    let id = reply::path_part(request, "id").unwrap_or_default().into_owned();
    let item = asker.shelf(kind).find(&id).await?;
    Ok((asker, id, item))
}

/// The path of an item at the provider: its id is one segment, whatever it holds.
pub fn path(of: &str, id: &str, more: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, account::SEGMENT);
    format!("{of}/{id}{more}")
}

/// An object as the provider tells it.
pub fn told(asker: &Asker, object: Value) -> HttpResponse {
    let mut builder = HttpResponse::Ok();
    reply::call_id(&mut builder, &asker.id);
    builder.json(object)
}

/// The database of the gateway does not answer.
pub fn unreachable(fault: store::Fault) -> Error {
    tracing::debug!("what belongs to a key cannot be read: {fault}");
    let why = "The database of this gateway cannot be reached, so that nobody knows whose this is; try again later.";
    Error::new(Kind::Unreachable, why).with_type("no_db_connection")
}

/// # Errors
/// It is there and no text.
pub fn text(envelope: &Envelope, name: &str) -> Result<Option<String>> {
    match envelope.get(name) {
        None => Ok(None),
        Some(member) if member.value.kind == crate::wire::json::Kind::Null => Ok(None),
        Some(_) => match envelope.string(name) {
            Some(text) => Ok(Some(text.into_owned()).filter(|text| !text.is_empty())),
            None => Err(wrong_type(name, "a string")),
        },
    }
}
