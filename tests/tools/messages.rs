//! Tools of servers in Messages: Anthropic's `mcp_servers`, and tools of the type `mcp`.

use super::{house, results, serve, shopper, turn};
use crate::keys::{post, text};
use crate::support::anthropic::{order, reply};
use crate::support::{Answer, Gateway, MASTER_KEY, Upstream, config, deployment};
use serde_json::{Value, json};

const PATH: &str = "/v1/messages";

fn servers() -> Value {
    json!([{"type": "url", "url": "litellm_proxy/mcp/ha", "name": "home", "authorization_token": "mine"}])
}

fn set() -> Value {
    json!({"type": "mcp_toolset", "mcp_server_name": "home"})
}

fn ask(gateway: &Gateway, more: &Value) -> Answer {
    let mut body =
        json!({"model": "small", "max_tokens": 2000, "messages": [{"role": "user", "content": "The list?"}]});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    post(gateway, MASTER_KEY, PATH, &body)
}

fn kinds(blocks: &Value) -> Vec<&str> {
    blocks.as_array().unwrap().iter().map(|block| text(&block["type"])).collect()
}

fn read(answer: &Answer) -> order::Read {
    let events: Vec<String> = answer.text().split_terminator("\n\n").map(str::to_owned).collect();
    order::check(&events)
}

#[test]
fn servers_are_connected_to_and_calls_are_blocks() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let more = json!({"mcp_servers": servers(), "tools": [set()]});
    let answer = ask(&gateway, &more).ok();
    let told = answer.json();
    let expected = ["text", "mcp_tool_use", "mcp_tool_result", "mcp_tool_use", "mcp_tool_result", "text"];
    assert_eq!((kinds(&told["content"]), &told["stop_reason"]), (expected.to_vec(), &json!("end_turn")));
    let (call, result) = (&told["content"][3], &told["content"][4]);
    assert_eq!((&call["name"], &call["server_name"]), (&json!("todo_get_items"), &json!("home")));
    assert_eq!((&call["input"], &result["tool_use_id"]), (&json!({"todo_list": "Shopping"}), &call["id"]));
    assert_eq!(result["content"][0]["text"], r#"{"items": ["milk", "bread"]}"#);
    assert_eq!((&told["usage"]["input_tokens"], &told["usage"]["output_tokens"]), (&json!(30), &json!(6)));
    assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_")), "{:?}", answer.head);
    for request in up.requests() {
        assert!(request.json().get("mcp_servers").is_none() && !request.text().contains("toolset"));
    }

    // The same as a stream, and as a message that is sent back.
    let mut streamed = more.clone();
    streamed["stream"] = json!(true);
    let stream = read(&ask(&gateway, &streamed).ok());
    assert_eq!(stream.blocks.iter().map(|block| text(&block["type"])).collect::<Vec<_>>(), expected);
    assert_eq!(stream.blocks[3]["input"], json!({"todo_list": "Shopping"}));
    assert_eq!(
        (&stream.message["stop_reason"], &stream.message["usage"]["output_tokens"]),
        (&json!("end_turn"), &json!(6))
    );
    let mut next = more.clone();
    next["messages"] = json!([{"role": "user", "content": "The list?"}, {"role": "assistant", "content": stream.blocks},
        {"role": "user", "content": "And?"}]);
    ask(&gateway, &next).ok();
    let sent = up.requests().last().unwrap().json();
    let messages = sent["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|m| text(&m["role"])).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"]);
    assert_eq!(messages[3]["tool_calls"][0]["function"]["name"], "ha-todo_get_items");
    // Also where no tools are offered any more.
    next.as_object_mut().unwrap().retain(|name, _| name == "messages");
    ask(&gateway, &next).ok();
    assert_eq!(up.requests().last().unwrap().json()["messages"].as_array().unwrap().len(), 7);
}

#[test]
fn sets_and_configurations_choose_among_the_tools() {
    let house = house();
    let up = Upstream::script(|seen| turn(seen, "Fine.", &[]));
    let gateway = serve(&up, &house, "");
    let offered = |servers: Value, tools: Value| {
        ask(&gateway, &json!({"mcp_servers": servers, "tools": tools})).ok();
        let sent = up.requests().last().unwrap().json();
        let tools = sent["tools"].as_array().cloned().unwrap_or_default();
        tools.iter().map(|tool| text(&tool["function"]["name"]).to_owned()).collect::<Vec<_>>()
    };
    let mut some = set();
    some["default_config"] = json!({"enabled": false});
    some["configs"] = json!({"unlock": {"enabled": true}});
    assert_eq!(offered(servers(), json!([some])), ["ha-unlock"]);
    let mut others = set();
    others["configs"] = json!({"unlock": {"enabled": false}});
    assert_eq!(offered(servers(), json!([others])), ["ha-GetLiveContext", "ha-todo_get_items"]);
    let mut before = servers();
    before[0]["tool_configuration"] = json!({"allowed_tools": ["unlock"]});
    assert_eq!(offered(before, json!([])), ["ha-unlock"]);
    let own = json!({"name": "mine", "input_schema": {"type": "object"}});
    assert_eq!(offered(servers(), json!([own, set()])).len(), 4);
}

#[test]
fn thinking_goes_through_the_rounds_over_anthropic() {
    let house = house();
    let up = Upstream::script(|seen| {
        let body = seen.json();
        let results = body.to_string().matches("\"tool_result\"").count();
        let blocks = match results {
            0 => vec![reply::thinking(reply::THOUGHT), reply::tool_use("toolu_1", "ha-GetLiveContext", &json!({}))],
            _ => vec![reply::text("Milk.")],
        };
        let stop = if results == 0 { "tool_use" } else { "end_turn" };
        match body["stream"] == true {
            true => reply::stream(&blocks, stop),
            false => reply::whole(&blocks, stop),
        }
    })
    .anthropic();
    let servers_of = format!("[mcp_servers.ha]\nurl = \"{}\"\n", house.url());
    let claude = deployment("small", "anthropic/claude-sonnet-4-5", up.base());
    let gateway = Gateway::start(&(config("", &[claude]) + &servers_of));
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let more = json!({"mcp_servers": servers(), "tools": [set()], "thinking": thinking});
    let told = ask(&gateway, &more).ok().json();
    assert_eq!(kinds(&told["content"]), ["thinking", "mcp_tool_use", "mcp_tool_result", "text"]);
    assert_eq!(told["content"][0], reply::thinking(reply::THOUGHT));
    let mut streamed = more.clone();
    streamed["stream"] = json!(true);
    let stream = read(&ask(&gateway, &streamed).ok());
    assert_eq!(stream.blocks[0], reply::thinking(reply::THOUGHT));
    // Signed as it was, it is taken again.
    let mut next = more;
    next["messages"] = json!([{"role": "user", "content": "The list?"}, {"role": "assistant", "content": stream.blocks},
        {"role": "user", "content": "And?"}]);
    ask(&gateway, &next).ok();
    assert_eq!(up.requests().last().unwrap().json()["messages"][1]["content"][0], reply::thinking(reply::THOUGHT));
}

#[test]
fn tools_of_the_type_mcp_ask_for_leave() {
    let house = house();
    let up = Upstream::script(|seen| match results(seen) {
        0 => turn(seen, "", &[("call_a", "ha-GetLiveContext", "{}")]),
        1 => turn(seen, "I need leave.", &[("call_b", "ha-unlock", "{\"door\":\"front\"}")]),
        _ => turn(seen, "Done.", &[]),
    });
    let gateway = serve(&up, &house, "");
    let tools = json!([{"type": "mcp", "server_url": "litellm_proxy/mcp/ha", "server_label": "ha",
        "require_approval": {"never": {"tool_names": ["GetLiveContext"]}}}]);
    for stream in [false, true] {
        let before = house.count("tools/call");
        let answer = ask(&gateway, &json!({"tools": tools, "stream": stream})).ok();
        let (blocks, reason) = match stream {
            true => {
                let read = read(&answer);
                (json!(read.blocks), read.message["stop_reason"].clone())
            }
            false => (answer.json()["content"].clone(), answer.json()["stop_reason"].clone()),
        };
        assert_eq!(kinds(&blocks), ["mcp_tool_use", "mcp_tool_result", "text", "tool_use"]);
        assert_eq!((&reason, &blocks[3]["name"]), (&json!("tool_use"), &json!("ha-unlock")));
        let id = text(&blocks[3]["id"]);
        let go_on = |approved: &[&str]| {
            let result = json!({"type": "tool_result", "tool_use_id": id, "content": "not now"});
            let messages = json!([{"role": "user", "content": "The list?"}, {"role": "assistant", "content": blocks},
                {"role": "user", "content": [result]}]);
            ask(&gateway, &json!({"tools": tools, "messages": messages, "approved_tool_calls": approved}))
        };
        go_on(&[]).ok();
        assert!(up.requests().last().unwrap().text().contains("not now"));
        assert_eq!(house.count("tools/call"), before + 1);
        for _ in 0..2 {
            let told = go_on(&[id]).ok().json();
            assert_eq!(told["content"][0]["text"], "Done.");
            assert_eq!(house.count("tools/call"), before + 2);
        }
        let sent = up.requests().last().unwrap().json();
        let told: Vec<&Value> = sent["messages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|m| m["role"] == "tool")
            .map(|m| &m["content"])
            .collect();
        assert_eq!(told, ["Lists: Shopping", "front is open"]);
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_anthropics_envelope() {
    let (up, house) = (shopper(), house());
    let gateway = serve(&up, &house, "");
    let refused = |more: &Value, status: u16| {
        let answer = ask(&gateway, more);
        assert_eq!((answer.status, &answer.json()["type"]), (status, &json!("error")), "{}", answer.text());
        text(&answer.json()["error"]["message"]).to_owned()
    };
    let with = |url: &str| json!([{"type": "url", "url": url, "name": "home"}]);
    // Nobody but Anthropic connects to other addresses, and not beside ours.
    let elsewhere = refused(&json!({"mcp_servers": with("https://mcp.example"), "tools": [set()]}), 400);
    assert!(elsewhere.contains("mcp_servers"), "{elsewhere}");
    let both = json!([servers()[0], {"type": "url", "url": "https://mcp.example", "name": "other"}]);
    assert!(refused(&json!({"mcp_servers": both}), 400).contains("'url' selects servers"));
    refused(&json!({"mcp_servers": with("litellm_proxy/mcp/none")}), 403);
    let mut set = set();
    set["mcp_server_name"] = json!("other");
    assert!(refused(&json!({"mcp_servers": servers(), "tools": [set]}), 400).contains("no server 'other'"));
    assert!(up.requests().is_empty());
}

#[test]
fn betas_go_on_but_for_what_the_gateway_does_itself() {
    let up = Upstream::new(reply::hello()).anthropic().anthropic_rules(|rules| rules.betas = vec!["a-1".to_owned()]);
    let house = house();
    let servers_of = format!("[mcp_servers.ha]\nurl = \"{}\"\n", house.url());
    let claude = deployment("small", "anthropic/claude-sonnet-4-5", up.base());
    let gateway = Gateway::start(&(config("", &[claude]) + &servers_of));
    let body = json!({"model": "small", "max_tokens": 2000, "messages": [{"role": "user", "content": "?"}],
        "mcp_servers": servers()});
    let headers = [("x-api-key", MASTER_KEY), ("anthropic-beta", "mcp-client-2025-11-20, a-1")];
    gateway.call("POST", PATH, &headers, body.to_string().as_bytes()).ok();
    assert_eq!(up.only_request().header("anthropic-beta").as_deref(), Some("a-1"));
    let counted = gateway.call("POST", "/v1/messages/count_tokens", &headers, body.to_string().as_bytes()).ok().json();
    assert!(counted["input_tokens"].is_u64() && up.requests().len() == 1, "{counted}");
}
