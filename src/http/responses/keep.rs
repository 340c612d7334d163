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
/// Conversations that take more are not kept.
const MOST: usize = 16 << 20;
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
}

fn unreachable(fault: store::Fault) -> Error {
    tracing::debug!("a response cannot be read: {fault}");
    let why = "The database of this gateway cannot be reached, so that the response cannot be found; try again later.";
    Error::new(Kind::Unreachable, why).with_type("no_db_connection")
}

async fn read(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Option<Kept>> {
    // Whoever asks at the start waits for the tables.
    gateway.database.settled().await;
    let found = gateway.store.kept(KIND, id, &caller.owner(), database::now()).await.map_err(unreachable)?;
    Ok(found.and_then(|kept| serde_json::from_str(&kept.body).ok()))
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
    let (gateway, caller) = asker(request).await?;
    let id = reply::path_part(request, "id").unwrap_or_default();
    read(&gateway, &caller, &id).await?.ok_or_else(|| not_found(&id))
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
        true => Ok(id),
        false => Err(not_found(&id)),
    }
}

fn not_found(id: &str) -> Error {
    let shown = crate::envelope::shorten(id);
    Error::new(Kind::NotFound, format!("Response with id '{shown}' not found.")).at_param("id")
}

async fn asker(request: &HttpRequest) -> Result<(Arc<Gateway>, Caller)> {
    let gateway = reply::worker(request)?.gateway.clone();
    let live = gateway.live();
    let caller = auth::caller(&gateway, &live, request).await?;
    Ok((gateway, caller))
}

/// Keeps the response of a call, once it is there.
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
        (call.face == crate::exchange::Face::Responses && !refuses).then(|| Keeper {
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
        let mut input = self.history;
        let asked: Option<Value> = serde_json::from_slice(&self.body).ok();
        match crate::wire::responses::items(asked.as_ref().and_then(|asked| asked.get("input"))) {
            Ok(mut items) => input.append(&mut items),
            Err(_) => return,
        }
        let Ok(body) = serde_json::to_string(&Kept { response, input, kept_by }) else { return };
        if body.len() > MOST {
            tracing::warn!("a response is not kept, because its conversation is larger than 16 MiB");
            return;
        }
        let now = database::now();
        let expires_at = now.saturating_add(i64::try_from(self.age.as_micros()).unwrap_or(i64::MAX));
        let kept = store::Kept { kind: KIND.to_owned(), id, owner: self.owner, made_at: now, expires_at, body };
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
}
