//! Servers and sets of tools that were made while the gateway ran: behind what the file says, which wins.
//!
//! They have an address and never a program, and nothing of theirs refers to the environment: who may make them may not
//! run anything here, nor read its secrets.

use super::{Context, Mcp, Reach, Server, Toolset, is_name};
use crate::config::Mode;
use crate::config::file::{Json, McpServer, Prompt};
use crate::config::litellm;
use crate::config::stored::Stored;
use crate::secret::{Secrets, Written};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Members that say who made the record, and nothing of the server.
const RECORD: [&str; 7] =
    ["server_id", "server_name", "created_at", "created_by", "updated_at", "updated_by", "approval_status"];
/// Members that LiteLLM has for servers that are programs.
const PROGRAM: [&str; 5] = ["command", "args", "env", "cwd", "socket"];
/// Tools of one set.
const MOST_TOOLS: usize = 1000;

/// Adds what is stored to what the file says. What cannot be used is a warning: it must not keep the rest from being served.
pub fn add(mcp: &mut Mcp, stored: &Stored, warnings: &mut Vec<String>) {
    for (id, record) in &stored.mcp_servers {
        match server(id, record, &mcp.tools.separator) {
            Ok(server) => match taken(mcp, &server) {
                None => mcp.servers.push(Arc::new(server)),
                Some(name) => warnings
                    .push(format!("the stored MCP server {id} is passed over: another one is called `{name}` already")),
            },
            Err(why) => warnings.push(format!("the stored MCP server {id} cannot be used: {why}")),
        }
    }
    for (id, record) in &stored.toolsets {
        match toolset(id, record) {
            Ok(set) if mcp.tools.sets.iter().any(|known| known.is_called(&set.name) || known.is_called(&set.id)) => {
                warnings.push(format!("the stored set of tools {id} is passed over: there is one of that name"));
            }
            Ok(set) => mcp.tools.sets.push(set),
            Err(why) => warnings.push(format!("the stored set of tools {id} cannot be used: {why}")),
        }
    }
}

/// The name of this server that another one, or a set, has already.
pub fn taken<'a>(mcp: &Mcp, server: &'a Server) -> Option<&'a str> {
    let has = |name: &str| {
        mcp.servers.iter().any(|known| (known.is_declared || known.id != server.id) && known.is_called(name))
            || mcp.tools.sets.iter().any(|set| set.is_called(name))
    };
    [&server.name, &server.prefix, &server.id].into_iter().map(String::as_str).find(|name| has(name))
}

/// A server of LiteLLM's members.
///
/// # Errors
/// Everything that is wrong with it, in one line.
pub fn server(id: &str, record: &Map<String, Json>, separator: &str) -> Result<Server, String> {
    if let Some(member) = PROGRAM.iter().find(|member| record.get(**member).is_some_and(|v| !says_nothing(v))) {
        return Err(format!("{member}: only the configuration can name a program; here a server has a url"));
    }
    let text = |name: &str| record.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text("server_name").or_else(|| text("alias")).ok_or("server_name is missing")?.replace(' ', "_");
    if text("url").is_none() {
        return Err("url is missing: it is the address of the server".to_owned());
    }
    let mut written = litellm::mcp_server(&entry(record)?)?;
    written.alias = written.alias.map(|alias| alias.replace(' ', "_"));
    written.inject_prompt = match record.get("inject_prompt") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(on)) => Some(Prompt::Only(*on)),
        Some(Value::String(name)) => Some(Prompt::Named(name.clone())),
        Some(_) => return Err("inject_prompt: it is the name of a prompt, or true".to_owned()),
    };
    written.cancel_on_disconnect = record.get("cancel_on_disconnect").is_some_and(|on| *on == true);
    if let Some(place) = reference(&written) {
        return Err(format!("{place}: it refers to the environment, which is for the configuration alone"));
    }
    let secrets = Secrets::none();
    let context = Context { secrets: &secrets, mode: Mode::Live, state_dir: Path::new("/"), separator };
    let mut warnings = Vec::new();
    let mut server =
        super::server::read(&name, &written, &context, &mut warnings).map_err(|errors| errors.join("; "))?;
    if !matches!(server.reach, Reach::Net { .. }) {
        return Err("it must have a url".to_owned());
    }
    id.clone_into(&mut server.id);
    server.is_declared = false;
    Ok(server)
}

/// The record as an entry of LiteLLM's configuration.
fn entry(record: &Map<String, Json>) -> Result<Map<String, Json>, String> {
    let mut entry = record.clone();
    for member in RECORD.iter().chain(&PROGRAM).chain(&["inject_prompt", "cancel_on_disconnect"]) {
        entry.shift_remove(*member);
    }
    match entry.shift_remove("credentials") {
        None | Some(Value::Null) => {}
        Some(Value::Object(credentials)) => {
            for (name, value) in credentials.into_iter().filter(|(_, value)| !says_nothing(value)) {
                entry.insert(name, value);
            }
        }
        Some(_) => return Err("credentials: it is an object".to_owned()),
    }
    if let Some(groups) = entry.shift_remove("mcp_access_groups") {
        entry.insert("access_groups".to_owned(), groups);
    }
    // Which is so for every server here.
    if entry.get("available_on_public_internet") == Some(&Value::Bool(true)) {
        entry.shift_remove("available_on_public_internet");
    }
    entry.retain(|_, value| !says_nothing(value));
    Ok(entry)
}

/// A member that refers to the environment.
fn reference(written: &McpServer) -> Option<&'static str> {
    let refers = |text: &Written| text.reference().is_some();
    let plain = |text: &Option<String>| text.clone().is_some_and(|text| refers(&Written(text)));
    let secret = |text: &Option<Written>| text.as_ref().is_some_and(refers);
    let places = [
        ("url", plain(&written.url)),
        ("token_url", plain(&written.token_url)),
        ("auth_value", secret(&written.auth_value)),
        ("client_id", secret(&written.client_id)),
        ("client_secret", secret(&written.client_secret)),
        ("static_headers", written.static_headers.values().any(refers)),
    ];
    places.into_iter().find(|(_, refers)| *refers).map(|(place, _)| place)
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A set of tools of LiteLLM's members.
///
/// # Errors
/// What is wrong with it.
pub fn toolset(id: &str, record: &Map<String, Json>) -> Result<Toolset, String> {
    let text = |value: &Value, name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let name = record.get("toolset_name").and_then(Value::as_str).unwrap_or_default();
    if !is_name(name) {
        return Err("toolset_name: it must be at most 64 letters, digits, `_`, `-` or `.`".to_owned());
    }
    let tools = match record.get("tools") {
        None | Some(Value::Null) => &Vec::new(),
        Some(Value::Array(tools)) if tools.len() <= MOST_TOOLS => tools,
        Some(_) => return Err(format!("tools: it is a list of at most {MOST_TOOLS}")),
    };
    let tools: Option<Vec<_>> =
        tools.iter().map(|tool| Some((text(tool, "server_id")?, text(tool, "tool_name")?))).collect();
    Ok(Toolset {
        name: name.to_owned(),
        id: id.to_owned(),
        description: record.get("description").and_then(Value::as_str).map(str::to_owned),
        tools: tools.ok_or("tools: each of them has a server_id and a tool_name")?,
        is_declared: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(record: Value) -> Result<Server, String> {
        server("id-1", record.as_object().unwrap(), "-")
    }

    #[test]
    fn what_litellm_clients_send_is_a_server() {
        let server = read(json!({
            "server_name": "my tools", "alias": "tools", "url": "https://h/mcp", "transport": "http",
            "auth_type": "bearer_token", "credentials": {"auth_value": "sk-secret"}, "mcp_access_groups": ["house"],
            "allowed_tools": ["a"], "extra_headers": ["x-room"], "static_headers": {"x-one": "1"}, "command": "", "args": [],
            "env": {}, "spec_path": null, "allow_all_keys": false, "available_on_public_internet": true,
            "mcp_info": {"mcp_server_cost_info": {"default_cost_per_query": 0.5}},
        }))
        .unwrap();
        assert_eq!((server.name.as_str(), server.id.as_str(), server.prefix.as_str()), ("my_tools", "id-1", "tools"));
        assert_eq!((server.cost_nanos, server.access_groups.len(), server.is_declared), (500_000_000, 1, false));
        assert!(!format!("{server:?}").contains("sk-secret"));
    }

    #[test]
    fn a_stored_server_runs_nothing_and_reads_no_secret() {
        for (record, part) in [
            (json!({"server_name": "a", "command": "sh", "args": ["-c", "id"]}), "only the configuration"),
            (json!({"server_name": "a", "url": "http://h", "socket": "/run/x"}), "only the configuration"),
            (json!({"server_name": "a", "url": "http://h", "transport": "stdio"}), "http"),
            (json!({"server_name": "a"}), "url is missing"),
            (json!({"url": "http://h"}), "server_name"),
            (json!({"server_name": "a", "url": "os.environ/SECRET"}), "environment"),
            (json!({"server_name": "a", "url": "http://h", "auth_value": "os.environ/SECRET"}), "environment"),
            (
                json!({"server_name": "a", "url": "http://h", "credentials": {"auth_value": "env:SECRET"}}),
                "environment",
            ),
            (json!({"server_name": "a", "url": "http://h", "static_headers": {"x": "env:SECRET"}}), "environment"),
            (json!({"server_name": "a", "url": "http://h", "spec_path": "/etc/passwd"}), "OpenAPI"),
            (json!({"server_name": "a", "url": "http://h", "ca_file": "/etc/passwd"}), "unknown"),
            (json!({"server_name": "a", "url": "http://h", "auth_type": "oauth2"}), "token_url"),
            (json!({"server_name": "a", "url": "http://h", "auth_type": "aws_sigv4"}), "not served"),
            (json!({"server_name": "a/b", "url": "http://h"}), "name must"),
            (json!({"server_name": "a", "url": "http://h", "credentials": 1}), "object"),
        ] {
            let error = read(record.clone()).unwrap_err();
            assert!(error.contains(part), "{record}: {error}");
        }
    }

    #[test]
    fn a_set_names_tools_of_servers() {
        let read = |record: Value| toolset("s", record.as_object().unwrap());
        let set = read(json!({"toolset_name": "m", "tools": [{"server_id": "a", "tool_name": "t"}]})).unwrap();
        assert_eq!(set.tools, [("a".to_owned(), "t".to_owned())]);
        assert!(read(json!({"toolset_name": "m", "tools": [{"server_id": "a"}]})).is_err());
        assert!(read(json!({"toolset_name": "m n"})).is_err());
    }
}
