//! The transport of 2024-11-05, for old clients: a stream of events from the gateway, and a POST for each message to it.
//!
//! The stream is with one worker and a message may come to another, so that open streams are known to the process.

use super::answer::{event, is_for_old, streaming};
use super::methods::Session;
use super::{scope, visit};
use crate::auth::Caller;
use crate::error::{Error, Kind, Result};
use crate::http::body;
use crate::http::mcp::rest;
use crate::mcp::rpc::Message;
use crate::mcp::streams::new_id;
use crate::mcp::{Cancel, Notes};
use actix_web::web::{Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream;
use std::collections::HashMap;
use std::time::Instant;
use tokio::sync::mpsc;

/// Messages that a client has not read.
const QUEUE: usize = 64;

fn key(caller: &Caller) -> Option<String> {
    caller.key_id().map(str::to_owned)
}

/// `GET /sse`, `GET /mcp/sse`
pub async fn open(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let visit = visit(&request).await?;
        scope::of(&visit, &request)?;
        let gateway = visit.worker.gateway.clone();
        let id = new_id();
        let (out, incoming) = mpsc::channel(QUEUE);
        let kept = gateway.mcp.streams.open(id.clone(), out, key(&visit.caller));
        let kept = kept.ok_or_else(|| Error::new(Kind::Unreachable, "Too many streams are open; try again later."))?;
        let path = request.match_info().as_str();
        let root = path.strip_suffix("/mcp/sse").or_else(|| path.strip_suffix("/sse")).unwrap_or_default();
        let first = Bytes::from(format!("event: endpoint\ndata: {root}/mcp/sse/messages?session_id={id}\n\n"));
        let pulse = visit.live.config.server.keep_alive;
        let state = (Some(first), incoming, kept, gateway);
        Ok(streaming(stream::unfold(state, move |(first, mut incoming, kept, gateway)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, incoming, kept, gateway)));
            }
            let bytes = match tokio::time::timeout(pulse, incoming.recv()).await {
                Ok(bytes) => bytes?,
                Err(_) if gateway.ending.is_draining() => return None,
                Err(_) => Bytes::from_static(b": ping\n\n"),
            };
            Some((Ok(bytes), (None, incoming, kept, gateway)))
        })))
    };
    super::finish(&request, started, result.await)
}

/// `POST /mcp/sse/messages?session_id=`
pub async fn take(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let visit = visit(&request).await?;
        let bytes = body::read(&request, payload, visit.live.config.server.body_limit, &visit.worker.clock).await?;
        let query = Query::<HashMap<String, String>>::from_query(request.query_string());
        let id = query.ok().and_then(|mut query| query.remove("session_id")).unwrap_or_default();
        let out = stream_of(&visit, &id)?;
        let scope = scope::of(&visit, &request)?;
        match Message::read(&bytes) {
            Ok(Message::Request { id: request_id, method, params }) => match is_for_old(&method) {
                Err(error) => {
                    let _ = out.try_send(event(&Message::Response { id: request_id, result: Err(error) }));
                }
                Ok(revision) => {
                    let headers = request.headers().clone();
                    let mcp = &visit.worker.gateway;
                    let cancel = Cancel::default();
                    let open = mcp.mcp.requests.begin(&id, &request_id, &cancel);
                    let session = Session { visit, scope, revision, headers, said: rest::said(&request) };
                    actix_web::rt::spawn(async move {
                        let _open = open;
                        let (tell, mut notes) = mpsc::channel(QUEUE);
                        let work = session.answer(&method, params, Some(Notes::new(tell)), cancel);
                        let mut work = std::pin::pin!(work);
                        let result = loop {
                            tokio::select! {
                                biased;
                                Some(note) = notes.recv() => drop(out.try_send(event(&note))),
                                result = &mut work => break result,
                            }
                        };
                        let _ = out.send(event(&Message::Response { id: request_id, result })).await;
                    });
                }
            },
            Ok(Message::Notification { method, params }) => {
                if method == "notifications/cancelled" {
                    visit.worker.gateway.mcp.requests.cancel(&id, &params["requestId"]);
                }
            }
            Ok(Message::Response { .. }) => {}
            Err(error) => return Ok(super::refused(serde_json::Value::Null, &error)),
        }
        Ok(HttpResponse::Accepted().body("Accepted"))
    };
    super::finish(&request, started, result.await)
}

fn stream_of(visit: &super::Visit, id: &str) -> Result<mpsc::Sender<Bytes>> {
    let unknown = || Error::new(Kind::NotFound, "Could not find this session; open a new stream.");
    visit.worker.gateway.mcp.streams.find(id, visit.caller.key_id()).ok_or_else(unknown)
}
