//! `gateway demo`: what the first five minutes look like.

use crate::support::{Client, Gateway, Setup};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

struct Demo {
    gateway: Gateway,
    address: SocketAddr,
    key: String,
}

/// Everything it has said, on whichever stream.
fn said(gateway: &Gateway) -> String {
    format!("{}\n{}", gateway.output(), gateway.logs())
}

fn demo() -> Demo {
    let setup = Setup::command(&["demo", "--port", "0"]);
    let state = setup.dir().to_str().unwrap().to_owned();
    let gateway = setup.arg("--state-dir").arg(&state).start();
    let curl = gateway.wait_output("a curl line", |line| line.contains("curl "));
    let url = curl.split_whitespace().find(|word| word.contains("http://127.0.0.1:")).unwrap();
    let url = url.trim_matches(['"', '\'']).strip_prefix("http://").unwrap();
    let address = url.split('/').next().unwrap().parse().unwrap();
    let key = key_file(&state);
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    assert!(said(&gateway).contains(key.to_str().unwrap()), "the path of the key is not told: {}", said(&gateway));
    let key = std::fs::read_to_string(key).unwrap().trim().to_owned();
    Demo { gateway, address, key }
}

/// The file of the state directory that holds the generated key.
fn key_file(state: &str) -> PathBuf {
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let mut keys = files.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("sk-")));
    keys.next().expect("a file with the generated key")
}

#[test]
fn the_demo_says_where_it_is_and_its_key_opens_it() {
    let demo = demo();
    let mut client = Client::tcp(demo.address);
    let bearer = format!("Bearer {}", demo.key);
    let body = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}]}"#;
    client.request("POST", "/v1/chat/completions", &[("Authorization", &bearer)], body.as_bytes());
    let answer = client.answer().ok().json();
    assert!(answer["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    assert!(answer["usage"]["total_tokens"].as_u64().is_some_and(|n| n > 0), "{answer}");
    client.request("POST", "/v1/chat/completions", &[], body.as_bytes());
    client.answer().error(401);
}

#[test]
fn the_key_is_not_printed_where_it_would_be_kept() {
    let demo = demo();
    assert!(!said(&demo.gateway).contains(&demo.key), "{}", said(&demo.gateway));
}

#[test]
fn the_demo_model_really_streams() {
    let demo = demo();
    let mut client = Client::tcp(demo.address);
    let bearer = format!("Bearer {}", demo.key);
    let body = r#"{"model":"demo","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
    client.request("POST", "/v1/chat/completions", &[("Authorization", &bearer)], body.as_bytes());
    assert_eq!(client.head().status(), 200);
    let events = client.contents();
    assert!(events.len() > 4, "{events:#?}");
    assert_eq!(events.last().map(String::as_str), Some("data: [DONE]"));
    assert!(events[events.len() - 2].contains("\"usage\":{"), "{events:#?}");
}

#[test]
fn the_curl_line_works_when_it_is_pasted() {
    let demo = demo();
    let line = demo.gateway.wait_output("a curl line", |line| line.contains("curl "));
    let start = line.find("curl ").unwrap();
    let all = demo.gateway.output();
    // The command may go on over several lines, each but the last ending in a backslash.
    let from = all.find(&line).unwrap() + start;
    let mut command = String::new();
    for part in all[from..].lines() {
        command += part;
        command += "\n";
        if !part.trim_end().ends_with('\\') {
            break;
        }
    }
    let output = std::process::Command::new("/bin/sh").arg("-c").arg(&command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && (text.contains("\"choices\"")), "{command}\n{text}{:?}", output.stderr);
}

#[test]
fn a_taken_port_is_named_with_its_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let setup = Setup::command(&["demo", "--port", &port]);
    let state = setup.dir().to_str().unwrap().to_owned();
    let ended = setup.arg("--state-dir").arg(&state).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&port) && ended.stderr.contains("--port"), "{}", ended.stderr);
}

#[test]
fn keys_of_the_environment_are_listed_by_name_and_not_spent() {
    let setup = Setup::command(&["demo", "--port", "0"]).variable("OPENAI_API_KEY", "sk-of-the-house-1");
    let state = setup.dir().to_str().unwrap().to_owned();
    let gateway = setup.arg("--state-dir").arg(&state).start();
    gateway.wait_output("the key's name", |line| line.contains("OPENAI_API_KEY"));
    assert!(!said(&gateway).contains("sk-of-the-house-1"));
}

#[test]
fn a_state_directory_that_cannot_hold_a_socket_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(100));
    let ended = crate::support::setup::run(&["demo", "--port", "0", "--state-dir", long.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("--state-dir") && !ended.stdout.contains("ready"), "{ended:?}");
}
