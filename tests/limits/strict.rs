//! Budgets that are never to be exceeded, and how far the others are.

use super::budgets::over;
use super::{PRICE, key_with};
use crate::keys::generate;
use crate::support::feed::{PATIENCE, pass};
use crate::support::postgres::Postgres;
use crate::support::reply::text as delta;
use crate::support::{Gateway, Reply, Setup, Step, Upstream, config, model};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A streamed call of 12 tokens in and 5 out: 62 micro-dollars.
pub const CALL: &str = r#"{"model":"small","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
pub const COST: f64 = 0.000_062;

pub fn toml(database: &str, mode: &str, up: &Upstream) -> String {
    format!("{database}{}{PRICE}[limits]\nbudget_mode = \"{mode}\"\n", config("", &[model("small", up)]))
}

/// What a key has spent, once everything is booked that its answered calls have cost.
pub fn spent(gateway: &Gateway, token: &str, calls: usize) -> f64 {
    let end = Instant::now() + PATIENCE;
    loop {
        let spent = gateway.get(&format!("/key/info?key={token}")).ok().json()["info"]["spend"].as_f64().unwrap();
        if spent > (calls as f64 - 0.5) * COST || Instant::now() > end {
            return spent;
        }
        pass(Duration::from_millis(50));
    }
}

/// So many streamed calls at once; how many were answered to their end. The others must be refused for the budget.
pub fn storm(gateways: &[&Gateway], key: &str, calls: usize) -> usize {
    storm_on("api_key", gateways, key, calls)
}

/// The same for the budget of this owner.
pub fn storm_on(owner: &str, gateways: &[&Gateway], key: &str, calls: usize) -> usize {
    storm_as(owner, gateways, &[("x-api-key", key)], calls)
}

/// The same with these headers.
pub fn storm_as(owner: &str, gateways: &[&Gateway], headers: &[(&str, &str)], calls: usize) -> usize {
    std::thread::scope(|scope| {
        let call = |n: usize| {
            let mut client = gateways[n % gateways.len()].client();
            client.request("POST", "/v1/chat/completions", headers, CALL.as_bytes());
            let answer = client.answer();
            let is_whole = answer.status == 200 && answer.text().ends_with("data: [DONE]\n\n");
            match answer.status {
                200 if is_whole => (),
                // On a busy machine the stream has begun before anybody knows.
                200 => assert!(answer.text().contains("budget_exceeded"), "{}", answer.text()),
                _ => drop(over(&answer, 422, owner)),
            }
            usize::from(is_whole)
        };
        let threads: Vec<_> = (0..calls).map(|n| scope.spawn(move || call(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn on_both(test: impl Fn(&str)) {
    test("");
    match Postgres::start() {
        Some(postgres) => test(&format!("database_url = \"{}\"\n", postgres.url())),
        None => eprintln!("SKIPPED on Postgres: its server is not installed"),
    }
}

#[test]
fn a_strict_budget_is_never_exceeded_whoever_calls_at_once() {
    on_both(|database| {
        let up = Upstream::new(Reply::texts(&["Hello"]));
        let gateway = Gateway::start(&toml(database, "strict", &up));
        let made = generate(&gateway, &json!({"max_budget": 10.0 * COST}));
        let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
        let mut answered = 0;
        for _ in 0..3 {
            answered += storm(&[&gateway], key, 64);
        }
        let spent = spent(&gateway, token, answered);
        eprintln!("strict: {answered} of 192 calls answered, {spent} of {} spent", 10.0 * COST);
        assert!(spent <= 10.0 * COST && answered >= 7, "{answered} {spent}");
        assert!((spent - answered as f64 * COST).abs() < 1e-9, "{answered} {spent}");
    });
}

#[test]
fn a_strict_budget_of_a_deployment_or_a_provider_is_never_exceeded_either() {
    let room = 10.0 * COST;
    for (owner, own, of_all) in [
        ("deployment", format!("limits = {{ max_budget = {room} }}\n"), String::new()),
        ("provider", String::new(), format!("[limits.providers.openai]\nmax_budget = {room}\n")),
    ] {
        let up = Upstream::new(Reply::texts(&["Hello"]));
        let models = config("", &[model("small", &up) + PRICE + &own]);
        let gateway = Gateway::start(&format!("{models}[limits]\nbudget_mode = \"strict\"\n{of_all}"));
        let made = generate(&gateway, &json!({}));
        let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
        let mut answered = 0;
        for _ in 0..3 {
            answered += storm_on(owner, &[&gateway], key, 64);
        }
        let spent = spent(&gateway, token, answered);
        assert!(spent <= room && answered >= 7, "{owner}: {answered} {spent}");
        // The limit of an answer that has none is what is left, and nobody asks beyond that.
        let body = r#"{"model":"small","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}]}"#;
        let call = |body: &str| gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], body.as_bytes());
        assert!(call(body).error(400).message.contains("strict"));
    }
    let up = Upstream::new(Reply::whole());
    let own = "limits = { max_budget = 0.0005 }\n";
    let models = config("", &[model("small", &up) + PRICE + own]);
    let gateway = Gateway::start(&format!("{models}[limits]\nbudget_mode = \"strict\"\n"));
    let body = r#"{"model":"small","max_tokens":100000,"messages":[{"role":"user","content":"hi"}]}"#;
    gateway.chat(body).ok();
    let sent: Value = up.only_request().json();
    let limit = sent["max_tokens"].as_u64().or(sent["max_completion_tokens"].as_u64()).unwrap();
    assert_eq!(limit, (500 - body.len() as u64) / 10, "{sent}");
}

#[test]
fn a_compatible_budget_is_exceeded_by_the_calls_under_way_at_most() {
    on_both(|database| {
        let up = Upstream::new(Reply::texts(&["Hello"]));
        let gateway = Gateway::start(&toml(database, "compatible", &up));
        let made = generate(&gateway, &json!({"max_budget": 10.0 * COST}));
        let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
        let answered = storm(&[&gateway], key, 64) + storm(&[&gateway], key, 64);
        let spent = spent(&gateway, token, answered);
        eprintln!("compatible: {answered} of 128 calls answered, {spent} of {} spent", 10.0 * COST);
        // Each call sets more aside than it costs here, so that one call at most goes beyond the budget.
        assert!(spent <= 11.0 * COST && answered >= 10, "{answered} {spent}");
    });
}

#[test]
fn the_limit_of_an_answer_is_set_to_what_the_budget_affords() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&toml("", "strict", &up));
    let key = key_with(&gateway, &json!({"max_budget": 0.000_5}));
    let call = |body: &str| gateway.call("POST", "/v1/chat/completions", &[("x-api-key", &key)], body.as_bytes());
    let body = r#"{"model":"small","max_tokens":100000,"messages":[{"role":"user","content":"hi"}]}"#;
    call(body).ok();
    let sent: Value = up.only_request().json();
    let limit = sent["max_tokens"].as_u64().or(sent["max_completion_tokens"].as_u64()).unwrap();
    // A byte of the prompt may be a token of a micro-dollar; what is left buys tokens at ten.
    assert_eq!(limit, (500 - body.len() as u64) / 10, "{sent}");
    call(r#"{"model":"small","messages":[{"role":"user","content":"hi"}]}"#).ok();
    let sent: Value = up.requests()[1].json();
    assert!(sent["max_tokens"].is_u64() || sent["max_completion_tokens"].is_u64(), "{sent}");
}

#[test]
fn what_has_no_bound_is_refused_with_a_reason() {
    let up = Upstream::new(Reply::whole());
    let toml = toml("", "strict", &up).replace("[limits]", &format!("{}[limits]", model("free", &up)));
    let gateway = Gateway::start(&toml);
    let key = key_with(&gateway, &json!({"max_budget": 1.0}));
    let call =
        |key: &str, body: &str| gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], body.as_bytes());
    let picture = r#"{"model":"small","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}]}"#;
    let error = call(&key, picture).error(400);
    assert!(error.message.contains("strict") && error.param.as_deref() == Some("messages"), "{error:?}");
    let unpriced = r#"{"model":"free","messages":[{"role":"user","content":"hi"}]}"#;
    let error = call(&key, unpriced).error(400);
    assert!(error.message.contains("price") && error.param.as_deref() == Some("model"), "{error:?}");
    // A key is strict by itself where the others are not.
    let lax = Gateway::start(&self::toml("", "compatible", &up));
    let own = key_with(&lax, &json!({"max_budget": 1.0, "budget_mode": "strict"}));
    let asked = lax.call("POST", "/v1/chat/completions", &[("x-api-key", &own)], picture.as_bytes());
    assert!(asked.error(400).message.contains("strict"));
    // The same calls of a key that says otherwise, and of one without a budget.
    let other = key_with(&gateway, &json!({"max_budget": 1.0, "budget_mode": "compatible"}));
    call(&other, picture).ok();
    call(&key_with(&gateway, &json!({})), unpriced).ok();
}

#[test]
fn a_call_that_is_cut_off_by_a_kill_is_charged_what_it_had_set_aside() {
    let up = Upstream::new(Reply::stream().send(&delta("a")).then(Step::Hold));
    let state = tempfile::tempdir().unwrap();
    let start = || Setup::toml(&toml("", "strict", &up)).state(state.path()).start();
    let mut gateway = start();
    let made = generate(&gateway, &json!({"max_budget": 0.000_25}));
    let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    let mut client = gateway.client();
    client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], CALL.as_bytes());
    client.head();
    client.content().unwrap();
    gateway.signal("KILL");
    gateway.wait_exit();
    let gateway = start();
    let bound = (CALL.len() as f64 + 50.0) * 1e-6;
    let spent = spent(&gateway, token, (bound / COST) as usize);
    assert!((spent - bound).abs() < 1e-9, "{spent} {bound}");
    // What is left is not enough for another one of that size.
    assert!(over(&storm_one(&gateway, key), 422, "api_key").contains("This one may cost up to"));
}

fn storm_one(gateway: &Gateway, key: &str) -> crate::support::Answer {
    let mut client = gateway.client();
    client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], CALL.as_bytes());
    client.answer()
}
