//! Callers of OpenAI's format over an upstream that speaks Anthropic's.

use crate::support::anthropic::reply::{self, PING, block, event, redacted, start, text, thinking, tool_use, usage};
use crate::support::{Gate, Gateway, Reply, Step, UPSTREAM_KEY, Upstream, config, deployment};
use serde_json::{Value, json};

const MODEL: &str = "anthropic/claude-sonnet-4-5";

pub fn serve_as(up: &Upstream, model: &str, server: &str, more: &str) -> Gateway {
    Gateway::start(&config(server, &[deployment("claude", model, up.base()) + more]))
}

fn serve(up: &Upstream) -> Gateway {
    serve_as(up, MODEL, "", "")
}

/// A request with these members beside the usual ones.
fn ask(more: &Value) -> String {
    let mut body = json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body.to_string()
}

fn plain() -> String {
    ask(&json!({}))
}

fn streamed(more: &Value) -> String {
    let mut more = more.clone();
    more["stream"] = json!(true);
    ask(&more)
}

fn with_usage() -> String {
    streamed(&json!({"stream_options": {"include_usage": true}}))
}

pub fn weather() -> Value {
    json!({"type": "function", "function": {"name": "get_weather", "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}})
}

/// The chunks of a stream, which must end with `[DONE]`.
fn chunks(gateway: &Gateway, body: &str) -> Vec<Value> {
    let mut client = gateway.open_chat(body);
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert_eq!(head.header("x-litellm-response-cost"), None, "not known yet");
    let mut events = client.contents();
    assert_eq!(events.pop().as_deref(), Some("data: [DONE]"));
    let data = |event: &String| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    events.iter().map(data).collect()
}

/// The message that the deltas make up, and the last reason to finish.
fn put_together(chunks: &[Value]) -> (Value, Value) {
    let (mut message, mut finish) = (json!({"content": "", "reasoning_content": ""}), Value::Null);
    let (mut blocks, mut calls): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let append = |to: &mut Value, piece: &Value| {
        *to = (to.as_str().unwrap_or_default().to_owned() + piece.as_str().unwrap_or_default()).into();
    };
    for choice in chunks.iter().filter_map(|chunk| chunk["choices"].get(0)) {
        let delta = &choice["delta"];
        for name in ["content", "reasoning_content"] {
            append(&mut message[name], &delta[name]);
        }
        for piece in delta["thinking_blocks"].as_array().into_iter().flatten() {
            match blocks.last_mut() {
                Some(last) if last["type"] == "thinking" && last["signature"] == "" && piece["type"] == "thinking" => {
                    append(&mut last["thinking"], &piece["thinking"]);
                    append(&mut last["signature"], &piece["signature"]);
                }
                _ => blocks.push(piece.clone()),
            }
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = call["index"].as_u64().unwrap() as usize;
            if at == calls.len() {
                calls.push(call.clone());
            } else {
                append(&mut calls[at]["function"]["arguments"], &call["function"]["arguments"]);
            }
        }
        if !choice["finish_reason"].is_null() {
            assert_eq!(finish, Value::Null, "two reasons to finish");
            finish = choice["finish_reason"].clone();
        }
    }
    message["thinking_blocks"] = blocks.into();
    message["tool_calls"] = calls.into();
    (message, finish)
}

#[test]
fn a_whole_answer_is_translated_and_priced() {
    let up = Upstream::new(reply::hello()).speaking_anthropic();
    let gateway = serve(&up);
    let answer = gateway.chat(ask(&json!({"max_tokens": 50, "temperature": 0.5, "stop": "END"}))).ok();
    let told = answer.json();
    assert_eq!((&told["object"], &told["choices"][0]["finish_reason"]), (&json!("chat.completion"), &json!("stop")));
    assert_eq!(told["choices"][0]["message"]["content"], "Hello über there");
    assert_eq!(told["usage"]["total_tokens"], 17);
    // 12 tokens at 3 dollars a million and 5 at 15.
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.000111"));
    assert_eq!(answer.header("llm_provider-request-id").as_deref(), Some("req_up1"));
    assert_eq!(answer.header("request-id"), None, "Anthropic's clients know that header, OpenAI's do not");
    let sent = up.only_request().json();
    let expected = json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "temperature": 0.5,
        "stop_sequences": ["END"], "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]});
    assert_eq!(sent["messages"][0]["role"], "user");
    for name in ["model", "max_tokens", "temperature", "stop_sequences"] {
        assert_eq!(sent[name], expected[name], "{sent}");
    }
    let call = gateway.only_call();
    assert_eq!((&call["outcome"], &call["cost_usd"]), (&json!("success"), &json!("0.000111")), "{call}");
}

#[test]
fn tokens_of_the_cache_have_their_own_prices_whole_and_streamed() {
    let using = reply::cached_usage();
    // 20 x 3 + 1500 x 0.3 + 400 x 3.75 + 300 x 6 + 30 x 15 millionths of a dollar.
    let cost = "0.00426";
    let up = Upstream::new(reply::whole_using(&[text("ok")], "end_turn", &using)).speaking_anthropic();
    let answer = serve(&up).chat(plain()).ok();
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some(cost));
    let told = &answer.json()["usage"];
    assert_eq!((&told["prompt_tokens"], &told["completion_tokens"]), (&json!(2220), &json!(30)), "{told}");
    assert_eq!(told["prompt_tokens_details"]["cached_tokens"], 1500);
    assert_eq!(told["completion_tokens_details"]["reasoning_tokens"], 18);

    let up = Upstream::new(reply::stream_using(&[text("ok")], "end_turn", &using)).speaking_anthropic();
    let gateway = serve(&up);
    let chunks = chunks(&gateway, &with_usage());
    let streamed = &chunks.last().unwrap()["usage"];
    assert_eq!(streamed["cost"].to_string(), cost);
    let mut without = streamed.clone();
    without.as_object_mut().unwrap().remove("cost");
    assert_eq!(&without, told, "streamed is whole");
    assert_eq!(gateway.only_call()["cost_usd"], cost);
}

#[test]
fn the_class_of_service_decides_the_price_in_every_format() {
    let mut using = usage();
    using["service_tier"] = json!("priority");
    let prices = "info = { input_cost_per_token = 1e-6, output_cost_per_token = 2e-6, \
        input_cost_per_token_priority = 3e-6, output_cost_per_token_priority = 5e-6 }\n";
    let up = Upstream::script(move |seen| match seen.json()["stream"] == true {
        true => reply::stream_using(&[text("ok")], "end_turn", &using),
        false => reply::whole_using(&[text("ok")], "end_turn", &using),
    })
    .speaking_anthropic();
    let gateway = serve_as(&up, MODEL, "", prices);
    let answer = gateway.chat(plain()).ok();
    // 12 x 3 + 5 x 5 millionths of a dollar.
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.000061"));
    assert_eq!(answer.json()["service_tier"], "priority");
    let chunks = chunks(&gateway, &with_usage());
    assert_eq!(chunks.last().unwrap()["usage"]["cost"].to_string(), "0.000061");
    let answer = gateway.post("/v1/messages", ask(&json!({"max_tokens": 9}))).ok();
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.000061"));
}

#[test]
fn a_stream_is_translated_however_its_bytes_are_cut() {
    let blocks = [text("Hello über there 😀")];
    for up in [reply::stream(&blocks, "end_turn"), reply::stream_by_bytes(&blocks, "end_turn")] {
        let up = Upstream::new(up).speaking_anthropic();
        let gateway = serve(&up);
        let chunks = chunks(&gateway, &streamed(&json!({})));
        assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk.get("usage").is_none()));
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let (message, finish) = put_together(&chunks);
        assert_eq!((&message["content"], &finish), (&json!("Hello über there 😀"), &json!("stop")));
        assert_eq!(gateway.only_call()["completion_tokens"], 5);
    }
}

#[test]
fn the_default_limit_is_the_models_own() {
    let up = Upstream::new(reply::hello()).speaking_anthropic();
    serve(&up).chat(plain()).ok();
    serve_as(&up, "anthropic/someone-elses", "", "").chat(plain()).ok();
    let limits: Vec<Value> = up.requests().iter().map(|seen| seen.json()["max_tokens"].clone()).collect();
    assert_eq!(limits, [json!(64000), json!(4096)]);
}

/// Plays a loop of thinking and tools, and returns what went up in the second turn.
fn tool_loop(model: &str, keep_thinking: bool, streams: bool) -> Value {
    let blocks = reply::loop_blocks();
    let first = if streams { reply::stream(&blocks, "tool_use") } else { reply::whole(&blocks, "tool_use") };
    let up = Upstream::queue(vec![first, reply::hello()]).speaking_anthropic();
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
        let up = Upstream::queue(vec![first, reply::hello()]).speaking_anthropic();
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
    let up = Upstream::new(reply::hello()).speaking_anthropic();
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
    .speaking_anthropic();
    let mut tool = weather();
    tool["function"]["name"] = json!("files.read/all");
    let messages = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call:1|x", "type": "function",
            "function": {"name": "files.read/all", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call:1|x", "content": "done"}]);
    let answer = serve(&up).chat(ask(&json!({"tools": [tool], "messages": messages}))).ok().json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "files.read/all");
}

#[test]
fn system_images_and_documents_find_their_places() {
    let up = Upstream::new(reply::hello()).speaking_anthropic();
    let pixel = "iVBORw0KGgo=";
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "In English."},
        {"role": "user", "content": [{"type": "text", "text": "what is this?", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{pixel}")}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}]},
        {"role": "user", "content": ""}, {"role": "user", "content": "well?"}]);
    serve(&up).chat(ask(&json!({"messages": messages}))).ok();
    let sent = up.only_request().json();
    let system: Vec<&str> = sent["system"].as_array().unwrap().iter().map(|b| b["text"].as_str().unwrap()).collect();
    assert_eq!(system, ["Be brief.", "In English."]);
    let content = sent["messages"][0]["content"].as_array().unwrap();
    assert_eq!(content[0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(content[1]["source"], json!({"type": "base64", "media_type": "image/png", "data": pixel}));
    assert_eq!(content[2]["source"], json!({"type": "url", "url": "https://example.com/a.jpg"}));
    assert_eq!(
        (&content[3]["type"], &content[3]["source"]["media_type"]),
        (&json!("document"), &json!("application/pdf"))
    );
}

#[test]
fn a_wanted_format_is_kept_by_every_age_of_model() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
    let up = Upstream::new(reply::whole(&[text("{\"n\":1}")], "end_turn")).speaking_anthropic();
    let answer = serve(&up).chat(ask(&json!({"response_format": format}))).ok().json();
    assert_eq!(answer["choices"][0]["message"]["content"], "{\"n\":1}");
    let sent = up.only_request().json();
    assert_eq!(sent["output_config"]["format"]["schema"]["additionalProperties"], false);

    // Older models are made to call a tool; its input is the answer.
    for streams in [false, true] {
        let blocks = [tool_use("toolu_1", "json_tool_call", &json!({"n": 1}))];
        let old = if streams { reply::stream(&blocks, "tool_use") } else { reply::whole(&blocks, "tool_use") };
        let up = Upstream::new(old).speaking_anthropic();
        let gateway = serve_as(&up, "anthropic/claude-3-5-haiku-20241022", "", "");
        let body = ask(&json!({"response_format": format, "stream": streams}));
        let (message, finish) = if streams {
            put_together(&chunks(&gateway, &body))
        } else {
            let answer = gateway.chat(body).ok().json();
            (answer["choices"][0]["message"].clone(), answer["choices"][0]["finish_reason"].clone())
        };
        assert_eq!((&message["content"], &finish), (&json!("{\"n\":1}"), &json!("stop")));
        assert_eq!(up.only_request().json()["tool_choice"]["name"], "json_tool_call");
    }
}

#[test]
fn what_has_no_twin_is_refused_by_name_or_dropped() {
    let up = Upstream::new(reply::hello()).speaking_anthropic();
    let gateway = serve(&up);
    for (name, value) in [
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("presence_penalty", json!(0.5)),
        ("seed", json!(7)),
        ("logit_bias", json!({"5": 1})),
        ("temperature", json!(1.5)),
        ("an_invention", json!(1)),
    ] {
        let answer = gateway.chat(ask(&json!({name: value})));
        if answer.status != 200 {
            let error = answer.error(400);
            assert_eq!(error.param.as_deref(), Some(name), "{error:?}");
            assert!(error.message.contains(name) && error.message.contains("drop_params"), "{error:?}");
        } else {
            assert_eq!(name, "seed", "{name} was dropped without a word");
        }
        gateway.chat(ask(&json!({name: value, "drop_params": true}))).ok();
        assert_eq!(up.requests().last().unwrap().json().get(name), None);
    }
    let new = serve_as(&up, "anthropic/claude-opus-5", "", "drop_params = true\n");
    new.chat(ask(&json!({"temperature": 0.2, "top_p": 0.5, "top_k": 4}))).ok();
}

#[test]
fn errors_keep_their_meaning_in_openais_words() {
    for (status, kind, message, expected, told, code) in [
        (400, "invalid_request_error", "messages: bad", 400, "invalid_request_error", "400"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 9 tokens > 8 maximum",
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (401, "authentication_error", "invalid x-api-key", 401, "authentication_error", "401"),
        (402, "billing_error", "no money", 402, "insufficient_quota", "insufficient_quota"),
        (404, "not_found_error", "model: nope", 404, "not_found_error", "404"),
        (413, "request_too_large", "too large", 413, "invalid_request_error", "413"),
        (429, "rate_limit_error", "slow down", 429, "rate_limit_error", "429"),
        (500, "api_error", "oops", 500, "api_error", "500"),
        (529, "overloaded_error", "Overloaded", 503, "service_unavailable", "503"),
    ] {
        let gateway = serve(&Upstream::new(reply::error(status, kind, message)).speaking_anthropic());
        for body in [plain(), with_usage()] {
            let error = gateway.chat(body).error(expected);
            assert!(error.message.contains(message), "{error:?}");
            assert_eq!((error.kind.as_str(), error.code.as_str()), (told, code), "{status} {kind}");
        }
    }
}

#[test]
fn the_time_to_wait_reaches_the_caller() {
    let body = reply::error_body("rate_limit_error", "slow down").to_string();
    let headers = [("Content-Type", "application/json"), ("retry-after", "7"), ("x-should-retry", "true")];
    let answer =
        serve(&Upstream::new(Reply::answer(429, &headers, body.as_bytes())).speaking_anthropic()).chat(plain());
    assert_eq!(answer.header("retry-after").as_deref(), Some("7"));
    assert_eq!(answer.header("x-should-retry").as_deref(), Some("true"));
}

#[test]
fn an_upstreams_echo_of_the_key_is_covered() {
    let quoted = format!("your key {UPSTREAM_KEY} is wrong");
    let up = Upstream::new(reply::error(401, "authentication_error", &quoted)).speaking_anthropic();
    let answer = serve(&up).chat(plain());
    assert!(!answer.text().contains(UPSTREAM_KEY), "{}", answer.text());
}

#[test]
fn an_error_inside_a_stream_ends_it_in_words() {
    let failed = event(&reply::error_body("overloaded_error", "Overloaded"));
    // Before the first event it is an error like any other.
    let gateway = serve(&Upstream::new(Reply::stream().send(&failed).end_body()).speaking_anthropic());
    let error = gateway.chat(with_usage()).any_error();
    assert!(error.message.contains("Overloaded"), "{error:?}");

    let gateway = serve(&Upstream::new(reply::begun().send(&failed).end_body()).speaking_anthropic());
    let mut client = gateway.open_chat(with_usage());
    assert_eq!(client.head().status(), 200);
    let events = client.contents();
    let error = crate::support::ErrorBody::of_event(events.last().unwrap());
    assert!(error.message.contains("Overloaded"), "{error:?}");
    assert_eq!((error.kind.as_str(), error.code.as_str()), ("service_unavailable", "529"));
    assert!(!events.iter().any(|event| event.contains("[DONE]")));
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn a_stream_that_is_cut_is_not_taken_for_complete() {
    for broken in [reply::begun().then(Step::Close), reply::begun().end_body(), reply::begun().then(Step::Reset)] {
        let gateway = serve(&Upstream::new(broken).speaking_anthropic());
        let mut client = gateway.open_chat(streamed(&json!({})));
        assert_eq!(client.head().status(), 200);
        let events = client.contents();
        crate::support::ErrorBody::of_event(events.last().unwrap());
        assert!(!events.iter().any(|event| event.contains("[DONE]")), "{events:#?}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_a_502() {
    for body in ["[]", "{}", "not json", r#"{"type":"message","content":"text"}"#] {
        let gateway = serve(&Upstream::new(Reply::json(200, body)).speaking_anthropic());
        gateway.chat(plain()).error(502);
        gateway.chat(with_usage()).error(502);
    }
}

#[test]
fn pings_and_news_of_tomorrow_say_nothing() {
    let news = event(&json!({"type": "content_block_celebrated", "index": 0, "with": {"cake": 1}}));
    let reply = Reply::stream().send(PING).send(&news).send(&start(&usage())).send(PING);
    let reply = block(0, &text("Hello")).iter().fold(reply, |reply, event| reply.send(event).send(PING).send(&news));
    let up = Upstream::new(reply.send(&reply::end("end_turn", &usage())).end_body()).speaking_anthropic();
    let (message, finish) = put_together(&chunks(&serve(&up), &streamed(&json!({}))));
    assert_eq!((&message["content"], &finish), (&json!("Hello"), &json!("stop")));
}

#[test]
fn a_slow_upstream_is_kept_company_and_a_silent_one_left() {
    let gate = Gate::new();
    let slow = Reply::stream().send(&start(&usage())).wait(&gate);
    let slow = block(0, &text("Hello")).iter().fold(slow, |reply, event| reply.send(event));
    let up = Upstream::new(slow.send(&reply::end("end_turn", &usage())).end_body()).speaking_anthropic();
    let gateway = serve_as(&up, MODEL, "early_commit = \"20ms\"\nkeep_alive = \"20ms\"", "");
    let mut client = gateway.open_chat(streamed(&json!({})));
    assert_eq!(client.head().status(), 200);
    while !client.event().unwrap().starts_with(':') {}
    gate.open();
    assert_eq!(client.contents().last().map(String::as_str), Some("data: [DONE]"));

    let silent = Upstream::new(reply::begun().then(Step::Hold)).speaking_anthropic();
    let gateway = serve_as(&silent, MODEL, "", "stream_timeout = \"200ms\"\n");
    let mut client = gateway.open_chat(streamed(&json!({})));
    client.head();
    let error = crate::support::ErrorBody::of_event(client.contents().last().unwrap());
    assert_eq!(error.kind, "timeout_error", "{error:?}");
    silent.wait_departures(1);

    let dumb = Upstream::new(Reply::silence()).speaking_anthropic();
    serve_as(&dumb, MODEL, "", "timeout = \"200ms\"\n").chat(plain()).error(504);
    dumb.wait_departures(1);
}

#[test]
fn a_caller_who_leaves_takes_the_upstream_along() {
    let up = Upstream::new(reply::begun().then(Step::Hold)).speaking_anthropic();
    let gateway = serve(&up);
    let mut client = gateway.open_chat(streamed(&json!({})));
    client.head();
    client.event().unwrap();
    drop(client);
    up.wait_departures(1);
    let call = gateway.only_call();
    assert_eq!(call["outcome"], "cancelled");
    assert_eq!(call["prompt_tokens"], 12, "what was said of the input is known: {call}");
}

#[test]
fn a_token_of_oauth_is_shown_as_a_bearer_and_named_by_its_beta() {
    let key = "sk-ant-oat01-abcdef";
    let up = Upstream::new(reply::hello()).speaking_anthropic().anthropic_rules(|rules| {
        rules.key = (key.to_owned(), true);
        rules.betas = vec!["oauth-2025-04-20".to_owned(), "mine-2025-01-01".to_owned()];
    });
    let model = deployment("claude", MODEL, up.base()).replace("env:UPSTREAM_KEY", key)
        + "extra_headers = { anthropic-beta = \"mine-2025-01-01\" }\n";
    Gateway::start(&config("", &[model])).chat(plain()).ok();
}

#[test]
fn health_asks_an_anthropic_in_its_own_words() {
    let up = Upstream::new(reply::hello()).speaking_anthropic();
    let bad = Upstream::new(reply::overloaded()).speaking_anthropic();
    let models = [deployment("claude", MODEL, up.base()), deployment("tired", MODEL, bad.base())];
    let health = Gateway::start(&config("", &models)).get("/health").ok().json();
    assert_eq!((&health["healthy_count"], &health["unhealthy_count"]), (&json!(1), &json!(1)), "{health}");
    assert!(health["unhealthy_endpoints"][0]["error"].as_str().unwrap().contains("Overloaded"), "{health}");
    assert_eq!(up.only_request().json()["max_tokens"], 5);
}

#[test]
fn the_scripted_anthropic_refuses_what_the_real_one_would() {
    // The harness itself: a lax upstream would prove nothing.
    let up = Upstream::new(reply::hello()).speaking_anthropic();
    let gateway = serve(&up);
    let forged = json!({"type": "thinking", "thinking": "changed", "signature": reply::signature("as it was")});
    let call = tool_use("toolu_1", "f", &json!({}));
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let user = json!({"role": "user", "content": "hi"});
    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2"}]});
    for (body, what) in [
        (json!({"messages": [user, {"role": "assistant", "content": [forged, call]}]}), "signature"),
        (json!({"messages": [user, {"role": "assistant", "content": [call]}, result], "tools": tools}), "tool_use_id"),
        (json!({"messages": [user, user]}), "alternate"),
        (json!({"messages": [user], "surprise": 1}), "surprise"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}), "non-empty"),
    ] {
        let mut body = body;
        body["model"] = json!("claude");
        body["max_tokens"] = json!(10);
        let answer = gateway.post("/v1/messages", body.to_string());
        assert!(answer.status == 400 && answer.text().contains(what), "{what}: {}", answer.text());
    }
}
