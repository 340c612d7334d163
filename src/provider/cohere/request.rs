//! The body of a chat completion, made into one of `/v2/chat`.

use super::NAMES;
use crate::error::Result;
use crate::provider::Facts;
use crate::provider::hub::{
    Ask, Choice, Context, Format, Medium, Part, Role, Source, Thought, Tool, Tools, Turn, Wish, bad, instruction,
    turns, written,
};
use serde_json::{Map, Value, json};

/// Members that are Cohere's own and go on as they are.
const NATIVE: &[&str] = &["documents", "citation_options", "safety_mode", "priority", "k", "p", "strict_tools"];

/// Makes the request that means the same.
///
/// # Errors
/// A 400 that names what Cohere does not take.
pub fn request(chat: &[u8], facts: &Facts<'_>) -> Result<(Vec<u8>, Context)> {
    let mut ask = Ask::read(chat, facts)?;
    let mut tools = ask.tools(NAMES)?;
    tools.only_functions(facts.provider)?;
    let turns = turns(&mut ask, &tools.names)?;
    let mut body = Map::new();
    body.insert("model".to_owned(), facts.model.into());
    body.insert("stream".to_owned(), facts.streams.into());
    if let Some(limit) = ask.max_tokens()? {
        body.insert("max_tokens".to_owned(), limit.into());
    }
    for (from, to) in [("temperature", "temperature"), ("top_k", "k"), ("seed", "seed")] {
        if let Some(number) = ask.number(from)? {
            body.insert(to.to_owned(), number);
        }
    }
    if let Some(number) = ask.number("top_p")?
        && let Some(top) = number.as_f64().filter(|top| *top < 1.0)
    {
        body.insert("p".to_owned(), json!(top.clamp(0.01, 0.99)));
    }
    for name in ["presence_penalty", "frequency_penalty"] {
        let Some(number) = ask.number(name)? else { continue };
        match number.as_f64() {
            Some(0.0) => (),
            Some(penalty) if (0.0..=1.0).contains(&penalty) => _ = body.insert(name.to_owned(), number),
            _ => ask.refuse(name, " with a value outside of 0 to 1")?,
        }
    }
    if ask.take("logprobs") == true {
        body.insert("logprobs".to_owned(), true.into());
    }
    let stops = ask.stops()?;
    if stops.len() > 5 {
        ask.refuse("stop", " with more than 5 sequences")?;
    }
    if !stops.is_empty() {
        body.insert("stop_sequences".to_owned(), stops.into_iter().take(5).collect());
    }
    let thinks = facts.model.contains("reasoning");
    match ask.thinking()? {
        None => (),
        Some(Wish::Off) if !thinks => (),
        Some(Wish::Off) => _ = body.insert("thinking".to_owned(), json!({"type": "disabled"})),
        Some(_) if !thinks => ask.refuse("reasoning_effort", " for this model, which does not think")?,
        Some(wish) => {
            let mut thinking = json!({"type": "enabled"});
            if let Wish::Budget(budget) = wish {
                thinking["token_budget"] = budget.into();
            }
            body.insert("thinking".to_owned(), thinking);
        }
    }
    let mut instructions = Vec::new();
    match &tools.choice {
        None | Some(Choice::Auto) => (),
        Some(Choice::None) => {
            _ = (!tools.list.is_empty()).then(|| body.insert("tool_choice".to_owned(), "NONE".into()))
        }
        Some(Choice::Required) => _ = body.insert("tool_choice".to_owned(), "REQUIRED".into()),
        Some(Choice::Named(name)) => {
            let name = name.clone();
            tools.list.retain(|tool| tool.name == name);
            body.insert("tool_choice".to_owned(), "REQUIRED".into());
        }
    }
    // A format is refused beside tools and documents.
    let alone = tools.list.is_empty() && !ask.has("documents");
    match ask.format()? {
        Format::Text => (),
        Format::Json if alone => _ = body.insert("response_format".to_owned(), json!({"type": "json_object"})),
        Format::Schema { schema, .. } if alone => {
            body.insert("response_format".to_owned(), json!({"type": "json_object", "json_schema": schema}));
        }
        Format::Json => instructions.push(instruction(None)),
        Format::Schema { schema, .. } => instructions.push(instruction(Some(&schema))),
    }
    body.insert("messages".to_owned(), messages(&turns, instructions)?.into());
    if !tools.list.is_empty() {
        body.insert("tools".to_owned(), tools.list.iter().map(tool).collect());
        if tools.list.iter().any(|tool| tool.strict) {
            body.insert("strict_tools".to_owned(), true.into());
        }
    }
    ask.finish(NATIVE, &mut body)?;
    let Tools { one_call, legacy, names, .. } = tools;
    let context = Context {
        provider: facts.provider,
        id: facts.id.to_owned(),
        created: facts.created,
        model: facts.model.to_owned(),
        names,
        json_tool: false,
        legacy_functions: legacy,
        one_call,
    };
    Ok((written(&body, facts.provider)?, context))
}

fn tool(tool: &Tool) -> Value {
    let parameters = tool.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    let mut function = json!({"name": tool.name, "parameters": parameters});
    if let Some(description) = &tool.description {
        function["description"] = description.as_str().into();
    }
    json!({"type": "function", "function": function})
}

fn messages(turns: &[Turn], instructions: Vec<String>) -> Result<Vec<Value>> {
    let mut made = Vec::with_capacity(turns.len() + 1);
    // The last message must be the user's or a tool's.
    made.extend(instructions.into_iter().map(|text| json!({"role": "system", "content": text})));
    for turn in turns {
        made.extend(match turn.role {
            Role::System => texts_only(turn, "system")?,
            Role::User => Some(json!({"role": "user", "content": user(turn)?})),
            Role::Assistant => assistant(turn)?,
            Role::Tool => {
                let id = turn.answers.as_ref().map_or("", |(id, _)| id);
                texts_only(turn, "tool")?.map(|mut message| {
                    message["tool_call_id"] = id.into();
                    message
                })
            }
        });
    }
    Ok(made)
}

fn texts_only(turn: &Turn, role: &str) -> Result<Option<Value>> {
    if let Some(media) = turn.media().next() {
        return Err(bad(&media.place, &format!("cannot be sent: Cohere takes text in '{role}' messages")));
    }
    let text = turn.text();
    Ok((role == "tool" || !text.is_empty()).then(|| json!({"role": role, "content": text})))
}

fn user(turn: &Turn) -> Result<Value> {
    if turn.media().next().is_none() {
        return Ok(turn.text().into());
    }
    let mut parts = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) => parts.push(json!({"type": "text", "text": text})),
            Part::Media(media) if media.medium == Medium::Image => {
                let url = match &media.source {
                    Source::Data(data) => format!("data:{};base64,{data}", media.mime_or_guess()),
                    Source::Url(url) => url.clone(),
                    Source::Id(_) => return Err(bad(&media.place, "names an upload, and Cohere has none")),
                };
                parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
            Part::Media(media) => {
                return Err(bad(&media.place, "cannot be sent: Cohere takes text and images"));
            }
            Part::Mark(_) => (),
        }
    }
    Ok(parts.into())
}

fn assistant(turn: &Turn) -> Result<Option<Value>> {
    let mut message = json!({"role": "assistant"});
    let thought = turn.thoughts.iter().find_map(|thought| match thought {
        Thought::Plain { text, .. } => Some(text.clone()),
        Thought::Redacted(_) => None,
    });
    let thought = turn.reasoning.clone().or(thought);
    let text = turn.text();
    // Empty content beside calls is refused.
    if turn.calls.is_empty() {
        if text.is_empty() {
            return Ok(None);
        }
        message["content"] = text.into();
        return Ok(Some(message));
    }
    if !text.is_empty() {
        message["content"] = text.into();
    }
    if let Some(plan) = thought {
        message["tool_plan"] = plan.into();
    }
    let calls = turn.calls.iter().map(|call| {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
    });
    message["tool_calls"] = calls.collect();
    Ok(Some(message))
}
