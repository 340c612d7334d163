//! Where keys, people and spend are kept: Postgres by `database_url`, else a file in the state directory.

use super::file::File;
use super::{Mode, look_up};
use crate::secret::Secrets;
use crate::store::{Address, read_url};
use std::time::Duration;

/// The embedded store's file in the state directory.
pub const FILE: &str = "gateway.db";
/// LiteLLM's default for its `user_api_key_cache_ttl`.
const KEY_AGE: Duration = Duration::from_secs(60);

/// The store, and what is done without it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Postgres; none is the embedded store.
    pub postgres: Option<Address>,
    /// While the database does not answer, calls go on whose key cannot be looked up.
    pub allow_unavailable: bool,
    /// A key that was looked up is good for so long without another look.
    pub key_age: Duration,
}

impl Store {
    /// Whether both mean the same database.
    pub fn is_at(&self, other: &Store) -> bool {
        match (&self.postgres, &other.postgres) {
            (Some(a), Some(b)) => a.config == b.config,
            (None, None) => true,
            _ => false,
        }
    }
}

/// The settings of the file, or `DATABASE_URL` where it names no database.
pub(super) fn resolve(file: &File, secrets: &Secrets, mode: Mode, errors: &mut Vec<String>) -> Store {
    let mut postgres = None;
    if mode == Mode::Live {
        let (place, url) = match &file.database_url {
            Some(written) => ("database_url", look_up(written, secrets)),
            None => ("DATABASE_URL", secrets.get("DATABASE_URL")),
        };
        if let Some(name) = file.database_url.as_ref().and_then(|w| w.reference())
            && url.is_none()
        {
            errors.push(format!(
                "database_url: the variable {name} is not set in the env file or the environment; set it, or take the line out to keep everything in {FILE} in the state directory"
            ));
        }
        match url.map(|url| read_url(&url)) {
            Some(Ok(address)) => postgres = Some(address),
            Some(Err(e)) if place == "DATABASE_URL" => {
                let why = e.to_string().replacen("database_url ", "", 1);
                errors.push(format!("the variable DATABASE_URL {why}"));
            }
            Some(Err(e)) => errors.push(e.to_string()),
            None => {}
        }
    }
    Store {
        postgres,
        allow_unavailable: file.store.allow_requests_on_db_unavailable,
        key_age: file.store.key_cache_age.map_or(KEY_AGE, |age| age.0),
    }
}
