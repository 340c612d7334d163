//! Servers of tools: what was written, checked and given its meaning.

pub mod stored;

use super::file::{self, AuthType, File, Prompt, Transport, Words};
use super::{Mode, look_up};
use crate::route;
use crate::secret::{Secrets, Written};
use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// All servers of tools, and how models use them.
#[derive(Debug, Default)]
pub struct Mcp {
    pub servers: Vec<Arc<Server>>,
    pub tools: Tools,
}

/// One server of tools. Two that are equal share their connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub name: String,
    /// Instead of its name in the database; that of the configuration is its name.
    pub id: String,
    /// In front of its tools' names.
    pub prefix: String,
    /// Between the two.
    pub separator: String,
    pub description: Option<String>,
    pub instructions: Option<String>,
    pub reach: Reach,
    pub auth: Auth,
    pub static_headers: Vec<(HeaderName, HeaderValue)>,
    pub forwarded: Vec<HeaderName>,
    pub allowed_tools: Vec<String>,
    pub disallowed_tools: Vec<String>,
    pub allowed_params: BTreeMap<String, Vec<String>>,
    pub access_groups: Vec<String>,
    pub allow_all_keys: bool,
    pub cost_nanos: u64,
    pub tool_cost_nanos: BTreeMap<String, u64>,
    pub tool_titles: BTreeMap<String, String>,
    pub tool_descriptions: BTreeMap<String, String>,
    pub info: BTreeMap<String, file::Json>,
    pub timeout: Duration,
    pub tools_age: Duration,
    pub answer_limit: usize,
    pub inject_prompt: Option<Prompt>,
    pub cancel_on_disconnect: bool,
    /// From the configuration: nothing that callers ask for changes it.
    pub is_declared: bool,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    /// The first of these places that answers.
    Net {
        places: Vec<Place>,
        transport: route::Transport,
    },
    Program(Program),
    Socket(PathBuf),
}

/// An address, and how it is spoken to there.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub url: Uri,
    pub sse: bool,
}

/// A program that speaks over its standard input and output.
#[derive(Clone, PartialEq)]
pub struct Program {
    pub words: Vec<String>,
    pub env: BTreeMap<String, Written>,
    pub cwd: PathBuf,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments may hold anything.
        write!(f, "Program({:?}, {} variables)", self.words.first(), self.env.len())
    }
}

/// How the gateway shows a server who it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    None,
    Header(HeaderName, HeaderValue),
    /// OAuth 2 client credentials (RFC 6749, section 4.4).
    Client(Client),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    pub token_url: Uri,
    pub id: Written,
    pub secret: Written,
    pub scopes: Vec<String>,
}

/// `[tools]`
#[derive(Debug, Clone, PartialEq)]
pub struct Tools {
    pub separator: String,
    pub max_rounds: usize,
    pub max_time: Duration,
    pub max_cost_nanos: Option<u64>,
    pub result_limit: usize,
    pub sets: Vec<Toolset>,
    pub resume_age: Duration,
}

/// A named set of tools.
#[derive(Debug, Clone, PartialEq)]
pub struct Toolset {
    pub name: String,
    /// Instead of its name in the database.
    pub id: String,
    pub description: Option<String>,
    /// Server and tool of each.
    pub tools: Vec<(String, String)>,
    /// From the configuration: nothing that callers ask for changes it.
    pub is_declared: bool,
}

impl Toolset {
    /// Whether somebody who writes this means the set.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name || name == self.id
    }
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            separator: "-".to_owned(),
            max_rounds: 10,
            max_time: Duration::from_secs(300),
            max_cost_nanos: None,
            result_limit: 64 << 10,
            sets: Vec::new(),
            resume_age: Duration::from_secs(3600),
        }
    }
}

impl Server {
    /// The cost of a call of this tool.
    pub fn cost(&self, tool: &str) -> u64 {
        self.tool_cost_nanos.get(tool).copied().unwrap_or(self.cost_nanos)
    }

    /// Whether the operator offers this tool.
    pub fn offers(&self, tool: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| self.means(name, tool));
        // As in LiteLLM, what is allowed by name is not taken away by the other list.
        match self.allowed_tools.is_empty() {
            false => named(&self.allowed_tools),
            true => !named(&self.disallowed_tools),
        }
    }

    /// Whether a name in a list is this tool's: bare, or with the server's before it.
    pub fn means(&self, name: &str, tool: &str) -> bool {
        let bare = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix(self.separator.as_str());
        name == tool || bare(&self.prefix) == Some(tool) || bare(&self.name) == Some(tool)
    }

    /// Whether somebody who writes this means the server.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name || name == self.id || name == self.prefix
    }

    /// The word for how it is spoken to, as LiteLLM writes it.
    pub fn transport(&self) -> &'static str {
        match &self.reach {
            Reach::Net { places, .. } if places.iter().all(|place| place.sse) => "sse",
            Reach::Net { .. } => "http",
            Reach::Program(_) | Reach::Socket(_) => "stdio",
        }
    }
}

/// What is needed to resolve one server.
pub struct Context<'a> {
    pub secrets: &'a Secrets,
    pub mode: Mode,
    pub state_dir: &'a Path,
    /// [`Tools::separator`]
    pub separator: &'a str,
}

/// Resolves all servers and `[tools]`.
pub fn resolve(
    file: &File,
    secrets: &Secrets,
    mode: Mode,
    state_dir: &Path,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Mcp {
    let tools = tools(&file.tools, errors);
    let context = &Context { secrets, mode, state_dir, separator: &tools.separator };
    let mut servers: Vec<Arc<Server>> = Vec::new();
    let mut taken = BTreeSet::new();
    let mut take = |place: String, result: Result<Server, Vec<String>>, errors: &mut Vec<String>| match result {
        Ok(server) => {
            for name in BTreeSet::from([server.name.clone(), server.prefix.clone()]) {
                if !taken.insert(name.clone()) {
                    errors.push(format!("{place}: another server is called `{name}` already"));
                }
            }
            servers.push(Arc::new(server));
        }
        Err(problems) => errors.extend(problems.into_iter().map(|problem| format!("{place}: {problem}"))),
    };
    for (name, written) in &file.mcp_servers {
        take(format!("mcp_servers.{name}"), server(name, written, context, warnings), errors);
    }
    if let Some(house) = &file.home_assistant {
        take("home_assistant".to_owned(), home_assistant(house, context, warnings), errors);
    }
    for Toolset { name, tools: of, .. } in &tools.sets {
        if !is_name(name) || taken.contains(name) {
            errors.push(format!("tools.sets.{name}: it must be a name as servers have them, and no server's"));
        }
        for (server, _) in of.iter().filter(|(server, _)| !servers.iter().any(|known| known.is_called(server))) {
            errors.push(format!("tools.sets.{name}: there is no server `{server}`"));
        }
    }
    Mcp { servers, tools }
}

fn tools(written: &file::Tools, errors: &mut Vec<String>) -> Tools {
    let usual = Tools::default();
    let separator = written.separator.clone().unwrap_or(usual.separator);
    if separator.is_empty() || separator.len() > 8 || !separator.chars().all(|c| matches!(c, '-' | '_')) {
        errors.push("tools.separator: it must be 1 to 8 of `-` and `_`".to_owned());
    }
    let max_rounds = written.max_rounds.unwrap_or(usual.max_rounds);
    if !(1..=100).contains(&max_rounds) {
        errors.push(format!("tools.max_rounds: {max_rounds} is outside 1..100"));
    }
    let max_cost_nanos = written.max_cost.and_then(|usd| nanos("tools.max_cost", usd, errors));
    Tools {
        separator,
        max_rounds,
        max_time: written.max_time.map_or(usual.max_time, |d| d.0),
        max_cost_nanos,
        result_limit: written.result_limit.map_or(usual.result_limit, |s| s.0),
        sets: written.sets.iter().map(|(name, servers)| set(name, servers)).collect(),
        resume_age: written.resume_age.map_or(usual.resume_age, |d| d.0),
    }
}

fn set(name: &str, servers: &BTreeMap<String, Vec<String>>) -> Toolset {
    let of = |(server, tools): (&String, &Vec<String>)| -> Vec<(String, String)> {
        tools.iter().map(|tool| (server.clone(), tool.clone())).collect()
    };
    let tools = servers.iter().flat_map(of).collect();
    Toolset { name: name.to_owned(), id: name.to_owned(), description: None, tools, is_declared: true }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether a server may have this name: it is part of paths and of tools' names.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| is_name_char(c) || c == '.') && !name.starts_with(['-', '.'])
}

fn nanos(place: &str, usd: f64, errors: &mut Vec<String>) -> Option<u64> {
    if (0.0..=1e6).contains(&usd) {
        return Some((usd * 1e9).round() as u64);
    }
    errors.push(format!("{place}: it is an amount of dollars from 0 to 1e6"));
    None
}

/// Resolves one server.
///
/// # Errors
/// Everything that is wrong with it.
pub fn server(
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
fn home_assistant(
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
    let mut server = server(name, &written, context, warnings)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mcp, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let secrets = Secrets::none();
        let state_dir = Path::new("/var/lib/gateway");
        let mcp = resolve(&file, &secrets, Mode::Offline, state_dir, &mut errors, &mut warnings);
        if errors.is_empty() { Ok(mcp) } else { Err(errors.join("\n")) }
    }

    #[test]
    fn both_names_of_the_table_are_read() {
        for table in ["mcp_servers", "mcp"] {
            let mcp = read(&format!("[{table}.search]\nurl = \"http://h/mcp\"\nheaders.X-Key = \"env:K\"\n")).unwrap();
            let server = &mcp.servers[0];
            assert_eq!((server.name.as_str(), server.static_headers.len()), ("search", 1));
            let Reach::Net { places, .. } = &server.reach else { panic!() };
            assert_eq!(places.iter().map(|p| p.sse).collect::<Vec<_>>(), [false, true]);
        }
    }

    #[test]
    fn the_house_is_looked_for_where_its_releases_have_it() {
        let places = |more: &str| {
            let mcp = read(&format!("[home_assistant]\nurl = \"http://ha:8123/\"\ntoken = \"env:T\"\n{more}")).unwrap();
            let Reach::Net { places, .. } = &mcp.servers[0].reach else { panic!() };
            places.iter().map(|p| p.url.path().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(places(""), ["/api/mcp/assist", "/api/mcp", "/mcp_server/sse"]);
        assert_eq!(places("api = \"kitchen\"\ntransport = \"http\""), ["/api/mcp/kitchen"]);
        assert_eq!(places("transport = \"sse\""), ["/mcp_server/sse"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, part) in [
            ("[mcp.a]\n", "one of url, command and socket"),
            ("[mcp.a]\nurl = \"http://h\"\ncommand = \"x\"\n", "one of url"),
            ("[mcp.\"a b\"]\nurl = \"http://h\"\n", "name must"),
            ("[mcp.a]\nurl = \"http://u:p@h\"\n", "no user"),
            ("[mcp.a]\nurl = \"ftp://h\"\n", "http://"),
            ("[mcp.a]\nurl = \"http://h\"\nauth_type = \"basic\"\n", "auth_value"),
            ("[mcp.a]\nurl = \"http://h\"\nauth_type = \"oauth2\"\n", "token_url"),
            ("[mcp.a]\nurl = \"http://h\"\nextra_headers = [\"Authorization\"]\n", "goes nowhere else"),
            ("[mcp.a]\ncommand = \"x\"\ntransport = \"http\"\n", "speak `stdio`"),
            ("[mcp.a]\nurl = \"http://h\"\n[mcp.b]\nurl = \"http://h\"\nalias = \"a\"\n", "already"),
            ("[tools]\nseparator = \"/\"\n", "separator"),
            ("[mcp.a]\nurl = \"http://h\"\ncost_per_call = -1\n", "dollars"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_do_not_show() {
        let mcp = read("[mcp.a]\nurl = \"http://h\"\nauth_value = \"sk-secret\"\n[mcp.b]\ncommand = [\"x\", \"sk-secret\"]\nenv.K = \"sk-secret\"\n").unwrap();
        assert!(!format!("{mcp:?}").contains("sk-secret"));
    }
}
