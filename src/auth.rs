//! Who calls: the master key, compared in constant time, or a key of the store by its hash.

pub mod access;
pub mod customers;
pub mod remembered;

use crate::database;
use crate::error::{Error, Kind, Result};
use crate::gateway::{Gateway, Live};
use crate::store::{Fault, Holder, Key, Team, User};
use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use remembered::{Hash, Memory, hex};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A caller that may go on.
#[derive(Debug, Clone, PartialEq)]
pub enum Caller {
    /// Shows the master key.
    Master,
    /// No key is asked for.
    Anonymous,
    /// Shows a key of the store.
    Key(Arc<Holder>),
}

impl Caller {
    /// For logs.
    pub fn name(&self) -> &str {
        match self {
            Caller::Master => "master",
            Caller::Anonymous => "anonymous",
            Caller::Key(holder) => holder.key.alias.as_deref().or(holder.key.hint.as_deref()).unwrap_or("key"),
        }
    }

    /// Whose the things are that it makes: the master key and callers without one have theirs.
    pub fn owner(&self) -> String {
        match self {
            Caller::Master => "master".to_owned(),
            Caller::Anonymous => "anonymous".to_owned(),
            Caller::Key(holder) => format!("key:{}", holder.key.id),
        }
    }

    /// The key with everything that decides what it may do.
    pub fn holder(&self) -> Option<&Arc<Holder>> {
        match self {
            Caller::Key(holder) => Some(holder),
            _ => None,
        }
    }

    /// What the key's calls are booked under; it stays when the key is regenerated.
    pub fn key_id(&self) -> Option<&str> {
        self.holder().map(|holder| holder.key.id.as_str())
    }

    pub fn user(&self) -> Option<&User> {
        self.holder()?.user.as_ref()
    }

    pub fn team(&self) -> Option<&Team> {
        self.holder()?.team.as_ref()
    }

    /// The user that the key names, whether there is a record of that user or not.
    pub fn user_id(&self) -> Option<&str> {
        self.holder()?.key.user_id.as_deref()
    }

    pub fn team_id(&self) -> Option<&str> {
        self.holder()?.key.team_id.as_deref()
    }
}

/// Where a key is looked for.
static KEYS: [HeaderName; 5] = [
    HeaderName::from_static("x-litellm-api-key"),
    AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// Decides who a caller is.
pub struct Auth {
    /// SHA-256 of the master key; none means that no key is asked for.
    master: Option<Hash>,
    key_header: Option<HeaderName>,
}

impl Auth {
    pub fn new(master_key: Option<&SecretString>, key_header: Option<&str>) -> Self {
        Auth {
            master: master_key.map(|key| digest(key.expose_secret().as_bytes())),
            key_header: key_header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
        }
    }

    /// Whether this is the master key's hash; it cannot be a key of the store.
    pub fn is_master(&self, hash: &Hash) -> bool {
        self.master.as_ref().is_some_and(|master| bool::from(hash.ct_eq(master)))
    }

    /// The first header that holds a key: the configured one, LiteLLM's, then those of OpenAI's, Azure's and
    /// Anthropic's clients.
    fn key<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let configured = self.key_header.as_ref().and_then(|name| headers.get(name)).into_iter();
        configured
            .chain(KEYS.iter().filter_map(|name| headers.get(name)))
            .find_map(|value| bare(value.as_bytes()))
            .or_else(|| in_protocol(headers))
    }
}

/// Who calls, by the headers of the request, if the key is for its route. A key that is remembered is not looked up.
///
/// # Errors
/// 401 without a key, or with one that is not known, blocked or expired; 403 on a route that the key is not for; 503 where the store cannot tell.
pub async fn caller(gateway: &Gateway, live: &Live, request: &HttpRequest) -> Result<Caller> {
    if live.auth.master.is_none() {
        return Ok(Caller::Anonymous);
    }
    let key = live.auth.key(request.headers()).ok_or_else(|| {
        Error::new(
            Kind::Unauthorized,
            "Authentication Error: no API key was passed in. Send it as `Authorization: Bearer KEY`.",
        )
    })?;
    let hash = digest(key);
    // Equal length and unequal content take the same time, and so do keys of any other length.
    if live.auth.is_master(&hash) {
        return Ok(Caller::Master);
    }
    match look_up(gateway, live, &hash).await? {
        Some(holder) => {
            good(&holder)?;
            let caller = Caller::Key(holder);
            access::route(&caller, path(request, live))?;
            Ok(caller)
        }
        None => {
            let message = format!("Authentication Error: the API key {} is not known to this gateway.", hint(key));
            Err(Error::new(Kind::Unauthorized, message).with_type("token_not_found_in_db"))
        }
    }
}

/// The path as the router has read it, without the root that the operator puts before it. The router decodes what need
/// not be encoded; were the path that a key is for read in another way, `/%6Bey/generate` would lead past it.
pub fn path<'a>(request: &'a HttpRequest, live: &Live) -> &'a str {
    let path = request.match_info().as_str();
    path.strip_prefix(live.config.server.root_path.as_str()).filter(|p| p.starts_with('/')).unwrap_or(path)
}

async fn look_up(gateway: &Gateway, live: &Live, hash: &Hash) -> Result<Option<Arc<Holder>>> {
    let old = match gateway.keys.find(hash, live.config.store.key_age) {
        Memory::Key(holder) => return Ok(Some(holder)),
        Memory::Unknown => return Ok(None),
        Memory::Old(holder) => Some(holder),
        Memory::Nothing => None,
    };
    Box::pin(look_further(gateway, live, hash, old)).await
}

/// `old`: what was known of the key, too long ago.
async fn look_further(
    gateway: &Gateway,
    live: &Live,
    hash: &Hash,
    old: Option<Arc<Holder>>,
) -> Result<Option<Arc<Holder>>> {
    // What the configuration says of a key needs no database.
    let turn = gateway.keys.turn();
    if let Some(holder) = gateway.store.declared().holder(&hex(hash)).map(Arc::new) {
        if gateway.keys.keep(*hash, Some(&holder), turn) {
            gateway.database.wake.notify_one();
        }
        return Ok(Some(holder));
    }
    let allow = live.config.store.allow_unavailable;
    // A database that is down is tried by one task, not by each call.
    let found = match gateway.database.settled().await {
        database::State::Down => Err(Fault::Unavailable(gateway.database.why())),
        _ => {
            let turn = gateway.keys.turn();
            let found = gateway.store.holder(&hex(hash), database::now()).await;
            found.map(|holder| {
                let holder = holder.map(Arc::new);
                if gateway.keys.keep(*hash, holder.as_ref(), turn) {
                    gateway.database.wake.notify_one();
                }
                holder
            })
        }
    };
    match found {
        Ok(holder) => Ok(holder),
        // What was not forgotten was good when the database answered last.
        Err(fault) if fault.is_unavailable() && old.as_ref().is_some_and(|old| is_fresh(gateway, live, old, hash)) => {
            Ok(old)
        }
        Err(fault) if allow && fault.is_unavailable() => {
            // As LiteLLM: whoever shows a key is served. The call is booked under the hash, whoever it belongs to.
            let key = Key { id: hex(hash), hash: hex(hash), ..Key::default() };
            Ok(Some(old.unwrap_or_else(|| Arc::new(Holder::of(key)))))
        }
        Err(fault) => {
            tracing::debug!("a key cannot be looked up: {fault}");
            Err(Error::new(
                Kind::Unreachable,
                "The database of this gateway cannot be reached, so that your key cannot be checked; try again later.",
            )
            .with_type("no_db_connection"))
        }
    }
}

/// Whether a key that was looked up longer ago still is as the database last had it.
fn is_fresh(gateway: &Gateway, live: &Live, holder: &Holder, hash: &Hash) -> bool {
    let silent = gateway.database.silent_for();
    holder.key.hash == hex(hash) && silent.is_some_and(|silent| silent < live.config.store.key_age)
}

/// # Errors
/// The key, or whose it is, is blocked, or the key's time is over.
fn good(holder: &Holder) -> Result<()> {
    let refused = |message: String| Err(Error::new(Kind::Unauthorized, message));
    let key = &holder.key;
    let shown = key.hint.as_deref().unwrap_or("sk-...");
    if key.blocked {
        return refused(format!(
            "Authentication Error: the API key {shown} is blocked; POST /key/unblock lets it go on."
        ));
    }
    if key.expires_at.is_some_and(|at| at <= database::now()) {
        let message = format!("Authentication Error: the API key {shown} has expired; ask for a new one.");
        return Err(Error::new(Kind::Unauthorized, message).with_type("expired_key"));
    }
    if let Some(team) = holder.team.as_ref().filter(|team| team.blocked) {
        return refused(format!(
            "Authentication Error: the team '{}' is blocked; POST /team/unblock lets it go on.",
            team.id
        ));
    }
    // What the team may is not known, so the key may nothing.
    if let (Some(id), None) = (&key.team_id, &holder.team) {
        return refused(format!(
            "Authentication Error: the team '{id}' of the API key {shown} is gone; POST /key/update gives it another one."
        ));
    }
    if let Some(user) = holder.user.as_ref().filter(|user| user.blocked) {
        return refused(format!("Authentication Error: the user '{}' is blocked.", user.id));
    }
    Ok(())
}

/// Where OpenAI's browser clients have it, who cannot send headers with a WebSocket.
fn in_protocol(headers: &HeaderMap) -> Option<&[u8]> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let key = offered.split(',').find_map(|one| one.trim().strip_prefix("openai-insecure-api-key."))?;
    bare(key.as_bytes())
}

/// The key in a header's value, with or without `Bearer` before it; none where there is nothing else.
fn bare(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let key = match value.split_at_checked(6) {
        Some((word, rest)) if word.eq_ignore_ascii_case(b"bearer") && rest.first().is_none_or(|b| *b == b' ') => {
            rest.trim_ascii()
        }
        _ => value,
    };
    (!key.is_empty()).then_some(key)
}

/// SHA-256 of a whole key, as the store knows it.
pub fn digest(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

/// Enough of a key to find it again, and no more.
pub fn hint(key: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(key).chars().filter(|c| c.is_ascii_graphic()).collect();
    match text.len() {
        16.. => format!("sk-...{}", &text[text.len() - 4..]),
        _ => "sk-...".to_owned(),
    }
}
