//! Providers by their own paths: who may ask for what, with which key, and what it costs.

use crate::support::{Gate, Gateway, Reply, Setup, UPSTREAM_KEY, Upstream, authorization, config, deployment};
use serde_json::{Value, json};

fn anyone(reply: Reply) -> Upstream {
    Upstream::new(reply).rules(|rules| rules.is_free = true)
}

fn priced(name: &str, model: &str, base: &str) -> String {
    deployment(name, model, base) + "info = { input_cost_per_token = 0.001, output_cost_per_token = 0.01 }\n"
}

fn key(gateway: &Gateway, body: Value) -> String {
    gateway.post("/key/generate", body.to_string()).ok().json()["key"].as_str().unwrap().to_owned()
}

const ANSWER: &str = r#"{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

#[test]
fn a_call_goes_on_with_the_operators_key_and_is_booked_with_its_cost() {
    let up = anyone(Reply::json(200, ANSWER));
    let gateway = Gateway::start(&config("", &[priced("mine", "openai/gpt-x", up.base())]));
    let (name, master) = authorization();
    let body = br#"{"model":"gpt-x", "messages":[],"anything":{"at":"all"}}"#;
    for path in ["/openai/v1/chat/completions?a=b&key=sk-house", "/openai_passthrough/chat/completions?a=b"] {
        let headers = [(name, master.as_str()), ("x-api-key", "sk-x"), ("openai-beta", "b=1"), ("Cookie", "c=d")];
        let told = gateway.call("POST", path, &headers, body).ok();
        assert_eq!(told.text(), ANSWER);
    }
    for seen in up.wait_requests(2) {
        assert_eq!(seen.target, "/v1/chat/completions?a=b");
        assert_eq!(seen.body, body);
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
        assert_eq!(seen.header("openai-beta").as_deref(), Some("b=1"));
        assert_eq!((seen.header("x-api-key"), seen.header("cookie")), (None, None));
    }
    for row in crate::ledger::rows(&gateway, 2) {
        assert_eq!(
            (&row["call_type"], &row["custom_llm_provider"]),
            (&json!("pass_through_endpoint"), &json!("openai"))
        );
        assert_eq!((&row["prompt_tokens"], &row["completion_tokens"]), (&json!(7), &json!(3)));
        assert_eq!((&row["spend"], &row["status"]), (&json!(0.037), &json!("success")));
    }
}

#[test]
fn a_stream_comes_as_it_is_made_and_is_counted() {
    let gate = Gate::new();
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
    let end =
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":8}}\n\n";
    let up = anyone(Reply::stream().send(start).wait(&gate).send(end).end_body());
    let gateway = Gateway::start(&config("", &[priced("c", "anthropic/claude-x", up.base())]));
    let (name, master) = authorization();
    let body = br#"{"model":"claude-x","stream":true,"max_tokens":9,"messages":[]}"#;
    let mut client = gateway.client();
    client.request("POST", "/anthropic/v1/complete", &[(name, &master), ("Content-Type", "application/json")], body);
    assert_eq!(client.head().status(), 200);
    assert!(client.event().unwrap().contains("message_start"));
    gate.open();
    assert!(client.event().unwrap().contains("message_delta"));
    let seen = up.only_request();
    assert_eq!(seen.target, "/v1/complete");
    assert_eq!(seen.header("x-api-key").as_deref(), Some(UPSTREAM_KEY));
    assert_eq!(seen.header("anthropic-version").as_deref(), Some("2023-06-01"));
    assert_eq!(seen.header("authorization"), None);
    gateway.wait_log("the passed call", |line| {
        line.contains("passed on") && line.contains("\"prompt_tokens\":5") && line.contains("\"completion_tokens\":8")
    });
}

#[test]
fn keys_ask_for_models_that_they_may_use_and_for_nothing_else() {
    let up = anyone(Reply::json(200, ANSWER));
    let models = [priced("mine", "openai/gpt-x", up.base()), priced("gpt-y", "openai/gpt-z", up.base())];
    let gateway = Gateway::start(&config("", &models));
    let all = key(&gateway, json!({}));
    let some = key(&gateway, json!({"models": ["mine"]}));
    let full = key(&gateway, json!({"models": ["openai/*"]}));
    let chat = |key: &str, model: &str| {
        let body = json!({"model": model, "messages": []}).to_string();
        let bearer = format!("Bearer {key}");
        gateway.call("POST", "/openai/v1/chat/completions", &[("Authorization", &bearer)], body.as_bytes())
    };
    for (key, model) in [(&all, "gpt-any"), (&some, "gpt-x"), (&full, "gpt-any")] {
        chat(key, model).ok();
    }
    // A name of the gateway's is none of the provider's: what it stands for is another model.
    let named = key(&gateway, json!({"models": ["gpt-y"]}));
    for (key, model) in [(&some, "gpt-any"), (&some, "mine"), (&named, "gpt-y")] {
        assert_eq!(chat(key, model).error(403).kind, "key_model_access_denied");
    }
    let asked = |key: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {key}");
        gateway.call(method, path, &[("Authorization", &bearer)], b"{}")
    };
    for (method, path) in
        [("GET", "/openai/v1/files"), ("POST", "/openai/v1/uploads"), ("DELETE", "/openai/v1/models/gpt-x")]
    {
        assert!(asked(&all, method, path).error(403).message.contains("names no model"), "{path}");
    }
    asked("sk-unknown-1234567890", "GET", "/openai/v1/files").error(401);
    let (_, master) = authorization();
    asked(master.strip_prefix("Bearer ").unwrap(), "GET", "/openai/v1/files").ok();
    let before = up.requests().len();
    assert_eq!(before, 4);
    for path in ["/openai/v1/../x", "/openai/%2e%2e/x", "/openai/v1/..%2f..%2fx"] {
        asked(master.strip_prefix("Bearer ").unwrap(), "GET", path).error(400);
    }
    for path in ["/nobody/v1/x", "/openai"] {
        asked(&all, "GET", path).error(404);
    }
    assert_eq!(up.requests().len(), before);
}

#[test]
fn the_operator_opens_and_shuts_the_doors() {
    let up = anyone(Reply::json(200, "{}"));
    let open = Gateway::start(&config("provider_pass_through = \"all\"", &[priced("m", "openai/gpt-x", up.base())]));
    let bearer = format!("Bearer {}", key(&open, json!({})));
    open.call("GET", "/openai/v1/files", &[("Authorization", &bearer)], b"").ok();
    let shut = Gateway::start(&config("provider_pass_through = \"off\"", &[priced("m", "openai/gpt-x", up.base())]));
    let (name, master) = authorization();
    shut.call("GET", "/openai/v1/files", &[(name, &master)], b"").error(404);
}

#[test]
fn a_provider_is_asked_with_what_the_environment_says_of_it() {
    let up = anyone(Reply::json(
        200,
        r#"{"candidates":[],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2}}"#,
    ));
    let gateway = Setup::toml(&config("", &[]))
        .secret("GEMINI_API_KEY", "gm-1234567890")
        .secret("GEMINI_API_BASE", &format!("{}/v1beta", up.origin()))
        .start();
    let (name, master) = authorization();
    let body = br#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent?key=sk-x";
    gateway.call("POST", path, &[(name, &master)], body).ok();
    let seen = up.only_request();
    assert_eq!(seen.target, "/v1beta/models/gemini-2.5-flash:generateContent");
    assert_eq!(seen.header("x-goog-api-key").as_deref(), Some("gm-1234567890"));
    let rows = crate::ledger::rows(&gateway, 1);
    assert_eq!((&rows[0]["model"], &rows[0]["prompt_tokens"]), (&json!("gemini-2.5-flash"), &json!(4)));
    assert!(rows[0]["spend"].as_f64().unwrap() > 0.0);
    let error = gateway.call("POST", "/mistral/v1/ocr", &[(name, &master)], br#"{"model":"m"}"#).error(404);
    assert!(error.message.contains("MISTRAL_API_KEY"), "{error:?}");
}

#[test]
fn budgets_hold_and_refusals_come_back_as_they_are() {
    let up = Upstream::queue(vec![Reply::json(200, ANSWER), Reply::json(429, r#"{"own":"error"}"#)])
        .rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[priced("m", "openai/gpt-x", up.base())]));
    let spender = key(&gateway, json!({"max_budget": 0.03}));
    let bearer = format!("Bearer {spender}");
    let ask = |bearer: &str| {
        let body = br#"{"model":"gpt-x","max_tokens":1,"messages":[]}"#;
        gateway.call("POST", "/openai/v1/chat/completions", &[("Authorization", bearer)], body)
    };
    ask(&bearer).ok();
    let spent = ask(&bearer);
    assert!(spent.status == 422 || spent.status == 429, "{}", spent.text());
    let (_, master) = authorization();
    let told = ask(&master);
    assert_eq!((told.status, told.text().as_str()), (429, r#"{"own":"error"}"#));
    assert_eq!(up.requests().len(), 2);
}
