//! One server of tools, or the house as one: what was written, checked and given its meaning.

use super::{Auth, Client, Context, Place, Program, Reach, Server, is_name, is_name_char, nanos};
use crate::config::file::{self, AuthType, Prompt, Transport, Words};
use crate::config::{Mode, look_up};
use crate::route;
use crate::secret::Written;
use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::time::Duration;

/// Resolves one server.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(
    name: &str,
    written: &file::McpServer,
    context: &Context<'_>,
    warnings: &mut Vec<String>,
) -> Result<Server, Vec<String>> {
    let mut errors = Vec::new();
    if !is_name(name) {
        errors.push(
            "the name must be at most 64 letters, digits, `_`, `-` or `.`, the first of them none of the last two"
                .to_owned(),
        );
    }
    let prefix = written.alias.clone().unwrap_or_else(|| name.to_owned());
    if !is_name(&prefix) {
        errors.push("alias: it must be at most 64 letters, digits, `_`, `-` or `.`".to_owned());
    }
    let reach = reach(written, context, &mut errors);
    let auth = auth(name, written, context, &mut errors, warnings);
    if !matches!(reach, Some(Reach::Net { .. })) && (auth != Auth::None || !written.static_headers.is_empty()) {
        errors.push(
            "auth_type and static_headers are for servers with a url; give a program what it needs in env".to_owned(),
        );
    }
    let mut static_headers = Vec::new();
    for (header, value) in &written.static_headers {
        let Ok(header_name) = HeaderName::from_bytes(header.as_bytes()) else {
            errors.push(format!("static_headers.{header}: not a header name"));
            continue;
        };
        match secret(value, context) {
            None => warnings.push(format!(
                "mcp_servers.{name}.static_headers.{header}: the variable is not set; the header is left out"
            )),
            Some(text) => match sensitive(&text) {
                Some(value) => static_headers.push((header_name, value)),
                None => errors.push(format!("static_headers.{header}: its value cannot stand in a header")),
            },
        }
    }
    let mut forwarded = Vec::new();
    for header in &written.extra_headers {
        match HeaderName::from_bytes(header.as_bytes()) {
            // The key of a caller is for the gateway alone.
            Ok(name) if is_key_header(&name) => errors.push(format!(
                "extra_headers: `{header}` may hold the caller's key for this gateway, which goes nowhere else"
            )),
            Ok(name) if is_hop(&name) => errors.push(format!("extra_headers: `{header}` belongs to the connection")),
            Ok(name) => forwarded.push(name),
            Err(_) => errors.push(format!("extra_headers: `{header}` is not a header name")),
        }
    }
    let cost_nanos = written.cost_per_call.and_then(|usd| nanos("cost_per_call", usd, &mut errors)).unwrap_or(0);
    let tool_cost_nanos = written
        .tool_costs
        .iter()
        .filter_map(|(tool, usd)| Some((tool.clone(), nanos(&format!("tool_costs.{tool}"), *usd, &mut errors)?)))
        .collect();
    let (Some(reach), true) = (reach, errors.is_empty()) else { return Err(errors) };
    Ok(Server {
        name: name.to_owned(),
        id: name.to_owned(),
        prefix,
        separator: context.separator.to_owned(),
        description: written.description.clone(),
        instructions: written.instructions.clone(),
        reach,
        auth,
        static_headers,
        forwarded,
        allowed_tools: written.allowed_tools.clone(),
        disallowed_tools: written.disallowed_tools.clone(),
        allowed_params: written.allowed_params.clone(),
        access_groups: written.access_groups.clone(),
        allow_all_keys: written.allow_all_keys,
        cost_nanos,
        tool_cost_nanos,
        tool_titles: written.tool_titles.clone(),
        tool_descriptions: written.tool_descriptions.clone(),
        info: written.info.clone(),
        timeout: written.timeout.map_or(Duration::from_secs(60), |d| d.0),
        tools_age: written.tools_age.map_or(Duration::from_secs(60), |d| d.0),
        answer_limit: written.answer_limit.map_or(4 << 20, |s| s.0),
        inject_prompt: written.inject_prompt.clone().filter(|prompt| *prompt != Prompt::Only(false)),
        cancel_on_disconnect: written.cancel_on_disconnect,
        is_declared: true,
    })
}

/// Whether a caller's key may stand there.
fn is_key_header(name: &HeaderName) -> bool {
    matches!(name.as_str(), "authorization" | "x-litellm-api-key" | "api-key" | "x-api-key" | "cookie")
}

fn is_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host" | "connection" | "content-length" | "content-type" | "transfer-encoding" | "accept" | "te" | "upgrade"
    ) || name.as_str().starts_with("mcp-")
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The text behind what was written; offline a reference is taken on trust.
fn secret(written: &Written, context: &Context<'_>) -> Option<String> {
    if context.mode == Mode::Offline && written.reference().is_some() {
        return Some("offline".to_owned());
    }
    look_up(written, context.secrets).map(|secret| secret.expose_secret().to_owned())
}

fn reach(written: &file::McpServer, context: &Context<'_>, errors: &mut Vec<String>) -> Option<Reach> {
    let ways =
        [written.url.is_some(), written.socket.is_some(), written.command.is_some()].iter().filter(|w| **w).count();
    if ways != 1 {
        errors.push("it needs one of url, command and socket".to_owned());
        return None;
    }
    if let Some(url) = &written.url {
        let url = plain(url, context);
        if written.transport == Some(Transport::Stdio) {
            errors.push("transport: a server with a url speaks `http` or `sse`".to_owned());
        }
        let places = match written.transport {
            Some(Transport::Sse) => vec![(url, true)],
            Some(_) => vec![(url, false)],
            None => vec![(url.clone(), false), (url, true)],
        };
        return net("url", &places, written, context, errors);
    }
    if !matches!(written.transport, None | Some(Transport::Stdio)) {
        errors.push("transport: a program and a socket speak `stdio`".to_owned());
    }
    if let Some(socket) = &written.socket {
        if !socket.is_absolute() {
            errors.push("socket: the path must be absolute".to_owned());
        }
        return Some(Reach::Socket(socket.clone()));
    }
    let mut words = match written.command.as_ref()? {
        Words::One(word) => vec![word.clone()],
        Words::Many(words) => words.clone(),
    };
    words.extend(written.args.iter().cloned());
    if words.first().is_none_or(String::is_empty) {
        errors.push("command: it is empty".to_owned());
    }
    let mut env = BTreeMap::new();
    for (name, value) in &written.env {
        match secret(value, context) {
            Some(text) => drop(env.insert(name.clone(), Written(text))),
            None => errors.push(format!("env.{name}: the variable that it refers to is not set")),
        }
    }
    let cwd = written.cwd.clone().unwrap_or_else(|| context.state_dir.to_owned());
    Some(Reach::Program(Program { words, env, cwd }))
}

/// An address may be in the environment, too.
fn plain(text: &str, context: &Context<'_>) -> String {
    let written = Written(text.to_owned());
    match (written.reference(), context.mode) {
        (None, _) => text.to_owned(),
        (Some(_), Mode::Offline) => "http://offline.invalid".to_owned(),
        (Some(_), Mode::Live) => secret(&written, context).unwrap_or_default(),
    }
}

fn net(
    field: &str,
    places: &[(String, bool)],
    written: &file::McpServer,
    context: &Context<'_>,
    errors: &mut Vec<String>,
) -> Option<Reach> {
    let mut found = Vec::new();
    for (url, sse) in places {
        match address(url) {
            Ok(url) => found.push(Place { url, sse: *sse }),
            Err(e) => {
                errors.push(format!("{field}: {e}"));
                return None;
            }
        }
    }
    if context.mode == Mode::Live
        && let Some(path) = &written.ca_file
    {
        errors.extend(crate::upstream::tls::check_ca(path).err().map(|e| format!("ca_file: {e}")));
    }
    let transport = route::Transport {
        socket: None,
        tls: found.first().is_some_and(|place| place.url.scheme_str() == Some("https")),
        ca_file: written.ca_file.clone(),
        connect_timeout: written.connect_timeout.map_or(Duration::from_secs(5), |d| d.0),
    };
    Some(Reach::Net { places: found, transport })
}

/// A URL that may be dialled.
///
/// # Errors
/// What is wrong with it.
pub fn address(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL".to_owned())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it must begin with `http://` or `https://`".to_owned());
    }
    if uri.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err("it must have a host and no user; use auth_type and auth_value".to_owned());
    }
    Ok(uri)
}

fn auth(
    name: &str,
    written: &file::McpServer,
    context: &Context<'_>,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Auth {
    let kind = match (written.auth_type, &written.auth_value) {
        // What else could a value be meant for?
        (None, Some(_)) => AuthType::BearerToken,
        (None, None) => AuthType::None,
        (Some(kind), _) => kind,
    };
    if kind == AuthType::None {
        return Auth::None;
    }
    if kind == AuthType::Oauth2 {
        return client(written, context, errors);
    }
    let Some(value) = &written.auth_value else {
        errors.push("auth_value is missing: auth_type says that there is one".to_owned());
        return Auth::None;
    };
    let Some(text) = secret(value, context) else {
        warnings.push(format!(
            "mcp_servers.{name}.auth_value: the variable {} is not set; the server is called without a credential",
            value.reference().unwrap_or_default()
        ));
        return Auth::None;
    };
    let (header, text) = match kind {
        AuthType::ApiKey => (HeaderName::from_static("x-api-key"), text),
        // The word is spelled so for those who compare it letter by letter, as Home Assistant does.
        AuthType::BearerToken => (AUTHORIZATION, format!("Bearer {}", text.strip_prefix("Bearer ").unwrap_or(&text))),
        AuthType::Basic => (AUTHORIZATION, format!("Basic {}", basic(&text))),
        _ => (AUTHORIZATION, text),
    };
    match sensitive(&text) {
        Some(value) => Auth::Header(header, value),
        None => {
            errors.push("auth_value: its value cannot stand in a header".to_owned());
            Auth::None
        }
    }
}

/// `user:password` is encoded; what is encoded already goes as it stands.
fn basic(text: &str) -> String {
    let text = text.strip_prefix("Basic ").unwrap_or(text);
    if text.contains(':') { BASE64_STANDARD.encode(text) } else { text.to_owned() }
}

fn client(written: &file::McpServer, context: &Context<'_>, errors: &mut Vec<String>) -> Auth {
    let (Some(url), Some(id), Some(secret_of)) = (&written.token_url, &written.client_id, &written.client_secret)
    else {
        errors.push("oauth2 needs token_url, client_id and client_secret: the gateway signs in by itself, since nobody is there to sign in for it".to_owned());
        return Auth::None;
    };
    let token_url = match address(&plain(url, context)) {
        Ok(url) => url,
        Err(e) => {
            errors.push(format!("token_url: {e}"));
            return Auth::None;
        }
    };
    let mut read = |field: &str, written: &Written| {
        let text = secret(written, context);
        if text.is_none() {
            errors.push(format!("{field}: the variable that it refers to is not set"));
        }
        Written(text.unwrap_or_default())
    };
    let (id, secret) = (read("client_id", id), read("client_secret", secret_of));
    Auth::Client(Client { token_url, id, secret, scopes: written.scopes.clone() })
}

/// Home Assistant as one more server, at the places where its releases have theirs.
pub(super) fn home_assistant(
    house: &file::HomeAssistant,
    context: &Context<'_>,
    warnings: &mut Vec<String>,
) -> Result<Server, Vec<String>> {
    let base = plain(&house.url, context);
    let base = base.trim_end_matches('/');
    let name = house.name.as_deref().unwrap_or("home_assistant");
    let written = file::McpServer {
        url: Some(base.to_owned()),
        transport: house.transport,
        auth_value: house.token.clone(),
        ca_file: house.ca_file.clone(),
        description: Some("Home Assistant".to_owned()),
        allowed_tools: house.allowed_tools.clone(),
        disallowed_tools: house.disallowed_tools.clone(),
        allowed_params: house.allowed_params.clone(),
        access_groups: house.access_groups.clone(),
        allow_all_keys: house.allow_all_keys,
        inject_prompt: house.inject_prompt.clone(),
        timeout: house.timeout,
        cancel_on_disconnect: house.cancel_on_disconnect,
        ..file::McpServer::default()
    };
    let mut server = read(name, &written, context, warnings)?;
    let api = house.api.as_deref().unwrap_or("assist");
    let mut errors = Vec::new();
    if !api.chars().all(|c| is_name_char(c) || c == '.') {
        errors.push("api: it is the id of a tool set, such as `assist`".to_owned());
    }
    let mut places = vec![];
    if house.transport != Some(Transport::Sse) {
        if !api.is_empty() {
            places.push((format!("{base}/api/mcp/{api}"), false));
        }
        // Releases before 2026.9 have one set alone, and most have Assist's.
        if matches!(api, "" | "assist") {
            places.push((format!("{base}/api/mcp"), false));
        }
    }
    if house.transport != Some(Transport::Http) {
        places.push((format!("{base}/mcp_server/sse"), true));
    }
    let reach = net("url", &places, &written, context, &mut errors);
    match reach {
        Some(reach) if errors.is_empty() => server.reach = reach,
        _ => return Err(errors),
    }
    Ok(server)
}
