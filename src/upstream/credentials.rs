//! Short-lived credentials: asked for once, kept by all workers, renewed before they end.
//!
//! One request at a time: who finds one under way waits for it, or goes on with the old credential as long as that is
//! good. No lock is held while a request is on its way.

use super::Upstream;
use crate::envelope::Pieces;
use crate::error::{Error, Kind, Result};
use crate::provider::Endpoint;
use crate::provider::credential::{self, Asking, Fresh, Grant, Signing};
use crate::provider::sigv4::Keys;
use crate::route::{Target, Transport};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Uri};
use futures_util::StreamExt;
use secrecy::ExposeSecret;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// A new one is asked for so long before the old one ends.
const EARLY: u64 = 300;
/// Nobody waits longer for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure, the next try is so many seconds later as long as the old one is still good.
const PAUSE: u64 = 10;
/// More of an answer than this says nothing new.
const MAX_ANSWER: usize = 64 << 10;

/// What a deployment has in place of a key.
#[derive(Debug)]
pub enum Credential {
    /// A token that is renewed.
    Bearer(Box<Source>),
    /// Keys that sign each request.
    Aws { keys: AwsKeys, region: String, service: &'static str },
}

#[derive(Debug)]
pub enum AwsKeys {
    Own(Keys),
    Renewed(Box<Source>),
}

impl Credential {
    /// Adds the headers that show it.
    ///
    /// # Errors
    /// It cannot be got, or cannot stand in a header.
    pub async fn show(
        &self,
        upstream: &Upstream,
        target: &Target,
        endpoint: Endpoint,
        body: &Pieces,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        let deployment = &*target.deployment;
        let provider = deployment.provider.name;
        if let Credential::Bearer(_) = self {
            return self.sign(upstream, provider, &Signing::default(), headers).await;
        }
        let url = deployment.place.url(target.dialect(), endpoint, target.model());
        let url: Uri = url.parse().map_err(|_| {
            Error::new(Kind::Internal, format!("The credentials for '{provider}' have an address that is none."))
        })?;
        let signing = Signing {
            method: "POST",
            host: url.authority().map_or("", |authority| authority.as_str()),
            path: url.path(),
            query: "",
            content_type: "application/json",
            body: &body.join(),
        };
        self.sign(upstream, provider, &signing, headers).await
    }

    /// Adds the headers that show it with any request.
    ///
    /// # Errors
    /// It cannot be got, or cannot stand in a header.
    pub async fn sign(
        &self,
        upstream: &Upstream,
        provider: &'static str,
        signing: &Signing<'_>,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        let wrong = |what: &str| Error::new(Kind::Internal, format!("The credentials for '{provider}' {what}."));
        let mut insert = |name: &'static str, value: &str| {
            let mut value =
                HeaderValue::from_str(value).map_err(|_| wrong("hold characters that cannot stand in a header"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
            Ok(())
        };
        match self {
            Credential::Bearer(source) => match source.fresh(upstream, provider).await? {
                Fresh::Bearer(token) => insert("authorization", &format!("Bearer {}", token.expose_secret())),
                Fresh::Aws(_) => Err(wrong("are of the wrong kind")),
            },
            Credential::Aws { keys, region, service } => {
                let keys = match keys {
                    AwsKeys::Own(keys) => keys.clone(),
                    AwsKeys::Renewed(source) => match source.fresh(upstream, provider).await? {
                        Fresh::Aws(keys) => keys,
                        Fresh::Bearer(_) => return Err(wrong("are of the wrong kind")),
                    },
                };
                let told = credential::aws_headers(&keys, region, service, signing, now());
                told.iter().try_for_each(|(name, value)| insert(name, value.expose_secret()))
            }
        }
    }

    /// It was refused: the next call gets another one, if there is.
    pub fn forget(&self) {
        match self {
            Credential::Bearer(source) | Credential::Aws { keys: AwsKeys::Renewed(source), .. } => source.forget(),
            Credential::Aws { keys: AwsKeys::Own(_), .. } => (),
        }
    }
}

/// A credential that is renewed.
#[derive(Debug)]
pub struct Source {
    grant: Grant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The credential, and until when it is good, in seconds since 1970.
    known: Option<(Fresh, u64)>,
    asking: bool,
    /// Not before this time is the next one asked for.
    not_before: u64,
}

enum Turn {
    Known(Fresh),
    Ask,
    Wait,
}

/// Whoever asks must say when he stops, whatever the reason.
struct Asked<'a>(&'a Source);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.asking = false);
        self.0.changed.notify_waiters();
    }
}

impl Source {
    pub fn new(grant: Grant) -> Self {
        Source { grant, state: Mutex::default(), changed: Notify::new() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn turn(&self, now: u64) -> Turn {
        self.with(|state| {
            if let Some((fresh, until)) = &state.known
                && *until > now
                && (*until > now + EARLY || state.asking || state.not_before > now)
            {
                return Turn::Known(fresh.clone());
            }
            if state.asking {
                return Turn::Wait;
            }
            state.asking = true;
            Turn::Ask
        })
    }

    /// The credential that is good now.
    ///
    /// # Errors
    /// It cannot be got: the upstream that gives it says no, or nothing.
    pub async fn fresh(&self, upstream: &Upstream, provider: &'static str) -> Result<Fresh> {
        let get = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // From here on no end of another's request is missed.
                changed.as_mut().enable();
                match self.turn(now()) {
                    Turn::Known(fresh) => return Ok(fresh),
                    Turn::Wait => changed.await,
                    Turn::Ask => return self.ask(upstream, provider).await,
                }
            }
        };
        let late = |_| {
            let message = format!("{} gave no token for '{provider}' within {PATIENCE:?}.", self.place());
            Err(Error::new(Kind::Timeout, message))
        };
        tokio::time::timeout(PATIENCE, get).await.unwrap_or_else(late)
    }

    /// The credential was refused: the next call gets another one.
    pub fn forget(&self) {
        self.with(|state| state.known = None);
    }

    async fn ask(&self, upstream: &Upstream, provider: &'static str) -> Result<Fresh> {
        let asked = Asked(self);
        let result = self.get(upstream, provider).await;
        let now = now();
        let result = match result {
            Ok((fresh, until)) => {
                self.with(|state| state.known = Some((fresh.clone(), until)));
                Ok(fresh)
            }
            Err(error) => {
                let old = self.with(|state| {
                    state.not_before = now + PAUSE;
                    state.known.clone().filter(|(_, until)| *until > now)
                });
                match old {
                    Some((fresh, _)) => {
                        tracing::warn!("the credential for '{provider}' was not renewed: {error}");
                        Ok(fresh)
                    }
                    None => Err(error),
                }
            }
        };
        drop(asked);
        result
    }

    async fn get(&self, upstream: &Upstream, provider: &'static str) -> Result<(Fresh, u64)> {
        let unusable = |what: String| Error::new(Kind::Internal, format!("The credentials for '{provider}': {what}."));
        let mut before = String::new();
        let mut asking = None;
        if let Some(file) = self.grant.file() {
            before = tokio::fs::read_to_string(file).await.map_err(|e| unusable(format!("{}: {e}", file.display())))?;
        } else if let Grant::AwsInstance { url } = &self.grant {
            // A session first, then the name of the role, then its keys.
            let session = Asking {
                method: "PUT",
                url: format!("{url}/latest/api/token"),
                headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", "21600".into())],
                body: String::new(),
            };
            before = self.send(upstream, provider, session).await?;
            let place = format!("{url}/latest/meta-data/iam/security-credentials/");
            let step = |url: String, grant: &Grant| Ok(Asking { url, ..grant.asking(0, &before)? });
            let roles = self.send(upstream, provider, step(place.clone(), &self.grant).map_err(unusable)?).await?;
            let role = roles.lines().next().unwrap_or_default().trim().to_owned();
            asking = Some(step(format!("{place}{role}"), &self.grant).map_err(unusable)?);
        }
        let asking = match asking {
            Some(asking) => asking,
            None => self.grant.asking(now(), &before).map_err(unusable)?,
        };
        let body = self.send(upstream, provider, asking).await?;
        self.grant.read(body.as_bytes(), now()).map_err(|what| {
            Error::new(Kind::Garbled, format!("{} was asked for a token for '{provider}': {what}.", self.place()))
        })
    }

    /// Where the credential comes from, without what may be private in its address.
    fn place(&self) -> &str {
        let url = self.grant.url();
        let end = url.find("://").map_or(0, |at| at + 3);
        url[end..].find(['/', '?']).map_or(url, |at| &url[..end + at])
    }

    async fn send(&self, upstream: &Upstream, provider: &'static str, asking: Asking) -> Result<String> {
        let place = self.place();
        let unreachable = |why: String| {
            Error::new(Kind::Unreachable, format!("Could not get a token for '{provider}' from {place}: {why}."))
        };
        let transport = Transport {
            socket: None,
            tls: asking.url.starts_with("https:"),
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
        };
        let client = upstream.client(&transport).map_err(|e| Error::new(Kind::Internal, e))?;
        let mut request = match asking.method {
            "PUT" => client.put(&asking.url),
            "GET" => client.get(&asking.url),
            _ => client.post(&asking.url),
        };
        for (name, value) in &asking.headers {
            let Ok(mut value) = HeaderValue::from_str(value.expose_secret()) else {
                let message =
                    format!("The credentials for '{provider}' hold characters that cannot stand in a header.");
                return Err(Error::new(Kind::Internal, message));
            };
            value.set_sensitive(true);
            request = request.insert_header((*name, value));
        }
        if !asking.body.is_empty() {
            request = request.insert_header((CONTENT_TYPE, "application/x-www-form-urlencoded"));
        }
        let agent = concat!("gateway/", env!("CARGO_PKG_VERSION"));
        let request = request.insert_header(("user-agent", agent)).no_decompress();
        let mut response = request.send_body(asking.body).await.map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.next().await {
            body.extend_from_slice(&chunk.map_err(|e| unreachable(e.to_string()))?);
            if body.len() > MAX_ANSWER {
                return Err(unreachable("its answer is too long".to_owned()));
            }
        }
        if status == StatusCode::OK {
            return String::from_utf8(body).map_err(|_| unreachable("its answer is no text".to_owned()));
        }
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let why =
            ["error_description", "errorMessage", "message", "error"].iter().find_map(|name| told[*name].as_str());
        let why: String = why.unwrap_or("no reason is given").chars().take(300).collect();
        let message = format!("{place} refused a token for '{provider}' ({}): {why}", status.as_u16());
        let is_refusal = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        Err(match is_refusal {
            true => Error::new(Kind::Upstream(StatusCode::UNAUTHORIZED), message).with_type("authentication_error"),
            false => Error::new(Kind::Unreachable, message),
        })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
