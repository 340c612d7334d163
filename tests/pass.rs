//! Paths that lead to other APIs.

use crate::support::{Gate, Gateway, Reply, Setup, Upstream, authorization, config};
use serde_json::Value;

fn anyone(reply: Reply) -> Upstream {
    Upstream::new(reply).rules(|rules| rules.is_free = true)
}

fn to(up: &Upstream, more: &str) -> String {
    let origin = up.origin();
    let entry = format!(
        "[[pass_through]]\npath = \"/weather\"\ntarget = \"{origin}/api\"\nheaders = {{ Authorization = \"Token env:UPSTREAM_KEY\", x-kind = \"a\" }}\n{more}\n"
    );
    config("", &[entry])
}

fn row(gateway: &Gateway) -> Value {
    let line = gateway.wait_log("a passed request", |line| line.contains("passed on") || line.contains("passing on"));
    serde_json::from_str::<Value>(&line).unwrap()["fields"].clone()
}

#[test]
fn a_request_goes_on_as_it_came_but_for_keys() {
    let answer = Reply::answer(
        203,
        &[("Content-Type", "text/html"), ("Set-Cookie", "a=b"), ("x-own", "yes")],
        b"<script>alert(1)</script>",
    );
    let up = anyone(answer);
    let gateway = Gateway::start(&to(&up, "include_subpath = true\ncost_per_request = 0.25"));
    let (name, key) = authorization();
    let headers =
        [(name, key.as_str()), ("x-api-key", "sk-other"), ("Cookie", "c=d"), ("x-mine", "1"), ("Content-Type", "a/b")];
    let told = gateway.call("PUT", "/weather/oslo%20x?day=1&q=%2F", &headers, b"\x00\xffbytes");
    assert_eq!((told.status, told.text().as_str()), (203, "<script>alert(1)</script>"));
    assert_eq!(told.header("x-own").as_deref(), Some("yes"));
    assert_eq!(told.header("set-cookie"), None);
    assert_eq!(told.header("content-security-policy").as_deref(), Some("sandbox"));
    assert_eq!(told.header("x-litellm-response-cost").as_deref(), Some("0.25"));
    let seen = up.only_request();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/api/oslo%20x?day=1&q=%2F"));
    assert_eq!(seen.body, b"\x00\xffbytes");
    assert_eq!(seen.header("authorization"), Some(format!("Token {}", crate::support::UPSTREAM_KEY)));
    assert_eq!((seen.header("x-mine").as_deref(), seen.header("x-kind").as_deref()), (Some("1"), Some("a")));
    assert_eq!((seen.header("x-api-key"), seen.header("cookie")), (None, None));
    assert_eq!((&row(&gateway)["status"], &row(&gateway)["outcome"]), (&Value::from(203), &Value::from("success")));
    let rows = crate::ledger::rows(&gateway, 1);
    assert_eq!((&rows[0]["call_type"], &rows[0]["spend"]), (&Value::from("pass_through_endpoint"), &Value::from(0.25)));
}

#[test]
fn answers_come_piece_by_piece() {
    let gate = Gate::new();
    let up = anyone(Reply::stream().send("data: 1\n\n").wait(&gate).send("data: 2\n\n").end_body());
    let gateway = Gateway::start(&to(&up, ""));
    let mut client = gateway.client();
    let (name, key) = authorization();
    client.request("GET", "/weather", &[(name, &key)], b"");
    assert_eq!(client.head().status(), 200);
    assert!(client.event().unwrap().contains("data: 1"));
    gate.open();
    assert!(client.event().unwrap().contains("data: 2"));
}

#[test]
fn whoever_has_no_key_is_served_only_where_the_operator_says_so() {
    let up = anyone(Reply::json(200, "{}"));
    let gateway = Gateway::start(&to(&up, ""));
    gateway.call("GET", "/weather", &[], b"").error(401);
    assert_eq!(up.requests().len(), 0);
    let open = Gateway::start(&to(&up, "auth = false"));
    open.call("GET", "/weather", &[], b"").ok();
    assert!(open.logs().contains("is open to whoever reaches the gateway"));
}

#[test]
fn nothing_leads_anywhere_else() {
    let up = anyone(Reply::json(200, "{}"));
    let gateway = Gateway::start(&to(&up, "include_subpath = true"));
    let (name, key) = authorization();
    for path in ["/weather/../x", "/weather/%2e%2e/x", "/weather/a/..%2F..%2Fx"] {
        gateway.call("GET", path, &[(name, &key)], b"").error(400);
    }
    for path in ["/weathers", "/x/weather"] {
        gateway.call("GET", path, &[(name, &key)], b"").error(404);
    }
    assert_eq!(up.requests().len(), 0);
    let exact = Gateway::start(&to(&up, ""));
    exact.call("GET", "/weather/oslo", &[(name, &key)], b"").error(404);
}

#[test]
fn what_cannot_be_passed_on_is_said() {
    let up = anyone(Reply::json(500, r#"{"own":"error"}"#));
    let gateway = Gateway::start(&to(&up, "cost_per_request = 1"));
    let (name, key) = authorization();
    let told = gateway.call("POST", "/weather", &[(name, &key)], b"{}");
    assert_eq!((told.status, told.text().as_str()), (500, r#"{"own":"error"}"#));
    assert_eq!(row(&gateway)["outcome"], "failure");
    let (_taken, address) = crate::support::upstream::refusing();
    let entry = format!("[[pass_through]]\npath = \"/gone\"\ntarget = \"http://{address}\"\n");
    let gateway = Gateway::start(&config("body_limit = \"1KiB\"", &[entry]));
    gateway.call("GET", "/gone", &[(name, &key)], b"").error(503);
    gateway.call("POST", "/gone", &[(name, &key)], &[b'a'; 2000]).error(413);
}

#[test]
fn passages_of_litellm_are_carried_over() {
    let up = anyone(Reply::json(200, "{}"));
    let yaml = format!(
        "general_settings:\n  master_key: os.environ/MASTER_KEY\n  pass_through_endpoints:\n    - path: /v9/rank\n      target: {}/rank\n      headers:\n        Authorization: \"bearer os.environ/UPSTREAM_KEY\"\n        content-type: application/json\n",
        up.origin()
    );
    let gateway = Setup::yaml(&yaml).start();
    gateway.post("/v9/rank", "{}").ok();
    let seen = up.only_request();
    assert_eq!(seen.target, "/rank");
    assert_eq!(seen.header("authorization"), Some(format!("bearer {}", crate::support::UPSTREAM_KEY)));
    assert_eq!(seen.header("content-type").as_deref(), Some("application/json"));
}
