//! How an answer goes out: as one JSON object, or as a stream where there is something to say before it.

use super::methods::Session;
use super::scope::Scope;
use super::{SESSION, Visit, status, text};
use crate::mcp::questions::Asks;
use crate::mcp::rpc::{self, Message, Revision, RpcError, meta};
use crate::mcp::{Cancel, Change, Notes};
use actix_web::HttpResponse;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until};

/// A result, or the protocol's error.
pub type Answer = Result<Value, RpcError>;

/// What a client may be told before it reads.
const NOTES: usize = 64;

/// Answers a request.
pub async fn give(session: Session, id: Value, method: String, params: Value) -> HttpResponse {
    if method == "subscriptions/listen" && session.revision.is_modern() {
        let wanted = Wanted { id, notifications: params["notifications"].clone() };
        return changes(&session.visit, &session.scope, Some(wanted));
    }
    let accept = text(&session.headers, ACCEPT.as_str()).unwrap_or_default();
    let (takes_json, takes_stream) =
        (accept.is_empty() || accept.contains("json") || accept.contains("*/*"), accept.contains("text/event-stream"));
    let revision = session.revision;
    let server = &session.visit.live.config.server;
    let (commit, pulse) = (server.early_commit.unwrap_or(Duration::from_secs(15)), server.keep_alive);
    let mcp_session = text(&session.headers, "mcp-session-id").unwrap_or_default().to_owned();
    let (tell, mut notes) = mpsc::channel(NOTES);
    let cancel = Cancel::default();
    let gateway = session.visit.worker.gateway.clone();
    let open = gateway.mcp.requests.begin(&mcp_session, &id, &cancel);
    let tell = Notes::asking(tell, &gateway.mcp.questions, &mcp_session);
    // What the client can be asked is known by its session from now on.
    let asks = (method == "initialize").then(|| Asks::of(&params["capabilities"]));
    let mut work: LocalBoxFuture<'static, Answer> = async move {
        let _open = open;
        session.answer(&method, params, takes_stream.then_some(tell), cancel).await
    }
    .boxed_local();
    let first = tokio::select! {
        biased;
        answer = &mut work => Err(answer),
        Some(note) = notes.recv(), if takes_stream => Ok(Some(note)),
        () = tokio::time::sleep(commit), if takes_stream => Ok(None),
    };
    // What was said before the answer goes before it, however close the two are.
    let first = match first {
        Err(answer) => match notes.try_recv() {
            Ok(note) => {
                work = std::future::ready(answer).boxed_local();
                Ok(Some(note))
            }
            Err(_) => Err(answer),
        },
        heard => heard,
    };
    let note = match first {
        Ok(note) => note,
        Err(answer) if takes_json || !takes_stream => {
            let code = status(revision, &answer);
            let mut response = HttpResponse::build(code);
            if let (Some(asks), true) = (asks, answer.is_ok())
                && let Ok(value) = HeaderValue::from_str(&asks.new_session())
            {
                response.insert_header((SESSION, value));
            }
            return response.json(Message::Response { id, result: answer }.value());
        }
        Err(answer) => {
            let last = event(&Message::Response { id, result: answer });
            return streaming(stream::once(async move { Ok(last) }));
        }
    };
    let state = Some(Open { work, notes, id, pulse, first: note });
    streaming(stream::unfold(state, |state| async move {
        let mut open = state?;
        if let Some(note) = open.first.take() {
            return Some((Ok(event(&note)), Some(open)));
        }
        let pause = sleep_until(Instant::now() + open.pulse);
        tokio::select! {
            biased;
            Some(note) = open.notes.recv() => Some((Ok(event(&note)), Some(open))),
            result = &mut open.work => {
                let mut last = Vec::new();
                while let Ok(note) = open.notes.try_recv() {
                    last.extend_from_slice(&event(&note));
                }
                last.extend_from_slice(&event(&Message::Response { id: open.id, result }));
                Some((Ok(Bytes::from(last)), None))
            }
            () = pause => Some((Ok(Bytes::from_static(b": keep-alive\n\n")), Some(open))),
        }
    }))
}

struct Open {
    work: LocalBoxFuture<'static, Answer>,
    notes: mpsc::Receiver<Message>,
    id: Value,
    pulse: Duration,
    first: Option<Message>,
}

pub fn event(message: &Message) -> Bytes {
    Bytes::from(format!("event: message\ndata: {}\n\n", message.clone().value()))
}

pub fn streaming(events: impl stream::Stream<Item = Result<Bytes, Infallible>> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header(("x-accel-buffering", HeaderValue::from_static("no")))
        .streaming(events)
}

/// What a client of 2026-07-28 wants to hear.
pub struct Wanted {
    id: Value,
    notifications: Value,
}

/// A stream of what changes at the servers that the client may use.
pub fn changes(visit: &Visit, scope: &Scope, wanted: Option<Wanted>) -> HttpResponse {
    let servers: Vec<String> = scope.grants.iter().map(|grant| grant.server.name.clone()).collect();
    let pulse = visit.live.config.server.keep_alive;
    let hears = visit.worker.gateway.mcp.changes();
    let gateway = visit.worker.gateway.clone();
    let first = match &wanted {
        Some(wanted) => event(&noted(
            "notifications/subscriptions/acknowledged",
            json!({"notifications": wanted.notifications}),
            Some(wanted),
        )),
        None => Bytes::from_static(b": open\n\n"),
    };
    let state = (hears, servers, wanted, gateway);
    let rest = stream::unfold(state, move |(mut hears, servers, wanted, gateway)| async move {
        loop {
            let next = tokio::time::timeout(pulse, hears.recv()).await;
            if gateway.ending.is_draining() {
                return None;
            }
            let bytes = match next {
                Ok(Ok(change)) => match change_event(&change, &servers, wanted.as_ref()) {
                    Some(bytes) => bytes,
                    None => continue,
                },
                // Whoever has missed something looks at everything.
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                    event(&noted("notifications/tools/list_changed", Value::Null, wanted.as_ref()))
                }
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Err(_) => Bytes::from_static(b": keep-alive\n\n"),
            };
            return Some((Ok(bytes), (hears, servers, wanted, gateway)));
        }
    });
    streaming(stream::once(async move { Ok(first) }).chain(rest))
}

fn change_event((server, of): &Change, servers: &[String], wanted: Option<&Wanted>) -> Option<Bytes> {
    if server != crate::mcp::EVERY && !servers.contains(server) {
        return None;
    }
    let method = match of.as_str() {
        "tools" => "notifications/tools/list_changed",
        "prompts" => "notifications/prompts/list_changed",
        "resources" => "notifications/resources/list_changed",
        _ => return None,
    };
    let member = match of.as_str() {
        "tools" => "toolsListChanged",
        "prompts" => "promptsListChanged",
        _ => "resourcesListChanged",
    };
    if wanted.is_some_and(|wanted| wanted.notifications[member] != true) {
        return None;
    }
    Some(event(&noted(method, Value::Null, wanted)))
}

fn noted(method: &str, mut params: Value, wanted: Option<&Wanted>) -> Message {
    if let Some(wanted) = wanted {
        params["_meta"] = json!({meta::SUBSCRIPTION: wanted.id});
    }
    Message::Notification { method: method.to_owned(), params }
}

/// Whether the old transport may be used with this method.
pub fn is_for_old(method: &str) -> Result<Revision, RpcError> {
    match method {
        "server/discover" | "subscriptions/listen" => {
            Err(RpcError::new(rpc::NO_METHOD, "This transport is of the revision 2024-11-05."))
        }
        _ => Ok(Revision::V2024_11_05),
    }
}
