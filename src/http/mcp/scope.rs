//! Which servers a request is about: all that the caller may use, or those that the path or a header names.

use super::{Visit, text};
use crate::error::{Error, Kind, Result};
use crate::http::reply;
use crate::mcp::grants::{self, Grant};
use crate::mcp::{Naming, Offered, Tools};
use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use serde_json::Value;

/// Names in one list.
const MOST_NAMES: usize = 64;

/// The servers of a request.
pub struct Scope {
    pub grants: Vec<Grant>,
    /// The path names one server, whose tools go by their own names.
    pub is_single: bool,
    separator: String,
}

impl Scope {
    pub fn naming(&self) -> Naming<'_> {
        if self.is_single { Naming::Bare } else { Naming::Protocol(&self.separator) }
    }

    /// All tools.
    pub async fn tools(&self, visit: &Visit, headers: &HeaderMap) -> Tools {
        visit.worker.gateway.mcp.tools(&self.grants, self.naming(), headers).await
    }

    /// The tool of this name. Servers that the name cannot mean are not asked, unless nobody else has it.
    pub async fn tool(&self, visit: &Visit, name: &str, headers: &HeaderMap) -> (Option<Offered>, Tools) {
        let likely: Vec<Grant> = match self.is_single {
            true => self.grants.clone(),
            false => {
                let leads = |grant: &&Grant| name.starts_with(grant.server.prefix.as_str());
                self.grants.iter().filter(leads).cloned().collect()
            }
        };
        let mcp = &visit.worker.gateway.mcp;
        let mut found = mcp.tools(&likely, self.naming(), headers).await;
        let place = |found: &Tools| found.tools.iter().position(|tool| tool.name == name);
        if let Some(at) = place(&found) {
            return (Some(found.tools.swap_remove(at)), found);
        }
        if likely.len() < self.grants.len() {
            found = self.tools(visit, headers).await;
            if let Some(at) = place(&found) {
                return (Some(found.tools.swap_remove(at)), found);
            }
        }
        (None, found)
    }
}

/// # Errors
/// 404 for a name that is none, or of what the caller may not use.
pub fn of(visit: &Visit, request: &HttpRequest) -> Result<Scope> {
    let all = grants::of(&visit.worker.gateway.mcp, &visit.live, &visit.caller);
    let separator = visit.live.config.mcp.tools.separator.clone();
    let in_path = reply::path_part(request, "servers");
    if let Some(names) = in_path.as_deref().filter(|names| !names.is_empty()) {
        let grants = named(visit, &all, names)?;
        let is_single = grants.len() == 1 && grants[0].server.is_called(names.trim());
        return Ok(Scope { grants, is_single, separator });
    }
    let grants = match text(request.headers(), "x-mcp-servers").filter(|names| !names.trim().is_empty()) {
        Some(names) => named(visit, &all, names)?,
        None => all,
    };
    Ok(Scope { grants, is_single: false, separator })
}

/// The servers of a list of names: servers, access groups, sets of tools.
///
/// # Errors
/// 404 as above.
pub fn named(visit: &Visit, all: &[Grant], names: &str) -> Result<Vec<Grant>> {
    let toolsets = visit.worker.gateway.mcp.toolsets();
    let mut found: Vec<Grant> = Vec::new();
    // LiteLLM's clients send a JSON list here and there.
    let listed: Vec<String> = match serde_json::from_str::<Value>(names) {
        Ok(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
    };
    for name in listed.iter().take(MOST_NAMES) {
        let before = found.len();
        let add = |grant: Grant, found: &mut Vec<Grant>| {
            if !found.iter().any(|known| known.server.name == grant.server.name) {
                found.push(grant);
            }
        };
        let is_meant = |grant: &&Grant| grant.server.is_called(name) || grant.server.access_groups.contains(name);
        let mut is_known = false;
        for grant in all.iter().filter(is_meant) {
            is_known = true;
            add(grant.clone(), &mut found);
        }
        if let (false, Some(set)) = (is_known, toolsets.get(name)) {
            for grant in all {
                let tools: Vec<String> =
                    set.iter().filter(|(s, _)| grant.server.is_called(s)).map(|(_, tool)| tool.clone()).collect();
                if !tools.is_empty() {
                    is_known = true;
                    add(grant.clone().narrowed(&tools), &mut found);
                }
            }
        }
        if !is_known && found.len() == before {
            let shown = crate::envelope::shorten(name);
            let message = format!("There is no MCP server or access group '{shown}', or your key may not use it.");
            return Err(Error::new(Kind::NotFound, message));
        }
    }
    Ok(found)
}
