//! Streamed chat answers that go well: bytes flow as they arrive, and usage is known to the gateway in any case.

use crate::support::reply::{DONE, EVENT_STREAM, delta, event, finish, text, usage_chunk};
use crate::support::{ErrorBody, Gate, Gateway, Reply, Step, Upstream, config, model};
use serde_json::json;
use std::thread;

pub const HELLO: &str = r#"{"model":"small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const WITH_USAGE: &str = r#"{"model":"small","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;

fn serve(upstream: &Upstream) -> Gateway {
    Gateway::start(&config("", &[model("small", upstream)]))
}

/// The request with what the gateway adds to it taken out again.
fn without_options(body: &str) -> String {
    let options = r#""stream_options":{"include_usage":true}"#;
    assert_eq!(body.matches(options).count(), 1, "{body}");
    body.replace(&format!(",{options}"), "").replace(&format!("{options},"), "")
}

#[test]
fn a_stream_arrives_byte_for_byte() {
    let reply = Reply::texts(&["Hel", "lo \u{fc}", "\u{1f600}"]);
    let up = Upstream::new(reply.clone());
    let gateway = serve(&up);
    let mut client = gateway.open_chat(WITH_USAGE);
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert!(head.header("content-type").is_some_and(|v| v.starts_with("text/event-stream")), "{head:?}");
    assert_eq!(head.header("cache-control").as_deref(), Some("no-cache"));
    assert_eq!(head.header("content-encoding"), None);
    assert_eq!(head.header("x-litellm-response-cost"), None);
    assert!(head.header("x-litellm-call-id").is_some());
    assert_eq!(String::from_utf8(client.rest()).unwrap(), reply.body(true));
}

#[test]
fn a_streamed_request_goes_up_unchanged_but_for_the_name_and_the_wish_for_usage() {
    let up = Upstream::new(Reply::texts(&["a"]));
    let gateway = serve(&up);
    let body = "{\"messages\" : [ {\"role\":\"user\",\"content\":\"hi\"}]\n, \"stream\":  true, \"temperature\":1.0E0, \"model\":\"small\" }";
    gateway.chat(body).ok();
    assert_eq!(without_options(&up.only_request().text()), body.replace("small", "small-up"));
}

#[test]
fn the_usage_chunk_is_kept_from_a_caller_who_did_not_ask_for_it() {
    let reply = Reply::texts(&["a", "b"]);
    let up = Upstream::new(reply.clone());
    let gateway = serve(&up);
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false));
    let call = gateway.only_call();
    assert_eq!((&call["prompt_tokens"], &call["completion_tokens"]), (&json!(12), &json!(5)));
    assert_eq!((&call["stream"], &call["outcome"]), (&json!(true), &json!("success")));
}

#[test]
fn the_usage_chunk_reaches_a_caller_who_asked_for_it() {
    let reply = Reply::texts(&["a", "b"]);
    let up = Upstream::new(reply.clone());
    let gateway = serve(&up);
    assert_eq!(gateway.chat(WITH_USAGE).ok().text(), reply.body(true));
    assert_eq!(up.only_request().text(), WITH_USAGE.replace("small", "small-up"));
    assert_eq!(gateway.only_call()["prompt_tokens"], 12);
}

#[test]
fn a_refusal_of_usage_is_overruled_upstream_only() {
    let reply = Reply::texts(&["a"]);
    let up = Upstream::new(reply.clone());
    let gateway = serve(&up);
    let options = r#""stream_options":{"include_obfuscation":false,"include_usage":false}"#;
    let body = HELLO.replace("\"stream\":true", &format!("\"stream\":true,{options}"));
    assert_eq!(gateway.chat(body).ok().text(), reply.body(false));
    let sent = up.only_request().json()["stream_options"].clone();
    assert_eq!(sent, json!({"include_usage": true, "include_obfuscation": false}));
}

#[test]
fn null_stream_options_count_as_none() {
    let reply = Reply::texts(&["a"]);
    let up = Upstream::new(reply.clone());
    let body = HELLO.replace("\"stream\":true", "\"stream_options\":null,\"stream\":true");
    assert_eq!(serve(&up).chat(body).ok().text(), reply.body(false));
    assert_eq!(up.only_request().json()["stream_options"], json!({"include_usage": true}));
}

#[test]
fn a_null_stream_is_a_whole_answer() {
    let up = Upstream::new(Reply::whole());
    let body = HELLO.replace("\"stream\":true", "\"stream\":null");
    let answer = serve(&up).chat(&body).ok();
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(up.only_request().text(), body.replace("small", "small-up"));
}

#[test]
fn usage_in_the_finish_chunk_is_taken_out_unless_it_was_asked_for() {
    let last = |usage: &str| {
        format!(
            "data: {{\"x\": [1.0] ,\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]{usage}}}\n\n"
        )
    };
    let sent = last(", \"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}");
    let reply = Reply::stream().send(&text("a")).send(&sent).send(DONE).end_body();
    let gateway = serve(&Upstream::new(reply.clone()));
    assert_eq!(gateway.chat(WITH_USAGE).ok().text(), reply.body(false));
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false).replace(&sent, &last("")));
    for call in gateway.wait_calls(2) {
        assert_eq!((&call["prompt_tokens"], &call["completion_tokens"]), (&json!(7), &json!(3)));
    }
}

#[test]
fn null_usage_in_every_chunk_is_passed_on_and_not_mistaken_for_usage() {
    let part =
        event(&json!({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}], "usage": null}));
    let reply = Reply::stream().send(&part).send(&part).end();
    let gateway = serve(&Upstream::new(reply.clone()));
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false));
    assert_eq!(gateway.only_call()["prompt_tokens"], 12);
}

#[test]
fn a_chunk_with_empty_choices_but_no_usage_is_passed_on() {
    let odd = event(&json!({"choices": [], "citations": ["https://a.example"]}));
    let reply = Reply::stream().send(&odd).send(&text("a")).end();
    let up = Upstream::new(reply.clone());
    assert_eq!(serve(&up).chat(HELLO).ok().text(), reply.body(false));

    // What Azure's filters say of the prompt has no id and no model, and clients stumble over it.
    let filters = event(&json!({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}));
    let up = Upstream::new(Reply::stream().send(&filters).send(&text("a")).end());
    assert_eq!(serve(&up).chat(HELLO).ok().text(), Reply::stream().send(&text("a")).end().body(false));
}

#[test]
fn text_that_looks_like_usage_or_an_end_is_only_text() {
    let tricky = ["data: [DONE]\n\n", "\"choices\":[],\"usage\":{}", "{\"error\":{\"message\":\"no\"}}", "\r\n: x\n"];
    let reply = Reply::texts(&tricky);
    let gateway = serve(&Upstream::new(reply.clone()));
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false));
    assert_eq!(gateway.only_call()["outcome"], "success");
}

#[test]
fn every_event_arrives_before_the_next_one_is_sent() {
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let reply = Reply::stream().send(&text("0")).wait(&gates[0]).send(&text("1")).wait(&gates[1]);
    let up = Upstream::new(reply.send(&text("2")).wait(&gates[2]).end());
    let gateway = serve(&up);
    let mut client = gateway.open_chat(HELLO);
    client.head();
    for (count, gate) in gates.iter().enumerate() {
        assert_eq!(client.content().unwrap() + "\n\n", text(&count.to_string()));
        gate.open();
    }
    assert_eq!(client.contents().last().map(String::as_str), Some("data: [DONE]"));
}

#[test]
fn the_first_event_is_not_held_back_for_the_second() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::stream().send(&delta(json!({"role": "assistant"}), None)).wait(&gate).end());
    let gateway = serve(&up);
    let mut client = gateway.open_chat(HELLO);
    assert_eq!(client.head().status(), 200);
    assert!(client.content().unwrap().contains("assistant"));
    gate.open();
    client.rest();
}

#[test]
fn events_may_be_split_anywhere() {
    let whole = Reply::texts(&["Gr\u{fc}\u{df}e", "\u{1f600}\u{1f680}"]).body(true);
    let up = Upstream::new(Reply::stream().then(Step::EveryByte(whole.clone().into())).end_body());
    let gateway = serve(&up);
    assert_eq!(gateway.chat(WITH_USAGE).ok().text(), whole);
    let seen = gateway.chat(HELLO).ok().text();
    assert_eq!(seen, whole.replace(&usage_chunk(), ""));
    assert!(gateway.wait_calls(2).iter().all(|call| call["prompt_tokens"] == 12));
}

#[test]
fn many_events_may_come_in_one_piece() {
    let whole = Reply::texts(&["a", "b", "c"]).body(true);
    let up = Upstream::new(Reply::stream().send(&whole).end_body());
    let gateway = serve(&up);
    assert_eq!(gateway.chat(HELLO).ok().text(), whole.replace(&usage_chunk(), ""));
}

#[test]
fn line_ends_comments_and_missing_spaces_are_understood() {
    let body = Reply::texts(&["a", "b"]).body(true);
    let odd = format!(": upstream says hello\n\n{}", body.replace("data: ", "data:")).replace('\n', "\r\n");
    let up = Upstream::new(Reply::stream().send(&odd).end_body());
    let gateway = serve(&up);
    let answer = gateway.chat(HELLO).ok().text();
    let data = |text: &str| -> Vec<String> {
        text.lines().filter_map(|l| l.strip_prefix("data:")).map(|l| l.trim().to_owned()).collect()
    };
    assert_eq!(data(&answer), data(&body.replace(&usage_chunk(), "")));
    assert_eq!(gateway.only_call()["prompt_tokens"], 12);
}

#[test]
fn a_comment_before_the_first_event_takes_nothing_of_it() {
    let body = format!(": here it comes\n{}{}{DONE}", text("a"), finish());
    let gateway = serve(&Upstream::new(Reply::stream().send(&body).end_body()));
    assert_eq!(gateway.chat(HELLO).ok().text(), body);
}

#[test]
fn blank_lines_before_an_error_leave_it_its_status() {
    let error = event(&json!({"error": {"message": "slow down", "code": 429}}));
    let gateway = serve(&Upstream::new(Reply::stream().send("\n\n").send(&error).end_body()));
    gateway.chat(HELLO).error(429);
}

#[test]
fn a_stream_without_done_gets_one() {
    let reply = Reply::stream().send(&text("a")).send(&finish()).end_body();
    let gateway = serve(&Upstream::new(reply.clone()));
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false) + DONE);
    assert_eq!(gateway.only_call()["outcome"], "success");
}

#[test]
fn a_stream_that_ends_with_the_connection_is_complete_when_it_says_so() {
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let body = Reply::texts(&["a"]).body(false);
    let up = Upstream::new(Reply(vec![Step::Raw(format!("{head}{body}").into()), Step::Close]));
    assert_eq!(serve(&up).chat(HELLO).ok().text(), body);
}

#[test]
fn an_upstream_that_keeps_the_connection_open_after_done_holds_nobody_up() {
    let reply = Reply::stream().send(&text("a")).send(&finish()).send(DONE).then(Step::Hold);
    let gateway = serve(&Upstream::new(reply.clone()));
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false));
}

#[test]
fn an_event_of_a_megabyte_passes() {
    let reply = Reply::texts(&["x".repeat(1 << 20).as_str()]);
    let up = Upstream::new(reply.clone());
    let answer = serve(&up).chat(HELLO).ok();
    assert!(answer.body == reply.body(false).as_bytes(), "the stream was changed");
}

#[test]
fn tool_call_pieces_pass_as_they_are() {
    let start = json!({"tool_calls": [{"index": 0, "id": "call_7", "type": "function", "function": {"name": "f", "arguments": ""}}]});
    let piece = json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"q\":"}}]});
    let reply =
        Reply::stream().send(&delta(start, None)).send(&delta(piece, None)).send(&delta(json!({}), Some("tool_calls")));
    let reply = reply.then(Step::ChunkIfUsageAsked(usage_chunk().into())).send(DONE).end_body();
    let up = Upstream::new(reply.clone());
    assert_eq!(serve(&up).chat(HELLO).ok().text(), reply.body(false));
}

#[test]
fn a_second_request_follows_a_stream_on_the_same_connection() {
    let reply = Reply::texts(&["a"]);
    let up = Upstream::new(reply.clone());
    let gateway = serve(&up);
    let mut client = gateway.client();
    for _ in 0..3 {
        client.post("/v1/chat/completions", HELLO);
        assert_eq!(client.answer().ok().text(), reply.body(false));
    }
}

#[test]
fn hundred_streams_flow_at_once() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::stream().send(&text("first")).wait(&gate).send(&text("last")).end());
    let gateway = serve(&up);
    thread::scope(|scope| {
        let streams: Vec<_> = (0..100)
            .map(|_| {
                let mut client = gateway.open_chat(HELLO);
                assert_eq!(client.head().status(), 200);
                assert!(client.content().unwrap().contains("first"));
                client
            })
            .collect();
        gate.open();
        for mut client in streams {
            scope.spawn(move || assert_eq!(client.contents().last().map(String::as_str), Some("data: [DONE]")));
        }
    });
    assert!(gateway.wait_calls(100).iter().all(|call| call["outcome"] == "success"));
}

#[test]
fn a_silent_upstream_is_covered_by_keep_alives() {
    let gate = Gate::new();
    let reply = Reply::texts(&["a"]);
    let up = Upstream::new(Reply::after(&gate, reply.clone()));
    let gateway = Gateway::start(&config("early_commit = \"50ms\"\nkeep_alive = \"50ms\"", &[model("small", &up)]));
    let mut client = gateway.open_chat(HELLO);
    assert_eq!(client.head().status(), 200);
    for _ in 0..3 {
        let event = client.event().unwrap();
        assert!(event.starts_with(": ") || event == ":", "{event:?}");
    }
    gate.open();
    let seen: String = client.contents().iter().map(|event| format!("{event}\n\n")).collect();
    assert_eq!(seen, reply.body(false));
}

#[test]
fn a_failure_after_the_early_head_is_an_error_event() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::after(&gate, Reply::error(500, "server_error", None, "the upstream is on fire")));
    let gateway = Gateway::start(&config("early_commit = \"50ms\"\nkeep_alive = \"50ms\"", &[model("small", &up)]));
    let mut client = gateway.open_chat(HELLO);
    assert_eq!(client.head().status(), 200);
    client.event().unwrap();
    gate.open();
    let events = client.contents();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert!(ErrorBody::of_event(&events[0]).message.contains("on fire"));
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn an_upstream_over_a_unix_socket_or_tls_streams_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let reply = Reply::texts(&["a", "b"]);
    let ups = [Upstream::unix(&dir.path().join("up.sock"), reply.clone()), Upstream::tls(reply.clone())];
    let ca = format!("ca_file = \"{}\"\n", crate::support::tls::CA_FILE);
    let gateway = Gateway::start(&config("", &[model("unix", &ups[0]), model("tls", &ups[1]) + &ca]));
    for name in ["unix", "tls"] {
        assert_eq!(gateway.chat(HELLO.replace("small", name)).ok().text(), reply.body(false), "{name}");
    }
}

#[test]
fn an_event_cut_between_two_chunks_arrives_whole() {
    let body = Reply::texts(&["a", "b"]).body(false);
    let (one, two) = body.split_at(body.len() / 2 - 3);
    let gate = Gate::new();
    let up = Upstream::new(Reply(vec![Step::Raw(EVENT_STREAM.into())]).send(one).wait(&gate).send(two).end_body());
    let gateway = serve(&up);
    let mut client = gateway.open_chat(HELLO);
    client.head();
    let first = client.content().unwrap();
    gate.open();
    let rest = client.contents();
    assert_eq!(format!("{first}\n\n{}\n\n", rest.join("\n\n")), body);
}

#[test]
fn an_event_of_several_lines_and_other_fields_is_understood() {
    let odd = "event: message\nid: 7\ndata: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\nretry: 5\n\n";
    let up = Upstream::new(Reply::stream().send(odd).end());
    let gateway = serve(&up);
    let events = {
        let mut client = gateway.open_chat(HELLO);
        client.head();
        client.contents()
    };
    assert!(events[0].contains("\"content\":\"a\""), "{events:#?}");
    assert_eq!(events.last().map(String::as_str), Some("data: [DONE]"));
    assert_eq!(gateway.only_call()["prompt_tokens"], 12);
}

#[test]
fn what_comes_after_done_is_ignored() {
    let reply = Reply::texts(&["a"]);
    let body = reply.body(true) + &text("late") + DONE;
    let up = Upstream::new(Reply::stream().send(&body).end_body());
    let gateway = serve(&up);
    assert_eq!(gateway.chat(HELLO).ok().text(), reply.body(false));
    gateway.chat(HELLO).ok();
}
