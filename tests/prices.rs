//! What calls cost: where prices come from, and where they are shown. All sums are computed by hand.

use crate::chat::HELLO;
use crate::support::reply::WHOLE;
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, config, deployment};
use serde_json::{Value, json};

const STREAM: &str = r#"{"model":"small","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;

fn serve(up: &Upstream, model: &str, more: &str) -> Gateway {
    Gateway::start(&config("", &[deployment("small", model, up.base()) + more]))
}

fn cost(answer: &Answer) -> Option<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-litellm-response-cost")
}

/// The cost of an ordinary call: 12 tokens in, 5 out.
fn cost_of(gateway: &Gateway) -> Option<String> {
    cost(&gateway.chat(HELLO))
}

fn told(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A whole answer with this usage.
fn using(usage: &Value) -> Reply {
    let mut body: Value = serde_json::from_str(WHOLE).unwrap();
    body["usage"] = usage.clone();
    Reply::json(200, &body.to_string())
}

fn usage_of_stream(gateway: &Gateway) -> Value {
    let mut client = gateway.open_chat(STREAM);
    assert_eq!(client.head().status(), 200);
    let events = client.contents();
    let usage = events.iter().rev().nth(1).unwrap().strip_prefix("data: ").unwrap();
    serde_json::from_str::<Value>(usage).unwrap()["usage"].clone()
}

#[test]
fn a_known_model_has_the_price_of_the_table_whole_and_streamed() {
    let up = Upstream::script(|seen| match seen.json()["stream"] == true {
        true => Reply::texts(&["a"]),
        false => Reply::whole(),
    });
    let gateway = serve(&up, "openai/gpt-4o-mini", "");
    // 12 x 0.15 + 5 x 0.6 millionths of a dollar.
    assert_eq!(cost_of(&gateway), told("0.0000048"));
    assert_eq!(usage_of_stream(&gateway)["cost"].as_f64(), Some(0.0000048));
    // The name that the upstream echoes has no say.
    assert!(gateway.wait_calls(2).iter().all(|call| call["cost_usd"] == "0.0000048"));
}

#[test]
fn cached_tokens_cost_less() {
    let usage = json!({"prompt_tokens": 2000, "completion_tokens": 10, "total_tokens": 2010,
        "prompt_tokens_details": {"cached_tokens": 1500}});
    // 500 x 0.15 + 1500 x 0.075 + 10 x 0.6 millionths of a dollar.
    assert_eq!(cost_of(&serve(&Upstream::new(using(&usage)), "openai/gpt-4o-mini", "")), told("0.0001935"));
}

#[test]
fn a_long_prompt_has_the_long_price_for_all_of_its_tokens() {
    let prices = "info = { input_cost_per_token = 1e-6, output_cost_per_token = 2e-6, \
        input_cost_per_token_above_200k_tokens = 3e-6, output_cost_per_token_above_200k_tokens = 5e-6 }\n";
    for (prompt, expected) in [(200_000, "0.20002"), (200_001, "0.600053")] {
        let usage = json!({"prompt_tokens": prompt, "completion_tokens": 10, "total_tokens": prompt + 10});
        assert_eq!(cost_of(&serve(&Upstream::new(using(&usage)), "openai/gpt-4o-mini", prices)), told(expected));
    }
}

#[test]
fn a_price_that_nobody_knows_is_said_once_and_never_zero() {
    let up = Upstream::script(|seen| match seen.json()["stream"] == true {
        true => Reply::texts(&["a"]),
        false => Reply::whole(),
    });
    let gateway = serve(&up, "openai/house-model", "");
    for _ in 0..3 {
        assert_eq!(cost_of(&gateway), None);
    }
    assert_eq!(usage_of_stream(&gateway).get("cost"), None);
    assert!(gateway.wait_calls(4).iter().all(|call| call["cost_usd"] == ""));
    let said = gateway.logs().matches("no price is known").count();
    assert_eq!(said, 1, "{}", gateway.logs());
    let info = gateway.get("/model/info").ok().json();
    assert_eq!(info["data"][0]["model_info"].get("input_cost_per_token").filter(|cost| !cost.is_null()), None);
    for (path, body) in [
        ("/cost/estimate", json!({"model": "small", "input_tokens": 1, "output_tokens": 1})),
        ("/spend/calculate", json!({"model": "small", "messages": [{"role": "user", "content": "hi"}]})),
    ] {
        gateway.post(path, body.to_string()).error(404);
    }
}

#[test]
fn what_costs_nothing_costs_zero() {
    let gateway = serve(
        &Upstream::new(Reply::whole()),
        "openai/gpt-4o-mini",
        "info = { input_cost_per_token = 0, output_cost_per_token = 0.0 }\n",
    );
    assert_eq!(cost_of(&gateway), told("0"));
}

#[test]
fn a_providers_own_word_goes_before_any_table() {
    let usage = |cost: Value| json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "cost": cost, "cost_in_usd_ticks": 990});
    for (reported, expected) in
        [(json!(0.00421), "0.00421"), (json!({"total_cost": 0.5}), "0.5"), (json!(null), "0.000000099")]
    {
        let gateway = serve(&Upstream::new(using(&usage(reported))), "openai/gpt-4o-mini", "");
        assert_eq!(cost_of(&gateway), told(expected));
    }
    let up = Upstream::new(using(&usage(json!(0.00421)))).allow(&["usage"]);
    assert_eq!(cost_of(&serve(&up, "openrouter/openai/gpt-4o-mini", "")), told("0.00421"));
}

/// An entry for a model of the house, and another price for one of the table.
fn map() -> String {
    json!({
        "sample_spec": {"input_cost_per_token": "prose"},
        "openai/house-model": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-6,
            "output_cost_per_token": 4e-6, "max_input_tokens": 32000, "max_output_tokens": 999,
            "supports_vision": true},
        "gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6,
            "output_cost_per_token": 1e-6},
    })
    .to_string()
}

#[test]
fn a_price_map_replaces_and_adds() {
    let up = Upstream::new(Reply::whole());
    let models = [
        deployment("small", "openai/house-model", up.base()),
        deployment("mini", "openai/gpt-4o-mini", up.base()),
        deployment("large", "openai/gpt-4o", up.base()),
    ];
    let setup = Setup::toml(&("price_map = \"prices.json\"\n".to_owned() + &config("", &models)));
    std::fs::write(setup.dir().join("prices.json"), map()).unwrap();
    let gateway = setup.start();
    assert_eq!(cost_of(&gateway), told("0.000044"));
    assert_eq!(cost(&gateway.chat(HELLO.replace("small", "mini"))), told("0.000017"));
    // Not in the map: 12 x 2.5 + 5 x 10.
    assert_eq!(cost(&gateway.chat(HELLO.replace("small", "large"))), told("0.00008"));
    let info = gateway.get("/model/info").ok().json();
    let facts = &info["data"][0]["model_info"];
    assert_eq!((&facts["max_input_tokens"], &facts["supports_vision"]), (&json!(32000), &json!(true)), "{facts}");
}

#[test]
fn a_price_map_that_is_none_is_an_error_that_says_where() {
    for (text, what) in
        [("[]", "prices.json"), (r#"{"m":{"litellm_provider":"openai","input_cost_per_token":-1}}"#, "'m'")]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("prices.json"), text).unwrap();
        let toml = dir.path().join("gateway.toml");
        let map = dir.path().join("prices.json");
        let model = deployment("small", "openai/gpt-4o", "http://127.0.0.1:1/v1");
        std::fs::write(&toml, format!("price_map = {map:?}\n") + &config("", &[model])).unwrap();
        let check = Setup::command(&["check", "--config", toml.to_str().unwrap()]);
        let ended = check.variable("MASTER_KEY", "sk-1234567890").variable("UPSTREAM_KEY", "sk-1234567890").run();
        assert!(ended.code != Some(0) && ended.stderr.contains(what), "{text}: {ended:?}");
    }
}

#[test]
fn prices_of_a_deployment_are_taken_from_both_places_of_a_yaml() {
    let prices = "input_cost_per_token: 0.000002\n      output_cost_per_token: 4e-6\n";
    for more in [format!("      {prices}"), format!("    model_info:\n      {prices}")] {
        let up = Upstream::new(Reply::whole());
        let yaml = format!(
            "model_list:\n  - model_name: small\n    litellm_params:\n      model: openai/house-model\n      api_base: {}\n      api_key: os.environ/UPSTREAM_KEY\n{more}\
            general_settings:\n  master_key: os.environ/MASTER_KEY\n",
            up.base()
        );
        let gateway = Setup::yaml(&yaml).start();
        assert_eq!(cost_of(&gateway), told("0.000044"), "{yaml}");
        // A price is not for the upstream.
        assert_eq!(up.only_request().json().get("input_cost_per_token"), None);
        let info = gateway.get("/model/info").ok().json();
        assert_eq!(info["data"][0]["model_info"]["input_cost_per_token"].as_f64(), Some(2e-6), "{info}");
    }
}

#[test]
fn a_price_that_is_none_stops_the_start() {
    for price in ["-1e-6", "\"cheap\"", "true"] {
        let dir = tempfile::tempdir().unwrap();
        let toml = dir.path().join("gateway.toml");
        let model = deployment("small", "openai/gpt-4o", "http://127.0.0.1:1/v1");
        std::fs::write(&toml, config("", &[model + &format!("info = {{ input_cost_per_token = {price} }}\n")]))
            .unwrap();
        let ended = crate::support::setup::run(&["check", "--offline", "--config", toml.to_str().unwrap()]);
        assert!(ended.code != Some(0) && ended.stderr.contains("input_cost_per_token"), "{price}: {ended:?}");
    }
}

#[test]
fn the_base_model_names_the_price_of_a_deployment_whose_name_says_nothing() {
    let gateway = serve(&Upstream::new(Reply::whole()), "openai/my-deployment", "info = { base_model = \"gpt-4o\" }\n");
    assert_eq!(cost_of(&gateway), told("0.00008"));
}

#[test]
fn models_and_groups_show_prices_and_windows() {
    let up = Upstream::new(Reply::whole());
    let dear = "info = { input_cost_per_token = 9e-6 }\n";
    let models = [
        deployment("claude", "anthropic/claude-sonnet-4-5", up.base()),
        deployment("claude", "anthropic/claude-sonnet-4-5", up.base()) + dear,
    ];
    let gateway = Gateway::start(&config("", &models));
    let info = gateway.get("/model/info").ok().json();
    let facts = &info["data"][0]["model_info"];
    for (name, value) in [
        ("input_cost_per_token", 3e-6),
        ("output_cost_per_token", 15e-6),
        ("cache_read_input_token_cost", 0.3e-6),
        ("max_input_tokens", 200_000.0),
        ("max_output_tokens", 64_000.0),
    ] {
        assert_eq!(facts[name].as_f64(), Some(value), "{name}: {facts}");
    }
    let group = gateway.get("/model_group/info").ok().json()["data"][0].clone();
    assert_eq!(
        (group["input_cost_per_token"].as_f64(), group["output_cost_per_token"].as_f64()),
        (Some(9e-6), Some(15e-6)),
        "{group}"
    );
    assert_eq!((&group["max_input_tokens"], &group["supports_reasoning"]), (&json!(200_000), &json!(true)), "{group}");
}

#[test]
fn a_wildcard_is_priced_and_listed_by_the_models_behind_it() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("house/*", "openai/*", up.base())]));
    assert_eq!(cost(&gateway.chat(HELLO.replace("small", "house/gpt-4o-mini"))), told("0.0000048"));
    assert_eq!(cost(&gateway.chat(HELLO.replace("small", "house/nobody-knows"))), None);
    let list = gateway.get("/v1/models").ok().text();
    assert!(list.contains("\"house/gpt-4o-mini\"") && !list.contains("embedding"), "{list}");
}

#[test]
fn tokens_and_costs_can_be_asked_for_without_a_call() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up, "openai/gpt-4o-mini", "");
    let ask = |path: &str, body: Value| gateway.post(path, body.to_string()).ok().json();

    let counted = ask(
        "/utils/token_counter",
        json!({"model": "small", "messages": [{"role": "user", "content": "Hello there, you."}]}),
    );
    assert!(counted["total_tokens"].as_u64().is_some_and(|n| (5..20).contains(&n)), "{counted}");
    assert_eq!((&counted["request_model"], &counted["model_used"]), (&json!("small"), &json!("gpt-4o-mini")));
    let error = gateway.post("/utils/token_counter", json!({"model": "small"}).to_string()).error(400);
    assert_eq!(error.param.as_deref(), Some("messages"));

    let body = json!({"model": "small", "input_tokens": 1000, "output_tokens": 500, "num_requests_per_day": 100});
    let told = ask("/cost/estimate", body);
    // 1000 x 0.15 and 500 x 0.6 millionths of a dollar.
    for (name, value) in [
        ("input_cost_per_request", 0.00015),
        ("output_cost_per_request", 0.0003),
        ("cost_per_request", 0.00045),
        ("daily_cost", 0.045),
    ] {
        assert_eq!(told[name].as_f64(), Some(value), "{name}: {told}");
    }
    assert!(told["monthly_cost"].is_null(), "{told}");

    let answer: Value = serde_json::from_str(WHOLE).unwrap();
    let told = ask("/spend/calculate", json!({"model": "small", "completion_response": answer}));
    assert_eq!(told["cost"].as_f64(), Some(0.0000048));
    let mut reported = answer.clone();
    reported["usage"]["cost"] = json!(0.5);
    let told = ask("/spend/calculate", json!({"model": "small", "completion_response": reported}));
    assert_eq!(told["cost"].as_f64(), Some(0.5));
    let mut batch = answer.clone();
    batch["service_tier"] = json!("batches");
    let told = ask("/spend/calculate", json!({"model": "small", "completion_response": batch}));
    assert_eq!(told["cost"].as_f64(), Some(0.0000024));
    let told = ask("/spend/calculate", json!({"model": "small", "messages": [{"role": "user", "content": "hi"}]}));
    assert!(told["cost"].as_f64().is_some_and(|cost| cost > 0.0 && cost < 0.00001), "{told}");
    assert!(up.requests().is_empty());
    for path in ["/utils/token_counter", "/cost/estimate", "/spend/calculate"] {
        gateway.call("POST", path, &[], b"{}").error(401);
        gateway.post(path, "[").error(400);
        gateway.post(path, json!({"model": "nothing", "messages": [], "input_tokens": 1}).to_string()).error(400);
    }
}
