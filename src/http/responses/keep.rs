//! Responses that are kept: for later requests to go on from, and to be looked at again. Each belongs to the key that
//! asked for it; to all others it is not there.

use crate::auth::{self, Caller};
use crate::call::Call;
use crate::database;
use crate::error::{Error, Kind, Result};
use crate::exchange::History;
use crate::gateway::Gateway;
use crate::http::reply;
use crate::store;
use actix_web::HttpRequest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "response";
/// The events of one, as they were sent.
const EVENTS: &str = "response events";
/// Conversations that take more are not kept.
const MOST: usize = 16 << 20;
/// Without a sign of life for so long the gateway that makes a response has ended.
const STALE: Duration = Duration::from_secs(90);
/// How often a gateway gives one.
pub const SIGN: Duration = Duration::from_secs(30);
/// A database that takes longer keeps the end of an answer back no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// A response as it lies in the store.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    pub response: Value,
    /// All items that it was made of, those of earlier responses included.
    pub input: Vec<Value>,
    /// The deployment that keeps it too.
    pub kept_by: Option<String>,
    /// Until when it is being made, in microseconds since 1970; after that its gateway has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Its events can be followed, and are kept beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams: bool,
}

impl Kept {
    /// A response that is being made for too long is not being made any more; nor is one that only this process could make,
    /// and does not.
    fn settled(mut self, now: i64, is_orphan: bool) -> Self {
        if self.response["status"] == "in_progress" && (is_orphan || self.until.is_some_and(|until| until <= now)) {
            self.response["status"] = "failed".into();
            let message = "The gateway that made this response has ended.";
            self.response["error"] = serde_json::json!({"code": "server_error", "message": message});
        }
        self
    }
}

fn unreachable(fault: store::Fault) -> Error {
    tracing::debug!("a response cannot be read: {fault}");
    let why = "The database of this gateway cannot be reached, so that the response cannot be found; try again later.";
    Error::new(Kind::Unreachable, why).with_type("no_db_connection")
}

/// The response of that name, where the caller has one.
///
/// # Errors
/// The store does not answer.
pub async fn read(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Option<Kept>> {
    // Whoever asks at the start waits for the tables.
    gateway.database.settled().await;
    let found = gateway.store.kept(KIND, id, &caller.owner(), database::now()).await.map_err(unreachable)?;
    let found: Option<Kept> = found.and_then(|kept| serde_json::from_str(&kept.body).ok());
    let is_in_hand = found.as_ref().is_none_or(|kept| kept.response["status"] != "in_progress");
    // No other gateway has this database, and what is done meanwhile is found with the second look.
    if !is_in_hand && gateway.store.engine() == store::Engine::Sqlite && !gateway.underway.has(id) {
        let found = gateway.store.kept(KIND, id, &caller.owner(), database::now()).await.map_err(unreachable)?;
        let found: Option<Kept> = found.and_then(|kept| serde_json::from_str(&kept.body).ok());
        return Ok(found.map(|kept| kept.settled(database::now(), true)));
    }
    Ok(found.map(|kept| kept.settled(database::now(), false)))
}

/// What a request that names an earlier response goes on from.
///
/// # Errors
/// A 400 where the caller has no such response, as OpenAI has it.
pub async fn history(gateway: &Gateway, caller: &Caller, id: &str) -> Result<History> {
    let Some(kept) = read(gateway, caller, id).await? else {
        let shown = crate::envelope::shorten(id);
        let message = format!("Previous response with id '{shown}' not found.");
        return Err(Error::invalid(message).at_param("previous_response_id").with_code("previous_response_not_found"));
    };
    if kept.response["status"] == "in_progress" {
        let message = format!("The response '{}' is not finished yet.", crate::envelope::shorten(id));
        return Err(Error::invalid(message).at_param("previous_response_id"));
    }
    let mut items = kept.input;
    if let Some(Value::Array(output)) = kept.response.get("output") {
        items.extend(output.iter().cloned());
    }
    Ok(History { kept_by: kept.kept_by, items })
}

/// The response that the path names.
///
/// # Errors
/// 404 where the caller has none of that name.
pub async fn find(request: &HttpRequest) -> Result<Kept> {
    Ok(find_with_gateway(request).await?.1)
}

/// As [`find`].
///
/// # Errors
/// As [`find`].
pub async fn find_with_gateway(request: &HttpRequest) -> Result<(Arc<Gateway>, Kept)> {
    let (gateway, caller) = asker(request).await?;
    let id = reply::path_part(request, "id").unwrap_or_default();
    let kept = read(&gateway, &caller, &id).await?.ok_or_else(|| not_found(&id))?;
    Ok((gateway, kept))
}

/// Keeps a response again that has changed.
///
/// # Errors
/// The store does not take it.
pub async fn again(request: &HttpRequest, id: &str, kept: &Kept) -> Result<()> {
    let (gateway, caller) = asker(request).await?;
    let age = gateway.live().config.server.keep_responses.unwrap_or_default();
    let body = serde_json::to_string(kept).map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
    gateway.store.keep(&row(id.to_owned(), caller.owner(), age, body)).await.map_err(unreachable)
}

fn row(id: String, owner: String, age: Duration, body: String) -> store::Kept {
    row_of(KIND, id, owner, age, body)
}

fn row_of(kind: &str, id: String, owner: String, age: Duration, body: String) -> store::Kept {
    let now = database::now();
    let expires_at = now.saturating_add(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    store::Kept { kind: kind.to_owned(), id, owner, made_at: now, expires_at, body }
}

/// The events of a response, where they are kept.
///
/// # Errors
/// The store does not answer.
pub async fn events(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Option<String>> {
    let found = gateway.store.kept(EVENTS, id, &caller.owner(), database::now()).await.map_err(unreachable)?;
    Ok(found.map(|kept| kept.body))
}

/// Forgets the response that the path names.
///
/// # Errors
/// 404 where the caller has none of that name.
pub async fn forget(request: &HttpRequest) -> Result<String> {
    let (gateway, caller) = asker(request).await?;
    let id = reply::path_part(request, "id").unwrap_or_default().into_owned();
    gateway.database.settled().await;
    match gateway.store.forget_kept(KIND, &id, &caller.owner()).await.map_err(unreachable)? {
        true => {
            super::background::forget(&gateway, &id);
            gateway.store.forget_kept(EVENTS, &id, &caller.owner()).await.map_err(unreachable)?;
            Ok(id)
        }
        false => Err(not_found(&id)),
    }
}

fn not_found(id: &str) -> Error {
    let shown = crate::envelope::shorten(id);
    Error::new(Kind::NotFound, format!("Response with id '{shown}' not found.")).at_param("id")
}

/// Who asks.
///
/// # Errors
/// He may not.
pub async fn asker(request: &HttpRequest) -> Result<(Arc<Gateway>, Caller)> {
    let gateway = reply::worker(request)?.gateway.clone();
    let live = gateway.live();
    let caller = auth::caller(&gateway, &live, request).await?;
    Ok((gateway, caller))
}

/// Keeps the response of a call, once it is there.
#[derive(Clone)]
pub struct Keeper {
    gateway: Arc<Gateway>,
    owner: String,
    age: Duration,
    body: Bytes,
    history: Vec<Value>,
}

impl Keeper {
    /// One for calls whose response is to be kept: those that do not say `store: false`, where responses are kept at all.
    pub fn of(call: &Call) -> Option<Self> {
        let age = call.live.config.server.keep_responses?;
        let refuses = call.envelope.get("store").is_some_and(|member| call.envelope.text(&member.value) == b"false");
        (call.face == crate::exchange::Face::Responses && !refuses && !call.is_kept_elsewhere).then(|| Keeper {
            gateway: call.worker.gateway.clone(),
            owner: call.caller.owner(),
            age,
            body: call.envelope.bytes().clone(),
            history: call.history.as_ref().map(|history| history.items.clone()).unwrap_or_default(),
        })
    }

    /// Keeps it. Whoever is told its id can go on from it at once; where the database does not take it, he will hear
    /// then that it is not there.
    pub async fn keep(self, response: Bytes, kept_by: Option<String>) {
        let Ok(response) = serde_json::from_slice::<Value>(&response) else { return };
        let Some(id) = response.get("id").and_then(Value::as_str).map(str::to_owned) else { return };
        let Some(body) = self.body_of(response, kept_by, None, false) else { return };
        if body.len() > MOST {
            tracing::warn!("a response is not kept, because its conversation is larger than 16 MiB");
            return;
        }
        let kept = row(id, self.owner, self.age, body);
        let keeping = async {
            self.gateway.database.settled().await;
            self.gateway.store.keep(&kept).await
        };
        match tokio::time::timeout(PATIENCE, keeping).await {
            Ok(Ok(())) => (),
            Ok(Err(fault)) => tracing::warn!("a response is not kept: {fault}"),
            Err(_) => tracing::warn!("a response is not kept: the database did not answer within {PATIENCE:?}"),
        }
    }

    /// Keeps a response that is being made.
    ///
    /// # Errors
    /// It cannot be kept: nobody could ask for it.
    pub async fn keep_pending(self, response: &Value, streams: bool) -> Result<Pending> {
        let id = response["id"].as_str().unwrap_or_default().to_owned();
        let body = self.body_of(response.clone(), None, Some(soon()), streams).filter(|body| body.len() <= MOST);
        let Some(body) = body else {
            return Err(Error::invalid("The conversation is too large to be kept.").at_param("background"));
        };
        let row = row(id, self.owner.clone(), self.age, body);
        self.gateway.database.settled().await;
        self.gateway.store.keep(&row).await.map_err(unreachable)?;
        Ok(Pending { keeper: self, row, response: response.clone(), streams })
    }

    fn body_of(&self, response: Value, kept_by: Option<String>, until: Option<i64>, streams: bool) -> Option<String> {
        let mut input = self.history.clone();
        let asked: Option<Value> = serde_json::from_slice(&self.body).ok();
        let items = crate::wire::responses::items(asked.as_ref().and_then(|asked| asked.get("input")));
        input.append(&mut items.ok()?);
        serde_json::to_string(&Kept { response, input, kept_by, until, streams }).ok()
    }
}

/// A response that is being made, as the store has it. Whoever changes it there, by cancelling or forgetting it, has the
/// last word.
pub struct Pending {
    keeper: Keeper,
    row: store::Kept,
    response: Value,
    streams: bool,
}

impl Pending {
    /// Says that it is still being made. False where somebody else has said what becomes of it.
    pub async fn goes_on(&mut self) -> bool {
        let Some(body) = self.keeper.body_of(self.response.clone(), None, Some(soon()), self.streams) else {
            return true;
        };
        match self.keeper.gateway.store.change_kept(&self.row, &body).await {
            Ok(true) => self.row.body = body,
            Ok(false) => return false,
            // Later, maybe: until then it counts as being made.
            Err(fault) => tracing::debug!("a response that is being made is not kept on: {fault}"),
        }
        true
    }

    /// Puts the response that was made in its place, with what was told of it.
    pub async fn end(self, response: Value, events: Option<String>) {
        let Some(body) = self.keeper.body_of(response, None, None, self.streams) else { return };
        if body.len() > MOST {
            tracing::warn!("a response is not kept, because its conversation is larger than 16 MiB");
            return;
        }
        let store = &self.keeper.gateway.store;
        let events = events.map(|events| {
            let (id, owner) = (self.row.id.clone(), self.keeper.owner.clone());
            row_of(EVENTS, id, owner, self.keeper.age, events)
        });
        let keeping = async {
            // Events of a response that is done are never missing, but for one that somebody has forgotten.
            if let Some(events) = &events {
                store.keep(events).await?;
            }
            let is_kept = store.change_kept(&self.row, &body).await?;
            if let (false, Some(events)) = (is_kept, &events) {
                store.forget_kept(EVENTS, &events.id, &events.owner).await?;
            }
            Ok::<_, store::Fault>(is_kept)
        };
        match tokio::time::timeout(PATIENCE, keeping).await {
            Ok(Ok(_)) => (),
            Ok(Err(fault)) => tracing::warn!("a response is not kept: {fault}"),
            Err(_) => tracing::warn!("a response is not kept: the database did not answer within {PATIENCE:?}"),
        }
    }
}

/// Until when a response that is being made is, unless that is said again.
fn soon() -> i64 {
    database::now().saturating_add(i64::try_from(STALE.as_micros()).unwrap_or(i64::MAX))
}
