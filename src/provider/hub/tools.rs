//! Tools and the choice among them.

use super::{Ask, NameRule, ToolNames, bad};
use crate::error::Error;
use serde_json::Value;
use std::collections::HashSet;

/// A function that the model may call.
#[derive(Debug, Clone)]
pub struct Tool {
    /// As the upstream is told.
    pub name: String,
    pub description: Option<String>,
    /// A JSON Schema with `type: object`; none where the function takes nothing.
    pub parameters: Option<Value>,
    pub strict: bool,
    /// The caller wants the prompt cached up to here.
    pub marked: bool,
}

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Auto,
    None,
    /// Any one of them.
    Required,
    Named(String),
}

/// All that a request says about tools.
#[derive(Debug, Default)]
pub struct Tools {
    pub list: Vec<Tool>,
    /// Tools that are no functions, with their places in the request.
    pub others: Vec<(String, Value)>,
    pub choice: Option<Choice>,
    /// `parallel_tool_calls` is false.
    pub one_call: bool,
    /// The caller speaks `functions`, the forerunner of `tools`.
    pub legacy: bool,
    pub names: ToolNames,
}

impl Tools {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.others.is_empty()
    }

    pub fn is_forced(&self) -> bool {
        matches!(self.choice, Some(Choice::Required | Choice::Named(_)))
    }

    /// # Errors
    /// A 400 for a tool that is no function.
    pub fn only_functions(&self, provider: &str) -> Result<(), Error> {
        let Some((place, tool)) = self.others.first() else { return Ok(()) };
        let kind: String = tool["type"].as_str().unwrap_or("none").chars().take(60).collect();
        let what = format!("is '{kind}', and '{provider}' takes tools of the type 'function' only");
        Err(bad(&format!("{place}.type"), &what))
    }

    /// What is asked of a model that cannot be forced.
    pub fn instruction(&self) -> Option<String> {
        match &self.choice {
            Some(Choice::Required) => Some("Answer by calling at least one of the tools, not with text.".to_owned()),
            Some(Choice::Named(name)) => Some(format!("Answer by calling the tool '{name}', not with text.")),
            _ => None,
        }
    }
}

impl Ask<'_> {
    /// Takes tools, the choice among them and their older forms.
    ///
    /// # Errors
    /// A 400 that names the tool at fault.
    pub fn tools(&mut self, rule: NameRule) -> Result<Tools, Error> {
        let names = ToolNames::new(rule, self.all_names().into_iter());
        let mut tools = Tools { names, one_call: self.take("parallel_tool_calls") == false, ..Tools::default() };
        for (i, tool) in self.array("tools")?.into_iter().enumerate() {
            let place = format!("tools[{i}]");
            if tool["function"].is_object() && tool["type"].as_str().is_none_or(|kind| kind == "function") {
                let marked = tool["cache_control"].is_object() || tool["function"]["cache_control"].is_object();
                tools.list.push(read(&tool["function"], marked, &format!("{place}.function"), &tools.names)?);
            } else {
                tools.others.push((place, tool));
            }
        }
        let functions = self.array("functions")?;
        tools.legacy = tools.is_empty() && !functions.is_empty();
        for (i, function) in functions.iter().enumerate() {
            tools.list.push(read(function, false, &format!("functions[{i}]"), &tools.names)?);
        }
        let (given, older) = (self.take("tool_choice"), self.take("function_call"));
        tools.choice = choice(&given, &mut tools)?.or(function_call(&older, &tools.names)?);
        if tools.is_empty() && tools.is_forced() {
            return Err(bad("tool_choice", "demands a call, and there are no 'tools' to call"));
        }
        // An older client has room for one call.
        tools.one_call |= tools.legacy;
        Ok(tools)
    }

    /// The names of functions that a request speaks of.
    fn all_names(&self) -> Vec<&str> {
        let list = |name: &str| self.get(name).and_then(Value::as_array).into_iter().flatten();
        let mut names: Vec<&str> = Vec::new();
        names.extend(list("tools").filter_map(|tool| tool["function"]["name"].as_str()));
        names.extend(list("functions").filter_map(|function| function["name"].as_str()));
        for message in list("messages") {
            let calls = message["tool_calls"].as_array().into_iter().flatten();
            names.extend(calls.filter_map(|call| call["function"]["name"].as_str()));
            names.extend(message["function_call"]["name"].as_str());
        }
        names
    }
}

fn read(function: &Value, marked: bool, place: &str, names: &ToolNames) -> Result<Tool, Error> {
    let Some(name) = function["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err(bad(&format!("{place}.name"), "is missing"));
    };
    let parameters = match &function["parameters"] {
        Value::Null => None,
        Value::Object(schema) => {
            let mut schema = schema.clone();
            schema.entry("type").or_insert_with(|| "object".into());
            Some(Value::Object(schema))
        }
        _ => return Err(bad(&format!("{place}.parameters"), "must be a JSON Schema")),
    };
    Ok(Tool {
        name: names.sent(name).to_owned(),
        description: function["description"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
        parameters,
        strict: function["strict"] == true,
        marked,
    })
}

/// Reads `tool_choice`. A choice among some of the tools takes the others out.
fn choice(given: &Value, tools: &mut Tools) -> Result<Option<Choice>, Error> {
    let bad = |what: &str| Err(bad("tool_choice", what));
    let word = given.as_str().or_else(|| given["type"].as_str());
    Ok(Some(match word {
        None if given.is_null() => return Ok(None),
        Some("auto") => Choice::Auto,
        Some("none") => Choice::None,
        Some("required" | "any") => Choice::Required,
        Some("function" | "tool") => {
            let name = given["function"]["name"].as_str().or_else(|| given["name"].as_str());
            match name {
                Some(name) => Choice::Named(tools.names.sent(name).to_owned()),
                None => return bad("names no function"),
            }
        }
        Some("allowed_tools") => {
            let allowed = if given["allowed_tools"].is_object() { &given["allowed_tools"] } else { given };
            let wanted: HashSet<&str> = allowed["tools"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str()))
                .map(|name| tools.names.sent(name))
                .collect();
            tools.list.retain(|tool| wanted.contains(tool.name.as_str()));
            if allowed["mode"] == "required" { Choice::Required } else { Choice::Auto }
        }
        _ => return bad("must be 'auto', 'none', 'required', or name a function"),
    }))
}

/// Reads `function_call`, the forerunner of `tool_choice`.
fn function_call(given: &Value, names: &ToolNames) -> Result<Option<Choice>, Error> {
    match (given.as_str(), given["name"].as_str()) {
        (Some("auto"), _) => Ok(Some(Choice::Auto)),
        (Some("none"), _) => Ok(Some(Choice::None)),
        (_, Some(name)) => Ok(Some(Choice::Named(names.sent(name).to_owned()))),
        _ if given.is_null() => Ok(None),
        _ => Err(bad("function_call", "must be 'auto', 'none', or name a function")),
    }
}
