//! Tools of servers in Responses, with OpenAI's items, events and approvals.

use super::{house, results, serve, shell, shopper, turn};
use crate::keys::{generate, post, text};
use crate::support::{Answer, Gateway, MASTER_KEY, Reply, Upstream};
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn entry(approval: Value) -> Value {
    json!({"type": "mcp", "server_url": "litellm_proxy/mcp/ha", "server_label": "home", "require_approval": approval,
        "headers": {"x-secret": "secret-of-the-caller"}})
}

fn ask(gateway: &Gateway, more: &Value) -> Answer {
    let mut body = json!({"model": "small", "input": "What is on the list?", "tools": [entry(json!("never"))]});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    post(gateway, MASTER_KEY, PATH, &body)
}

fn kinds(response: &Value) -> Vec<String> {
    response["output"].as_array().unwrap().iter().map(|item| text(&item["type"]).to_owned()).collect()
}

fn item<'a>(response: &'a Value, kind: &str) -> &'a Value {
    response["output"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["type"] == kind)
        .unwrap_or_else(|| panic!("{response}"))
}

/// A model that looks around, and then wants to open a door.
fn porter() -> Upstream {
    Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}")]),
        1 => turn(seen, "I need leave.", &[("call_b", "ha-unlock", "{\"door\":\"front\"}")]),
        _ => turn(seen, "Done.", &[]),
    })
}

#[test]
fn calls_are_items_between_texts_and_the_conversation_goes_on_from_them() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let answer = ask(&gateway, &json!({})).ok();
    let told = answer.json();
    assert_eq!(kinds(&told), ["mcp_list_tools", "message", "mcp_call", "mcp_call", "message"]);
    assert_eq!((&told["status"], &told["usage"]["total_tokens"]), (&json!("completed"), &json!(36)));
    let listed = item(&told, "mcp_list_tools");
    assert_eq!((&listed["server_label"], listed["tools"].as_array().unwrap().len()), (&json!("home"), 3));
    let call = item(&told, "mcp_call");
    assert_eq!(
        (&call["name"], &call["output"], &call["error"]),
        (&json!("GetLiveContext"), &json!("Lists: Shopping"), &Value::Null)
    );
    assert_eq!((&call["status"], &call["server_label"]), (&json!("completed"), &json!("home")));
    // What may be a secret is not told again.
    assert!(!answer.text().contains("secret-of-the-caller"), "{}", answer.text());
    let id = text(&told["id"]).to_owned();
    let kept = gateway.get(&format!("{PATH}/{id}")).ok().json();
    assert_eq!(kinds(&kept), kinds(&told));
    // Upstreams see functions and results alone, and servers that are known are not listed again.
    let next = ask(&gateway, &json!({"previous_response_id": id, "input": "And?"})).ok().json();
    assert_eq!(kinds(&next), ["message"]);
    let sent = up.requests().last().unwrap().json();
    let messages = sent["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|m| text(&m["role"])).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"]);
    assert_eq!(messages[1]["tool_calls"][0]["function"]["name"], "ha-GetLiveContext");
    assert_eq!(messages[2]["content"], "Lists: Shopping");
    let rows = crate::ledger::rows(&gateway, 6);
    let call_types: Vec<&str> = rows.iter().map(|row| text(&row["call_type"])).collect();
    assert_eq!(call_types.iter().filter(|kind| **kind == "call_mcp_tool").count(), 2, "{call_types:?}");
    assert_eq!(call_types.iter().filter(|kind| **kind == "aresponses").count(), 4, "{call_types:?}");
}

#[test]
fn the_events_of_a_call_come_in_order_and_end_with_the_whole_response() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let answer = ask(&gateway, &json!({"stream": true})).ok();
    let told = crate::responses::events(&answer);
    let mut kinds: Vec<&str> = told.iter().map(|event| text(&event["type"])).collect();
    kinds.dedup();
    let item = |kinds: &[&str]| {
        let inside = kinds.iter().map(|kind| format!("response.{kind}"));
        let first = "response.output_item.added".to_owned();
        [first].into_iter().chain(inside).chain(["response.output_item.done".to_owned()]).collect::<Vec<_>>()
    };
    let (list, call) = (
        item(&["mcp_list_tools.in_progress", "mcp_list_tools.completed"]),
        item(&["mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed"]),
    );
    let message = item(&["content_part.added", "output_text.delta", "output_text.done", "content_part.done"]);
    let expected = [
        vec!["response.created".to_owned(), "response.in_progress".to_owned()],
        list,
        message.clone(),
        call.clone(),
        call,
        message,
        vec!["response.completed".to_owned()],
    ];
    assert_eq!(kinds, expected.concat());
    // Places rise, and each event of an item names it.
    let added: Vec<&Value> = told.iter().filter(|e| e["type"] == "response.output_item.added").collect();
    for (place, event) in added.iter().enumerate() {
        assert_eq!(event["output_index"], place);
        let id = &event["item"]["id"];
        let about = told.iter().filter(|e| e["output_index"] == place && e["item_id"].is_string());
        assert!(about.clone().count() > 0 && about.clone().all(|e| e["item_id"] == *id), "{event}");
    }
    let last = &told.last().unwrap()["response"];
    let done: Vec<&Value> =
        told.iter().filter(|e| e["type"] == "response.output_item.done").map(|e| &e["item"]).collect();
    assert_eq!(last["output"].as_array().unwrap().iter().collect::<Vec<_>>(), done);
    assert_eq!(last["usage"]["total_tokens"], 36);
    assert_eq!(gateway.get(&format!("{PATH}/{}", text(&last["id"]))).ok().json()["output"], last["output"]);
}

#[test]
fn what_needs_leave_is_asked_for_and_done_once() {
    let (up, house) = (porter(), house());
    let gateway = serve(&up, &house, "");
    for stream in [false, true] {
        let before = house.count("tools/call");
        let tools = json!([entry(json!({"never": {"tool_names": ["GetLiveContext"]}}))]);
        let read = |answer: &Answer| match stream {
            true => crate::responses::events(answer).pop().unwrap()["response"].take(),
            false => answer.json(),
        };
        let first = read(&ask(&gateway, &json!({"tools": tools, "stream": stream})).ok());
        assert_eq!(kinds(&first), ["mcp_list_tools", "mcp_call", "message", "mcp_approval_request"]);
        let question = item(&first, "mcp_approval_request");
        assert_eq!((&question["name"], &question["arguments"]), (&json!("unlock"), &json!("{\"door\":\"front\"}")));
        assert_eq!(house.count("tools/call"), before + 1);
        let answer = |approve: bool, more: Value| {
            let mut item =
                json!({"type": "mcp_approval_response", "approval_request_id": question["id"], "approve": approve});
            more.as_object().unwrap().iter().for_each(|(name, value)| item[name] = value.clone());
            json!({"tools": tools, "stream": stream, "previous_response_id": first["id"], "input": [item]})
        };
        // Refused: the model hears so, and nothing is done.
        read(&ask(&gateway, &answer(false, json!({"reason": "too late"}))).ok());
        let sent = up.requests().last().unwrap().text();
        assert!(sent.contains("does not allow") && sent.contains("too late"), "{sent}");
        assert_eq!(house.count("tools/call"), before + 1);
        // Allowed: it is done once, however often that is said.
        for _ in 0..2 {
            let second = read(&ask(&gateway, &answer(true, json!({}))).ok());
            assert_eq!(kinds(&second), ["mcp_call", "message"]);
            let call = item(&second, "mcp_call");
            assert_eq!((&call["approval_request_id"], &call["output"]), (&question["id"], &json!("front is open")));
            assert_eq!(house.count("tools/call"), before + 2);
            // From there it goes on without anything that was kept.
            ask(&gateway, &json!({"previous_response_id": second["id"], "input": "Thanks."})).ok();
            let sent = up.requests().last().unwrap().json();
            let told: Vec<&Value> = sent["messages"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|m| m["role"] == "tool")
                .map(|m| &m["content"])
                .collect();
            assert_eq!(told, ["Lists: Shopping", "front is open"]);
            assert!(!sent.to_string().contains("call_gw_"), "{sent}");
        }
        // The whole history by hand means the same.
        let mut input = vec![json!({"role": "user", "content": "What?"})];
        input.extend(first["output"].as_array().unwrap().clone());
        input.extend(answer(true, json!({}))["input"].as_array().unwrap().clone());
        let by_hand =
            read(&ask(&gateway, &json!({"tools": tools, "stream": stream, "input": input, "store": false})).ok());
        assert_eq!(kinds(&by_hand), ["mcp_call", "message"]);
        assert_eq!(house.count("tools/call"), before + 2);
        // Another key knows nothing of it.
        let other = generate(&gateway, &json!({"object_permission": {"mcp_servers": ["ha"]}}));
        let body = json!({"model": "small", "tools": tools, "input": input});
        let error = post(&gateway, text(&other["key"]), PATH, &body).error(400);
        assert!(error.message.contains("not known"), "{error:?}");
    }
}

#[test]
fn the_shell_gives_leave_for_a_call() {
    let (up, house) = (porter(), house());
    let gateway = serve(&up, &house, "");
    let tools = json!([entry(json!({"never": {"tool_names": ["GetLiveContext"]}}))]);
    let first = ask(&gateway, &json!({"tools": tools})).ok().json();
    let question = text(&item(&first, "mcp_approval_request")["id"]).to_owned();
    let go_on = json!({"tools": tools, "previous_response_id": first["id"], "input": "Go on."});
    ask(&gateway, &go_on).ok();
    assert!(up.requests().last().unwrap().text().contains("has not allowed"));
    assert_eq!(shell(&gateway, &["mcp", "approve", "mcpr_nothing"]).code, Some(1));
    let done = shell(&gateway, &["mcp", "approve", &question]);
    assert_eq!((done.code, done.stdout.contains("ha-unlock")), (Some(0), true), "{done:?}");
    for _ in 0..2 {
        let second = ask(&gateway, &go_on).ok().json();
        assert_eq!(kinds(&second), ["mcp_call", "message"]);
        let call = item(&second, "mcp_call");
        assert_eq!((&call["approval_request_id"], &call["output"]), (&json!(question), &json!("front is open")));
    }
    // Once, however often it is asked for.
    assert_eq!(house.count("tools/call"), 2);
}

#[test]
fn the_callers_own_functions_stay_the_callers() {
    let house = house();
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}"), ("call_o", "weather", "{\"at\":\"home\"}")]),
        _ => turn(seen, "Sunny.", &[]),
    });
    let gateway = serve(&up, &house, "");
    let own = json!({"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}});
    let tools = json!([own, entry(json!("never"))]);
    let told = ask(&gateway, &json!({"tools": tools})).ok().json();
    assert_eq!(kinds(&told), ["mcp_list_tools", "mcp_call", "function_call"]);
    let call = item(&told, "function_call");
    assert_eq!((&call["call_id"], &call["name"]), (&json!("call_o"), &json!("weather")));
    let output = json!([{"type": "function_call_output", "call_id": "call_o", "output": "22 degrees"}]);
    let next = ask(&gateway, &json!({"tools": tools, "previous_response_id": told["id"], "input": output})).ok().json();
    assert_eq!(next["output"][0]["content"][0]["text"], "Sunny.");
    for (choice, param) in [
        (json!({"type": "mcp", "server_label": "away"}), "tool_choice.server_label"),
        (json!({"type": "mcp", "server_label": "home", "name": "none"}), "tool_choice.name"),
    ] {
        let error = ask(&gateway, &json!({"tools": tools, "tool_choice": choice})).error(400);
        assert_eq!(error.param.as_deref(), Some(param));
    }
    let choice = json!({"type": "mcp", "server_label": "home", "name": "GetLiveContext"});
    ask(&gateway, &json!({"tools": tools, "tool_choice": choice})).ok();
    let forced = up.requests().last().unwrap().json()["tool_choice"].clone();
    assert_eq!(forced, json!({"type": "function", "function": {"name": "ha-GetLiveContext"}}));
}

#[test]
fn failures_are_items_and_calls_have_a_bound() {
    let house = house();
    let up = Upstream::script(|seen| match results(seen) {
        0 => {
            turn(seen, "", &[("a", "ha-todo_get_items", "{\"todo_list\": \"Work\"}"), ("b", "ha-GetLiveContext", "{}")])
        }
        _ => turn(seen, "Sorry.", &[]),
    });
    let gateway = serve(&up, &house, "");
    let told = ask(&gateway, &json!({})).ok().json();
    let call = item(&told, "mcp_call");
    assert_eq!((&call["status"], &call["output"]), (&json!("failed"), &Value::Null));
    assert_eq!(call["error"]["type"], "mcp_tool_execution_error");
    assert!(call["error"].to_string().contains("one of"), "{call}");
    let told = ask(&gateway, &json!({"max_tool_calls": 1})).ok().json();
    let calls = told["output"].as_array().unwrap().iter().filter(|item| item["type"] == "mcp_call");
    let failed: Vec<&Value> = calls.map(|item| &item["error"]).collect();
    assert!(failed[1].to_string().contains("No more calls"), "{failed:?}");
}

#[test]
fn what_goes_wrong_is_said_in_this_formats_words() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let with = |member: &str, value: Value| {
        let mut entry = entry(json!("never"));
        entry[member] = value;
        ask(&gateway, &json!({"tools": [entry]}))
    };
    assert_eq!(
        with("server_url", json!("https://evil.example")).error(400).param.as_deref(),
        Some("tools[0].server_url")
    );
    assert_eq!(with("server_url", Value::Null).error(400).param.as_deref(), Some("tools[0].server_url"));
    assert_eq!(
        with("connector_id", json!("connector_gmail")).error(400).param.as_deref(),
        Some("tools[0].connector_id")
    );
    with("server_url", json!("litellm_proxy/mcp/none")).error(403);
    let answer = json!([{"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": true}]);
    assert_eq!(ask(&gateway, &json!({"input": answer})).error(400).param.as_deref(), Some("input"));
    assert!(up.requests().is_empty());
    // A stream that fails after it has begun ends with its response.
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "Let me look.", &[("call_a", "ha-GetLiveContext", "{}")]),
        _ => Reply::json(500, "{\"error\": {\"message\": \"Out of order\"}}"),
    });
    let gateway = serve(&up, &house, "");
    let told = crate::responses::events(&ask(&gateway, &json!({"stream": true, "num_retries": 0})).ok());
    let last: Vec<&str> = told[told.len() - 2..].iter().map(|event| text(&event["type"])).collect();
    assert_eq!(last, ["error", "response.failed"]);
    assert_eq!(told.last().unwrap()["response"]["output"][2]["type"], "mcp_call");
    ask(&gateway, &json!({"num_retries": 0})).error(500);
}

#[test]
fn tools_are_used_in_the_background_too() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let begun = ask(&gateway, &json!({"background": true})).ok().json();
    let path = format!("{PATH}/{}", text(&begun["id"]));
    let told = crate::responses::finished(&gateway, &path);
    assert_eq!(kinds(&told), ["mcp_list_tools", "message", "mcp_call", "mcp_call", "message"]);
    assert_eq!((&told["id"], &told["background"]), (&begun["id"], &json!(true)));
}
