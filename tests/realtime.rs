//! OpenAI's Realtime API: frames both ways, what they cost, and how a session ends.

use crate::support::socket::{CLOSE, PING, PONG, Socket, Sockets, TEXT};
use crate::support::{Gateway, MASTER_KEY, Setup, UPSTREAM_KEY, authorization, config, deployment};
use serde_json::{Value, json};

fn priced(up: &Sockets) -> String {
    let info = "info = { input_cost_per_token = 0.001, output_cost_per_token = 0.01 }\n";
    config("", &[deployment("voice", "openai/gpt-realtime", &up.base) + info])
}

fn done(input: u64, output: u64) -> String {
    let usage = json!({"total_tokens": input + output, "input_tokens": input, "output_tokens": output,
        "input_token_details": {"cached_tokens": 0, "text_tokens": input, "audio_tokens": 0},
        "output_token_details": {"text_tokens": output, "audio_tokens": 0}});
    json!({"type": "response.done", "event_id": "e", "response": {"id": "resp_1", "status": "completed", "usage": usage}}).to_string()
}

const CREATED: &str = r#"{"type":"response.created","event_id":"e","response":{"id":"resp_1"}}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","event_id":"e","delta":"hel"}"#;

/// An upstream that answers each text with an answer, until it is said goodbye to.
fn answering() -> std::sync::Arc<Sockets> {
    Sockets::new(|socket| {
        socket.text(r#"{"type":"session.created","event_id":"e","session":{"id":"sess_1"}}"#);
        while let Some((opcode, payload)) = socket.next() {
            match opcode {
                TEXT => {
                    socket.text(CREATED);
                    socket.text(DELTA);
                    socket.text(&done(7, 3));
                }
                PING => socket.send(PONG, &payload),
                CLOSE => {
                    socket.send(CLOSE, &payload);
                    return;
                }
                other => panic!("{other}"),
            }
        }
    })
}

fn open(gateway: &Gateway, target: &str) -> Socket {
    let (name, key) = authorization();
    Socket::open(gateway.address(), target, &[(name, &key), ("OpenAI-Beta", "realtime=v1"), ("Cookie", "a=b")])
}

#[test]
fn frames_go_both_ways_and_each_answer_is_booked() {
    let up = answering();
    let gateway = Gateway::start(&priced(&up));
    let mut client = open(&gateway, "/v1/realtime?model=voice&intent=x&api_key=sk-x");
    assert_eq!(client.head.status(), 101);
    assert!(client.next_text().contains("session.created"));
    let head = up.heads.wait("a connection", |head| Some(head.clone()));
    assert_eq!(head.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
    assert_eq!((head.header("openai-beta").as_deref(), head.header("cookie")), (Some("realtime=v1"), None));
    assert!(head.start.starts_with("GET /v1/realtime?model=gpt-realtime&intent=x HTTP/1.1"), "{}", head.start);
    for _ in 0..2 {
        client.text(r#"{"type":"response.create"}"#);
        for expected in [CREATED, DELTA, &done(7, 3)] {
            assert_eq!(client.next_text(), expected);
        }
    }
    client.send(PING, b"are you there");
    assert_eq!(client.next(), Some((PONG, b"are you there".to_vec())));
    // Longer than what frames are cut into by others.
    client.text(&format!("{{\"audio\":\"{}\"}}", "A".repeat(300_000)));
    for _ in 0..3 {
        client.next_text();
    }
    client.close(1000);
    up.ends.wait("the end of the session", |()| Some(()));
    let rows = crate::ledger::rows(&gateway, 3);
    for row in &rows {
        assert_eq!((&row["call_type"], &row["status"]), (&json!("_arealtime"), &json!("success")));
        assert_eq!((&row["prompt_tokens"], &row["completion_tokens"]), (&json!(7), &json!(3)));
        assert_eq!(row["spend"], json!(0.037));
    }
}

#[test]
fn whoever_leaves_ends_the_other_side() {
    let up = answering();
    let gateway = Gateway::start(&priced(&up));
    let mut client = open(&gateway, "/realtime?model=voice");
    client.next_text();
    drop(client);
    up.ends.wait("the upstream's end", |()| Some(()));
    // In the middle of an answer what was seen of it is booked.
    let up = Sockets::new(|socket| {
        socket.text(CREATED);
        socket.text(DELTA);
        socket.text(DELTA);
        while socket.next().is_some_and(|(opcode, _)| opcode != CLOSE) {}
    });
    let gateway = Gateway::start(&priced(&up));
    let mut client = open(&gateway, "/v1/realtime?model=voice");
    for _ in 0..3 {
        client.next_text();
    }
    drop(client);
    up.ends.wait("the upstream's end", |()| Some(()));
    let row = crate::ledger::rows(&gateway, 1).remove(0);
    assert_eq!((&row["completion_tokens"], &row["spend"]), (&json!(2), &json!(0.02)));
}

#[test]
fn the_upstreams_goodbye_and_its_sudden_end_reach_the_caller() {
    let up = Sockets::new(|socket| socket.close(4001));
    let gateway = Gateway::start(&priced(&up));
    assert_eq!(open(&gateway, "/v1/realtime?model=voice").next_close().0, 4001);
    let up = Sockets::new(|_| ());
    let gateway = Gateway::start(&priced(&up));
    assert_eq!(open(&gateway, "/v1/realtime?model=voice").next_close(), (1011, "the upstream broke off".to_owned()));
}

#[test]
fn a_spent_budget_ends_a_session_before_its_next_answer() {
    let up = answering();
    let gateway = Gateway::start(&priced(&up));
    let key = gateway.post("/key/generate", json!({"max_budget": 0.03}).to_string()).ok().json();
    let protocols =
        format!("realtime, openai-insecure-api-key.{}, openai-beta.realtime-v1", key["key"].as_str().unwrap());
    let mut client =
        Socket::open(gateway.address(), "/v1/realtime?model=voice", &[("Sec-WebSocket-Protocol", &protocols)]);
    assert_eq!(client.head.header("sec-websocket-protocol").as_deref(), Some("realtime"));
    client.next_text();
    let head = up.heads.wait("a connection", |head| Some(head.clone()));
    assert_eq!(head.header("openai-beta").as_deref(), Some("realtime=v1"));
    assert_eq!(head.header("sec-websocket-protocol"), None);
    client.text("{}");
    for _ in 0..3 {
        client.next_text();
    }
    client.text("{}");
    let told: Value = serde_json::from_str(&client.next_text()).unwrap();
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!("budget_exceeded")));
    let (code, why) = client.next_close();
    assert!(code == 1008 && why.contains("Budget"), "{code} {why}");
    up.ends.wait("the upstream's end", |()| Some(()));
    let again = Socket::open(gateway.address(), "/v1/realtime?model=voice", &[("Sec-WebSocket-Protocol", &protocols)]);
    assert!(matches!(again.head.status(), 422 | 429), "{}", again.head.start);
}

#[test]
fn what_is_no_session_is_refused_before_anybody_is_connected_to() {
    let up = answering();
    let gateway = Gateway::start(&(priced(&up) + &deployment("c", "anthropic/claude-x", &up.base)));
    let (name, key) = authorization();
    let status =
        |target: &str, headers: &[(&str, &str)]| Socket::open(gateway.address(), target, headers).head.status();
    assert_eq!(status("/v1/realtime?model=voice", &[]), 401);
    assert_eq!(status("/v1/realtime?model=voice", &[("Sec-WebSocket-Protocol", "openai-insecure-api-key.sk-no")]), 401);
    for (target, expected) in [("/v1/realtime", 400), ("/v1/realtime?model=none", 400), ("/v1/realtime?model=c", 501)] {
        assert_eq!(status(target, &[(name, &key)]), expected, "{target}");
    }
    gateway.get("/v1/realtime?model=voice").error(400);
    assert!(up.heads.all().is_empty());
    let up = Sockets::refusing(403);
    let gateway = Gateway::start(&priced(&up));
    assert_eq!(open(&gateway, "/v1/realtime?model=voice").head.status(), 403);
    assert!(!gateway.logs().contains(MASTER_KEY));
}

#[test]
fn a_frame_that_is_too_large_or_none_ends_the_session() {
    for bytes in [&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4][..], &[0x83, 0x80, 1, 2, 3, 4]] {
        let up = answering();
        let gateway = Gateway::start(&priced(&up));
        let mut client = open(&gateway, "/v1/realtime?model=voice");
        client.next_text();
        client.raw(bytes);
        assert!(client.next_text().contains("no frame of WebSocket"));
        assert_eq!(client.next_close().0, 1008);
        up.ends.wait("the upstream's end", |()| Some(()));
    }
}

#[test]
fn a_stop_says_goodbye() {
    let up = answering();
    let mut gateway = Setup::toml(&priced(&up).replace("[server]", "[server]\ndrain = \"100ms\"")).start();
    let mut client = open(&gateway, "/v1/realtime?model=voice");
    client.next_text();
    gateway.signal("TERM");
    assert_eq!(client.next_close().0, 1001);
    up.ends.wait("the upstream's end", |()| Some(()));
    assert!(gateway.wait_exit().success());
}

#[test]
fn what_the_caller_says_is_written_down_at_another_models_price() {
    let session = json!({"type": "session.updated", "session": {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}});
    let heard = json!({"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "hi",
        "usage": {"type": "tokens", "total_tokens": 48, "input_tokens": 38, "output_tokens": 10,
            "input_token_details": {"text_tokens": 10, "audio_tokens": 28}}});
    let (session, heard) = (session.to_string(), heard.to_string());
    let up = Sockets::new(move |socket| {
        socket.text(&session);
        socket.text(&heard);
        while socket.next().is_some_and(|(opcode, _)| opcode != CLOSE) {}
    });
    let gateway = Gateway::start(&priced(&up));
    let mut client = open(&gateway, "/v1/realtime?model=voice");
    client.next_text();
    client.next_text();
    client.close(1000);
    let rows = crate::ledger::rows(&gateway, 2);
    let heard = rows.iter().find(|row| row["prompt_tokens"] == 38).unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((&heard["completion_tokens"], &heard["model_group"]), (&json!(10), &json!("voice")));
    // 38 x 2.5 + 10 x 10 millionths of a dollar, and not what the session's own model costs.
    assert_eq!(heard["spend"], json!(0.000195), "{heard}");
}

#[test]
fn a_session_goes_where_there_is_room_and_past_what_does_not_answer() {
    let up = answering();
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let entry = |base: &str, more: &str| deployment("voice", "openai/gpt-realtime", base) + more;
    // The first does not answer, the second has one slot.
    let text = config("", &[entry(&gone, "order = 1\n"), entry(&up.base, "order = 2\nmax_parallel_requests = 1\n")]);
    let gateway = Gateway::start(&text);
    let mut first = open(&gateway, "/v1/realtime?model=voice");
    assert_eq!(first.head.status(), 101);
    first.next_text();
    let second = open(&gateway, "/v1/realtime?model=voice");
    assert!(matches!(second.head.status(), 429 | 503), "{}", second.head.start);
    first.close(1000);
    up.ends.wait("the end of the session", |()| Some(()));
    let end = std::time::Instant::now() + crate::support::feed::PATIENCE;
    while open(&gateway, "/v1/realtime?model=voice").head.status() != 101 {
        assert!(std::time::Instant::now() < end, "the slot is not free again");
    }
}
