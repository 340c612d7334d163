//! What goes in front of the first round: turns that an earlier call has left to the caller, and prompts of servers.

use super::Hands;
use crate::config::file::Prompt;
use crate::envelope::shorten;
use crate::error::{Error, Result};
use crate::mcp::kit::{Chosen, Kit};
use crate::mcp::outcome::Outcome;
use crate::mcp::resume::{self, Pending, Turn};
use crate::mcp::rounds::Wanted;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// More of a prompt is not told.
const MOST_PROMPT: usize = 64 << 10;

/// A call that was allowed, and what came of it.
pub struct Allowed {
    pub call: Pending,
    pub outcome: Outcome,
}

/// Puts kept turns in the place of messages that quote them, and carries out what was approved since.
///
/// # Errors
/// A 400 for an id that is not known, or whose result is missing.
pub async fn expand(
    messages: Vec<Value>,
    approved: &HashSet<String>,
    kit: &Kit,
    hands: &Hands,
    age: Duration,
) -> Result<(Vec<Value>, Vec<Allowed>)> {
    let ids = |message: &Value| -> Vec<String> {
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        calls
            .filter_map(|call| call["id"].as_str())
            .filter(|id| resume::name_of(id).is_some())
            .map(str::to_owned)
            .collect()
    };
    let answers: HashMap<String, String> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .filter_map(|message| Some((message["tool_call_id"].as_str()?.to_owned(), text_of(&message["content"]))))
        .filter(|(id, _)| resume::name_of(id).is_some())
        .collect();
    let mut known: HashSet<String> = HashSet::new();
    let mut out = Vec::with_capacity(messages.len());
    let mut allowed = Vec::new();
    for message in messages {
        let quoted = ids(&message);
        if message["role"] == "assistant"
            && let Some(first) = quoted.first()
        {
            let name = resume::name_of(first).unwrap_or_default().to_owned();
            if quoted.iter().any(|id| resume::name_of(id) != Some(&name)) {
                let what = "One message quotes tool calls of several turns; send the history as it was given.";
                return Err(Error::invalid(what).at_param("messages"));
            }
            let turn = resume::find(&hands.worker.gateway.store, &hands.caller, &name, first).await?;
            known.extend(turn.calls.iter().map(|call| call.id.clone()));
            let (messages, mut done) = go_on(name, turn, approved, &answers, kit, hands, age).await?;
            out.extend(messages);
            allowed.append(&mut done);
        } else if message["role"] == "tool"
            && let Some(id) = message["tool_call_id"].as_str().filter(|id| resume::name_of(id).is_some())
        {
            // Its turn has taken it in.
            if !known.contains(id) {
                let what = format!("The tool call '{}' is not of a turn in these messages.", shorten(id));
                return Err(Error::invalid(what).at_param("messages"));
            }
        } else {
            out.push(message);
        }
    }
    if let Some(other) = approved.iter().find(|id| !known.contains(*id)) {
        let what = format!("'{}' is not a tool call of a turn in these messages.", shorten(other));
        return Err(Error::invalid(what).at_param("approved_tool_calls"));
    }
    Ok((out, allowed))
}

/// The messages of a kept turn with all its results.
async fn go_on(
    name: String,
    mut turn: Turn,
    approved: &HashSet<String>,
    answers: &HashMap<String, String>,
    kit: &Kit,
    hands: &Hands,
    age: Duration,
) -> Result<(Vec<Value>, Vec<Allowed>)> {
    let mut open: Vec<(usize, &Chosen)> = Vec::new();
    let mut given: HashMap<String, String> = HashMap::new();
    let mut allowed = Vec::new();
    for (place, call) in turn.calls.iter().enumerate() {
        if let Some(text) = turn.results.get(&call.own_id) {
            if call.begun {
                allowed.push(Allowed { call: call.clone(), outcome: Outcome::text(text) });
            }
            continue;
        }
        let answer = answers.get(&call.id);
        let text = match (&call.tool, answer) {
            (None, Some(answer)) => answer.clone(),
            (None, None) => {
                let what = format!("The result of the tool call '{}' is missing.", call.id);
                return Err(Error::invalid(what).at_param("messages"));
            }
            (Some(_), _) if call.begun => {
                "This call was begun before, and what became of it is not known. Look before you call again.".to_owned()
            }
            (Some(tool), _) if call.approved || approved.contains(&call.id) => {
                open.push((place, chosen(kit, tool, call)?));
                continue;
            }
            // Whoever answers for the tool has decided otherwise.
            (Some(_), Some(answer)) => answer.clone(),
            (Some(_), None) => "The user has not approved this call. Nothing was done.".to_owned(),
        };
        given.insert(call.own_id.clone(), text);
    }
    let store = &hands.worker.gateway.store;
    if !open.is_empty() {
        for (place, _) in &open {
            turn.calls[*place].begun = true;
        }
        // Kept before anything is done: a second request must not do it again.
        resume::keep(store, &hands.caller, &name, &turn, age).await?;
        let calls: Vec<Wanted> = open
            .iter()
            .map(|(place, _)| {
                let call = &turn.calls[*place];
                let key = call.id.strip_prefix(resume::PREFIX).unwrap_or(&call.id).to_owned();
                Wanted { id: call.own_id.clone(), key, name: call.name.clone(), arguments: call.arguments.clone() }
            })
            .collect();
        let left = hands.live.config.mcp.tools.max_time;
        let done =
            join_all(open.iter().zip(&calls).map(|((_, chosen), wanted)| hands.call(chosen, wanted, left))).await;
        let places: Vec<usize> = open.into_iter().map(|(place, _)| place).collect();
        for ((wanted, outcome), place) in calls.into_iter().zip(done).zip(places) {
            turn.results.insert(wanted.id, outcome.text.clone());
            allowed.push(Allowed { call: turn.calls[place].clone(), outcome });
        }
    }
    // What is quoted is in use.
    resume::keep(store, &hands.caller, &name, &turn, age).await?;
    let mut messages = turn.inner;
    let order: Vec<String> = turn.message["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|call| call["id"].as_str().map(str::to_owned))
        .collect();
    messages.push(turn.message);
    for id in order {
        let text = turn.results.get(&id).or_else(|| given.get(&id)).cloned().unwrap_or_default();
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
    }
    Ok((messages, allowed))
}

/// The tool of a call, if the caller may still use it.
fn chosen<'a>(kit: &'a Kit, (server, tool): &(String, String), call: &Pending) -> Result<&'a Chosen> {
    kit.find_own(server, tool).ok_or_else(|| {
        let what = format!(
            "The tool of the approved call '{}' is not among the tools of this request; send the same 'tools' again.",
            call.id
        );
        Error::invalid(what).at_param("tools")
    })
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Tells the model first what servers want it to know, where the operator wants that. A server that does not answer is
/// no reason to fail.
pub async fn prompts(messages: &mut Vec<Value>, kit: &Kit, hands: &Hands) {
    let mut texts = Vec::new();
    for server in kit.servers.iter().filter(|server| server.inject_prompt.is_some()) {
        match prompt(server, hands).await {
            Ok(text) => texts.push(text),
            Err(why) => tracing::warn!(target: "gateway::mcp", server = server.name, "its prompt is missing: {why}"),
        }
    }
    if texts.is_empty() {
        return;
    }
    let text = texts.join("\n\n");
    match messages.first_mut() {
        // Some models take one system message, at the front.
        Some(first) if first["role"] == "system" && first["content"].is_string() => {
            first["content"] = format!("{text}\n\n{}", first["content"].as_str().unwrap_or_default()).into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": text})),
    }
}

async fn prompt(
    server: &std::sync::Arc<crate::config::mcp::Server>,
    hands: &Hands,
) -> std::result::Result<String, String> {
    let mcp = &hands.worker.gateway.mcp;
    let name = match &server.inject_prompt {
        Some(Prompt::Named(name)) => name.clone(),
        _ => {
            let list =
                mcp.ask(server, "prompts/list", json!({}), &hands.headers, None).await.map_err(|f| f.to_string())?;
            let first = list["prompts"][0]["name"].as_str().ok_or("it has none")?;
            first.to_owned()
        }
    };
    let params = json!({"name": name});
    let found = mcp.ask(server, "prompts/get", params, &hands.headers, None).await.map_err(|f| f.to_string())?;
    let parts = found["messages"].as_array().into_iter().flatten().filter_map(|m| m["content"]["text"].as_str());
    let text: String = parts.collect::<Vec<_>>().join("\n\n").chars().take(MOST_PROMPT).collect();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}
