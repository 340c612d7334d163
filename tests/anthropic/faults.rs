//! What goes wrong upstream, and callers who leave.

use super::{MODEL, plain, serve, serve_as, streamed, with_usage};
use crate::support::anthropic::reply::{self, block, event, start, text, usage};
use crate::support::{Gate, Reply, Step, UPSTREAM_KEY, Upstream};
use serde_json::json;

#[test]
fn errors_keep_their_meaning_in_openais_words() {
    for (status, kind, message, expected, told, code) in [
        (400, "invalid_request_error", "messages: bad", 400, "invalid_request_error", "400"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 9 tokens > 8 maximum",
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (401, "authentication_error", "invalid x-api-key", 401, "authentication_error", "401"),
        (402, "billing_error", "no money", 402, "insufficient_quota", "insufficient_quota"),
        (404, "not_found_error", "model: nope", 404, "not_found_error", "404"),
        (413, "request_too_large", "too large", 413, "invalid_request_error", "413"),
        (429, "rate_limit_error", "slow down", 429, "rate_limit_error", "429"),
        (500, "api_error", "oops", 500, "api_error", "500"),
        (529, "overloaded_error", "Overloaded", 503, "service_unavailable", "503"),
    ] {
        let gateway = serve(&Upstream::new(reply::error(status, kind, message)).anthropic());
        for body in [plain(), with_usage()] {
            let error = gateway.chat(body).error(expected);
            assert!(error.message.contains(message), "{error:?}");
            assert_eq!((error.kind.as_str(), error.code.as_str()), (told, code), "{status} {kind}");
        }
    }
}

#[test]
fn the_time_to_wait_reaches_the_caller() {
    let body = reply::error_body("rate_limit_error", "slow down").to_string();
    let headers = [("Content-Type", "application/json"), ("retry-after", "7"), ("x-should-retry", "true")];
    let answer = serve(&Upstream::new(Reply::answer(429, &headers, body.as_bytes())).anthropic()).chat(plain());
    assert_eq!(answer.header("retry-after").as_deref(), Some("7"));
    assert_eq!(answer.header("x-should-retry").as_deref(), Some("true"));
}

#[test]
fn an_upstreams_echo_of_the_key_is_covered() {
    let quoted = format!("your key {UPSTREAM_KEY} is wrong");
    let up = Upstream::new(reply::error(401, "authentication_error", &quoted)).anthropic();
    let answer = serve(&up).chat(plain());
    assert!(!answer.text().contains(UPSTREAM_KEY), "{}", answer.text());
}

#[test]
fn an_error_inside_a_stream_ends_it_in_words() {
    let failed = event(&reply::error_body("overloaded_error", "Overloaded"));
    // Before the first event it is an error like any other.
    let gateway = serve(&Upstream::new(Reply::stream().send(&failed).end_body()).anthropic());
    let error = gateway.chat(with_usage()).any_error();
    assert!(error.message.contains("Overloaded"), "{error:?}");

    let gateway = serve(&Upstream::new(reply::begun().send(&failed).end_body()).anthropic());
    let mut client = gateway.open_chat(with_usage());
    assert_eq!(client.head().status(), 200);
    let events = client.contents();
    let error = crate::support::ErrorBody::of_event(events.last().unwrap());
    assert!(error.message.contains("Overloaded"), "{error:?}");
    assert_eq!((error.kind.as_str(), error.code.as_str()), ("service_unavailable", "529"));
    assert!(!events.iter().any(|event| event.contains("[DONE]")));
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn a_stream_that_is_cut_is_not_taken_for_complete() {
    for broken in [reply::begun().then(Step::Close), reply::begun().end_body(), reply::begun().then(Step::Reset)] {
        let gateway = serve(&Upstream::new(broken).anthropic());
        let mut client = gateway.open_chat(streamed(&json!({})));
        assert_eq!(client.head().status(), 200);
        let events = client.contents();
        crate::support::ErrorBody::of_event(events.last().unwrap());
        assert!(!events.iter().any(|event| event.contains("[DONE]")), "{events:#?}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_a_502() {
    for body in ["[]", "{}", "not json", r#"{"type":"message","content":"text"}"#] {
        let gateway = serve(&Upstream::new(Reply::json(200, body)).anthropic());
        gateway.chat(plain()).error(502);
        gateway.chat(with_usage()).error(502);
    }
}

#[test]
fn a_slow_upstream_is_kept_company_and_a_silent_one_left() {
    let gate = Gate::new();
    let slow = Reply::stream().send(&start(&usage())).wait(&gate);
    let slow = block(0, &text("Hello")).iter().fold(slow, |reply, event| reply.send(event));
    let up = Upstream::new(slow.send(&reply::end("end_turn", &usage())).end_body()).anthropic();
    let gateway = serve_as(&up, MODEL, "early_commit = \"20ms\"\nkeep_alive = \"20ms\"", "");
    let mut client = gateway.open_chat(streamed(&json!({})));
    assert_eq!(client.head().status(), 200);
    while !client.event().unwrap().starts_with(':') {}
    gate.open();
    assert_eq!(client.contents().last().map(String::as_str), Some("data: [DONE]"));

    let silent = Upstream::new(reply::begun().then(Step::Hold)).anthropic();
    let gateway = serve_as(&silent, MODEL, "", "stream_timeout = \"200ms\"\n");
    let mut client = gateway.open_chat(streamed(&json!({})));
    client.head();
    let error = crate::support::ErrorBody::of_event(client.contents().last().unwrap());
    assert_eq!(error.kind, "timeout_error", "{error:?}");
    silent.wait_departures(1);

    let dumb = Upstream::new(Reply::silence()).anthropic();
    serve_as(&dumb, MODEL, "", "timeout = \"200ms\"\n").chat(plain()).error(504);
    dumb.wait_departures(1);
}

#[test]
fn a_caller_who_leaves_takes_the_upstream_along() {
    let up = Upstream::new(reply::begun().then(Step::Hold)).anthropic();
    let gateway = serve(&up);
    let mut client = gateway.open_chat(streamed(&json!({})));
    client.head();
    client.event().unwrap();
    drop(client);
    up.wait_departures(1);
    let call = gateway.only_call();
    assert_eq!(call["outcome"], "cancelled");
    assert_eq!(call["prompt_tokens"], 12, "what was said of the input is known: {call}");
}
