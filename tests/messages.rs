//! Callers of Anthropic's format, over any upstream.

mod native;
mod translated;

use crate::support::anthropic::order;
use crate::support::{Answer, Client, Gateway, MASTER_KEY, Upstream, config, deployment, model};
use serde_json::{Value, json};

pub const PATH: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// A model `claude` over an Anthropic, and one `small` over an OpenAI.
fn serve(anthropic: &Upstream, openai: &Upstream, server: &str) -> Gateway {
    let claude = deployment("claude", "anthropic/claude-sonnet-4-5", anthropic.base());
    Gateway::start(&config(server, &[claude, model("small", openai)]))
}

fn over_openai(up: &Upstream) -> Gateway {
    Gateway::start(&config("", &[model("small", up)]))
}

fn over_anthropic(up: &Upstream) -> Gateway {
    Gateway::start(&config("", &[deployment("claude", "anthropic/claude-sonnet-4-5", up.base())]))
}

fn ask(model: &str, more: &Value) -> String {
    let mut body = json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body.to_string()
}

/// The headers of Anthropic's own clients.
fn headers() -> [(&'static str, &'static str); 3] {
    [("x-api-key", MASTER_KEY), ("anthropic-version", "2023-06-01"), ("content-type", "application/json")]
}

fn post(gateway: &Gateway, path: &str, body: &str) -> Answer {
    gateway.call("POST", path, &headers(), body.as_bytes())
}

fn open(gateway: &Gateway, body: &str) -> Client {
    let mut client = gateway.client();
    client.request("POST", PATH, &headers(), body.as_bytes());
    client
}

/// Reads a stream, strictly.
fn stream(gateway: &Gateway, body: &str) -> order::Read {
    let mut client = open(gateway, body);
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{head:?}");
    assert!(head.header("request-id").is_some_and(|id| id.starts_with("req_")), "{head:?}");
    order::read(&mut client)
}

/// The type and the message of an error in Anthropic's envelope.
fn error(answer: &Answer, status: u16) -> (String, String) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], "error", "{body}");
    assert_eq!(body["request_id"], answer.header("request-id").unwrap(), "{body}");
    let text = |name: &str| body["error"][name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).to_owned();
    (text("type"), text("message"))
}

#[test]
fn both_ways_to_show_a_key_are_taken_and_neither_goes_on() {
    let up = Upstream::new(crate::support::anthropic::reply::hello()).anthropic();
    let other = Upstream::new(crate::support::Reply::whole());
    let gateway = serve(&up, &other, "");
    let bearer = format!("Bearer {MASTER_KEY}");
    for (name, value) in [("x-api-key", MASTER_KEY), ("Authorization", bearer.as_str())] {
        for model in ["claude", "small"] {
            let more = [(name, value), ("x-claude-code-session-id", "s1"), ("x-stainless-lang", "js")];
            gateway.call("POST", PATH, &more, ask(model, &json!({})).as_bytes()).ok();
        }
    }
    assert!(
        up.requests().iter().chain(&other.requests()).all(|seen| !seen
            .head
            .headers
            .iter()
            .any(|(_, v)| v.contains(MASTER_KEY)))
    );
    for more in [&[("x-api-key", "sk-wrong-key-12345")][..], &[]] {
        let answer = gateway.call("POST", PATH, more, ask("claude", &json!({})).as_bytes());
        assert_eq!(error(&answer, 401).0, "authentication_error");
        assert!(!answer.text().contains("sk-wrong-key-12345"));
    }
}

#[test]
fn all_paths_lead_to_the_same_models() {
    let up = Upstream::new(crate::support::anthropic::reply::hello()).anthropic();
    let gateway = over_anthropic(&up);
    for path in [PATH, "/v1/messages?beta=true", "/anthropic/v1/messages"] {
        post(&gateway, path, &ask("claude", &json!({}))).ok();
    }
    for path in ["/", "/v1/models"] {
        assert_eq!(gateway.call("GET", path, &headers(), b"").status, 200, "{path}");
    }
    let mut client = gateway.client();
    client.request("HEAD", "/", &[], b"");
    assert_eq!(client.head().status(), 200);
}

#[test]
fn requests_at_fault_are_refused_in_anthropics_envelope() {
    let other = Upstream::new(crate::support::Reply::whole());
    let gateway = over_openai(&other);
    let hi = json!([{"role": "user", "content": "hi"}]);
    for (body, what) in [
        ("not json".to_owned(), "JSON"),
        (json!({"model": "small", "messages": hi}).to_string(), "max_tokens"),
        (json!({"max_tokens": 5, "messages": hi}).to_string(), "model"),
        (json!({"model": "small", "max_tokens": 5}).to_string(), "messages"),
        (json!({"model": "small", "max_tokens": 5, "messages": []}).to_string(), "messages"),
        (json!({"model": "small", "max_tokens": "5", "messages": hi}).to_string(), "max_tokens"),
        (json!({"model": "small", "max_tokens": 5, "messages": hi, "api_key": "x"}).to_string(), "api_key"),
        (json!({"model": "small", "max_tokens": 5, "messages": hi, "mcp_servers": [{}]}).to_string(), "mcp_servers"),
        (json!({"model": "nothing", "max_tokens": 5, "messages": hi}).to_string(), "nothing"),
    ] {
        let answer = post(&gateway, PATH, &body);
        let (kind, message) = error(&answer, answer.status);
        assert!([400, 404].contains(&answer.status), "{body}: {}", answer.status);
        assert!(kind == "invalid_request_error" || kind == "not_found_error", "{kind}");
        assert!(message.contains(what), "{what}: {message}");
    }
    let versions = [("x-api-key", MASTER_KEY), ("anthropic-version", "yesterday")];
    error(&gateway.call("POST", PATH, &versions, ask("small", &json!({})).as_bytes()), 400);
    assert_eq!(error(&gateway.call("GET", PATH, &headers(), b""), 405).0, "invalid_request_error");
    assert!(other.requests().is_empty());
}

#[test]
fn models_are_listed_in_the_callers_form() {
    let other = Upstream::new(crate::support::Reply::whole());
    let models = ["small", "claude-a", "claude-b"].map(|name| model(name, &other));
    let gateway = Gateway::start(&config("", &models));
    let get = |path: &str| gateway.call("GET", path, &headers(), b"");
    let page = get("/v1/models?limit=2").ok().json();
    assert_eq!(
        (&page["first_id"], &page["last_id"], &page["has_more"]),
        (&json!("small"), &json!("claude-a"), &json!(true))
    );
    for item in page["data"].as_array().unwrap() {
        assert!(
            item["type"] == "model" && item["display_name"].is_string() && item["created_at"].is_string(),
            "{item}"
        );
    }
    let rest = get("/v1/models?after_id=claude-a").ok().json();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!("claude-b"), &json!(false)));
    assert_eq!(get("/v1/models/claude-b").ok().json()["type"], "model");
    assert_eq!(error(&get("/v1/models/claude-c"), 404).0, "not_found_error");
    assert_eq!(gateway.get("/v1/models").ok().json()["object"], "list");
}
