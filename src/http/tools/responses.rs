//! A request of OpenAI's Responses: its tools of servers, and what earlier responses have said of them, in chat's terms.

use super::history::Allowed;
use super::turns::Asked;
use super::voice::{self, CALL};
use super::{Hands, Read, kit, name_of};
use crate::call::Call;
use crate::envelope::shorten;
use crate::error::{Error, Result};
use crate::mcp::kit::{Kit, Wish};
use crate::mcp::outcome::Outcome;
use crate::mcp::resume::{self, QUESTION};
use crate::wire::responses::{self, Rounds, Served};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Turns with open questions that are looked for at once.
const MOST_OPEN: usize = 32;

/// Whether this goes on from calls of the gateway's.
pub fn goes_on(call: &Call) -> bool {
    let is_ours = |item: &Value| item["type"].as_str().is_some_and(|kind| kind.starts_with("mcp_"));
    call.history.as_ref().is_some_and(|history| history.items.iter().any(is_ours))
        || (super::holds(&call.envelope, "input", b"\"mcp_")
            && super::list(&call.envelope, "input").iter().any(is_ours))
}

/// # Errors
/// A 400 that names what is wrong, and as [`Hands::kit`].
pub async fn read(call: &Call, mut body: Map<String, Value>, hands: &Hands) -> Result<Read> {
    let tools = match body.get("tools") {
        Some(Value::Array(tools)) => tools.clone(),
        _ => Vec::new(),
    };
    let own: Vec<Value> = tools.iter().filter(|tool| !kit::is_entry(tool)).cloned().collect();
    check_entries(&tools)?;
    let own_names: Vec<String> = own.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect();
    let most_calls = body.get("max_tool_calls").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
    let kit = hands.kit(call, &Wish::among(&tools), own_names).await?;

    let mut items = call.history.as_ref().map(|history| history.items.clone()).unwrap_or_default();
    items.append(&mut responses::items(body.get("input").filter(|input| !input.is_null()))?);
    let listed: Vec<String> = items
        .iter()
        .filter(|item| item["type"] == "mcp_list_tools" && item["error"].is_null())
        .filter_map(|item| item["server_label"].as_str().map(str::to_owned))
        .collect();
    let by_shell = by_shell(&items, hands).await?;
    let (items, approved) = said(items, &kit, &by_shell)?;
    let echo_of = body.clone();
    body.insert("input".to_owned(), items.into());
    if let Some(choice) = body.get("tool_choice").map(|choice| chosen(choice, &kit)).transpose()?.flatten() {
        body.insert("tool_choice".to_owned(), choice);
    }
    // The gateway's tools stand among the others, so that a choice among them means something.
    let functions = kit.functions();
    let flat = functions.iter().map(|tool| {
        let function = &tool["function"];
        json!({"type": "function", "name": function["name"], "description": function["description"],
            "parameters": function["parameters"]})
    });
    body.insert("tools".to_owned(), own.into_iter().chain(flat).collect());
    let asked = responses::to_chat(Value::Object(body).to_string().as_bytes(), Vec::new())?;
    let custom = asked.echo.custom.clone();
    let mut chat: Map<String, Value> = serde_json::from_slice(&asked.chat)
        .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
    let mut own = match chat.shift_remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    own.truncate(own.len().saturating_sub(functions.len()));
    let messages = match chat.shift_remove("messages") {
        Some(Value::Array(messages)) => messages,
        _ => Vec::new(),
    };
    let (messages, allowed) = hands.expand(messages, &approved, &kit).await.map_err(in_input)?;
    let allowed = allowed.into_iter().filter_map(|allowed| of_question(allowed, &kit)).collect();
    let created = u64::try_from(call.id.as_u128() >> 80).unwrap_or_default() / 1000;
    let rounds =
        Rounds::new(responses::echo(&echo_of, custom), &call.id.simple().to_string(), created, call.plan.model());
    let voice = Box::new(voice::Responses::new(rounds, call.streams, &kit, &listed, allowed));
    Ok(Read { asked: Asked { body: chat, messages, own, functions }, kit, voice, most_calls })
}

/// OpenAI's other ways to name a server lead to no server of this gateway.
fn check_entries(tools: &[Value]) -> Result<()> {
    for (place, tool) in tools.iter().enumerate().filter(|(_, tool)| kit::is_entry(tool)) {
        if !tool["connector_id"].is_null() {
            let what = "Connectors are OpenAI's own; name a server of this gateway in 'server_url'.";
            return Err(Error::invalid(what).at_param(format!("tools[{place}].connector_id")));
        }
    }
    Ok(())
}

/// A choice of a server's tools, as one of functions.
///
/// # Errors
/// A 400 where there is no such server or tool in this request.
fn chosen(choice: &Value, kit: &Kit) -> Result<Option<Value>> {
    if choice["type"] != "mcp" {
        return Ok(None);
    }
    let label = choice["server_label"].as_str().unwrap_or_default();
    let wrong = |what: String, at: &str| Err(Error::invalid(what).at_param(at));
    if !kit.labels.iter().any(|known| known.label == label) {
        let what = format!("There is no server '{}' among the tools of this request.", shorten(label));
        return wrong(what, "tool_choice.server_label");
    }
    let Some(name) = choice["name"].as_str() else { return Ok(Some("required".into())) };
    match kit.find_shown(label, name) {
        Some(tool) => Ok(Some(json!({"type": "function", "name": tool.offered.name}))),
        None => wrong(format!("The server '{label}' offers no tool '{}'.", shorten(name)), "tool_choice.name"),
    }
}

/// What chat calls messages is `input` here.
fn in_input(error: Error) -> Error {
    if error.param() == Some("messages") { error.at_param("input") } else { error }
}

/// An allowed call as an item of the new response.
fn of_question(allowed: Allowed, kit: &Kit) -> Option<(Served, Outcome)> {
    let key = allowed.call.id.strip_prefix(resume::PREFIX)?.to_owned();
    let tool = kit.find(&allowed.call.name)?;
    let (label, name) = (tool.label.clone(), tool.shown.clone());
    let request = Some(format!("{QUESTION}{key}"));
    let served = Served { id: format!("{CALL}{key}"), label, name, arguments: allowed.call.arguments, request };
    Some((served, allowed.outcome))
}

/// The questions that nobody has answered in the conversation, and the operator from the shell.
async fn by_shell(items: &[Value], hands: &Hands) -> Result<HashSet<String>> {
    let of = |kind: &str, name: &str| -> HashSet<&str> {
        items.iter().filter(|item| item["type"] == kind).filter_map(|item| item[name].as_str()).collect()
    };
    let (calls, answers) = (of("mcp_call", "approval_request_id"), of("mcp_approval_response", "approval_request_id"));
    let open = of("mcp_approval_request", "id").into_iter().filter(|id| !calls.contains(id) && !answers.contains(id));
    let turns: HashSet<&str> =
        open.filter_map(|id| resume::name_in(id.strip_prefix(QUESTION)?)).take(MOST_OPEN).collect();
    let mut approved = HashSet::new();
    for name in turns {
        let found = resume::approved(&hands.worker.gateway.store, &hands.caller, name).await?;
        approved.extend(found.iter().filter_map(|id| Some(format!("{QUESTION}{}", id.strip_prefix(resume::PREFIX)?))));
    }
    Ok(approved)
}

/// What items of earlier responses say of the gateway's tools, as calls of functions and their results; and which calls
/// are allowed now. What was answered needs nothing that was kept; a turn with a call that is allowed now is found by the
/// ids of its calls.
fn said(items: Vec<Value>, kit: &Kit, by_shell: &HashSet<String>) -> Result<(Vec<Value>, HashSet<String>)> {
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let is = |item: &Value, kind: &str| item["type"] == kind;
    let answered: HashSet<String> =
        items.iter().filter(|item| is(item, "mcp_call")).map(|item| text(item, "approval_request_id")).collect();
    let mut answers: Map<String, Value> = Map::new();
    let mut asked: HashSet<String> = HashSet::new();
    for item in &items {
        if is(item, "mcp_approval_request") {
            asked.insert(text(item, "id"));
        } else if is(item, "mcp_approval_response") {
            let id = text(item, "approval_request_id");
            if !asked.contains(&id) {
                let shown = shorten(&id);
                let what = format!("There is no approval request '{shown}' before its response.");
                return Err(Error::invalid(what).at_param("input"));
            }
            if !item["approve"].is_boolean() {
                return Err(Error::invalid("An approval response needs 'approve': true or false.").at_param("input"));
            }
            answers.insert(id, item.clone());
        }
    }
    let key_of = |id: &str, prefix: &str| {
        let key = id.strip_prefix(prefix)?;
        resume::name_in(key).map(|name| (key.to_owned(), name.to_owned()))
    };
    // Turns in which something is allowed now.
    let open: HashSet<String> = answers
        .iter()
        .filter(|(id, answer)| answer["approve"] == true && !answered.contains(*id))
        .map(|(id, _)| id)
        .chain(by_shell)
        .filter_map(|id| key_of(id, QUESTION).map(|(_, name)| name))
        .collect();
    let mut approved = HashSet::new();
    let mut out = Vec::with_capacity(items.len());
    let call = |id: &str, name: &str, arguments: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments});
    let result = |id: &str, output: &str| json!({"type": "function_call_output", "call_id": id, "output": output});
    for item in items {
        let id = text(&item, "id");
        match item["type"].as_str().unwrap_or_default() {
            "mcp_list_tools" | "mcp_approval_response" => {}
            "mcp_call" => {
                let of_open = key_of(&id, CALL).is_some_and(|(_, name)| open.contains(&name));
                // The kept turn has it.
                if of_open {
                    continue;
                }
                let id = if id.is_empty() { format!("{CALL}{}", out.len()) } else { id };
                let name = name_of(kit, &text(&item, "server_label"), &text(&item, "name"));
                out.push(call(&id, &name, &text(&item, "arguments")));
                out.push(result(&id, &output(&item)));
            }
            "mcp_approval_request" => {
                if answered.contains(&id) {
                    continue;
                }
                let name = name_of(kit, &text(&item, "server_label"), &text(&item, "name"));
                let answer = answers.get(&id);
                let denial = answer.filter(|answer| answer["approve"] == false).map(|answer| {
                    let reason = answer["reason"].as_str().map(|reason| format!(" They say: {reason}"));
                    format!("The user does not allow this call. Nothing was done.{}", reason.unwrap_or_default())
                });
                let arguments = text(&item, "arguments");
                match key_of(&id, QUESTION).filter(|(_, name)| open.contains(name)) {
                    Some((key, _)) => {
                        let id = resume::id(&key);
                        out.push(call(&id, &name, &arguments));
                        match denial {
                            Some(denial) => out.push(result(&id, &denial)),
                            None if answer.is_some() => drop(approved.insert(id)),
                            None => {}
                        }
                    }
                    None => {
                        let denial =
                            denial.unwrap_or("The user has not allowed this call. Nothing was done.".to_owned());
                        out.push(call(&id, &name, &arguments));
                        out.push(result(&id, &denial));
                    }
                }
            }
            "function_call" | "function_call_output" => {
                // Ids of a turn that is over lead nowhere any more.
                let over = key_of(&text(&item, "call_id"), resume::PREFIX).filter(|(_, name)| !open.contains(name));
                let mut item = item;
                if let Some((key, _)) = over {
                    item["call_id"] = format!("call_{key}").into();
                }
                out.push(item);
            }
            _ => out.push(item),
        }
    }
    Ok((out, approved))
}

/// What came of a call: its output, or its error in any of the forms that clients have seen.
fn output(item: &Value) -> String {
    let error = &item["error"];
    let texts = || -> Option<String> {
        Some(
            error["content"].as_array()?.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        )
    };
    let said = item["output"].as_str().or(error.as_str()).or(error["message"].as_str());
    said.map(str::to_owned).or_else(texts).unwrap_or_else(|| "(nothing)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: &str = "0123456789abcdef01234567";

    fn kinds(items: &[Value]) -> Vec<String> {
        let told = |item: &Value| {
            let id = item["call_id"].as_str().unwrap_or_default();
            format!("{} {id}", item["type"].as_str().unwrap_or_default())
        };
        items.iter().map(told).collect()
    }

    fn question(place: usize) -> Value {
        json!({"type": "mcp_approval_request", "id": format!("mcpr_{TURN}_{place}"), "server_label": "ha", "name": "unlock",
            "arguments": "{}"})
    }

    fn answer(place: usize, approve: bool) -> Value {
        json!({"type": "mcp_approval_response", "approval_request_id": format!("mcpr_{TURN}_{place}"), "approve": approve})
    }

    fn done(place: usize, request: Option<usize>) -> Value {
        json!({"type": "mcp_call", "id": format!("mcp_{TURN}_{place}"), "server_label": "ha", "name": "look",
            "arguments": "{}", "output": "seen", "approval_request_id": request.map(|at| format!("mcpr_{TURN}_{at}"))})
    }

    #[test]
    fn what_is_allowed_now_is_left_to_the_kept_turn() {
        let kit = Kit::default();
        let items = vec![done(0, None), question(1), question(2), answer(1, true), answer(2, false)];
        let (told, approved) = said(items, &kit, &HashSet::new()).unwrap();
        let (one, two) = (format!("call_gw_{TURN}_1"), format!("call_gw_{TURN}_2"));
        let expected =
            [format!("function_call {one}"), format!("function_call {two}"), format!("function_call_output {two}")];
        assert_eq!((kinds(&told), approved), (expected.to_vec(), HashSet::from([one])));
    }

    #[test]
    fn what_is_over_needs_nothing_that_was_kept() {
        let kit = Kit::default();
        let items = vec![done(0, None), question(1), answer(1, true), done(1, Some(1)), question(2), answer(2, false)];
        let (told, approved) = said(items, &kit, &HashSet::new()).unwrap();
        assert!(approved.is_empty());
        let ids: Vec<String> = kinds(&told);
        assert!(ids.iter().all(|id| !id.contains("call_gw_")) && ids.len() == 6, "{ids:?}");
        assert_eq!(told[0]["name"], "ha-look");
        assert!(told[5]["output"].as_str().unwrap().contains("does not allow"), "{told:?}");
        let own = vec![
            json!({"type": "function_call", "call_id": format!("call_gw_{TURN}_0"), "name": "f", "arguments": ""}),
        ];
        assert_eq!(said(own, &kit, &HashSet::new()).unwrap().0[0]["call_id"], format!("call_{TURN}_0"));
    }

    #[test]
    fn answers_to_no_question_are_refused() {
        let kit = Kit::default();
        assert!(said(vec![answer(1, true)], &kit, &HashSet::new()).is_err());
        let vague = json!({"type": "mcp_approval_response", "approval_request_id": format!("mcpr_{TURN}_1")});
        assert!(said(vec![question(1), vague], &kit, &HashSet::new()).is_err());
    }
}
