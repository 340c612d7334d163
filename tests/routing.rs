//! One name, several deployments: the caller does not notice which of them answered, nor which of them could not.

mod checks;
mod mock;
mod reused;

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::feed::{PATIENCE, pass};
use crate::support::reply::WHOLE;
use crate::support::upstream::refusing;
use crate::support::{Answer, Client, Gate, Gateway, Reply, Step, Upstream, config, deployment, model};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn attempted(answer: &Answer) -> (String, String) {
    let header = |name: &str| answer.header(name).unwrap();
    (header("x-litellm-attempted-retries"), header("x-litellm-attempted-fallbacks"))
}

#[test]
fn a_deployment_that_fails_before_its_first_byte_is_not_noticed() {
    let (_socket, refused) = refusing();
    let faults = [
        Reply::error(500, "server_error", None, "down"),
        Reply::error(503, "server_error", None, "loading"),
        Reply::error(429, "rate_limit_error", None, "slow down"),
        Reply::error(401, "invalid_request_error", None, "no such key"),
        Reply::json(200, "nothing that makes sense"),
        Reply(vec![Step::Close]),
        Reply(vec![Step::Reset]),
    ];
    let bad = faults.map(|fault| Upstream::new(fault).base().to_owned());
    for bad in bad.into_iter().chain([format!("http://{refused}/v1")]) {
        let good = Upstream::script(|seen| match seen.json()["stream"] == true {
            true => Reply::texts(&["Hi"]),
            false => Reply::whole(),
        });
        let gateway =
            Gateway::start(&config("", &[deployment("small", "openai/small-up", &bad), model("small", &good)]));
        let answers: Vec<Answer> = [HELLO, HELLO, STREAM, STREAM].iter().map(|body| gateway.chat(body).ok()).collect();
        assert_eq!(answers[0].text(), WHOLE);
        let retries: usize = answers.iter().map(|a| attempted(a).0.parse::<usize>().unwrap()).sum();
        assert!(retries >= 1, "the bad one was never tried");
        let calls = gateway.wait_calls(4);
        assert!(calls.iter().all(|call| call["outcome"] == "success"), "{calls:#?}");
    }
}

/// A script by which of the models a request names.
fn failing(status: u16) -> Upstream {
    Upstream::new(Reply::error(status, "server_error", None, "no"))
}

fn good() -> Upstream {
    Upstream::script(|seen| match seen.json()["stream"] == true {
        true => Reply::texts(&["Hi"]),
        false => Reply::whole(),
    })
}

fn with(routing: &str, models: &[String]) -> Gateway {
    Gateway::start(&(config("", models) + "[routing]\n" + routing))
}

fn asks(model: &str, more: &str) -> String {
    HELLO.replace("\"small\"", &format!("\"{model}\"")).replacen('{', &format!("{{{more}"), 1)
}

#[test]
fn one_backend_that_is_down_is_a_503_at_once_and_no_other_model_answers() {
    let (_socket, refused) = refusing();
    let other = good();
    let models = [deployment("small", "openai/small-up", &format!("http://{refused}/v1")), model("large", &other)];
    let gateway = Gateway::start(&config("", &models));
    for body in [HELLO, STREAM, HELLO] {
        let begun = Instant::now();
        let answer = gateway.chat(body);
        answer.error(503);
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(answer.header("x-litellm-attempted-fallbacks").as_deref().unwrap_or("0"), "0");
    }
    assert!(other.requests().is_empty());
}

#[test]
fn what_cannot_succeed_is_not_tried_again_and_what_may_is() {
    for (status, attempts) in [(400, 1), (422, 1), (401, 1), (404, 1), (500, 3), (503, 3), (429, 3)] {
        let up = failing(status);
        let gateway = with("num_retries = 2\ncooldown_time = \"1ms\"\n", &[model("small", &up)]);
        let answer = gateway.chat(HELLO);
        assert_eq!(answer.status, status);
        assert_eq!(up.requests().len(), attempts, "{status}");
        if attempts > 1 {
            assert_eq!(attempted(&answer), ("2".to_owned(), "0".to_owned()));
        }
    }
}

#[test]
fn a_retry_policy_counts_by_sort_of_failure_and_the_request_before_all() {
    let up = failing(500);
    let policy = "num_retries = 3\nretry_policy = { InternalServerErrorRetries = 1 }\n";
    let gateway = with(policy, &[model("small", &up)]);
    gateway.chat(HELLO).error(500);
    assert_eq!(up.requests().len(), 2);
    gateway.chat(asks("small", "\"num_retries\":0,")).error(500);
    assert_eq!(up.requests().len(), 3);
}

#[test]
fn a_failing_model_falls_back_by_name_by_star_and_by_default() {
    for (routing, by) in [
        ("fallbacks = { small = [\"large\"] }\n", "name"),
        ("fallbacks = { \"*\" = [\"large\"] }\n", "star"),
        ("default_fallbacks = [\"large\"]\n", "default"),
        ("fallbacks = { small = [{ model = \"large\", temperature = 0.5 }] }\n", "table"),
    ] {
        let (bad, up) = (failing(500), good());
        let gateway = with(routing, &[model("small", &bad), model("large", &up)]);
        for body in [HELLO, STREAM] {
            let answer = gateway.chat(body).ok();
            assert_eq!(attempted(&answer), ("0".to_owned(), "1".to_owned()), "{by}");
        }
        let sent = up.requests()[0].json();
        assert_eq!(sent["model"], "large-up");
        assert_eq!(sent.get("temperature").is_some(), by == "table");
        assert_eq!(gateway.chat(asks("small", "\"disable_fallbacks\":true,")).status, 500);
        let calls = gateway.wait_calls(3);
        assert_eq!((&calls[0]["fallbacks"], &calls[0]["model"]), (&1.into(), &"small".into()));
    }
}

#[test]
fn a_request_names_its_own_fallbacks_and_they_are_all_there_are() {
    let (bad, worse, up) = (failing(500), failing(500), good());
    let models = [model("small", &bad), model("middle", &worse), model("large", &up)];
    let gateway = with("fallbacks = { middle = [\"large\"] }\n", &models);
    gateway.chat(asks("small", "\"fallbacks\":[\"middle\"],")).error(500);
    assert!(up.requests().is_empty());
    let answer = gateway.chat(asks("small", "\"fallbacks\":[\"middle\",{\"model\":\"large\",\"max_tokens\":7}],")).ok();
    assert_eq!(attempted(&answer).1, "2");
    assert_eq!(up.only_request().json()["max_tokens"], 7);
    let error =
        gateway.chat(asks("small", "\"fallbacks\":[{\"model\":\"large\",\"api_base\":\"http://x\"}],")).error(400);
    assert_eq!(error.param.as_deref(), Some("fallbacks[0].api_base"));
    gateway.chat(asks("small", "\"fallbacks\":\"large\",")).error(400);
}

#[test]
fn long_prompts_and_refused_content_have_fallbacks_of_their_own() {
    let long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    let refused = r#"{"error":{"message":"no","code":"content_filter"}}"#;
    for (body, lists) in [(long, "context_window_fallbacks"), (refused, "content_policy_fallbacks")] {
        let (bad, up, other) = (Upstream::new(Reply::json(400, body)), good(), good());
        let models = [model("small", &bad), model("large", &up), model("other", &other)];
        let routing = format!("fallbacks = {{ small = [\"other\"] }}\n{lists} = {{ small = [\"large\"] }}\n");
        let gateway = with(&routing, &models);
        gateway.chat(HELLO).ok();
        assert_eq!((bad.requests().len(), up.requests().len(), other.requests().len()), (1, 1, 0), "{lists}");
    }
}

#[test]
fn fallbacks_that_go_in_a_circle_end_and_the_first_error_is_told() {
    let (a, b) = (failing(500), failing(503));
    let gateway = with("fallbacks = { a = [\"b\"], b = [\"a\"] }\n", &[model("a", &a), model("b", &b)]);
    gateway.chat(asks("a", "")).error(500);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

#[test]
fn a_key_does_not_reach_by_a_fallback_what_it_may_not_use() {
    let (bad, up) = (failing(500), good());
    let gateway = with("fallbacks = { small = [\"large\"] }\n", &[model("small", &bad), model("large", &up)]);
    let key = gateway.post("/key/generate", r#"{"models":["small"]}"#).ok().json()["key"].as_str().unwrap().to_owned();
    let authorization = format!("Bearer {key}");
    let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
    gateway.call("POST", "/v1/chat/completions", &headers, HELLO.as_bytes()).error(500);
    assert!(up.requests().is_empty());
    gateway.chat(HELLO).ok();
    assert_eq!(up.requests().len(), 1);
}

#[test]
fn an_alias_leads_to_its_model_and_a_hidden_one_is_not_listed() {
    let up = good();
    let routing = "model_group_alias = { gpt-4 = \"small\", secret = { model = \"small\", hidden = true } }\n";
    let gateway = with(routing, &[model("small", &up)]);
    for name in ["gpt-4", "secret", "small"] {
        gateway.chat(asks(name, "")).ok();
    }
    assert!(up.requests().iter().all(|seen| seen.json()["model"] == "small-up"));
    let list = gateway.get("/v1/models").ok().text();
    assert!(list.contains("gpt-4") && !list.contains("secret"), "{list}");
}

#[test]
fn lower_orders_go_first_and_weights_share() {
    let ups = [good(), good(), good()];
    let models = [
        model("small", &ups[0]) + "order = 2\n",
        model("small", &ups[1]) + "order = 1\nweight = 1\n",
        model("small", &ups[2]) + "order = 1\nweight = 0\n",
    ];
    let gateway = Gateway::start(&config("", &models));
    (0..6).for_each(|_| drop(gateway.chat(HELLO).ok()));
    assert_eq!([0, 1, 2].map(|i| ups[i].requests().len()), [0, 6, 0]);
}

#[test]
fn a_call_with_tags_goes_where_the_tags_are() {
    let (paid, free) = (good(), good());
    let models =
        [model("small", &paid) + "tags = [\"paid\"]\n", model("small", &free) + "tags = [\"free\", \"default\"]\n"];
    let gateway = with("tag_filtering = true\n", &models);
    (0..3).for_each(|_| drop(gateway.chat(asks("small", "\"tags\":[\"paid\"],")).ok()));
    (0..2).for_each(|_| drop(gateway.chat(HELLO).ok()));
    gateway.chat(asks("small", "\"tags\":[\"other\"],")).ok();
    assert_eq!((paid.requests().len(), free.requests().len()), (3, 3));
}

#[test]
fn a_deployment_that_asks_for_rest_gets_it_and_all_of_them_are_a_429() {
    let tired =
        || Upstream::new(Reply::answer(429, &[("retry-after", "30"), ("Content-Type", "application/json")], b"{}"));
    let ups = [tired(), tired()];
    let gateway = Gateway::start(&config("", &[model("small", &ups[0]), model("small", &ups[1])]));
    gateway.chat(HELLO).error(429);
    let answer = gateway.chat(HELLO);
    let error = answer.error(429);
    assert!(error.message.contains("No deployments available"), "{error:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((20..=30).contains(&wait), "{wait}");
    assert_eq!((ups[0].requests().len(), ups[1].requests().len()), (1, 1));
    // One alone is asked again: nobody else can answer.
    let alone = tired();
    let gateway = Gateway::start(&config("", &[model("small", &alone)]));
    (0..2).for_each(|_| drop(gateway.chat(HELLO).error(429)));
    assert_eq!(alone.requests().len(), 2);
}

#[test]
fn what_fails_for_several_reasons_is_no_429() {
    let ups = [failing(429), failing(500)];
    let gateway = Gateway::start(&config("", &[model("small", &ups[0]), model("small", &ups[1])]));
    (0..2).for_each(|_| drop(gateway.chat(HELLO).error(500)));
}

#[test]
fn a_call_that_was_retried_and_fell_back_is_explained() {
    let (bad, up) = (failing(500), good());
    let models = [model("small", &bad), model("small", &bad), model("large", &up)];
    let gateway = with("fallbacks = { small = [\"large\"] }\n", &models);
    let key = gateway.post("/key/generate", "{}").ok().json()["key"].as_str().unwrap().to_owned();
    let authorization = format!("Bearer {key}");
    let headers = [("Authorization", &*authorization), ("x-gateway-explain", "1")];
    let answer = gateway.call("POST", "/v1/chat/completions", &headers, HELLO.as_bytes()).ok();
    let in_header: serde_json::Value = serde_json::from_str(&answer.header("x-gateway-explain").unwrap()).unwrap();
    let path = format!("/v1/requests/{}/explain", answer.header("x-litellm-call-id").unwrap());
    let told = gateway.call("GET", &path, &headers[..1], b"").ok().json();
    assert_eq!(told["steps"], in_header);
    let steps: Vec<&str> = told["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["choice", "attempt", "choice", "attempt", "choice", "fallback", "choice", "attempt"]);
    assert_eq!(told["steps"][1]["status"], 500);
    assert!(told["steps"][2]["candidates"].as_array().unwrap().iter().any(|c| c["dropped"] == "tried already"));
    println!("{told:#}");
    gateway.get(&path).ok();
    let other = gateway.post("/key/generate", "{}").ok().json()["key"].as_str().unwrap().to_owned();
    gateway.call("GET", &path, &[("Authorization", &format!("Bearer {other}"))], b"").error(404);
    gateway.get("/v1/requests/nonsense/explain").error(404);
}

#[test]
fn one_slot_serves_one_call_at_a_time_in_the_order_of_urgency() {
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    let left = std::sync::Mutex::new(gates.clone());
    let up = Upstream::script(move |_| Reply::after(&left.lock().unwrap().remove(0), Reply::whole()));
    let slot = model("small", &up) + "max_parallel_requests = 1\n";
    let gateway = with("[routing.queue]\nlength = 3\ntimeout = \"30s\"\n", &[slot]);
    let waiting = |count: usize| {
        let end = Instant::now() + PATIENCE;
        while gateway.get("/health/latest").ok().json()["queued"]["small"] != count {
            assert!(Instant::now() < end, "{count} calls should wait");
            pass(Duration::from_millis(5));
        }
    };
    let ask = |said: &str, priority: &str| {
        let mut client = gateway.client();
        let body = HELLO.replace("hi", said).replace("Hello", said);
        client.post_with("/v1/chat/completions", &[("x-gateway-priority", priority)], body);
        client
    };
    let mut first = ask("one", "default");
    up.wait_requests(1);
    let mut batch = ask("two", "batch");
    waiting(1);
    let mut usual = ask("three", "default");
    waiting(2);
    let mut urgent = ask("four", "interactive");
    waiting(3);
    ask("five", "interactive").answer().error(429);
    assert_eq!(up.requests().len(), 1, "one slot is one call");
    for (place, client) in [&mut first, &mut urgent, &mut usual, &mut batch].into_iter().enumerate() {
        gates[place].open();
        client.answer().ok();
        assert!(up.requests().len() <= place + 2);
    }
}

#[test]
fn without_a_queue_a_full_deployment_is_a_429_and_a_free_one_is_asked() {
    let gate = Gate::new();
    let held = gate.clone();
    let busy = Upstream::script(move |_| Reply::after(&held, Reply::whole()));
    let gateway = Gateway::start(&config("", &[model("small", &busy) + "max_parallel_requests = 1\n"]));
    let mut first = gateway.open_chat(HELLO);
    busy.wait_requests(1);
    let answer = gateway.chat(HELLO);
    answer.error(429);
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    gate.open();
    first.answer().ok();
    gateway.chat(HELLO).ok();
}

#[test]
fn hard_limits_of_a_minute_are_kept_and_the_rest_goes_elsewhere() {
    let (limited, other) = (good(), good());
    let models =
        [model("small", &limited) + "order = 0\nlimits = { rpm = 3 }\n", model("small", &other) + "order = 1\n"];
    let gateway = Gateway::start(&config("", &models));
    (0..8).for_each(|_| drop(gateway.chat(HELLO).ok()));
    assert_eq!((limited.requests().len(), other.requests().len()), (3, 5));
}

#[test]
fn calls_of_a_session_stay_together() {
    let ups = [good(), good(), good()];
    let gateway = with("session_affinity = true\n", &ups.each_ref().map(|up| model("small", up)));
    for session in 0..4 {
        for _ in 0..3 {
            gateway.chat(asks("small", &format!("\"litellm_session_id\":\"s{session}\","))).ok();
        }
    }
    assert!(ups.iter().all(|up| up.requests().len() % 3 == 0));
}

/// What callers saw of many calls at a time: good answers, and errors by their status.
fn storm(gateway: &Gateway, parallel: usize, calls: usize) -> std::collections::BTreeMap<u16, usize> {
    let (to, left) = (gateway.address(), Arc::new(AtomicUsize::new(calls)));
    let callers: Vec<_> = (0..parallel)
        .map(|caller| {
            let left = left.clone();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    let mut client = Client::tcp(to);
                    client.post("/v1/chat/completions", if caller % 2 == 0 { HELLO } else { STREAM });
                    let answer = client.answer();
                    let broke = answer.text().contains("\"error\"") && answer.status == 200;
                    seen.push(if broke { 599 } else { answer.status });
                }
                seen
            })
        })
        .collect();
    let mut counts = std::collections::BTreeMap::new();
    for status in callers.into_iter().flat_map(|caller| caller.join().unwrap()) {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// Each fault of one of two deployments, at 200 calls at a time: none reaches a caller before its first byte.
#[test]
fn no_fault_of_one_deployment_reaches_a_caller_that_another_one_could_serve() {
    let half = |bad: Reply| {
        let count = AtomicUsize::new(0);
        Upstream::script(move |seen| match count.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => bad.clone(),
            _ if seen.json()["stream"] == true => Reply::texts(&["Hi"]),
            _ => Reply::whole(),
        })
    };
    let flapping = {
        let begun = Instant::now();
        Upstream::script(move |seen| match begun.elapsed().as_millis() / 100 % 2 {
            0 => Reply::error(500, "server_error", None, "down"),
            _ if seen.json()["stream"] == true => Reply::texts(&["Hi"]),
            _ => Reply::whole(),
        })
    };
    let rest = Reply::answer(429, &[("retry-after", "1"), ("Content-Type", "application/json")], b"{}");
    let faults = [
        ("fails half the time", half(Reply::error(500, "server_error", None, "no"))),
        ("hangs", Upstream::new(Reply::silence())),
        ("flaps", flapping),
        ("429 with retry-after", Upstream::new(rest)),
        ("dies before the first byte", Upstream::new(Reply(vec![Step::Close]))),
        ("resets half the time", half(Reply(vec![Step::Reset]))),
    ];
    for (name, bad) in &faults {
        let models = [model("small", bad) + "timeout = \"1s\"\n", model("small", &good())];
        let gateway = Gateway::start(&config("", &models));
        let seen = storm(&gateway, 200, 400);
        println!("{name}: {seen:?}");
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [200], "{name}: {seen:?}");
    }
    // What cannot be hidden: all are down, or the first byte is out.
    let (_socket, refused) = refusing();
    let down = deployment("small", "openai/small-up", &format!("http://{refused}/v1"));
    let gateway = Gateway::start(&config("", &[down.clone(), down]));
    let seen = storm(&gateway, 200, 400);
    println!("all down: {seen:?}");
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [503]);
    let dying = Upstream::script(|seen| match seen.json()["stream"] == true {
        true => Reply::stream().send(&crate::support::reply::text("Hi")).then(Step::Close),
        false => Reply::whole(),
    });
    let gateway = Gateway::start(&config("", &[model("small", &dying), model("small", &good())]));
    let seen = storm(&gateway, 200, 400);
    println!("dies after the first byte: {seen:?}");
    assert!(seen.keys().all(|status| [200, 599].contains(status)), "{seen:?}");
}

/// 200 calls at once, and room for 23: 20 in a minute at one deployment, 3 at a time at the other.
#[test]
fn no_upstream_is_above_its_limits_whatever_the_strategy() {
    const PARALLEL: usize = 200;
    for strategy in [
        "simple-shuffle",
        "least-busy",
        "usage-based-routing",
        "usage-based-routing-v2",
        "latency-based-routing",
        "cost-based-routing",
        "peak-ewma",
    ] {
        let gate = Gate::new();
        let held = gate.clone();
        let (by_minute, by_slots) = (good(), Upstream::script(move |_| Reply::after(&held, Reply::whole())));
        // There the weights of LiteLLM are limits.
        let limit = if strategy.starts_with("usage") { "rpm = 20\n" } else { "limits = { rpm = 20 }\n" };
        let models = [model("small", &by_minute) + limit, model("small", &by_slots) + "max_parallel_requests = 3\n"];
        let gateway = with(&format!("strategy = \"{strategy}\"\n"), &models);
        let (tell, told) = std::sync::mpsc::channel();
        let callers: Vec<_> = (0..PARALLEL)
            .map(|_| {
                let (mut client, tell) = (Client::tcp(gateway.address()), tell.clone());
                std::thread::spawn(move || {
                    client.post("/v1/chat/completions", HELLO);
                    tell.send(client.answer().status).unwrap();
                })
            })
            .collect();
        let mut statuses: Vec<u16> = (0..PARALLEL - 3).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!((by_minute.requests().len(), by_slots.requests().len()), (20, 3), "{strategy}");
        gate.open();
        statuses.extend((0..3).map(|_| told.recv_timeout(PATIENCE).unwrap()));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        let good = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!((good, statuses.iter().filter(|status| **status == 429).count()), (23, PARALLEL - 23), "{strategy}");
        assert_eq!((by_minute.requests().len(), by_slots.requests().len()), (20, 3), "{strategy}");
    }
}
