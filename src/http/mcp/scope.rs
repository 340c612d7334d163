//! Which servers a request is about: all that the caller may use, or those that the path or a header names.

use super::{Visit, text};
use crate::error::{Error, Kind, Result};
use crate::http::reply;
use crate::mcp::grants::{self, Grant};
use crate::mcp::{Naming, Offered, Tools};
use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

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
    let all = grants::of(&visit.live, &visit.caller);
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

/// The servers of a list of names.
///
/// # Errors
/// 404 as above.
pub fn named(visit: &Visit, all: &[Grant], names: &str) -> Result<Vec<Grant>> {
    grants::named(&visit.live, all, names).map_err(|name| {
        let shown = crate::envelope::shorten(&name);
        let message = format!("There is no MCP server or access group '{shown}', or your key may not use it.");
        Error::new(Kind::NotFound, message)
    })
}
