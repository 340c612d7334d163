//! Who may call: where the key is looked for, and what is said without one.

use crate::chat::HELLO;
use crate::support::{Gateway, MASTER_KEY, Reply, Setup, Upstream, config, model};

fn serve(server: &str) -> Gateway {
    Gateway::start(&config(server, &[model("small", &Upstream::new(Reply::whole()))]))
}

fn chat(gateway: &Gateway, headers: &[(&str, &str)]) -> crate::support::Answer {
    gateway.call("POST", "/v1/chat/completions", headers, HELLO.as_bytes())
}

#[test]
fn the_key_is_found_in_every_usual_header() {
    let gateway = serve("");
    let bearer = format!("Bearer {MASTER_KEY}");
    let lower = format!("bearer {MASTER_KEY}");
    for (name, value) in [
        ("Authorization", bearer.as_str()),
        ("authorization", lower.as_str()),
        ("x-api-key", MASTER_KEY),
        ("api-key", MASTER_KEY),
        ("x-litellm-api-key", MASTER_KEY),
        ("x-litellm-api-key", bearer.as_str()),
    ] {
        let answer = chat(&gateway, &[(name, value)]);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

#[test]
fn a_header_without_a_key_in_it_does_not_hide_another() {
    let gateway = serve("");
    for empty in ["", "Bearer", "Bearer "] {
        chat(&gateway, &[("Authorization", empty), ("x-api-key", MASTER_KEY)]).ok();
        let error = chat(&gateway, &[("Authorization", empty)]).error(401);
        assert!(error.message.contains("no API key"), "{error:?}");
    }
}

#[test]
fn one_more_header_can_be_configured() {
    let gateway = serve("key_header = \"X-House-Key\"");
    chat(&gateway, &[("x-house-key", MASTER_KEY)]).ok();
    chat(&gateway, &[("x-house-key", &format!("Bearer {MASTER_KEY}"))]).ok();
    chat(&gateway, &[("x-other-key", MASTER_KEY)]).error(401);
}

#[test]
fn a_missing_or_wrong_key_is_a_401_that_does_not_repeat_it() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let almost = format!("Bearer {}", &MASTER_KEY[..MASTER_KEY.len() - 1]);
    let longer = format!("Bearer {MASTER_KEY}x");
    for headers in [
        &[][..],
        &[("Authorization", "Bearer sk-wrong-1234567890")],
        &[("Authorization", almost.as_str())],
        &[("Authorization", longer.as_str())],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic c2stbWFzdGVy")],
        &[("Authorization", "")],
        &[("api-key", "sk-wrong-1234567890")],
    ] {
        let answer = chat(&gateway, headers);
        let error = answer.error(401);
        assert_eq!(error.code, "401");
        assert!(["auth_error", "token_not_found_in_db"].contains(&error.kind.as_str()), "{headers:?} {error:?}");
        assert!(!answer.text().contains("sk-wrong-1234567890"), "{error:?}");
        assert!(!answer.text().contains(&MASTER_KEY[..MASTER_KEY.len() - 1]));
    }
    assert!(up.requests().is_empty());
    assert!(!gateway.logs().contains("sk-wrong-1234567890"));
}

#[test]
fn the_error_without_a_key_says_how_to_send_one() {
    let error = chat(&serve(""), &[]).error(401);
    assert!(error.message.contains("Authorization"), "{error:?}");
}

#[test]
fn the_key_is_checked_before_the_body_is_looked_at() {
    let gateway = serve("");
    gateway.call("POST", "/v1/chat/completions", &[], b"not json").error(401);
}

#[test]
fn everything_but_liveness_and_readiness_wants_the_key() {
    let gateway = serve("");
    for path in
        ["/v1/models", "/models", "/v1/models/small", "/health", "/model/info", "/v1/model/info", "/model_group/info"]
    {
        assert_eq!(gateway.call("GET", path, &[], b"").status, 401, "{path}");
    }
    for path in ["/health/liveliness", "/health/liveness", "/health/readiness"] {
        assert_eq!(gateway.call("GET", path, &[], b"").status, 200, "{path}");
    }
}

#[test]
fn without_a_master_key_a_local_gateway_is_open() {
    let models = model("small", &Upstream::new(Reply::whole()));
    let gateway = Gateway::start(&config("", &[models]).replace("master_key = \"env:MASTER_KEY\"\n", ""));
    chat(&gateway, &[]).ok();
    chat(&gateway, &[("Authorization", "Bearer anything")]).ok();
}

#[test]
fn without_a_master_key_a_reachable_address_is_refused_at_the_start() {
    let models = model("small", &Upstream::new(Reply::whole()));
    let open = config("listen = [\"0.0.0.0:0\"]", &[models]).replace("master_key = \"env:MASTER_KEY\"\n", "");
    let ended = Setup::toml(&open).unbound().run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("master_key"), "{}", ended.stderr);
    let gateway = Setup::toml(&format!("allow_anonymous = true\n{open}")).unbound().start();
    drop(gateway);
}

#[test]
fn a_master_key_need_not_start_with_sk() {
    let models = model("small", &Upstream::new(Reply::whole()));
    let text = config("", &[models]).replace("env:MASTER_KEY", "hunter2 is my key");
    let gateway = Gateway::start(&text);
    chat(&gateway, &[("Authorization", "Bearer hunter2 is my key")]).ok();
    chat(&gateway, &[("Authorization", &format!("Bearer {MASTER_KEY}"))]).error(401);
}

#[test]
fn browsers_may_call_from_configured_origins_only() {
    let gateway = serve("cors_origins = [\"https://app.test\"]");
    let ask = |origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type"),
        ];
        gateway.call("OPTIONS", "/v1/chat/completions", &headers, b"")
    };
    let answer = ask("https://app.test");
    assert!((200..300).contains(&answer.status), "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("https://app.test"));
    assert_eq!(ask("https://evil.test").header("access-control-allow-origin"), None);
    let key = format!("Bearer {MASTER_KEY}");
    let answer = chat(&gateway, &[("Origin", "https://app.test"), ("Authorization", &key)]).ok();
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("https://app.test"));
}

#[test]
fn browsers_may_not_call_unless_configured() {
    let gateway = serve("");
    let key = format!("Bearer {MASTER_KEY}");
    let answer = chat(&gateway, &[("Origin", "https://app.test"), ("Authorization", &key)]).ok();
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn every_route_is_served_under_the_root_path_too() {
    let gateway = serve("root_path = \"/llm\"");
    gateway.post("/llm/v1/chat/completions", HELLO).ok();
    gateway.post("/v1/chat/completions", HELLO).ok();
    gateway.get("/llm/v1/models").ok();
    gateway.get("/llmx/v1/models").error(404);
}
