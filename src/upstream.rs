//! The only place that talks to an LLM upstream. One per worker, since connections belong to a worker's thread.
//!
//! What does not change between calls (URL, host, key header) is worked out once per deployment and key. Connections
//! are kept and reused; redirects are never followed.

mod catalog;
pub(crate) mod connect;
pub mod credentials;
mod ends;
mod pool;
mod predictions;
mod raw;
mod response;
pub mod tls;

use crate::envelope::Pieces;
use crate::error::{Error, Kind, Result, from_upstream};
use crate::form::{Files, Outgoing};
pub use crate::provider::Endpoint;
use crate::provider::{Detour, Language, anthropic, fit, foreign};
use crate::route::{Deployment, Target, Transport};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::Authority;
use actix_web::http::{StatusCode, Uri};
use awc::Client;
use awc::error::{ConnectError, SendRequestError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use pool::{Fault, Pool};
pub use response::Response;
use secrecy::ExposeSecret;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tls::TlsConfigs;

/// Idle connections are given up after this time.
const IDLE: Duration = Duration::from_secs(30);
/// No connection is used for longer.
const LIFETIME: Duration = Duration::from_secs(300);
/// More of an error body than this says nothing new.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Transports kept before those of older configurations are forgotten.
const MAX_CLIENTS: usize = 256;

/// By the places of a deployment and of its key.
type Requests = HashMap<(usize, usize, Endpoint), Rc<Ready>>;

/// A request beyond what is the same for all calls of a deployment.
#[derive(Debug)]
pub struct Request {
    pub endpoint: Endpoint,
    pub body: Pieces,
    /// The body is an object of texts, and goes as a form with these files.
    pub files: Option<Files>,
    /// For the `anthropic-beta` header.
    pub betas: Vec<Cow<'static, str>>,
    /// Another `anthropic-version` than the usual one.
    pub version: Option<HeaderValue>,
    /// How it is sent, where the endpoint alone does not say.
    pub detour: Option<Box<Detour>>,
}

impl Request {
    /// A call without anything of its own.
    pub fn call(body: Pieces) -> Self {
        Request { endpoint: Endpoint::Call, body, files: None, betas: Vec::new(), version: None, detour: None }
    }
}

const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// A request without its body.
struct Ready {
    pool: Rc<Pool>,
    url: Uri,
    headers: HeaderMap,
    /// The head as it is sent, up to the length of the body.
    head: Vec<u8>,
}

impl Ready {
    fn new(pool: Rc<Pool>, url: Uri, headers: HeaderMap) -> Self {
        let head = head(&url, &headers, &HeaderMap::new());
        Ready { pool, url, headers, head }
    }
}

/// The head of a `POST`, up to the length of the body. Those of `more` stand in the place of others of the same name.
fn head(url: &Uri, headers: &HeaderMap, more: &HeaderMap) -> Vec<u8> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut head = [b"POST ", path.as_bytes(), b" HTTP/1.1\r\n"].concat();
    let kept = headers.iter().filter(|(name, _)| !more.contains_key(*name));
    for (name, value) in kept.chain(more) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"content-length: ");
    head
}

/// A worker's connections to all upstreams.
pub struct Upstream {
    tls: Arc<TlsConfigs>,
    settings: pool::Settings,
    pools: RefCell<HashMap<(Transport, Authority), Rc<Pool>>>,
    /// For what is not a call of a deployment with a JSON body.
    clients: RefCell<HashMap<Transport, Client>>,
    /// Requests without a body, ready to be sent, for the configuration of this generation.
    ready: RefCell<(u64, Requests)>,
    /// Which models providers say they have.
    catalogs: RefCell<catalog::Catalogs>,
}

impl Upstream {
    pub fn new(tls: Arc<TlsConfigs>) -> Self {
        Upstream {
            tls,
            settings: pool::Settings::default(),
            pools: RefCell::default(),
            clients: RefCell::default(),
            ready: RefCell::default(),
            catalogs: RefCell::default(),
        }
    }

    /// Sends `body` to the target and waits for the head of a good answer.
    ///
    /// # Errors
    /// What the upstream answered instead, or why it could not be asked.
    pub async fn send(&self, generation: u64, target: &Target, request: Request) -> Result<Response> {
        let deployment = &*target.deployment;
        if let Some(mock) = target.mock() {
            return Box::pin(mock.answer(deployment, target.model(), request.endpoint)).await;
        }
        let turn = match deployment.keys.len() {
            0 | 1 => 0,
            many => deployment.next_key.fetch_add(1, Ordering::Relaxed) % many,
        };
        let ready = match &request.detour {
            Some(detour) => self.build(target, turn, request.endpoint, Some(detour)).map(Rc::new)?,
            None => self.ready(generation, target, turn, request.endpoint)?,
        };
        let is_anthropic = target.dialect().language == Language::Anthropic;
        let betas = if is_anthropic { betas(deployment, turn, request.betas) } else { None };
        let version = request.version.filter(|_| is_anthropic);
        let body = fit(deployment.place.path(target.dialect()), request.endpoint, request.body);
        let mut headers = HeaderMap::new();
        let given = [(BETA, betas), (VERSION, version)];
        given.into_iter().for_each(|(name, value)| {
            value.map(|value| headers.insert(name, value));
        });
        let predicts = target.dialect().language == Language::Replicate;
        let streams = request.endpoint == Endpoint::Stream;
        if predicts {
            predictions::patience(deployment, streams, &mut headers);
        }
        if let Some(credential) = &deployment.credential {
            Box::pin(credential.show(self, target, request.endpoint, &body, &mut headers)).await?;
        }
        let response = match (&request.files, headers.is_empty()) {
            (Some(files), _) => {
                let is_alone = request.detour.as_ref().is_some_and(|detour| detour.file_alone);
                let form = if is_alone { Outgoing::alone(files) } else { Outgoing::new(&body.join(), files) };
                headers.insert(header::CONTENT_TYPE, form.content_type());
                self.send_form(deployment, &ready, headers, form).await?
            }
            (None, true) => ready.pool.ask(&ready.head, body).await.map_err(|e| unanswered(deployment, e))?,
            (None, false) => {
                let head = head(&ready.url, &ready.headers, &headers);
                ready.pool.ask(&head, body).await.map_err(|e| unanswered(deployment, e))?
            }
        };
        match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED if predicts => {
                return Box::pin(self.predicted(target, turn, response, streams)).await;
            }
            StatusCode::OK => return Ok(response),
            _ => (),
        }
        if let (401, Some(credential)) = (response.status().as_u16(), &deployment.credential) {
            credential.forget();
        }
        Err(Box::pin(refused(target, response)).await)
    }

    async fn send_form(
        &self,
        deployment: &Deployment,
        ready: &Ready,
        more: HeaderMap,
        form: Outgoing,
    ) -> Result<Response> {
        let client = self.client(&deployment.transport).map_err(|e| Error::new(Kind::Internal, e))?;
        let mut request = client.post(ready.url.clone()).no_decompress();
        let headers = request.headers_mut();
        for (name, value) in ready.headers.iter().filter(|(name, _)| !more.contains_key(*name)).chain(&more) {
            headers.append(name.clone(), value.clone());
        }
        let response = request.send_body(form).await.map_err(|e| unsent(deployment, &e))?;
        if response::has_no_body(response.status()) {
            // One of the client's connections may still bring an answer that the next call would take for its own.
            self.clients.borrow_mut().remove(&deployment.transport);
        }
        Ok(response.into())
    }

    fn ready(&self, generation: u64, target: &Target, turn: usize, endpoint: Endpoint) -> Result<Rc<Ready>> {
        let deployment = &*target.deployment;
        // There may be as many of these as callers can think of names; and where a provider's models have several
        // languages, those behind one wildcard have several paths and headers.
        let has_families = !deployment.provider.quirks.families.is_empty();
        if target.is_named() && (has_families || deployment.place.names_model(target.dialect())) {
            return self.build(target, turn, endpoint, None).map(Rc::new);
        }
        let place = (deployment.index, turn, endpoint);
        let mut ready = self.ready.borrow_mut();
        if ready.0 != generation {
            *ready = (generation, HashMap::new());
            // An authority's file may hold another certificate now.
            self.clients.borrow_mut().retain(|transport, _| transport.ca_file.is_none());
            self.pools.borrow_mut().retain(|(transport, _), pool| {
                let is_kept = transport.ca_file.is_none();
                if !is_kept {
                    pool.close();
                }
                is_kept
            });
        }
        if let Some(request) = ready.1.get(&place) {
            return Ok(request.clone());
        }
        let request = Rc::new(self.build(target, turn, endpoint, None)?);
        ready.1.insert(place, request.clone());
        Ok(request)
    }

    fn build(&self, target: &Target, turn: usize, endpoint: Endpoint, detour: Option<&Detour>) -> Result<Ready> {
        let deployment = &*target.deployment;
        let dialect = target.dialect();
        let unbuilt = |e: &dyn std::fmt::Display| {
            Error::new(Kind::Internal, format!("The request to '{}' cannot be built: {e}", deployment.provider.name))
        };
        let url = match detour {
            Some(detour) => deployment.place.url_by(detour),
            None => deployment.place.url(dialect, endpoint, target.model()),
        };
        let url = Uri::try_from(url).map_err(|e| unbuilt(&e))?;
        let authority = url.authority().ok_or_else(|| unbuilt(&"its address names no host"))?;
        let pool = self.pool(&deployment.transport, authority).map_err(|e| Error::new(Kind::Internal, e))?;
        let mut headers = HeaderMap::new();
        if let Some(host) = deployment.calls.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accepted = match endpoint {
            Endpoint::Speech | Endpoint::Transcriptions | Endpoint::Translations => "*/*",
            _ => "application/json, text/event-stream",
        };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accepted));
        // Bodies are read on their way, so they must come as they are.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(key) = deployment.keys.get(turn) {
            let unusable = || {
                Error::new(
                    Kind::Internal,
                    format!(
                        "The key for '{}' holds characters that cannot stand in a header.",
                        deployment.provider.name
                    ),
                )
            };
            let (name, value) =
                deployment.place.auth.unwrap_or(dialect.auth).header(key.expose_secret()).ok_or_else(unusable)?;
            headers.insert(name, value);
        }
        for (name, value) in dialect.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in &deployment.headers {
            headers.insert(name.clone(), value.clone());
        }
        Ok(Ready::new(pool, url, headers))
    }

    fn pool(&self, transport: &Transport, authority: &Authority) -> std::result::Result<Rc<Pool>, String> {
        let mut pools = self.pools.borrow_mut();
        let place = (transport.clone(), authority.clone());
        if let Some(pool) = pools.get(&place) {
            return Ok(pool.clone());
        }
        if pools.len() >= MAX_CLIENTS {
            pools.drain().for_each(|(_, pool)| pool.close());
            self.ready.borrow_mut().1.clear();
        }
        let pool = Rc::new(Pool::new(transport, authority.clone(), &self.tls, self.settings.clone())?);
        pools.insert(place, pool.clone());
        Ok(pool)
    }

    fn client(&self, transport: &Transport) -> std::result::Result<Client, String> {
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients.get(transport) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        let client = connect::client(transport, &self.tls, IDLE, LIFETIME)?;
        clients.insert(transport.clone(), client.clone());
        Ok(client)
    }
}

/// The `anthropic-beta` header: what the operator sets, what the key needs, and what the call needs.
fn betas(deployment: &Deployment, turn: usize, of_call: Vec<Cow<'static, str>>) -> Option<HeaderValue> {
    let is_oauth = deployment.keys.get(turn).is_some_and(|key| anthropic::is_oauth(key.expose_secret()));
    if of_call.is_empty() && !is_oauth {
        return None;
    }
    let operators =
        deployment.headers.iter().find(|(name, _)| *name == BETA).and_then(|(_, value)| value.to_str().ok());
    let mut all: Vec<&str> = Vec::new();
    let of_key = is_oauth.then_some(anthropic::OAUTH_BETA);
    let lists = operators.into_iter().chain(of_key).chain(of_call.iter().map(|beta| &**beta));
    for beta in lists.flat_map(|list| list.split(',')).map(str::trim).filter(|beta| !beta.is_empty()) {
        if !all.contains(&beta) {
            all.push(beta);
        }
    }
    HeaderValue::from_str(&all.join(",")).ok()
}

/// Reads a whole body, at most `limit` bytes.
///
/// # Errors
/// Garbled when it is longer, unreachable when it breaks off.
pub async fn gather(mut response: Response, limit: usize, deployment: &Deployment) -> Result<Bytes> {
    let announced = response.length().unwrap_or(0);
    let too_long = || {
        Error::new(
            Kind::Garbled,
            format!("The answer of '{}' is longer than {limit} bytes (server.answer_limit).", deployment.provider.name),
        )
    };
    if announced > limit {
        return Err(too_long());
    }
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(chunk) = response.next().await {
        let chunk = chunk.map_err(|e| broken_off(deployment, &e))?;
        if whole.len() + pieces.len() + chunk.len() > limit {
            return Err(too_long());
        }
        // An answer that arrives in one piece is not copied.
        if whole.is_empty() && pieces.is_empty() {
            whole = chunk;
            continue;
        }
        if !whole.is_empty() {
            pieces.reserve(announced.max(whole.len() + chunk.len()));
            pieces.extend_from_slice(&std::mem::take(&mut whole));
        }
        pieces.extend_from_slice(&chunk);
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// The upstream went away while it answered.
pub fn broken_off(deployment: &Deployment, why: &dyn std::fmt::Display) -> Error {
    tracing::debug!(deployment = deployment.id, "answer broken off: {why}");
    Error::new(Kind::Garbled, format!("The answer of '{}' broke off before it was complete.", deployment.provider.name))
}

pub fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The name under which a header of an upstream's refusal is told: when to come back and how much is left as they are,
/// and the id that its operators ask for.
fn told(name: &HeaderName) -> Option<HeaderName> {
    match name.as_str() {
        "x-should-retry" => Some(name.clone()),
        n if n.starts_with("retry-after") || n.starts_with("x-ratelimit-") || n.starts_with("anthropic-ratelimit-") => {
            Some(name.clone())
        }
        "x-request-id" => Some(HeaderName::from_static("llm_provider-x-request-id")),
        "request-id" => Some(HeaderName::from_static("llm_provider-request-id")),
        _ => None,
    }
}

/// What an answer with another status than 200 means.
async fn refused(target: &Target, mut response: Response) -> Error {
    let deployment = &*target.deployment;
    let status = response.status();
    let headers = response.headers().iter();
    let mut headers: Vec<_> = headers.filter_map(|(name, value)| Some((told(name)?, value.clone()))).collect();
    let name = response.headers().get("x-amzn-errortype").and_then(|name| name.to_str().ok()).unwrap_or_default();
    let name = name.to_owned();
    let mut body = BytesMut::new();
    // An error body is short and at hand; one that drips is not waited for.
    let read = async {
        while let Some(Ok(chunk)) = response.next().await {
            let room = MAX_ERROR_BODY - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == MAX_ERROR_BODY {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    if status.is_success() || status.is_redirection() || status.is_informational() {
        let message = format!(
            "'{}' answered with the status {} instead of an answer; check api_base.",
            deployment.provider.name,
            status.as_u16()
        );
        return Error::new(Kind::Garbled, message);
    }
    let refusal = foreign::error(target.dialect().language, status, &name, &body);
    if let Some(seconds) = refusal.retry_after
        && !headers.iter().any(|(name, _)| name.as_str().starts_with("retry-after"))
    {
        headers.push((header::RETRY_AFTER, seconds.into()));
    }
    from_upstream(&deployment.origin, refusal.status, &refusal.body).with_headers(headers)
}

fn unanswered(deployment: &Deployment, fault: Fault) -> Error {
    let at = format!("'{}' at {}", deployment.provider.name, deployment.api_base);
    let unreachable = |message| Error::new(Kind::Unreachable, message);
    match fault {
        Fault::Late => {
            unreachable(format!("Could not connect to {at} within {:?}.", deployment.transport.connect_timeout))
        }
        Fault::Unconnected(e) => unreachable(format!("Could not connect to {at}: {e}.")),
        Fault::Unsent(e) => {
            unreachable(format!("{at} closed the connection while it was sent the request: {e}.")).unsent()
        }
        Fault::Closed(None) => unreachable(format!("{at} closed the connection without an answer.")),
        Fault::Closed(Some(e)) => unreachable(format!("{at} closed the connection without an answer: {e}.")),
        Fault::Garbled(e) => Error::new(Kind::Garbled, format!("{at} did not answer in HTTP: {e}.")),
    }
}

/// The same for what the other client sends.
fn unsent(deployment: &Deployment, error: &SendRequestError) -> Error {
    let at = format!("'{}' at {}", deployment.provider.name, deployment.api_base);
    match error {
        SendRequestError::Connect(ConnectError::Timeout) => Error::new(
            Kind::Unreachable,
            format!("Could not connect to {at} within {:?}.", deployment.transport.connect_timeout),
        ),
        SendRequestError::Connect(ConnectError::Disconnected) => {
            Error::new(Kind::Unreachable, format!("{at} closed the connection without an answer."))
        }
        SendRequestError::Connect(e) => Error::new(Kind::Unreachable, format!("Could not connect to {at}: {e}.")),
        SendRequestError::Timeout => Error::new(Kind::Timeout, format!("{at} did not answer in time.")),
        SendRequestError::Response(actix_http::error::ParseError::Io(e)) => {
            Error::new(Kind::Unreachable, format!("{at} closed the connection without an answer: {e}."))
        }
        SendRequestError::Response(e) => Error::new(Kind::Garbled, format!("{at} did not answer in HTTP: {e}.")),
        SendRequestError::Send(e) => {
            Error::new(Kind::Unreachable, format!("{at} closed the connection while it was sent the request: {e}."))
                .unsent()
        }
        other => Error::new(Kind::Internal, format!("The request to {at} could not be sent: {other}.")),
    }
}
