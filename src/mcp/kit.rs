//! The tools that a model gets for one call: what `tools` entries of the type `mcp` select, of what the caller may use.
//!
//! An entry's address only selects: nothing in a request is ever dialled.

use super::grants::{self, Grant};
use super::tool::{self, Naming, Offered};
use super::{Fault, Mcp};
use crate::auth::Caller;
use crate::config::mcp::Server;
use crate::envelope::shorten;
use crate::error::{Error, Kind, Result};
use crate::gateway::Live;
use actix_web::http::header::HeaderMap;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Entries of one request.
const MOST_ENTRIES: usize = 64;

/// A tool that the model may call.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub offered: Offered,
    /// Somebody has to say that it may be called.
    pub needs_approval: bool,
}

/// All of them, and the names of the caller's own functions.
#[derive(Debug, Default)]
pub struct Kit {
    pub tools: Vec<Chosen>,
    by_name: HashMap<String, usize>,
    own: Vec<String>,
    /// Servers whose tools are missing, and why.
    pub missing: Vec<(Arc<Server>, Fault)>,
    /// The servers that were selected.
    pub servers: Vec<Arc<Server>>,
}

/// What one entry of `tools` asks for.
#[derive(Debug)]
struct Entry {
    /// Names of servers, groups and sets; none means everything.
    names: Option<String>,
    allowed: Option<Vec<String>>,
    approval: Approval,
}

/// `require_approval`
#[derive(Debug, Clone, PartialEq)]
enum Approval {
    Always,
    Never,
    /// These need none.
    NeverFor(Vec<String>),
    /// Only these need it.
    AlwaysFor(Vec<String>),
}

/// Whether an element of `tools` is such an entry.
pub fn is_entry(tool: &Value) -> bool {
    tool["type"] == "mcp"
}

impl Kit {
    /// Selects tools for these entries (with their places in `tools`), beside functions of these names.
    ///
    /// # Errors
    /// A 400 for an entry that cannot be served, a 403 for a server that the caller may not use, a 503 where no server
    /// that was selected answers.
    pub async fn select(
        mcp: &Mcp,
        live: &Live,
        caller: &Caller,
        entries: &[(usize, &Value)],
        own: Vec<String>,
        headers: &HeaderMap,
    ) -> Result<Kit> {
        if entries.len() > MOST_ENTRIES {
            return Err(Error::invalid(format!("More than {MOST_ENTRIES} tools of the type 'mcp'.")).at_param("tools"));
        }
        let all = grants::of(live, caller);
        let mut union: Vec<Grant> = Vec::new();
        let mut wants: Vec<(Entry, Vec<Grant>)> = Vec::new();
        for (place, entry) in entries {
            let entry = Entry::read(*place, entry, live)?;
            let selected = match &entry.names {
                None => all.clone(),
                Some(names) => grants::named(live, &all, names).map_err(|name| {
                    let message = format!(
                        "There is no MCP server or access group '{}', or your key may not use it.",
                        shorten(&name)
                    );
                    Error::new(Kind::Forbidden, message).at_param(format!("tools[{place}].server_url"))
                })?,
            };
            for grant in &selected {
                if !union.iter().any(|known| known.server.name == grant.server.name) {
                    union.push(all.iter().find(|g| g.server.name == grant.server.name).unwrap_or(grant).clone());
                }
            }
            wants.push((entry, selected));
        }
        let separator = &live.config.mcp.tools.separator;
        let mut found = mcp.tools(&union, Naming::Model(separator), headers).await;
        tool::name_beside(&mut found.tools, Naming::Model(separator), &own);
        let mut kit = Kit { own, missing: found.missing, ..Kit::default() };
        kit.servers = union.iter().map(|grant| grant.server.clone()).collect();
        for offered in found.tools {
            let takes = wants.iter().filter(|(entry, grants)| entry.takes(&offered, grants));
            let approvals: Vec<bool> = takes.map(|(entry, _)| entry.approval.is_needed(&offered)).collect();
            // An entry frees its own tools, so one that is free in any of its entries is free.
            if let Some(needs_approval) = approvals.into_iter().reduce(|a, b| a && b) {
                kit.by_name.insert(offered.name.clone(), kit.tools.len());
                kit.tools.push(Chosen { offered, needs_approval });
            }
        }
        if let (true, Some((server, fault))) = (kit.tools.is_empty(), kit.missing.first()) {
            let message = format!("The server of tools '{}' is missing: {fault}.", server.name);
            return Err(Error::new(Kind::Unreachable, message));
        }
        Ok(kit)
    }

    pub fn find(&self, name: &str) -> Option<&Chosen> {
        self.by_name.get(name).map(|at| &self.tools[*at])
    }

    /// The tool of a server, by its own name.
    pub fn find_own(&self, server: &str, tool: &str) -> Option<&Chosen> {
        self.tools.iter().find(|t| t.offered.server.name == server && t.offered.tool.name == tool)
    }

    pub fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }

    /// The tools as functions of OpenAI's chat.
    pub fn functions(&self) -> Vec<Value> {
        self.tools.iter().map(|chosen| function(&chosen.offered)).collect()
    }

    #[cfg(test)]
    pub fn of_names(tools: &[(&str, bool)], own: &[&str]) -> Kit {
        let file = toml::from_str("[mcp.s]\nurl = \"http://h\"\n").unwrap();
        let secrets = crate::secret::Secrets::none();
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let state = std::path::Path::new("/");
        let mode = crate::config::Mode::Offline;
        let mcp = crate::config::mcp::resolve(&file, &secrets, mode, state, &mut errors, &mut warnings);
        let mut kit = Kit { own: own.iter().map(|name| (*name).to_owned()).collect(), ..Kit::default() };
        for (name, needs_approval) in tools {
            let tool = tool::Tool::read(json!({"name": name, "inputSchema": {"type": "object"}}), false).unwrap();
            let server = mcp.servers[0].clone();
            let offered = Offered { name: (*name).to_owned(), server, tool: Arc::new(tool), params: None };
            kit.by_name.insert((*name).to_owned(), kit.tools.len());
            kit.tools.push(Chosen { offered, needs_approval: *needs_approval });
        }
        kit
    }
}

/// Upstreams refuse an object without properties, and know nothing of what is between clients and servers.
fn function(offered: &Offered) -> Value {
    let mut schema = offered.schema();
    if let Some(members) = schema.as_object_mut() {
        members.shift_remove("$schema");
        members.entry("type").or_insert_with(|| "object".into());
        let properties = members.entry("properties").or_insert_with(|| json!({}));
        for property in properties.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            if let Some(property) = property.as_object_mut() {
                property.shift_remove("x-mcp-header");
            }
        }
    }
    let mut function = json!({"name": offered.name, "parameters": schema});
    if let Some(description) = offered.description() {
        function["description"] = description.into();
    }
    json!({"type": "function", "function": function})
}

impl Entry {
    fn read(place: usize, entry: &Value, live: &Live) -> Result<Entry> {
        let at = |member: &str| format!("tools[{place}].{member}");
        let url = entry["server_url"].as_str();
        let names = match url {
            Some(url) => selected(url, live.config.server.public_url.as_deref()).ok_or_else(|| {
                Error::invalid(
                    "'server_url' selects servers of this gateway: \"litellm_proxy\", \"litellm_proxy/mcp\", \"litellm_proxy/mcp/SERVER\", or an address under server.public_url. No other address is called.",
                )
                .at_param(at("server_url"))
            })?,
            None => return Err(Error::invalid("A tool of the type 'mcp' needs 'server_url', such as \"litellm_proxy/mcp/SERVER\".").at_param(at("server_url"))),
        };
        let of_header = entry["headers"].as_object().and_then(|headers| {
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-mcp-servers")).and_then(|(_, v)| v.as_str())
        });
        let names = names.or_else(|| of_header.map(str::to_owned));
        let texts = |value: &Value, member: &str| -> Result<Option<Vec<String>>> {
            match value {
                Value::Null => Ok(None),
                Value::Array(list) if list.iter().all(Value::is_string) => {
                    Ok(Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
                }
                _ => {
                    let message = format!("Invalid type for '{}': expected a list of names.", at(member));
                    Err(Error::invalid(message).at_param(at(member)))
                }
            }
        };
        let allowed = match &entry["allowed_tools"] {
            Value::Object(filter) => {
                texts(filter.get("tool_names").unwrap_or(&Value::Null), "allowed_tools.tool_names")?
            }
            list => texts(list, "allowed_tools")?,
        };
        let approval = match &entry["require_approval"] {
            Value::Null => Approval::Always,
            Value::String(word) if word == "always" => Approval::Always,
            Value::String(word) if word == "never" => Approval::Never,
            Value::Object(of) => {
                let names = |word: &str| {
                    let list = of.get(word).and_then(|filter| filter.get("tool_names")).unwrap_or(&Value::Null);
                    texts(list, &format!("require_approval.{word}.tool_names"))
                };
                match (names("never")?, names("always")?) {
                    (Some(never), _) => Approval::NeverFor(never),
                    (None, Some(always)) => Approval::AlwaysFor(always),
                    (None, None) => Approval::Always,
                }
            }
            _ => {
                let message =
                    "'require_approval' must be \"always\", \"never\", or an object with 'never' or 'always'.";
                return Err(Error::invalid(message).at_param(at("require_approval")));
            }
        };
        Ok(Entry { names, allowed, approval })
    }

    fn takes(&self, offered: &Offered, grants: &[Grant]) -> bool {
        let of_server = grants.iter().find(|grant| grant.server.name == offered.server.name);
        let is_allowed = |list: &Vec<String>| list.iter().any(|name| is_called(offered, name));
        of_server.is_some_and(|grant| grant.allows(&offered.tool.name)) && self.allowed.as_ref().is_none_or(is_allowed)
    }
}

impl Approval {
    fn is_needed(&self, offered: &Offered) -> bool {
        let named = |list: &[String]| list.iter().any(|name| is_called(offered, name));
        match self {
            Approval::Always => true,
            Approval::Never => false,
            Approval::NeverFor(list) => !named(list),
            Approval::AlwaysFor(list) => named(list),
        }
    }
}

fn is_called(offered: &Offered, name: &str) -> bool {
    name == offered.name || offered.server.means(name, &offered.tool.name)
}

/// The names that an address selects; none inside means all servers, none outside that it is no address of ours.
fn selected(url: &str, public_url: Option<&str>) -> Option<Option<String>> {
    let path = match url.strip_prefix("litellm_proxy") {
        Some(rest) => rest,
        None => url.strip_prefix(public_url?)?,
    };
    let path = path.trim_end_matches('/');
    if !(path.is_empty() || path.starts_with('/')) || path.contains(['?', '#', '%']) {
        return None;
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        [] | ["mcp"] => Some(None),
        ["mcp", name] | [name, "mcp"] if !name.is_empty() => Some(Some((*name).to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_selects_and_is_never_dialled() {
        let ours = Some("https://llm.home.example");
        for (url, names) in [
            ("litellm_proxy", None),
            ("litellm_proxy/mcp", None),
            ("litellm_proxy/mcp/", None),
            ("litellm_proxy/mcp/ha", Some("ha")),
            ("https://llm.home.example/mcp/a,b", Some("a,b")),
            ("https://llm.home.example/ha/mcp", Some("ha")),
        ] {
            assert_eq!(selected(url, ours), Some(names.map(str::to_owned)), "{url}");
        }
        for url in [
            "https://evil.example/mcp",
            "litellm_proxyx",
            "https://llm.home.example.evil/mcp",
            "litellm_proxy/a/b/c",
            "",
        ] {
            assert_eq!(selected(url, ours), None, "{url}");
        }
        assert_eq!(selected("https://llm.home.example/mcp", None), None);
    }
}
