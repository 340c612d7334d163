//! What `gateway.toml` may say: the written form, field by field, with no meaning attached.
//!
//! Plain structs that deny unknown fields, so that a typo is found at its line. What the fields mean, which defaults
//! apply and whether names refer to something is decided in [`crate::config`]. The LiteLLM converter produces this
//! same form, and `gateway import litellm` prints it.

pub mod limits;
mod mcp;
mod pass;
mod people;
mod routing;

pub use mcp::{AuthType, HomeAssistant, McpServer, Prompt, Tools, Transport, Words};
pub use pass::PassThrough;
pub use people::{Budget, Key, KeyBounds, KeyDefaults, Member, NewKeys, NewUsers, PersonalKeys, Team, TeamKeys, User};
pub use routing::{Alias, Queue, Routing};

use crate::secret::Written;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// JSON in TOML: free-form values such as default parameters.
pub type Json = serde_json::Value;

/// The whole file.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The key that may do everything: a text, or better `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key: Option<Written>,
    /// Serve callers without any key although the address is reachable from other machines.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_anonymous: bool,
    /// Where state is kept (control socket, generated keys, the ledger's spool and the embedded store).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// Postgres, `postgres://...` or `env:NAME`; unset means the embedded store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<Written>,
    /// A copy of LiteLLM's price map (JSON), whose prices go before the built-in ones; beside this file if not absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_map: Option<PathBuf>,
    #[serde(skip_serializing_if = "is_default")]
    pub server: Server,
    #[serde(skip_serializing_if = "is_default")]
    pub log: Log,
    #[serde(skip_serializing_if = "is_default")]
    pub defaults: Defaults,
    #[serde(skip_serializing_if = "is_default")]
    pub routing: Routing,
    #[serde(skip_serializing_if = "is_default")]
    pub health: Health,
    #[serde(skip_serializing_if = "is_default")]
    pub store: Store,
    #[serde(skip_serializing_if = "is_default")]
    pub ledger: Ledger,
    #[serde(skip_serializing_if = "is_default")]
    pub limits: limits::Limits,
    /// Names and values that `env:NAME` finds before the process environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Written>,
    /// Keys of persons and apps. What is declared here wins over the database, and is changed here alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Key>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, User>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub teams: BTreeMap<String, Team>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<String, Budget>,
    #[serde(skip_serializing_if = "is_default")]
    pub new_keys: NewKeys,
    #[serde(skip_serializing_if = "is_default")]
    pub new_users: NewUsers,
    /// Servers of tools. `[mcp.NAME]` is the same.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", alias = "mcp")]
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// The house as a server of tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_assistant: Option<HomeAssistant>,
    #[serde(skip_serializing_if = "is_default")]
    pub tools: Tools,
    /// Paths that lead to other APIs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass_through: Vec<PassThrough>,
    /// Upstream models; the same name twice is one group served in turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model>,
}

/// `[server]`: how callers reach the gateway.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// `host:port` or `unix:/path`, used when no socket is inherited. Default `127.0.0.1:4000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<String>>,
    /// Worker threads. Default: the processors of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Largest request body, such as `"32MiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Size>,
    /// Largest answer that is not streamed. Default `"64MiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_limit: Option<Size>,
    /// How long open calls may go on after a stop was asked for, such as `"30s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Duration>,
    /// With inherited sockets: end after so long without any connection, until the next one; `"0s"` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Silence after which a stream gets its 200 and keep-alives before the upstream has answered; `"0s"` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_commit: Option<Duration>,
    /// Time between keep-alives of a silent stream. Default `"15s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Duration>,
    /// How long responses of the Responses API are kept, for later ones to go on from; `"0s"` is never. Default `"30d"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_responses: Option<Duration>,
    /// One more request header that may hold the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_header: Option<String>,
    /// A request header that names the end user, before all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_header: Option<String>,
    /// Web origins that may call from a browser; `["*"]` is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors_origins: Option<Vec<String>>,
    /// A path prefix under which every route is served too, such as `/llm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_path: Option<String>,
    /// Where callers find this gateway, such as `https://llm.home.example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Whether `/openai/...`, `/anthropic/...` and so on lead to the providers of these names: `models`, `all` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_pass_through: Option<Doors>,
    /// Whether lists of models show what the providers behind wildcards say they have. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask_for_models: Option<bool>,
    /// Proxies whose `X-Forwarded-For` counts: `unix`, addresses, networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_proxies: Option<Vec<String>>,
    /// Members nested deeper than this are refused. Default 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_nesting: Option<usize>,
}

/// What keys may ask of a provider by its own paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Doors {
    /// Nothing: there are no such paths.
    #[serde(rename = "off")]
    Shut,
    /// What names a model that the key may use; the rest is for administrators.
    #[default]
    #[serde(rename = "models")]
    Models,
    /// Everything that the operator's account may do.
    #[serde(rename = "all")]
    Open,
}

/// `[log]`
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `gateway=debug,awc=info`. Default `info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald when standard error is the journal, text otherwise.
    Auto,
    Journald,
    Text,
    Json,
}

/// `[defaults]`: what every model gets unless it says otherwise.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// A whole answer must be there after this time. Default `"600s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The longest silence of a stream, its first event included. Default: `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_timeout: Option<Duration>,
    /// Default `"5s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// Drop parameters that a provider does not take, instead of a 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_params: Option<bool>,
}

/// `[health]`: what `GET /health` does.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Time for one deployment to answer. Default `"60s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Deployments called at the same time. Default 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Every deployment is called now and then in the background. Each such call costs a few tokens.
    #[serde(skip_serializing_if = "is_false")]
    pub background: bool,
    /// Between two rounds of that. Default `"300s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How often a connection to servers of the house is tried, which calls nobody. Default `"5s"`; `"0s"` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub house_interval: Option<Duration>,
}

/// `[store]`: what is done while the database does not answer.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Serve calls although their key cannot be looked up.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_requests_on_db_unavailable: bool,
    /// A key that was looked up is good for so long without another look. Default `"60s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_cache_age: Option<Duration>,
}

/// `[ledger]`: the record of calls and their cost.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Nothing is recorded and no spend is counted.
    #[serde(skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Serve calls although nothing can be written: a full disk, a full spool. Nobody knows their cost then.
    #[serde(skip_serializing_if = "is_false")]
    pub serve_unaccounted: bool,
    /// Disk for calls that the store has not got yet, because it is down. Default `"1GiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_limit: Option<Size>,
    /// Keep what was asked and answered, for `/spend/logs/ui/{id}`.
    #[serde(skip_serializing_if = "is_false")]
    pub store_prompts: bool,
    /// The most that is kept of a request, and of an answer. Default `"64KiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_limit: Option<Size>,
    /// Prompts and answers are kept for so long, and never longer than their rows. Default `"30d"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_retention: Option<Age>,
    /// Rows of calls are kept for so long; what they add up to stays. Default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Age>,
    /// Between two looks at what is too old. Default `"1d"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_interval: Option<Duration>,
    /// Between two looks at a batch that is not over. Default `"5m"`; `"0s"`: it is left to whoever asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_interval: Option<Duration>,
}

/// `[[models]]`: one deployment, an upstream model under a public name.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The name that callers use; `*` may stand for any text.
    pub name: String,
    /// `provider/model`, the upstream's own name after the first slash.
    pub model: String,
    /// The provider, where `model` does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Base URL, `unix:/path/to.sock`, or `unix:/path/to.sock:/base/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_base: Option<String>,
    /// One key or several that are used in turn: texts, or better `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<OneOrMany>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Stable identity in headers and logs. Default: derived from the name and the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// A share of the calls for this name, in proportion to the others of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Those of a lower order are asked first. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
    /// Requests in a minute: a weight; a limit under usage-based routing and under `routing.pre_call_checks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Tokens in a minute, as `rpm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Calls at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_requests: Option<u32>,
    /// Limits that hold in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<limits::Own>,
    /// Calls with one of these tags, where `routing.tag_filtering` is on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Attempts behind the first one, where this deployment was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// How long it is left alone after failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_time: Option<Duration>,
    /// Where it stands, for calls with `allowed_model_region`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// PEM file of a certificate authority to trust for this upstream, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_params: Option<bool>,
    /// Parameters never sent to this upstream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_drop_params: Vec<String>,
    /// Parameters sent although the provider is not known to take them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_openai_params: Vec<String>,
    /// Parameters used where the caller gives none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Json>,
    /// Members added to every request body of this upstream; they win over the caller's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_body: BTreeMap<String, Json>,
    /// Headers added to every request of this upstream; values may be `env:NAME`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_headers: BTreeMap<String, Written>,
    /// Said in the place of the upstream, which is never dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mock_response: Option<String>,
    /// Tool calls that are asked for beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mock_tool_calls: Vec<Json>,
    /// It is said so much later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mock_delay: Option<Duration>,
    /// Nothing is said, until the timeout.
    #[serde(skip_serializing_if = "is_false")]
    pub mock_timeout: bool,
    /// The account of a cloud's model.
    #[serde(skip_serializing_if = "is_default")]
    pub cloud: CloudAccount,
    /// Free facts shown by `/model/info` (`mode`, `max_input_tokens`, `supports_vision`, ...).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub info: BTreeMap<String, Json>,
}

/// `models.cloud`: the account, the place and the credentials of a cloud's model. Texts may be `env:NAME`.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudAccount {
    /// Google's or IBM's project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// IBM's deployment space, in place of a project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// AWS's region, or Google's location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Azure's or IBM's version of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Google's credentials: the path of a JSON file, or its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Written>,
    /// A section of AWS's `~/.aws/credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The ARN of an AWS role to take on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How the session of the role is called in AWS's logs. Default `gateway`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// A file with the web identity token that the role is taken on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_identity_file: Option<PathBuf>,
    /// Microsoft Entra: the directory, the application, its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Written>,
    /// A token of Microsoft Entra that somebody else renews.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Written>,
    /// What Entra's token is for. Default `https://cognitiveservices.azure.com/.default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Azure: the identity of the machine.
    #[serde(skip_serializing_if = "is_false")]
    pub managed_identity: bool,
    /// Another address that gives tokens, for sovereign clouds and private endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// Another address of the machine's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_url: Option<String>,
}

/// A text or a list of texts.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(Written),
    Many(Vec<Written>),
}

/// A length of time: `"30s"`, `"500ms"`, `"5m"`, `"1h"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// How old something may become: as [`Duration`], and in weeks, months (`"6mo"`, of 31 days) and years too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub std::time::Duration);

/// A number of bytes: `"32MiB"`, `"512KiB"`, `"10MB"`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_default<T: Default + PartialEq>(t: &T) -> bool {
    *t == T::default()
}
