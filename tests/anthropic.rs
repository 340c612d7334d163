//! Callers of OpenAI's format over an upstream that speaks Anthropic's.

mod faults;
mod tools;

use crate::support::anthropic::reply::{self, PING, block, event, start, text, tool_use, usage};
use crate::support::{Gateway, Reply, Upstream, config, deployment};
use serde_json::{Value, json};

const MODEL: &str = "anthropic/claude-sonnet-4-5";

fn serve_as(up: &Upstream, model: &str, server: &str, more: &str) -> Gateway {
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
    let up = Upstream::new(reply::hello()).anthropic();
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
    let up = Upstream::new(reply::whole_using(&[text("ok")], "end_turn", &using)).anthropic();
    let answer = serve(&up).chat(plain()).ok();
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some(cost));
    let told = &answer.json()["usage"];
    assert_eq!((&told["prompt_tokens"], &told["completion_tokens"]), (&json!(2220), &json!(30)), "{told}");
    assert_eq!(told["prompt_tokens_details"]["cached_tokens"], 1500);
    assert_eq!(told["completion_tokens_details"]["reasoning_tokens"], 18);

    let up = Upstream::new(reply::stream_using(&[text("ok")], "end_turn", &using)).anthropic();
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
    .anthropic();
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
        let up = Upstream::new(up).anthropic();
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
    let up = Upstream::new(reply::hello()).anthropic();
    serve(&up).chat(plain()).ok();
    serve_as(&up, "anthropic/someone-elses", "", "").chat(plain()).ok();
    let limits: Vec<Value> = up.requests().iter().map(|seen| seen.json()["max_tokens"].clone()).collect();
    assert_eq!(limits, [json!(64000), json!(4096)]);
}

#[test]
fn system_images_and_documents_find_their_places() {
    let up = Upstream::new(reply::hello()).anthropic();
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
    let up = Upstream::new(reply::whole(&[text("{\"n\":1}")], "end_turn")).anthropic();
    let answer = serve(&up).chat(ask(&json!({"response_format": format}))).ok().json();
    assert_eq!(answer["choices"][0]["message"]["content"], "{\"n\":1}");
    let sent = up.only_request().json();
    assert_eq!(sent["output_config"]["format"]["schema"]["additionalProperties"], false);

    // Older models are made to call a tool; its input is the answer.
    for streams in [false, true] {
        let blocks = [tool_use("toolu_1", "json_tool_call", &json!({"n": 1}))];
        let old = if streams { reply::stream(&blocks, "tool_use") } else { reply::whole(&blocks, "tool_use") };
        let up = Upstream::new(old).anthropic();
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
    let up = Upstream::new(reply::hello()).anthropic();
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
fn pings_and_news_of_tomorrow_say_nothing() {
    let news = event(&json!({"type": "content_block_celebrated", "index": 0, "with": {"cake": 1}}));
    let reply = Reply::stream().send(PING).send(&news).send(&start(&usage())).send(PING);
    let reply = block(0, &text("Hello")).iter().fold(reply, |reply, event| reply.send(event).send(PING).send(&news));
    let up = Upstream::new(reply.send(&reply::end("end_turn", &usage())).end_body()).anthropic();
    let (message, finish) = put_together(&chunks(&serve(&up), &streamed(&json!({}))));
    assert_eq!((&message["content"], &finish), (&json!("Hello"), &json!("stop")));
}

#[test]
fn a_token_of_oauth_is_shown_as_a_bearer_and_named_by_its_beta() {
    let key = "sk-ant-oat01-abcdef";
    let up = Upstream::new(reply::hello()).anthropic().anthropic_rules(|rules| {
        rules.key = (key.to_owned(), true);
        rules.betas = vec!["oauth-2025-04-20".to_owned(), "mine-2025-01-01".to_owned()];
    });
    let model = deployment("claude", MODEL, up.base()).replace("env:UPSTREAM_KEY", key)
        + "extra_headers = { anthropic-beta = \"mine-2025-01-01\" }\n";
    Gateway::start(&config("", &[model])).chat(plain()).ok();
}

#[test]
fn health_asks_an_anthropic_in_its_own_words() {
    let up = Upstream::new(reply::hello()).anthropic();
    let bad = Upstream::new(reply::overloaded()).anthropic();
    let models = [deployment("claude", MODEL, up.base()), deployment("tired", MODEL, bad.base())];
    let health = Gateway::start(&config("", &models)).get("/health").ok().json();
    assert_eq!((&health["healthy_count"], &health["unhealthy_count"]), (&json!(1), &json!(1)), "{health}");
    assert!(health["unhealthy_endpoints"][0]["error"].as_str().unwrap().contains("Overloaded"), "{health}");
    assert_eq!(up.only_request().json()["max_tokens"], 5);
}

#[test]
fn the_scripted_anthropic_refuses_what_the_real_one_would() {
    // The harness itself: a lax upstream would prove nothing.
    let up = Upstream::new(reply::hello()).anthropic();
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
