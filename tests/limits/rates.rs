//! A rate that is driven at twice its limit: `tests/soak/limits` does it for three minutes, this for two seconds.

use super::{key_with, serve};
use crate::support::{Gateway, Reply, Upstream};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LIMIT: usize = 600;
/// Tokens that each call uses.
const TOKENS: usize = 17;
const BODY: &str = r#"{"model":"small","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;

fn seconds() -> u64 {
    std::env::var("GATEWAY_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// Asks 1,200 times a second, on eight connections.
fn drive(gateway: &Gateway, key: &str, until: Instant) -> usize {
    let pace = Duration::from_micros(8 * 1_000_000 / 1200);
    let asked: Vec<usize> = std::thread::scope(|scope| {
        let one = || {
            let (mut client, mut asked, mut next) = (gateway.client(), 0, Instant::now());
            while Instant::now() < until {
                client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], BODY.as_bytes());
                let status = client.answer().status;
                assert!(matches!(status, 200 | 429), "{status}");
                asked += 1;
                next += pace;
                crate::support::feed::pass(next.saturating_duration_since(Instant::now()));
            }
            asked
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    asked.iter().sum()
}

/// Drives it, and looks at every span of a minute at the upstream; how many calls a minute's limit is.
fn holds(limits: &serde_json::Value, what: &str) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = times.clone();
    let up = Upstream::script(move |_| {
        seen.lock().unwrap().push(Instant::now());
        Reply::whole()
    });
    let gateway = serve("", &up);
    let key = key_with(&gateway, limits);
    let span = Duration::from_secs(seconds());
    let start = Instant::now();
    let asked = drive(&gateway, &key, start + span);
    let mut times = times.lock().unwrap().clone();
    times.sort_unstable();
    let minute = Duration::from_secs(60);
    let most = (0..times.len()).map(|i| times[i..].iter().take_while(|t| **t < times[i] + minute).count()).max();
    let expected = LIMIT * (span.as_secs().div_ceil(60) as usize);
    eprintln!(
        "{what}: {asked} asked in {span:?}, {} admitted of {expected}, at most {} in any 60 s",
        times.len(),
        most.unwrap_or(0)
    );
    assert!(most <= Some(LIMIT), "{most:?} in a minute");
    if asked > LIMIT + 100 {
        assert!(times.len() * 100 >= expected * 99, "{} of {expected}", times.len());
    }
}

#[test]
fn no_span_of_a_minute_holds_more_requests_than_the_limit() {
    holds(&json!({"rpm_limit": LIMIT}), "rpm");
}

#[test]
fn no_span_of_a_minute_holds_more_tokens_than_the_limit() {
    holds(&json!({"tpm_limit": LIMIT * TOKENS}), "tpm");
}
