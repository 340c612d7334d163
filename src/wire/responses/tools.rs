//! Tools, and which of them is to be used.

use super::request::wrong;
use crate::envelope::shorten;
use crate::error::Error;
use serde_json::{Map, Value, json};

/// The tools of a request in chat's form.
#[derive(Debug, Default)]
pub struct Tools {
    functions: Vec<Value>,
    search: Option<Value>,
    choice: Option<Value>,
    /// Names of tools that take a text instead of arguments: to chat they are functions with one text.
    pub custom: Vec<String>,
}

/// The one argument of a custom tool.
pub const INPUT: &str = "input";

/// # Errors
/// A 400 that names a tool which only OpenAI can run, or what is wrong in one.
pub fn read(request: &Map<String, Value>) -> Result<Tools, Error> {
    let mut tools = Tools::default();
    let list = match request.get("tools") {
        None => &[],
        Some(Value::Array(list)) => list.as_slice(),
        Some(_) => return Err(wrong("tools", "an array is expected here")),
    };
    for (i, tool) in list.iter().enumerate() {
        let at = format!("tools[{i}]");
        let members = tool.as_object().ok_or_else(|| wrong(&at, "an object is expected here"))?;
        let name = || match members.get("name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(wrong(&format!("{at}.name"), "a name is needed here")),
        };
        match members.get("type").and_then(Value::as_str).unwrap_or_default() {
            "function" if members.get("function").is_some_and(Value::is_object) => tools.functions.push(tool.clone()),
            "function" => {
                name()?;
                let inside = members.iter().filter(|(name, value)| {
                    matches!(name.as_str(), "name" | "description" | "parameters" | "strict") && !value.is_null()
                });
                let inside: Map<String, Value> = inside.map(|(name, value)| (name.clone(), value.clone())).collect();
                tools.functions.push(json!({"type": "function", "function": inside}));
            }
            "custom" => {
                tools.custom.push(name()?.to_owned());
                tools.functions.push(custom(members));
            }
            "web_search" | "web_search_preview" | "web_search_2025_08_26" | "web_search_preview_2025_03_11" => {
                tools.search = Some(search(members));
            }
            // Tools of servers: those of the gateway are called by it, whatever the upstream.
            "mcp" => tools.functions.push(tool.clone()),
            "" => return Err(wrong(&format!("{at}.type"), "a type is needed here, such as 'function'")),
            other => {
                let what = format!(
                    "the upstream of this model cannot run the hosted tool '{}'; offer a 'function' instead",
                    shorten(other)
                );
                return Err(wrong(&format!("{at}.type"), &what));
            }
        }
    }
    tools.choice = request.get("tool_choice").map(|choice| self::choice(choice, &tools)).transpose()?.flatten();
    Ok(tools)
}

impl Tools {
    pub fn write(&self, chat: &mut Map<String, Value>) {
        if !self.functions.is_empty() {
            chat.insert("tools".to_owned(), self.functions.clone().into());
        } else {
            // Without tools it would be refused.
            chat.remove("parallel_tool_calls");
        }
        if let Some(search) = &self.search {
            chat.insert("web_search_options".to_owned(), search.clone());
        }
        if let Some(choice) = self.choice.as_ref().filter(|_| !self.functions.is_empty()) {
            chat.insert("tool_choice".to_owned(), choice.clone());
        }
    }
}

/// A custom tool as a function: the model writes its text into one argument.
fn custom(tool: &Map<String, Value>) -> Value {
    let mut description = tool.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    // Chat cannot hold the model to a grammar; it can be told.
    if let Some(definition) = tool.get("format").and_then(|format| format.get("definition")).and_then(Value::as_str) {
        description = format!("{description}\n\nThe input must follow this grammar:\n{definition}").trim().to_owned();
    }
    json!({"type": "function", "function": {
        "name": tool.get("name"),
        "description": description,
        "parameters": {
            "type": "object",
            "properties": {INPUT: {"type": "string", "description": "The whole input of the tool."}},
            "required": [INPUT],
            "additionalProperties": false,
        },
    }})
}

fn search(tool: &Map<String, Value>) -> Value {
    let mut options = Map::new();
    if let Some(size) = tool.get("search_context_size").filter(|size| !size.is_null()) {
        options.insert("search_context_size".to_owned(), size.clone());
    }
    if let Some(Value::Object(location)) = tool.get("user_location") {
        let mut approximate = location.clone();
        approximate.remove("type");
        approximate.retain(|_, value| !value.is_null());
        options.insert("user_location".to_owned(), json!({"type": "approximate", "approximate": approximate}));
    }
    Value::Object(options)
}

fn choice(choice: &Value, tools: &Tools) -> Result<Option<Value>, Error> {
    let at = "tool_choice";
    let named = |tool: &Value| match tool.get("name").and_then(Value::as_str) {
        Some(name) => Ok(json!({"type": "function", "function": {"name": name}})),
        None => Err(wrong("tool_choice.name", "a name is needed here")),
    };
    match choice {
        Value::String(word) => match word.as_str() {
            "none" | "auto" | "required" => Ok(Some(choice.clone())),
            other => {
                let what = format!("'{}' is not known; 'none', 'auto' and 'required' are", shorten(other));
                Err(wrong(at, &what))
            }
        },
        Value::Object(members) => match members.get("type").and_then(Value::as_str).unwrap_or_default() {
            "function" | "custom" => named(choice).map(Some),
            "allowed_tools" => {
                let list = members.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let allowed = list.iter().map(named).collect::<Result<Vec<_>, _>>()?;
                let mode = members.get("mode").cloned().unwrap_or_else(|| "auto".into());
                Ok(Some(json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}})))
            }
            // One of the gateway's own: which one is for the model to say.
            "mcp" => Ok(Some("required".into())),
            kind if kind.starts_with("web_search") && tools.search.is_some() => Ok(None),
            other => {
                let what = format!("the upstream of this model has no tool of the type '{}'", shorten(other));
                Err(wrong("tool_choice.type", &what))
            }
        },
        _ => Err(wrong(at, "a string or an object is expected here")),
    }
}
