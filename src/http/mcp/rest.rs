//! `/mcp-rest`: tools for those who speak plain JSON, as in LiteLLM.

use super::{Visit, scope, text, visit};
use crate::error::{Error, Kind, Result};
use crate::http::body;
use crate::http::reply::{plain, worker};
use crate::mcp::booking::{self, Booking};
use crate::mcp::grants::{self, Grant};
use crate::mcp::{Asked, Naming, Offered, Tools};
use crate::store::LedgerRow;
use crate::wire::json;
use actix_web::web::{Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Instant;

/// Longer headers are cut in the ledger.
const MOST_TEXT: usize = 256;

/// What a request says of itself.
pub fn said(request: &HttpRequest) -> LedgerRow {
    let header = |name: &str| {
        let value = text(request.headers(), name)?.trim();
        (!value.is_empty()).then(|| value.chars().take(MOST_TEXT).collect::<String>())
    };
    LedgerRow {
        endpoint: request.match_pattern().unwrap_or_default(),
        client_id: header("x-litellm-call-id").or_else(|| header("x-request-id")),
        session_id: header("x-litellm-session-id"),
        trace_id: header("x-litellm-trace-id"),
        end_user: header("x-litellm-customer-id").or_else(|| header("x-litellm-end-user-id")),
        ip: request.peer_addr().map(|address| address.ip().to_string()),
        user_agent: header("user-agent"),
        ..LedgerRow::default()
    }
}

/// `GET /mcp-rest/tools/list?server_id=`
pub async fn list(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let visit = visit(&request).await?;
        let query = Query::<HashMap<String, String>>::from_query(request.query_string());
        let server = query.ok().and_then(|mut query| query.remove("server_id")).filter(|id| !id.is_empty());
        let grants = granted(&visit, server.as_deref())?;
        let found = visit.worker.gateway.mcp.tools(&grants, Naming::Bare, request.headers()).await;
        Ok(HttpResponse::Ok().json(listed(&found)))
    };
    plain(&request, started, result.await)
}

fn granted(visit: &Visit, server: Option<&str>) -> Result<Vec<Grant>> {
    let all = grants::of(&visit.live, &visit.caller);
    match server {
        Some(name) => scope::named(visit, &all, name),
        None => Ok(all),
    }
}

/// LiteLLM's answer: each tool with what is known of its server; an error does not hide the other servers' tools.
fn listed(found: &Tools) -> Value {
    let tools: Vec<Value> = found.tools.iter().map(shown).collect();
    let errors: Map<String, Value> =
        found.missing.iter().map(|(server, fault)| (server.name.clone(), fault.to_string().into())).collect();
    let message = match (found.missing.is_empty(), tools.is_empty()) {
        (true, _) => "Successfully retrieved tools".to_owned(),
        (false, false) => "Some servers are missing; 'errors' says why.".to_owned(),
        (false, true) => "No server has answered; 'errors' says why.".to_owned(),
    };
    let error = if found.missing.is_empty() { Value::Null } else { json!("server_unavailable") };
    json!({"tools": tools, "error": error, "message": message, "errors": errors})
}

fn shown(offered: &Offered) -> Value {
    let mut tool = offered.told();
    // By server_id and its own name it is called.
    tool["name"] = offered.tool.name.as_str().into();
    let server = &offered.server;
    let mut info = json!({"server_name": server.name, "server_id": server.id, "alias": server.prefix});
    for (name, value) in &server.info {
        info[name.as_str()] = value.clone();
    }
    tool["mcp_info"] = info;
    tool
}

/// `POST /mcp-rest/tools/call`
pub async fn call(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let visit = visit(&request).await?;
        let bytes = body::read(&request, payload, visit.live.config.server.body_limit, &visit.worker.clock).await?;
        json::object(&bytes, visit.live.config.server.max_nesting, |_| ())
            .map_err(|fault| Error::invalid(format!("The request body is not acceptable JSON: {}.", fault.what)))?;
        let mut body: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
        let missing = |name: &str| Error::invalid(format!("Missing required parameter: '{name}'.")).at_param(name);
        let name = body["name"].as_str().map(str::to_owned).ok_or_else(|| missing("name"))?;
        let server = body["server_id"].as_str().map(str::to_owned);
        let arguments = match body["arguments"].take() {
            Value::Null => Map::new(),
            Value::Object(arguments) => arguments,
            _ => return Err(Error::invalid("Invalid type for 'arguments': expected an object.").at_param("arguments")),
        };
        let grants = granted(&visit, server.as_deref())?;
        let tool = find(&visit, &grants, &name, &request).await?;
        if let Some(name) = tool.forbidden(&arguments) {
            let shown = crate::envelope::shorten(name);
            let message = format!("The parameter '{shown}' of the tool '{}' may not be given here.", tool.tool.name);
            return Err(Error::new(Kind::Forbidden, message).at_param("arguments"));
        }
        let worker = worker(&request)?;
        let mut booking = Booking::open(worker, &visit.live, &visit.caller, &tool, &said(&request)).await?;
        let asked = Asked { headers: Some(request.headers()), ..Asked::default() };
        let result = worker.gateway.mcp.call(&tool, arguments, asked).await;
        booking.end(&result);
        match result {
            Ok(result) => Ok(HttpResponse::Ok().json(result.told)),
            Err(fault) => Err(booking::error(&fault, &tool.server.name)),
        }
    };
    plain(&request, started, result.await)
}

/// The tool that is called so: by its own name or with its server's before it.
async fn find(visit: &Visit, grants: &[Grant], name: &str, request: &HttpRequest) -> Result<Offered> {
    let separator = &visit.live.config.mcp.tools.separator;
    // Servers whose name stands before the tool's are asked alone, so that nobody waits for another one.
    let likely: Vec<Grant> =
        grants.iter().filter(|g| name.starts_with(&format!("{}{separator}", g.server.prefix))).cloned().collect();
    let mcp = &visit.worker.gateway.mcp;
    let mut missing = Vec::new();
    for grants in [likely.as_slice(), grants] {
        let found = mcp.tools(grants, Naming::Protocol(separator), request.headers()).await;
        let mut of_name = found.tools.into_iter().filter(|tool| tool.name == name || tool.tool.name == name);
        match (of_name.next(), of_name.next()) {
            (Some(tool), None) => return Ok(tool),
            (Some(one), Some(other)) => {
                let message = format!(
                    "Several servers have a tool '{}': say server_id, or call it '{}' or '{}'.",
                    one.tool.name, one.name, other.name
                );
                return Err(Error::invalid(message).at_param("name"));
            }
            _ => missing = found.missing,
        }
    }
    let shown = crate::envelope::shorten(name);
    let mut message = format!("There is no tool '{shown}', or your key may not use it.");
    for (server, fault) in &missing {
        message += &format!(" The server '{}' is missing: {fault}.", server.name);
    }
    Err(Error::new(Kind::NotFound, message).at_param("name"))
}
