//! The Anthropic Messages API as its clients speak it, over upstreams that speak OpenAI chat completions.
//!
//! Pure: bytes in, bytes out, no clock and no connection. The parts:
//!
//! - [`to_chat`] a request on its way to the upstream; [`strip_billing_header`] for those that need no translation
//! - [`from_chat`] a whole answer on its way back, [`Stream`] a streamed one
//! - [`Rounds`] an answer of several turns, between which the gateway has called tools
//! - [`Watch`] and [`native_usage`] look at answers of upstreams that speak Anthropic's format themselves
//! - [`error_body`] and [`error_event`] say what went wrong as Anthropic says it
//! - [`estimate_tokens`] and [`models_page`] the small endpoints around it
//!
//! Source: Anthropic's API reference, "Messages", "Streaming Messages", "Errors" and "List Models".

mod answer;
mod billing;
mod models;
mod problem;
mod request;
mod rounds;
mod stream;
mod tokens;
mod usage;
mod watch;
mod words;

#[cfg(test)]
mod tests;

pub use answer::from_chat;
pub use billing::strip_billing_header;
pub use models::models_page;
pub use problem::{error_body, error_event};
pub use request::to_chat;
pub use rounds::Rounds;
pub use stream::{PING, Stream};
pub use tokens::estimate_tokens;
pub use usage::{Counts, native_id, native_usage};
pub use watch::Watch;

/// The member of a tool call's `input` that holds the arguments as the model wrote them, where these are no JSON object:
/// Anthropic's `input` must be one, and what the model wrote must not be lost.
pub const RAW_ARGUMENTS: &str = "raw_arguments";
