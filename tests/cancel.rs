//! A caller who leaves: the upstream is left too, at once, also in silence.

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::reply::text;
use crate::support::{Gateway, Reply, Step, Upstream, config, model};
use std::time::{Duration, Instant};

/// Each scenario is played this often, and the best time counts: a busy test machine may delay one of them.
const ROUNDS: usize = 4;
const AT_ONCE: Duration = Duration::from_millis(100);
const AT_ALL: Duration = Duration::from_secs(2);

/// Lets callers leave after `read_events` events, and insists that the upstream is left in time.
fn leave(reply: Reply, server: &str, body: &str, read_events: usize) {
    let up = Upstream::new(reply);
    let gateway = Gateway::start(&config(server, &[model("small", &up)]));
    let mut delays = Vec::new();
    for round in 1..=ROUNDS {
        let mut client = gateway.open_chat(body);
        up.wait_requests(round);
        if read_events > 0 {
            assert_eq!(client.head().status(), 200);
        }
        for _ in 0..read_events {
            client.event().unwrap();
        }
        let left = Instant::now();
        drop(client);
        delays.push(up.wait_departures(round).saturating_duration_since(left));
    }
    let (best, worst) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!(*best < AT_ONCE && *worst < AT_ALL, "{delays:?}");
    let calls = gateway.wait_calls(ROUNDS);
    assert!(calls.iter().all(|call| call["outcome"] == "cancelled"), "{calls:#?}");
}

#[test]
fn a_caller_who_leaves_while_a_whole_answer_is_awaited_cancels_it() {
    leave(Reply::silence(), "", HELLO, 0);
}

#[test]
fn a_caller_who_leaves_before_the_stream_starts_cancels_it() {
    leave(Reply::silence(), "", STREAM, 0);
}

#[test]
fn a_caller_who_leaves_between_the_head_and_the_first_event_cancels_the_stream() {
    leave(Reply::stream().then(Step::Hold), "", STREAM, 0);
}

#[test]
fn a_caller_who_leaves_in_a_silent_stream_cancels_it() {
    leave(Reply::stream().send(&text("a")).then(Step::Hold), "", STREAM, 1);
}

#[test]
fn a_caller_who_leaves_among_keep_alives_cancels_the_stream() {
    leave(Reply::silence(), "early_commit = \"20ms\"\nkeep_alive = \"20ms\"", STREAM, 2);
}

#[test]
fn a_caller_who_leaves_while_text_flows_cancels_the_stream() {
    let flood = (0..20_000).fold(Reply::stream(), |reply, _| reply.send(&text("and so on")));
    leave(flood.then(Step::Hold), "", STREAM, 3);
}

#[test]
fn a_caller_who_does_not_read_holds_the_upstream_back() {
    let event = text(&"x".repeat(60_000));
    let up = Upstream::new((0..2_000).fold(Reply::stream(), |reply, _| reply.send(&event)).end());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let mut slow = gateway.open_chat(STREAM);
    assert_eq!(slow.head().status(), 200);
    // 120 MB are on offer; other callers are served meanwhile, and the gateway does not hoard what nobody reads.
    let mut quick = gateway.open_chat(STREAM);
    quick.head();
    assert!(quick.rest().len() > 120_000_000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 150_000, "the gateway grew to {peak} kB");
}

#[test]
fn a_cancelled_call_does_not_spoil_the_next_one() {
    let up = Upstream::script(|seen| if seen.text().contains("wait") { Reply::silence() } else { Reply::whole() });
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    for round in 1..=5 {
        let client = gateway.open_chat(HELLO.replace("hi", "wait"));
        up.wait_requests(round * 2 - 1);
        drop(client);
        gateway.chat(HELLO).ok();
    }
}

#[test]
fn a_cancelled_stream_is_counted_by_what_had_flowed() {
    let up = Upstream::new((0..10).fold(Reply::stream(), |r, _| r.send(&text("word "))).then(Step::Hold));
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let mut client = gateway.open_chat(STREAM);
    client.head();
    for _ in 0..10 {
        client.content().unwrap();
    }
    drop(client);
    let call = gateway.only_call();
    assert_eq!(call["outcome"], "cancelled");
    assert!(call["completion_tokens"].as_u64().is_some_and(|n| n >= 10), "{call}");
    assert!(call["prompt_tokens"].as_u64().is_some_and(|n| n > 0), "{call}");
}

#[test]
fn callers_who_leave_leave_nothing_behind() {
    let up = Upstream::new(Reply::stream().send(&text("a")).then(Step::Hold));
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let open_files = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    let before = open_files();
    for round in 0..4 {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let mut client = gateway.open_chat(STREAM);
                client.head();
                client.content().unwrap();
                client
            })
            .collect();
        drop(clients);
        up.wait_departures((round + 1) * 50);
    }
    gateway.wait_calls(200);
    assert!(open_files() < before + 25, "{} files were open, now {}", before, open_files());
}
