//! Limits: what a key, its owners and all callers may use in a minute, at once, and spend.

mod budgets;
mod owners;
mod rates;
mod redis;
mod shared;
mod sorts;
mod strict;
mod table;

use crate::chat::HELLO;
use crate::keys::{chat, generate, text};
use crate::stream::HELLO as STREAM;
use crate::support::reply::text as delta;
use crate::support::{Answer, Gate, Gateway, MASTER_KEY, Reply, Upstream, config, model};
use serde_json::json;

/// 12 tokens in and 5 out, at 1 and 10 dollars for a million: 62 micro-dollars.
pub const PRICE: &str = "info = { input_cost_per_token = 0.000001, output_cost_per_token = 0.00001 }\n";

/// A gateway with one priced model and these lines in `[limits]`.
pub fn serve(limits: &str, up: &Upstream) -> Gateway {
    Gateway::start(&format!("{}{PRICE}[limits]\n{limits}\n", config("", &[model("small", up)])))
}

pub fn key_with(gateway: &Gateway, body: &serde_json::Value) -> String {
    text(&generate(gateway, body)["key"]).to_owned()
}

/// What a refusal for a rate must say, to programs and to people.
fn refused(answer: &Answer, word: &str, unit: &str) -> String {
    let error = answer.error(429);
    assert_eq!((error.kind.as_str(), error.code.as_str()), ("rate_limit_error", "429"));
    let begin = format!("Rate limit exceeded for {word}: ");
    assert!(error.message.starts_with(&begin), "{error:?}");
    assert!(error.message.contains(&format!("Limit type: {unit}. Current limit: ")), "{error:?}");
    assert_eq!(answer.head.header("rate_limit_type").as_deref(), Some(unit));
    let seconds: u64 = answer.head.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&seconds), "{seconds}");
    error.message
}

#[test]
fn requests_in_a_minute_are_limited_by_key_and_said_so() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve("", &up);
    let key = key_with(&gateway, &json!({"key_alias": "laptop", "rpm_limit": 2}));
    let first = chat(&gateway, &key);
    for (name, value) in [
        ("x-ratelimit-limit-requests", "2"),
        ("x-ratelimit-remaining-requests", "1"),
        ("x-ratelimit-api_key-limit-requests", "2"),
        ("x-ratelimit-api_key-remaining-requests", "1"),
        ("x-litellm-key-rpm-limit", "2"),
    ] {
        assert_eq!(first.head.header(name).as_deref(), Some(value), "{name}");
    }
    chat(&gateway, &key).ok();
    let answer = chat(&gateway, &key);
    let message = refused(&answer, "api_key", "requests");
    assert!(message.contains("laptop. ") && message.contains("Used: 2") && message.contains("Try again in "));
    assert_eq!(answer.head.header("x-ratelimit-remaining-requests").as_deref(), Some("0"));
    // Another key, and the master key, are under no limit, and nothing is said of one.
    let other = key_with(&gateway, &json!({}));
    assert_eq!(chat(&gateway, &other).ok().head.header("x-ratelimit-limit-requests"), None);
    gateway.chat(HELLO).ok();
    assert_eq!(up.requests().len(), 4);
}

#[test]
fn a_call_that_is_not_made_takes_nothing() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve("", &up);
    let key = key_with(&gateway, &json!({"rpm_limit": 1, "max_parallel_requests": 1}));
    for body in [HELLO.replace("small", "nowhere"), HELLO.replace("messages", "masseges")] {
        let answer = gateway.call("POST", "/v1/chat/completions", &[("x-api-key", &key)], body.as_bytes());
        answer.error(400);
    }
    // This one is refused after it was admitted: the provider does not take it.
    let body = HELLO.replace('{', "{\"top_k\":5,\"api_base\":\"x\",");
    gateway.call("POST", "/v1/chat/completions", &[("x-api-key", &key)], body.as_bytes()).error(400);
    chat(&gateway, &key).ok();
    refused(&chat(&gateway, &key), "api_key", "requests");
}

#[test]
fn tokens_are_counted_as_they_were_used_in_streams_too() {
    let up = Upstream::script(|seen| match seen.json()["stream"] == true {
        true => Reply::texts(&["Hello"]),
        false => Reply::whole(),
    });
    let gateway = serve("", &up);
    let key = key_with(&gateway, &json!({"tpm_limit": 1000}));
    let left = |answer: &Answer| answer.head.header("x-ratelimit-remaining-tokens").unwrap().parse::<i64>().unwrap();
    let first = left(&chat(&gateway, &key));
    // The second call expects what the first one used; both, and a stream between them, count 17 tokens each.
    let call = |body: &str| gateway.call("POST", "/v1/chat/completions", &[("x-api-key", &key)], body.as_bytes());
    let second = left(&call(HELLO));
    call(STREAM);
    let third = left(&call(HELLO));
    assert!(first < second, "the reservation of the first call stays: {first} {second}");
    assert_eq!(second - third, 2 * 17);
    let small = key_with(&gateway, &json!({"tpm_limit": 20}));
    chat(&gateway, &small).ok();
    let message = refused(&chat(&gateway, &small), "api_key", "tokens");
    assert!(message.contains("Current limit: 20, Remaining: 3, Used: 17"), "{message}");
}

#[test]
fn calls_at_the_same_time_are_limited_and_their_places_come_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let up = Upstream::script(move |_| Reply::stream().send(&delta("a")).wait(&held).end());
    let gateway = serve("", &up);
    let key = key_with(&gateway, &json!({"max_parallel_requests": 1}));
    let open = || {
        let mut client = gateway.client();
        client.request("POST", "/v1/chat/completions", &[("x-api-key", &key)], STREAM.as_bytes());
        client
    };
    let mut first = open();
    first.head();
    first.content().unwrap();
    refused(&open().answer(), "api_key", "max_parallel_requests");
    // A caller who leaves gives its place back.
    drop(first);
    gateway.wait_calls(2);
    let mut second = open();
    second.head();
    second.content().unwrap();
    gate.open();
    second.contents();
    gateway.wait_calls(3);
    open().answer();
}

#[test]
fn users_teams_members_and_all_callers_have_limits_too() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve("rpm = 6\n", &up);
    gateway.post("/user/new", json!({"user_id": "ann", "rpm_limit": 1, "auto_create_key": false}).to_string()).ok();
    gateway.post("/user/new", json!({"user_id": "bob", "auto_create_key": false}).to_string()).ok();
    gateway.post("/team/new", json!({"team_id": "house", "rpm_limit": 3, "team_member_rpm_limit": 2}).to_string()).ok();
    let member = json!({"team_id": "house", "member": {"role": "user", "user_id": "bob"}});
    gateway.post("/team/member_add", member.to_string()).ok();
    let of_ann = key_with(&gateway, &json!({"user_id": "ann"}));
    chat(&gateway, &of_ann).ok();
    assert!(refused(&chat(&gateway, &of_ann), "user", "requests").contains("user: ann."));
    let of_bob = key_with(&gateway, &json!({"user_id": "bob", "team_id": "house"}));
    chat(&gateway, &of_bob).ok();
    chat(&gateway, &of_bob).ok();
    assert!(refused(&chat(&gateway, &of_bob), "team_member", "requests").contains("house:bob"));
    let of_team = key_with(&gateway, &json!({"team_id": "house"}));
    chat(&gateway, &of_team).ok();
    refused(&chat(&gateway, &of_team), "team", "requests");
    gateway.chat(HELLO).ok();
    gateway.chat(HELLO).ok();
    assert!(refused(&gateway.chat(HELLO), "gateway", "requests").contains("Current limit: 6"));
}

#[test]
fn a_model_has_limits_of_its_own_by_key_and_by_team() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up), model("large", &up)]));
    let call = |key: &str, model: &str| {
        let body = HELLO.replace("small", model);
        gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], body.as_bytes())
    };
    let key = key_with(&gateway, &json!({"model_rpm_limit": {"large": 1}}));
    call(&key, "large").ok();
    refused(&call(&key, "large"), "model_per_key", "requests");
    call(&key, "small").ok();
    let team = json!({"team_id": "house", "model_rpm_limit": {"large": 1}});
    gateway.post("/team/new", team.to_string()).ok();
    let key = key_with(&gateway, &json!({"team_id": "house"}));
    call(&key, "large").ok();
    assert!(refused(&call(&key, "large"), "model_per_team", "requests").contains("house:large"));
    call(&key, "small").ok();
}

#[test]
fn messages_is_limited_in_its_own_words() {
    let gateway = serve("", &Upstream::new(Reply::whole()));
    let key = key_with(&gateway, &json!({"rpm_limit": 1}));
    let body = r#"{"model":"small","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let call = || gateway.call("POST", "/v1/messages", &[("x-api-key", &key)], body.as_bytes());
    assert_eq!(call().status, 200);
    let answer = call();
    assert_eq!(answer.status, 429);
    assert_eq!(
        (&answer.json()["type"], &answer.json()["error"]["type"]),
        (&json!("error"), &json!("rate_limit_error"))
    );
    assert!(answer.head.header("retry-after").is_some());
}

#[test]
fn the_log_has_one_line_for_a_refusal() {
    let gateway = serve("rpm = 0\n", &Upstream::new(Reply::whole()));
    let answer = gateway.chat(HELLO);
    assert!(answer.error(429).message.contains("It admits nothing"));
    assert_eq!(answer.head.header("x-should-retry").as_deref(), Some("false"));
    let call = gateway.only_call();
    assert_eq!((&call["status"], &call["error_class"]), (&json!(429), &json!("rate_limited")), "{call}");
    assert!(!gateway.logs().contains(MASTER_KEY));
}
