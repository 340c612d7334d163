//! `mcp_servers`: one entry, one [`McpServer`] of the written form.

use super::values::{Report, without_nulls};
use super::{keys, shown, survey};
use crate::config::file::{AuthType, McpServer, Transport, Words};
use crate::secret::Written;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// All servers by their names.
pub fn read(tree: &Map<String, Value>, report: &mut Report) -> BTreeMap<String, McpServer> {
    let mut servers = BTreeMap::new();
    let Some(entries) = report.map("mcp_servers", tree.get("mcp_servers")) else { return servers };
    for (name, entry) in entries {
        let at = format!("mcp_servers.{}", shown(name));
        if let Some(entry) = report.map(&at, Some(entry)) {
            // A space is no part of a name here, as it is part of tools' names.
            servers.insert(name.replace(' ', "_"), one(&at, entry, report));
        }
    }
    aliases(tree, &mut servers, report);
    servers
}

/// `litellm_settings.mcp_aliases`: alias to server.
fn aliases(tree: &Map<String, Value>, servers: &mut BTreeMap<String, McpServer>, report: &mut Report) {
    const PATH: &str = "litellm_settings.mcp_aliases";
    let settings = tree.get(keys::LITELLM).and_then(Value::as_object);
    let Some(aliases) = report.map(PATH, settings.and_then(|s| s.get("mcp_aliases"))) else { return };
    for (alias, name) in aliases {
        match name.as_str().and_then(|name| servers.get_mut(&name.replace(' ', "_"))) {
            Some(server) if server.alias.is_none() => server.alias = Some(alias.clone()),
            Some(_) => {}
            None => report.note(format!("{PATH}.{}", shown(alias)), "there is no MCP server of that name"),
        }
    }
}

/// One server.
pub fn one(at: &str, entry: &Map<String, Value>, report: &mut Report) -> McpServer {
    survey(keys::MCP, at, entry, report);
    server(at, entry, report)
}

fn server(at: &str, entry: &Map<String, Value>, report: &mut Report) -> McpServer {
    let path = |key: &str| format!("{at}.{key}");
    let text = |report: &mut Report, key: &str| report.text(&path(key), entry.get(key));
    let texts = |report: &mut Report, key: &str| report.texts(&path(key), entry.get(key));
    let named = |report: &mut Report, key: &str| -> BTreeMap<String, Written> {
        report.scalars(&path(key), entry.get(key)).into_iter().collect()
    };
    let plain = |report: &mut Report, key: &str| -> BTreeMap<String, String> {
        named(report, key).into_iter().map(|(name, text)| (name, text.0)).collect()
    };
    let auth_value = text(report, "auth_value").or_else(|| text(report, "authentication_token"));
    let mut server = McpServer {
        url: text(report, "url"),
        command: text(report, "command").map(Words::One),
        args: texts(report, "args"),
        env: named(report, "env"),
        transport: transport(&path("transport"), entry.get("transport"), report),
        auth_type: auth_type(&path("auth_type"), entry.get("auth_type"), report),
        auth_value: auth_value.map(Written),
        client_id: text(report, "client_id").map(Written),
        client_secret: text(report, "client_secret").map(Written),
        token_url: text(report, "token_url"),
        scopes: texts(report, "scopes"),
        static_headers: named(report, "static_headers"),
        extra_headers: texts(report, "extra_headers"),
        alias: text(report, "alias"),
        description: text(report, "description"),
        instructions: text(report, "instructions"),
        allowed_tools: texts(report, "allowed_tools"),
        disallowed_tools: texts(report, "disallowed_tools"),
        access_groups: texts(report, "access_groups"),
        allow_all_keys: report.flag(&path("allow_all_keys"), entry.get("allow_all_keys")) == Some(true),
        tool_titles: plain(report, "tool_name_to_display_name"),
        tool_descriptions: plain(report, "tool_name_to_description"),
        timeout: report.seconds(&path("timeout"), entry.get("timeout")),
        ..McpServer::default()
    };
    if let Some(params) = report.map(&path("allowed_params"), entry.get("allowed_params")) {
        for (tool, names) in params {
            let names = report.texts(&path("allowed_params"), Some(names));
            server.allowed_params.insert(tool.clone(), names);
        }
    }
    // LiteLLM puts a header of the caller in the place of `${X-NAME}`; a process is shared by all callers here.
    for (name, value) in &server.env {
        if value.0.starts_with("${") {
            report.note(
                format!("{at}.env.{}", shown(name)),
                "a program is shared by all callers, and gets no header of one of them",
            );
        }
    }
    server.env.retain(|_, value| !value.0.starts_with("${"));
    info(&mut server, &path("mcp_info"), entry.get("mcp_info"), report);
    server
}

/// Facts, and among them what a call costs.
fn info(server: &mut McpServer, at: &str, value: Option<&Value>, report: &mut Report) {
    let Some(info) = report.map(at, value) else { return };
    for (name, value) in info {
        if name != "mcp_server_cost_info" {
            server.info.extend(without_nulls(value).map(|value| (name.clone(), value)));
            continue;
        }
        let at = format!("{at}.mcp_server_cost_info");
        let Some(costs) = report.map(&at, Some(value)) else { continue };
        server.cost_per_call =
            report.number(&format!("{at}.default_cost_per_query"), costs.get("default_cost_per_query"));
        let at = format!("{at}.tool_name_to_cost_per_query");
        for (tool, cost) in report.map(&at, costs.get("tool_name_to_cost_per_query")).into_iter().flatten() {
            server.tool_costs.extend(report.number(&at, Some(cost)).map(|cost| (tool.clone(), cost)));
        }
    }
}

fn transport(at: &str, value: Option<&Value>, report: &mut Report) -> Option<Transport> {
    let text = report.text(at, value)?;
    match text.as_str() {
        "http" | "streamable_http" | "streamable-http" => Some(Transport::Http),
        "sse" => Some(Transport::Sse),
        "stdio" => Some(Transport::Stdio),
        _ => {
            report.errors.push(format!("{at}: it is neither `http`, `sse` nor `stdio`"));
            None
        }
    }
}

fn auth_type(at: &str, value: Option<&Value>, report: &mut Report) -> Option<AuthType> {
    let text = report.text(at, value)?;
    match text.as_str() {
        "none" => Some(AuthType::None),
        "api_key" => Some(AuthType::ApiKey),
        "bearer_token" | "token" => Some(AuthType::BearerToken),
        "basic" => Some(AuthType::Basic),
        "authorization" => Some(AuthType::Authorization),
        "oauth2" => Some(AuthType::Oauth2),
        _ => {
            report.note(at, "this way to sign in is not served; the server is called without a credential");
            Some(AuthType::None)
        }
    }
}
