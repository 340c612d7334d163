//! The upstream speaks OpenAI's format: requests and answers are translated.

use super::{COUNT, PATH, ask, error, open, over_openai, post, serve, stream};
use crate::support::anthropic::{order, reply};
use crate::support::reply::{DONE, delta, event, finish, text, usage_chunk};
use crate::support::{Gate, Gateway, Reply, Step, Upstream, config, deployment, model};
use serde_json::{Value, json};

/// A chunk with a piece of a call.
fn call(index: usize, piece: &Value) -> String {
    let mut piece = piece.clone();
    piece["index"] = json!(index);
    delta(json!({"tool_calls": [piece]}), None)
}

fn opened(index: usize, id: &str, arguments: &str) -> String {
    call(index, &json!({"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}))
}

fn piece(index: usize, arguments: &str) -> String {
    call(index, &json!({"function": {"arguments": arguments}}))
}

fn ended(reason: &str) -> String {
    delta(json!({}), Some(reason)) + &usage_chunk() + DONE
}

fn tools() -> Value {
    json!([{"name": "get_weather", "description": "The weather", "input_schema": {"type": "object",
        "properties": {"place": {"type": "string"}}}}])
}

#[test]
fn a_whole_answer_is_a_message() {
    let up = Upstream::new(Reply::whole());
    let gateway = over_openai(&up);
    let more = json!({"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "temperature": 0.5, "stop_sequences": ["END"], "metadata": {"user_id": "u1"}, "top_k": 5});
    let answer = post(&gateway, PATH, &ask("small", &more)).ok();
    let told = answer.json();
    assert_eq!(
        (&told["type"], &told["role"], &told["model"]),
        (&json!("message"), &json!("assistant"), &json!("small"))
    );
    assert_eq!((&told["stop_reason"], &told["content"][0]["type"]), (&json!("end_turn"), &json!("text")));
    assert_eq!((&told["usage"]["input_tokens"], &told["usage"]["output_tokens"]), (&json!(12), &json!(5)));
    assert!(told["id"].as_str().unwrap().starts_with("msg_") && answer.header("request-id").is_some());
    let sent = up.only_request().json();
    assert_eq!((&sent["model"], &sent["stop"], &sent["user"]), (&json!("small-up"), &json!(["END"]), &json!("u1")));
    assert_eq!(sent["messages"][0]["role"], "system");
    assert!(!sent.to_string().contains("cache_control") && sent.get("top_k").is_none(), "{sent}");
}

#[test]
fn a_stream_has_its_events_in_order_however_it_comes() {
    let up = Upstream::new(Reply::texts(&["Hel", "lo \u{fc}", "\u{1f600}"]));
    let read = stream(&over_openai(&up), &ask("small", &json!({"stream": true})));
    assert!(read.is_complete);
    assert_eq!(read.blocks, [json!({"type": "text", "text": "Hello ü😀"})]);
    let usage = &read.message["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(12), &json!(5)), "{usage}");
    assert_eq!((&read.message["model"], &read.message["stop_reason"]), (&json!("small"), &json!("end_turn")));
    assert_eq!(up.only_request().json()["stream_options"]["include_usage"], true);

    let bytes = Reply::texts(&["Hel", "lo"]).body(true).into_bytes();
    let up = Upstream::new(Reply::stream().then(Step::EveryByte(bytes)).end_body());
    assert_eq!(stream(&over_openai(&up), &ask("small", &json!({"stream": true}))).blocks[0]["text"], "Hello");
}

#[test]
fn thinking_text_and_parallel_calls_are_blocks_of_their_own() {
    let thought = ["Two ", "places."].map(|t| delta(json!({"reasoning_content": t}), None));
    // Pieces of two calls that come by turns.
    let mixed = [
        opened(0, "call_a", ""),
        opened(1, "call_b", "{\"pl"),
        piece(0, "{\"place\":\"Oslo\"}"),
        piece(1, "ace\":\"Rome\"}"),
    ];
    let all = [&thought[..], &[text("I look.")], &mixed[..]].concat();
    let up = all
        .iter()
        .fold(Reply::stream().send(&delta(json!({"role": "assistant", "content": ""}), None)), |r, e| r.send(e));
    let up = Upstream::new(up.send(&ended("tool_calls")).end_body());
    let read = stream(&over_openai(&up), &ask("small", &json!({"stream": true, "tools": tools()})));
    let kinds: Vec<_> = read.blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(read.blocks[0]["thinking"], "Two places.");
    for (block, (id, place)) in read.blocks[2..].iter().zip([("call_a", "Oslo"), ("call_b", "Rome")]) {
        assert_eq!((&block["id"], &block["input"]), (&json!(id), &json!({"place": place})));
    }
}

#[test]
fn a_loop_of_tools_goes_round() {
    let first =
        Reply::stream().send(&opened(0, "call_a", "{}")).send(&opened(1, "call_b", "")).send(&ended("tool_calls"));
    let up = Upstream::queue(vec![first.end_body(), Reply::whole()]);
    let gateway = over_openai(&up);
    let read = stream(&gateway, &ask("small", &json!({"stream": true, "tools": tools()})));
    let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": read.blocks},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_b", "content": "30 degrees"},
            {"type": "tool_result", "tool_use_id": "call_a", "is_error": true, "content": [{"type": "text", "text": "no such place"}]},
            {"type": "text", "text": "and?"}]}]);
    post(&gateway, PATH, &ask("small", &json!({"tools": tools(), "messages": messages}))).ok();
    let sent = up.requests()[1].json();
    let roles: Vec<_> = sent["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
    assert_eq!(sent["messages"][1]["tool_calls"][1]["function"]["arguments"], "{}");
    assert!(sent["messages"][3]["content"].to_string().contains("no such place"), "{sent}");
    assert_eq!(sent["tools"][0]["function"]["name"], "get_weather");
}

#[test]
fn images_choices_and_formats_are_translated() {
    let up = Upstream::new(Reply::whole());
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}});
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let more = json!({"messages": [{"role": "user", "content": [image, {"type": "text", "text": "what?"}]}],
        "tools": tools(), "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "output_config": {"format": {"type": "json_schema", "schema": schema}}});
    post(&over_openai(&up), PATH, &ask("small", &more)).ok();
    let sent = up.only_request().json();
    assert_eq!(sent["messages"][0]["content"][0]["image_url"]["url"], "data:image/png;base64,iVBORw0KGgo=");
    assert_eq!((&sent["tool_choice"], &sent["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    assert_eq!(sent["response_format"]["json_schema"]["schema"], schema);
}

#[test]
fn effort_is_asked_of_models_that_reason_only() {
    let up = Upstream::new(Reply::whole());
    let models = [deployment("thinker", "openai/gpt-5", up.base()), model("small", &up)];
    let gateway = Gateway::start(&config("", &models));
    let more = json!({"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 4096}});
    for name in ["thinker", "small"] {
        post(&gateway, PATH, &ask(name, &more)).ok();
    }
    let efforts: Vec<Value> = up.requests().iter().map(|seen| seen.json()["reasoning_effort"].clone()).collect();
    assert_eq!(efforts, [json!("high"), Value::Null]);
    assert_eq!(up.requests()[0].json()["max_completion_tokens"], 9000);
}

#[test]
fn an_empty_answer_is_a_message_all_the_same() {
    let up = Upstream::new(Reply::stream().send(&finish()).send(&usage_chunk()).send(DONE).end_body());
    let read = stream(&over_openai(&up), &ask("small", &json!({"stream": true})));
    assert!(read.is_complete && read.blocks.len() <= 1, "{read:?}");
    assert_eq!(read.message["stop_reason"], "end_turn");
}

#[test]
fn reasons_to_stop_are_translated() {
    for (theirs, ours) in [("length", "max_tokens"), ("content_filter", "refusal"), ("stop", "end_turn")] {
        let reply = Reply::stream().send(&text("a")).send(&ended(theirs)).end_body();
        let read = stream(&over_openai(&Upstream::new(reply)), &ask("small", &json!({"stream": true})));
        assert_eq!(read.message["stop_reason"], ours);
    }
}

#[test]
fn errors_come_in_anthropics_envelope_before_a_stream_and_within() {
    for (status, kind) in
        [(400, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"), (503, "overloaded_error")]
    {
        let gateway = over_openai(&Upstream::new(Reply::error(status, "some_error", None, "broken pump")));
        for streams in [false, true] {
            let answer = post(&gateway, PATH, &ask("small", &json!({"stream": streams})));
            assert_eq!(error(&answer, status), (kind.to_owned(), "broken pump".to_owned()));
        }
    }
    let failed =
        event(&json!({"error": {"message": "broken pump", "type": "server_error", "param": null, "code": null}}));
    for (end, what) in [
        (Reply::stream().send(&text("a")).send(&failed).end_body(), "broken pump"),
        (Reply::stream().send(&text("a")).then(Step::Close), "broke off"),
    ] {
        let read = stream(&over_openai(&Upstream::new(end)), &ask("small", &json!({"stream": true})));
        assert!(read.error.as_ref().unwrap()["error"]["message"].as_str().unwrap().contains(what), "{read:?}");
        assert!(!read.is_complete);
    }
}

#[test]
fn a_chunk_that_makes_no_sense_ends_the_stream_as_a_failure() {
    let odd = event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": "none"}, "finish_reason": null}]}));
    let up = Upstream::new(Reply::stream().send(&text("a")).send(&odd).send(&text("b")).then(Step::Hold));
    let gateway = over_openai(&up);
    let read = stream(&gateway, &ask("small", &json!({"stream": true})));
    assert_eq!(read.error.unwrap()["error"]["type"], "api_error");
    up.wait_departures(1);
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn a_silent_upstream_is_covered_by_pings_from_the_beginning() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::after(&gate, Reply::texts(&["Hello"])));
    let other = Upstream::new(reply::hello()).anthropic();
    let gateway = serve(&other, &up, "early_commit = \"20ms\"\nkeep_alive = \"20ms\"");
    let mut client = open(&gateway, &ask("small", &json!({"stream": true})));
    assert_eq!(client.head().status(), 200);
    let mut events = vec![client.event().unwrap(), client.event().unwrap()];
    gate.open();
    events.extend(std::iter::from_fn(|| client.event()));
    let read = order::check(&events);
    assert!(read.is_complete && read.pings >= 2, "{read:?}");
}

#[test]
fn tokens_are_estimated_where_nobody_counts() {
    let up = Upstream::new(Reply::whole());
    let gateway = over_openai(&up);
    let count = |words: usize| {
        let messages = json!([{"role": "user", "content": "word ".repeat(words)}]);
        post(&gateway, COUNT, &ask("small", &json!({"messages": messages}))).ok().json()["input_tokens"]
            .as_u64()
            .unwrap()
    };
    let (few, many) = (count(10), count(1000));
    assert!(few >= 10 && (1000..2500).contains(&many), "{few} {many}");
    assert!(up.requests().is_empty());
    error(&post(&gateway, COUNT, &ask("nothing", &json!({}))), 400);
}

#[test]
fn the_billing_line_is_taken_out() {
    let up = Upstream::new(Reply::whole());
    let gateway = over_openai(&up);
    for hash in ["1a", "2b"] {
        let system = json!([{"type": "text", "text": format!("x-anthropic-billing-header: cch={hash};")},
            {"type": "text", "text": "Be brief."}]);
        post(&gateway, PATH, &ask("small", &json!({"system": system}))).ok();
    }
    let texts: Vec<String> = up.requests().iter().map(|seen| seen.text()).collect();
    assert_eq!(texts[0], texts[1], "the prompt's cache would never be hit");
    assert!(!texts[0].contains("billing"), "{}", texts[0]);
}

#[test]
fn what_a_call_costs_is_told_here_too() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("small", "openai/gpt-4o-mini", up.base())]));
    let answer = post(&gateway, PATH, &ask("small", &json!({}))).ok();
    // 12 x 0.15 + 5 x 0.6 millionths of a dollar.
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.0000048"));
}

#[test]
fn a_tool_with_a_name_too_long_for_the_upstream_is_called_by_its_own_name() {
    let long = "mcp__house__".to_owned() + &"x".repeat(90);
    let tools = json!([{"name": long, "input_schema": {"type": "object"}}]);
    let back = json!([{"role": "user", "content": "Go."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": long, "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "done"}]}]);
    let more = json!({"tools": tools, "messages": back, "tool_choice": {"type": "tool", "name": long}});
    let up = Upstream::new(Reply::whole());
    post(&over_openai(&up), PATH, &ask("small", &more)).ok();
    let sent = up.only_request().json();
    let short = sent["tools"][0]["function"]["name"].as_str().unwrap().to_owned();
    assert!(short.len() <= 64 && short.starts_with("mcp__house__"), "{short}");
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["name"], *short);
    assert_eq!(sent["tool_choice"]["function"]["name"], *short);

    let named = call(0, &json!({"id": "call_2", "type": "function", "function": {"name": short, "arguments": "{}"}}));
    let up = Upstream::new(Reply::stream().send(&(named + &ended("tool_calls"))).end_body());
    let mut streamed = more.clone();
    streamed["stream"] = true.into();
    assert_eq!(stream(&over_openai(&up), &ask("small", &streamed)).blocks[0]["name"], *long);

    let whole = json!({"id": "c", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_3", "type": "function", "function": {"name": short, "arguments": "{}"}}]}}]});
    let up = Upstream::new(Reply::json(200, &whole.to_string()));
    assert_eq!(post(&over_openai(&up), PATH, &ask("small", &more)).ok().json()["content"][0]["name"], *long);
}
