//! The conversation: messages of a chat completion, read into turns.

use super::{Ask, Media, ToolNames, bad, text_of};
use crate::error::Error;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `developer` too.
    System,
    User,
    Assistant,
    /// The result of a call.
    Tool,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Never blank.
    Text(String),
    Media(Media),
    /// The caller wants the prompt cached up to here, for an hour where that is true.
    Mark(bool),
}

/// Thinking of the model's, as it gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thought {
    Plain { text: String, signature: String },
    Redacted(String),
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub id: String,
    /// As the upstream is told.
    pub name: String,
    /// As they were written.
    pub arguments: String,
    /// The proof that the model itself made the call, which Gemini wants back.
    pub signature: Option<String>,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Turn {
    pub role: Role,
    pub parts: Vec<Part>,
    pub calls: Vec<Call>,
    pub thoughts: Vec<Thought>,
    /// Thinking without a signature.
    pub reasoning: Option<String>,
    /// Gemini's proof of a text.
    pub signature: Option<String>,
    /// The call that a result is for, and the name of what was called.
    pub answers: Option<(String, String)>,
    pub is_error: bool,
    pub place: String,
}

impl Turn {
    /// All texts, one below the other.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Media(_) | Part::Mark(_) => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    pub fn media(&self) -> impl Iterator<Item = &Media> {
        self.parts.iter().filter_map(|part| match part {
            Part::Media(media) => Some(media),
            Part::Text(_) | Part::Mark(_) => None,
        })
    }
}

impl Call {
    /// The object that the `arguments` text holds. What a model left unfinished is no reason to end a conversation: it
    /// is shown to the next model as it is, in a member of an object.
    pub fn input(&self) -> Value {
        let text = self.arguments.trim();
        if text.is_empty() {
            return json!({});
        }
        match serde_json::from_str(text) {
            Ok(object @ Value::Object(_)) => object,
            _ => json!({"raw_arguments": self.arguments}),
        }
    }
}

/// What stands between the id of a call and its signature, for clients that keep nothing but the id; LiteLLM's mark.
pub(in crate::provider) const SIGNED: &str = "__thought__";

/// Reads `messages`.
///
/// # Errors
/// A 400 that names the message, and what of it makes no sense.
pub fn turns(ask: &mut Ask<'_>, names: &ToolNames) -> Result<Vec<Turn>, Error> {
    let messages = ask.array("messages")?;
    let mut turns = Vec::with_capacity(messages.len());
    let mut called: HashMap<String, String> = HashMap::new();
    let mut legacy: Option<(String, String)> = None;
    for (i, message) in messages.into_iter().enumerate() {
        let place = format!("messages[{i}]");
        let Value::Object(mut message) = message else { return Err(bad(&place, "must be an object")) };
        let role = match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool" | "function") => Role::Tool,
            _ => {
                let known = "must be one of: system, developer, user, assistant, tool, function";
                return Err(bad(&format!("{place}.role"), known));
            }
        };
        let is_function = message.get("role").is_some_and(|role| role == "function");
        let content = match message.remove("content").unwrap_or_default() {
            Value::Null if role == Role::Assistant => message.remove("refusal").unwrap_or_default(),
            content => content,
        };
        let mut turn = Turn {
            role,
            parts: parts(content, &format!("{place}.content"))?,
            calls: Vec::new(),
            thoughts: Vec::new(),
            reasoning: None,
            signature: None,
            answers: None,
            is_error: message.get("is_error").is_some_and(|is| *is == true),
            place,
        };
        if let Some(one_hour) = mark(message.get("cache_control"), message.get("prompt_cache_breakpoint")) {
            turn.parts.push(Part::Mark(one_hour));
        }
        if role == Role::Assistant {
            assistant(&message, i, &mut turn, names, &mut legacy)?;
            called.extend(turn.calls.iter().map(|call| (call.id.clone(), call.name.clone())));
        } else if is_function {
            let Some(answers) = legacy.take() else {
                return Err(bad(&turn.place, "answers no 'function_call' before it"));
            };
            turn.answers = Some(answers);
        } else if role == Role::Tool {
            let Some(id) = message.get("tool_call_id").and_then(Value::as_str).filter(|id| !id.is_empty()) else {
                return Err(bad(&format!("{}.tool_call_id", turn.place), "is missing: the id of the call answered"));
            };
            let id = split_id(id).0.to_owned();
            let given = message.get("name").and_then(Value::as_str).map(|name| names.sent(name).to_owned());
            let name = called.get(&id).cloned().or(given).unwrap_or_default();
            turn.answers = Some((id, name));
        }
        turns.push(turn);
    }
    Ok(turns)
}

/// An id and the signature that may stand behind it.
fn split_id(id: &str) -> (&str, Option<&str>) {
    match id.split_once(SIGNED) {
        Some((id, signature)) => (id, Some(signature)),
        None => (id, None),
    }
}

fn assistant(
    message: &Map<String, Value>,
    number: usize,
    turn: &mut Turn,
    names: &ToolNames,
    legacy: &mut Option<(String, String)>,
) -> Result<(), Error> {
    let blocks = match message.get("thinking_blocks") {
        Some(Value::Array(given)) => Some(given),
        _ => message.get("provider_specific_fields").and_then(|fields| fields["thinking_blocks"].as_array()),
    };
    turn.thoughts = blocks.into_iter().flatten().filter_map(thought).collect();
    turn.reasoning = ["reasoning_content", "reasoning"]
        .iter()
        .find_map(|name| message.get(*name)?.as_str())
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let signatures = message.get("provider_specific_fields").map(|fields| &fields["thought_signatures"]);
    turn.signature = signatures.and_then(|list| list.get(0)?.as_str()).map(str::to_owned);
    for (i, call) in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let place = format!("{}.tool_calls[{i}]", turn.place);
        let Some(id) = text_of(call, "id") else { return Err(bad(&format!("{place}.id"), "is missing")) };
        let (id, behind) = split_id(id);
        let mut made = self::call(id, &call["function"], names, &format!("{place}.function"))?;
        let fields = [&call["provider_specific_fields"], &call["function"]["provider_specific_fields"]];
        let stated = fields.into_iter().find_map(|fields| text_of(fields, "thought_signature"));
        let google = text_of(&call["extra_content"]["google"], "thought_signature");
        made.signature = stated.or(google).or(behind).map(str::to_owned);
        turn.calls.push(made);
    }
    if let Some(call @ Value::Object(_)) = message.get("function_call") {
        let made = self::call(&format!("call_{number}"), call, names, &format!("{}.function_call", turn.place))?;
        *legacy = Some((made.id.clone(), made.name.clone()));
        turn.calls.push(made);
    }
    Ok(())
}

fn call(id: &str, what: &Value, names: &ToolNames, place: &str) -> Result<Call, Error> {
    let Some(name) = text_of(what, "name") else { return Err(bad(place, "names no function")) };
    let arguments = match &what["arguments"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Ok(Call { id: id.to_owned(), name: names.sent(name).to_owned(), arguments, signature: None })
}

/// One without its signature is not taken back: it is somebody else's.
fn thought(block: &Value) -> Option<Thought> {
    match block["type"].as_str()? {
        "thinking" => Some(Thought::Plain {
            text: block["thinking"].as_str().unwrap_or_default().to_owned(),
            signature: text_of(block, "signature")?.to_owned(),
        }),
        "redacted_thinking" => Some(Thought::Redacted(text_of(block, "data")?.to_owned())),
        _ => None,
    }
}

/// The `cache_control` of a part or message; OpenAI's explicit breakpoints mean the same.
fn mark(control: Option<&Value>, breakpoint: Option<&Value>) -> Option<bool> {
    match (control, breakpoint) {
        (Some(mark @ Value::Object(_)), _) => Some(mark["ttl"] == "1h"),
        (_, Some(point @ Value::Object(_))) => Some(point["ttl"] == "12h"),
        _ => None,
    }
}

fn parts(content: Value, place: &str) -> Result<Vec<Part>, Error> {
    let list = match content {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Value::String(text) => return Ok(vec![Part::Text(text)]),
        Value::Array(list) => list,
        _ => return Err(bad(place, "must be a string, or an array of parts")),
    };
    let mut made = Vec::with_capacity(list.len());
    for (i, part) in list.iter().enumerate() {
        let place = format!("{place}[{i}]");
        let kind = part["type"].as_str().unwrap_or_default();
        match kind {
            "" if part.is_string() => made.extend(text(part.as_str().unwrap_or_default())),
            "text" | "input_text" | "output_text" => match part["text"].as_str() {
                Some(said) => made.extend(text(said)),
                None => return Err(bad(&format!("{place}.text"), "must be a string")),
            },
            "refusal" => made.extend(text(part["refusal"].as_str().unwrap_or_default())),
            // They are read from `thinking_blocks`, where they have their order.
            "thinking" | "redacted_thinking" => (),
            _ => match Media::read(kind, part, &place)? {
                Some(media) => made.push(Part::Media(media)),
                None => {
                    let shown: String = kind.chars().take(60).collect();
                    let what = format!("is '{shown}', and text, images, sounds and files can be sent");
                    return Err(bad(&format!("{place}.type"), &what));
                }
            },
        }
        if let Some(one_hour) = mark(part.get("cache_control"), part.get("prompt_cache_breakpoint")) {
            made.push(Part::Mark(one_hour));
        }
    }
    Ok(made)
}

fn text(said: &str) -> Option<Part> {
    (!said.trim().is_empty()).then(|| Part::Text(said.to_owned()))
}
