//! OpenAI chat's wire, the hub of all translations: read into a typed form for those who speak another language, and
//! written from one.
//!
//! A request is an [`Ask`], whose members are taken one by one; what is left over at the end has no twin. An answer is
//! put into an [`Out`], piece by piece: the same pieces make a whole answer ([`Whole`]) or a stream ([`Frames`]).
//! Pure: no clock, no randomness, no I/O.

mod ask;
mod frames;
mod media;
mod names;
mod out;
mod tools;
mod turns;
mod whole;

pub(super) use ask::written;
pub use ask::{Ask, Effort, Format, Wish};
pub use frames::Frames;
pub use media::{Media, Medium, Source, data_url, decode, is_link};
pub use names::{NameRule, ToolNames, hash};
pub(super) use names::{may_stand, plain};
pub use out::{Delta, Fault, Out, Sink};
pub use tools::{Choice, Tool, Tools};
pub(super) use turns::SIGNED;
pub use turns::{Call, Part, Role, Thought, Turn, turns};
pub use whole::Whole;

use crate::error::Error;
use serde_json::Value;

/// The forced tool that stands in for `response_format` where a model has no structured output; LiteLLM's name for it.
pub const JSON_TOOL: &str = "json_tool_call";

/// What the way back must know about the request.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Whose answer it is, for errors.
    pub provider: &'static str,
    /// For answers and calls that have no id of their own: unique to the call.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model, for answers that do not name it.
    pub model: String,
    /// Tool names that had to be changed.
    pub names: ToolNames,
    /// The input of the tool [`JSON_TOOL`] is the content of the answer.
    pub json_tool: bool,
    /// The caller speaks `functions`, the forerunner of `tools`, and must be answered in kind.
    pub legacy_functions: bool,
    /// The caller wants one call at a time, and the upstream cannot be told so.
    pub one_call: bool,
}

/// A body that the upstream would not understand.
pub(super) fn bad(place: &str, what: &str) -> Error {
    Error::invalid(format!("'{place}' {what}.")).at_param(place)
}

/// The text of a member, if it is one and not empty.
pub(super) fn text_of<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str().filter(|text| !text.is_empty())
}

/// What is asked of a model that cannot be held to a schema.
pub fn instruction(schema: Option<&Value>) -> String {
    let plain = "Answer with a single JSON object and nothing else: no text around it, no code fence.";
    match schema {
        Some(schema) => format!("{plain} It must be valid against this JSON Schema:\n{schema}"),
        None => plain.to_owned(),
    }
}
