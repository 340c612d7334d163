//! Anthropic's Messages API, spoken to an upstream: OpenAI chat completions in, OpenAI chat completions out.
//!
//! Pure: [`request`] makes the upstream's body, [`answer`] and [`Stream`] bring the answer back, [`error`] the
//! refusals. What the one request needs on its way back is kept in a [`Context`]. Source of the wire: the Messages API
//! reference (<https://docs.claude.com/en/api/messages>) and its streaming page.

mod answer;
mod betas;
mod content;
mod errors;
mod ids;
mod images;
mod messages;
mod model;
mod native;
mod request;
mod schema;
mod stream;
mod thinking;
mod tools;
mod usage;

#[cfg(test)]
mod tests;

pub use answer::answer;
pub use errors::error;
pub(super) use model::Traits;
pub use native::{holds_unsigned, signed_only};
pub use request::request;
pub use stream::Stream;
pub(super) use thinking::Plan;

use super::hub::{JSON_TOOL, NameRule, ToolNames};

/// `^[a-zA-Z0-9_-]{1,128}$`
const NAMES: NameRule = NameRule { longest: 128, letter_first: false };

/// What is known of the call beyond its body.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The upstream's name of the model: what it takes is told by its family and version.
    pub model: &'a str,
    /// Parameters without a twin are left out instead of refused.
    pub drop_params: bool,
    /// The model's output limit, if known: `max_tokens` is mandatory upstream, and this is its default (else 4096).
    pub max_output: Option<u64>,
}

/// A body for the upstream.
#[derive(Debug)]
pub struct Foreign {
    /// The JSON to send.
    pub body: Vec<u8>,
    /// Values that the `anthropic-beta` header must hold for this body.
    pub betas: Vec<&'static str>,
    /// What the answer's translation needs.
    pub context: Context,
}

/// What the way back must know about the request.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Tool names that had to be changed.
    pub names: ToolNames,
    /// The input of the tool [`JSON_TOOL`] is the content of the answer.
    pub json_tool: bool,
    /// The caller speaks `functions`, the forerunner of `tools`, and must be answered in kind.
    pub legacy_functions: bool,
}

/// The beta that calls with a token of Anthropic's OAuth must name.
pub const OAUTH_BETA: &str = "oauth-2025-04-20";

/// In front of a key that is a bearer's token, as `ANTHROPIC_AUTH_TOKEN` holds one.
pub const BEARER: &str = "Bearer ";

/// Whether a key is a token of Anthropic's OAuth, which is shown as a bearer.
pub fn is_oauth(key: &str) -> bool {
    key.strip_prefix(BEARER).unwrap_or(key).starts_with("sk-ant-oat")
}
