//! What is made up: answers and failures of a deployment, and of a request where the operator lets it.

use super::{asks, attempted, good, with};
use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::{ErrorBody, Gateway, Setup, config, model};
use serde_json::{Value, json};

const ANY_KEY: &str = "general_settings:\n  master_key: os.environ/MASTER_KEY\n";

fn yaml(models: &[(&str, &str)], more: &str) -> Gateway {
    let entry = |(name, params): &(&str, &str)| {
        format!("  - model_name: {name}\n    litellm_params: {{model: anthropic/claude-haiku-4-5, {params}}}\n")
    };
    let models: String = models.iter().map(entry).collect();
    Setup::yaml(&format!("model_list:\n{models}{ANY_KEY}{more}")).start()
}

/// The text of a stream, and the usage that it tells.
fn streamed(gateway: &Gateway, body: &str) -> (String, Value) {
    let mut client = gateway.open_chat(body);
    assert_eq!(client.head().status(), 200);
    let events = client.contents();
    assert_eq!(events.last().map(String::as_str), Some("data: [DONE]"));
    let events: Vec<Value> =
        events.iter().filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect();
    let text = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    (text, events.last().map_or(Value::Null, |last| last["usage"].clone()))
}

#[test]
fn a_model_with_a_mock_response_answers_in_every_format_without_an_upstream() {
    let entry = "[[models]]\nname = \"small\"\nmodel = \"anthropic/claude-haiku-4-5\"\nmock_response = \"Made up, über all.\"\n";
    let gateway = Gateway::start(&config("", &[entry.to_owned()]));
    let told = gateway.chat(HELLO).ok().json();
    assert_eq!(told["choices"][0]["message"]["content"], "Made up, über all.");
    assert_eq!((&told["usage"]["total_tokens"], &told["model"]), (&json!(30), &json!("claude-haiku-4-5")));
    let asked = STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    let (text, usage) = streamed(&gateway, &asked);
    assert_eq!((&*text, &usage["completion_tokens"]), ("Made up, über all.", &json!(20)));

    let message = json!({"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let told = gateway.post("/v1/messages", message.to_string()).ok().json();
    assert_eq!((&told["content"][0]["text"], &told["type"]), (&json!("Made up, über all."), &json!("message")));
    let response = json!({"model": "small", "input": "hi"});
    let told = gateway.post("/v1/responses", response.to_string()).ok().json();
    assert_eq!(told["output"][0]["content"][0]["text"], "Made up, über all.");
    let completion = json!({"model": "small", "prompt": "hi"});
    let told = gateway.post("/v1/completions", completion.to_string()).ok().json();
    assert_eq!(told["choices"][0]["text"], "Made up, über all.");

    let calls = gateway.wait_calls(5);
    assert!(calls.iter().all(|call| call["outcome"] == "success" && call["prompt_tokens"] == 10), "{calls:#?}");
    assert_eq!(calls[0]["cost_usd"], "0.00011", "ten tokens in and twenty out");

    gateway.post("/v1/embeddings", r#"{"model":"small","input":"hi"}"#).error(501);
    assert_eq!(gateway.get("/health").ok().json()["healthy_count"], 1);
}

#[test]
fn litellms_names_of_failures_lead_to_the_fallbacks_that_are_tried_out() {
    let more = "router_settings:\n  fallbacks: [{limited: [well]}, {broken: [well]}]\n  context_window_fallbacks: [{short: [well]}]\n  content_policy_fallbacks: [{strict: [well]}]\n";
    let gateway = yaml(
        &[
            ("limited", "mock_response: litellm.RateLimitError"),
            ("broken", "mock_response: litellm.InternalServerError"),
            ("short", "mock_response: litellm.ContextWindowExceededError"),
            ("strict", "mock_response: 'Exception: content_filter_policy'"),
            ("late", "mock_timeout: true, timeout: 0.05"),
            ("slow", "mock_response: at last, mock_delay: 0.05"),
            ("calls", r#"mock_tool_calls: [{id: c1, type: function, function: {name: f, arguments: "{}"}}]"#),
            ("cut", "mock_response: 'Exception: mock_streaming_error'"),
            ("well", "mock_response: well"),
        ],
        more,
    );
    for (name, alone) in [("limited", 429), ("broken", 500), ("short", 400), ("strict", 400)] {
        let answer = gateway.chat(asks(name, "")).ok();
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "well", "{name}");
        assert_eq!(attempted(&answer), ("0".to_owned(), "1".to_owned()), "{name}");
        let error = gateway.chat(asks(name, "\"disable_fallbacks\":true,")).error(alone);
        assert!(error.message.contains("mock"), "{error:?}");
    }
    gateway.chat(asks("late", "")).error(504);
    assert_eq!(gateway.chat(asks("slow", "")).ok().json()["choices"][0]["message"]["content"], "at last");
    let told = gateway.chat(asks("calls", "")).ok().json();
    assert_eq!(told["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(told["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f");
    let mut client = gateway.open_chat(STREAM.replace("small", "cut"));
    assert_eq!(client.head().status(), 200);
    let events = client.contents();
    assert!(events.len() > 1 && events[0].contains("choices"), "{events:?}");
    assert!(ErrorBody::of_event(events.last().unwrap()).message.contains("mid-stream"));
}

#[test]
fn a_request_has_things_made_up_only_where_the_operator_lets_it() {
    let up = good();
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    for (member, name) in [
        (r#""mock_response":"x","#, "mock_response"),
        (r#""mock_testing_fallbacks":true,"#, "mock_testing_fallbacks"),
        (r#""mock_delay":5,"#, "mock_delay"),
    ] {
        let error = gateway.chat(asks("small", member)).error(400);
        assert_eq!(error.param.as_deref(), Some(name));
        assert!(error.message.contains("dangerously_allow_mock_testing_request_params"), "{error:?}");
    }
    assert!(up.requests().is_empty());
    // What asks for nothing is no matter, and stays here.
    gateway.chat(asks("small", r#""mock_testing_fallbacks":false,"mock_response":null,"#)).ok();
}

#[test]
fn a_request_tries_out_retries_and_fallbacks_and_leaves_no_trace_at_the_deployments() {
    let (up, other) = (good(), good());
    let models = [model("small", &up), model("small", &up), model("large", &other)];
    let routing = "mock_requests = true\nnum_retries = 1\nfallbacks = { small = [\"large\"] }\ncontext_window_fallbacks = { small = [\"large\"] }\n";
    let gateway = with(routing, &models);
    let answer = gateway.chat(asks("small", r#""mock_response":"mine","#)).ok();
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "mine");
    for member in ["mock_testing_fallbacks", "mock_testing_context_fallbacks", "mock_testing_content_policy_fallbacks"]
    {
        let answer = gateway.chat(asks("small", &format!("\"{member}\":true,"))).ok();
        assert_eq!(answer.header("x-litellm-attempted-fallbacks").as_deref(), Some("1"), "{member}");
    }
    assert_eq!((up.requests().len(), other.requests().len()), (0, 3));
    let answer = gateway.chat(asks("small", r#""mock_testing_rate_limit_error":true,"#)).ok();
    assert_eq!(attempted(&answer), ("1".to_owned(), "0".to_owned()));
    assert_eq!(up.requests().len(), 1);
    let never = r#""mock_timeout":true,"timeout":0.05,"disable_fallbacks":true,"#;
    gateway.chat(asks("small", never)).error(504);
    for _ in 0..4 {
        gateway.chat(asks("small", r#""mock_response":"litellm.RateLimitError","disable_fallbacks":true,"#)).error(429);
    }
    let latest = gateway.get("/health/latest").ok().json();
    let checks = latest["latest_health_checks"].as_object().unwrap();
    assert!(checks.values().all(|check| check["cooldown_ms"].is_null()), "{latest:#}");
    for bad in [r#""mock_response":5,"#, r#""mock_response":"x","mock_delay":-1,"#, r#""mock_tool_calls":[1],"#] {
        gateway.chat(asks("small", bad)).error(400);
    }
    let long = "x".repeat(70_000);
    gateway.chat(asks("small", &format!("\"mock_response\":\"{long}\","))).error(400);
    gateway.chat(HELLO).ok();
}
