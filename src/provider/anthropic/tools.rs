//! Tools and the choice among them.

use super::betas::Betas;
use super::content::{cache_mark, set_mark};
use super::model::Traits;
use super::schema;
use super::{JSON_TOOL, ToolNames};
use crate::error::Error;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Auto,
    /// Any one of them.
    Any,
    None,
    Named(String),
}

impl Choice {
    pub(super) fn is_forced(&self) -> bool {
        matches!(self, Choice::Any | Choice::Named(_))
    }

    /// The `tool_choice` object; `one` forbids several calls at once.
    pub(super) fn written(&self, one: bool) -> Value {
        let mut choice = match self {
            Choice::Auto => json!({"type": "auto"}),
            Choice::Any => json!({"type": "any"}),
            Choice::None => json!({"type": "none"}),
            Choice::Named(name) => json!({"type": "tool", "name": name}),
        };
        if one && *self != Choice::None {
            choice["disable_parallel_tool_use"] = true.into();
        }
        choice
    }

    /// What is asked of a model that cannot be forced.
    pub(super) fn instruction(&self) -> Option<String> {
        match self {
            Choice::Any => Some("Answer by calling at least one of the tools, not with text.".to_owned()),
            Choice::Named(name) => Some(format!("Answer by calling the tool '{name}', not with text.")),
            Choice::Auto | Choice::None => None,
        }
    }
}

/// The names of functions that a request speaks of.
pub(super) fn all_names(hub: &Map<String, Value>) -> Vec<&str> {
    let list = |name: &str| hub.get(name).and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<&str> = Vec::new();
    names.extend(list("tools").filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str())));
    names.extend(list("functions").filter_map(|function| function["name"].as_str()));
    for message in list("messages") {
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        names.extend(calls.filter_map(|call| call["function"]["name"].as_str().or(call["custom"]["name"].as_str())));
        names.extend(message["function_call"]["name"].as_str());
    }
    names
}

/// What the translation of tools needs to know.
pub(super) struct Setting<'a> {
    pub names: &'a ToolNames,
    pub traits: Traits,
}

/// All tools of a request: `tools`, or the older `functions`.
pub(super) fn tools(list: Vec<Value>, setting: &Setting<'_>, betas: &mut Betas) -> Result<Vec<Value>, Error> {
    list.into_iter().enumerate().map(|(i, tool)| one(tool, &format!("tools[{i}]"), setting, betas)).collect()
}

pub(super) fn functions(list: Vec<Value>, setting: &Setting<'_>) -> Result<Vec<Value>, Error> {
    let one = |(i, function): (usize, Value)| self::function(&function, &format!("functions[{i}]"), setting);
    list.into_iter().enumerate().map(one).collect()
}

fn one(tool: Value, place: &str, setting: &Setting<'_>, betas: &mut Betas) -> Result<Value, Error> {
    let mark = cache_mark(&tool).or_else(|| cache_mark(&tool["function"]));
    let kind = tool["type"].as_str().unwrap_or_default().to_owned();
    let mut made = match kind.as_str() {
        "function" => {
            let mut made = function(&tool["function"], place, setting)?;
            for extra in ["defer_loading", "eager_input_streaming", "input_examples", "allowed_callers"] {
                if let Some(value) = [&tool[extra], &tool["function"][extra]].into_iter().find(|v| !v.is_null()) {
                    made[extra] = value.clone();
                }
            }
            made
        }
        // A tool in Anthropic's own shape.
        "" | "custom" if tool["input_schema"].is_object() => {
            let mut own = tool;
            if let Some(name) = own["name"].as_str().map(|name| setting.names.sent(name).to_owned()) {
                own["name"] = name.into();
            }
            own
        }
        "web_search" | "web_search_preview" => web_search(&tool),
        // Hosted tools carry the date of their version.
        _ if is_hosted(&kind) => hosted(tool),
        _ => {
            let shown: String = kind.chars().take(60).collect();
            let param = format!("{place}.type");
            let known = "'function', 'web_search', or one of Anthropic's hosted types with its date";
            return Err(Error::invalid(format!("Anthropic has no tools of the type '{shown}'; it takes {known}."))
                .at_param(param));
        }
    };
    set_mark(&mut made, mark);
    betas.for_tool(&made);
    Ok(made)
}

fn function(function: &Value, place: &str, setting: &Setting<'_>) -> Result<Value, Error> {
    let Some(name) = function["name"].as_str().filter(|name| !name.is_empty()) else {
        let param = format!("{place}.function.name");
        return Err(Error::invalid(format!("'{param}' is missing.")).at_param(param));
    };
    let mut made = json!({"name": setting.names.sent(name)});
    if let Some(description) = function["description"].as_str().filter(|text| !text.is_empty()) {
        made["description"] = description.into();
    }
    let schema = schema::of_tool(&function["parameters"]);
    // What a strict tool cannot say, an ordinary one still can.
    let strict = (function["strict"] == true && setting.traits.structured).then(|| schema::strict(&schema)).flatten();
    match strict {
        Some(strict) => {
            made["input_schema"] = strict;
            made["strict"] = true.into();
        }
        None => made["input_schema"] = schema,
    }
    Ok(made)
}

fn is_hosted(kind: &str) -> bool {
    let dated = |(_, date): (&str, &str)| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    kind == "mcp_toolset" || kind.rsplit_once('_').is_some_and(dated)
}

/// Clients of LiteLLM wrap hosted tools into a `function` whose `parameters` are the tool's members.
fn hosted(mut tool: Value) -> Value {
    let inner = tool.as_object_mut().and_then(|tool| tool.shift_remove("function"));
    if let Some(inner) = inner {
        if let Some(name) = inner["name"].as_str() {
            tool["name"] = name.into();
        }
        for (name, value) in inner["parameters"].as_object().into_iter().flatten() {
            tool[name.as_str()] = value.clone();
        }
    }
    tool
}

/// The hosted search for OpenAI's `web_search_options`, or for a tool that holds the same members. Anthropic counts
/// searches where OpenAI names sizes of context; the numbers are LiteLLM's.
pub(super) fn web_search(options: &Value) -> Value {
    let mut tool = json!({"type": "web_search_20250305", "name": "web_search"});
    let place = &options["user_location"];
    let place = if place["approximate"].is_object() { &place["approximate"] } else { place };
    if let Some(place) = place.as_object() {
        let mut location = Map::from_iter([("type".to_owned(), json!("approximate"))]);
        let known = place.iter().filter(|(name, value)| *name != "type" && !value.is_null());
        location.extend(known.map(|(name, value)| (name.clone(), value.clone())));
        tool["user_location"] = location.into();
    }
    match options["search_context_size"].as_str() {
        Some("low") => tool["max_uses"] = 1.into(),
        Some("medium") => tool["max_uses"] = 5.into(),
        Some("high") => tool["max_uses"] = 10.into(),
        _ => (),
    }
    for name in ["allowed_domains", "blocked_domains"] {
        let list = [&options[name], &options["filters"][name]].into_iter().find(|list| list.is_array());
        if let Some(list) = list {
            tool[name] = list.clone();
        }
    }
    tool
}

/// Reads `tool_choice`. A choice among some of the tools takes the others out of `tools`.
pub(super) fn choice(given: &Value, tools: &mut Vec<Value>, names: &ToolNames) -> Result<Option<Choice>, Error> {
    let bad = |what: &str| Error::invalid(format!("'tool_choice' {what}.")).at_param("tool_choice");
    let named = |name: &Value| match name.as_str() {
        Some(name) => Ok(Choice::Named(names.sent(name).to_owned())),
        None => Err(bad("names no function")),
    };
    let word = given.as_str().or_else(|| given["type"].as_str());
    let choice = match word {
        None if given.is_null() => return Ok(None),
        Some("auto") => Choice::Auto,
        Some("none") => Choice::None,
        Some("required" | "any") => Choice::Any,
        Some("function") => named(&given["function"]["name"])?,
        Some("custom") => named(&given["custom"]["name"])?,
        // Anthropic's own.
        Some("tool") => named(&given["name"])?,
        Some("allowed_tools") => {
            let allowed = if given["allowed_tools"].is_object() { &given["allowed_tools"] } else { given };
            let list = allowed["tools"].as_array().into_iter().flatten();
            let wanted: HashSet<&str> = list
                .filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str()))
                .map(|name| names.sent(name))
                .collect();
            tools.retain(|tool| tool["name"].as_str().is_some_and(|name| wanted.contains(name)));
            if allowed["mode"] == "required" { Choice::Any } else { Choice::Auto }
        }
        _ => return Err(bad("must be 'auto', 'none', 'required', or name a function")),
    };
    Ok(Some(choice))
}

/// Reads `function_call`, the forerunner of `tool_choice`.
pub(super) fn function_call(given: &Value, names: &ToolNames) -> Result<Option<Choice>, Error> {
    match (given.as_str(), given["name"].as_str()) {
        (Some("auto"), _) => Ok(Some(Choice::Auto)),
        (Some("none"), _) => Ok(Some(Choice::None)),
        (_, Some(name)) => Ok(Some(Choice::Named(names.sent(name).to_owned()))),
        _ if given.is_null() => Ok(None),
        _ => {
            Err(Error::invalid("'function_call' must be 'auto', 'none', or name a function.").at_param("function_call"))
        }
    }
}

/// The tool whose input is the answer.
pub(super) fn json_tool(schema: &Value) -> Value {
    json!({
        "name": JSON_TOOL,
        "description": "Gives the final answer to the user. Its input is the whole answer.",
        "input_schema": schema::of_tool(schema),
    })
}

/// Anthropic refuses calls in the history of a request without tools.
pub(super) fn placeholder() -> Value {
    json!({
        "name": "unavailable_tool",
        "description": "Not available. Never call it.",
        "input_schema": {"type": "object", "properties": {}},
    })
}
