//! Two gateways that count their rates together, in Redis.

use super::{PRICE, refused};
use crate::chat::HELLO;
use crate::support::feed::{PATIENCE, pass};
use crate::support::{Gateway, Reply, Upstream, config, model};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KEY: &str = "sk-shared-app-key";

/// A server of its own, on a unix socket.
struct Redis {
    child: Child,
    dir: TempDir,
}

impl Redis {
    /// None where it is not installed.
    fn start() -> Option<Redis> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let child = command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < end, "redis-server does not start");
            pass(Duration::from_millis(20));
        }
        Some(Redis { child, dir })
    }

    fn gateway(&self, limits: &str, up: &Upstream) -> Gateway {
        let socket = self.dir.path().join("redis.sock");
        let toml = config("", &[model("small", up)]) + PRICE;
        let key = format!("[keys.app]\nkey = \"{KEY}\"\n{limits}\n");
        let gateway = Gateway::start(&format!("{toml}[limits]\nredis = \"unix://{}\"\n{key}", socket.display()));
        gateway.wait_log("Redis", |line| line.contains("limits.redis is in use"));
        gateway
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn call(gateway: &Gateway) -> crate::support::Answer {
    gateway.call("POST", "/v1/chat/completions", &[("x-api-key", KEY)], HELLO.as_bytes())
}

#[test]
fn two_gateways_share_a_rate_and_go_on_without_the_server() {
    let Some(mut redis) = Redis::start() else { return eprintln!("SKIPPED: redis-server is not installed") };
    let up = Upstream::new(Reply::whole());
    let start = || redis.gateway("rpm_limit = 5\ntpm_limit = 1000\nmax_parallel_requests = 1", &up);
    let (first, second) = (start(), start());
    for n in 0..5 {
        let answer = call(if n % 2 == 0 { &first } else { &second }).ok();
        assert_eq!(answer.head.header("x-ratelimit-remaining-requests"), Some((4 - n).to_string()));
        // The end of a call is told a moment after its answer.
        pass(Duration::from_millis(30));
    }
    for gateway in [&first, &second] {
        let message = refused(&call(gateway), "api_key", "requests");
        assert!(message.contains("Current limit: 5, Remaining: 0, Used: 5"), "{message}");
    }
    redis.stop();
    call(&first).ok();
    first.wait_log("that it is gone", |line| line.contains("limits.redis: ") && line.contains("in memory"));
}

#[test]
fn tokens_that_were_not_used_are_given_back_there() {
    let Some(redis) = Redis::start() else { return eprintln!("SKIPPED: redis-server is not installed") };
    let up = Upstream::new(Reply::whole());
    let gateway = redis.gateway("tpm_limit = 1000", &up);
    let left = || -> i64 { call(&gateway).ok().head.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap() };
    call(&gateway).ok();
    pass(Duration::from_millis(50));
    let one = left();
    pass(Duration::from_millis(50));
    assert_eq!(one - left(), 17);
}
