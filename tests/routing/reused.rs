//! Connections that are closed while a request is on its way.

use super::{attempted, with};
use crate::support::reply::WHOLE;
use crate::support::{Answer, deployment, http, link::Link};
use serde_json::json;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What is done with each request on each connection: answered, or reset before its body was read.
const ANSWER: bool = true;
const RESET: bool = false;

/// An upstream by connection: what it does with the requests on it, one after the other. How many came is counted.
fn upstream(script: &'static [&'static [bool]]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let heads = Arc::new(AtomicUsize::new(0));
    let count = heads.clone();
    thread::spawn(move || {
        // Who connects once more than was foreseen is refused, and the test sees it.
        for requests in script {
            let link = Link::Tcp(listener.accept().unwrap().0);
            let mut writer = link.try_clone().unwrap();
            let mut reader = BufReader::new(link.try_clone().unwrap());
            for answered in *requests {
                let Ok(Some(head)) = http::read_head(&mut reader) else { break };
                count.fetch_add(1, Ordering::SeqCst);
                if !answered {
                    // Much of the body is neither sent nor read at this moment.
                    link.reset_on_close();
                    break;
                }
                http::read_body(&mut reader, &head).unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{WHOLE}",
                    WHOLE.len()
                );
                writer.write_all(head.as_bytes()).unwrap();
            }
        }
    });
    (base, heads)
}

/// More than the sockets between the two hold.
fn long() -> String {
    let text = "a long letter ".repeat(1 << 20);
    json!({"model": "small", "messages": [{"role": "user", "content": text}]}).to_string()
}

/// Two calls on one connection, which one worker serves with its own connections to the upstream.
fn twice(base: &str) -> Answer {
    // Nobody else is to connect.
    let gateway = with("[health]\nhouse_interval = \"0s\"\n", &[deployment("small", "openai/small-up", base)]);
    let mut client = gateway.client();
    client.post("/v1/chat/completions", long());
    client.answer().ok();
    client.post("/v1/chat/completions", long());
    client.answer()
}

#[test]
fn a_reused_connection_that_closes_before_the_request_is_written_is_replaced_once() {
    let (base, heads) = upstream(&[&[ANSWER, RESET], &[ANSWER]]);
    let answer = twice(&base).ok();
    assert_eq!(attempted(&answer), ("1".to_owned(), "0".to_owned()));
    assert_eq!(heads.load(Ordering::SeqCst), 3);
}

#[test]
fn what_closes_again_and_again_is_told() {
    let (base, heads) = upstream(&[&[ANSWER, RESET], &[RESET], &[RESET]]);
    let answer = twice(&base);
    answer.error(503);
    assert_eq!(attempted(&answer), ("1".to_owned(), "0".to_owned()));
    assert_eq!(heads.load(Ordering::SeqCst), 3);
}
