//! The upstream speaks the caller's format: bytes go through.

use super::{COUNT, PATH, ask, error, open, over_anthropic, post, serve, stream};
use crate::support::anthropic::{order, reply};
use crate::support::{Gate, Gateway, MASTER_KEY, Reply, Step, UPSTREAM_KEY, Upstream, config, deployment};
use serde_json::{Value, json};

#[test]
fn bytes_go_through_both_ways_but_for_the_model() {
    let blocks = [reply::thinking("well"), reply::text("Hello über there")];
    let up = Upstream::new(reply::whole(&blocks, "end_turn")).anthropic();
    let gateway = over_anthropic(&up);
    let body = "{ \"max_tokens\" : 2000,\n \"messages\":[ {\"role\":\"user\", \"content\":\"\\u00fc \\/ \\\"model\\\":\\\"claude\\\"\"} ],\
        \"model\" : \"claude\" ,\"thinking\":{\"budget_tokens\":1024,\"type\":\"enabled\"},\"metadata\":{\"user_id\":\"u\"},\
        \"system\":[{\"type\":\"text\",\"text\":\"s\",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}}]}";
    let answer = post(&gateway, PATH, body).ok();
    assert_eq!(answer.text(), reply::message(&blocks, "end_turn", &reply::usage()).to_string());
    assert_eq!(up.only_request().text(), body.replace("\"model\" : \"claude\"", "\"model\" : \"claude-sonnet-4-5\""));
    assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(answer.header("x-litellm-response-cost").as_deref(), Some("0.000111"));
    assert_eq!(answer.header("llm_provider-request-id").as_deref(), Some("req_up1"));
}

#[test]
fn streams_go_through_byte_for_byte_and_are_priced() {
    let news = reply::event(&json!({"type": "news_of_tomorrow", "x": [1.0]}));
    let mut events = reply::events(&reply::loop_blocks(), "tool_use", &reply::cached_usage());
    events.insert(3, news);
    let sent = events.concat();
    for chunks in [
        Reply::stream().send(&sent).end_body(),
        Reply::stream().then(Step::EveryByte(sent.clone().into_bytes())).end_body(),
    ] {
        let up = Upstream::new(chunks).anthropic();
        let gateway = over_anthropic(&up);
        let mut client = open(&gateway, &ask("claude", &json!({"stream": true})));
        assert_eq!(client.head().status(), 200);
        assert_eq!(String::from_utf8(client.rest()).unwrap(), sent);
        let call = gateway.only_call();
        assert_eq!(
            (&call["cost_usd"], &call["prompt_tokens"], &call["cached_tokens"]),
            (&json!("0.00426"), &json!(2220), &json!(1500))
        );
    }
}

#[test]
fn thinking_of_another_vendor_is_not_shown_to_anthropic() {
    let loop_of = |signature: &str| {
        json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000,
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "messages": [{"role": "user", "content": "hi"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": signature},
                    {"type": "tool_use", "id": "call_a", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_a", "content": "1"}]}]})
    };
    // Told by the gateway of what another model thought, and sent back with the history.
    let up = Upstream::new(reply::hello()).anthropic();
    let gateway = over_anthropic(&up);
    post(&gateway, PATH, &ask("claude", &loop_of(""))).ok();
    let sent = up.only_request().json();
    assert_eq!((sent.get("thinking"), sent["messages"][1]["content"].as_array().unwrap().len()), (None, 1), "{sent}");
    // Signed by a vendor that has failed since.
    let other = Upstream::new(Reply::json(500, "{\"error\": {\"message\": \"no\"}}"));
    let gateway = serve(&up, &other, "");
    let mut body = loop_of("signed elsewhere");
    body["fallbacks"] = json!(["claude"]);
    body["num_retries"] = json!(0);
    post(&gateway, PATH, &ask("small", &body)).ok();
    let sent = up.requests().last().unwrap().json();
    assert_eq!((sent.get("thinking"), sent["messages"][1]["content"].as_array().unwrap().len()), (None, 1), "{sent}");
}

#[test]
fn betas_and_versions_are_passed_on_and_joined_with_the_operators() {
    let up = Upstream::new(reply::hello()).anthropic().anthropic_rules(|rules| {
        rules.versions = vec!["2024-10-22".to_owned()];
        rules.betas = ["a-1", "b-2", "c-3"].map(str::to_owned).into();
    });
    let claude = deployment("claude", "anthropic/claude-sonnet-4-5", up.base());
    let gateway = Gateway::start(&config("", &[claude + "extra_headers = { anthropic-beta = \"c-3,a-1\" }\n"]));
    let headers = [("x-api-key", MASTER_KEY), ("anthropic-version", "2024-10-22"), ("anthropic-beta", "a-1, b-2")];
    gateway.call("POST", PATH, &headers, ask("claude", &json!({})).as_bytes()).ok();
    let sent = up.only_request().header("anthropic-beta").unwrap();
    assert_eq!(sent.matches("a-1").count(), 1, "{sent}");
    let smuggled = [("x-api-key", MASTER_KEY), ("anthropic-beta", "a b")];
    error(&gateway.call("POST", PATH, &smuggled, ask("claude", &json!({})).as_bytes()), 400);
}

#[test]
fn errors_keep_status_type_and_wording() {
    for (status, kind, message) in [
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        (402, "billing_error", "no money"),
        (404, "not_found_error", "model: nope"),
        (413, "request_too_large", "Request exceeds the maximum size"),
        (429, "rate_limit_error", "slow down"),
        (500, "api_error", "Internal server error"),
        (529, "overloaded_error", "Overloaded"),
    ] {
        let gateway = over_anthropic(&Upstream::new(reply::error(status, kind, message)).anthropic());
        for streams in [false, true] {
            let answer = post(&gateway, PATH, &ask("claude", &json!({"stream": streams})));
            assert_eq!(error(&answer, status), (kind.to_owned(), message.to_owned()));
        }
    }
}

#[test]
fn the_exact_cause_that_clients_branch_on_is_kept() {
    let mut body = reply::error_body("rate_limit_error", "slow down");
    body["error"]["details"] = json!({"error_code": "ramp_limit_exceeded", "more": [1]});
    let before = over_anthropic(&Upstream::new(Reply::json(429, &body.to_string())).anthropic());
    let answer = post(&before, PATH, &ask("claude", &json!({})));
    assert_eq!(answer.json()["error"]["details"], json!({"error_code": "ramp_limit_exceeded"}));
    let within = over_anthropic(&Upstream::new(reply::begun().send(&reply::event(&body)).end_body()).anthropic());
    let read = stream(&within, &ask("claude", &json!({"stream": true})));
    assert_eq!(read.error.unwrap()["error"]["details"]["error_code"], "ramp_limit_exceeded");
}

#[test]
fn a_refusal_of_the_gateways_key_does_not_blame_the_callers() {
    let quoted = format!("invalid x-api-key {UPSTREAM_KEY}");
    let gateway = over_anthropic(&Upstream::new(reply::error(401, "authentication_error", &quoted)).anthropic());
    let answer = post(&gateway, PATH, &ask("claude", &json!({})));
    let (kind, message) = error(&answer, 401);
    assert!(kind == "authentication_error" && message.contains("not yours"), "{message}");
    assert!(!answer.text().contains(UPSTREAM_KEY));
}

#[test]
fn an_error_inside_a_stream_is_its_last_event() {
    let failed = reply::event(&reply::error_body("overloaded_error", "Overloaded"));
    let gateway = over_anthropic(&Upstream::new(reply::begun().send(&failed).end_body()).anthropic());
    let read = stream(&gateway, &ask("claude", &json!({"stream": true})));
    let told = &read.error.unwrap()["error"];
    assert_eq!((&told["type"], &told["message"]), (&json!("overloaded_error"), &json!("Overloaded")));
    let call = gateway.only_call();
    assert_eq!((&call["outcome"], &call["prompt_tokens"]), (&json!("failure"), &json!(12)));

    let gateway = over_anthropic(&Upstream::new(reply::begun().then(Step::Close)).anthropic());
    let read = stream(&gateway, &ask("claude", &json!({"stream": true})));
    assert_eq!(read.error.unwrap()["error"]["type"], "api_error");
}

#[test]
fn a_silent_stream_is_kept_open_by_pings() {
    let gate = Gate::new();
    let begun = Reply::stream().send(&reply::start(&reply::usage())).wait(&gate);
    let rest = reply::block(0, &reply::text("Hello")).concat() + &reply::end("end_turn", &reply::usage());
    let up = Upstream::new(begun.send(&rest).end_body()).anthropic();
    let claude = deployment("claude", "anthropic/claude-sonnet-4-5", up.base());
    let gateway = Gateway::start(&config("keep_alive = \"20ms\"", &[claude]));
    let mut client = open(&gateway, &ask("claude", &json!({"stream": true})));
    assert_eq!(client.head().status(), 200);
    let mut events = Vec::new();
    while events.len() < 3 {
        events.push(client.event().unwrap());
    }
    gate.open();
    events.extend(std::iter::from_fn(|| client.event()));
    let read = order::check(&events);
    assert!(read.is_complete && read.pings >= 2, "{read:?}");
}

#[test]
fn tokens_are_counted_by_who_knows() {
    let up = Upstream::new(Reply::json(200, "{\"input_tokens\": 2095 }")).anthropic();
    let gateway = over_anthropic(&up);
    let answer = post(&gateway, COUNT, &ask("claude", &json!({"stream": true}))).ok();
    assert_eq!(answer.text(), "{\"input_tokens\": 2095 }");
    assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_")), "{:?}", answer.head);
    assert_eq!(up.only_request().target, COUNT);
    // Servers that cannot count are spared, and the caller gets an estimate.
    let up = Upstream::new(reply::hello()).anthropic().anthropic_rules(|rules| rules.counts = false);
    let estimate = post(&over_anthropic(&up), COUNT, &ask("claude", &json!({}))).ok().json();
    assert!(estimate["input_tokens"].as_u64().is_some_and(|n| (1..100).contains(&n)), "{estimate}");
    let gateway = over_anthropic(&Upstream::new(reply::overloaded()).anthropic());
    assert_eq!(error(&post(&gateway, COUNT, &ask("claude", &json!({}))), 529).0, "overloaded_error");
}

#[test]
fn the_billing_line_stays_away_from_other_vendors() {
    let up = Upstream::new(reply::hello()).anthropic();
    let system: Value = json!([{"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=0a1b2;"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]);
    post(&over_anthropic(&up), PATH, &ask("claude", &json!({"system": system}))).ok();
    assert_eq!(up.only_request().json()["system"], json!([system[1]]));
}

#[test]
fn a_caller_who_leaves_takes_the_upstream_along() {
    let up = Upstream::new(reply::begun().then(Step::Hold)).anthropic();
    let gateway = over_anthropic(&up);
    let mut client = open(&gateway, &ask("claude", &json!({"stream": true})));
    client.head();
    client.event().unwrap();
    drop(client);
    up.wait_departures(1);
    let call = gateway.only_call();
    assert_eq!((&call["outcome"], &call["prompt_tokens"]), (&json!("cancelled"), &json!(12)));
}
