//! The items of a conversation as messages.

use super::SEALED;
use super::request::wrong;
use super::tools::INPUT;
use crate::envelope::shorten;
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// More than any conversation has.
const MOST_ITEMS: usize = 50_000;

/// What hosted tools did in earlier turns, and marks of the conversation: written for OpenAI's models alone. The text that
/// came of it stays.
const LEFT_OUT: [&str; 14] = [
    "item_reference",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "computer_call",
    "computer_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "tool_search_call",
    "tool_search_output",
    "compaction",
    "compaction_trigger",
];

/// The items of `input`, a text being the message of a user.
///
/// # Errors
/// A 400 where it is neither a text nor a list of objects.
pub fn items(input: Option<&Value>) -> Result<Vec<Value>, Error> {
    match input {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![json!({"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": text}
        ]})]),
        Some(Value::Array(items)) if items.len() > MOST_ITEMS => {
            Err(wrong("input", &format!("there are more than {MOST_ITEMS} items")))
        }
        Some(Value::Array(items)) => match items.iter().position(|item| !item.is_object()) {
            Some(place) => Err(wrong(&format!("input[{place}]"), "an object is expected here")),
            None => Ok(items.clone()),
        },
        Some(_) => Err(wrong("input", "a string or an array of items is expected here")),
    }
}

/// The text of `instructions`, which may be a list of items too.
///
/// # Errors
/// A 400 where it is something else.
pub fn instructions(instructions: &Value) -> Result<Option<String>, Error> {
    match instructions {
        Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().filter_map(|item| item.get("content").map(plain)).collect();
            Ok(Some(texts.join("\n\n")).filter(|text| !text.is_empty()))
        }
        _ => Err(wrong("instructions", "a string is expected here")),
    }
}

/// Messages being made.
#[derive(Default)]
struct Messages {
    list: Vec<Value>,
    /// The turn of the assistant that is open: texts, reasoning and calls of one turn are one message.
    turn: Map<String, Value>,
    /// Images and files of results, which a `tool` message cannot hold; they come behind the last result.
    moved: Vec<Value>,
}

impl Messages {
    /// The assistant's turn is over.
    fn close(&mut self) {
        if self.turn.is_empty() {
            return;
        }
        let mut turn = std::mem::take(&mut self.turn);
        // Reasoning that led to nothing is no turn.
        if ["content", "tool_calls", "refusal"].iter().any(|name| turn.contains_key(*name)) {
            turn.entry("content").or_insert(Value::Null);
            let mut message = Map::new();
            message.insert("role".to_owned(), "assistant".into());
            message.append(&mut turn);
            self.list.push(message.into());
        }
    }

    fn flush(&mut self) {
        self.close();
        if !self.moved.is_empty() {
            let parts = std::mem::take(&mut self.moved);
            self.list.push(json!({"role": "user", "content": parts}));
        }
    }

    fn add(&mut self, role: &str, content: Value) {
        self.flush();
        self.list.push(json!({"role": role, "content": content}));
    }

    fn call(&mut self, id: &str, name: &str, arguments: String) {
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        match self.turn.entry("tool_calls").or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(calls) => calls.push(call),
            other => *other = Value::Array(vec![call]),
        }
    }

    /// Adds to a text of the turn, with a line between what were two.
    fn write(&mut self, member: &str, text: &str, between: &str) {
        match self.turn.get_mut(member) {
            Some(Value::String(before)) => {
                before.push_str(between);
                before.push_str(text);
            }
            _ => {
                self.turn.insert(member.to_owned(), text.into());
            }
        }
    }
}

/// The items as messages, with the instructions in front. The first `old` of them are of earlier requests, and errors
/// count from the first behind.
///
/// # Errors
/// A 400 that names the item at fault.
pub fn messages(items: &[Value], old: usize, instructions: Option<String>) -> Result<Vec<Value>, Error> {
    let mut messages = Messages::default();
    if let Some(text) = instructions {
        messages.add("system", text.into());
    }
    for (i, item) in items.iter().enumerate() {
        let at = format!("input[{}]", i.saturating_sub(old));
        add(item, &at, &mut messages)?;
    }
    messages.flush();
    Ok(messages.list)
}

fn add(item: &Value, at: &str, messages: &mut Messages) -> Result<(), Error> {
    let text = |name: &str| match item.get(name).and_then(Value::as_str) {
        Some(text) => Ok(text),
        None => Err(wrong(&format!("{at}.{name}"), "a string is needed here")),
    };
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
    match kind {
        "message" => message(item, text("role")?, at, messages),
        "reasoning" => {
            reasoning(item, messages);
            Ok(())
        }
        "function_call" => {
            let arguments = match item.get("arguments") {
                Some(Value::String(arguments)) => arguments.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            messages.call(text("call_id")?, text("name")?, arguments);
            Ok(())
        }
        "custom_tool_call" => {
            let arguments = json!({INPUT: text("input")?}).to_string();
            messages.call(text("call_id")?, text("name")?, arguments);
            Ok(())
        }
        "function_call_output" | "custom_tool_call_output" => {
            let id = text("call_id")?;
            messages.close();
            let content = result(item.get("output"), id, &format!("{at}.output"), messages)?;
            messages.list.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            Ok(())
        }
        // A call that the gateway made for the model, with what came of it.
        "mcp_call" => {
            let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
            let output = item.get("output").or(item.get("error")).map(plain).unwrap_or_default();
            messages.call(id, text("name")?, text("arguments")?.to_owned());
            messages.close();
            messages.list.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
            Ok(())
        }
        kind if LEFT_OUT.contains(&kind) => Ok(()),
        other => {
            let what = format!("items of the type '{}' mean nothing to the upstream of this model", shorten(other));
            Err(wrong(&format!("{at}.type"), &what))
        }
    }
}

fn message(item: &Value, role: &str, at: &str, messages: &mut Messages) -> Result<(), Error> {
    let content = item.get("content").unwrap_or(&Value::Null);
    match role {
        "user" => {
            let parts = parts(content, &format!("{at}.content"))?;
            messages.flush();
            messages.add("user", parts);
            Ok(())
        }
        // Whoever gives orders: chat knows both roles.
        "system" | "developer" => {
            messages.add(role, plain(content).into());
            Ok(())
        }
        "assistant" => {
            // A second message is a second turn, unless nothing but its reasoning came before.
            if ["content", "tool_calls"].iter().any(|name| messages.turn.contains_key(*name)) {
                messages.flush();
            }
            for part in content.as_array().into_iter().flatten() {
                if let Some(refusal) = part.get("refusal").and_then(Value::as_str) {
                    messages.write("refusal", refusal, "\n");
                }
            }
            let text = plain(content);
            if !text.is_empty() || !messages.turn.contains_key("refusal") {
                messages.write("content", &text, "");
            }
            Ok(())
        }
        other => {
            let what = format!("the role '{}' is not known; user, assistant, system and developer are", shorten(other));
            Err(wrong(&format!("{at}.role"), &what))
        }
    }
}

/// Thinking of an earlier turn, in front of what came of it. What is sealed by another vendor is read by nobody here.
fn reasoning(item: &Value, messages: &mut Messages) {
    if ["content", "tool_calls"].iter().any(|name| messages.turn.contains_key(*name)) {
        messages.flush();
    }
    let texts = |name: &str| {
        let list = item.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("\n\n")
    };
    let text = Some(texts("content")).filter(|text| !text.is_empty()).unwrap_or_else(|| texts("summary"));
    if !text.is_empty() {
        messages.write("reasoning_content", &text, "\n\n");
    }
    let sealed = item.get("encrypted_content").and_then(Value::as_str).and_then(|text| text.strip_prefix(SEALED));
    let blocks = sealed.and_then(|text| STANDARD.decode(text).ok()).and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(Value::Array(mut blocks)) = blocks {
        match messages.turn.entry("thinking_blocks").or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(before) => before.append(&mut blocks),
            other => *other = blocks.into(),
        }
    }
}

/// All texts of a content.
fn plain(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect(),
        _ => String::new(),
    }
}

/// What a user says, as chat's content.
fn parts(content: &Value, at: &str) -> Result<Value, Error> {
    match content {
        Value::String(_) => Ok(content.clone()),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate().map(|(i, one)| part(one, &format!("{at}[{i}]")));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            // One text is sent as a text: there are servers that take no lists.
            match parts.as_slice() {
                [only] if only["type"] == "text" => Ok(only["text"].clone()),
                _ => Ok(parts.into()),
            }
        }
        _ => Err(wrong(at, "a string or an array of parts is expected here")),
    }
}

fn part(part: &Value, at: &str) -> Result<Value, Error> {
    let text = |name: &str| part.get(name).and_then(Value::as_str);
    match part.get("type").and_then(Value::as_str).unwrap_or_default() {
        "input_text" | "text" | "output_text" => match text("text") {
            Some(text) => Ok(json!({"type": "text", "text": text})),
            None => Err(wrong(&format!("{at}.text"), "a string is needed here")),
        },
        "input_image" => match (text("image_url"), text("file_id")) {
            (Some(url), _) => {
                let mut image = json!({"url": url});
                if let Some(detail) = text("detail") {
                    image["detail"] = detail.into();
                }
                Ok(json!({"type": "image_url", "image_url": image}))
            }
            (None, Some(id)) => Ok(json!({"type": "file", "file": {"file_id": id}})),
            (None, None) => Err(wrong(&format!("{at}.image_url"), "a URL is needed here")),
        },
        "input_file" => {
            // LiteLLM's way to name a file by its address.
            let id = text("file_id").or(text("file_url"));
            let members = [("file_id", id), ("file_data", text("file_data")), ("filename", text("filename"))];
            let file = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
            let file: Map<String, Value> = file.collect();
            match file.contains_key("file_id") || file.contains_key("file_data") {
                true => Ok(json!({"type": "file", "file": file})),
                false => Err(wrong(at, "a file needs 'file_data', 'file_url' or 'file_id'")),
            }
        }
        "input_audio" => Ok(json!({"type": "input_audio", "input_audio": part.get("input_audio")})),
        "image_url" | "file" => Ok(part.clone()),
        other => {
            let what = format!(
                "parts of the type '{}' are not known; input_text, input_image, input_file and input_audio are",
                shorten(other)
            );
            Err(wrong(&format!("{at}.type"), &what))
        }
    }
}

/// The result of a call as the text that chat wants.
fn result(output: Option<&Value>, id: &str, at: &str, messages: &mut Messages) -> Result<Value, Error> {
    let parts = match output {
        Some(Value::String(_)) => return Ok(output.cloned().unwrap_or_default()),
        Some(Value::Array(parts)) => parts,
        Some(Value::Null) | None => return Err(wrong(at, "the result of the call is needed here")),
        Some(other) => return Ok(other.to_string().into()),
    };
    let mut text = String::new();
    for (i, one) in parts.iter().enumerate() {
        let one = part(one, &format!("{at}[{i}]"))?;
        match one["text"].as_str().filter(|_| one["type"] == "text") {
            Some(said) => text.push_str(said),
            None => {
                if messages.moved.is_empty() {
                    messages.moved.push(json!({"type": "text", "text": format!("From the result of the call {id}:")}));
                }
                messages.moved.push(one);
            }
        }
    }
    if text.is_empty() {
        text = "(see the next message)".to_owned();
    }
    Ok(text.into())
}
