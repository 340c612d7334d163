//! The body of a chat completion, made into one of `/api/chat`.

use super::NAMES;
use crate::error::Result;
use crate::provider::Facts;
use crate::provider::hub::{
    Ask, Choice, Context, Effort, Format, Media, Medium, Role, Thought, Tool, Tools, Turn, Wish, bad, decode, turns,
    written,
};
use serde_json::{Map, Value, json};

/// Members of `options`, which LiteLLM's users write beside the others.
const OPTIONS: &[&str] = &[
    "num_ctx",
    "num_predict",
    "num_keep",
    "num_gpu",
    "num_thread",
    "num_batch",
    "main_gpu",
    "use_mmap",
    "draft_num_predict",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "tfs_z",
];

/// Members that are Ollama's own and go on as they are.
const NATIVE: &[&str] = &["keep_alive", "truncate", "shift"];

/// Makes the request that means the same.
///
/// # Errors
/// A 400 that names what Ollama does not take.
pub fn request(chat: &[u8], facts: &Facts<'_>) -> Result<(Vec<u8>, Context)> {
    let mut ask = Ask::read(chat, facts)?;
    let mut tools = ask.tools(NAMES)?;
    tools.only_functions(facts.provider)?;
    let turns = turns(&mut ask, &tools.names)?;
    let mut body = Map::new();
    body.insert("model".to_owned(), facts.model.into());

    let mut options = match ask.take("options") {
        Value::Object(own) => own,
        _ => Map::new(),
    };
    if let Some(limit) = ask.max_tokens()? {
        options.insert("num_predict".to_owned(), limit.into());
    }
    for name in OPTIONS {
        let value = ask.take(name);
        if !value.is_null() {
            options.insert((*name).to_owned(), value);
        }
    }
    let stops = ask.stops()?;
    if !stops.is_empty() {
        options.insert("stop".to_owned(), stops.into());
    }

    let mut instructions = Vec::new();
    // The choice is nothing that Ollama knows.
    match &tools.choice {
        Some(Choice::None) => tools.list.clear(),
        Some(Choice::Named(name)) => {
            let name = name.clone();
            instructions.extend(tools.instruction());
            tools.list.retain(|tool| tool.name == name);
        }
        _ => instructions.extend(tools.instruction()),
    }
    body.insert("messages".to_owned(), messages(&turns, instructions, facts)?.into());
    if !tools.list.is_empty() {
        body.insert("tools".to_owned(), tools.list.iter().map(tool).collect());
    }
    body.insert("stream".to_owned(), facts.streams.into());
    match ask.format()? {
        Format::Text => (),
        Format::Json => _ = body.insert("format".to_owned(), "json".into()),
        Format::Schema { schema, .. } => _ = body.insert("format".to_owned(), schema),
    }
    let own = ask.take("think");
    if let Some(think) = ask.thinking()?.map(|wish| think(wish, facts.model)).or(Some(own)).filter(|t| !t.is_null()) {
        body.insert("think".to_owned(), think);
    }
    if ask.take("logprobs") == true {
        body.insert("logprobs".to_owned(), true.into());
        if let Some(top) = ask.number("top_logprobs")? {
            body.insert("top_logprobs".to_owned(), top);
        }
    }
    if !options.is_empty() {
        body.insert("options".to_owned(), options.into());
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

/// `gpt-oss` knows levels and cannot be kept from thinking; the others know yes and no.
fn think(wish: Wish, model: &str) -> Value {
    if !model.contains("gpt-oss") {
        return (wish != Wish::Off).into();
    }
    let effort = match wish {
        Wish::Off => Effort::Low,
        Wish::Free => Effort::Medium,
        Wish::Effort(effort) => effort,
        Wish::Budget(budget) => Effort::of_budget(budget),
    };
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    }
    .into()
}

fn tool(tool: &Tool) -> Value {
    let parameters = tool.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    json!({"type": "function", "function": {
        "name": tool.name,
        "description": tool.description.as_deref().unwrap_or_default(),
        "parameters": parameters,
    }})
}

fn messages(turns: &[Turn], instructions: Vec<String>, facts: &Facts<'_>) -> Result<Vec<Value>> {
    let mut made = Vec::with_capacity(turns.len() + 1);
    for turn in turns {
        let (content, images) = content(turn, facts)?;
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let mut message = json!({"role": role, "content": content});
        if !images.is_empty() {
            message["images"] = images.into();
        }
        if let Some(thinking) = thinking(turn) {
            message["thinking"] = thinking.into();
        }
        if !turn.calls.is_empty() {
            let call = |call: &crate::provider::hub::Call| json!({"id": call.id, "function": {"name": call.name, "arguments": call.input()}});
            message["tool_calls"] = turn.calls.iter().map(call).collect();
        }
        if let Some((id, name)) = &turn.answers {
            message["tool_call_id"] = id.as_str().into();
            if !name.is_empty() {
                message["tool_name"] = name.as_str().into();
            }
        }
        made.push(message);
    }
    made.extend(instructions.into_iter().map(|text| json!({"role": "system", "content": text})));
    Ok(made)
}

/// What the model thought before, which it wants back in a loop of calls.
fn thinking(turn: &Turn) -> Option<String> {
    let thoughts: Vec<&str> = turn
        .thoughts
        .iter()
        .filter_map(|thought| match thought {
            Thought::Plain { text, .. } => Some(text.as_str()),
            Thought::Redacted(_) => None,
        })
        .collect();
    turn.reasoning.clone().or_else(|| (!thoughts.is_empty()).then(|| thoughts.join("\n")))
}

/// The text of a message, and its pictures as bare base64.
fn content(turn: &Turn, facts: &Facts<'_>) -> Result<(String, Vec<Value>)> {
    let (mut text, mut images) = (turn.text(), Vec::new());
    for media in turn.media() {
        match media.medium {
            Medium::Image => images.push(media.data(facts.provider)?.into()),
            Medium::File => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&plain(media, facts)?);
            }
            Medium::Audio | Medium::Video => {
                return Err(bad(&media.place, "cannot be sent: Ollama takes text and images"));
            }
        }
    }
    Ok((text, images))
}

/// A file of text, as text.
fn plain(media: &Media, facts: &Facts<'_>) -> Result<String> {
    let mime = media.mime_or_guess();
    let is_text = mime.starts_with("text/") || mime == "application/json";
    let data = media.data(facts.provider)?;
    let text = decode(data).filter(|_| is_text).and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| bad(&media.place, "cannot be sent: Ollama takes text and images, and this is no text"))
}
