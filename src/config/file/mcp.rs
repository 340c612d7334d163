//! `[mcp_servers.NAME]`, `[home_assistant]` and `[tools]`: servers of tools, and how models use them.

use super::{Duration, Size, is_default, is_false};
use crate::secret::Written;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[mcp_servers.NAME]`: one server that speaks the Model Context Protocol.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpServer {
    /// Its address, for `http` and `sse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A unix socket behind which its program speaks, as systemd gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Its program, which speaks over standard input and output: a name, or a list with its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Words>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The program's whole environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Written>,
    /// Where the program runs. Default: the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// `http`, `sse` or `stdio`. Default: found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<AuthType>,
    /// The credential, as `auth_type` wants it: a text, or better `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none", alias = "authentication_token")]
    pub auth_value: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Headers of every request; values may be `env:NAME`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", alias = "headers")]
    pub static_headers: BTreeMap<String, Written>,
    /// Names of headers that are passed on from the caller's request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_headers: Vec<String>,
    /// PEM file of a certificate authority to trust for this server, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// In front of its tools' names, in place of the server's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What clients and models are told about it, in place of its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Its tools that are offered; none named means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<String>,
    /// Its tools that are not offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disallowed_tools: Vec<String>,
    /// By tool: the only parameters that may be given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed_params: BTreeMap<String, Vec<String>>,
    /// Groups by whose names keys and teams are given it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_groups: Vec<String>,
    /// Every key may use it.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_all_keys: bool,
    /// Dollars for each call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_call: Option<f64>,
    /// The same by tool.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_costs: BTreeMap<String, f64>,
    /// Titles of its tools, in place of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_titles: BTreeMap<String, String>,
    /// Descriptions of its tools, in place of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_descriptions: BTreeMap<String, String>,
    /// Free facts shown by `/v1/mcp/server`, such as `logo_url`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub info: BTreeMap<String, super::Json>,
    /// A request to it must be answered within this time. Default `"60s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Default `"5s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// Its list of tools is good for so long. Default `"60s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools_age: Option<Duration>,
    /// Larger answers are refused. Default `"4MiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_limit: Option<Size>,
    /// What models that use its tools are told first: `true` for its only prompt, or a prompt's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_prompt: Option<Prompt>,
    /// A running tool is cancelled when the caller leaves.
    #[serde(skip_serializing_if = "is_false")]
    pub cancel_on_disconnect: bool,
}

/// `[home_assistant]`: the house as a server of tools.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HomeAssistant {
    /// Its address without a path, such as `http://homeassistant.lan:8123`.
    pub url: String,
    /// Its long-lived access token: a text, or better `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Written>,
    /// Which of its tool sets. Default `assist`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The server's name. Default `home_assistant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `http` or `sse`. Default: found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// As in `[mcp_servers.NAME]`, and so are the following.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disallowed_tools: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed_params: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_groups: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub allow_all_keys: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_prompt: Option<Prompt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(skip_serializing_if = "is_default")]
    pub cancel_on_disconnect: bool,
}

/// `[tools]`: how tools are named, and how far a model may go with them.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    /// Between the server's and the tool's name. Default `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// After so many rounds of calls the model has to answer. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rounds: Option<usize>,
    /// After this time the model has to answer. Default `"300s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Duration>,
    /// After this cost, in dollars, the model has to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// More of a result is not given to the model. Default `"64KiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_limit: Option<Size>,
    /// Named sets of tools: by set, the tools of each server. Keys are given them, and paths name them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// How long a call that waits for the caller can be taken up again. Default `"1h"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_age: Option<Duration>,
}

/// A text, or a list of texts.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Words {
    One(String),
    Many(Vec<String>),
}

/// Whether a prompt goes first, and which.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Prompt {
    Only(bool),
    Named(String),
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    #[serde(alias = "streamable_http", alias = "streamable-http")]
    Http,
    Sse,
    Stdio,
}

/// How the gateway shows a server who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    None,
    ApiKey,
    #[serde(alias = "token")]
    BearerToken,
    Basic,
    Authorization,
    Oauth2,
}
