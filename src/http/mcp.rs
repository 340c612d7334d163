//! The gateway as a server of tools: streamable HTTP for clients of every revision of the Model Context Protocol.
//!
//! No session is kept: what a request needs it says itself. The id that a client of an old revision gets is only there so
//! that its `cancelled` finds the request that it means, and to say what the client can be asked.

mod answer;
mod methods;
mod old;
pub mod rest;
mod scope;
pub mod servers;

pub use old::{open as sse, take as sse_message};

use super::{body, reply};
use crate::auth::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::gateway::{Live, Worker};
use crate::mcp::rpc::{self, Message, Revision, RpcError, meta};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use answer::Answer;
use methods::Session;
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: &str = "mcp-protocol-version";

/// Who asks, and for which servers.
pub struct Visit {
    pub worker: Rc<Worker>,
    pub live: Arc<Live>,
    pub caller: Caller,
}

/// `POST`: one message.
pub async fn post(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let visit = visit(&request).await?;
        let bytes = body::read(&request, payload, visit.live.config.server.body_limit, &visit.worker.clock).await?;
        let scope = scope::of(&visit, &request)?;
        Ok(match Message::read(&bytes) {
            Ok(Message::Request { id, method, params }) => {
                let revision = match revision(request.headers(), &method, &params) {
                    Ok(revision) => revision,
                    Err(error) => return Ok(refused(id, &error)),
                };
                let session =
                    Session { visit, scope, revision, headers: request.headers().clone(), said: rest::said(&request) };
                answer::give(session, id, method, params).await
            }
            Ok(Message::Notification { method, params }) => {
                if method == "notifications/cancelled" {
                    let session = text(request.headers(), "mcp-session-id").unwrap_or_default();
                    visit.worker.gateway.mcp.requests.cancel(session, &params["requestId"]);
                }
                HttpResponse::Accepted().finish()
            }
            Ok(Message::Response { id, result }) => {
                let session = text(request.headers(), "mcp-session-id").unwrap_or_default();
                visit.worker.gateway.mcp.questions.answer(session, &id, result);
                HttpResponse::Accepted().finish()
            }
            Err(error) => refused(Value::Null, &error),
        })
    };
    finish(&request, started, result.await)
}

/// `GET`: what changes, for clients of old revisions.
pub async fn get(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let visit = visit(&request).await?;
        let scope = scope::of(&visit, &request)?;
        let is_modern = text(request.headers(), VERSION).and_then(Revision::of).is_some_and(Revision::is_modern);
        let takes = text(request.headers(), ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"));
        if is_modern || !takes {
            return Err(Error::new(
                Kind::MethodNotAllowed,
                "This is an endpoint of the Model Context Protocol; its clients POST messages to it.",
            ));
        }
        Ok(answer::changes(&visit, &scope, None))
    };
    finish(&request, started, result.await)
}

/// `DELETE`: the end of a session, of which nothing is kept.
pub async fn delete(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = visit(&request).await.map(|_| HttpResponse::NoContent().finish());
    finish(&request, started, result)
}

fn finish(request: &HttpRequest, started: Instant, result: Result<HttpResponse>) -> HttpResponse {
    let is_unknown = matches!(&result, Err(error) if error.status() == StatusCode::UNAUTHORIZED);
    let mut response = reply::plain(request, started, result);
    if is_unknown {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Who asks, if it may come from there.
async fn visit(request: &HttpRequest) -> Result<Visit> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    guard(&live, request.headers())?;
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    Ok(Visit { worker, live, caller })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Against web pages that reach a server of the house through its visitor's browser (DNS rebinding).
///
/// # Errors
/// 403 for a host or an origin that is not the gateway's.
fn guard(live: &Live, headers: &HeaderMap) -> Result<()> {
    let server = &live.config.server;
    let ours = server.public_url.as_deref().and_then(|url| url.parse::<actix_web::http::Uri>().ok());
    let our_host = ours.as_ref().and_then(|url| url.host());
    let refused =
        |what: &str| Error::new(Kind::Forbidden, format!("{what} server.public_url says where this gateway is."));
    let host = text(headers, HOST.as_str()).unwrap_or_default();
    // Without public_url nobody knows the names of this gateway; then the key is what a web page does not have.
    let is_checked = our_host.is_some() || live.config.master_key.is_none();
    if is_checked && !is_address(bare(host)) && !our_host.is_some_and(|ours| ours.eq_ignore_ascii_case(bare(host))) {
        return Err(refused("This host is not served."));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("null");
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let is_known = server.cors_origins.iter().any(|known| known == origin || known == "*")
        || (!authority.is_empty() && authority.eq_ignore_ascii_case(host))
        || our_host.is_some_and(|ours| ours.eq_ignore_ascii_case(bare(authority)))
        || is_loopback(bare(authority));
    if is_known { Ok(()) } else { Err(refused("Requests of this origin are not served.")) }
}

/// A host without its port.
fn bare(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok() || is_loopback(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The revision that a request is made in.
///
/// # Errors
/// It says different things about it, or names none that is known.
fn revision(headers: &HeaderMap, method: &str, params: &Value) -> std::result::Result<Revision, RpcError> {
    let said = text(headers, VERSION);
    let in_body = params["_meta"][meta::VERSION].as_str();
    let unknown = |version: &str| {
        let supported: Vec<&str> = Revision::ALL.into_iter().map(Revision::name).collect();
        let shown: String = version.chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
        RpcError::new(rpc::VERSION, format!("Revision '{shown}' of the protocol is not supported."))
            .with(json!({"supported": supported, "requested": shown}))
    };
    if in_body.is_none() && !said.and_then(Revision::of).is_some_and(Revision::is_modern) && method != "server/discover"
    {
        return match said {
            _ if method == "initialize" => Ok(Revision::NEWEST_LEGACY),
            Some(version) => Revision::of(version).ok_or_else(|| unknown(version)),
            // As the specification has it for clients that say nothing.
            None => Ok(Revision::V2025_03_26),
        };
    }
    let mismatch = |what: String| RpcError::new(rpc::HEADERS, what);
    let Some(in_body) = in_body else {
        return Err(RpcError::new(rpc::PARAMS, format!("'_meta' must have '{}'.", meta::VERSION)));
    };
    match said {
        None => return Err(mismatch("The header MCP-Protocol-Version is missing.".to_owned())),
        Some(said) if said != in_body => {
            return Err(mismatch("MCP-Protocol-Version and the body's protocolVersion differ.".to_owned()));
        }
        Some(_) => {}
    }
    let revision = Revision::of(in_body).filter(|r| r.is_modern()).ok_or_else(|| unknown(in_body))?;
    if !params["_meta"][meta::CAPABILITIES].is_object() {
        return Err(RpcError::new(rpc::PARAMS, format!("'_meta' must have '{}'.", meta::CAPABILITIES)));
    }
    if text(headers, "mcp-method") != Some(method) {
        return Err(mismatch("The header Mcp-Method is missing, or differs from the method.".to_owned()));
    }
    if let Some(member) = rpc::named_by(method) {
        let named = text(headers, "mcp-name").and_then(rpc::header_value);
        if named.as_deref() != params[member].as_str() {
            return Err(mismatch(format!("The header Mcp-Name is missing, or differs from '{member}'.")));
        }
    }
    Ok(revision)
}

/// A message that cannot be served at all.
fn refused(id: Value, error: &RpcError) -> HttpResponse {
    let message = Message::Response { id, result: Err(error.clone()) };
    HttpResponse::BadRequest().json(message.value())
}

/// The status of an answer: since 2026-07-28 it says something.
fn status(revision: Revision, answer: &Answer) -> StatusCode {
    match answer {
        Err(error) if revision.is_modern() => match error.code {
            rpc::NO_METHOD => StatusCode::NOT_FOUND,
            rpc::HEADERS | rpc::VERSION | rpc::CAPABILITY => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        },
        _ => StatusCode::OK,
    }
}
