//! Turns that the caller goes on with: what came before them is kept, under ids that are made here, until a later request
//! quotes these.
//!
//! Messages are kept as their format has them; nothing here looks into them.

use crate::auth::Caller;
use crate::database;
use crate::error::{Error, Result};
use crate::store::{Kept, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// In front of every id that is made here. With it an id has at most 40 characters, which is what some clients take.
pub const PREFIX: &str = "call_gw_";
/// In front of the key of a call that waits for leave in a response.
pub const QUESTION: &str = "mcpr_";
const KIND: &str = "tool turn";
/// Larger turns are not kept.
const MOST: usize = 8 << 20;

/// A turn, and everything before it that the caller has not seen.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// Messages of the rounds before.
    pub inner: Vec<Value>,
    /// The turn itself, with the model's own ids.
    pub message: Value,
    pub calls: Vec<Pending>,
    /// Results that are there, by the model's ids.
    pub results: BTreeMap<String, String>,
}

/// A call that the caller was handed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// The id that the caller knows.
    pub id: String,
    /// The model's.
    pub own_id: String,
    /// Server and tool, where the gateway is to carry it out.
    pub tool: Option<(String, String)>,
    pub name: String,
    pub arguments: String,
    pub approved: bool,
    /// It was begun: it is not begun again, whatever became of it.
    pub begun: bool,
}

/// A fresh name for a turn.
pub fn new_name() -> String {
    let number = rand::random::<u128>() >> 32;
    format!("{number:024x}")
}

/// What a call of that turn is called, whatever stands in front of it.
pub fn key(name: &str, place: usize) -> String {
    format!("{name}_{place}")
}

/// The id of a call that is handed to the caller.
pub fn id(key: &str) -> String {
    format!("{PREFIX}{key}")
}

/// The turn that an id belongs to; none for ids that were not made here.
pub fn name_of(id: &str) -> Option<&str> {
    name_in(id.strip_prefix(PREFIX)?)
}

/// The turn that a key belongs to; none for what is no key.
pub fn name_in(key: &str) -> Option<&str> {
    let (name, place) = key.split_once('_')?;
    let is_name = name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
    (is_name && place.len() <= 4 && place.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

fn owner(caller: &Caller) -> &str {
    match caller {
        Caller::Master => "master",
        Caller::Anonymous => "anonymous",
        Caller::Key(holder) => &holder.key.id,
    }
}

/// Keeps a turn for so long.
///
/// # Errors
/// It is too large, or the store does not take it.
pub async fn keep(store: &Store, caller: &Caller, name: &str, turn: &Turn, age: Duration) -> Result<()> {
    keep_for(store, owner(caller), name, turn, age).await
}

async fn keep_for(store: &Store, owner: &str, name: &str, turn: &Turn, age: Duration) -> Result<()> {
    let body = serde_json::to_string(turn).map_err(|e| Error::invalid(e.to_string()))?;
    if body.len() > MOST {
        return Err(Error::invalid(format!(
            "The turns before this one are larger than {MOST} bytes and cannot be kept."
        )));
    }
    let now = database::now();
    let expires_at = now.saturating_add(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    let kept =
        Kept { kind: KIND.to_owned(), id: name.to_owned(), owner: owner.to_owned(), made_at: now, expires_at, body };
    Ok(store.keep(&kept).await?)
}

/// The turn of that name.
///
/// # Errors
/// A 400 where there is none, it is another key's, or its time is over.
pub async fn find(store: &Store, caller: &Caller, name: &str, quoted: &str) -> Result<Turn> {
    let kept = store.kept(KIND, name, owner(caller), database::now()).await?;
    let turn = kept.and_then(|kept| serde_json::from_str(&kept.body).ok());
    turn.ok_or_else(|| {
        Error::invalid(format!(
            "The tool call '{}' is not known, or its time is over (tools.resume_age): start again without it.",
            crate::envelope::shorten(quoted)
        ))
        .at_param("messages")
    })
}

/// The calls of that turn that were approved from the shell; none where it is not there for this caller.
///
/// # Errors
/// The store does not answer.
pub async fn approved(store: &Store, caller: &Caller, name: &str) -> Result<Vec<String>> {
    let kept = store.kept(KIND, name, owner(caller), database::now()).await?;
    let turn: Option<Turn> = kept.and_then(|kept| serde_json::from_str(&kept.body).ok());
    let calls = turn.map(|turn| turn.calls).unwrap_or_default();
    Ok(calls.into_iter().filter(|call| call.approved).map(|call| call.id).collect())
}

/// Approves a call from the shell, whoever it belongs to; its name and arguments are given back.
///
/// # Errors
/// A text for the operator.
pub async fn approve(store: &Store, id: &str, age: Duration) -> std::result::Result<(String, String), String> {
    let unknown = || format!("there is no call '{id}' that waits for approval; its time may be over");
    // Responses call it by their own name.
    let known = id.strip_prefix(QUESTION).map_or_else(|| id.to_owned(), self::id);
    let name = name_of(&known).ok_or_else(unknown)?;
    let kept = store.kept_by_any(KIND, name, database::now()).await.map_err(|e| e.to_string())?.ok_or_else(unknown)?;
    let mut turn: Turn = serde_json::from_str(&kept.body).map_err(|e| e.to_string())?;
    let call = turn.calls.iter_mut().find(|call| call.id == known && call.tool.is_some()).ok_or_else(unknown)?;
    call.approved = true;
    let told = (call.name.clone(), call.arguments.clone());
    keep_for(store, &kept.owner, name, &turn, age).await.map_err(|e| e.to_string())?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_to_their_turn() {
        let name = new_name();
        let made = id(&key(&name, 12));
        assert!(made.len() <= 40, "{made}");
        assert_eq!(name_of(&made), Some(name.as_str()));
        for other in ["call_1", "call_gw_", "call_gw_zz_1", "call_gw_0123456789abcdef01234567"] {
            assert_eq!(name_of(other), None);
        }
    }
}
