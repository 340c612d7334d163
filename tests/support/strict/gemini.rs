//! Google's `generateContent`. Source: the API reference and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, is_base64, items, members, no_strange_headers, only, text};
use serde_json::{Value, json};

/// The Gemini API: the key in a header of its own.
pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("x-goog-api-key").as_deref() != Some(UPSTREAM_KEY) {
        let reason = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
        return Err(error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", &reason));
    }
    let path = seen.target.strip_prefix("/v1beta/").unwrap_or_default();
    no_strange_headers(seen, &["x-goog-api-key"]).map_err(invalid)?;
    call(seen, path).map_err(invalid)
}

pub fn invalid(message: String) -> Reply {
    error(400, "INVALID_ARGUMENT", &message, &json!([]))
}

pub fn error(status: u16, name: &str, message: &str, details: &Value) -> Reply {
    let error = json!({"code": status, "message": message, "status": name, "details": details});
    Reply::json(status, &json!({"error": error}).to_string())
}

/// A call of `models/NAME:VERB`.
pub fn call(seen: &Seen, path: &str) -> Result<(), Wrong> {
    let (model, verb) = path.strip_prefix("models/").and_then(|rest| rest.split_once(':')).ok_or("no such path")?;
    if seen.method != "POST" || !matches!(verb, "generateContent" | "streamGenerateContent?alt=sse") {
        return Err(format!("no such call: {} {verb}", seen.method));
    }
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    let known = [
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "safetySettings",
        "generationConfig",
        "cachedContent",
        "labels",
        "serviceTier",
    ];
    members(&body, "body", &known)?;
    config(&body["generationConfig"], model)?;
    if !body["systemInstruction"].is_null() {
        members(&body["systemInstruction"], "systemInstruction", &["parts", "role"])?;
        for part in items(&body["systemInstruction"]["parts"], "systemInstruction.parts")? {
            text(part, "text", "systemInstruction.parts")?;
        }
    }
    tools(&body)?;
    contents(&body, model)
}

fn config(config: &Value, model: &str) -> Result<(), Wrong> {
    if config.is_null() {
        return Ok(());
    }
    let known = [
        "temperature",
        "topP",
        "topK",
        "candidateCount",
        "maxOutputTokens",
        "stopSequences",
        "presencePenalty",
        "frequencyPenalty",
        "seed",
        "responseMimeType",
        "responseJsonSchema",
        "responseLogprobs",
        "logprobs",
        "responseModalities",
        "speechConfig",
        "imageConfig",
        "mediaResolution",
        "thinkingConfig",
    ];
    members(config, "generation_config", &known)?;
    if !config["responseJsonSchema"].is_null() && config["responseMimeType"] != "application/json" {
        return Err("a response schema needs the MIME type application/json".to_owned());
    }
    if config["stopSequences"].as_array().is_some_and(|stops| stops.len() > 5) {
        return Err("at most 5 stop sequences".to_owned());
    }
    let thinking = &config["thinkingConfig"];
    if !thinking.is_null() {
        members(thinking, "thinking_config", &["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
        let new = model.starts_with("gemini-3");
        if model.starts_with("gemini-1") || model.starts_with("gemini-2.0") {
            return Err("Unable to submit request because thinking is not supported by this model.".to_owned());
        }
        if !new && !thinking["thinkingLevel"].is_null() {
            return Err("Thinking level is not supported for this model.".to_owned());
        }
        if !thinking["thinkingLevel"].is_null() && !thinking["thinkingBudget"].is_null() {
            return Err("You can only set only one of thinking budget and thinking level.".to_owned());
        }
        if model.contains("2.5-pro") && thinking["thinkingBudget"].as_i64().is_some_and(|b| b != -1 && b < 128) {
            return Err("Budget 0 is invalid. This model only works in thinking mode.".to_owned());
        }
    }
    Ok(())
}

fn tools(body: &Value) -> Result<(), Wrong> {
    let mut names = Vec::new();
    if !body["tools"].is_null() {
        for tool in items(&body["tools"], "tools")? {
            let known =
                ["functionDeclarations", "googleSearch", "urlContext", "codeExecution", "googleMaps", "fileSearch"];
            let (kind, declared) = only(tool, "tools", &known)?;
            if kind != "functionDeclarations" {
                continue;
            }
            for function in items(declared, "function_declarations")? {
                members(function, "function_declarations", &["name", "description", "parametersJsonSchema"])?;
                let name = text(function, "name", "function_declarations")?;
                let fine = name.len() <= 64
                    && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c));
                if !fine {
                    return Err(format!("Invalid function name: {name}"));
                }
                names.push(name);
            }
        }
    }
    let calling = &body["toolConfig"]["functionCallingConfig"];
    if !calling.is_null() {
        let mode = text(calling, "mode", "function_calling_config")?;
        if !["AUTO", "ANY", "NONE", "VALIDATED"].contains(&mode) || names.is_empty() {
            return Err("Function calling config is set without function_declarations.".to_owned());
        }
        let allowed = calling["allowedFunctionNames"].as_array().into_iter().flatten();
        if let Some(name) = allowed.filter_map(Value::as_str).find(|name| mode != "ANY" || !names.contains(name)) {
            return Err(format!("allowed_function_names: {name}"));
        }
    }
    Ok(())
}

fn contents(body: &Value, model: &str) -> Result<(), Wrong> {
    let mut last = "model";
    let mut open: Vec<&str> = Vec::new();
    for content in items(&body["contents"], "contents")? {
        members(content, "contents", &["role", "parts"])?;
        let role = text(content, "role", "contents")?;
        if role == last || !["user", "model"].contains(&role) {
            return Err("Please ensure that multiturn requests alternate between user and model.".to_owned());
        }
        last = role;
        let mut first_call = true;
        for part in items(&content["parts"], "parts")? {
            let known = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];
            let (kind, value) = only(part, "parts", &known)?;
            let is_signed = part["thoughtSignature"].as_str().map(is_base64);
            if is_signed == Some(false) {
                return Err("Base64 decoding failed for thought_signature".to_owned());
            }
            match kind {
                "text" if value.as_str().is_some_and(str::is_empty) => return Err("empty text parameter".to_owned()),
                "inlineData" => {
                    text(value, "mimeType", "inline_data")?;
                    if !is_base64(text(value, "data", "inline_data")?) {
                        return Err("Base64 decoding failed".to_owned());
                    }
                }
                "functionCall" => {
                    open.push(text(value, "name", "function_call")?);
                    members(&value["args"], "function_call.args", &argument_names(&value["args"]))?;
                    if model.starts_with("gemini-3") && first_call && is_signed != Some(true) {
                        return Err("Function call is missing a thought_signature in functionCall parts.".to_owned());
                    }
                    first_call = false;
                }
                "functionResponse" => {
                    let name = text(value, "name", "function_response")?;
                    let at = open.iter().position(|open| *open == name);
                    open.remove(at.ok_or("a function response turn must come after a function call turn")?);
                    if !value["response"].is_object() {
                        return Err("function_response.response: expected an object".to_owned());
                    }
                }
                _ => (),
            }
        }
        if role == "user" && !open.is_empty() {
            return Err("the number of function response parts must equal that of function call parts".to_owned());
        }
    }
    if last != "user" {
        return Err("the last turn must be the user's".to_owned());
    }
    Ok(())
}

fn argument_names(arguments: &Value) -> Vec<&str> {
    arguments.as_object().into_iter().flat_map(|members| members.keys()).map(String::as_str).collect()
}
