//! Streamable HTTP: each message is a POST, answered by one JSON object or by a stream of events.

use super::token::Tokens;
use super::{Ask, Fault, answer_to};
use crate::mcp::questions::Notes;
use crate::mcp::rpc::{self, Message, Revision};
use crate::wire::sse::{self, Content, Events};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Uri};
use awc::error::{ConnectError, SendRequestError};
use awc::{Client, ClientRequest, ClientResponse};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Larger error bodies are not read.
const MOST_ERROR: usize = 64 << 10;
/// Questions of one call at once; more are answered with a refusal.
const MOST_QUESTIONS: usize = 16;

/// A server behind HTTP.
pub struct Http {
    pub client: Client,
    pub url: Uri,
    /// Of every request: the operator's and the caller's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub tokens: Option<Rc<Tokens>>,
    pub session: RefCell<Option<HeaderValue>>,
    /// What was agreed on; said in every request since 2025-06-18.
    pub revision: Cell<Option<Revision>>,
    pub limit: usize,
}

impl Http {
    /// # Errors
    /// Why there is no result.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Value, Fault> {
        let Ask { id, method, params, headers, revision, hear, asked } = ask;
        let mut more = headers;
        if revision.is_some_and(Revision::is_modern) {
            more.push((METHOD, HeaderValue::from_str(method).map_err(|e| Fault::Broken(e.to_string()))?));
            if let Some(name) = rpc::named_by(method).and_then(|member| params[member].as_str())
                && let Ok(value) = HeaderValue::from_str(&rpc::header_text(name))
            {
                more.push((NAME, value));
            }
        }
        let message = Message::Request { id: id.into(), method: method.to_owned(), params };
        let response = self.post(message, revision, &more).await?;
        if let Some(session) = response.headers().get(SESSION)
            && method == "initialize"
        {
            *self.session.borrow_mut() = Some(session.clone());
        }
        self.result(response, id, &*hear, asked.as_ref()).await
    }

    /// # Errors
    /// It could not be sent.
    pub async fn tell(&self, message: Message, revision: Option<Revision>) -> Result<(), Fault> {
        let response = self.post(message, revision, &[]).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Fault::Status(status.as_u16())),
        }
    }

    /// Opens the stream by which the server says what nobody has asked for.
    ///
    /// # Errors
    /// It has none, or cannot be reached.
    pub async fn listen(&self) -> Result<ClientResponse, Fault> {
        let mut request = self.client.get(self.url.clone());
        self.dress(&mut request, self.revision.get()).await?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let response = request.send().await.map_err(|e| unsent(&e))?;
        match response.status() {
            StatusCode::OK if is_stream(response.headers()) => Ok(response),
            status => Err(Fault::Status(status.as_u16())),
        }
    }

    /// Ends the session, if there is one.
    pub async fn close(&self) {
        if self.session.borrow().is_none() {
            return;
        }
        let mut request = self.client.delete(self.url.clone());
        if self.dress(&mut request, self.revision.get()).await.is_ok() {
            let _ = request.send().await;
        }
    }

    /// A stream with a POST of its own, whose answer does not end.
    ///
    /// # Errors
    /// As [`Http::ask`].
    pub async fn subscribe(&self, id: u64, method: &str, params: Value) -> Result<ClientResponse, Fault> {
        let message = Message::Request { id: id.into(), method: method.to_owned(), params };
        let more = [(METHOD, HeaderValue::from_str(method).map_err(|e| Fault::Broken(e.to_string()))?)];
        let response = self.post(message, self.revision.get(), &more).await?;
        match response.status() {
            StatusCode::OK if is_stream(response.headers()) => Ok(response),
            status => Err(Fault::Status(status.as_u16())),
        }
    }

    /// True where it has a token that was got before, and may have been taken back since.
    pub(super) async fn dress(&self, request: &mut ClientRequest, revision: Option<Revision>) -> Result<bool, Fault> {
        let (token, is_old) = match &self.tokens {
            Some(tokens) => tokens.get().await.map(|(token, is_new)| (Some(token), !is_new))?,
            None => (None, false),
        };
        let headers = request.headers_mut();
        if let Some(host) = self.url.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token);
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        if let Some(session) = &*self.session.borrow() {
            headers.insert(SESSION, session.clone());
        }
        if let Some(revision) = revision {
            headers.insert(VERSION, HeaderValue::from_static(revision.name()));
        }
        Ok(is_old)
    }

    async fn post(
        &self,
        message: Message,
        revision: Option<Revision>,
        more: &[(HeaderName, HeaderValue)],
    ) -> Result<ClientResponse, Fault> {
        let body = Bytes::from(message.value().to_string());
        loop {
            let mut request = self.client.post(self.url.clone()).no_decompress();
            let has_old_token = self.dress(&mut request, revision).await?;
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            for (name, value) in more {
                headers.insert(name.clone(), value.clone());
            }
            let response = request.send_body(body.clone()).await.map_err(|e| unsent(&e))?;
            // A token may end before its time. Whoever refuses it has done nothing; a new one is another credential.
            match &self.tokens {
                Some(tokens) if has_old_token && response.status() == StatusCode::UNAUTHORIZED => tokens.forget(),
                _ => return Ok(response),
            }
        }
    }

    async fn result(
        &self,
        response: ClientResponse,
        id: u64,
        hear: &dyn Fn(Message),
        asked: Option<&Notes>,
    ) -> Result<Value, Fault> {
        let status = response.status();
        if status == StatusCode::OK && is_stream(response.headers()) {
            return self.streamed(response, id, hear, asked).await;
        }
        if status == StatusCode::OK {
            let body = gather(response, self.limit).await?;
            return match Message::read(&body) {
                Ok(Message::Response { result, .. }) => result.map_err(Fault::Rpc),
                _ => Err(Fault::Broken("its answer is no message of the protocol".to_owned())),
            };
        }
        if let 401 | 403 = status.as_u16() {
            if let Some(tokens) = &self.tokens {
                tokens.forget();
            }
            return Err(Fault::Refused(status.as_u16()));
        }
        let had_session = self.session.borrow().is_some();
        let body = gather(response, MOST_ERROR).await.unwrap_or_default();
        if let Ok(Message::Response { result: Err(error), .. }) = Message::read(&body) {
            // Whoever has forgotten a session says so by the status, whatever else it says.
            return Err(if status == StatusCode::NOT_FOUND && had_session { Fault::Gone } else { Fault::Rpc(error) });
        }
        Err(match status.as_u16() {
            404 if had_session => Fault::Gone,
            other => Fault::Status(other),
        })
    }

    async fn streamed(
        &self,
        mut response: ClientResponse,
        id: u64,
        hear: &dyn Fn(Message),
        asked: Option<&Notes>,
    ) -> Result<Value, Fault> {
        let mut events = Reader::new(self.limit);
        let mut questions = FuturesUnordered::new();
        loop {
            let message = tokio::select! {
                message = events.next(&mut response) => message?,
                Some(answer) = questions.next(), if !questions.is_empty() => {
                    let _ = self.post(answer, self.revision.get(), &[]).await;
                    continue;
                }
            };
            match message {
                None => return Err(Fault::Broken("its answer broke off".to_owned())),
                Some(Message::Response { id: of, result }) if of.as_u64() == Some(id) => {
                    return result.map_err(Fault::Rpc);
                }
                Some(Message::Response { .. }) => {}
                Some(Message::Request { id, method, params }) => {
                    // Not waited for: its answer to our answer says nothing.
                    match asked.filter(|caller| caller.takes(&method) && questions.len() < MOST_QUESTIONS) {
                        Some(caller) => questions
                            .push(async move { Message::Response { id, result: caller.ask(method, params).await } }),
                        None => drop(self.post(answer_to(&method, id), self.revision.get(), &[]).await),
                    }
                }
                Some(note @ Message::Notification { .. }) => hear(note),
            }
        }
    }
}

/// Messages out of a stream of events.
pub struct Reader {
    events: Events,
    limit: usize,
    /// Whether the event's name is told, too.
    endpoint: Option<String>,
}

impl Reader {
    pub fn new(limit: usize) -> Self {
        Reader { events: Events::new(limit), limit, endpoint: None }
    }

    /// What an event `endpoint` has said (the old transport).
    pub fn endpoint(&mut self) -> Option<String> {
        self.endpoint.take()
    }

    /// The next message; none at the end of the stream. An `endpoint` ends the wait with a message of that name.
    ///
    /// # Errors
    /// The stream is broken, or an event too large.
    pub async fn next(&mut self, response: &mut ClientResponse) -> Result<Option<Message>, Fault> {
        loop {
            match self.events.take() {
                Err(_) => return Err(Fault::TooLarge(self.limit)),
                Ok(Some(event)) => {
                    let Content::Data(data) = sse::content(&event) else { continue };
                    if name(&event) == b"endpoint" {
                        let endpoint = String::from_utf8_lossy(&data).into_owned();
                        self.endpoint = Some(endpoint);
                        let method = "endpoint".to_owned();
                        return Ok(Some(Message::Notification { method, params: Value::Null }));
                    }
                    // An event without data primes a stream that can be resumed.
                    if data.trim_ascii().is_empty() {
                        continue;
                    }
                    match Message::read(&data) {
                        Ok(message) => return Ok(Some(message)),
                        Err(_) => return Err(Fault::Broken("an event of its stream is no message".to_owned())),
                    }
                }
                Ok(None) => match response.next().await {
                    Some(Ok(chunk)) => self.events.push(chunk),
                    Some(Err(e)) => return Err(Fault::Broken(format!("its stream broke off: {e}"))),
                    None => return Ok(None),
                },
            }
        }
    }
}

/// The value of the event's `event` field.
fn name(event: &[u8]) -> &[u8] {
    let lines = event.split(|b| *b == b'\n');
    lines.filter_map(|line| line.strip_prefix(b"event:")).next_back().unwrap_or(b"").trim_ascii()
}

pub fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.len() >= 17 && kind[..17].eq_ignore_ascii_case(b"text/event-stream")
}

/// A whole body of at most `limit` bytes.
///
/// # Errors
/// It is larger, or breaks off.
pub async fn gather(mut response: ClientResponse, limit: usize) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = response.next().await {
        let chunk = chunk.map_err(|e| Fault::Broken(format!("its answer broke off: {e}")))?;
        if whole.len() + chunk.len() > limit {
            return Err(Fault::TooLarge(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Why nothing came back.
pub fn unsent(error: &SendRequestError) -> Fault {
    match error {
        // So the client tells of a connection that was closed behind the request.
        SendRequestError::Connect(ConnectError::Disconnected) => {
            Fault::Broken("it closed the connection without an answer".to_owned())
        }
        SendRequestError::Connect(e) => Fault::Unreached(e.to_string()),
        SendRequestError::Url(e) => Fault::Unreached(e.to_string()),
        // From here on it may have been read.
        other => Fault::Broken(format!("it closed the connection without an answer ({other})")),
    }
}
