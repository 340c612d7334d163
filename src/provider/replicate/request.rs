//! The body of a chat completion, made into the input of a model.

use super::{NAMES, route};
use crate::error::Result;
use crate::provider::Facts;
use crate::provider::hub::{Ask, Context, Effort, Format, Role, Turn, Wish, bad, instruction, turns, written};
use serde_json::{Map, Value, json};

/// Inputs that are common among its language models, and go on as they are.
const NATIVE: &[&str] = &[
    "seed",
    "top_k",
    "min_tokens",
    "min_new_tokens",
    "prompt_template",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "length_penalty",
    "debug",
    "verbosity",
];

/// Makes the request that means the same.
///
/// # Errors
/// A 400 that names what Replicate does not take.
pub fn request(chat: &[u8], facts: &Facts<'_>) -> Result<(Vec<u8>, Context)> {
    let mut ask = Ask::read(chat, facts)?;
    let tools = ask.tools(NAMES)?;
    if !tools.list.is_empty() {
        ask.refuse("tools", "")?;
    }
    let turns = turns(&mut ask, &tools.names)?;
    let mut input = Map::new();
    let mut system: Vec<String> = Vec::new();
    match ask.format()? {
        Format::Text => (),
        Format::Json => system.push(instruction(None)),
        Format::Schema { schema, .. } => system.push(instruction(Some(&schema))),
    }
    let (told, said): (Vec<&Turn>, Vec<&Turn>) = turns.iter().partition(|turn| turn.role == Role::System);
    let mut before = Vec::with_capacity(told.len());
    for turn in told {
        before.push(text_of(turn)?);
    }
    before.append(&mut system);
    let system = before.join("\n\n");
    let prompt = prompt(&said)?;
    let own =
        if ask.take("supports_system_prompt") == true { Some("system_prompt") } else { member_of_system(facts.model) };
    match own.filter(|_| !system.is_empty()) {
        Some(name) => {
            input.insert("prompt".to_owned(), prompt.into());
            input.insert(name.to_owned(), system.into());
        }
        None if system.is_empty() => _ = input.insert("prompt".to_owned(), prompt.into()),
        // What knows no such member would never see it there.
        None => _ = input.insert("prompt".to_owned(), format!("{system}\n\n{prompt}").into()),
    }
    if let Some(limit) = ask.max_tokens()? {
        input.insert(member_of_limit(facts.model).to_owned(), limit.into());
    }
    for name in ["temperature", "top_p"] {
        if let Some(number) = ask.number(name)? {
            input.insert(name.to_owned(), number);
        }
    }
    let stops = ask.stops()?;
    if stops.iter().any(|stop| stop.as_str().is_some_and(|stop| stop.contains(','))) {
        // They are separated by commas there.
        ask.refuse("stop", " with a comma in it")?;
    } else if !stops.is_empty() {
        let stops: Vec<&str> = stops.iter().filter_map(Value::as_str).collect();
        input.insert("stop_sequences".to_owned(), stops.join(",").into());
    }
    match ask.thinking()? {
        None | Some(Wish::Off) => (),
        Some(wish) if facts.model.starts_with("openai/") => {
            input.insert("reasoning_effort".to_owned(), effort(wish).into());
        }
        Some(_) => ask.refuse("reasoning_effort", "")?,
    }
    let own = match ask.take("input") {
        Value::Object(own) => own,
        Value::Null => Map::new(),
        _ => return Err(bad("input", "must be an object")),
    };
    ask.finish(NATIVE, &mut input)?;
    input.extend(own);
    let mut body = json!({"input": input});
    if let (_, Some(version)) = route(facts.model) {
        body["version"] = version.into();
    }
    if facts.streams {
        body["stream"] = true.into();
    }
    let context = Context {
        provider: facts.provider,
        id: facts.id.to_owned(),
        created: facts.created,
        model: facts.model.to_owned(),
        ..Context::default()
    };
    let body = body.as_object().cloned().unwrap_or_default();
    Ok((written(&body, facts.provider)?, context))
}

/// What the model calls the text that stands before a conversation, if it has one.
fn member_of_system(model: &str) -> Option<&'static str> {
    const OWNERS: &[&str] = &["openai/", "anthropic/", "meta/meta-llama-3", "meta/llama-2", "ibm-granite/"];
    match model {
        model if model.starts_with("google/gemini") => Some("system_instruction"),
        model => OWNERS.iter().any(|owner| model.starts_with(owner)).then_some("system_prompt"),
    }
}

/// What the model calls the limit of its answer.
fn member_of_limit(model: &str) -> &'static str {
    match model {
        model if model.starts_with("openai/") => "max_completion_tokens",
        model if model.starts_with("google/gemini") => "max_output_tokens",
        model if model.contains("vicuna") || model.contains("flan") => "max_length",
        model if model.contains("llama-2") || model.starts_with("mistralai/") => "max_new_tokens",
        _ => "max_tokens",
    }
}

fn effort(wish: Wish) -> &'static str {
    let effort = match wish {
        Wish::Effort(effort) => effort,
        Wish::Budget(budget) => Effort::of_budget(budget),
        Wish::Free | Wish::Off => Effort::Medium,
    };
    match effort {
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    }
}

/// One question is asked as it is; a conversation is told as one.
fn prompt(turns: &[&Turn]) -> Result<String> {
    if let [turn] = turns
        && turn.role == Role::User
    {
        return text_of(turn);
    }
    let mut told = Vec::with_capacity(turns.len() + 1);
    for turn in turns {
        let who = match turn.role {
            Role::Assistant => "Assistant",
            Role::Tool => "Tool",
            Role::User | Role::System => "User",
        };
        told.push(format!("{who}: {}", text_of(turn)?));
    }
    told.push("Assistant:".to_owned());
    Ok(told.join("\n\n"))
}

fn text_of(turn: &Turn) -> Result<String> {
    if let Some(media) = turn.media().next() {
        let what = "cannot be sent: Replicate's models take text here; write what else the model takes into 'input'";
        return Err(bad(&media.place, what));
    }
    if !turn.calls.is_empty() {
        return Err(bad("messages", "hold calls of tools, which Replicate's models do not have"));
    }
    Ok(turn.text())
}
