//! A request of `generateContent` as one of chat completions.

use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// The member that says that the caller wants to see thoughts; it speaks to the gateway alone.
pub const THOUGHTS: &str = "litellm_include_thoughts";

type Object = Map<String, Value>;

/// A chat completion from the request.
///
/// # Errors
/// A 400 that names what cannot be told in chat.
pub fn to_chat(body: &[u8], model: &str, streams: bool) -> Result<Vec<u8>> {
    let asked: Object = serde_json::from_slice(body)
        .map_err(|e| Error::invalid(format!("The request body is not acceptable JSON: {e}.")))?;
    if member(&asked, "cachedContent", "cached_content").is_some() {
        let why = "A cached content lies with Google, where this request need not go; leave 'cachedContent' out.";
        return Err(Error::invalid(why).at_param("cachedContent"));
    }
    let mut messages = Vec::new();
    if let Some(system) = member(&asked, "systemInstruction", "system_instruction") {
        let text = match system {
            Value::String(text) => text.clone(),
            other => texts(parts(other, "systemInstruction")?).join("\n"),
        };
        messages.push(json!({"role": "system", "content": text}));
    }
    let contents = match asked.get("contents") {
        Some(Value::Array(all)) if !all.is_empty() => all.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => return Err(Error::invalid("Missing required parameter: 'contents'.").at_param("contents")),
    };
    // Calls that wait for their results, in order: Google tells them apart by their names alone.
    let mut open: VecDeque<(String, String)> = VecDeque::new();
    let mut count = 0;
    for (place, content) in contents.into_iter().enumerate() {
        let at = format!("contents[{place}]");
        let parts = parts(content, &at)?;
        match content["role"].as_str() {
            Some("model") => messages.push(said(parts, &at, &mut open, &mut count)?),
            None | Some("user" | "function" | "tool") => asked_for(parts, &at, &mut open, &mut messages)?,
            Some(_) => return Err(wrong(&format!("{at}.role"), "it must be 'user' or 'model'")),
        }
    }
    let mut chat = Object::new();
    chat.insert("model".to_owned(), model.into());
    chat.insert("messages".to_owned(), messages.into());
    if streams {
        chat.insert("stream".to_owned(), true.into());
    }
    let empty = Object::new();
    tools(&asked, &mut chat)?;
    let config = member(&asked, "generationConfig", "generation_config").and_then(Value::as_object).unwrap_or(&empty);
    settings(config, &mut chat)?;
    Ok(Value::Object(chat).to_string().into_bytes())
}

pub(super) fn member<'a>(of: &'a Object, camel: &str, snake: &str) -> Option<&'a Value> {
    of.get(camel).or_else(|| of.get(snake)).filter(|value| !value.is_null())
}

pub(super) fn wrong(at: &str, why: &str) -> Error {
    Error::invalid(format!("Invalid value at '{at}': {why}.")).at_param(at)
}

pub(super) fn parts<'a>(content: &'a Value, at: &str) -> Result<Vec<&'a Object>> {
    match &content["parts"] {
        Value::Array(parts) => {
            parts.iter().map(|part| part.as_object().ok_or_else(|| wrong(at, "each part is an object"))).collect()
        }
        Value::Object(part) => Ok(vec![part]),
        _ => Err(wrong(at, "it has no parts")),
    }
}

pub(super) fn texts(parts: Vec<&Object>) -> Vec<String> {
    parts.into_iter().filter_map(|part| Some(part.get("text")?.as_str()?.to_owned())).collect()
}

/// A turn of the model.
fn said(parts: Vec<&Object>, at: &str, open: &mut VecDeque<(String, String)>, count: &mut usize) -> Result<Value> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in parts {
        if part.get("thought") == Some(&Value::Bool(true)) {
            continue;
        }
        if let Some(call) = member(part, "functionCall", "function_call") {
            let name = call["name"].as_str().ok_or_else(|| wrong(at, "a function call has no name"))?;
            let id = call["id"].as_str().map_or_else(|| format!("call_{count}"), str::to_owned);
            *count += 1;
            let arguments = if call["args"].is_null() { "{}".to_owned() } else { call["args"].to_string() };
            open.push_back((name.to_owned(), id.clone()));
            calls.push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}));
        } else if let Some(piece) = part.get("text").and_then(Value::as_str) {
            text.push_str(piece);
        } else {
            return Err(wrong(at, "a turn of the model holds texts and function calls"));
        }
    }
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Ok(message)
}

/// A turn of the user: results of functions, then what is said and shown.
fn asked_for(
    parts: Vec<&Object>,
    at: &str,
    open: &mut VecDeque<(String, String)>,
    messages: &mut Vec<Value>,
) -> Result<()> {
    let mut content = Vec::new();
    for part in parts {
        if let Some(result) = member(part, "functionResponse", "function_response") {
            let (name, id) = (result["name"].as_str().unwrap_or_default(), result["id"].as_str());
            let fits = |(of, known): &(String, String)| id.map_or(of == name, |id| known == id);
            let place = open.iter().position(fits).ok_or_else(|| wrong(at, "it answers no function call"))?;
            let id = open.remove(place).map(|(_, id)| id).unwrap_or_default();
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": result["response"].to_string()}));
        } else if let Some(text) = part.get("text").and_then(Value::as_str) {
            content.push(json!({"type": "text", "text": text}));
        } else if let Some(data) = member(part, "inlineData", "inline_data").and_then(Value::as_object) {
            content.push(shown(data, at)?);
        } else {
            return Err(wrong(at, "a turn of the user holds texts, inlineData and functionResponse"));
        }
    }
    match &content[..] {
        [] => (),
        [one] if one["type"] == "text" => messages.push(json!({"role": "user", "content": one["text"]})),
        _ => messages.push(json!({"role": "user", "content": content})),
    }
    Ok(())
}

/// A file that stands in the request.
fn shown(data: &Object, at: &str) -> Result<Value> {
    let kind = member(data, "mimeType", "mime_type").and_then(Value::as_str).unwrap_or_default();
    let bytes = data.get("data").and_then(Value::as_str).ok_or_else(|| wrong(at, "inlineData has no data"))?;
    let url = format!("data:{kind};base64,{bytes}");
    match kind.split_once('/') {
        Some(("image", _)) => Ok(json!({"type": "image_url", "image_url": {"url": url}})),
        Some(("audio", format)) => {
            let format = match format {
                "mpeg" | "mp3" => "mp3",
                "wav" | "x-wav" | "wave" => "wav",
                other => other,
            };
            Ok(json!({"type": "input_audio", "input_audio": {"data": bytes, "format": format}}))
        }
        Some(("application", "pdf")) => {
            Ok(json!({"type": "file", "file": {"filename": "document.pdf", "file_data": url}}))
        }
        _ => Err(wrong(at, "inlineData of this mimeType cannot be told in chat")),
    }
}

fn tools(asked: &Object, chat: &mut Object) -> Result<()> {
    let mut functions = Vec::new();
    for (place, tool) in asked.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(tool) = tool.as_object() else { return Err(wrong(&format!("tools[{place}]"), "it is an object")) };
        for (name, value) in tool {
            match (name.as_str(), value) {
                ("functionDeclarations" | "function_declarations", Value::Array(all)) => {
                    functions.extend(all.iter().map(function))
                }
                (_, Value::Null) => (),
                _ => {
                    let at = format!("tools[{place}].{name}");
                    return Err(wrong(&at, "only functions can be called through the gateway"));
                }
            }
        }
    }
    if functions.is_empty() {
        return Ok(());
    }
    chat.insert("tools".to_owned(), functions.into());
    let config = member(asked, "toolConfig", "tool_config").and_then(Value::as_object);
    let config = config.and_then(|config| member(config, "functionCallingConfig", "function_calling_config"));
    let Some(config) = config.and_then(Value::as_object) else { return Ok(()) };
    let allowed = member(config, "allowedFunctionNames", "allowed_function_names").and_then(Value::as_array);
    let choice = match (config.get("mode").and_then(Value::as_str), allowed.map(Vec::as_slice)) {
        (Some("NONE"), _) => json!("none"),
        (Some("ANY"), Some([Value::String(name)])) => json!({"type": "function", "function": {"name": name}}),
        (Some("ANY"), _) => json!("required"),
        _ => json!("auto"),
    };
    chat.insert("tool_choice".to_owned(), choice);
    Ok(())
}

fn function(declared: &Value) -> Value {
    let mut function = json!({"name": declared["name"]});
    if !declared["description"].is_null() {
        function["description"] = declared["description"].clone();
    }
    let schemas = ["parametersJsonSchema", "parameters_json_schema", "parameters"];
    if let Some(schema) = schemas.iter().map(|name| &declared[*name]).find(|schema| !schema.is_null()) {
        function["parameters"] = plain_schema(schema, crate::wire::MAX_DEPTH);
    }
    json!({"type": "function", "function": function})
}

/// Google's schema in the words of JSON Schema: types are written small.
fn plain_schema(schema: &Value, depth: usize) -> Value {
    match schema {
        _ if depth == 0 => Value::Null,
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("type", Value::String(kind)) => (name.clone(), kind.to_ascii_lowercase().into()),
                _ => (name.clone(), plain_schema(value, depth - 1)),
            })
            .collect::<Object>()
            .into(),
        Value::Array(all) => all.iter().map(|value| plain_schema(value, depth - 1)).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

fn settings(config: &Object, chat: &mut Object) -> Result<()> {
    for (camel, snake, to) in [
        ("temperature", "temperature", "temperature"),
        ("topP", "top_p", "top_p"),
        ("topK", "top_k", "top_k"),
        ("maxOutputTokens", "max_output_tokens", "max_tokens"),
        ("stopSequences", "stop_sequences", "stop"),
        ("candidateCount", "candidate_count", "n"),
        ("seed", "seed", "seed"),
        ("presencePenalty", "presence_penalty", "presence_penalty"),
        ("frequencyPenalty", "frequency_penalty", "frequency_penalty"),
    ] {
        if let Some(value) = member(config, camel, snake) {
            chat.insert(to.to_owned(), value.clone());
        }
    }
    if chat.get("n") == Some(&json!(1)) {
        chat.shift_remove("n");
    }
    let kind = member(config, "responseMimeType", "response_mime_type").and_then(Value::as_str);
    let schema = ["responseJsonSchema", "response_json_schema", "responseSchema", "response_schema"];
    let schema = schema.iter().find_map(|name| config.get(*name)).filter(|schema| !schema.is_null());
    match (kind, schema) {
        (Some("application/json"), Some(schema)) => {
            let schema = plain_schema(schema, crate::wire::MAX_DEPTH);
            let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
            chat.insert("response_format".to_owned(), format);
        }
        (Some("application/json"), None) => {
            drop(chat.insert("response_format".to_owned(), json!({"type": "json_object"})))
        }
        (None | Some("text/plain"), _) => (),
        (Some(_), _) => {
            return Err(wrong("generationConfig.responseMimeType", "it must be text/plain or application/json"));
        }
    }
    if let Some(kinds) = member(config, "responseModalities", "response_modalities").and_then(Value::as_array)
        && kinds.iter().any(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("text")))
    {
        return Err(wrong("generationConfig.responseModalities", "only text can be answered"));
    }
    let Some(thinking) = member(config, "thinkingConfig", "thinking_config").and_then(Value::as_object) else {
        return Ok(());
    };
    if member(thinking, "includeThoughts", "include_thoughts") == Some(&Value::Bool(true)) {
        chat.insert(THOUGHTS.to_owned(), true.into());
    }
    let level = member(thinking, "thinkingLevel", "thinking_level").and_then(Value::as_str);
    let budget = member(thinking, "thinkingBudget", "thinking_budget").and_then(Value::as_i64);
    let effort = match (level, budget) {
        (Some(level), _) => Some(level.to_ascii_lowercase()),
        // Zero is no thinking and less than that the model's choice, which are no efforts.
        (None, Some(1..=1024)) => Some("low".to_owned()),
        (None, Some(1025..=8192)) => Some("medium".to_owned()),
        (None, Some(8193..)) => Some("high".to_owned()),
        _ => None,
    };
    if let Some(effort) = effort {
        chat.insert("reasoning_effort".to_owned(), effort.into());
    }
    Ok(())
}
