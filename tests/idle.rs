//! A gateway that ends by itself when nobody is connected, and loses nobody by it.

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::reply::text;
use crate::support::{Gate, Gateway, Reply, Setup, Upstream, config, model};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn idle(limit: &str) -> Setup {
    Setup::toml(&config("", &[])).arg("--idle-timeout").arg(limit)
}

#[test]
fn an_idle_gateway_ends_and_says_so() {
    let mut gateway = idle("200ms").start();
    let begun = Instant::now();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    gateway.wait_log("the reason", |line| line.contains("no connection for"));
    let notices = gateway.notices().join("\n");
    assert!(notices.contains("STOPPING=1") && notices.contains("STATUS=idle"), "{notices}");
}

#[test]
fn the_configuration_can_say_it_too_and_zero_is_never() {
    let text = config("idle_timeout = \"100ms\"", &[]);
    assert_eq!(Setup::toml(&text).start().wait_exit().code(), Some(0));
    let gateway = Setup::toml(&text).arg("--idle-timeout").arg("0s").start();
    std::thread::sleep(Duration::from_millis(500));
    gateway.get("/health/readiness").ok();
}

#[test]
fn without_inherited_sockets_it_is_refused() {
    let ended = Setup::toml(&config("listen = [\"127.0.0.1:0\"]", &[])).unbound().arg("--idle-timeout").arg("1m").run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["idle_timeout", "gateway.socket"] {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
    }
}

#[test]
fn an_open_stream_and_an_open_connection_keep_it_awake() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::stream().send(&text("first")).wait(&gate).send(&text("last")).end());
    let mut gateway = Setup::toml(&config("idle_timeout = \"150ms\"", &[model("small", &up)])).start();
    let mut stream = gateway.open_chat(STREAM);
    assert_eq!(stream.head().status(), 200);
    assert!(stream.content().unwrap().contains("first"));
    std::thread::sleep(Duration::from_millis(600));
    gate.open();
    assert_eq!(stream.contents().last().map(String::as_str), Some("data: [DONE]"));
    // The connection is kept for another call, so the gateway stays.
    std::thread::sleep(Duration::from_millis(600));
    stream.request("GET", "/health/liveliness", &[], b"");
    assert_eq!(stream.head().status(), 200);
    drop(stream);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

/// One request on a connection of its own; what came back until the end of the connection.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /health/liveliness HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Starts the gateway on the same socket whenever it has ended and somebody waits, as a service manager does.
/// Each round one client connects a little later than in the round before, across the moment of the exit.
#[test]
fn a_client_that_comes_at_the_moment_of_the_exit_is_served() {
    let rounds = std::env::var("GATEWAY_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(20_u64);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut first_served = 0;
    for round in 0..rounds {
        let mut gateway = idle("100ms").on(&listener).start();
        // The exit is decided between 100 and 125 ms from now, done 100 ms and a little later.
        let late = Duration::from_millis(10)
            + Duration::from_millis(220) * u32::try_from(round).unwrap() / u32::try_from(rounds).unwrap();
        let client = std::thread::spawn(move || {
            std::thread::sleep(late);
            ask(address)
        });
        assert_eq!(gateway.wait_exit().code(), Some(0), "round {round}: {}", gateway.logs());
        if client.is_finished() {
            first_served += 1;
        } else {
            // Somebody waits in the listen queue.
            assert_eq!(idle("100ms").on(&listener).start().wait_exit().code(), Some(0));
        }
        let answer = client.join().unwrap();
        let answer = answer.unwrap_or_else(|e| panic!("round {round}, after {late:?}: the client got: {e}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "round {round}, after {late:?}: {answer:?}");
    }
    println!("{rounds} rounds: {first_served} served by the first process, {} by the next", rounds - first_served);
    // A sweep that never meets one of the two sides shows nothing.
    assert!(first_served > 0 && first_served < rounds, "{first_served} of {rounds}");
}

#[test]
fn an_idle_exit_during_a_burst_of_clients_drops_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..40_u64)
        .map(|place| {
            std::thread::spawn(move || {
                // Gaps of more than the limit, so that the gateway ends several times on the way.
                std::thread::sleep(Duration::from_millis(place / 4 * 230 + place % 4 * 3));
                ask(address)
            })
        })
        .collect();
    let mut starts = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        let mut gateway: Gateway = idle("60ms").on(&listener).start();
        assert_eq!(gateway.wait_exit().code(), Some(0));
        starts += 1;
    }
    for client in clients {
        assert!(client.join().unwrap().unwrap().starts_with("HTTP/1.1 200"));
    }
    assert!(starts > 1, "the gateway never ended on the way");
}

#[test]
fn a_restart_under_load_drops_no_connection_that_was_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let up = Upstream::new(Reply::whole());
    let text = config("", &[model("small", &up)]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut served = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(ask(address).unwrap().starts_with("HTTP/1.1 200"));
                    served += 1;
                }
                served
            })
        })
        .collect();
    for _ in 0..5 {
        let mut gateway = Setup::toml(&text).on(&listener).start();
        gateway.chat(HELLO).ok();
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
    let last = Setup::toml(&text).on(&listener).start();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let served: u32 = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("{served} requests over 5 restarts");
    assert!(served > 20, "{served}");
    drop(last);
}
