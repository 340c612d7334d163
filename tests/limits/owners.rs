//! Limits of deployments, providers and end users; soft budgets and who is told of them.

use super::budgets::over;
use super::{PRICE, key_with, refused, serve};
use crate::chat::HELLO;
use crate::keys::chat;
use crate::support::{Gateway, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

fn end_user(gateway: &Gateway, user: &str) -> crate::support::Answer {
    gateway.chat(HELLO.replace('{', &format!("{{\"user\":\"{user}\",")).replacen(
        &format!("[{{\"user\":\"{user}\","),
        "[{",
        1,
    ))
}

/// Calls as long as somebody serves them; those that the first upstream got, and all.
fn served(first: &str, second: &str, limits: &str) -> (usize, usize) {
    let (one, two) = (Upstream::new(Reply::whole()), Upstream::new(Reply::whole()));
    let first = model("small", &one) + PRICE + first;
    let second = model("small", &two).replace("openai/", second) + PRICE;
    let gateway = Gateway::start(&(config("", &[first, second]) + limits));
    for _ in 0..16 {
        gateway.chat(HELLO).ok();
    }
    (one.requests().len(), two.requests().len())
}

#[test]
fn a_spent_deployment_or_provider_is_passed_over() {
    // Two calls cost more than the budget, whichever way the others go.
    let (one, two) = served("limits = { max_budget = 0.0001 }\n", "openai/", "");
    assert!(one <= 2 && one + two == 16, "{one} {two}");
    let budget = "[limits.providers.openai]\nmax_budget = 0.0001\nbudget_duration = \"1d\"\n";
    let (one, two) = served("", "groq/", budget);
    assert!(one <= 2 && one + two == 16, "{one} {two}");
}

#[test]
fn where_nobody_has_money_left_the_budget_is_told() {
    let up = Upstream::new(Reply::whole());
    let spent = model("small", &up) + PRICE + "limits = { max_budget = 0 }\n";
    let gateway = Gateway::start(&config("", &[spent]));
    over(&gateway.chat(HELLO), 422, "deployment: ");
    assert!(up.requests().is_empty());
}

#[test]
fn end_users_have_limits_by_name_and_a_budget_for_each() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve("end_user_max_budget = 0.0001\n", &up);
    let new = |body: Value| drop(gateway.post("/customer/new", body.to_string()).ok());
    new(json!({"user_id": "ann", "rpm_limit": 1, "max_budget": 1.0}));
    end_user(&gateway, "ann").ok();
    assert!(refused(&end_user(&gateway, "ann"), "end_user", "requests").contains("end_user: ann."));
    end_user(&gateway, "bob").ok();
    end_user(&gateway, "bob").ok();
    over(&end_user(&gateway, "bob"), 422, "end_user: bob");
    end_user(&gateway, "cat").ok();
}

/// A receiver of webhooks, which hands over the bodies.
fn receiver() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            if tell.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (format!("http://{address}/hook?secret=4711"), told)
}

#[test]
fn a_soft_budget_is_told_and_refuses_nobody() {
    let up = Upstream::new(Reply::whole());
    let (url, told) = receiver();
    let toml = format!("{}{PRICE}[limits]\nwebhook = \"env:HOOK\"\n", config("", &[model("small", &up)]));
    let gateway = Setup::toml(&toml).secret("HOOK", &url).start();
    let key = key_with(&gateway, &json!({"key_alias": "laptop", "soft_budget": 0.000_1, "max_budget": 1.0}));
    let reached = |answer: &crate::support::Answer| answer.head.header("x-gateway-soft-budget-reached");
    for _ in 0..2 {
        assert_eq!(reached(&chat(&gateway, &key).ok()), None);
    }
    let third = chat(&gateway, &key);
    assert_eq!(reached(&third).as_deref(), Some("api_key"));
    assert_eq!(third.head.header("x-litellm-key-spend").as_deref(), Some("0.000124"));
    assert_eq!(third.head.header("x-litellm-key-max-budget").as_deref(), Some("1"));
    let body = told.recv_timeout(crate::support::feed::PATIENCE).unwrap();
    assert_eq!((&body["event"], &body["event_group"]), (&json!("soft_budget_crossed"), &json!("key")));
    assert_eq!((body["spend"].as_f64(), body["soft_budget"].as_f64()), (Some(0.000_124), Some(0.000_1)));
    gateway.wait_log("the soft budget", |line| line.contains("soft budget") && line.contains("0.000124"));
    assert!(!gateway.logs().contains("4711"), "the address of the webhook is a secret");
    // Once for each window, not with each call.
    assert!(told.try_recv().is_err());
}
