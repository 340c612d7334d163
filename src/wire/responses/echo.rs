//! The response object: what the answer repeats of its request, and what has become of it.

use crate::usage::Usage;
use crate::wire::write::Object;
use serde_json::{Map, Value, json};

/// Members that stand in every response, with what they are when the request does not say.
const REPEATED: [(&str, &str); 16] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("temperature", "1.0"),
    ("text", "{\"format\":{\"type\":\"text\"}}"),
    ("tool_choice", "\"auto\""),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// Members of a server of tools that may hold a secret, and are not told again.
const SECRETS: [&str; 2] = ["authorization", "headers"];

/// What an answer repeats of its request.
#[derive(Debug, Clone, Default)]
pub struct Echo {
    /// Members of the response, each with its comma in front.
    members: Vec<u8>,
    /// Whether the response is to be kept for a later one to go on from.
    pub stores: bool,
    /// Names of tools that take a text instead of arguments.
    pub custom: Vec<String>,
}

impl Echo {
    pub(super) fn of(request: &Map<String, Value>, custom: Vec<String>) -> Self {
        let stores = request.get("store") != Some(&Value::Bool(false));
        let mut members = Vec::new();
        let mut add = |name: &str, json: &[u8]| {
            members.extend_from_slice(format!(",\"{name}\":").as_bytes());
            members.extend_from_slice(json);
        };
        for (name, otherwise) in REPEATED {
            match request.get(name) {
                Some(value) => add(name, value.to_string().as_bytes()),
                None => add(name, otherwise.as_bytes()),
            }
        }
        let asked = request.get("reasoning");
        let of = |name: &str| asked.and_then(|reasoning| reasoning.get(name)).cloned().unwrap_or_default();
        add("reasoning", json!({"effort": of("effort"), "summary": of("summary")}).to_string().as_bytes());
        add("store", if stores { b"true" } else { b"false" });
        let mut tools = request.get("tools").cloned().unwrap_or_else(|| json!([]));
        for tool in tools.as_array_mut().into_iter().flatten().filter(|tool| tool["type"] == "mcp") {
            for name in SECRETS {
                tool.as_object_mut().and_then(|tool| tool.shift_remove(name));
            }
        }
        add("tools", tools.to_string().as_bytes());
        Echo { members, stores, custom }
    }
}

/// What an answer to this request repeats of it.
pub fn echo(request: &Map<String, Value>, custom: Vec<String>) -> Echo {
    let said = request.iter().filter(|(_, value)| !value.is_null());
    Echo::of(&said.map(|(name, value)| (name.clone(), value.clone())).collect(), custom)
}

/// A response that is being made in the background, named after the call's id (UUIDv7).
pub fn pending(request: &Map<String, Value>, id: &uuid::Uuid, model: &str) -> Value {
    let (name, created) = (format!("resp_{}", id.simple()), (id.as_u128() >> 80) / 1000);
    let told = Told {
        id: &name,
        created: u64::try_from(created).unwrap_or_default(),
        model,
        status: Status::InProgress,
        output: b"",
        usage: None,
        error: None,
    };
    let mut out = Vec::new();
    echo(request, Vec::new()).write(&told, &mut out);
    let mut response: Value = serde_json::from_slice(&out).unwrap_or_default();
    response["background"] = true.into();
    response
}

/// How a response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    /// Why it is not whole.
    Incomplete(&'static str),
    Failed,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete(_) => "incomplete",
            Status::Failed => "failed",
        }
    }

    /// By chat's word for why an answer ended.
    pub(super) fn of(finish: Option<&str>) -> Self {
        match finish {
            Some("length") => Status::Incomplete("max_output_tokens"),
            Some("content_filter") => Status::Incomplete("content_filter"),
            _ => Status::Completed,
        }
    }
}

/// A response object being told.
pub(super) struct Told<'a> {
    pub id: &'a str,
    pub created: u64,
    pub model: &'a str,
    pub status: Status,
    /// The items, without the brackets.
    pub output: &'a [u8],
    pub usage: Option<&'a Usage>,
    /// Code and message of what went wrong.
    pub error: Option<(&'a str, &'a str)>,
}

impl Echo {
    /// Writes the response object.
    pub(super) fn write(&self, told: &Told<'_>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.text("id", told.id);
        object.text("object", "response");
        object.json("created_at", told.created.to_string());
        object.text("status", told.status.word());
        object.json("background", "false");
        match told.error {
            Some((code, message)) => {
                let mut error = Object::open(object.slot("error"));
                error.text("code", code);
                error.text("message", message);
                error.close();
            }
            None => object.json("error", "null"),
        }
        match told.status {
            Status::Incomplete(reason) => {
                let mut details = Object::open(object.slot("incomplete_details"));
                details.text("reason", reason);
                details.close();
            }
            _ => object.json("incomplete_details", "null"),
        }
        object.text("model", told.model);
        let slot = object.slot("output");
        slot.push(b'[');
        slot.extend_from_slice(told.output);
        slot.push(b']');
        match told.usage {
            Some(usage) => write_usage(usage, object.slot("usage")),
            None => object.json("usage", "null"),
        }
        object.more(&self.members);
        object.close();
    }
}

/// A usage in this API's words.
fn write_usage(usage: &Usage, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.json("input_tokens", usage.prompt_tokens.to_string());
    let mut details = Object::open(object.slot("input_tokens_details"));
    details.json("cached_tokens", usage.cached_tokens.to_string());
    details.json("cache_write_tokens", usage.cache_write_tokens.to_string());
    details.close();
    object.json("output_tokens", usage.completion_tokens.to_string());
    let mut details = Object::open(object.slot("output_tokens_details"));
    details.json("reasoning_tokens", usage.reasoning_tokens.to_string());
    details.close();
    object.json("total_tokens", usage.prompt_tokens.saturating_add(usage.completion_tokens).to_string());
    object.close();
}
