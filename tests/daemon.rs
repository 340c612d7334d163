//! Life as a service: readiness, watchdog, reload, stop.

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::reply::text;
use crate::support::setup::run;
use crate::support::{Client, ErrorBody, Gate, Gateway, Reply, Setup, Step, Upstream, config, model};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn reload(gateway: &Gateway) -> crate::support::setup::Ended {
    run(&["reload", "--state-dir", gateway.dir().to_str().unwrap()])
}

/// A stream that stands after its first event until the gate is opened.
fn gated(gate: &Gate) -> Upstream {
    Upstream::new(Reply::stream().send(&text("first")).wait(gate).send(&text("last")).end())
}

fn open_stream(gateway: &Gateway) -> Client {
    let mut client = gateway.open_chat(STREAM);
    assert_eq!(client.head().status(), 200);
    assert!(client.content().unwrap().contains("first"));
    client
}

fn assert_complete(client: &mut Client) {
    assert_eq!(client.contents().last().map(String::as_str), Some("data: [DONE]"));
}

#[test]
fn readiness_comes_with_a_status_and_means_that_calls_are_served() {
    let gateway = Gateway::start(&config("", &[model("small", &Upstream::new(Reply::whole()))]));
    gateway.chat(HELLO).ok();
    let status = &gateway.wait_notice("STATUS=", 1)[0];
    assert!(status.lines().any(|l| l.len() > "STATUS=".len()), "{status:?}");
}

#[test]
fn a_broken_configuration_never_becomes_ready() {
    let ended = Setup::toml("[[models]]\nname = 5\n").run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("gateway.toml"), "{}", ended.stderr);
}

#[test]
fn the_watchdog_is_fed() {
    let setup = Setup::toml(&config("", &[])).watchdog(Duration::from_millis(300));
    let gateway = setup.start();
    let start = Instant::now();
    gateway.wait_notice("WATCHDOG=1", 6);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_watchdog_of_no_time_is_none() {
    let gateway = Setup::toml(&config("", &[])).watchdog(Duration::ZERO).start();
    gateway.get("/health/liveness").ok();
}

#[test]
fn without_a_watchdog_nothing_is_fed() {
    let gateway = Gateway::start(&config("", &[]));
    assert!(!gateway.notices().iter().any(|n| n.contains("WATCHDOG=1")));
}

#[test]
fn a_gateway_without_models_starts() {
    let gateway = Gateway::start(&config("", &[]));
    gateway.chat(HELLO).error(400);
    assert_eq!(gateway.get("/v1/models").ok().json()["data"], serde_json::json!([]));
}

#[test]
fn a_gateway_without_inherited_sockets_binds_what_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sock");
    let models = model("small", &Upstream::new(Reply::whole()));
    let text = config(&format!("listen = [\"unix:{}\", \"127.0.0.1:0\"]", path.display()), &[models]);
    let mut gateway = Setup::toml(&text).unbound().start();
    let mut client = Client::unix(&path);
    client.post("/v1/chat/completions", HELLO);
    client.answer().ok();
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(!path.exists(), "the socket's file is left behind");
}

#[test]
fn the_socket_of_a_gateway_that_was_killed_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sock");
    let text =
        config(&format!("listen = [\"unix:{}\"]", path.display()), &[model("small", &Upstream::new(Reply::whole()))]);
    drop(Setup::toml(&text).unbound().start());
    assert!(path.exists(), "this test wants a socket left behind by a killed process");
    let _gateway = Setup::toml(&text).unbound().start();
    let mut client = Client::unix(&path);
    client.post("/v1/chat/completions", HELLO);
    client.answer().ok();
}

#[test]
fn sockets_meant_for_another_process_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sock");
    let models = model("small", &Upstream::new(Reply::whole()));
    let text = config(&format!("listen = [\"unix:{}\"]", path.display()), &[models]);
    let _gateway = Setup::toml(&text).variable("LISTEN_PID", "1").start();
    let mut client = Client::unix(&path);
    client.post("/v1/chat/completions", HELLO);
    client.answer().ok();
}

#[test]
fn the_control_socket_is_for_its_owner_only() {
    let gateway = Gateway::start(&config("", &[]));
    let mode = std::fs::metadata(gateway.dir().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn a_reload_brings_new_models_and_leaves_open_streams_alone() {
    let gate = Gate::new();
    let (old, new) = (gated(&gate), Upstream::new(Reply::whole()));
    let gateway = Gateway::start(&config("", &[model("small", &old)]));
    let mut stream = open_stream(&gateway);
    gateway.rewrite(&config("", &[model("fresh", &new)]));
    let ended = reload(&gateway);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    gateway.chat(HELLO.replace("small", "fresh")).ok();
    gateway.chat(HELLO).error(400);
    gate.open();
    assert_complete(&mut stream);
}

#[test]
fn a_reload_if_running_is_done_when_none_runs_or_ends_while_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let ask = || run(&["reload", "--if-running", "--state-dir", dir.path().to_str().unwrap()]);
    assert_eq!(ask().code, Some(0));
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
    let path = dir.path().join("control.sock");
    // Two that take the question and end, then none.
    let ending = std::thread::spawn(move || {
        for _ in 0..2 {
            drop(socket.accept().unwrap());
        }
        std::fs::remove_file(path).unwrap();
    });
    let ended = ask();
    ending.join().unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("nothing to reload"), "{ended:?}");
    let gateway = Gateway::start(&config("", &[]));
    let ended = run(&["reload", "--if-running", "--state-dir", gateway.dir().to_str().unwrap()]);
    assert!(ended.code == Some(0) && ended.stdout.contains("reloaded"), "{ended:?}");
}

#[test]
fn a_broken_file_is_refused_on_reload_and_the_old_configuration_stays() {
    let gate = Gate::new();
    let up = gated(&gate);
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let mut stream = open_stream(&gateway);
    gateway.rewrite(&config("", &[model("small", &up) + "api_bas = \"x\"\n"]));
    let ended = reload(&gateway);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["api_bas", "`api_base`", "^"] {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
    }
    gate.open();
    assert_complete(&mut stream);
    gateway.chat(STREAM).ok();
}

#[test]
fn a_missing_master_key_is_refused_on_reload() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    gateway.rewrite(&config("", &[model("small", &up)]).replace("env:MASTER_KEY", "env:LOST_KEY"));
    let ended = reload(&gateway);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("LOST_KEY"), "{}", ended.stderr);
    gateway.chat(HELLO).ok();
}

#[test]
fn a_reload_re_reads_the_secrets() {
    let up = Upstream::new(Reply::whole());
    let up = up.rules(|rules| rules.authorization = vec![Some("Bearer sk-rotated".to_owned())]);
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    gateway.chat(HELLO).error(401);
    gateway.rewrite_secrets(&[("MASTER_KEY", crate::support::MASTER_KEY), ("UPSTREAM_KEY", "sk-rotated")]);
    assert_eq!(reload(&gateway).code, Some(0));
    gateway.chat(HELLO).ok();
    gateway.rewrite_secrets(&[("MASTER_KEY", "sk-new-master"), ("UPSTREAM_KEY", "sk-rotated")]);
    assert_eq!(reload(&gateway).code, Some(0));
    gateway.chat(HELLO).error(401);
    let headers = [("Authorization", "Bearer sk-new-master")];
    gateway.call("POST", "/v1/chat/completions", &headers, HELLO.as_bytes()).ok();
}

#[test]
fn sighup_reloads_and_tells_the_service_manager() {
    let (up, new) = (Upstream::new(Reply::whole()), Upstream::new(Reply::whole()));
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    for round in 1..=3 {
        gateway.rewrite(&config("", &[model(&format!("fresh-{round}"), &new)]));
        gateway.signal("HUP");
        let began = gateway.wait_notice("RELOADING=1", round).pop().unwrap();
        let stamp = began.lines().find_map(|l| l.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(stamp.parse::<u64>().unwrap() > 0, "{began:?}");
        gateway.wait_notice("READY=1", round + 1);
        gateway.chat(HELLO.replace("small", &format!("fresh-{round}"))).ok();
    }
}

#[test]
fn sighup_with_a_broken_file_is_ready_again_with_the_old_one() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    gateway.rewrite("this is = not [toml");
    gateway.signal("HUP");
    gateway.wait_notice("READY=1", 2);
    gateway.wait_log("the error of the new file", |line| line.contains("gateway.toml"));
    gateway.chat(HELLO).ok();
}

#[test]
fn limits_can_be_changed_by_a_reload() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let large = HELLO.replace("hi", &"x".repeat(4_000));
    gateway.chat(&large).ok();
    gateway.rewrite(&config("body_limit = \"1KiB\"\nkey_header = \"x-house\"", &[model("small", &up)]));
    assert_eq!(reload(&gateway).code, Some(0));
    gateway.chat(&large).error(413);
    let headers = [("x-house", crate::support::MASTER_KEY)];
    gateway.call("POST", "/v1/chat/completions", &headers, HELLO.as_bytes()).ok();
}

#[test]
fn a_visitor_of_the_control_socket_who_says_nothing_holds_nobody_up() {
    let gateway = Gateway::start(&config("", &[]));
    let path = gateway.dir().join("control.sock");
    let _silent: Vec<_> = (0..10).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    let mut rude = std::os::unix::net::UnixStream::connect(&path).unwrap();
    rude.write_all(&[0xff; 100_000]).unwrap_or_default();
    assert_eq!(reload(&gateway).code, Some(0));
}

#[test]
fn what_needs_a_restart_is_said_on_reload() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("workers = 2", &[model("small", &up)]));
    gateway.rewrite(&config("workers = 3", &[model("small", &up)]));
    let ended = reload(&gateway);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = format!("{}{}{}", ended.stdout, ended.stderr, gateway.logs());
    assert!(said.contains("workers") && said.contains("restart"), "{said}");
}

#[test]
fn a_file_that_is_replaced_while_the_gateway_starts_is_read_again() {
    let up = Upstream::new(Reply::whole());
    let setup = Setup::toml(&config("", &[model("small", &up)]));
    let credentials = tempfile::tempdir().unwrap();
    let pipe = credentials.path().join("env");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (file, new) = (setup.dir().join("gateway.toml"), setup.dir().join("gateway.new"));
    std::fs::write(&new, config("", &[model("other", &up)])).unwrap();
    std::thread::spawn(move || {
        // Whoever opens the other end has read the configuration, and waits for the secrets.
        while let Ok(mut end) = std::fs::OpenOptions::new().write(true).open(&pipe) {
            let _ = std::fs::rename(&new, &file);
            let _ = end.write_all(b"A=1\n");
        }
    });
    let gateway = setup.variable("CREDENTIALS_DIRECTORY", credentials.path().to_str().unwrap()).start();
    gateway.wait_log("the second look", |line| line.contains("reloaded"));
    gateway.chat(HELLO.replace("small", "other")).ok();
}

#[test]
fn what_a_restart_is_for_is_asked_of_systemd() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("workers = 2", &[model("small", &up)]));
    let tools = tempfile::tempdir().unwrap();
    let (tool, asked) = (tools.path().join("systemctl"), tools.path().join("asked"));
    let script = format!("#!/bin/sh\nfor word; do :; done\necho \"$word\" >>{}\n", asked.display());
    // By a child, so that no other test's fork holds the file open for writing while it is started.
    let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
    assert!(Command::new("/bin/sh").args(write).arg(&tool).arg(&script).status().unwrap().success());
    let reload = || {
        let mut command = Command::new(crate::support::setup::PROGRAM);
        command.args(["reload", "--if-running", "--or-restart", "gateway.service", "--state-dir"]).arg(gateway.dir());
        command.env("PATH", format!("{}:/usr/bin:/bin", tools.path().display())).output().unwrap()
    };
    let asked_for = || std::fs::read_to_string(&asked).unwrap_or_default();
    assert!(reload().status.success());
    assert_eq!(asked_for(), "", "nothing has changed");
    gateway.rewrite(&config("workers = 3", &[model("small", &up)]));
    let ended = reload();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(asked_for(), "gateway.service\n");
    // Without a key it might not get up again.
    gateway.rewrite(&config("workers = 4", &[model("small", &up)]).replace("master_key", "# master_key"));
    assert!(reload().status.success());
    assert_eq!(asked_for(), "gateway.service\n");
}

#[test]
fn reloads_under_load_lose_no_call() {
    let up = Upstream::new(Reply::whole());
    let text = config("", &[model("small", &up)]);
    let gateway = Gateway::start(&text);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| drop(gateway.chat(HELLO).ok())));
        }
        for _ in 0..10 {
            assert_eq!(reload(&gateway).code, Some(0));
        }
    });
}

#[test]
fn a_stop_lets_an_open_stream_finish() {
    for signal in ["TERM", "INT"] {
        let gate = Gate::new();
        let mut gateway = Gateway::start(&config("drain = \"15s\"", &[model("small", &gated(&gate))]));
        let mut stream = open_stream(&gateway);
        gateway.signal(signal);
        gateway.wait_notice("STOPPING=1", 1);
        gate.open();
        assert_complete(&mut stream);
        drop(stream);
        assert_eq!(gateway.wait_exit().code(), Some(0), "{signal}");
        assert_eq!(gateway.only_call()["outcome"], "success");
    }
}

#[test]
fn a_stop_lets_an_open_whole_answer_finish_and_then_closes_the_connection() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::after(&gate, Reply::whole()));
    let mut gateway = Gateway::start(&config("drain = \"15s\"", &[model("small", &up)]));
    let mut client = gateway.open_chat(HELLO);
    up.wait_requests(1);
    gateway.signal("TERM");
    gateway.wait_notice("STOPPING=1", 1);
    gate.open();
    let answer = client.answer().ok();
    assert_eq!(answer.header("connection").as_deref().map(str::to_lowercase).as_deref(), Some("close"));
    assert!(client.is_closed());
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_stream_over_the_limit_of_the_stop_ends_in_an_error_event() {
    let up = Upstream::new(Reply::stream().send(&text("first")).then(Step::Hold));
    let mut gateway = Gateway::start(&config("drain = \"300ms\"", &[model("small", &up)]));
    let mut stream = open_stream(&gateway);
    let start = Instant::now();
    gateway.signal("TERM");
    let events = stream.contents();
    assert_eq!(events.len(), 1, "{events:#?}");
    let error = ErrorBody::of_event(&events[0]);
    assert!(error.message.to_lowercase().contains("stop") || error.message.contains("restart"), "{error:?}");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() > Duration::from_millis(290) && start.elapsed() < Duration::from_secs(8));
    up.wait_departures(1);
    assert_eq!(gateway.wait_calls(1).len(), 1);
}

#[test]
fn a_whole_answer_over_the_limit_of_the_stop_is_an_error_status() {
    let up = Upstream::new(Reply::silence());
    let mut gateway = Gateway::start(&config("drain = \"300ms\"", &[model("small", &up)]));
    let mut client = gateway.open_chat(HELLO);
    up.wait_requests(1);
    gateway.signal("TERM");
    client.answer().error(503);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn an_idle_gateway_stops_at_once_in_spite_of_open_connections() {
    let mut gateway = Gateway::start(&config("drain = \"20s\"", &[model("small", &Upstream::new(Reply::whole()))]));
    let mut idle = gateway.client();
    idle.post("/v1/chat/completions", HELLO);
    idle.answer().ok();
    let _silent = gateway.client();
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_second_signal_ends_the_wait() {
    let up = Upstream::new(Reply::stream().send(&text("first")).then(Step::Hold));
    let mut gateway = Gateway::start(&config("drain = \"60s\"", &[model("small", &up)]));
    let mut stream = open_stream(&gateway);
    gateway.signal("TERM");
    gateway.wait_notice("STOPPING=1", 1);
    gateway.signal("TERM");
    stream.contents();
    let status = gateway.wait_exit();
    assert!(status.code().is_some() || status.signal().is_some(), "{status:?}");
}

#[test]
fn a_connection_made_during_a_stop_is_answered_or_left_for_the_next_process() {
    let gate = Gate::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let up = gated(&gate);
    let mut gateway = Setup::toml(&config("drain = \"15s\"", &[model("small", &up)])).on(&listener).start();
    let mut stream = open_stream(&gateway);
    gateway.signal("TERM");
    gateway.wait_notice("STOPPING=1", 1);
    let mut late = gateway.client();
    late.request("GET", "/health/liveliness", &[], b"");
    gate.open();
    assert_complete(&mut stream);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    listener.set_nonblocking(true).unwrap();
    match listener.accept() {
        Ok((mut next, _)) => {
            next.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            assert_eq!(late.head().status(), 200);
        }
        Err(_) => assert_eq!(late.head().status(), 200, "accepted, then dropped"),
    }
}

#[test]
fn a_restart_on_the_same_socket_refuses_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let up = Upstream::new(Reply::whole());
    let text = config("", &[model("small", &up)]);
    for _ in 0..3 {
        let mut gateway = Setup::toml(&text).on(&listener).start();
        gateway.chat(HELLO).ok();
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
}
