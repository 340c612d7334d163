//! Loops of tools, with the thinking between them.

use super::{MODEL, ask, chunks, put_together, serve, serve_as};
use crate::support::Upstream;
use crate::support::anthropic::reply::{self, redacted, thinking, tool_use};
use serde_json::{Value, json};

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "get_weather", "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}})
}

/// Plays a loop of thinking and tools, and returns what went up in the second turn.
fn tool_loop(model: &str, keep_thinking: bool, streams: bool) -> Value {
    let blocks = reply::loop_blocks();
    let first = if streams { reply::stream(&blocks, "tool_use") } else { reply::whole(&blocks, "tool_use") };
    let up = Upstream::queue(vec![first, reply::hello()]).anthropic();
    let gateway = serve_as(&up, model, "", "");
    let more = json!({"tools": [weather()], "reasoning_effort": "medium", "stream": streams});
    let (mut message, finish) = if streams {
        put_together(&chunks(&gateway, &ask(&more)))
    } else {
        let answer = gateway.chat(ask(&more)).ok().json();
        (answer["choices"][0]["message"].clone(), answer["choices"][0]["finish_reason"].clone())
    };
    assert_eq!(finish, "tool_calls");
    assert_eq!(message["reasoning_content"], reply::THOUGHT);
    assert_eq!(message["thinking_blocks"], json!([thinking(reply::THOUGHT)]));
    let ids: Vec<&str> = message["tool_calls"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["toolu_oslo", "toolu_rome"]);
    for (call, place) in message["tool_calls"].as_array().unwrap().iter().zip(["Oslo", "Rome"]) {
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({"place": place}));
    }
    message["role"] = json!("assistant");
    if !keep_thinking {
        message.as_object_mut().unwrap().retain(|name, _| ["role", "content", "tool_calls"].contains(&name.as_str()));
    }
    let messages = json!([{"role": "user", "content": "hi"}, message,
        {"role": "tool", "tool_call_id": "toolu_rome", "content": "30 degrees"},
        {"role": "tool", "tool_call_id": "toolu_oslo", "content": "4 degrees"},
        {"role": "user", "content": "and?"}]);
    gateway.chat(ask(&json!({"tools": [weather()], "reasoning_effort": "medium", "messages": messages}))).ok();
    up.requests()[1].json()
}

#[test]
fn thinking_goes_through_a_loop_of_tools_and_comes_back_signed() {
    for streams in [false, true] {
        let sent = tool_loop(MODEL, true, streams);
        assert_eq!(sent["thinking"], json!({"type": "enabled", "budget_tokens": 2048}), "streams: {streams}");
        assert_eq!(sent["messages"][1]["content"][0], thinking(reply::THOUGHT));
        let results = sent["messages"][2]["content"].as_array().unwrap();
        assert_eq!((results.len(), &results[2]["text"]), (3, &json!("and?")), "{results:#?}");
        let adaptive = tool_loop("anthropic/claude-opus-5", true, streams);
        assert_eq!(adaptive["thinking"]["type"], "adaptive");
        assert_eq!(adaptive["output_config"]["effort"], "medium");
    }
}

#[test]
fn thinking_that_a_caller_dropped_is_switched_off_for_the_rest_of_the_loop() {
    let sent = tool_loop(MODEL, false, true);
    assert_eq!(sent.get("thinking"), None, "{sent}");
    let sent = tool_loop("anthropic/claude-opus-5", false, false);
    assert_ne!(sent["thinking"]["type"], "adaptive", "{sent}");
}

#[test]
fn redacted_thinking_makes_the_round_trip() {
    let blocks = [redacted(), tool_use("toolu_1", "get_weather", &json!({}))];
    for streams in [false, true] {
        let first = if streams { reply::stream(&blocks, "tool_use") } else { reply::whole(&blocks, "tool_use") };
        let up = Upstream::queue(vec![first, reply::hello()]).anthropic();
        let gateway = serve(&up);
        let mut more = json!({"tools": [weather()], "reasoning_effort": "low", "stream": streams});
        let mut message = if streams {
            put_together(&chunks(&gateway, &ask(&more))).0
        } else {
            gateway.chat(ask(&more)).ok().json()["choices"][0]["message"].clone()
        };
        assert_eq!(message["thinking_blocks"], json!([redacted()]));
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{}");
        message["role"] = json!("assistant");
        more["stream"] = json!(false);
        more["messages"] = json!([{"role": "user", "content": "hi"}, message,
            {"role": "tool", "tool_call_id": "toolu_1", "content": ""}]);
        gateway.chat(ask(&more)).ok();
        assert_eq!(up.requests()[1].json()["messages"][1]["content"][0], redacted());
    }
}

#[test]
fn choices_of_tools_become_anthropics() {
    let up = Upstream::new(reply::hello()).anthropic();
    let gateway = serve(&up);
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let cases = [
        (json!({"tool_choice": "required"}), json!({"type": "any"})),
        (
            json!({"tool_choice": "auto", "parallel_tool_calls": false}),
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        (json!({"tool_choice": named}), json!({"type": "tool", "name": "get_weather"})),
        (json!({"tool_choice": "none"}), json!({"type": "none"})),
    ];
    for (mut more, expected) in cases {
        more["tools"] = json!([weather()]);
        gateway.chat(ask(&more)).ok();
        let sent = up.requests().last().unwrap().json();
        assert_eq!(sent["tool_choice"], expected);
        assert_eq!(sent["tools"][0]["input_schema"]["required"], json!(["place"]));
    }
}

#[test]
fn names_and_ids_that_anthropic_refuses_come_back_as_they_were() {
    let up = Upstream::script(|seen| {
        let sent = seen.json();
        reply::whole(&[tool_use("toolu_9", sent["tools"][0]["name"].as_str().unwrap(), &json!({}))], "tool_use")
    })
    .anthropic();
    let mut tool = weather();
    tool["function"]["name"] = json!("files.read/all");
    let messages = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call:1|x", "type": "function",
            "function": {"name": "files.read/all", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call:1|x", "content": "done"}]);
    let answer = serve(&up).chat(ask(&json!({"tools": [tool], "messages": messages}))).ok().json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "files.read/all");
}
