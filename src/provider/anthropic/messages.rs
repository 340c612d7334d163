//! The conversation: from messages to `system` and turns that alternate between user and assistant.
//!
//! All results of calls stand first in the user turn that follows the calls; thinking stands first in its assistant
//! turn. Source: the Messages API reference, "tool use" and "extended thinking" pages.

use super::ToolNames;
use super::betas::Betas;
use super::content::{self, Speaker, blocks};
use super::ids::call_id;
use crate::error::Error;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The user turn that is sent where a conversation does not begin with one, which Anthropic demands.
const PLACEHOLDER: &str = ".";

/// A block of a turn.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Block {
    Plain(Value),
    Call(Call),
}

/// A call of a tool. Its input is the caller's text, byte for byte: another spelling of it would miss the cache.
#[derive(Debug, Serialize)]
pub(super) struct Call {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    name: String,
    input: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Value>,
}

impl Block {
    fn kind(&self) -> &str {
        match self {
            Block::Plain(block) => block["type"].as_str().unwrap_or_default(),
            Block::Call(call) => call.kind,
        }
    }

    fn is_thinking(&self) -> bool {
        matches!(self.kind(), "thinking" | "redacted_thinking")
    }

    fn set_mark(&mut self, mark: Value) {
        match self {
            Block::Plain(block) => content::set_mark(block, Some(mark)),
            Block::Call(call) => {
                call.cache_control.get_or_insert(mark);
            }
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Turn {
    role: &'static str,
    content: Vec<Block>,
    /// Results of calls, until all are known; then they go in front of the content.
    #[serde(skip)]
    results: Vec<Block>,
}

impl Turn {
    fn new(role: &'static str, content: Vec<Block>) -> Self {
        Turn { role, content, results: Vec::new() }
    }
}

/// What a turn is to [`lost_thinking`].
pub(super) struct Seen {
    /// It is the model's.
    pub is_models: bool,
    pub thinks: bool,
    /// It holds results of calls.
    pub answers: bool,
    pub only_answers: bool,
}

/// Whether the last turns are a loop of calls and results that began without signed thinking, or a text to be continued.
/// To think on from there is refused.
pub(super) fn lost_thinking(turns: &[Seen]) -> bool {
    let Some(last) = turns.iter().rposition(|turn| turn.is_models) else { return false };
    if last + 1 == turns.len() {
        return !turns[last].thinks;
    }
    if !turns[last + 1].answers {
        return false;
    }
    let mut at = last;
    loop {
        if turns[at].thinks {
            return false;
        }
        match at.checked_sub(2) {
            Some(before) if turns[at - 1].only_answers && turns[before].is_models => at = before,
            _ => return true,
        }
    }
}

/// The whole conversation.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub system: Vec<Value>,
    pub turns: Vec<Turn>,
    last_assistant: Option<usize>,
}

/// What the translation of messages needs to know.
pub(super) struct Setting<'a> {
    pub names: &'a ToolNames,
    /// `system` messages may stay where they are.
    pub mid_system: bool,
}

impl Prompt {
    /// Reads all messages.
    ///
    /// # Errors
    /// A 400 that names the message, and what of it has no twin.
    pub(super) fn read(messages: Vec<Value>, setting: &Setting<'_>, betas: &mut Betas) -> Result<Prompt, Error> {
        let mut prompt = Prompt::default();
        let mut legacy_id = None;
        for (i, message) in messages.into_iter().enumerate() {
            let place = format!("messages[{i}]");
            let mark = content::cache_mark(&message);
            let Value::Object(mut message) = message else {
                return Err(Error::invalid(format!("'{place}' must be an object.")).at_param(place));
            };
            let role = message.remove("role").unwrap_or_default();
            let body = message.remove("content").unwrap_or_default();
            match role.as_str().unwrap_or_default() {
                "system" | "developer" => {
                    let blocks = marked(plain(blocks(body, Speaker::System, &place, betas)?), mark);
                    prompt.system_message(blocks, setting.mid_system);
                }
                "user" => {
                    let blocks = marked(plain(blocks(body, Speaker::User, &place, betas)?), mark);
                    prompt.push("user", blocks);
                }
                "assistant" => {
                    let blocks = assistant(message, body, i, &mut legacy_id, setting, betas, &place)?;
                    prompt.push("assistant", marked(blocks, mark));
                }
                "tool" => {
                    let id = message.get("tool_call_id").and_then(Value::as_str).filter(|id| !id.is_empty());
                    let Some(id) = id else {
                        let param = format!("{place}.tool_call_id");
                        return Err(Error::invalid(format!("'{param}' is missing: the id of the call answered."))
                            .at_param(param));
                    };
                    let is_error = message.get("is_error").is_some_and(|is| *is == true);
                    prompt.result(result(id, body, is_error, mark, &place, betas)?);
                }
                "function" => {
                    let Some(id) = legacy_id.take() else {
                        return Err(
                            Error::invalid(format!("'{place}' answers no 'function_call' before it.")).at_param(place)
                        );
                    };
                    let id: String = id;
                    prompt.result(result(&id, body, false, mark, &place, betas)?);
                }
                _ => {
                    let param = format!("{place}.role");
                    let known = "system, developer, user, assistant, tool, function";
                    return Err(Error::invalid(format!("'{param}' must be one of: {known}.")).at_param(param));
                }
            }
        }
        prompt.round_off();
        Ok(prompt)
    }

    /// [`lost_thinking`], of this conversation.
    pub(super) fn lost_its_thinking(&self) -> bool {
        let seen = self.turns.iter().map(|turn| Seen {
            is_models: turn.role == "assistant",
            thinks: turn.content.iter().any(Block::is_thinking),
            answers: turn.content.iter().any(|block| block.kind() == "tool_result"),
            only_answers: turn.content.iter().all(|block| block.kind() == "tool_result"),
        });
        lost_thinking(&seen.collect::<Vec<_>>())
    }

    /// Whether there are calls or results, with which `tools` must be sent.
    pub(super) fn uses_tools(&self) -> bool {
        let mut blocks = self.turns.iter().flat_map(|turn| &turn.content);
        blocks.any(|block| matches!(block.kind(), "tool_use" | "tool_result"))
    }

    fn push(&mut self, role: &'static str, blocks: Vec<Block>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.content.extend(blocks),
            _ => self.turns.push(Turn::new(role, blocks)),
        }
        if role == "assistant" {
            self.last_assistant = Some(self.turns.len() - 1);
        }
    }

    /// The first ones go to the top. Where a model takes no later ones, their place in the order is worth more than
    /// their role: moved to the top they would apply to turns they were not meant for, and void the cache of all.
    fn system_message(&mut self, blocks: Vec<Block>, stays: bool) {
        if self.turns.is_empty() {
            let plain = |block| match block {
                Block::Plain(block) => Some(block),
                Block::Call(_) => None,
            };
            self.system.extend(blocks.into_iter().filter_map(plain));
        } else {
            self.push(if stays { "system" } else { "user" }, blocks);
        }
    }

    /// Puts a result behind the other results of the turn that follows the calls.
    fn result(&mut self, block: Value) {
        let at = self.last_assistant.map_or(0, |last| last + 1);
        if self.turns.get(at).is_none_or(|turn| turn.role != "user") {
            self.turns.insert(at, Turn::new("user", Vec::new()));
        }
        self.turns[at].results.push(Block::Plain(block));
    }

    /// The demands on the whole: a user turn at the start, no blank at the end of a text that is to be continued.
    fn round_off(&mut self) {
        for turn in &mut self.turns {
            if !turn.results.is_empty() {
                let content = std::mem::take(&mut turn.content);
                turn.content = std::mem::take(&mut turn.results);
                turn.content.extend(content);
            }
        }
        if self.turns.first().is_none_or(|turn| turn.role != "user") {
            let content = vec![Block::Plain(content::text_block(PLACEHOLDER))];
            self.turns.insert(0, Turn::new("user", content));
        }
        if let Some(Turn { role: "assistant", content, .. }) = self.turns.last_mut()
            && let Some(Block::Plain(block)) = content.last_mut()
            && let Some(text) = block["text"].as_str()
        {
            block["text"] = text.trim_end().into();
        }
    }
}

fn plain(blocks: Vec<Value>) -> Vec<Block> {
    blocks.into_iter().map(Block::Plain).collect()
}

/// A cache mark on a message is one on its last block.
fn marked(mut blocks: Vec<Block>, mark: Option<Value>) -> Vec<Block> {
    if let (Some(mark), Some(last)) = (mark, blocks.last_mut()) {
        last.set_mark(mark);
    }
    blocks
}

fn assistant(
    mut message: Map<String, Value>,
    body: Value,
    number: usize,
    legacy_id: &mut Option<String>,
    setting: &Setting<'_>,
    betas: &mut Betas,
    place: &str,
) -> Result<Vec<Block>, Error> {
    let given = match message.get("thinking_blocks") {
        Some(Value::Array(given)) => Some(given),
        _ => message.get("provider_specific_fields").and_then(|fields| fields["thinking_blocks"].as_array()),
    };
    // Bare `reasoning_content` has no signature, and is not taken back.
    let thinking: Vec<Value> = given.into_iter().flatten().filter_map(content::thinking_block).collect();
    let has_thinking = !thinking.is_empty();
    let mut turn = plain(thinking);
    let said = match (&body, message.remove("refusal")) {
        (Value::Null, Some(refusal @ Value::String(_))) => refusal,
        _ => body,
    };
    // Thinking that came apart from the content is not sent twice.
    let said = plain(blocks(said, Speaker::Assistant, place, betas)?);
    turn.extend(said.into_iter().filter(|block| !(has_thinking && block.is_thinking())));
    if let Some(Value::Array(calls)) = message.remove("tool_calls") {
        for (i, call) in calls.iter().enumerate() {
            let place = format!("{place}.tool_calls[{i}]");
            let Some(id) = call["id"].as_str().filter(|id| !id.is_empty()) else {
                return Err(Error::invalid(format!("'{place}.id' is missing.")).at_param(format!("{place}.id")));
            };
            let what = if call["function"].is_object() { &call["function"] } else { &call["custom"] };
            turn.push(Block::Call(self::call(id, what, content::cache_mark(call), setting.names, &place)?));
        }
    }
    if let Some(call @ Value::Object(_)) = message.remove("function_call") {
        let id = format!("call_{number}");
        let place = format!("{place}.function_call");
        turn.push(Block::Call(self::call(&id, &call, None, setting.names, &place)?));
        *legacy_id = Some(id);
    }
    Ok(turn)
}

fn call(id: &str, what: &Value, mark: Option<Value>, names: &ToolNames, place: &str) -> Result<Call, Error> {
    let Some(name) = what["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err(Error::invalid(format!("'{place}' names no function.")).at_param(place));
    };
    let input = match (&what["arguments"], &what["input"]) {
        (Value::String(arguments), _) => input(arguments),
        (arguments @ Value::Object(_), _) => RawValue::from_string(arguments.to_string()).ok(),
        (_, Value::String(text)) => RawValue::from_string(json!({"input": text}).to_string()).ok(),
        _ => input(""),
    };
    let Some(input) = input else {
        return Err(Error::invalid(format!("The arguments of '{place}' cannot be sent.")).at_param(place));
    };
    let (id, name) = (call_id(id).into_owned(), names.sent(name).to_owned());
    Ok(Call { kind: "tool_use", id, name, input, cache_control: mark })
}

/// The object that a call's `arguments` text holds. What a model left unfinished is no reason to end a conversation:
/// it is shown to the next model as it is, in a member of an object.
fn input(arguments: &str) -> Option<Box<RawValue>> {
    let text = arguments.trim();
    if text.is_empty() {
        return RawValue::from_string("{}".to_owned()).ok();
    }
    let object = text.starts_with('{').then(|| RawValue::from_string(text.to_owned()).ok()).flatten();
    object.or_else(|| RawValue::from_string(json!({"raw_arguments": arguments}).to_string()).ok())
}

/// A `tool_result`. Cache marks inside of it count for the whole.
fn result(
    id: &str,
    body: Value,
    is_error: bool,
    mark: Option<Value>,
    place: &str,
    betas: &mut Betas,
) -> Result<Value, Error> {
    let mut result = json!({"type": "tool_result", "tool_use_id": call_id(id)});
    let mut mark = mark;
    match body {
        Value::String(text) if text.trim().is_empty() => (),
        Value::String(text) => result["content"] = text.into(),
        body => {
            let mut blocks = blocks(body, Speaker::Tool, place, betas)?;
            for block in &mut blocks {
                let inner = block.as_object_mut().and_then(|block| block.shift_remove("cache_control"));
                mark = mark.or(inner);
            }
            if !blocks.is_empty() {
                result["content"] = blocks.into();
            }
        }
    }
    if is_error {
        result["is_error"] = true.into();
    }
    content::set_mark(&mut result, mark);
    Ok(result)
}
