//! Two gateways on one Postgres: a budget is one budget, and what a killed one had set aside is neither lost nor stuck.

use super::PRICE;
use super::budgets::over;
use super::refused;
use super::strict::{CALL, COST, spent, storm, storm_as, storm_on, toml};
use crate::keys::{chat, generate};
use crate::support::feed::{PATIENCE, pass};
use crate::support::postgres::Postgres;
use crate::support::reply::text as delta;
use crate::support::setup::Ended;
use crate::support::{Gateway, Reply, Setup, Step, Upstream, config, model};
use serde_json::json;
use std::time::{Duration, Instant};

fn rounds() -> usize {
    std::env::var("GATEWAY_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// `gateway store release`, with these words behind it.
fn release(gateway: &Gateway, words: &[&str]) -> Ended {
    let setup = Setup::command(&["store", "release"]);
    let setup = setup.arg("--config").arg(gateway.dir().join("gateway.toml").to_str().unwrap());
    let setup = setup.arg("--env-file").arg(gateway.dir().join("env").to_str().unwrap());
    words.iter().fold(setup, |setup, word| setup.arg(word)).run()
}

const NOTHING: &str = "no gateway has set anything aside\n";

/// Who has set something aside.
fn reserved(gateway: &Gateway) -> String {
    let ended = release(gateway, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
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
    assert_eq!(reserved(&first), NOTHING);
}

#[test]
fn what_is_not_booked_yet_counts_when_another_gateway_comes() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let toml = toml(&database, "strict", &Upstream::new(Reply::texts(&["Hello"])));
    let first = Gateway::start(&toml);
    let bound = (CALL.len() as f64 + 50.0) * 1e-6;
    // Room for one call, and not for a second one behind it.
    let made = generate(&first, &json!({"max_budget": bound + COST / 2.0}));
    let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    postgres.sql(
        "CREATE TABLE gate AS SELECT 1 AS shut;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NULL; END';
        CREATE TRIGGER wait BEFORE INSERT ON ledger FOR EACH STATEMENT EXECUTE FUNCTION wait();",
    );
    assert_eq!(storm(&[&first], key, 1), 1);
    let second = Gateway::start(&toml);
    assert_eq!(storm(&[&second], key, 1), 0);
    assert_eq!(storm(&[&first], key, 1), 0);
    postgres.sql("DELETE FROM gate");
    let spent = spent(&first, token, 1);
    assert!((spent - COST).abs() < 1e-9, "{spent}");
    let end = Instant::now() + PATIENCE;
    while reserved(&first) != NOTHING {
        assert!(Instant::now() < end, "{}", reserved(&first));
        pass(Duration::from_millis(50));
    }
}

#[test]
fn two_gateways_never_exceed_a_strict_budget_of_a_model_together_whosever_it_is() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let toml = toml(&database, "strict", &Upstream::new(Reply::texts(&["Hello"])));
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    let most = 10.0 * COST;
    let limits = json!({"small": {"budget_limit": most, "time_period": "30d"}, "large": 1});
    let make = |path: &str, name: &str, id: &str| {
        first.post(path, json!({name: id, "model_max_budget": limits}).to_string()).ok();
    };
    make("/team/new", "team_id", "home");
    make("/user/new", "user_id", "ann");
    make("/customer/new", "user_id", "guest");
    make("/tag/new", "name", "night");
    let key = |fields: serde_json::Value| generate(&first, &fields)["key"].as_str().unwrap().to_owned();
    let (team, user, plain) = (key(json!({"team_id": "home"})), key(json!({"user_id": "ann"})), key(json!({})));
    for (owner, headers) in [
        ("model_per_team: home:small for 30d", &[("x-api-key", team.as_str())][..]),
        ("model_per_user: ann:small for 30d", &[("x-api-key", &user)]),
        ("model_per_end_user: guest:small for 30d", &[("x-api-key", &plain), ("x-litellm-end-user-id", "guest")]),
        ("model_per_tag: night:small for 30d", &[("x-api-key", &plain), ("x-litellm-tags", "night")]),
    ] {
        let answered: usize = (0..2).map(|_| storm_as(owner, &[&first, &second], headers, 24)).sum();
        assert!(answered as f64 * COST <= most && answered >= 5, "{owner}: {answered}");
    }
}

#[test]
fn a_soft_budget_counts_what_both_have_spent() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let toml = toml(&database, "compatible", &Upstream::new(Reply::whole()));
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    // Alone neither of them comes to it: each call costs 62 micro-dollars.
    let made = generate(&first, &json!({"soft_budget": 2.5 * COST, "budget_duration": "30d"}));
    let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    for gateway in [&first, &second, &first, &second] {
        chat(gateway, key).ok();
    }
    spent(&first, token, 4);
    let reached = chat(&second, key).ok().head.header("x-gateway-soft-budget-reached");
    assert_eq!(reached.as_deref(), Some("api_key"));
    second.wait_log("the soft budget", |line| line.contains("soft budget of api_key"));
}

#[test]
fn without_redis_each_gateway_admits_its_part_of_a_rate() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let toml = toml(&database, "compatible", &Upstream::new(Reply::whole()));
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    let key = |rpm: u64| generate(&first, &json!({"rpm_limit": rpm}))["key"].as_str().unwrap().to_owned();
    let wide = key(1000);
    let end = Instant::now() + PATIENCE;
    for gateway in [&first, &second] {
        let limit = || chat(gateway, &wide).ok().head.header("x-ratelimit-limit-requests");
        while limit().as_deref() != Some("500") {
            assert!(Instant::now() < end, "it does not know of the other one");
            pass(Duration::from_millis(50));
        }
    }
    let narrow = key(4);
    for gateway in [&first, &second] {
        chat(gateway, &narrow).ok();
        chat(gateway, &narrow).ok();
        refused(&chat(gateway, &narrow), "api_key", "requests");
    }
}

#[test]
fn two_gateways_never_exceed_a_strict_budget_of_a_deployment_together() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let up = Upstream::new(Reply::texts(&["Hello"]));
    let room = 10.0 * COST;
    let models = config("", &[model("small", &up) + PRICE + &format!("limits = {{ max_budget = {room} }}\n")]);
    let toml = format!("database_url = \"{}\"\n{models}[limits]\nbudget_mode = \"strict\"\n", postgres.url());
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    let made = generate(&first, &json!({}));
    let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    let mut answered = 0;
    for _ in 0..3 {
        answered += storm_on("deployment", &[&first, &second], key, 64);
    }
    let spent = spent(&first, token, answered);
    eprintln!("two gateways, strict deployment: {answered} of 192 calls answered, {spent} of {room} spent");
    assert!(spent <= room && answered >= 5, "{answered} {spent}");
    assert_eq!(reserved(&first), NOTHING);
}

#[test]
fn what_an_attempt_had_set_aside_is_given_back_before_the_next_one() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let (bad, good) = (
        Upstream::new(Reply::error(500, "server_error", None, "down")),
        Upstream::new(Reply::stream().send(&delta("a")).then(Step::Hold)),
    );
    let bound = (CALL.len() as f64 + 50.0) * 1e-6;
    // Room for one call at each, and for no second one.
    let own = |order: u8| format!("order = {order}\nlimits = {{ max_budget = {} }}\n", 1.5 * bound);
    let models = config("", &[model("small", &bad) + PRICE + &own(0), model("small", &good) + PRICE + &own(1)]);
    let toml = format!("database_url = \"{}\"\n{models}[limits]\nbudget_mode = \"strict\"\n", postgres.url());
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    let open = |gateway: &Gateway| {
        let mut client = gateway.client();
        let key = [("x-api-key", crate::support::MASTER_KEY)];
        client.request("POST", "/v1/chat/completions", &key, CALL.as_bytes());
        let status = client.head().status();
        (client, status)
    };
    let (mut one, status) = open(&first);
    assert_eq!(status, 200);
    one.content().unwrap();
    // The other gateway finds room where the first attempt failed, and none where the call goes on.
    assert_eq!(open(&second).1, 500);
    assert_eq!((bad.requests().len(), good.requests().len()), (2, 1));
    drop(one);
    let end = Instant::now() + PATIENCE;
    while reserved(&first) != NOTHING {
        assert!(Instant::now() < end, "{}", reserved(&first));
        pass(Duration::from_millis(100));
    }
}

#[test]
fn a_dearer_deployment_sets_more_aside_where_others_see_it() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let (bad, good) = (
        Upstream::new(Reply::error(500, "server_error", None, "down")),
        Upstream::new(Reply::stream().send(&delta("a")).then(Step::Hold)),
    );
    let dear = PRICE.replace("0.000001", "0.00001").replace("0.00001 }", "0.0001 }");
    let models = [
        model("small", &bad) + PRICE + "order = 0\n",
        model("small", &good) + &dear + "order = 1\n",
        model("dear", &good) + &dear,
    ];
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let toml = format!("{database}{}[limits]\nbudget_mode = \"strict\"\n", config("", &models));
    let (first, second) = (Gateway::start(&toml), Gateway::start(&toml));
    let bound = (CALL.len() as f64 + 50.0) * 1e-6;
    // Room for a dear call and some cheap ones, and for no second dear one.
    let made = generate(&first, &json!({"max_budget": 15.0 * bound}));
    let key = made["key"].as_str().unwrap();
    let open = |gateway: &Gateway, body: &str| {
        let mut client = gateway.client();
        client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], body.as_bytes());
        client
    };
    let mut one = open(&first, &CALL.replace("small", "dear"));
    assert_eq!(one.head().status(), 200);
    one.content().unwrap();
    let answer = open(&second, CALL).answer();
    assert!(matches!(answer.status, 422 | 500), "{}", answer.text());
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 1), "the dear one was asked");
    over(&open(&second, &CALL.replace("small", "dear")).answer(), 422, "api_key");
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
        while reserved(&gateways[0]) != NOTHING {
            assert!(Instant::now() < end, "{}", reserved(&gateways[0]));
            pass(Duration::from_millis(100));
        }
    }
}

#[test]
fn what_a_lost_gateway_had_set_aside_is_given_back_by_hand() {
    let Some(postgres) = Postgres::start() else { return eprintln!("SKIPPED: Postgres is not installed") };
    let database = format!("database_url = \"{}\"\n", postgres.url());
    let up = Upstream::new(Reply::stream().send(&delta("a")).then(Step::Hold));
    let toml = toml(&database, "strict", &up);
    let (first, mut lost) = (Gateway::start(&toml), Gateway::start(&toml));
    let bound = (CALL.len() as f64 + 50.0) * 1e-6;
    let made = generate(&first, &json!({"max_budget": 1.2 * bound}));
    let key = made["key"].as_str().unwrap();
    let open = |gateway: &Gateway| {
        let mut client = gateway.client();
        client.request("POST", "/v1/chat/completions", &[("x-api-key", key)], CALL.as_bytes());
        let status = client.head().status();
        (client, status)
    };
    let (client, status) = open(&lost);
    assert_eq!(status, 200);
    // While it counted alone it held that in its memory.
    let end = Instant::now() + PATIENCE;
    while reserved(&first) == NOTHING {
        assert!(Instant::now() < end, "the call is not told to others");
        pass(Duration::from_millis(50));
    }
    let listed = reserved(&first);
    let (id, rest) = listed.split_once(' ').unwrap();
    assert!(rest.ends_with("it lives\n"), "{listed}");
    let refused = release(&first, &[id]);
    assert!(refused.code != Some(0) && refused.stderr.contains("stop it first"), "{refused:?}");
    lost.signal("KILL");
    lost.wait_exit();
    drop((client, lost));
    // After ten seconds without a beat it is gone, and what it had set aside is not.
    let end = Instant::now() + PATIENCE;
    while reserved(&first).contains("it lives") {
        assert!(Instant::now() < end, "{}", reserved(&first));
        pass(Duration::from_millis(200));
    }
    assert_eq!(open(&first).1, 422);
    let released = release(&first, &[id]);
    assert_eq!(released.stdout, format!("1 set aside by {id} are given back\n"), "{released:?}");
    let nobody = release(&first, &[id]);
    assert!(nobody.code != Some(0) && nobody.stderr.contains("has set anything aside"), "{nobody:?}");
    // The gateway that is left hears of it.
    while open(&first).1 != 200 {
        assert!(Instant::now() < end + PATIENCE, "nothing is free");
        pass(Duration::from_millis(100));
    }
}
