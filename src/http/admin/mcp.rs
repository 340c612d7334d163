//! Servers of tools, and sets of them, at run time: `/v1/mcp/server` and `/v1/mcp/toolset`, with LiteLLM's requests and
//! answers. What the configuration declares is locked, and no program is named here.

use super::desk::{Body, Desk, run, run_as};
use super::models::{id_of, locked, merged, not_found, stored, take_away, write};
use super::times;
use crate::config::mcp::{self, Server};
use crate::config::stored::{MCP_SERVER, TOOLSET};
use crate::error::{Error, Kind, Result};
use crate::http::mcp::servers;
use crate::mcp::Fault;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/mcp/server"),
    ("POST", "/v1/mcp/server"),
    ("PUT", "/v1/mcp/server"),
    ("GET", "/v1/mcp/server/health"),
    ("GET", "/v1/mcp/server/{id}"),
    ("DELETE", "/v1/mcp/server/{id}"),
    ("GET", "/v1/mcp/toolset"),
    ("POST", "/v1/mcp/toolset"),
    ("PUT", "/v1/mcp/toolset"),
    ("GET", "/v1/mcp/toolset/{id}"),
    ("DELETE", "/v1/mcp/toolset/{id}"),
    ("POST", "/mcp-rest/test/connection"),
    ("POST", "/mcp-rest/test/tools/list"),
];

/// Records of one kind.
const MOST: usize = 1000;

// Under one path each method is another act; the statuses are LiteLLM's.

pub async fn servers(request: HttpRequest, payload: Payload) -> HttpResponse {
    match *request.method() {
        Method::POST => run_as(StatusCode::CREATED, request, payload, new_server).await,
        Method::PUT => run_as(StatusCode::ACCEPTED, request, payload, change_server).await,
        _ => servers::list(request).await,
    }
}

pub async fn server(request: HttpRequest, payload: Payload) -> HttpResponse {
    if *request.method() != Method::DELETE {
        return servers::one(request).await;
    }
    let id = id_of(&request);
    run_as(StatusCode::ACCEPTED, request, payload, |desk, _| delete_server(desk, id)).await
}

pub async fn toolsets(request: HttpRequest, payload: Payload) -> HttpResponse {
    match *request.method() {
        Method::POST => run_as(StatusCode::CREATED, request, payload, new_toolset).await,
        Method::PUT => run_as(StatusCode::ACCEPTED, request, payload, change_toolset).await,
        _ => servers::toolsets(request).await,
    }
}

pub async fn toolset(request: HttpRequest, payload: Payload) -> HttpResponse {
    if *request.method() != Method::DELETE {
        return servers::toolset(request).await;
    }
    let id = id_of(&request);
    run_as(StatusCode::ACCEPTED, request, payload, |desk, _| delete_toolset(desk, id)).await
}

/// The id that the request gives the record, or a new one.
fn id_for(body: &Body, name: &str) -> Result<String> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(crate::meter::new_id().to_string()),
        Some(Value::String(id)) if mcp::is_name(id) => Ok(id.clone()),
        Some(_) => {
            let what = format!("'{name}' must be at most 64 letters, digits, '_', '-' or '.'.");
            Err(Error::invalid(what).at_param(name))
        }
    }
}

fn given_id(body: &Body, name: &str) -> Result<String> {
    let id = body.get(name).and_then(Value::as_str).filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| Error::invalid(format!("Missing required parameter: '{name}'.")).at_param(name))
}

/// The record with who has made it, and when.
fn signed(desk: &Desk, mut record: Map<String, Value>) -> Map<String, Value> {
    let (at, by) = (Value::from(times::iso(desk.at)), Value::from(desk.by()));
    for (name, value) in [("created_at", &at), ("created_by", &by)] {
        record.entry(name).or_insert_with(|| value.clone());
    }
    record.insert("updated_at".to_owned(), at);
    record.insert("updated_by".to_owned(), by);
    record
}

/// Nobody says himself who made a record.
fn unsigned(mut body: Body) -> Body {
    for name in ["created_at", "created_by", "updated_at", "updated_by"] {
        body.shift_remove(name);
    }
    body
}

/// The server of this record, if it can be served beside the others.
fn checked(desk: &Desk, id: &str, record: &Map<String, Value>) -> Result<Server> {
    let mcp = &desk.live.config.mcp;
    let server = mcp::stored::server(id, record, &mcp.tools.separator)
        .map_err(|why| Error::invalid(format!("This MCP server cannot be served: {why}.")))?;
    match mcp::stored::taken(mcp, &server) {
        None => Ok(server),
        Some(name) => {
            let what = format!("An MCP server or a set of tools is called '{name}' already; choose another name.");
            Err(Error::invalid(what).at_param("server_name"))
        }
    }
}

fn told(server: &Server, record: &Map<String, Value>) -> Value {
    let mut row = servers::shown(server, None, true);
    for name in ["created_at", "created_by", "updated_at", "updated_by"] {
        row[name] = record.get(name).cloned().unwrap_or_default();
    }
    row
}

async fn new_server(desk: Desk, body: Body) -> Result<Value> {
    desk.admin_only()?;
    let id = id_for(&body, "server_id")?;
    let kept = stored(&desk).await?;
    if kept.mcp_servers.contains_key(&id) {
        let what = "An MCP server of this id is stored already; change it with PUT.";
        return Err(Error::invalid(what).at_param("server_id"));
    }
    if kept.mcp_servers.len() >= MOST {
        return Err(Error::invalid(format!("There are {MOST} MCP servers; delete one first.")));
    }
    let mut record = signed(&desk, unsigned(body));
    record.insert("server_id".to_owned(), id.clone().into());
    let server = checked(&desk, &id, &record)?;
    write(&desk, MCP_SERVER, &id, record.clone().into()).await?;
    Ok(told(&server, &record))
}

/// Whether the configuration has a server or set of that name.
fn is_declared(desk: &Desk, id: &str) -> bool {
    let mcp = &desk.live.config.mcp;
    mcp.servers.iter().any(|server| server.is_declared && server.is_called(id))
}

async fn change_server(desk: Desk, body: Body) -> Result<Value> {
    desk.admin_only()?;
    let id = given_id(&body, "server_id")?;
    if is_declared(&desk, &id) {
        return Err(locked("This MCP server"));
    }
    let old = stored(&desk).await?.mcp_servers.remove(&id).ok_or_else(|| not_found("MCP server", &id))?;
    let mut body = unsigned(body);
    // Of credentials each is a setting of its own.
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old.get("credentials"), body.get("credentials")) {
        let both = merged(old.clone(), new.clone());
        body.insert("credentials".to_owned(), both.into());
    }
    let record = signed(&desk, merged(old, body));
    let server = checked(&desk, &id, &record)?;
    write(&desk, MCP_SERVER, &id, record.clone().into()).await?;
    Ok(told(&server, &record))
}

async fn delete_server(desk: Desk, id: String) -> Result<Value> {
    desk.admin_only()?;
    if is_declared(&desk, &id) {
        return Err(locked("This MCP server"));
    }
    match take_away(&desk, MCP_SERVER, &id).await? {
        true => Ok(json!({"server_id": id, "message": format!("MCP server {id} is deleted.")})),
        false => Err(not_found("MCP server", &id)),
    }
}

fn checked_set(desk: &Desk, id: &str, record: &Map<String, Value>) -> Result<Value> {
    let set = mcp::stored::toolset(id, record)
        .map_err(|why| Error::invalid(format!("This set of tools cannot be served: {why}.")))?;
    let mcp = &desk.live.config.mcp;
    let is_taken =
        mcp.tools.sets.iter().any(|known| (known.is_declared || known.id != id) && known.is_called(&set.name))
            || mcp.servers.iter().any(|server| server.is_called(&set.name));
    if is_taken {
        let what = format!("An MCP server or a set of tools is called '{}' already; choose another name.", set.name);
        return Err(Error::invalid(what).at_param("toolset_name"));
    }
    if let Some((server, _)) = set.tools.iter().find(|(server, _)| !mcp.servers.iter().any(|s| s.is_called(server))) {
        let what = format!("There is no MCP server '{}'.", crate::envelope::shorten(server));
        return Err(Error::invalid(what).at_param("tools"));
    }
    let mut row = servers::told_set(&set, &set.tools);
    for name in ["created_at", "created_by", "updated_at", "updated_by"] {
        row[name] = record.get(name).cloned().unwrap_or_default();
    }
    Ok(row)
}

async fn new_toolset(desk: Desk, body: Body) -> Result<Value> {
    desk.admin_only()?;
    let id = id_for(&body, "toolset_id")?;
    let kept = stored(&desk).await?;
    if kept.toolsets.contains_key(&id) {
        let what = "A set of tools of this id is stored already; change it with PUT.";
        return Err(Error::invalid(what).at_param("toolset_id"));
    }
    if kept.toolsets.len() >= MOST {
        return Err(Error::invalid(format!("There are {MOST} sets of tools; delete one first.")));
    }
    let record = signed(&desk, unsigned(body));
    let row = checked_set(&desk, &id, &record)?;
    write(&desk, TOOLSET, &id, record.into()).await?;
    Ok(row)
}

fn is_declared_set(desk: &Desk, id: &str) -> bool {
    desk.live.config.mcp.tools.sets.iter().any(|set| set.is_declared && set.is_called(id))
}

async fn change_toolset(desk: Desk, body: Body) -> Result<Value> {
    desk.admin_only()?;
    let id = given_id(&body, "toolset_id")?;
    if is_declared_set(&desk, &id) {
        return Err(locked("This set of tools"));
    }
    let old = stored(&desk).await?.toolsets.remove(&id).ok_or_else(|| not_found("set of tools", &id))?;
    let record = signed(&desk, merged(old, unsigned(body)));
    let row = checked_set(&desk, &id, &record)?;
    write(&desk, TOOLSET, &id, record.into()).await?;
    Ok(row)
}

async fn delete_toolset(desk: Desk, id: String) -> Result<Value> {
    desk.admin_only()?;
    if is_declared_set(&desk, &id) {
        return Err(locked("This set of tools"));
    }
    match take_away(&desk, TOOLSET, &id).await? {
        true => Ok(json!({"toolset_id": id, "message": format!("Set of tools {id} is deleted.")})),
        false => Err(not_found("set of tools", &id)),
    }
}

/// `POST /mcp-rest/test/connection`: whether a server that is not stored yet would answer.
pub async fn test_connection(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        Ok(match tried(&desk, &body).await? {
            Ok(tools) => {
                json!({"status": "ok", "message": "Connection to MCP server successful", "tools": tools.len()})
            }
            Err(fault) => json!({"status": "error", "error": true, "message": fault.to_string()}),
        })
    })
    .await
}

/// `POST /mcp-rest/test/tools/list`: the tools of a server that is not stored yet.
pub async fn test_tools(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        Ok(match tried(&desk, &body).await? {
            Ok(tools) => json!({"tools": tools, "error": null, "message": "Successfully retrieved tools"}),
            Err(fault) => json!({"tools": [], "error": "connection_error", "message": fault.to_string()}),
        })
    })
    .await
}

/// Connects to the server that the body describes. Administrators alone may have an address called.
async fn tried(desk: &Desk, body: &Body) -> Result<std::result::Result<Vec<Value>, Fault>> {
    desk.admin_only()?;
    let mut record = body.clone();
    record.entry("server_name").or_insert_with(|| "test".into());
    let id = crate::meter::new_id().to_string();
    let separator = &desk.live.config.mcp.tools.separator;
    let mut server = mcp::stored::server(&id, &record, separator)
        .map_err(|why| Error::invalid(format!("This MCP server cannot be served: {why}.")))?;
    // Its session is its own, whatever it is called.
    server.name = id;
    let found = desk.gateway.mcp.try_out(&Arc::new(server)).await;
    match found {
        Err(Fault::Dropped) => Err(Error::new(Kind::Stopping, "The gateway is stopping.")),
        found => Ok(found),
    }
}
