//! Who has what: files and batches that lie with providers, each of the key that made it.

use super::unreachable;
use crate::database;
use crate::envelope::shorten;
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::store::{Kept, LedgerRow};
use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

pub const FILE: &str = "file";
pub const BATCH: &str = "batch";
/// Providers' ids are shorter.
pub const LONGEST_ID: usize = 256;
/// What is known of a file or a batch takes no more.
const MOST: usize = 256 << 10;
/// Until it is deleted: so many microseconds are ten years.
const AGE: i64 = 10 * 365 * 86_400 * 1_000_000;

/// Something that lies with a provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The id of the deployment whose account it is in.
    pub deployment: String,
    pub purpose: String,
    /// The provider's names of the models that a batch asks.
    pub models: Vec<String>,
    /// As the provider told of it last.
    pub object: Value,
    /// What a batch used is in the ledger.
    #[serde(default)]
    pub is_booked: bool,
    /// What the request that made a batch said of itself, for the rows of what it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Box<LedgerRow>>,
}

/// What one owner has of one kind.
pub struct Shelf<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub owner: String,
    pub kind: &'static str,
}

/// A part of what is there.
pub struct Page {
    pub items: Vec<(String, Item)>,
    pub has_more: bool,
}

impl Shelf<'_> {
    fn kept(&self, id: &str, item: &Item) -> Result<Kept> {
        let body = serde_json::to_string(item).ok().filter(|body| body.len() <= MOST);
        let now = database::now();
        Ok(Kept {
            kind: self.kind.to_owned(),
            id: id.to_owned(),
            owner: self.owner.clone(),
            made_at: now,
            expires_at: now.saturating_add(AGE),
            body: body.ok_or_else(|| Error::new(Kind::Garbled, "The provider's answer is too long."))?,
        })
    }

    /// Keeps it as the owner's.
    ///
    /// # Errors
    /// It belongs to somebody else, or the database does not answer.
    pub async fn keep(&self, id: &str, item: &Item) -> Result<()> {
        let kept = self.kept(id, item)?;
        self.gateway.database.settled().await;
        match self.gateway.store.keep_own(&kept).await.map_err(unreachable)? {
            true => Ok(()),
            false => Err(Error::new(Kind::Garbled, format!("The provider gave the id '{}' twice.", shorten(id)))),
        }
    }

    async fn row(&self, id: &str) -> Result<Option<(Kept, Item)>> {
        self.gateway.database.settled().await;
        let found = self.gateway.store.kept(self.kind, id, &self.owner, database::now()).await;
        Ok(found.map_err(unreachable)?.and_then(|kept| {
            let item = serde_json::from_str(&kept.body).ok()?;
            Some((kept, item))
        }))
    }

    /// # Errors
    /// 404 where the owner has nothing of that name.
    pub async fn find(&self, id: &str) -> Result<Item> {
        self.row(id).await?.map(|(_, item)| item).ok_or_else(|| self.missing(id))
    }

    fn missing(&self, id: &str) -> Error {
        let message = format!("No such {}: '{}'.", self.kind, shorten(id));
        Error::new(Kind::NotFound, message).at_param("id")
    }

    /// Writes what is new of it; false where somebody else was first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn update(&self, id: &str, change: impl FnOnce(&mut Item)) -> Result<bool> {
        let Some((kept, mut item)) = self.row(id).await? else { return Ok(false) };
        let before = item.clone();
        change(&mut item);
        if item == before {
            return Ok(false);
        }
        let body = self.kept(id, &item)?.body;
        self.gateway.store.change_kept(&kept, &body).await.map_err(unreachable)
    }

    /// # Errors
    /// The database does not answer.
    pub async fn forget(&self, id: &str) -> Result<()> {
        self.gateway.store.forget_kept(self.kind, id, &self.owner).await.map_err(unreachable).map(drop)
    }

    /// What a request for a list asks for: newest first, behind `after`.
    ///
    /// # Errors
    /// A 400 for a limit that is none, a 404 for an `after` that is not there.
    pub async fn page(&self, request: &HttpRequest, most: i64) -> Result<Page> {
        let usual = if most > 100 { most } else { 20 };
        let limit = match query(request, "limit").map(|limit| limit.parse::<i64>()) {
            None => usual,
            Some(Ok(limit)) if (1..=most).contains(&limit) => limit,
            Some(_) => {
                return Err(Error::invalid(format!("'limit' must be a number from 1 to {most}.")).at_param("limit"));
            }
        };
        let after = match query(request, "after") {
            None => None,
            Some(id) => Some(self.row(&id).await?.ok_or_else(|| self.missing(&id))?.0),
        };
        self.gateway.database.settled().await;
        let store = &self.gateway.store;
        let found = store.kept_of(self.kind, &self.owner, database::now(), after.as_ref(), limit + 1).await;
        let mut found = found.map_err(unreachable)?;
        let has_more = found.len() as i64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let read = |kept: Kept| serde_json::from_str(&kept.body).ok().map(|item| (kept.id, item));
        Ok(Page { items: found.into_iter().filter_map(read).collect(), has_more })
    }
}

/// A list as OpenAI has it.
pub fn listed(data: Vec<Value>, has_more: bool) -> Value {
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    json!({"object": "list", "first_id": id(data.first()), "last_id": id(data.last()), "has_more": has_more, "data": data})
}

/// A value of the query.
pub fn query(request: &HttpRequest, name: &str) -> Option<String> {
    let of = |pair: &str| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let value = request.query_string().split('&').find_map(of)?.replace('+', " ");
    Some(percent_decode_str(&value).decode_utf8_lossy().into_owned()).filter(|value| !value.is_empty())
}
