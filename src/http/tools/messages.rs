//! A request of Anthropic's Messages: its servers of tools, and what earlier messages have said of them, in chat's terms.
//!
//! Source of the members: Anthropic's page on its MCP connector (`mcp_servers`, `mcp_toolset`, and `tool_configuration`
//! of the version before); tools of the type `mcp` are LiteLLM's.

use super::turns::Asked;
use super::voice::{self, USE};
use super::{Hands, Read, approved, holds, kit, list, name_of};
use crate::call::Call;
use crate::envelope::{Envelope, shorten};
use crate::error::{Error, Result};
use crate::gateway::Live;
use crate::http::reply;
use crate::mcp::kit::{Kit, Wish, is_ours};
use crate::mcp::resume;
use crate::provider::tool_names;
use crate::wire::messages::{self, Rounds};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Whether this goes on from calls of the gateway's. Messages that only speak of such ids are as any other.
pub fn goes_on(envelope: &Envelope) -> bool {
    let is_ours = |block: &Value| match block["type"].as_str() {
        Some("mcp_tool_use") => block["id"].as_str().is_some_and(|id| id.starts_with(USE)),
        Some("tool_use") => block["id"].as_str().is_some_and(|id| id.starts_with(resume::PREFIX)),
        _ => false,
    };
    let quotes =
        || holds(envelope, "messages", USE.as_bytes()) || holds(envelope, "messages", resume::PREFIX.as_bytes());
    holds(envelope, "messages", b"_gw_")
        && quotes()
        && list(envelope, "messages")
            .iter()
            .any(|message| message["content"].as_array().is_some_and(|blocks| blocks.iter().any(is_ours)))
}

/// Whether one of the servers that it names is the gateway's. All others are for Anthropic to connect to.
pub fn names_ours(envelope: &Envelope, live: &Live) -> bool {
    let is_ours = |server: &Value| server["url"].as_str().is_some_and(|url| is_ours(url, live));
    envelope.get("mcp_servers").is_some() && list(envelope, "mcp_servers").iter().any(is_ours)
}

/// # Errors
/// A 400 that names what is wrong, and as [`Hands::kit`].
pub async fn read(call: &Call, mut body: Map<String, Value>, hands: &Hands) -> Result<Read> {
    let tools = match body.shift_remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    let mut wishes = Wish::among(&tools);
    wishes.append(&mut servers(body.shift_remove("mcp_servers"), &tools)?);
    let is_own = |tool: &&Value| !kit::is_entry(tool) && tool["type"] != "mcp_toolset";
    let own: Vec<Value> = tools.iter().filter(is_own).cloned().collect();
    let own_names = own.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect();
    let approved = approved(&mut body)?;
    let kit = hands.kit(call, &wishes, own_names).await?;

    let functions = kit.functions();
    // The gateway's tools stand among the others, so that a choice among them means something.
    let offered = functions.iter().map(|tool| {
        let function = &tool["function"];
        let mut tool = json!({"name": function["name"], "input_schema": function["parameters"]});
        if let Some(description) = function.get("description") {
            tool["description"] = description.clone();
        }
        tool
    });
    let all: Vec<Value> = own.into_iter().chain(offered).collect();
    if !all.is_empty() {
        body.insert("tools".to_owned(), all.into());
    }
    if let Some(messages) = body.get_mut("messages").and_then(Value::as_array_mut) {
        *messages = said(std::mem::take(messages), &kit);
    }
    let bytes = Value::Object(body).to_string();
    let nesting = call.live.config.server.max_nesting;
    let chat = Envelope::parse(Bytes::from(messages::to_chat(bytes.as_bytes())?), nesting)?;
    let (chat, names) = tool_names::shorten(&chat, nesting)?.unwrap_or_else(|| (chat, Default::default()));
    let mut chat: Map<String, Value> = serde_json::from_slice(chat.bytes())
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
    let (messages, _) = hands.expand(messages, &approved, &kit).await?;
    let estimate = messages::estimate_tokens(call.envelope.bytes())?;
    let rounds = Rounds::new(call.plan.model(), &format!("msg_{}", call.id.simple()), estimate, call.streams);
    let voice = Box::new(voice::Messages::new(rounds, call.streams, reply::request_id(&call.id), names));
    Ok(Read { asked: Asked { body: chat, messages, own, functions }, kit, voice, most_calls: None })
}

/// The servers of a request, each with what its set among the tools says. As with Anthropic, nobody is asked for leave.
fn servers(listed: Option<Value>, tools: &[Value]) -> Result<Vec<Wish>> {
    let listed = match listed {
        Some(Value::Array(listed)) => listed,
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(crate::http::call::wrong_type("mcp_servers", "an array")),
    };
    let sets: Vec<(usize, &Value)> =
        tools.iter().enumerate().filter(|(_, tool)| tool["type"] == "mcp_toolset").collect();
    for (place, set) in &sets {
        let name = &set["mcp_server_name"];
        if !name.is_string() || !listed.iter().any(|server| server["name"] == *name) {
            let shown = shorten(name.as_str().unwrap_or_default());
            let what = format!("There is no server '{shown}' in 'mcp_servers'.");
            return Err(Error::invalid(what).at_param(format!("tools[{place}].mcp_server_name")));
        }
    }
    let mut wishes = Vec::with_capacity(listed.len());
    for (place, server) in listed.into_iter().enumerate() {
        let at = format!("mcp_servers[{place}]");
        if !server.is_object() {
            return Err(crate::http::call::wrong_type(&at, "an object"));
        }
        let (mut entry, mut denied) = (server, Vec::new());
        let mut allowed = entry["tool_configuration"]["allowed_tools"].take();
        if entry["tool_configuration"]["enabled"] == false {
            allowed = json!([]);
        }
        if let Some((_, set)) = sets.iter().find(|(_, set)| set["mcp_server_name"] == entry["name"]) {
            let is_on = |config: &Value, otherwise: bool| config["enabled"].as_bool().unwrap_or(otherwise);
            let usual = is_on(&set["default_config"], true);
            let configs = || set["configs"].as_object().into_iter().flatten();
            let named = |on: bool| {
                configs().filter(move |(_, config)| is_on(config, usual) == on).map(|(name, _)| name.clone())
            };
            match usual {
                true => denied = named(false).collect(),
                false => allowed = named(true).collect(),
            }
        }
        entry["allowed_tools"] = allowed;
        entry["require_approval"] = "never".into();
        entry["server_label"] = entry["name"].clone();
        wishes.push(Wish { at, address: "url", entry, denied });
    }
    Ok(wishes)
}

/// Earlier messages, with what the gateway did between their blocks as turns of their own: calls, and their results.
fn said(messages: Vec<Value>, kit: &Kit) -> Vec<Value> {
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        match message["content"].as_array() {
            Some(blocks) if message["role"] == "assistant" && blocks.iter().any(is_served) => {
                rounds(blocks, kit, &mut out);
            }
            _ => out.push(message),
        }
    }
    out
}

fn is_served(block: &Value) -> bool {
    matches!(block["type"].as_str(), Some("mcp_tool_use" | "mcp_tool_result"))
}

fn rounds(blocks: &[Value], kit: &Kit, out: &mut Vec<Value>) {
    // The turn that these calls belong to is kept, and has the other calls of it.
    let name_in = |block: &Value, prefix: &str, member: &str| {
        let key = block[member].as_str()?.strip_prefix(prefix)?;
        resume::name_in(key).map(str::to_owned)
    };
    let handed: Vec<String> = blocks
        .iter()
        .filter(|block| block["type"] == "tool_use")
        .filter_map(|block| name_in(block, resume::PREFIX, "id"))
        .collect();
    let is_kept = |block: &Value, member: &str| name_in(block, USE, member).is_some_and(|name| handed.contains(&name));
    let (mut turn, mut results): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let flush = |turn: &mut Vec<Value>, results: &mut Vec<Value>, out: &mut Vec<Value>| {
        for (role, content) in [("assistant", std::mem::take(turn)), ("user", std::mem::take(results))] {
            if !content.is_empty() {
                out.push(json!({"role": role, "content": content}));
            }
        }
    };
    for block in blocks {
        match block["type"].as_str() {
            Some("mcp_tool_use") if is_kept(block, "id") => {}
            Some("mcp_tool_result") if is_kept(block, "tool_use_id") => {}
            Some("mcp_tool_result") => {
                // Results without their call would be refused.
                if turn.iter().any(|call| call["type"] == "tool_use" && call["id"] == block["tool_use_id"]) {
                    results.push(json!({"type": "tool_result", "tool_use_id": block["tool_use_id"],
                        "content": block["content"], "is_error": block["is_error"] == true}));
                }
            }
            kind => {
                if !results.is_empty() {
                    flush(&mut turn, &mut results, out);
                }
                match kind {
                    Some("mcp_tool_use") => {
                        let text = |name: &str| block[name].as_str().unwrap_or_default();
                        let name = name_of(kit, text("server_name"), text("name"));
                        let id = block["id"].clone();
                        // A message that was cut off may hold a call without its result.
                        if blocks.iter().any(|other| other["tool_use_id"] == id) {
                            turn.push(json!({"type": "tool_use", "id": id, "name": name, "input": block["input"]}));
                        }
                    }
                    _ => turn.push(block.clone()),
                }
            }
        }
    }
    flush(&mut turn, &mut results, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: &str = "0123456789abcdef01234567";

    fn call(id: &str) -> Value {
        json!({"type": "mcp_tool_use", "id": id, "name": "look", "server_name": "ha", "input": {"a": 1}})
    }

    fn result(id: &str) -> Value {
        json!({"type": "mcp_tool_result", "tool_use_id": id, "is_error": false, "content": [{"type": "text", "text": "x"}]})
    }

    #[test]
    fn what_was_done_within_a_message_becomes_turns() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let blocks = json!([text("a"), call("u1"), result("u1"), call("u2"), result("u2"), call("cut"), text("b")]);
        let told = said(vec![json!({"role": "assistant", "content": blocks})], &Kit::default());
        let roles: Vec<&str> = told.iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["assistant", "user", "assistant", "user", "assistant"]);
        assert_eq!(
            told[0]["content"][1],
            json!({"type": "tool_use", "id": "u1", "name": "ha-look", "input": {"a": 1}})
        );
        assert_eq!(told[1]["content"][0]["tool_use_id"], "u1");
        assert_eq!(told[4]["content"], json!([text("b")]));
    }

    #[test]
    fn the_calls_of_a_kept_turn_are_left_to_it() {
        let used = format!("{USE}{TURN}_0");
        let own = json!({"type": "tool_use", "id": format!("call_gw_{TURN}_1"), "name": "f", "input": {}});
        let told =
            said(vec![json!({"role": "assistant", "content": [call(&used), result(&used), own]})], &Kit::default());
        assert_eq!(told, [json!({"role": "assistant", "content": [own]})]);
    }

    #[test]
    fn sets_say_which_tools_of_a_server_are_wanted() {
        let server = json!([{"type": "url", "url": "litellm_proxy/mcp/ha", "name": "ha"}]);
        let set = |more: Value| {
            let mut set = json!({"type": "mcp_toolset", "mcp_server_name": "ha"});
            more.as_object().unwrap().iter().for_each(|(name, value)| set[name] = value.clone());
            servers(Some(server.clone()), &[set]).map(|mut wishes| wishes.remove(0))
        };
        let all = set(json!({"configs": {"unlock": {"enabled": false}}})).unwrap();
        assert_eq!((all.denied, &all.entry["allowed_tools"]), (vec!["unlock".to_owned()], &Value::Null));
        let some = set(json!({"default_config": {"enabled": false}, "configs": {"look": {"enabled": true}}})).unwrap();
        assert_eq!(some.entry["allowed_tools"], json!(["look"]));
        assert!(set(json!({"mcp_server_name": "other"})).is_err());
        assert!(servers(Some(json!("x")), &[]).is_err() && servers(Some(json!(["x"])), &[]).is_err());
    }
}
