//! Servers of tools: what was written, checked and given its meaning.

pub mod server;
pub mod stored;

use super::Mode;
use super::file::{self, File, Prompt};
use crate::route;
use crate::secret::{Secrets, Written};
use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};
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
        take(format!("mcp_servers.{name}"), server::read(name, written, context, warnings), errors);
    }
    if let Some(house) = &file.home_assistant {
        take("home_assistant".to_owned(), server::home_assistant(house, context, warnings), errors);
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
