//! Two gateways that count their rates together, in Redis.

use super::{PRICE, refused};
use crate::chat::HELLO;
use crate::support::feed::{PATIENCE, pass};
use crate::support::{Gateway, Reply, Setup, Upstream, config, model, tls};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KEY: &str = "sk-shared-app-key";

/// A server of its own: on a unix socket, and with TLS on a port that the system chooses.
struct Redis {
    child: Child,
    dir: TempDir,
    tls_port: u16,
}

const PASSWORD: &str = "p@ss/w:rd";

impl Redis {
    /// None where it is not installed.
    fn start() -> Option<Redis> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("redis.sock");
        // Free now, and nobody else asks for it in the next moment.
        let tls_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--tls-port"]);
        command.arg(tls_port.to_string()).args(["--tls-auth-clients", "no", "--tls-ca-cert-file", tls::CA_FILE]);
        command.args(["--tls-cert-file", tls::CERTIFICATE, "--tls-key-file", tls::KEY]);
        command
            .args(["--user", "gateway", "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all", "--unixsocket"])
            .arg(&socket);
        let child = command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < end, "redis-server does not start");
            pass(Duration::from_millis(20));
        }
        Some(Redis { child, dir, tls_port })
    }

    fn gateway(&self, limits: &str, up: &Upstream) -> Gateway {
        let socket = self.dir.path().join("redis.sock");
        self.gateway_at(&format!("redis = \"unix://{}\"", socket.display()), limits, "", up)
    }

    fn gateway_at(&self, place: &str, limits: &str, own: &str, up: &Upstream) -> Gateway {
        let toml = config("", &[model("small", up) + PRICE + own]);
        let key = format!("[keys.app]\nkey = \"{KEY}\"\n{limits}\n");
        let setup = Setup::toml(&format!("{toml}[limits]\n{place}\n{key}"));
        let gateway = setup.secret("REDIS_PASSWORD", PASSWORD).start();
        gateway.wait_log("Redis", |line| line.contains("limits.redis is in use"));
        gateway
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap().success()
        );
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
fn a_server_that_answers_too_late_keeps_no_place() {
    let Some(redis) = Redis::start() else { return eprintln!("SKIPPED: redis-server is not installed") };
    let gateway = redis.gateway("max_parallel_requests = 1", &Upstream::new(Reply::whole()));
    call(&gateway).ok();
    redis.signal("STOP");
    // Counted here, while the server is going to count it too.
    call(&gateway).ok();
    gateway.wait_log("that it is slow", |line| line.contains("limits.redis: ") && line.contains("in memory"));
    redis.signal("CONT");
    let end = Instant::now() + PATIENCE;
    while !gateway.logs().contains("limits.redis answers again") || call(&gateway).status != 200 {
        assert!(Instant::now() < end, "a place is taken by nobody");
        call(&gateway);
        pass(Duration::from_millis(100));
    }
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

#[test]
fn a_deployment_s_rate_is_shared_like_any_other() {
    let Some(redis) = Redis::start() else { return eprintln!("SKIPPED: redis-server is not installed") };
    let up = Upstream::new(Reply::whole());
    let socket = format!("redis = \"unix://{}\"", redis.dir.path().join("redis.sock").display());
    let start = || redis.gateway_at(&socket, "", "limits = { rpm = 3 }\n", &up);
    let (first, second) = (start(), start());
    for gateway in [&first, &second, &first] {
        call(gateway).ok();
    }
    let message = refused(&call(&second), "deployment", "requests");
    assert!(message.contains("Current limit: 3, Remaining: 0, Used: 3"), "{message}");
}

#[test]
fn tls_and_a_password_are_spoken_and_the_certificate_is_checked() {
    let Some(redis) = Redis::start() else { return eprintln!("SKIPPED: redis-server is not installed") };
    let up = Upstream::new(Reply::whole());
    let (port, ca) = (redis.tls_port, tls::CA_FILE);
    let parts = format!(
        "redis_host = \"localhost\"\nredis_port = {port}\nredis_username = \"gateway\"\nredis_password = \"env:REDIS_PASSWORD\"\nredis_tls = true\nredis_ca_file = \"{ca}\""
    );
    let url = format!("redis = \"rediss://localhost:{port}/1\"\nredis_ca_file = \"{ca}\"");
    for place in [parts, url] {
        let gateway = redis.gateway_at(&place, "rpm_limit = 1", "", &up);
        call(&gateway).ok();
        refused(&call(&gateway), "api_key", "requests");
        assert!(!gateway.logs().contains(PASSWORD));
    }
    // Without the authority that has signed it, the server is not believed.
    let toml = config("", &[model("small", &up)]);
    let gateway = Gateway::start(&format!("{toml}[limits]\nredis = \"rediss://localhost:{port}\"\n"));
    gateway.wait_log("that it is not believed", |line| line.contains("limits.redis: ") && line.contains("ertificate"));
    gateway.chat(HELLO).ok();
}

#[test]
fn litellm_s_parts_of_an_address_are_read() {
    let Some(redis) = Redis::start() else { return eprintln!("SKIPPED: redis-server is not installed") };
    let up = Upstream::new(Reply::whole());
    let yaml = |port: &str| {
        format!(
            "model_list:\n- model_name: small\n  litellm_params: {{model: openai/small-up, api_base: '{}', api_key: os.environ/UPSTREAM_KEY}}\n\
             general_settings: {{master_key: os.environ/MASTER_KEY}}\n\
             router_settings: {{redis_host: os.environ/REDIS_HOST, redis_port: {port}, redis_password: os.environ/REDIS_PASSWORD}}\n",
            up.base()
        )
    };
    // Nothing listens without TLS: that it is tried where it is said is what can be seen.
    let port = redis.tls_port.to_string();
    for written in [port.as_str(), "os.environ/REDIS_PORT"] {
        let setup = Setup::yaml(&yaml(written)).secret("REDIS_HOST", "127.0.0.1").secret("REDIS_PORT", &port);
        let gateway = setup.secret("REDIS_PASSWORD", PASSWORD).start();
        gateway.wait_log("the server", |line| line.contains("limits.redis: "));
        assert!(!gateway.logs().contains("not yet") && !gateway.logs().contains(PASSWORD), "{}", gateway.logs());
    }
}
