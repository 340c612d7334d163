//! Prompts and answers, where the operator wants them kept.

use crate::chat::HELLO;
use crate::keys::{generate, get, post, text};
use crate::support::{Answer, Gateway, MASTER_KEY, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const KEEP: &str = "[ledger]\nstore_prompts = true\nprompt_limit = \"2KiB\"\n";

fn serve(reply: Reply, ledger: &str) -> Gateway {
    Gateway::start(&(config("", &[model("small", &Upstream::new(reply))]) + ledger))
}

fn ask(gateway: &Gateway, headers: &[(&str, &str)], body: &Value) -> Answer {
    let bearer = format!("Bearer {MASTER_KEY}");
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("Authorization", bearer.as_str())]).collect();
    gateway.call("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes())
}

/// The only row of the ledger, and what is kept of its call.
fn only_row(gateway: &Gateway) -> (Value, Value) {
    let begun = Instant::now();
    loop {
        let rows = gateway.get("/spend/logs").ok().json();
        if let Some(row) = rows.as_array().and_then(|rows| rows.first()) {
            let id = text(&row["request_id"]);
            return (row.clone(), gateway.get(&format!("/spend/logs/ui/{id}")).ok().json());
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the call has no row");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nothing() -> Value {
    json!({"messages": {}, "proxy_server_request": {}, "response": {}})
}

#[test]
fn nothing_is_kept_unless_it_is_wanted() {
    let gateway = serve(Reply::whole(), "");
    gateway.chat(HELLO).ok();
    assert_eq!(only_row(&gateway).1, nothing());
}

#[test]
fn the_request_and_the_answer_are_kept_as_they_were() {
    let gateway = serve(Reply::whole(), KEEP);
    let answer = gateway.chat(HELLO).ok().json();
    let kept = only_row(&gateway).1;
    let asked: Value = serde_json::from_str(HELLO).unwrap();
    assert_eq!((&kept["proxy_server_request"], &kept["messages"]), (&asked, &asked["messages"]));
    assert_eq!(kept["response"], answer);
    assert!(!gateway.logs().contains(text(&asked["messages"][0]["content"])), "the log repeats a prompt");
}

#[test]
fn a_user_sees_what_he_said_himself_and_nobody_else() {
    let gateway = serve(Reply::whole(), KEEP);
    let user = |id: &str| {
        let body = json!({"user_id": id, "user_role": "internal_user"});
        let made = gateway.post("/user/new", body.to_string()).ok().json();
        text(&made["key"]).to_owned()
    };
    let (ann, bob) = (user("ann"), user("bob"));
    let hello: Value = serde_json::from_str(HELLO).unwrap();
    post(&gateway, &ann, "/v1/chat/completions", &hello).ok();
    let (row, kept) = only_row(&gateway);
    let path = format!("/spend/logs/ui/{}", text(&row["request_id"]));
    assert_eq!(get(&gateway, &ann, &path).ok().json(), kept);
    get(&gateway, &bob, &path).error(403);
    let nobodys = generate(&gateway, &json!({}));
    get(&gateway, text(&nobodys["key"]), &path).error(403);
}

#[test]
fn a_stream_is_kept_as_the_answer_that_it_adds_up_to() {
    let gateway = serve(Reply::texts(&["Hel", "lo", "!"]), KEEP);
    let mut client = gateway.open_chat(
        json!({"model": "small", "stream": true, "messages": [{"role": "user", "content": "hi"}]}).to_string(),
    );
    client.head();
    assert!(client.contents().concat().contains("[DONE]"));
    let response = &only_row(&gateway).1["response"];
    assert_eq!(response["object"], "chat.completion");
    assert_eq!(response["choices"][0]["message"]["content"], "Hello!", "{response}");
    assert_eq!(response["choices"][0]["finish_reason"], "stop");
}

#[test]
fn what_is_large_is_cut_and_what_nobody_wants_kept_is_not() {
    let long = json!({"model": "small", "messages": [{"role": "user", "content": "x".repeat(100_000)}]});
    let gateway = serve(Reply::whole(), KEEP);
    ask(&gateway, &[], &long).ok();
    let kept = only_row(&gateway).1["proxy_server_request"].to_string();
    assert!(kept.len() <= 2048 && kept.contains("more bytes"), "{kept}");
    let hello = json!({"model": "small", "messages": [{"role": "user", "content": "hi"}]});
    let gateway = serve(Reply::whole(), KEEP);
    ask(&gateway, &[("x-litellm-enable-message-redaction", "true")], &hello).ok();
    assert_eq!(only_row(&gateway).1, nothing());
    let gateway = serve(Reply::whole(), KEEP);
    let mut silent = hello.clone();
    silent["no-log"] = true.into();
    ask(&gateway, &[], &silent).ok();
    assert_eq!(only_row(&gateway).1, nothing());
    let gateway = serve(Reply::whole(), KEEP);
    let key = generate(&gateway, &json!({"metadata": {"turn_off_message_logging": true}}));
    post(&gateway, text(&key["key"]), "/v1/chat/completions", &hello).ok();
    assert_eq!(only_row(&gateway).1, nothing());
}

#[test]
fn a_file_of_litellm_may_ask_for_it_and_age_takes_it_away() {
    let up = Upstream::new(Reply::whole());
    let yaml = format!(
        "model_list:\n- model_name: small\n  litellm_params: {{model: openai/small-up, api_base: {}, api_key: os.environ/UPSTREAM_KEY}}\n\
         general_settings:\n  master_key: {MASTER_KEY}\n  store_prompts_in_spend_logs: true\n",
        up.base()
    );
    let gateway = Setup::yaml(&yaml).start();
    gateway.chat(HELLO).ok();
    assert_eq!(only_row(&gateway).1["response"]["object"], "chat.completion");
    let brief = format!("{KEEP}prompt_retention = \"1s\"\nretention_interval = \"1s\"\n");
    let gateway = serve(Reply::whole(), &brief);
    gateway.chat(HELLO).ok();
    let (row, _) = only_row(&gateway);
    let begun = Instant::now();
    let path = format!("/spend/logs/ui/{}", text(&row["request_id"]));
    while gateway.get(&path).ok().json() != nothing() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the prompt does not go");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The row and what it cost stay.
    assert_eq!(gateway.get("/spend/logs").ok().json().as_array().map(Vec::len), Some(1));
}
