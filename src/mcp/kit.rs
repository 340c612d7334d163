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
    /// What the request calls its server.
    pub label: String,
    /// Its name beside that label.
    pub shown: String,
}

/// A wish for tools, as a request has it.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where it stands, for errors.
    pub at: String,
    /// What its address is called there.
    pub address: &'static str,
    pub entry: Value,
    /// Tools that it does not want.
    pub denied: Vec<String>,
}

/// What one label stands for.
#[derive(Debug, Default)]
pub struct Labelled {
    pub label: String,
    /// Places among the tools.
    pub tools: Vec<usize>,
    /// Why some of them are missing.
    pub missing: Option<String>,
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
    /// The labels of the request, in its order.
    pub labels: Vec<Labelled>,
}

/// What one entry of `tools` asks for.
#[derive(Debug)]
struct Entry {
    /// Names of servers, groups and sets; none means everything.
    names: Option<String>,
    allowed: Option<Vec<String>>,
    denied: Vec<String>,
    approval: Approval,
    label: Option<String>,
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

/// Whether an address means servers of this gateway.
pub fn is_ours(url: &str, live: &Live) -> bool {
    selected(url, live.config.server.public_url.as_deref()).is_some()
}

impl Wish {
    /// The entries among these `tools`.
    pub fn among(tools: &[Value]) -> Vec<Wish> {
        let entries = tools.iter().enumerate().filter(|(_, tool)| is_entry(tool));
        let wish = |(place, entry): (usize, &Value)| Wish {
            at: format!("tools[{place}]"),
            address: "server_url",
            entry: entry.clone(),
            denied: Vec::new(),
        };
        entries.map(wish).collect()
    }
}

impl Kit {
    /// Selects tools for these wishes, beside functions of these names.
    ///
    /// # Errors
    /// A 400 for an entry that cannot be served, a 403 for a server that the caller may not use, a 503 where no server
    /// that was selected answers.
    pub async fn select(
        mcp: &Mcp,
        live: &Live,
        caller: &Caller,
        wishes: &[Wish],
        own: Vec<String>,
        headers: &HeaderMap,
    ) -> Result<Kit> {
        if wishes.len() > MOST_ENTRIES {
            return Err(Error::invalid(format!("More than {MOST_ENTRIES} tools of the type 'mcp'.")).at_param("tools"));
        }
        let all = grants::of(live, caller);
        let mut union: Vec<Grant> = Vec::new();
        let mut wants: Vec<(Entry, Vec<Grant>)> = Vec::new();
        for wish in wishes {
            let entry = Entry::read(wish, live)?;
            let selected = match &entry.names {
                None => all.clone(),
                Some(names) => grants::named(live, &all, names).map_err(|name| {
                    let message = format!(
                        "There is no MCP server or access group '{}', or your key may not use it.",
                        shorten(&name)
                    );
                    Error::new(Kind::Forbidden, message).at_param(format!("{}.{}", wish.at, wish.address))
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
        let labels: Vec<String> = wants.iter().map(|(entry, grants)| entry.label(grants)).collect();
        for offered in found.tools {
            let takers = || wants.iter().zip(&labels).filter(|((entry, grants), _)| entry.takes(&offered, grants));
            let approvals = takers().map(|((entry, _), _)| entry.approval.is_needed(&offered));
            // An entry frees its own tools, so one that is free in any of its entries is free.
            let needs_approval = approvals.reduce(|a, b| a && b);
            if let (Some(needs_approval), Some((_, label))) = (needs_approval, takers().next()) {
                kit.by_name.insert(offered.name.clone(), kit.tools.len());
                let (label, shown) = (label.clone(), offered.tool.name.clone());
                kit.tools.push(Chosen { offered, needs_approval, label, shown });
            }
        }
        kit.label(&wants, labels);
        if let (true, Some((server, fault))) = (kit.tools.is_empty(), kit.missing.first()) {
            let message = format!("The server of tools '{}' is missing: {fault}.", server.name);
            return Err(Error::new(Kind::Unreachable, message));
        }
        Ok(kit)
    }

    /// Sorts the tools by their labels. Two of one name and label are told apart by their public names.
    fn label(&mut self, wants: &[(Entry, Vec<Grant>)], labels: Vec<String>) {
        let clashes = |tool: &Chosen, other: &Chosen| tool.label == other.label && tool.shown == other.shown;
        let clashing: Vec<usize> = (0..self.tools.len())
            .filter(|at| {
                let mut others = self.tools.iter().enumerate().filter(|(other, _)| other != at);
                others.any(|(_, other)| clashes(&self.tools[*at], other))
            })
            .collect();
        for at in clashing {
            self.tools[at].shown = self.tools[at].offered.name.clone();
        }
        for ((_, grants), label) in wants.iter().zip(labels) {
            if self.labels.iter().any(|known| known.label == label) {
                continue;
            }
            let missing = self.missing.iter().find(|(server, _)| grants.iter().any(|g| g.server.name == server.name));
            let missing = missing.map(|(server, fault)| format!("The server '{}' is missing: {fault}.", server.name));
            let tools = (0..self.tools.len()).filter(|at| self.tools[*at].label == label).collect();
            self.labels.push(Labelled { label, tools, missing });
        }
    }

    /// The tool that a label and a name beside it mean.
    pub fn find_shown(&self, label: &str, shown: &str) -> Option<&Chosen> {
        self.tools.iter().find(|tool| tool.label == label && tool.shown == shown)
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
            let (label, shown) = ("s".to_owned(), (*name).to_owned());
            kit.tools.push(Chosen { offered, needs_approval: *needs_approval, label, shown });
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
    fn read(wish: &Wish, live: &Live) -> Result<Entry> {
        let (entry, address) = (&wish.entry, wish.address);
        let at = |member: &str| format!("{}.{member}", wish.at);
        let url = entry[address].as_str();
        let names = match url {
            Some(url) => selected(url, live.config.server.public_url.as_deref()).ok_or_else(|| {
                Error::invalid(format!(
                    "'{address}' selects servers of this gateway: \"litellm_proxy\", \"litellm_proxy/mcp\", \"litellm_proxy/mcp/SERVER\", or an address under server.public_url. No other address is called.",
                ))
                .at_param(at(address))
            })?,
            None => {
                let message = format!("An MCP server needs '{address}', such as \"litellm_proxy/mcp/SERVER\".");
                return Err(Error::invalid(message).at_param(at(address)));
            }
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
        let label = entry["server_label"].as_str().or(entry["name"].as_str()).filter(|label| !label.is_empty());
        Ok(Entry { names, allowed, denied: wish.denied.clone(), approval, label: label.map(str::to_owned) })
    }

    fn takes(&self, offered: &Offered, grants: &[Grant]) -> bool {
        let of_server = grants.iter().find(|grant| grant.server.name == offered.server.name);
        let is_allowed = |list: &Vec<String>| list.iter().any(|name| is_called(offered, name));
        of_server.is_some_and(|grant| grant.allows(&offered.tool.name))
            && self.allowed.as_ref().is_none_or(is_allowed)
            && !is_allowed(&self.denied)
    }

    /// What the request calls the servers of this entry.
    fn label(&self, grants: &[Grant]) -> String {
        let first = || grants.first().map_or("mcp", |grant| grant.server.name.as_str());
        self.label.clone().or_else(|| self.names.clone()).unwrap_or_else(|| first().to_owned())
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
