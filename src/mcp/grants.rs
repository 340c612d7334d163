//! Which servers, tools and parameters a caller may use: what key, team, user and organization are given, by name or by
//! group. No grant, no tools.
//!
//! Names of members are LiteLLM's (`object_permission` in its documentation of MCP access control); `mcp_param_permissions`
//! is this gateway's own.

use crate::auth::Caller;
use crate::config::mcp::{Server, Toolset};
use crate::gateway::Live;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Stand for every server.
const ALL: [&str; 3] = ["*", "all", "all-proxy-mcpservers"];

/// Names in one list.
const MOST_NAMES: usize = 64;

/// What a caller may use of one server.
#[derive(Debug, Clone)]
pub struct Grant {
    pub server: Arc<Server>,
    /// None means all.
    tools: Option<BTreeSet<String>>,
    blocked: BTreeSet<String>,
    params: BTreeMap<String, Vec<String>>,
}

impl Grant {
    fn whole(server: Arc<Server>) -> Grant {
        Grant { server, tools: None, blocked: BTreeSet::new(), params: BTreeMap::new() }
    }

    /// Whether this tool of the server may be used.
    pub fn allows(&self, tool: &str) -> bool {
        let named = |list: &BTreeSet<String>| list.iter().any(|name| self.server.means(name, tool));
        self.server.offers(tool) && self.tools.as_ref().is_none_or(named) && !named(&self.blocked)
    }

    /// The only parameters of the tool that may be given; none means all.
    pub fn params(&self, tool: &str) -> Option<Vec<String>> {
        let find = |of: &BTreeMap<String, Vec<String>>| {
            of.iter().find(|(name, _)| self.server.means(name, tool)).map(|(_, params)| params.clone())
        };
        match (find(&self.server.allowed_params), find(&self.params)) {
            (Some(a), Some(b)) => Some(a.into_iter().filter(|name| b.contains(name)).collect()),
            (a, b) => a.or(b),
        }
    }

    /// Whether everything of the server may be used, its prompts and resources too.
    pub fn is_whole(&self) -> bool {
        self.tools.is_none()
    }

    /// Only what both allow.
    fn and(mut self, other: &Grant) -> Grant {
        self.tools = match (self.tools, &other.tools) {
            (Some(mine), Some(theirs)) => {
                let server = &self.server;
                let both =
                    |tool: &String| theirs.iter().any(|t| t == tool || server.means(t, tool) || server.means(tool, t));
                Some(mine.into_iter().filter(both).collect())
            }
            (mine, theirs) => mine.or_else(|| theirs.clone()),
        };
        self.blocked.extend(other.blocked.iter().cloned());
        for (tool, theirs) in &other.params {
            self.params
                .entry(tool.clone())
                .and_modify(|mine| mine.retain(|name| theirs.contains(name)))
                .or_insert_with(|| theirs.clone());
        }
        self
    }

    /// Only these tools, too.
    pub fn narrowed(self, tools: &[String]) -> Grant {
        let only = Grant { tools: Some(tools.iter().cloned().collect()), ..Grant::whole(self.server.clone()) };
        self.and(&only)
    }
}

/// Everything that the caller may use, in the order of the servers.
pub fn of(live: &Live, caller: &Caller) -> Vec<Grant> {
    let servers = &live.config.mcp.servers;
    let Some(holder) = caller.holder() else {
        return servers.iter().cloned().map(Grant::whole).collect();
    };
    let toolsets = &live.config.mcp.tools.sets;
    let read = |permission: &Value, groups: &[String]| Given::read(permission, groups, servers, toolsets);
    let group_servers = |ids: &[String]| -> Vec<String> {
        let named = holder.access_groups.iter().filter(|group| ids.contains(&group.id));
        named.flat_map(|group| group.mcp_servers.iter().cloned()).collect()
    };
    let key = read(&holder.key.object_permission, &group_servers(&holder.key.access_group_ids));
    let team = holder.team.as_ref().map(|t| read(&t.object_permission, &group_servers(&t.access_group_ids)));
    // The user's own grants count for personal keys alone, as his models do.
    let user = match &holder.team {
        None => holder.user.as_ref().map(|u| read(&u.object_permission, &[])),
        Some(_) => None,
    };
    let organization = holder.organization.as_ref().map(|o| read(&o.object_permission, &[]));
    let mut granted = key.grants.clone();
    for above in [team, user].into_iter().flatten() {
        granted = match above.grants.is_empty() {
            // Who names nothing takes nothing away.
            true => granted,
            // A key that names nothing has what its team has.
            false if key.grants.is_empty() && granted.is_empty() => above.grants,
            false => both(granted, &above.grants),
        };
    }
    // An organization is a bound, and no grant.
    if let Some(above) = organization.filter(|above| !above.grants.is_empty()) {
        granted = both(granted, &above.grants);
    }
    let mut all: Vec<Grant> = Vec::new();
    for server in servers {
        match granted.remove(&server.name) {
            Some(grant) => all.push(grant),
            None if server.allow_all_keys => all.push(Grant::whole(server.clone())),
            None => {}
        }
    }
    for grant in &mut all {
        grant.blocked.extend(key.blocked.iter().cloned());
    }
    all
}

/// The grants of a list of names: servers, access groups, sets of tools.
///
/// # Errors
/// The name that is none of these, or of what the caller may not use.
pub fn named(live: &Live, all: &[Grant], names: &str) -> Result<Vec<Grant>, String> {
    let toolsets = &live.config.mcp.tools.sets;
    let mut found: Vec<Grant> = Vec::new();
    // LiteLLM's clients send a JSON list here and there.
    let listed: Vec<String> = match serde_json::from_str::<Value>(names) {
        Ok(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
    };
    let add = |grant: Grant, found: &mut Vec<Grant>| {
        if !found.iter().any(|known| known.server.name == grant.server.name) {
            found.push(grant);
        }
    };
    for name in listed.into_iter().take(MOST_NAMES) {
        let is_meant = |grant: &&Grant| grant.server.is_called(&name) || grant.server.access_groups.contains(&name);
        let mut is_known = false;
        for grant in all.iter().filter(is_meant) {
            is_known = true;
            add(grant.clone(), &mut found);
        }
        if let (false, Some(set)) = (is_known, toolsets.iter().find(|set| set.is_called(&name))) {
            for grant in all {
                let of_server = set.tools.iter().filter(|(server, _)| grant.server.is_called(server));
                let tools: Vec<String> = of_server.map(|(_, tool)| tool.clone()).collect();
                if !tools.is_empty() {
                    is_known = true;
                    add(grant.clone().narrowed(&tools), &mut found);
                }
            }
        }
        if !is_known {
            return Err(name);
        }
    }
    Ok(found)
}

fn both(mine: BTreeMap<String, Grant>, theirs: &BTreeMap<String, Grant>) -> BTreeMap<String, Grant> {
    mine.into_iter().filter_map(|(name, grant)| Some((name.clone(), grant.and(theirs.get(&name)?)))).collect()
}

/// What one `object_permission` gives.
struct Given {
    grants: BTreeMap<String, Grant>,
    blocked: BTreeSet<String>,
}

impl Given {
    fn read(permission: &Value, of_groups: &[String], servers: &[Arc<Server>], toolsets: &[Toolset]) -> Given {
        let texts = |name: &str| -> Vec<&str> {
            permission[name].as_array().into_iter().flatten().filter_map(Value::as_str).take(1000).collect()
        };
        let mut grants: BTreeMap<String, Grant> = BTreeMap::new();
        let mut whole = |server: &Arc<Server>| {
            grants.insert(server.name.clone(), Grant::whole(server.clone()));
        };
        for name in texts("mcp_servers").into_iter().chain(of_groups.iter().map(String::as_str)) {
            for server in servers.iter().filter(|server| ALL.contains(&name) || server.is_called(name)) {
                whole(server);
            }
        }
        for group in texts("mcp_access_groups") {
            for server in servers.iter().filter(|server| server.access_groups.iter().any(|g| g == group)) {
                whole(server);
            }
        }
        let names = |value: &Value| -> BTreeSet<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        // A list of tools narrows a server, and where the server is not named, it is the leave for these alone.
        for (name, tools) in permission["mcp_tool_permissions"].as_object().into_iter().flatten() {
            for server in servers.iter().filter(|server| server.is_called(name)) {
                let tools = names(tools);
                let grant = grants.entry(server.name.clone()).or_insert_with(|| Grant::whole(server.clone()));
                grant.tools = Some(tools).filter(|tools| !tools.is_empty());
            }
        }
        for name in texts("mcp_toolsets") {
            let set = toolsets.iter().find(|set| set.is_called(name));
            for (server, tool) in set.into_iter().flat_map(|set| &set.tools) {
                let Some(server) = servers.iter().find(|s| s.is_called(server)) else { continue };
                let grant = grants
                    .entry(server.name.clone())
                    .or_insert_with(|| Grant { tools: Some(BTreeSet::new()), ..Grant::whole(server.clone()) });
                if let Some(tools) = &mut grant.tools {
                    tools.insert(tool.clone());
                }
            }
        }
        for (name, tools) in permission["mcp_param_permissions"].as_object().into_iter().flatten() {
            for grant in grants.values_mut().filter(|grant| grant.server.is_called(name)) {
                for (tool, params) in tools.as_object().into_iter().flatten() {
                    grant.params.insert(tool.clone(), names(params).into_iter().collect());
                }
            }
        }
        let blocked: BTreeSet<String> = texts("blocked_tools").into_iter().map(str::to_owned).collect();
        for grant in grants.values_mut() {
            grant.blocked.extend(blocked.iter().cloned());
        }
        Given { grants, blocked }
    }
}
