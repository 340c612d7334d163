//! `/v1/mcp`: which servers of tools there are, and how they are.

use super::visit;
use crate::auth::Caller;
use crate::config::mcp::{Auth, Reach, Server, Toolset};
use crate::error::{Error, Kind, Result};
use crate::http::reply::plain;
use crate::mcp::grants::{self, Grant};
use crate::mcp::{Health, Naming};
use actix_web::web::Query;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// `GET /v1/mcp/server`
pub async fn list(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, _| {
        let mcp = &visit.worker.gateway.mcp;
        let health = mcp.health();
        let all = granted(&visit);
        let open = is_operator(&visit.caller);
        Ok(Value::Array(all.iter().map(|g| shown(&g.server, health.get(&g.server.name), open)).collect()))
    })
    .await
}

/// `GET /v1/mcp/server/{id}`
pub async fn one(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, request| {
        let id = crate::http::reply::path_part(request, "id").unwrap_or_default().into_owned();
        let all = granted(&visit);
        let found = all.iter().find(|grant| grant.server.is_called(&id));
        let grant = found.ok_or_else(|| {
            let shown = crate::envelope::shorten(&id);
            Error::new(Kind::NotFound, format!("There is no MCP server '{shown}', or your key may not use it."))
        })?;
        let health = visit.worker.gateway.mcp.health();
        Ok(shown(&grant.server, health.get(&grant.server.name), is_operator(&visit.caller)))
    })
    .await
}

/// `GET /v1/mcp/server/health?server_ids=`: each server is asked now.
pub async fn health(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, request| {
        let query = Query::<Vec<(String, String)>>::from_query(request.query_string());
        let query = query.map(Query::into_inner).unwrap_or_default();
        let wanted: Vec<&str> =
            query.iter().filter(|(name, _)| name == "server_ids").map(|(_, id)| id.as_str()).collect();
        let is_wanted = |server: &Server| wanted.is_empty() || wanted.iter().any(|name| server.is_called(name));
        let servers: Vec<_> =
            granted(&visit).into_iter().map(|grant| grant.server).filter(|server| is_wanted(server)).collect();
        let mcp = &visit.worker.gateway.mcp;
        let probed = join_all(servers.iter().map(async |server| {
            let started = Instant::now();
            (server, mcp.probe(server).await, started.elapsed())
        }))
        .await;
        let rows = probed.into_iter().map(|(server, result, took)| {
            let (status, error) = match &result {
                Ok(_) => ("healthy", Value::Null),
                Err(fault) => ("unhealthy", fault.to_string().into()),
            };
            json!({
                "server_id": server.id, "server_name": server.name, "status": status, "health_check_error": error,
                "tools": result.unwrap_or(0), "response_time_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            })
        });
        Ok(Value::Array(rows.collect()))
    })
    .await
}

/// `GET /v1/mcp/tools`
pub async fn tools(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, request| {
        let grants = granted(&visit);
        let separator = &visit.live.config.mcp.tools.separator;
        let found = visit.worker.gateway.mcp.tools(&grants, Naming::Protocol(separator), request.headers()).await;
        let missing: HashMap<String, String> =
            found.missing.iter().map(|(server, fault)| (server.name.clone(), fault.to_string())).collect();
        let tools: Vec<Value> = found.tools.iter().map(crate::mcp::Offered::told).collect();
        Ok(json!({"tools": tools, "missing_servers": missing}))
    })
    .await
}

/// `GET /v1/mcp/access_groups`
pub async fn access_groups(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, _| {
        let all = granted(&visit);
        let groups: BTreeSet<&str> =
            all.iter().flat_map(|grant| grant.server.access_groups.iter().map(String::as_str)).collect();
        Ok(json!({"access_groups": groups}))
    })
    .await
}

/// `GET /v1/mcp/toolset`: sets of which the caller may use something.
pub async fn toolsets(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, _| {
        let all = granted(&visit);
        let sets = visit.live.config.mcp.tools.sets.iter().filter_map(|set| set_row(set, &all));
        Ok(Value::Array(sets.collect()))
    })
    .await
}

/// `GET /v1/mcp/toolset/{id}`
pub async fn toolset(request: HttpRequest) -> HttpResponse {
    answer(request, async |visit, request| {
        let id = crate::http::reply::path_part(request, "id").unwrap_or_default().into_owned();
        let set = visit.live.config.mcp.tools.sets.iter().find(|set| set.is_called(&id));
        set.and_then(|set| set_row(set, &granted(&visit))).ok_or_else(|| {
            let shown = crate::envelope::shorten(&id);
            Error::new(Kind::NotFound, format!("There is no set of tools '{shown}', or your key may not use it."))
        })
    })
    .await
}

/// The set as its caller sees it; none where he may use nothing of it.
fn set_row(set: &Toolset, granted: &[Grant]) -> Option<Value> {
    let may = |(server, tool): &&(String, String)| granted.iter().any(|g| g.server.is_called(server) && g.allows(tool));
    let tools: Vec<&(String, String)> = set.tools.iter().filter(may).collect();
    (!tools.is_empty()).then(|| told_set(set, tools))
}

/// LiteLLM's members of a set.
pub fn told_set<'a>(set: &Toolset, tools: impl IntoIterator<Item = &'a (String, String)>) -> Value {
    let tools: Vec<Value> =
        tools.into_iter().map(|(server, tool)| json!({"server_id": server, "tool_name": tool})).collect();
    json!({"toolset_id": set.id, "toolset_name": set.name, "description": set.description, "tools": tools,
        "source": source(set.is_declared)})
}

/// Where a record comes from.
fn source(is_declared: bool) -> &'static str {
    if is_declared { "config" } else { "database" }
}

async fn answer(
    request: HttpRequest,
    tell: impl AsyncFnOnce(super::Visit, &HttpRequest) -> Result<Value>,
) -> HttpResponse {
    let started = Instant::now();
    let result = match visit(&request).await {
        Ok(visit) => tell(visit, &request).await.map(|answer| HttpResponse::Ok().json(answer)),
        Err(error) => Err(error),
    };
    plain(&request, started, result)
}

fn granted(visit: &super::Visit) -> Vec<Grant> {
    grants::of(&visit.live, &visit.caller)
}

/// Where a server is, and how it is spoken to, is the operator's business.
pub fn is_operator(caller: &Caller) -> bool {
    match caller {
        Caller::Master | Caller::Anonymous => true,
        Caller::Key(_) => caller.user().is_some_and(|user| user.role.as_deref() == Some("proxy_admin")),
    }
}

/// LiteLLM's members of a server; no credential is ever among them.
pub fn shown(server: &Server, health: Option<&Health>, open: bool) -> Value {
    let (url, command) = match &server.reach {
        Reach::Net { places, .. } => (places.first().map(|place| place.url.to_string()), None),
        Reach::Program(program) => (None, program.words.first().cloned()),
        Reach::Socket(path) => (Some(format!("unix:{}", path.display())), None),
    };
    let auth_type = match &server.auth {
        Auth::None => "none",
        Auth::Client(_) => "oauth2",
        Auth::Header(name, _) if name == "x-api-key" => "api_key",
        Auth::Header(_, value) if value.as_bytes().starts_with(b"Basic ") => "basic",
        Auth::Header(_, value) if value.as_bytes().starts_with(b"Bearer ") => "bearer_token",
        Auth::Header(..) => "authorization",
    };
    let status = match health.and_then(|health| health.is_up) {
        None => "unknown",
        Some(true) => "healthy",
        Some(false) => "unhealthy",
    };
    let mut row = json!({
        "server_id": server.id,
        "server_name": server.name,
        "alias": server.prefix,
        "description": server.description,
        "transport": server.transport(),
        "mcp_access_groups": server.access_groups,
        "allowed_tools": server.allowed_tools,
        "disallowed_tools": server.disallowed_tools,
        "allow_all_keys": server.allow_all_keys,
        "mcp_info": server.info,
        "status": status,
        "source": source(server.is_declared),
    });
    if open {
        row["url"] = url.into();
        row["command"] = command.into();
        row["auth_type"] = auth_type.into();
        row["static_headers"] = server
            .static_headers
            .iter()
            .map(|(name, _)| (name.to_string(), "****".into()))
            .collect::<Map<_, _>>()
            .into();
        row["extra_headers"] = server.forwarded.iter().map(|name| Value::from(name.as_str())).collect();
        row["health_check_error"] = match health {
            Some(health) if health.is_up == Some(false) => health.why.as_str().into(),
            _ => Value::Null,
        };
    }
    if let Some(health) = health {
        row["protocol_version"] = health.revision.into();
        row["server_info"] = health.server_info.clone();
        row["instructions"] = server.instructions.clone().or_else(|| health.instructions.clone()).into();
    }
    row
}
