//! What limits promise (`rpm_limit_type`), limits of models that are made at run time, and those of deployments beside
//! the rest of routing.

use super::budgets::over;
use super::{PRICE, key_with, refused};
use crate::chat::HELLO;
use crate::keys::chat;
use crate::stream::HELLO as STREAM;
use crate::support::reply::text as delta;
use crate::support::{Gate, Gateway, MASTER_KEY, Reply, UPSTREAM_KEY, Upstream, config, model};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_dynamic_limit_holds_while_the_model_fails() {
    let seen = AtomicUsize::new(0);
    let up = Upstream::script(move |_| match seen.fetch_add(1, Ordering::Relaxed) {
        3 | 4 => Reply::error(500, "server_error", None, "down"),
        _ => Reply::whole(),
    });
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let limits = json!({"rpm_limit": 1, "rpm_limit_type": "dynamic", "tpm_limit": 1, "tpm_limit_type": "dynamic"});
    let key = key_with(&gateway, &limits);
    for _ in 0..3 {
        assert_eq!(chat(&gateway, &key).ok().head.header("x-ratelimit-limit-requests"), None);
    }
    chat(&gateway, &key).error(500);
    chat(&gateway, &key).error(500);
    let first = chat(&gateway, &key).ok();
    assert_eq!(first.head.header("x-ratelimit-limit-requests").as_deref(), Some("1"));
    refused(&chat(&gateway, &key), "api_key", "requests");
    // A limit that says nothing of it holds at any time.
    let key = key_with(&gateway, &json!({"rpm_limit": 1, "rpm_limit_type": "best_effort_throughput"}));
    chat(&gateway, &key).ok();
    refused(&chat(&gateway, &key), "api_key", "requests");
}

#[test]
fn what_is_guaranteed_is_not_promised_twice() {
    let gateway = Gateway::start(&config("", &[model("small", &Upstream::new(Reply::whole()))]));
    gateway.post("/team/new", json!({"team_id": "house", "rpm_limit": 10, "tpm_limit": 100}).to_string()).ok();
    let key = |rpm: u64, sort: &str| {
        let body = json!({"team_id": "house", "rpm_limit": rpm, "rpm_limit_type": sort});
        gateway.post("/key/generate", body.to_string())
    };
    let made = key(6, "guaranteed_throughput").ok().json();
    let error = key(5, "guaranteed_throughput").error(400);
    assert!(error.message.contains("Allocated RPM limit=6 + Key RPM limit=5 is greater than team RPM limit=10"));
    assert_eq!(error.param.as_deref(), Some("rpm_limit"));
    key(4, "guaranteed_throughput").ok();
    // Others may hope for what is there.
    key(5, "best_effort_throughput").ok();
    let error = key(1, "garanteed").error(400);
    assert!(error.message.contains("guaranteed_throughput, best_effort_throughput, dynamic"), "{error:?}");
    let update = json!({"key": made["key"], "rpm_limit": 7});
    gateway.post("/key/update", update.to_string()).error(400);
    gateway.post("/key/update", json!({"key": made["key"], "key_alias": "a"}).to_string()).ok();
}

#[test]
fn the_tokens_that_count_are_those_that_are_named() {
    for (counted, used) in [("input", 12), ("output", 5), ("total", 17)] {
        let gateway = super::serve(&format!("tokens_counted = \"{counted}\"\n"), &Upstream::new(Reply::whole()));
        let key = key_with(&gateway, &json!({"tpm_limit": 1000}));
        chat(&gateway, &key).ok();
        // By now it is known what an answer of this model uses.
        let left = || {
            let answer = chat(&gateway, &key).ok();
            answer.head.header("x-ratelimit-remaining-tokens").unwrap().parse::<i64>().unwrap()
        };
        assert_eq!(left() - left(), used, "{counted}");
    }
}

#[test]
fn a_stream_counts_while_it_runs() {
    let open = Reply::stream();
    let long = (0..600).fold(open, |reply, _| reply.send(&delta("a ")));
    let up = Upstream::script(move |seen| match seen.json()["stream"] == true {
        true => long.clone().then(crate::support::Step::Hold),
        false => Reply::whole(),
    });
    let gateway = super::serve("", &up);
    let key = key_with(&gateway, &json!({"tpm_limit": 400}));
    let with = |body: &str| body.replacen('{', "{\"max_tokens\":50,", 1);
    let call = |body: &str| {
        let mut client = gateway.client();
        client.request("POST", "/v1/chat/completions", &[("x-api-key", &key)], with(body).as_bytes());
        client
    };
    let mut stream = call(STREAM);
    stream.head();
    for _ in 0..600 {
        stream.content().unwrap();
    }
    // What both are expected to use would fit.
    refused(&call(HELLO).answer(), "api_key", "tokens");
}

#[test]
fn keys_that_say_nothing_have_the_usual_number_of_places() {
    let gate = Gate::new();
    let held = gate.clone();
    let up = Upstream::script(move |_| Reply::stream().send(&delta("a")).wait(&held).end());
    let gateway = super::serve("key_max_parallel_requests = 1\n", &up);
    let open = |key: &str| {
        let mut client = gateway.client();
        client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], STREAM.as_bytes());
        client
    };
    let key = key_with(&gateway, &json!({}));
    let mut first = open(&key);
    first.head();
    refused(&open(&key).answer(), "api_key", "max_parallel_requests");
    let wide = key_with(&gateway, &json!({"max_parallel_requests": 2}));
    let (mut one, mut two) = (open(&wide), open(&wide));
    assert_eq!((one.head().status(), two.head().status()), (200, 200));
    gate.open();
}

#[test]
fn limits_that_cannot_be_read_are_refused_and_not_forgotten() {
    let gateway = Gateway::start(&config("", &[model("small", &Upstream::new(Reply::whole()))]));
    let bad = [
        json!({"budget_limits": 5}),
        json!({"budget_limits": [{"budget_duration": "1y", "max_budget": 1}]}),
        json!({"model_max_budget": {"small": "much"}}),
        json!({"model_rpm_limit": {"small": -4}}),
    ];
    for body in bad {
        let param = body.as_object().unwrap().keys().next().cloned();
        for path in ["/key/generate", "/team/new"] {
            assert_eq!(gateway.post(path, body.to_string()).error(400).param, param, "{path} {body}");
        }
    }
    gateway.post("/key/generate", json!({"temp_budget_increase": 5}).to_string()).error(400);
}

#[test]
fn limits_of_a_model_that_is_made_at_run_time_are_applied() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let with = |id: &str, limits: serde_json::Value| {
        let params = json!({"model": "openai/small-up", "api_base": up.base(), "api_key": UPSTREAM_KEY,
            "input_cost_per_token": 0.000_001, "output_cost_per_token": 0.000_01});
        json!({"model_name": id, "model_info": {"id": id}, "litellm_params": params, "limits": limits}).to_string()
    };
    let call = |name: &str| gateway.chat(HELLO.replace("\"small\"", &format!("\"{name}\"")));
    gateway.post("/model/new", with("rated", json!({"rpm": 1}))).ok();
    call("rated").ok();
    let message = refused(&call("rated"), "deployment", "requests");
    assert!(message.contains("deployment: rated. "), "{message}");
    gateway.post("/model/new", with("paid", json!({"max_budget": 0.000_05, "budget_duration": "30d"}))).ok();
    call("paid").ok();
    over(&call("paid"), 422, "deployment: paid for 30d");
    // More of it, and other limits stay.
    gateway.post("/model/update", json!({"model_info": {"id": "paid"}, "limits": {"max_budget": 1}}).to_string()).ok();
    call("paid").ok();
    for limits in
        [json!({"rmp": 1}), json!({"max_budget": -1}), json!({"budget_duration": "x", "max_budget": 1}), json!(5)]
    {
        gateway.post("/model/new", with("broken", limits)).error(400);
    }
    // LiteLLM's own members for it.
    let mut body: serde_json::Value = serde_json::from_str(&with("params", json!({}))).unwrap();
    body["litellm_params"]["max_budget"] = json!(0.000_05);
    gateway.post("/model/new", body.to_string()).ok();
    call("params").ok();
    over(&call("params"), 422, "deployment: params");
}

#[test]
fn a_call_counts_once_at_its_deployment_and_waits_in_the_queue_for_it() {
    let up = Upstream::new(Reply::whole());
    let all = |own: &str, routing: &str| Gateway::start(&(config("", &[model("small", &up) + PRICE + own]) + routing));
    // Weights of routing that are limits there do not count a second time.
    let gateway = all("rpm = 100\nlimits = { rpm = 4, tpm = 1000 }\n", "[routing]\npre_call_checks = true\n");
    (0..4).for_each(|_| drop(gateway.chat(HELLO).ok()));
    let message = refused(&gateway.chat(HELLO), "deployment", "requests");
    assert!(message.contains("Current limit: 4, Remaining: 0, Used: 4, Requested: 1."), "{message}");

    let gate = Gate::new();
    let held = gate.clone();
    let up = Upstream::script(move |seen| match seen.json()["stream"] == true {
        true => Reply::stream().send(&delta("a")).wait(&held).end(),
        false => Reply::whole(),
    });
    let queue = "[routing.queue]\nlength = 3\ntimeout = \"30s\"\n";
    let one = model("small", &up) + "limits = { max_parallel_requests = 1 }\n";
    let gateway = Gateway::start(&(config("", &[one]) + queue));
    let open = |body: &str| {
        let mut client = gateway.client();
        client.request("POST", "/v1/chat/completions", &[("x-api-key", MASTER_KEY)], body.as_bytes());
        client
    };
    let mut first = open(STREAM);
    first.head();
    first.content().unwrap();
    let mut second = open(HELLO);
    while gateway.get("/health/latest").ok().json()["queued"]["small"] != 1 {
        crate::support::feed::pass(std::time::Duration::from_millis(10));
    }
    assert_eq!(up.requests().len(), 1);
    gate.open();
    first.contents();
    second.answer().ok();
}

#[test]
fn the_limit_that_has_room_first_is_the_one_that_is_told() {
    let (one, two) = (Upstream::new(Reply::whole()), Upstream::new(Reply::whole()));
    let with = |name: &str, up: &Upstream| model("small", up) + &format!("id = \"{name}\"\nlimits = {{ rpm = 1 }}\n");
    let gateway = Gateway::start(&config("", &[with("one", &one), with("two", &two)]));
    gateway.chat(HELLO).ok();
    gateway.chat(HELLO).ok();
    let first = if one.requests().len() == 1 && two.requests().len() == 1 { "deployment: " } else { panic!("uneven") };
    assert!(refused(&gateway.chat(HELLO), "deployment", "requests").contains(first));
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}
