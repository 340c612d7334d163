//! What OpenAI's own API accepts as a chat request, checked as strictly as it would; a pure function.

use super::upstream::Seen;
use serde_json::{Map, Value};

/// What one scripted upstream insists on.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Accepted values of `Authorization`; `None` stands for no such header at all.
    pub authorization: Vec<Option<String>>,
    /// Accepted value of `Host`; any when unset.
    pub host: Option<String>,
    pub path: String,
    /// Top-level members accepted beside OpenAI's own.
    pub extras: Vec<String>,
    /// Nothing is checked: the script speaks another protocol.
    pub is_free: bool,
}

/// A refusal: status, `param`, message.
pub type Refusal = (u16, Option<String>, String);

type Check = fn(&Value) -> bool;

/// Every top-level member that OpenAI knows, with the type it must have when it is not null.
#[rustfmt::skip]
const MEMBERS: &[(&str, Check)] = &[
    ("audio", Value::is_object), ("frequency_penalty", Value::is_number), ("function_call", is_choice),
    ("functions", Value::is_array), ("logit_bias", Value::is_object), ("logprobs", Value::is_boolean),
    ("max_completion_tokens", is_whole), ("max_tokens", is_whole), ("messages", Value::is_array),
    ("metadata", Value::is_object), ("modalities", Value::is_array), ("model", Value::is_string),
    ("moderation", Value::is_object), ("n", is_whole), ("parallel_tool_calls", Value::is_boolean),
    ("prediction", Value::is_object), ("presence_penalty", Value::is_number), ("prompt_cache_key", Value::is_string),
    ("prompt_cache_options", Value::is_object), ("prompt_cache_retention", Value::is_string),
    ("reasoning_effort", Value::is_string), ("response_format", Value::is_object),
    ("safety_identifier", Value::is_string), ("seed", is_whole), ("service_tier", Value::is_string), ("stop", is_stop),
    ("store", Value::is_boolean), ("stream", Value::is_boolean), ("stream_options", Value::is_object),
    ("temperature", Value::is_number), ("tool_choice", is_choice), ("tools", Value::is_array),
    ("top_logprobs", is_whole), ("top_p", Value::is_number), ("user", Value::is_string),
    ("verbosity", Value::is_string), ("web_search_options", Value::is_object),
];

const ROLES: &[&str] = &["developer", "system", "user", "assistant", "tool", "function"];

/// Headers that belong to the caller's connection or key, and must never reach an upstream.
const NOT_FOR_UPSTREAMS: &[&str] = &["x-api-key", "api-key", "x-litellm-api-key", "cookie", "proxy-authorization"];

/// Checks a request; `Ok` is its body.
pub fn check(rules: &Rules, seen: &Seen) -> Result<Value, Refusal> {
    check_head(rules, seen)?;
    let text = std::str::from_utf8(&seen.body).map_err(|e| refuse(None, &format!("the body is not UTF-8: {e}")))?;
    let body: Value = serde_json::from_str(text)
        .map_err(|e| refuse(None, &format!("We could not parse the JSON body of your request: {e}")))?;
    let members = body.as_object().ok_or_else(|| refuse(None, "the body is not an object"))?;
    check_members(rules, members)?;
    check_stream_options(members)?;
    check_messages(members)?;
    check_tools(members)?;
    Ok(body)
}

fn check_head(rules: &Rules, seen: &Seen) -> Result<(), Refusal> {
    if seen.method != "POST" || seen.target != rules.path {
        return Err((404, None, format!("Invalid URL ({} {})", seen.method, seen.target)));
    }
    if !rules.authorization.contains(&seen.header("authorization")) {
        return Err((401, None, "Incorrect API key provided.".to_owned()));
    }
    let host = seen.header("host").ok_or_else(|| refuse(None, "no Host header"))?;
    if rules.host.as_ref().is_some_and(|wanted| *wanted != host) {
        return Err(refuse(None, &format!("the Host header is {host:?}")));
    }
    if let Some(name) = NOT_FOR_UPSTREAMS.iter().find(|name| seen.header(name).is_some()) {
        return Err(refuse(None, &format!("the header {name} is the caller's own")));
    }
    if let Some((name, _)) = seen.head.headers.iter().find(|(n, _)| n.to_lowercase().starts_with("x-stainless")) {
        return Err(refuse(None, &format!("the header {name} is the caller's own")));
    }
    let kind = seen.header("content-type").unwrap_or_default();
    if kind.split(';').next() != Some("application/json") {
        return Err((415, None, format!("unsupported content type {kind:?}")));
    }
    // What the gateway asks for it must also be able to read: it watches usage in plain bytes.
    if seen.header("accept-encoding").is_some_and(|v| v != "identity") {
        return Err(refuse(None, "a compressed answer was asked for"));
    }
    Ok(())
}

fn check_members(rules: &Rules, members: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in members {
        match MEMBERS.iter().find(|(known, _)| known == name) {
            Some((_, fits)) if value.is_null() || fits(value) => {}
            Some(_) => return Err(refuse(Some(name), &format!("Invalid type for '{name}'."))),
            None if rules.extras.contains(name) => {}
            None => return Err(refuse(None, &format!("Unrecognized request argument supplied: {name}"))),
        }
    }
    for needed in ["model", "messages"] {
        if members.get(needed).is_none_or(Value::is_null) {
            return Err(refuse(Some(needed), &format!("Missing required parameter: '{needed}'.")));
        }
    }
    Ok(())
}

fn check_stream_options(members: &Map<String, Value>) -> Result<(), Refusal> {
    let Some(options) = members.get("stream_options").and_then(Value::as_object) else { return Ok(()) };
    if members.get("stream") != Some(&Value::Bool(true)) {
        return Err(refuse(Some("stream_options"), "stream_options is only allowed when stream is true."));
    }
    for (name, value) in options {
        if !["include_usage", "include_obfuscation"].contains(&name.as_str()) || !value.is_boolean() {
            return Err(refuse(Some(&format!("stream_options.{name}")), "unknown or of the wrong type"));
        }
    }
    Ok(())
}

/// Roles are known, and every tool call is answered before the talk goes on.
fn check_messages(members: &Map<String, Value>) -> Result<(), Refusal> {
    let messages = members.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        return Err(refuse(Some("messages"), "Invalid 'messages': empty array."));
    }
    let mut unanswered: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        let role = message["role"].as_str().filter(|r| ROLES.contains(r));
        let role = role.ok_or_else(|| refuse(Some(&format!("{at}.role")), "Invalid value for 'role'."))?;
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let known = unanswered.iter().position(|open| *open == id);
            let known = known.ok_or_else(|| refuse(Some(&at), "a tool message must answer a preceding tool call"))?;
            unanswered.swap_remove(known);
            continue;
        }
        if !unanswered.is_empty() {
            return Err(refuse(Some(&at), "tool calls without an answer come before this message"));
        }
        let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        unanswered.extend(calls.iter().filter_map(|call| call["id"].as_str()));
        if !(message["content"].is_string() || message["content"].is_array() || !calls.is_empty()) {
            return Err(refuse(Some(&format!("{at}.content")), "Invalid value for 'content'."));
        }
    }
    Ok(())
}

/// Functions have names of at most 64 characters.
fn check_tools(members: &Map<String, Value>) -> Result<(), Refusal> {
    let tools = members.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let name = tool["function"]["name"].as_str().unwrap_or("-");
        if name.is_empty() || name.len() > 64 {
            let at = format!("tools[{index}].function.name");
            return Err(refuse(Some(&at), &format!("Invalid '{at}': expected at most 64 characters.")));
        }
    }
    Ok(())
}

fn refuse(param: Option<&str>, message: &str) -> Refusal {
    (400, param.map(str::to_owned), message.to_owned())
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn is_choice(value: &Value) -> bool {
    value.is_string() || value.is_object()
}

fn is_stop(value: &Value) -> bool {
    value.is_string() || value.as_array().is_some_and(|a| a.len() <= 4 && a.iter().all(Value::is_string))
}
