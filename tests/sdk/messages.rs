//! The official Anthropic SDKs as callers, over an upstream of each format.

use super::more::{house, uses_a_tool};
use super::{MODEL, Play, Sdk, failed, listed, overloaded, role, too_many};
use crate::support::anthropic::reply::{self, THOUGHT};
use crate::support::reply::{DONE, delta, event, text, usage_chunk};
use crate::support::{Reply, Step, Upstream, deployment};
use serde_json::{Value, json};

/// The format of the upstream.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Anthropic,
    OpenAi,
}

/// Each scenario stands for one test per SDK and format: the replies of an Anthropic, and those of an OpenAI.
macro_rules! scenarios {
    ($($name:ident: $native:expr, $translated:expr;)*) => {
        const ALL: &[&str] = &[$(stringify!($name)),*];

        scenarios!(@tests python Python [$($name: $native, $translated;)*]);
        scenarios!(@tests node Node [$($name: $native, $translated;)*]);
    };
    (@tests $module:ident $sdk:ident [$($name:ident: $native:expr, $translated:expr;)*]) => {
        mod $module {
            mod native {
                use super::super::*;
                $(#[test] fn $name() { holds(Sdk::$sdk, Over::Anthropic, stringify!($name), $native); })*
            }
            mod translated {
                use super::super::*;
                $(#[test] fn $name() { holds(Sdk::$sdk, Over::OpenAi, stringify!($name), $translated); })*
            }
        }
    };
}

scenarios! {
    whole: vec![reply::hello()], vec![Reply::whole()];
    stream: vec![reply::pieces(), reply::pieces()], vec![pieces(), pieces()];
    thinking: vec![reply::whole(&[reply::thinking(THOUGHT), reply::text("Hello über there")], "end_turn")], vec![thought()];
    served_tools: vec![looks_around(), reply::pieces(), reply::hello()], vec![uses_a_tool(), pieces(), Reply::whole()];
    count_tokens: vec![Reply::json(200, "{\"input_tokens\":42}")], vec![];
    bearer: vec![reply::hello()], vec![Reply::whole()];
    unknown_model: vec![], vec![];
    wrong_key: vec![], vec![];
    rate_limited: vec![slow_down("7")], vec![too_many("7")];
    retried: vec![slow_down("0.1"), reply::hello()], vec![too_many("0.1"), Reply::whole()];
    server_error: vec![reply::error(500, "api_error", "oops")], vec![failed()];
    models: vec![], vec![];
    headers: vec![reply::hello()], vec![Reply::whole()];
    error_event: vec![reply::begun().send(&fell_over()).end_body()],
        vec![begun().send(&event(&overloaded())).end_body()];
    cut_stream: vec![reply::begun().then(Step::Close)], vec![begun().then(Step::Close)];
}

#[test]
fn every_scenario_is_played() {
    for (sdk, own) in [(Sdk::Python, &["async_client", "tools"][..]), (Sdk::Node, &["tools"])] {
        let Some(listed) = listed(sdk, "messages") else { continue };
        let mut played: Vec<&str> = ALL.iter().chain(own).copied().collect();
        played.sort_unstable();
        assert_eq!(listed, played);
    }
}

#[test]
fn the_async_python_client_is_answered() {
    holds(Sdk::Python, Over::Anthropic, "async_client", vec![reply::hello(), reply::pieces()]);
    holds(Sdk::Python, Over::OpenAi, "async_client", vec![Reply::whole(), pieces()]);
}

#[test]
fn python_calls_tools_of_an_anthropic() {
    calls_tools(Sdk::Python, Over::Anthropic);
}

#[test]
fn python_calls_tools_of_an_openai() {
    calls_tools(Sdk::Python, Over::OpenAi);
}

#[test]
fn node_calls_tools_of_an_anthropic() {
    calls_tools(Sdk::Node, Over::Anthropic);
}

#[test]
fn node_calls_tools_of_an_openai() {
    calls_tools(Sdk::Node, Over::OpenAi);
}

fn calls_tools(sdk: Sdk, over: Over) {
    let replies = match over {
        Over::Anthropic => vec![reply::stream(&reply::loop_blocks(), "tool_use"), reply::pieces()],
        Over::OpenAi => vec![tool_calls(), pieces()],
    };
    let Some(play) = start(sdk, over, "tools", replies) else { return };
    let (upstream, gateway) = play.ends();
    // Each call has 12 tokens in and 5 out: 12 x 3 + 5 x 15, or 12 x 0.15 + 5 x 0.6 millionths of a dollar.
    let cost = if over == Over::Anthropic { "0.000111" } else { "0.0000048" };
    for call in gateway.wait_calls(2) {
        assert_eq!(call["cost_usd"], cost, "{call}");
    }
    let second = upstream.requests()[1].json();
    let roles: Vec<_> = second["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    if over == Over::Anthropic {
        assert_eq!(second["messages"][1]["content"], json!(reply::loop_blocks()));
    } else {
        assert_eq!(roles, ["user", "assistant", "tool", "tool"]);
        assert!(!second.to_string().contains(THOUGHT), "OpenAI takes no thinking back: {second}");
    }
}

/// The upstream and its name in the gateway: models whose prices are known.
fn start(sdk: Sdk, over: Over, scenario: &str, replies: Vec<Reply>) -> Option<Play> {
    let calls = replies.len();
    let upstream = if replies.is_empty() { Upstream::new(failed()) } else { Upstream::queue(replies) };
    let (upstream, model) = match over {
        Over::Anthropic => (upstream.anthropic(), "anthropic/claude-sonnet-4-5"),
        Over::OpenAi => (upstream, "openai/gpt-4o-mini"),
    };
    // Its tools are there for whoever asks for them.
    let house = house();
    let entry =
        deployment(MODEL, model, upstream.base()) + &format!("[mcp_servers.house]\nurl = \"{}\"\n", house.url());
    let play = Play::over(sdk, "messages", scenario, upstream, entry, calls)?;
    Some(Play { house: Some(house), ..play })
}

fn holds(sdk: Sdk, over: Over, scenario: &str, replies: Vec<Reply>) {
    if let Some(play) = start(sdk, over, scenario, replies) {
        play.holds();
    }
}

/// A turn of an Anthropic that calls the tool of the house.
fn looks_around() -> Reply {
    reply::stream(&[reply::tool_use("toolu_1", "house-look", &json!({}))], "tool_use")
}

fn slow_down(retry_after: &str) -> Reply {
    let headers = [("Content-Type", "application/json"), ("retry-after", retry_after)];
    Reply::answer(429, &headers, reply::error_body("rate_limit_error", "Slow down.").to_string().as_bytes())
}

fn fell_over() -> String {
    reply::event(&reply::error_body("overloaded_error", "The model fell over."))
}

/// The text of [`Reply::whole`] as a stream.
fn pieces() -> Reply {
    Reply::texts(&["Hello", " über", " there"])
}

/// A stream of OpenAI's that is not complete.
fn begun() -> Reply {
    Reply::stream().send(&role()).send(&text("Hello")).send(&text(" über"))
}

/// A whole answer with reasoning.
fn thought() -> Reply {
    let message = json!({"role": "assistant", "content": "Hello über there", "reasoning_content": THOUGHT});
    let body = json!({"id": "chatcmpl-9a1", "object": "chat.completion", "created": 1_763_600_000, "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}});
    Reply::json(200, &body.to_string())
}

/// What [`reply::loop_blocks`] is, in OpenAI's words.
fn tool_calls() -> Reply {
    let call = |call: Value| delta(json!({"tool_calls": [call]}), None);
    let mut events = vec![role(), delta(json!({"reasoning_content": THOUGHT}), None), text("I look.")];
    for (index, (id, place)) in [("toolu_oslo", "Oslo"), ("toolu_rome", "Rome")].into_iter().enumerate() {
        let function = json!({"name": "get_weather", "arguments": ""});
        events.push(call(json!({"index": index, "id": id, "type": "function", "function": function})));
        for piece in ["{\"pl", "ace\":\"", place, "\"}"] {
            events.push(call(json!({"index": index, "function": {"arguments": piece}})));
        }
    }
    events.extend([delta(json!({}), Some("tool_calls")), usage_chunk(), DONE.to_owned()]);
    events.iter().fold(Reply::stream(), |reply, event| reply.send(event)).end_body()
}
