//! Two gateways on one Postgres: a budget is one budget, and what a killed one had set aside is neither lost nor stuck.

use super::strict::{CALL, COST, spent, storm, toml};
use crate::keys::generate;
use crate::support::feed::{PATIENCE, pass};
use crate::support::postgres::Postgres;
use crate::support::reply::text as delta;
use crate::support::{Gateway, Reply, Setup, Step, Upstream};
use serde_json::json;
use std::time::{Duration, Instant};

fn rounds() -> usize {
    std::env::var("GATEWAY_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

fn reserved(gateway: &Gateway, database: &str) -> String {
    let ended = Setup::command(&["store", "release"])
        .arg("--config")
        .arg(gateway.dir().join("gateway.toml").to_str().unwrap())
        .arg("--env-file")
        .arg(gateway.dir().join("env").to_str().unwrap())
        .run();
    assert_eq!(ended.code, Some(0), "{database} {ended:?}");
    ended.stdout
}

#[test]
fn two_gateways_never_exceed_a_strict_budget_together() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let up = Upstream::new(Reply::texts(&["Hello"]));
    let toml = toml(&database, "strict", &up);
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    for _ in 0..rounds() {
        let made = generate(&first, &json!({"max_budget": 10.0 * COST}));
        let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
        let mut answered = 0;
        for _ in 0..3 {
            answered += storm(&[&first, &second], key, 64);
        }
        let spent = spent(&first, token, answered);
        eprintln!("two gateways, strict: {answered} of 192 calls answered, {spent} of {} spent", 10.0 * COST);
        assert!(spent <= 10.0 * COST && answered >= 5, "{answered} {spent}");
        assert!((spent - answered as f64 * COST).abs() < 1e-9, "{answered} {spent}");
    }
    assert_eq!(reserved(&first, &database), "no gateway has set anything aside\n");
}

#[test]
fn a_kill_of_either_loses_no_reservation_and_leaves_none_stuck() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    for killed in (0..2).cycle().take(2 * rounds()) {
        let up = Upstream::new(Reply::stream().send(&delta("a")).then(Step::Hold));
        let toml = toml(&database, "strict", &up);
        let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let start = |n: usize| Setup::toml(&toml).state(states[n].path()).start();
        let mut gateways = [start(0), start(1)];
        // Room for two calls of this size, and for no third one.
        let bound = (CALL.len() as f64 + 50.0) * 1e-6;
        let made = generate(&gateways[0], &json!({"max_budget": 2.2 * bound}));
        let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
        let open = |gateway: &Gateway| {
            let mut client = gateway.client();
            client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], CALL.as_bytes());
            let status = client.head().status();
            (client, status)
        };
        let (mut one, status) = open(&gateways[0]);
        assert_eq!(status, 200);
        one.content().unwrap();
        let (mut two, status) = open(&gateways[1]);
        assert_eq!(status, 200);
        two.content().unwrap();
        assert_eq!(open(&gateways[1 - killed]).1, 422, "a third call fits");
        gateways[killed].signal("KILL");
        gateways[killed].wait_exit();
        // What the killed one had set aside stays.
        assert_eq!(open(&gateways[1 - killed]).1, 422, "a reservation was lost with its gateway");
        gateways[killed] = start(killed);
        // Its successor books the call at what was set aside, and nothing beyond that is left.
        let end = Instant::now() + PATIENCE;
        let told = || gateways[killed].get(&format!("/key/info?key={token}")).ok().json()["info"]["spend"].as_f64();
        while told().unwrap() < bound * 0.99 && Instant::now() < end {
            pass(Duration::from_millis(50));
        }
        assert!((told().unwrap() - bound).abs() < 1e-9, "{:?} {bound}", told());
        // The other call ends by its caller, and gives back what it did not use.
        drop((one, two));
        while reserved(&gateways[0], &database) != "no gateway has set anything aside\n" {
            assert!(Instant::now() < end, "{}", reserved(&gateways[0], &database));
            pass(Duration::from_millis(100));
        }
    }
}
