//! What Anthropic's Messages API accepts as a request, checked as strictly as it would; a pure function.
//!
//! Source: Anthropic's API reference ("Create a Message", "Count tokens") and its pages about tool use, extended
//! thinking and prompt caching.

pub mod order;
pub mod reply;
mod turns;

use super::upstream::Seen;
use serde_json::{Map, Value};

/// What one scripted upstream insists on.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The accepted key, and whether it is shown as a bearer in place of `x-api-key`.
    pub key: (String, bool),
    /// Accepted value of `Host`; any when unset.
    pub host: Option<String>,
    /// Accepted values of `anthropic-version`.
    pub versions: Vec<String>,
    /// Betas that a request must name.
    pub betas: Vec<String>,
    /// Whether tokens are counted here; 404 if not.
    pub counts: bool,
}

/// A refusal: status, type, message.
pub type Refusal = (u16, &'static str, String);

type Check = fn(&Value) -> bool;

/// Every top-level member that the API knows, with the type it must have. None of them may be null.
#[rustfmt::skip]
const MEMBERS: &[(&str, Check)] = &[
    ("cache_control", Value::is_object), ("container", Value::is_string), ("context_management", Value::is_object),
    ("inference_geo", Value::is_string), ("max_tokens", Value::is_u64), ("mcp_servers", Value::is_array),
    ("messages", Value::is_array), ("metadata", Value::is_object), ("model", Value::is_string),
    ("output_config", Value::is_object), ("service_tier", Value::is_string), ("speed", Value::is_string),
    ("stop_sequences", Value::is_array), ("stream", Value::is_boolean), ("system", is_system),
    ("temperature", Value::is_number), ("thinking", Value::is_object), ("tool_choice", Value::is_object),
    ("tools", Value::is_array), ("top_k", Value::is_u64), ("top_p", Value::is_number),
];

/// Headers of the caller's connection that must never reach an upstream.
const NOT_FOR_UPSTREAMS: &[&str] = &["api-key", "x-litellm-api-key", "cookie", "proxy-authorization"];

/// Breakpoints of the prompt cache that a request may have.
const MOST_BREAKPOINTS: usize = 4;

/// Checks a request; `Ok` is its body.
pub fn check(rules: &Rules, seen: &Seen) -> Result<Value, Refusal> {
    let counts = match (seen.method.as_str(), seen.target.as_str()) {
        ("POST", "/v1/messages") => false,
        ("POST", "/v1/messages/count_tokens") if rules.counts => true,
        _ => return Err((404, "not_found_error", format!("Not found: {} {}", seen.method, seen.target))),
    };
    check_head(rules, seen)?;
    let body: Value =
        serde_json::from_slice(&seen.body).map_err(|e| refuse(format!("The request body is not valid JSON: {e}")))?;
    let members = body.as_object().ok_or_else(|| refuse("The request body is not an object"))?;
    check_members(members, counts)?;
    let model = Model::named(members["model"].as_str().unwrap_or_default());
    check_thinking(members, model)?;
    check_sampling(members, model)?;
    let is_new_version = seen.header("anthropic-version").as_deref() == Some("2026-10-21");
    if let Some(name) =
        ["temperature", "top_p", "top_k"].iter().find(|name| is_new_version && members.contains_key(**name))
    {
        return Err(refuse(format!("{name}: Extra inputs are not permitted")));
    }
    check_tools(members)?;
    check_caching(&body)?;
    turns::check(members, model)?;
    Ok(body)
}

/// What a model takes, as far as the tests need it.
#[derive(Clone, Copy)]
pub struct Model {
    /// Thinks adaptively only, and takes no sampling.
    pub is_new: bool,
    /// Takes an answer that the caller has begun.
    pub prefill: bool,
}

impl Model {
    fn named(name: &str) -> Self {
        let any = |words: &[&str]| words.iter().any(|word| name.contains(word));
        let is_new = any(&["opus-4-7", "opus-4-8", "opus-5", "sonnet-5", "haiku-5", "fable", "mythos"]);
        Model { is_new, prefill: !is_new && !any(&["opus-4-6", "sonnet-4-6"]) }
    }
}

fn check_head(rules: &Rules, seen: &Seen) -> Result<(), Refusal> {
    let (key, is_bearer) = &rules.key;
    let wanted = match is_bearer {
        true => (None, Some(format!("Bearer {key}"))),
        false => (Some(key.clone()), None),
    };
    if (seen.header("x-api-key"), seen.header("authorization")) != wanted {
        return Err((401, "authentication_error", "invalid x-api-key".to_owned()));
    }
    if !seen.header("anthropic-version").is_some_and(|version| rules.versions.contains(&version)) {
        return Err(refuse(format!(
            "anthropic-version: {:?} is not a valid version",
            seen.header("anthropic-version")
        )));
    }
    let betas = seen.header("anthropic-beta").unwrap_or_default();
    let betas: Vec<&str> = betas.split(',').map(str::trim).collect();
    if let Some(beta) = rules.betas.iter().find(|beta| !betas.contains(&beta.as_str())) {
        return Err(refuse(format!("anthropic-beta: '{beta}' is not among {betas:?}")));
    }
    if rules.host.is_some() && rules.host != seen.header("host") {
        return Err(refuse(format!("the Host header is {:?}", seen.header("host"))));
    }
    let is_callers = |name: &str| {
        let name = name.to_lowercase();
        NOT_FOR_UPSTREAMS.contains(&name.as_str()) || name.starts_with("x-stainless") || name.starts_with("x-claude")
    };
    if let Some((name, _)) = seen.head.headers.iter().find(|(name, _)| is_callers(name)) {
        return Err(refuse(format!("the header {name} is the caller's own")));
    }
    if seen.header("content-type").unwrap_or_default().split(';').next() != Some("application/json") {
        return Err(refuse("content-type: must be application/json"));
    }
    match seen.header("accept-encoding") {
        Some(other) if other != "identity" => Err(refuse("a compressed answer was asked for")),
        _ => Ok(()),
    }
}

fn check_members(members: &Map<String, Value>, counts: bool) -> Result<(), Refusal> {
    for (name, value) in members {
        match MEMBERS.iter().find(|(known, _)| known == name) {
            Some(_) if counts && matches!(name.as_str(), "max_tokens" | "stream") => {
                return Err(refuse(format!("{name}: Extra inputs are not permitted")));
            }
            Some((_, fits)) if fits(value) => {}
            Some(_) => return Err(refuse(format!("{name}: Input has the wrong type"))),
            None => return Err(refuse(format!("{name}: Extra inputs are not permitted"))),
        }
    }
    let needed = ["model", "messages", "max_tokens"];
    match needed.iter().find(|name| !(members.contains_key(**name) || counts && **name == "max_tokens")) {
        Some(name) => Err(refuse(format!("{name}: Field required"))),
        None => Ok(()),
    }
}

fn check_thinking(members: &Map<String, Value>, model: Model) -> Result<(), Refusal> {
    let Some(thinking) = members.get("thinking") else { return Ok(()) };
    match thinking["type"].as_str() {
        Some("disabled" | "between_tools" | "adaptive") => Ok(()),
        Some("enabled") if model.is_new => Err(refuse("thinking.type: 'enabled' is not supported by this model")),
        Some("enabled") => {
            let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
            if budget < 1024 {
                return Err(refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"));
            }
            if members.get("max_tokens").is_some_and(|most| most.as_u64().is_some_and(|most| most <= budget)) {
                return Err(refuse("`max_tokens` must be greater than `thinking.budget_tokens`"));
            }
            if matches!(members.get("tool_choice").and_then(|c| c["type"].as_str()), Some("any" | "tool")) {
                return Err(refuse("Thinking may not be enabled when tool_choice forces tool use."));
            }
            Ok(())
        }
        _ => Err(refuse("thinking.type: Input tag is unknown")),
    }
}

fn check_sampling(members: &Map<String, Value>, model: Model) -> Result<(), Refusal> {
    let given: Vec<&str> =
        ["temperature", "top_p", "top_k"].into_iter().filter(|name| members.contains_key(*name)).collect();
    if model.is_new && !given.is_empty() {
        return Err(refuse(format!("`{}` is not supported by this model", given[0])));
    }
    for name in ["temperature", "top_p"] {
        if members.get(name).and_then(Value::as_f64).is_some_and(|n| !(0.0..=1.0).contains(&n)) {
            return Err(refuse(format!("{name}: range: 0..1")));
        }
    }
    let thinks = members.get("thinking").is_some_and(|t| t["type"] == "enabled");
    if thinks && members.get("temperature").is_some_and(|t| t.as_f64() != Some(1.0)) {
        return Err(refuse("`temperature` may only be set to 1 when thinking is enabled."));
    }
    let blank = |stop: &Value| stop.as_str().is_none_or(|text| text.trim().is_empty());
    if members.get("stop_sequences").and_then(Value::as_array).is_some_and(|list| list.iter().any(blank)) {
        return Err(refuse("stop_sequences: each stop sequence must contain non-whitespace"));
    }
    Ok(())
}

fn check_tools(members: &Map<String, Value>) -> Result<(), Refusal> {
    let tools = members.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut names = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        let name = tool["name"].as_str().unwrap_or_default();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > 128 || !name.bytes().all(fits) {
            return Err(refuse(format!(
                "tools.{i}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            )));
        }
        if names.contains(&name) {
            return Err(refuse("tools: Tool names must be unique."));
        }
        names.push(name);
        let is_custom = tool.get("type").is_none_or(|kind| kind == "custom");
        if is_custom && tool["input_schema"]["type"] != "object" {
            return Err(refuse(format!("tools.{i}.custom.input_schema.type: Field required")));
        }
        let known = [
            "name",
            "description",
            "input_schema",
            "type",
            "cache_control",
            "strict",
            "defer_loading",
            "eager_input_streaming",
            "input_examples",
        ];
        let extra = tool.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        if let Some(extra) = extra.into_iter().find(|name| is_custom && !known.contains(name)) {
            return Err(refuse(format!("tools.{i}.custom.{extra}: Extra inputs are not permitted")));
        }
    }
    let Some(choice) = members.get("tool_choice") else { return Ok(()) };
    match choice["type"].as_str() {
        _ if tools.is_empty() => Err(refuse("tool_choice: may only be specified while providing tools")),
        Some("auto" | "any" | "none") => Ok(()),
        Some("tool") if names.contains(&choice["name"].as_str().unwrap_or_default()) => Ok(()),
        Some("tool") => Err(refuse("tool_choice.name: not found in provided tools")),
        _ => Err(refuse("tool_choice.type: Input tag is unknown")),
    }
}

fn check_caching(body: &Value) -> Result<(), Refusal> {
    fn breakpoints<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match name.as_str() {
                        "cache_control" => found.push(value),
                        // What a schema or a call's input holds has no meaning here.
                        "input_schema" | "input" => {}
                        _ => breakpoints(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| breakpoints(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    breakpoints(body, &mut found);
    if found.len() > MOST_BREAKPOINTS {
        return Err(refuse(format!(
            "A maximum of 4 blocks with cache_control may be provided. Found {}.",
            found.len()
        )));
    }
    let fits = |mark: &&Value| mark["type"] == "ephemeral" && mark.get("ttl").is_none_or(|t| t == "5m" || t == "1h");
    match found.iter().all(fits) {
        true => Ok(()),
        false => Err(refuse("cache_control.type: Input should be 'ephemeral'")),
    }
}

pub(super) fn refuse(message: impl Into<String>) -> Refusal {
    (400, "invalid_request_error", message.into())
}

fn is_system(value: &Value) -> bool {
    value.is_string()
        || value.as_array().is_some_and(|blocks| {
            blocks.iter().all(|block| block["type"] == "text" && block["text"].as_str().is_some_and(|t| !t.is_empty()))
        })
}
