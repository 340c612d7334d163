//! Whole chat answers: what goes up, what comes down, and by which paths.

use crate::support::reply::WHOLE;
use crate::support::{Client, Gateway, Reply, Upstream, config, deployment, model, upstream};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::thread;

pub const HELLO: &str = r#"{"model":"small","messages":[{"role":"user","content":"hi"}]}"#;

fn serve(upstream: &Upstream) -> Gateway {
    Gateway::start(&config("", &[model("small", upstream)]))
}

#[test]
fn a_whole_answer_arrives_byte_for_byte() {
    let up = Upstream::new(Reply::whole());
    let answer = serve(&up).chat(HELLO).ok();
    assert_eq!(answer.text(), WHOLE);
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
}

#[test]
fn a_request_goes_up_byte_for_byte_but_for_the_model_name() {
    let up = Upstream::new(Reply::whole()).allow(&["x_big", "x_empty"]);
    let body = concat!(
        "{ \"messages\" :\t[ {\"content\":\"\\u00fc \\ud83d\\ude00 \\/ ü😀 \\\"model\\\":\\\"small\\\"\", \"role\" : \"user\"} ],\r\n",
        " \"x_big\":123456789012345678901234567890.10e-5,\"stop\": null,\"model\" : \"small\" ,\"x_empty\":{ },",
        "\"seed\":-1,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"model\":\"small\",\"b\":1,\"a\":2}}}]}"
    );
    serve(&up).chat(body).ok();
    assert_eq!(up.only_request().text(), body.replace("\"model\" : \"small\" ", "\"model\" : \"small-up\" "));
}

#[test]
fn a_model_name_written_with_escapes_is_the_same_name() {
    let up = Upstream::new(Reply::whole());
    serve(&up).chat(HELLO.replace("small", "sm\\u0061ll")).ok();
    assert_eq!(up.only_request().json()["model"], "small-up");
}

#[test]
fn all_paths_of_the_chat_endpoint_reach_the_same_model() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/deployments/small/chat/completions?api-version=2024-10-21",
        "/engines/small/chat/completions",
    ] {
        assert_eq!(gateway.post(path, HELLO).ok().text(), WHOLE, "{path}");
    }
    assert!(up.requests().iter().all(|seen| seen.json()["model"] == "small-up"));
}

#[test]
fn the_model_of_the_path_fills_in_for_a_missing_one() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    for prefix in ["/openai/deployments/small", "/engines/small"] {
        let body = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
        gateway.post(&format!("{prefix}/chat/completions"), body).ok();
    }
    assert!(up.requests().iter().all(|seen| seen.json()["model"] == "small-up"));
}

#[test]
fn the_model_of_the_path_wins_over_the_one_in_the_body() {
    let (up, other) = (Upstream::new(Reply::whole()), Upstream::new(Reply::whole()));
    let gateway = Gateway::start(&config("", &[model("small", &up), model("other", &other)]));
    gateway.post("/engines/small/chat/completions", HELLO.replace("small", "other")).ok();
    assert_eq!(up.only_request().json()["model"], "small-up");
    assert!(other.requests().is_empty());
}

#[test]
fn a_model_name_in_the_path_is_percent_decoded() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("my/model 1", "openai/up", up.base())]));
    gateway.post("/openai/deployments/my%2Fmodel%201/chat/completions", HELLO).ok();
    assert_eq!(up.only_request().json()["model"], "up");
}

#[test]
fn one_connection_serves_many_requests() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    let mut client = gateway.client();
    for _ in 0..20 {
        client.post("/v1/chat/completions", HELLO);
        assert_eq!(client.answer().ok().text(), WHOLE);
    }
}

#[test]
fn an_upstream_that_closes_idle_connections_fails_no_request() {
    let up = Upstream::new(Reply::whole().then(crate::support::Step::Close));
    let gateway = serve(&up);
    for round in 1..=20 {
        assert_eq!(gateway.chat(HELLO).ok().text(), WHOLE, "round {round}");
        up.wait_hang_ups(round);
    }
    assert_eq!(up.requests().len(), 20);
}

#[test]
fn a_request_body_may_come_in_chunks() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    let mut client = gateway.client();
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n");
    client.send(format!("Authorization: Bearer {}\r\n", crate::support::MASTER_KEY).as_bytes());
    client.send(b"Transfer-Encoding: chunked\r\n\r\n");
    for piece in HELLO.as_bytes().chunks(7) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes());
        client.send(piece);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.answer().ok().text(), WHOLE);
    let seen = up.only_request();
    assert_eq!(seen.text(), HELLO.replace("small", "small-up"));
}

#[test]
fn a_caller_that_expects_100_continue_gets_its_answer() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    let mut client = gateway.client();
    let (name, value) = crate::support::gateway::authorization();
    client.request("POST", "/v1/chat/completions", &[(name, &value), ("Expect", "100-continue")], HELLO.as_bytes());
    assert_eq!(client.answer().ok().text(), WHOLE);
    assert_eq!(up.only_request().header("expect"), None);
}

#[test]
fn a_large_request_and_a_large_answer_go_through_whole() {
    let big = "ü".repeat(3 * 1024 * 1024);
    let body =
        json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": big}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
        .to_string();
    let up = Upstream::new(Reply::json(200, &body));
    let request = HELLO.replace("hi", &big);
    let answer = serve(&up).chat(&request).ok();
    assert!(answer.body == body.as_bytes(), "the answer was changed");
    assert!(up.only_request().text() == request.replace("small", "small-up"), "the request was changed");
}

#[test]
fn an_answer_in_chunks_arrives_whole() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (a, b) = WHOLE.split_at(40);
    // Extensions, leading zeros and upper case are legal in chunk sizes.
    let body = format!("0028;x=y\r\n{a}\r\n{:X} ;q=\"1\"\r\n{b}\r\n0\r\n\r\n", b.len());
    let up = Upstream::new(Reply(vec![crate::support::Step::Raw(format!("{head}{body}").into())]));
    assert_eq!(serve(&up).chat(HELLO).ok().text(), WHOLE);
}

#[test]
fn an_answer_that_ends_with_the_connection_arrives_whole() {
    let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";
    let steps = vec![crate::support::Step::Raw(format!("{head}{WHOLE}").into()), crate::support::Step::Close];
    let up = Upstream::new(Reply(steps));
    assert_eq!(serve(&up).chat(HELLO).ok().text(), WHOLE);
}

#[test]
fn response_headers_tell_what_served_the_call() {
    let headers = [
        ("Content-Type", "application/json"),
        ("x-request-id", "req_7"),
        ("Set-Cookie", "session=up"),
        ("x-ratelimit-remaining-requests", "99"),
    ];
    let up = Upstream::new(Reply::answer(200, &headers, WHOLE.as_bytes()));
    let gateway = Gateway::start(&config("", &[model("small", &up) + "id = \"deployment-1\"\n"]));
    let answer = gateway.chat(HELLO).ok();
    let header = |name: &str| answer.header(name).unwrap_or_else(|| panic!("no {name} in {:#?}", answer.head));
    assert_eq!(header("x-litellm-model-id"), "deployment-1");
    assert_eq!(header("x-litellm-model-group"), "small");
    assert_eq!(header("x-litellm-model-api-base"), up.base());
    assert_eq!(header("x-litellm-version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(header("x-litellm-attempted-retries"), "0");
    assert_eq!(header("x-litellm-attempted-fallbacks"), "0");
    let duration: f64 = header("x-litellm-response-duration-ms").parse().unwrap();
    let overhead: f64 = header("x-litellm-overhead-duration-ms").parse().unwrap();
    assert!((0.0..60_000.0).contains(&duration) && (0.0..60_000.0).contains(&overhead), "{duration} {overhead}");
    assert_eq!(header("llm_provider-x-request-id"), "req_7");
    assert_eq!(header("x-ratelimit-remaining-requests"), "99");
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("llm_provider-set-cookie"), None);
    assert_eq!(header("x-litellm-call-id"), gateway.only_call()["request_id"].as_str().unwrap());
}

#[test]
fn every_call_has_an_id_of_its_own() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    let ids: HashSet<_> = (0..10).filter_map(|_| gateway.chat(HELLO).header("x-litellm-call-id")).collect();
    assert_eq!(ids.len(), 10);
}

#[test]
fn a_call_is_one_line_in_the_log() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    gateway.chat(HELLO).ok();
    let call = gateway.only_call();
    assert_eq!(call["model"], "small");
    assert_eq!(call["status"], 200);
    assert_eq!(call["stream"], false);
    assert_eq!(call["outcome"], "success");
    assert_eq!((&call["prompt_tokens"], &call["completion_tokens"]), (&json!(12), &json!(5)));
    assert!(call["duration_ms"].is_number() && call["deployment"].is_string(), "{call}");
}

#[test]
fn a_text_log_has_one_line_for_a_call_too() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]).replace("\"json\"", "\"text\""));
    let id = gateway.chat(HELLO).ok().header("x-litellm-call-id").unwrap();
    gateway.wait_log("the line of the call", |line| line.contains(&id) && line.contains("small"));
    assert_eq!(gateway.logs().lines().filter(|line| line.contains(&id)).count(), 1, "{}", gateway.logs());
    assert!(!gateway.logs().contains('\u{1b}'), "colours in a log that is not a terminal");
}

#[test]
fn an_answer_without_usage_is_not_counted_as_nothing() {
    let up = Upstream::new(Reply::json(200, &WHOLE.replace("\"usage\"", "\"x_usage\"")));
    let gateway = serve(&up);
    gateway.chat(HELLO).ok();
    let call = gateway.only_call();
    assert_eq!(call["outcome"], "success");
    assert!(call.get("completion_tokens").is_none_or(|t| t != &json!(0)), "{call}");
}

#[test]
fn headers_of_the_caller_stay_with_the_gateway() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    let (name, value) = crate::support::gateway::authorization();
    let headers = [
        (name, value.as_str()),
        ("Content-Type", "application/json; charset=utf-8"),
        ("Cookie", "session=mine"),
        ("x-stainless-lang", "python"),
        ("Accept-Encoding", "gzip, br"),
        ("User-Agent", "caller/1"),
        ("X-Forwarded-For", "10.0.0.7"),
        ("Connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
    ];
    // The upstream refuses whatever is the caller's own.
    gateway.call("POST", "/v1/chat/completions", &headers, HELLO.as_bytes()).ok();
    let seen = up.only_request();
    assert_eq!((seen.header("x-forwarded-for"), seen.header("x-hop")), (None, None));
}

#[test]
fn hundred_callers_at_once_all_get_their_own_answer() {
    let up = Upstream::script(|seen| {
        let said = seen.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        Reply::json(200, &WHOLE.replace("Hello", &said))
    });
    let gateway = serve(&up);
    thread::scope(|scope| {
        for caller in 0..100 {
            let gateway = &gateway;
            scope.spawn(move || {
                for round in 0..5 {
                    let said = format!("caller {caller} round {round}");
                    let answer = gateway.chat(HELLO.replace("hi", &said)).ok();
                    assert_eq!(answer.text(), WHOLE.replace("Hello", &said));
                }
            });
        }
    });
    assert_eq!(gateway.wait_calls(500).len(), 500);
}

#[test]
fn a_conversation_with_tools_goes_up_as_it_is() {
    let up = Upstream::new(Reply::whole());
    let body = r#"{"model":"small","messages":[{"role":"developer","content":"be short"},
        {"role":"user","content":[{"type":"text","text":"what is 1+1?"}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"add","arguments":"{\"a\": 1,\"b\":1}"}}]},
        {"role":"tool","tool_call_id":"call_1","content":"2"}],
        "tools":[{"type":"function","function":{"name":"add","parameters":{"type":"object"}}}],"parallel_tool_calls":false}"#;
    serve(&up).chat(body).ok();
    assert_eq!(up.only_request().text(), body.replace("small", "small-up"));
}

#[test]
fn an_upstream_over_a_unix_socket_is_an_upstream_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let up = Upstream::unix(&dir.path().join("up.sock"), Reply::whole());
    let gateway = serve(&up);
    for _ in 0..3 {
        assert_eq!(gateway.chat(HELLO).ok().text(), WHOLE);
    }
}

#[test]
fn an_upstream_over_tls_is_reached_with_its_own_authority() {
    let up = Upstream::tls(Reply::whole());
    let ca = format!("ca_file = \"{}\"\n", crate::support::tls::CA_FILE);
    let gateway = Gateway::start(&config("", &[model("small", &up) + &ca]));
    for _ in 0..3 {
        assert_eq!(gateway.chat(HELLO).ok().text(), WHOLE);
    }
}

#[test]
fn an_upstream_with_an_unknown_authority_gets_no_request() {
    let up = Upstream::tls(Reply::whole());
    let error = serve(&up).chat(HELLO).any_error();
    assert!(error.message.to_lowercase().contains("certificate"), "{error:?}");
    assert!(up.requests().is_empty());
}

#[test]
fn two_deployments_of_one_name_are_served_in_turn() {
    let ups = [Upstream::new(Reply::whole()), Upstream::new(Reply::whole())];
    let gateway = Gateway::start(&config("", &[model("small", &ups[0]), model("small", &ups[1])]));
    let ids: HashSet<_> = (0..6).filter_map(|_| gateway.chat(HELLO).ok().header("x-litellm-model-id")).collect();
    assert_eq!([ups[0].requests().len(), ups[1].requests().len()], [3, 3]);
    assert_eq!(ids.len(), 2, "each deployment has an id of its own");
}

#[test]
fn several_keys_of_one_deployment_are_used_in_turn() {
    let up = Upstream::new(Reply::whole());
    let up =
        up.rules(|rules| rules.authorization = ["Bearer sk-one", "Bearer sk-two"].map(|k| Some(k.to_owned())).into());
    let models = model("small", &up).replace("\"env:UPSTREAM_KEY\"", "[\"env:ONE\", \"sk-two\"]");
    let gateway = crate::support::Setup::toml(&config("", &[models])).secret("ONE", "sk-one").start();
    for _ in 0..4 {
        gateway.chat(HELLO).ok();
    }
    let used = |key: &str| up.requests().iter().filter(|s| s.header("authorization").as_deref() == Some(key)).count();
    assert_eq!((used("Bearer sk-one"), used("Bearer sk-two")), (2, 2));
}

#[test]
fn an_upstream_without_a_key_gets_no_authorization() {
    let up = Upstream::new(Reply::whole()).rules(|rules| rules.authorization = vec![None]);
    let local = deployment("small", "hosted_vllm/up", up.base()).replace("api_key = \"env:UPSTREAM_KEY\"\n", "");
    Gateway::start(&config("", &[local])).chat(HELLO).ok();
}

#[test]
fn wildcard_models_take_the_rest_of_the_name_along() {
    let (exact, some, any) =
        (Upstream::new(Reply::whole()), Upstream::new(Reply::whole()), Upstream::new(Reply::whole()));
    let gateway = Gateway::start(&config(
        "",
        &[
            deployment("*", "openai/*", any.base()),
            deployment("house/*", "openai/local-*", some.base()),
            deployment("house/kitchen", "openai/exact", exact.base()),
        ],
    ));
    for (asked, upstream, got) in
        [("house/kitchen", &exact, "exact"), ("house/hall", &some, "local-hall"), ("gpt-9", &any, "gpt-9")]
    {
        gateway.chat(HELLO.replace("small", asked)).ok();
        assert_eq!(upstream.only_request().json()["model"], got, "{asked}");
    }
}

#[test]
fn a_name_with_its_provider_is_a_wildcard_of_that_provider() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("openai/*", "openai/*", up.base())]));
    gateway.chat(HELLO.replace("small", "openai/gpt-4o-mini")).ok();
    assert_eq!(up.only_request().json()["model"], "gpt-4o-mini");
    gateway.chat(HELLO).error(400);
}

#[test]
fn gateway_only_members_are_not_sent_up() {
    let up = Upstream::new(Reply::whole());
    let body = r#"{"fallbacks":["b"],"model":"small","num_retries":2,"messages":[{"role":"user","content":"hi"}],"cache":{"no-cache":true}}"#;
    serve(&up).chat(body).ok();
    let mut expected: Value = serde_json::from_str(HELLO).unwrap();
    expected["model"] = json!("small-up");
    assert_eq!(up.only_request().json(), expected);
}

#[test]
fn a_refused_connection_is_a_503() {
    let (_socket, address) = upstream::refusing();
    let gateway = Gateway::start(&config("", &[deployment("small", "openai/up", &format!("http://{address}/v1"))]));
    gateway.chat(HELLO).error(503);
    let call = gateway.only_call();
    assert_eq!((&call["status"], &call["outcome"]), (&json!(503), &json!("failure")));
}

#[test]
fn a_gateway_on_a_unix_socket_answers_like_any_other() {
    let up = Upstream::new(Reply::whole());
    let gateway = crate::support::Setup::toml(&config("", &[model("small", &up)])).on_unix().start();
    assert_eq!(gateway.chat(HELLO).ok().text(), WHOLE);
}

#[test]
fn two_named_sockets_are_both_served() {
    let up = Upstream::new(Reply::whole());
    let gateway = crate::support::Setup::toml(&config("", &[model("small", &up)])).on_both().start();
    for mut client in [Client::tcp(gateway.address()), Client::unix(gateway.socket())] {
        client.post("/v1/chat/completions", HELLO);
        assert_eq!(client.answer().ok().text(), WHOLE);
    }
}

#[test]
fn callers_of_http_1_0_get_their_answers_without_chunks() {
    let up =
        Upstream::script(
            |seen| {
                if seen.json()["stream"] == json!(true) { Reply::texts(&["a", "b"]) } else { Reply::whole() }
            },
        );
    let gateway = serve(&up);
    let (name, value) = crate::support::gateway::authorization();
    for (body, wanted) in [(HELLO, WHOLE.to_owned()), (crate::stream::HELLO, Reply::texts(&["a", "b"]).body(false))] {
        let mut client = gateway.client();
        let length = body.len();
        client.send(
            format!("POST /v1/chat/completions HTTP/1.0\r\n{name}: {value}\r\nContent-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        );
        let head = client.head();
        assert!(head.status() == 200 && !head.is_chunked(), "{head:?}");
        assert_eq!(client.until_closed(&head), wanted);
    }
}

#[test]
fn a_model_name_cannot_smuggle_a_header_in() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("*", "openai/*", up.base())]));
    for name in ["a\\r\\nX-Evil: 1", "a\\nX-Evil: 1", "\\u0000", "\u{fc}\u{1f600}"] {
        let answer = gateway.chat(HELLO.replace("small", name));
        assert!([200, 400].contains(&answer.status), "{name:?} {}", answer.text());
        assert_eq!(answer.header("x-evil"), None);
    }
}

#[test]
fn a_model_name_of_a_megabyte_is_not_repeated() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    let answer = gateway.chat(HELLO.replace("small", &"x".repeat(1 << 20)));
    answer.error(400);
    assert!(answer.body.len() < 2_000, "{}", answer.body.len());
    gateway.only_call();
    assert!(gateway.logs().len() < 20_000);
}
