//! Requests that are wrong: refused before any upstream is called, with an error that names the field.

use crate::chat::HELLO;
use crate::support::gateway::authorization;
use crate::support::{Answer, ErrorBody, Gateway, MASTER_KEY, Reply, Upstream, config, deployment, model};

struct Desk {
    up: Upstream,
    gateway: Gateway,
}

fn desk() -> Desk {
    desk_with("")
}

fn desk_with(server: &str) -> Desk {
    let up = Upstream::new(Reply::whole());
    let gateway =
        Gateway::start(&config(server, &[model("small", &up), deployment("large-model", "openai/up", up.base())]));
    Desk { up, gateway }
}

impl Desk {
    /// A refusal with this status, and nothing went up.
    fn refuses(&self, body: impl AsRef<[u8]>, status: u16) -> ErrorBody {
        let shown = String::from_utf8_lossy(body.as_ref()).chars().take(200).collect::<String>();
        let answer = self.gateway.chat(body);
        assert_eq!(answer.status, status, "{shown} -> {}", answer.text());
        assert!(self.up.requests().is_empty(), "{shown} went up");
        answer.error(status)
    }
}

#[test]
fn errors_of_the_gateway_itself_carry_their_status_as_code() {
    let desk = desk();
    for body in
        ["{", "", r#"{"model":"nowhere","messages":[]}"#, r#"{"model":"small"}"#, r#"{"model":5,"messages":[]}"#]
    {
        assert_eq!(desk.refuses(body, 400).code, "400", "{body}");
    }
}

fn with(member: &str) -> String {
    HELLO.replace("{\"model\":\"small\",", &format!("{{\"model\":\"small\",{member},"))
}

#[test]
fn an_unknown_model_is_a_400_that_names_the_nearest_one() {
    let error = desk().refuses(HELLO.replace("small", "large-modle"), 400);
    assert!(error.message.contains("large-modle") && error.message.contains("large-model"), "{error:?}");
    assert_eq!(error.param.as_deref(), Some("model"));
}

#[test]
fn an_unknown_model_like_no_other_is_a_400_without_a_guess() {
    let error = desk().refuses(HELLO.replace("small", "zzzzzzzzzzzz"), 400);
    assert!(error.message.contains("zzzzzzzzzzzz") && !error.message.contains("large-model"), "{error:?}");
}

#[test]
fn a_missing_model_or_missing_messages_are_named() {
    let desk = desk();
    for (body, param) in [
        (r#"{"messages":[{"role":"user","content":"hi"}]}"#, "model"),
        (r#"{"model":null,"messages":[{"role":"user","content":"hi"}]}"#, "model"),
        (r#"{"model":"","messages":[{"role":"user","content":"hi"}]}"#, "model"),
        (r#"{"model":"small"}"#, "messages"),
        (r#"{"model":"small","messages":null}"#, "messages"),
    ] {
        assert_eq!(desk.refuses(body, 400).param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn members_of_the_wrong_type_are_named() {
    let desk = desk();
    for (body, param) in [
        (r#"{"model":5,"messages":[]}"#.to_owned(), "model"),
        (r#"{"model":["small"],"messages":[]}"#.to_owned(), "model"),
        (r#"{"model":"small","messages":"hi"}"#.to_owned(), "messages"),
        (r#"{"model":"small","messages":{}}"#.to_owned(), "messages"),
        (with(r#""stream":"yes""#), "stream"),
        (with(r#""stream":1"#), "stream"),
        (with(r#""stream":true,"stream_options":[]"#), "stream_options"),
    ] {
        let error = desk.refuses(&body, 400);
        assert!(error.param.as_deref().is_some_and(|p| p.starts_with(param)), "{body} -> {error:?}");
    }
}

#[test]
fn stream_options_without_a_stream_are_refused_by_someone() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let error = gateway.chat(with(r#""stream_options":{"include_usage":true}"#)).error(400);
    assert!(error.message.contains("stream_options"), "{error:?}");
}

#[test]
fn members_given_twice_are_refused_however_they_are_written() {
    let desk = desk();
    for (member, name) in [
        (r#""model":"large-model""#, "model"),
        (r#""mod\u0065l":"large-model""#, "model"),
        (r#""x":1,"x":1"#, "x"),
        (r#""messages":[]"#, "messages"),
        (r#""\u0078":1,"x":2"#, "x"),
        (r#""":1,"":2"#, ""),
    ] {
        let error = desk.refuses(with(member), 400);
        assert!(error.message.contains(name) && error.message.contains("more than once"), "{member} -> {error:?}");
    }
}

#[test]
fn the_same_name_on_different_levels_is_not_a_duplicate() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    gateway.chat(with(r#""metadata":{"model":"x","messages":"y","a":"1"}"#)).ok();
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let desk = desk();
    for body in [
        "",
        " ",
        "hi",
        "{",
        "{}}",
        "[]",
        "null",
        "\"small\"",
        "{\"model\":\"small\",}",
        "{\"model\":\"small\" \"messages\":[]}",
        "{model:\"small\",\"messages\":[]}",
        "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]} x",
        "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]",
        "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi}]}",
        "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"a\nb\"}]}",
        "{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"\\x\"}]}",
        "{\"model\":\"small\",\"messages\":[],\"n\":01}",
        "{\"model\":\"small\",\"messages\":[],\"n\":NaN}",
        "{\"model\":\"small\",\"messages\":[],\"n\":truee}",
        "model=small&messages=hi",
    ] {
        desk.refuses(body, 400);
    }
}

#[test]
fn json_that_is_broken_deep_inside_is_refused_too() {
    let desk = desk();
    for inner in ["[1,]", "{\"a\"}", "{\"a\":}", "[1 2]", "{\"a\":1,,}", "-", "1.", "+1", "\"\\u12g4\"", "tru", "[}"] {
        desk.refuses(with(&format!("\"metadata\":{{\"deep\":[{{\"x\":{inner}}}]}}")), 400);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let desk = desk();
    for bad in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf"] {
        let at = HELLO.find("hi").unwrap();
        let body = [&HELLO.as_bytes()[..at], bad, &HELLO.as_bytes()[at..]].concat();
        desk.refuses(body, 400);
    }
}

#[test]
fn excess_nesting_is_refused_and_reasonable_nesting_is_not() {
    let desk = desk();
    for depth in [200, 5_000, 1_000_000] {
        let error = desk.refuses(with(&format!("\"metadata\":{}{}", "[".repeat(depth), "]".repeat(depth))), 400);
        assert!(error.message.to_lowercase().contains("nest") || error.message.contains("deep"), "{error:?}");
    }
    desk.refuses(with(&format!("\"metadata\":{}", "[".repeat(1_000_000))), 400);
    let fine = format!("\"metadata\":{{\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
    desk.gateway.chat(with(&fine)).ok();
}

#[test]
fn the_nesting_limit_can_be_set() {
    let desk = desk_with("max_nesting = 10");
    desk.refuses(with("\"metadata\":{\"x\":[[[[[[[[[[]]]]]]]]]]}"), 400);
    desk.gateway.chat(HELLO).ok();
}

#[test]
fn an_unpaired_surrogate_does_no_harm() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let status = gateway.chat(HELLO.replace("hi", "\\ud800")).status;
    assert!([200, 400].contains(&status), "{status}");
    let status = gateway.chat(HELLO.replace("small", "\\udc00\\ud800")).status;
    assert_eq!(status, 400);
}

#[test]
fn a_body_up_to_the_limit_passes_and_one_byte_more_is_a_413() {
    let desk = desk_with("body_limit = \"10KiB\"");
    let of_size = |size: usize| HELLO.replace("hi", &"x".repeat(size - HELLO.len() + 2));
    desk.refuses(of_size(10 * 1024 + 1), 413);
    desk.refuses(of_size(60 * 1024), 413);
    desk.gateway.chat(of_size(10 * 1024)).ok();
}

#[test]
fn a_chunked_body_over_the_limit_is_a_413() {
    let desk = desk_with("body_limit = \"10KiB\"");
    let mut client = desk.gateway.client();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {MASTER_KEY}\r\n");
    client.send(head.as_bytes());
    client.send(b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("5000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x5000)).as_bytes());
    client.answer().error(413);
}

#[test]
fn a_large_announced_body_is_refused_without_reading_it() {
    let desk = desk();
    let mut client = desk.gateway.client();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {MASTER_KEY}\r\n");
    client.send(format!("{head}Content-Type: application/json\r\nContent-Length: 9999999999\r\n\r\n").as_bytes());
    client.answer().error(413);
}

#[test]
fn an_unknown_path_is_a_404_in_the_usual_shape() {
    let desk = desk();
    for path in
        ["/v1/nothing", "/v1", "/chat", "/v1/chat/completions/x", "/v1//chat/completions", "/..%2f..%2fetc/passwd"]
    {
        let error = desk.gateway.post(path, HELLO).error(404);
        assert_eq!(error.code, "404");
        assert!(error.message.contains("POST"), "{error:?}");
    }
}

#[test]
fn a_known_path_with_another_method_is_a_405_that_names_the_right_one() {
    let desk = desk();
    for (method, path, right) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
    ] {
        let (name, value) = authorization();
        let answer = desk.gateway.call(method, path, &[(name, &value)], b"");
        assert_eq!(answer.error(405).code, "405");
        let allow = answer.header("allow").unwrap_or_default();
        assert!(allow.split(',').any(|m| m.trim() == right), "{method} {path}: Allow is {allow:?}");
    }
}

#[test]
fn a_path_of_an_unknown_model_is_refused_like_a_body_with_one() {
    let desk = desk();
    desk.gateway.post("/engines/smal/chat/completions", HELLO).error(400);
    assert!(desk.up.requests().is_empty());
}

#[test]
fn what_is_not_http_is_turned_away_and_others_are_still_served() {
    let desk = desk();
    for rubbish in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut client = desk.gateway.client();
        client.send(rubbish);
        let head = client.head();
        assert!((400..500).contains(&head.status()), "{head:?}");
    }
    desk.gateway.chat(HELLO).ok();
    assert_eq!(desk.up.requests().len(), 1);
}

#[test]
fn a_request_that_is_never_finished_holds_nobody_up() {
    let desk = desk();
    let mut halves: Vec<_> = (0..50).map(|_| desk.gateway.client()).collect();
    for half in &mut halves {
        half.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Le");
    }
    desk.gateway.chat(HELLO).ok();
}

#[test]
fn the_content_type_need_not_be_given() {
    let desk = desk();
    let (name, value) = authorization();
    let answer: Answer = desk.gateway.call("POST", "/v1/chat/completions", &[(name, &value)], HELLO.as_bytes());
    answer.ok();
}

#[test]
fn a_refused_request_is_in_the_log_with_its_status() {
    let desk = desk();
    desk.refuses(HELLO.replace("small", "nowhere"), 400);
    let call = desk.gateway.only_call();
    assert_eq!(call["status"], 400);
    assert_eq!(call["outcome"], "failure");
}
