//! Calls in which the gateway runs tools itself: chats here, the other formats below.

mod messages;
mod responses;

use crate::keys::{generate, post, text};
use crate::support::mcp::{Kind, Outcome, ToolServer, tool};
use crate::support::reply::{DONE, delta, event};
use crate::support::setup::Ended;
use crate::support::upstream::{Seen, refusing};
use crate::support::{Answer, Gate, Gateway, MASTER_KEY, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const PLAIN: Kind = Kind::Legacy { sessions: false };

/// A house with a shopping list, and a lock that wants approval.
fn house() -> ToolServer {
    let mut get = tool("todo_get_items", &["status"]);
    get["inputSchema"]["properties"]["todo_list"] = json!({"enum": ["Shopping"]});
    get["inputSchema"]["required"] = json!(["todo_list"]);
    ToolServer::new(PLAIN, vec![tool("GetLiveContext", &[]), get, tool("unlock", &["door"])], |name, arguments| {
        Outcome::Text(match name {
            "GetLiveContext" => "Lists: Shopping".to_owned(),
            "unlock" => format!("{} is open", arguments["door"].as_str().unwrap_or("?")),
            _ => r#"{"items": ["milk", "bread"]}"#.to_owned(),
        })
    })
}

/// A turn that calls these, whole or as a stream, by what the request asks for.
fn turn(seen: &Seen, content: &str, calls: &[(&str, &str, &str)]) -> Reply {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12});
    let full: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(index, (id, name, arguments))| {
            json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        })
        .collect();
    let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
    if seen.json()["stream"] == true {
        let mut parts = vec![delta(json!({"role": "assistant", "content": ""}), None)];
        for piece in content.split_inclusive(' ') {
            parts.push(delta(json!({"content": piece}), None));
        }
        for call in &full {
            let (first, second) = call["function"]["arguments"].as_str().unwrap().split_at(1);
            let mut head = call.clone();
            head["function"]["arguments"] = first.into();
            parts.push(delta(json!({"tool_calls": [head]}), None));
            parts.push(delta(
                json!({"tool_calls": [{"index": call["index"], "function": {"arguments": second}}]}),
                None,
            ));
        }
        parts.push(delta(json!({}), Some(reason)));
        parts.push(event(&json!({"id": "chatcmpl-9a1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [], "usage": usage})));
        return parts.into_iter().fold(Reply::stream(), |reply, part| reply.send(&part)).send(DONE).end_body();
    }
    let mut message = json!({"role": "assistant", "content": content});
    if !full.is_empty() {
        message["tool_calls"] = full.into();
    }
    Reply::json(200, &json!({"id": format!("chatcmpl-{}", seen.json()["messages"].as_array().unwrap().len()), "object": "chat.completion",
        "created": 1, "model": "up", "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}).to_string())
}

/// How many results of tools a request holds.
fn results(seen: &Seen) -> usize {
    seen.json()["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "tool").count()
}

/// A model that looks around, reads the list, and answers.
fn shopper() -> Upstream {
    Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "Let me look.", &[("call_a", "ha-GetLiveContext", "{}")]),
        1 => turn(seen, "", &[("call_b", "ha-todo_get_items", "{\"todo_list\": \"Shopping\"}")]),
        _ => turn(seen, "Milk and bread.", &[]),
    })
}

fn serve(up: &Upstream, house: &ToolServer, more: &str) -> Gateway {
    let servers = format!("[mcp_servers.ha]\nurl = \"{}\"\n{more}", house.url());
    Gateway::start(&(config("", &[model("small", up)]) + &servers))
}

fn entry(approval: Value) -> Value {
    json!({"type": "mcp", "server_url": "litellm_proxy/mcp/ha", "server_label": "ha", "require_approval": approval})
}

fn ask(tools: Value, stream: bool) -> Value {
    json!({"model": "small", "stream": stream, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "What is on the shopping list?"}], "tools": tools})
}

fn chat(gateway: &Gateway, body: &Value) -> Answer {
    let mut body = body.clone();
    if body["stream"] == false {
        body.as_object_mut().unwrap().remove("stream_options");
    }
    post(gateway, MASTER_KEY, "/v1/chat/completions", &body)
}

/// The chunks of a stream, `[DONE]` apart.
fn chunks(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn a_model_uses_tools_in_several_rounds_and_gives_one_answer() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "cost_per_call = 0.5\n");
    let answer = chat(&gateway, &ask(json!([entry(json!("never"))]), false)).ok();
    let body = answer.json();
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"], "Let me look.\n\nMilk and bread.");
    assert_eq!((&body["choices"][0]["finish_reason"], message.get("tool_calls")), (&json!("stop"), None));
    assert_eq!(body["usage"], json!({"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}));
    let fields = &message["provider_specific_fields"];
    assert_eq!(fields["mcp_list_tools"].as_array().unwrap().len(), 3);
    assert_eq!(fields["mcp_call_results"][1]["result"], r#"{"items": ["milk", "bread"]}"#);
    // Upstreams see standard fields only, and the rounds before.
    let seen = up.requests();
    assert_eq!(seen.len(), 3);
    for request in &seen {
        let tools = request.json()["tools"].clone();
        assert!(tools.as_array().unwrap().iter().all(|tool| tool["type"] == "function"), "{tools}");
    }
    let last = seen[2].json();
    let roles: Vec<&str> = last["messages"].as_array().unwrap().iter().map(|m| text(&m["role"])).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "tool"]);
    assert_eq!((house.count("tools/call"), house.count("tools/list")), (2, 1));
    // Three turns and two calls have a row each.
    let rows = crate::ledger::rows(&gateway, 5);
    let tools: Vec<&Value> = rows.iter().filter(|row| row["call_type"] == "call_mcp_tool").collect();
    assert_eq!((tools.len(), &tools[0]["spend"]), (2, &json!(0.5)));
}

#[test]
fn a_stream_is_one_clean_message() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let answer = chat(&gateway, &ask(json!([entry(json!("never"))]), true)).ok();
    let all = chunks(&answer);
    let ids: std::collections::BTreeSet<String> = all.iter().map(|c| c["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let deltas: Vec<&Value> = all.iter().map(|c| &c["choices"][0]["delta"]).collect();
    assert_eq!(deltas.iter().filter(|d| d["role"].is_string()).count(), 1);
    assert!(deltas.iter().all(|d| d.get("tool_calls").is_none()));
    let said: String = deltas.iter().filter_map(|d| d["content"].as_str()).collect();
    assert_eq!(said, "Let me look.\n\nMilk and bread.");
    let reasons: Vec<&str> = all.iter().filter_map(|c| c["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["stop"]);
    let usages: Vec<&Value> = all.iter().map(|c| &c["usage"]).filter(|u| u.is_object()).collect();
    assert_eq!((usages.len(), usages[0]["total_tokens"].as_u64()), (1, Some(36)));
    assert!(
        deltas.iter().any(|d| d["provider_specific_fields"]["mcp_tool_calls"].as_array().is_some_and(|c| c.len() == 2))
    );
}

#[test]
fn what_needs_approval_waits_and_goes_on_when_it_comes() {
    let house = house();
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}")]),
        1 => turn(seen, "I need leave.", &[("call_b", "ha-unlock", "{\"door\":\"front\"}")]),
        _ => turn(seen, "Done.", &[]),
    });
    let gateway = serve(&up, &house, "");
    let tools = json!([entry(json!({"never": {"tool_names": ["GetLiveContext"]}}))]);
    let first = chat(&gateway, &ask(tools.clone(), false)).ok().json();
    let message = first["choices"][0]["message"].clone();
    assert_eq!(first["choices"][0]["finish_reason"], "tool_calls");
    let id = text(&message["tool_calls"][0]["id"]).to_owned();
    assert_eq!(message["tool_calls"][0]["function"]["name"], "ha-unlock");
    assert_eq!(
        (house.count("tools/call"), &message["provider_specific_fields"]["mcp_approval_requests"]),
        (1, &json!([id]))
    );

    let go_on = |approved: &[&str], more: Option<Value>| {
        let mut body = ask(tools.clone(), false);
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(message.clone());
        messages.extend(more);
        body["approved_tool_calls"] = json!(approved);
        body
    };
    // Without approval the model is told so, and nothing is done.
    chat(&gateway, &go_on(&[], None)).ok();
    assert_eq!(house.count("tools/call"), 1);
    assert!(up.requests().last().unwrap().text().contains("not approved"));
    chat(&gateway, &go_on(&["call_gw_000000000000000000000000_0"], None)).error(400);
    // With it the call runs once, however often it is quoted.
    let answer = chat(&gateway, &go_on(&[&id], None)).ok().json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Done.");
    let last = up.requests().last().unwrap().json();
    let told: Vec<&str> =
        last["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap_or("-")).collect();
    assert_eq!(told[2..], ["Lists: Shopping", "I need leave.", "front is open"]);
    assert_eq!(last["messages"][1]["tool_calls"][0]["id"], "call_a");
    chat(&gateway, &go_on(&[&id], None)).ok();
    assert_eq!(house.count("tools/call"), 2);
    // Another key knows nothing of it.
    let other = generate(&gateway, &json!({"object_permission": {"mcp_servers": ["ha"]}}));
    let error = post(&gateway, text(&other["key"]), "/v1/chat/completions", &go_on(&[&id], None)).error(400);
    assert!(error.message.contains("not known"), "{error:?}");
}

/// Runs the program on the files of a gateway.
fn shell(gateway: &Gateway, words: &[&str]) -> Ended {
    let dir = gateway.dir();
    let setup = Setup::command(words).arg("--config").arg(&dir.join("gateway.toml").to_string_lossy());
    let setup = setup.arg("--env-file").arg(&dir.join("env").to_string_lossy());
    setup.arg("--state-dir").arg(&dir.to_string_lossy()).run()
}

#[test]
fn the_shell_approves_a_call() {
    let house = house();
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_b", "ha-unlock", "{\"door\":\"back\"}")]),
        _ => turn(seen, "Done.", &[]),
    });
    let gateway = serve(&up, &house, "");
    let first = chat(&gateway, &ask(json!([entry(Value::Null)]), false)).ok().json();
    let message = first["choices"][0]["message"].clone();
    let id = text(&message["tool_calls"][0]["id"]).to_owned();
    let shell = |words: &[&str]| shell(&gateway, words);
    let done = shell(&["mcp", "approve", &id]);
    assert_eq!((done.code, done.stdout.contains("ha-unlock")), (Some(0), true), "{done:?}");
    assert_eq!(shell(&["mcp", "approve", "call_gw_nothing"]).code, Some(1));
    let mut body = ask(json!([entry(Value::Null)]), false);
    body["messages"].as_array_mut().unwrap().push(message);
    chat(&gateway, &body).ok();
    assert_eq!(house.count("tools/call"), 1);
    let listed = shell(&["mcp", "list"]);
    assert_eq!(listed.stdout, "ha\thttp\tup\t3 tools\n", "{listed:?}");
    assert!(shell(&["mcp", "tools", "ha"]).stdout.contains("ha-unlock\tDoes unlock."));
    assert!(shell(&["mcp", "call", "ha-unlock", "{\"door\":\"x\"}"]).stdout.contains("x is open"));
}

#[test]
fn the_callers_own_functions_stay_the_callers() {
    let house = house();
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}"), ("call_o", "weather", "{\"at\":\"home\"}")]),
        _ => turn(seen, "Sunny.", &[]),
    });
    let gateway = serve(&up, &house, "");
    let own = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}});
    let tools = json!([own, entry(json!("never"))]);
    for stream in [false, true] {
        let answer = chat(&gateway, &ask(tools.clone(), stream)).ok();
        let (calls, reason) = match stream {
            false => {
                let choice = answer.json()["choices"][0].clone();
                (choice["message"]["tool_calls"].clone(), choice["finish_reason"].clone())
            }
            true => {
                let all = chunks(&answer);
                let last = all.iter().find(|c| c["choices"][0]["finish_reason"].is_string()).unwrap();
                (last["choices"][0]["delta"]["tool_calls"].clone(), last["choices"][0]["finish_reason"].clone())
            }
        };
        assert_eq!(
            (calls.as_array().unwrap().len(), &calls[0]["function"]["name"], &reason),
            (1, &json!("weather"), &json!("tool_calls"))
        );
        let mut body = ask(tools.clone(), stream);
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        chat(&gateway, &body).error(400);
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "22 degrees"}));
        chat(&gateway, &body).ok();
        let sent = up.requests().last().unwrap().json();
        let told: Vec<Value> = sent["messages"].as_array().unwrap()[2..].to_vec();
        assert_eq!(told[0], json!({"role": "tool", "tool_call_id": "call_a", "content": "Lists: Shopping"}));
        assert_eq!(told[1], json!({"role": "tool", "tool_call_id": "call_o", "content": "22 degrees"}));
    }
}

#[test]
fn a_loop_ends_at_its_cap_with_an_answer() {
    let house = house();
    let up = Upstream::script(|seen| match seen.json().get("tools") {
        Some(_) => turn(seen, "", &[("call_x", "ha-GetLiveContext", "{}")]),
        None => turn(seen, "Enough.", &[]),
    });
    let gateway = serve(&up, &house, "[tools]\nmax_rounds = 2\n");
    let mut body = ask(json!([entry(json!("never"))]), false);
    body["tool_choice"] = json!("required");
    let answer = chat(&gateway, &body).ok().json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Enough.");
    assert_eq!((house.count("tools/call"), up.requests().len()), (2, 3));
    // A forced choice is for the first turn alone.
    let choices: Vec<Value> = up.requests().iter().map(|seen| seen.json()["tool_choice"].clone()).collect();
    assert_eq!(choices, [json!("required"), Value::Null, Value::Null]);
}

#[test]
fn what_goes_wrong_in_a_tool_is_told_to_the_model() {
    let house = house();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let up = Upstream::script(move |seen| {
        let body = seen.json();
        let last = body["messages"].as_array().unwrap().last().unwrap()["content"].clone();
        log.lock().unwrap().push(last.as_str().unwrap_or_default().to_owned());
        match results(seen) {
            0 => turn(seen, "", &[("a", "ha-todo_get_items", "{\"todo_list\": \"Work\"}")]),
            1 => turn(seen, "", &[("b", "ha-todo_get_items", "not json")]),
            2 => turn(seen, "", &[("c", "ha-nothing", "{}")]),
            _ => turn(seen, "Sorry.", &[]),
        }
    });
    let gateway = serve(&up, &house, "");
    chat(&gateway, &ask(json!([entry(json!("never"))]), false)).ok();
    let told = told.lock().unwrap().clone();
    assert!(told[1].contains("one of \"Shopping\""), "{told:?}");
    assert!(told[2].contains("no JSON object") && told[3].contains("no tool 'ha-nothing'"), "{told:?}");
    assert_eq!(house.count("tools/call"), 0);
}

#[test]
fn turns_that_are_over_and_models_without_tools_are_a_400() {
    let (up, house) = (shopper(), house());
    let entry_of = |name: &str, can: bool| {
        crate::support::deployment(name, "openai/up", up.base())
            + &format!("info = {{ supports_function_calling = {can} }}\n")
    };
    let servers = format!("[mcp_servers.ha]\nurl = \"{}\"\n[tools]\nresume_age = \"0s\"\n", house.url());
    let gateway = Gateway::start(&(config("", &[entry_of("small", true), entry_of("simple", false)]) + &servers));
    let mut body = ask(json!([entry(json!("always"))]), false);
    let handed = chat(&gateway, &body).ok().json();
    let message = handed["choices"][0]["message"].clone();
    let id = message["tool_calls"][0]["id"].clone();
    body["messages"].as_array_mut().unwrap().push(message);
    body["approved_tool_calls"] = json!([id]);
    let error = chat(&gateway, &body).error(400);
    assert!(error.message.contains(text(&id)) && error.message.contains("its time is over"), "{error:?}");
    assert_eq!(house.count("tools/call"), 0);
    // What was never handed out is not passed over either.
    let plain = json!({"model": "small", "messages": [{"role": "user", "content": "?"}], "approved_tool_calls": ["x"]});
    assert_eq!(chat(&gateway, &plain).error(400).param.as_deref(), Some("approved_tool_calls"));
    let mut body = ask(json!([entry(json!("never"))]), false);
    body["model"] = json!("simple");
    let error = chat(&gateway, &body).error(400);
    assert!(error.message.contains("'simple' cannot call tools"), "{error:?}");
    assert_eq!(up.requests().len(), 1);
}

#[test]
fn each_round_asks_for_its_budget_and_costly_tools_do_too() {
    let (house, up) = (house(), shopper());
    let priced = crate::limits::PRICE;
    let gateway = Gateway::start(&format!(
        "{}{priced}[mcp_servers.ha]\nurl = \"{}\"\ntool_costs = {{ todo_get_items = 0.5 }}\n",
        config("", &[model("small", &up)]),
        house.url()
    ));
    let key = |budget: f64| {
        let body = json!({"max_budget": budget, "object_permission": {"mcp_servers": ["ha"]}});
        text(&generate(&gateway, &body)["key"]).to_owned()
    };
    let mut body = ask(json!([entry(json!("never"))]), false);
    body.as_object_mut().unwrap().remove("stream_options");
    // 10 tokens in and 2 out cost 0.00003 a round.
    let answer = post(&gateway, &key(0.000_02), "/v1/chat/completions", &body);
    assert_eq!(answer.any_error().kind, "budget_exceeded");
    assert_eq!((up.requests().len(), house.count("tools/call")), (1, 1));
    // The tool takes the budget: the round after it is refused.
    let answer = post(&gateway, &key(0.4), "/v1/chat/completions", &body);
    assert_eq!(answer.any_error().kind, "budget_exceeded");
    assert_eq!((up.requests().len(), house.count("tools/call")), (3, 3));
    let answer = post(&gateway, &key(5.0), "/v1/chat/completions", &body).ok();
    let spent: f64 = crate::ledger::rows(&gateway, 11).iter().map(|row| row["spend"].as_f64().unwrap()).sum();
    assert!((spent - (6.0 * 0.000_03 + 2.0 * 0.5)).abs() < 1e-9, "{spent}");
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Let me look.\n\nMilk and bread.");
}

#[test]
fn a_prompt_of_the_server_goes_in_front_where_the_operator_wants_it() {
    let (house, up) = (house(), shopper());
    for (line, prompt) in [("inject_prompt = true", "Assist"), ("inject_prompt = \"Other\"", "Other")] {
        let gateway = serve(&up, &house, &format!("{line}\n"));
        let mut body = ask(json!([entry(json!("never"))]), false);
        chat(&gateway, &body).ok();
        let first = &up.requests()[up.requests().len() - 3].json()["messages"][0];
        assert_eq!(*first, json!({"role": "system", "content": format!("The prompt {prompt}.")}));
        body["messages"] = json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "?"}]);
        chat(&gateway, &body).ok();
        let sent = up.requests().last().unwrap().json();
        assert_eq!(sent["messages"][0]["content"], format!("The prompt {prompt}.\n\nBe kind."));
        assert_eq!(sent["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "system").count(), 1);
    }
    // A server that has none is no reason to fail.
    let gateway = serve(&up, &house, "inject_prompt = \"Other\"\ntimeout = \"1s\"\n");
    assert!(!gateway.logs().contains("its prompt is missing"));
}

#[test]
fn huge_results_are_cut_for_the_model() {
    let house = ToolServer::new(PLAIN, vec![tool("GetLiveContext", &[])], |_, _| Outcome::Text("ä".repeat(100_000)));
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}")]),
        _ => turn(seen, "Much.", &[]),
    });
    let gateway = serve(&up, &house, "[tools]\nresult_limit = \"1KiB\"\n");
    chat(&gateway, &ask(json!([entry(json!("never"))]), false)).ok();
    let sent = up.requests()[1].json();
    let told = text(&sent["messages"].as_array().unwrap().last().unwrap()["content"]).to_owned();
    assert!(told.len() < 1100 && told.ends_with("[cut: 1024 of 200000 bytes]"), "{}", told.len());
}

#[test]
fn a_caller_who_leaves_starts_nothing_more() {
    for cancels in [false, true] {
        let gate = Gate::new();
        let wait = gate.clone();
        let house = ToolServer::new(PLAIN, vec![tool("GetLiveContext", &[])], move |_, _| {
            let done = json!({"jsonrpc": "2.0", "id": 0, "result": {}}).to_string();
            Outcome::Reply(Reply::after(&wait, Reply::json(200, &done)))
        });
        let up = Upstream::script(|seen| match results(seen) {
            0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}")]),
            _ => turn(seen, "Much.", &[]),
        });
        let gateway = serve(&up, &house, &format!("cancel_on_disconnect = {cancels}\n"));
        let mut client = gateway.client();
        client.post("/v1/chat/completions", ask(json!([entry(json!("never"))]), true).to_string());
        house.upstream.wait_requests(4);
        drop(client);
        let rows = crate::ledger::rows(&gateway, 2);
        let row = rows.iter().find(|row| row["call_type"] == "call_mcp_tool").unwrap();
        assert_eq!(row["status"], "cancelled", "{row}");
        if cancels {
            house.upstream.wait_hang_ups(1);
            // The request after the call's: the server is told.
            house.upstream.wait_requests(5);
        }
        assert_eq!(house.count("notifications/cancelled"), usize::from(cancels));
        gate.open();
        assert_eq!(up.requests().len(), 1);
    }
}

#[test]
fn entries_that_cannot_be_served_are_refused() {
    let (up, house) = (shopper(), house());
    let (_taken, dead) = refusing();
    let gateway = serve(&up, &house, &format!("[mcp_servers.dead]\nurl = \"http://{dead}/mcp\"\n"));
    let with = |url: &str, approval: Value| {
        let mut body = ask(json!([entry(approval)]), false);
        body["tools"][0]["server_url"] = url.into();
        body
    };
    let never = || json!("never");
    let error = chat(&gateway, &with("https://evil.example/mcp", never())).error(400);
    assert_eq!(error.param.as_deref(), Some("tools[0].server_url"));
    assert_eq!(
        chat(&gateway, &with("litellm_proxy/mcp/ha", json!("sometimes"))).error(400).param.as_deref(),
        Some("tools[0].require_approval")
    );
    chat(&gateway, &with("litellm_proxy/mcp/none", never())).error(403);
    assert!(chat(&gateway, &with("litellm_proxy/mcp/dead", never())).error(503).message.contains("dead"));
    let none = generate(&gateway, &json!({}));
    let none = text(&none["key"]);
    let error = post(&gateway, none, "/v1/chat/completions", &with("litellm_proxy/mcp/ha", never())).error(403);
    assert!(error.message.contains("may not use"), "{error:?}");
    assert!(up.requests().is_empty());
    // One dead server among others is named, and does no harm.
    let answer = chat(&gateway, &with("litellm_proxy", never())).ok().json();
    let fields = &answer["choices"][0]["message"]["provider_specific_fields"];
    assert!(text(&fields["mcp_missing_servers"]["dead"]).contains("refused"), "{fields}");
}

#[test]
fn reasoning_goes_back_to_those_who_want_it_with_the_calls_that_came_of_it() {
    for (provider, wants) in [("deepseek/up", true), ("openai/up", false)] {
        let house = house();
        let up = Upstream::script(|seen| match results(seen) {
            0 => {
                let call = json!({"id": "call_a", "type": "function",
                    "function": {"name": "ha-GetLiveContext", "arguments": "{}"}});
                let message =
                    json!({"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [call]});
                Reply::json(
                    200,
                    &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "up",
                    "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
                    .to_string(),
                )
            }
            _ => turn(seen, "Milk.", &[]),
        })
        .rules(|rules| rules.is_free = true);
        let servers = format!("[mcp_servers.ha]\nurl = \"{}\"\n", house.url());
        let entries = [crate::support::deployment("small", provider, up.base())];
        let gateway = Gateway::start(&(config("", &entries) + &servers));
        chat(&gateway, &ask(json!([entry(json!("never"))]), false)).ok();
        let sent = up.requests()[1].json()["messages"][1].clone();
        assert_eq!(sent["reasoning_content"] == "hm", wants, "{sent}");
    }
}
