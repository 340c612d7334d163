//! Budgets: what is spent is spent, whoever restarts the gateway, and what is reserved comes back.

use super::{PRICE, key_with, serve};
use crate::chat::HELLO;
use crate::keys::chat;
use crate::support::feed::{PATIENCE, pass};
use crate::support::postgres::Postgres;
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What a spent budget is answered with; gives the message.
pub fn over(answer: &Answer, status: u16, owner: &str) -> String {
    let error = answer.error(status);
    assert_eq!((error.kind.as_str(), error.code.as_str()), ("budget_exceeded", status.to_string().as_str()));
    assert!(error.message.starts_with("Budget has been exceeded! Current cost: "), "{error:?}");
    assert!(error.message.contains(&format!("It is the budget of {owner}")), "{error:?}");
    assert_eq!(answer.head.header("x-should-retry").as_deref(), Some("false"));
    error.message
}

/// Calls until one is refused; how many were admitted.
fn spend(gateway: &Gateway, key: &str) -> (usize, Answer) {
    for admitted in 0..100 {
        let answer = chat(gateway, key);
        if answer.status != 200 {
            return (admitted, answer);
        }
    }
    panic!("nothing is refused");
}

#[test]
fn a_spent_budget_refuses_and_says_whose_it_is() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve("", &up);
    // Three calls cost 186 micro-dollars.
    let key = key_with(&gateway, &json!({"key_alias": "laptop", "max_budget": 0.000_15}));
    let (admitted, answer) = spend(&gateway, &key);
    assert_eq!(admitted, 3);
    let message = over(&answer, 422, "api_key: laptop");
    assert!(message.contains("Current cost: 0.000186, Max budget: 0.00015."), "{message}");
    assert!(message.contains("never set back"), "{message}");
    // The management API sees the same, and more money opens the key again at once.
    let update = json!({"key": key, "max_budget": 1.0});
    gateway.post("/key/update", update.to_string()).ok();
    chat(&gateway, &key).ok();
}

#[test]
fn what_was_spent_is_known_after_a_restart_and_a_crash() {
    let test = |database: &str| {
        let up = Upstream::new(Reply::whole());
        let state = tempfile::tempdir().unwrap();
        let toml = format!("{database}{}{PRICE}", config("", &[model("small", &up)]));
        let start = || Setup::toml(&toml).state(state.path()).start();
        let mut gateway = start();
        let key = key_with(&gateway, &json!({"max_budget": 0.000_15, "budget_duration": "30d"}));
        chat(&gateway, &key).ok();
        gateway.signal("KILL");
        gateway.wait_exit();
        let mut gateway = start();
        chat(&gateway, &key).ok();
        gateway.signal("TERM");
        gateway.wait_exit();
        let gateway = start();
        chat(&gateway, &key).ok();
        let message = over(&chat(&gateway, &key), 422, "api_key");
        assert!(message.contains("Current cost: 0.000186") && message.contains("for 30d, and begins anew at "));
    };
    test("");
    match Postgres::start() {
        Some(postgres) => test(&format!("database_url = \"{}\"\n", postgres.url())),
        None => eprintln!("SKIPPED on Postgres: its server is not installed"),
    }
}

#[test]
fn the_status_of_a_spent_budget_can_be_chosen() {
    for status in [429_u16, 400] {
        let gateway = serve(&format!("budget_status = {status}\n"), &Upstream::new(Reply::whole()));
        let key = key_with(&gateway, &json!({"max_budget": 0}));
        over(&chat(&gateway, &key), status, "api_key");
    }
}

#[test]
fn a_team_s_budget_replaces_the_personal_one() {
    let gateway = serve("", &Upstream::new(Reply::whole()));
    gateway.post("/user/new", json!({"user_id": "ann", "max_budget": 0, "auto_create_key": false}).to_string()).ok();
    let personal = key_with(&gateway, &json!({"user_id": "ann"}));
    over(&chat(&gateway, &personal), 422, "user: ann");
    gateway.post("/team/new", json!({"team_id": "house", "max_budget": 0.000_1}).to_string()).ok();
    let of_team = key_with(&gateway, &json!({"user_id": "ann", "team_id": "house"}));
    let (admitted, answer) = spend(&gateway, &of_team);
    assert_eq!(admitted, 2);
    over(&answer, 422, "team: house");
}

#[test]
fn several_windows_hold_at_once_and_an_increase_ends() {
    let gateway = serve("", &Upstream::new(Reply::whole()));
    let windows = json!([
        {"budget_duration": "30d", "max_budget": 1.0},
        {"budget_duration": "1d", "max_budget": 0.000_06},
    ]);
    let key = key_with(&gateway, &json!({"budget_limits": windows}));
    chat(&gateway, &key).ok();
    assert!(over(&chat(&gateway, &key), 422, "api_key").contains("for 1d, and begins anew"));
    let body = |expiry: &str| json!({"max_budget": 0.0, "temp_budget_increase": 1.0, "temp_budget_expiry": expiry});
    let key = key_with(&gateway, &body("2999-01-01T00:00:00Z"));
    chat(&gateway, &key).ok();
    let key = key_with(&gateway, &body("2001-01-01T00:00:00Z"));
    over(&chat(&gateway, &key), 422, "api_key");
}

#[test]
fn a_window_ends_by_itself() {
    let gateway = serve("", &Upstream::new(Reply::whole()));
    let key = key_with(&gateway, &json!({"max_budget": 0.000_05, "budget_duration": "2s"}));
    let end = Instant::now() + PATIENCE;
    // A call that comes at the end of a window may be the first of the next one, too.
    while chat(&gateway, &key).status == 200 {
        assert!(Instant::now() < end, "no window is spent");
    }
    while chat(&gateway, &key).status != 200 {
        assert!(Instant::now() < end, "the next window does not begin");
        pass(Duration::from_millis(50));
    }
}

#[test]
fn all_callers_share_the_gateway_s_budget() {
    let gateway = serve("max_budget = 0.0001\nbudget_duration = \"1mo\"\n", &Upstream::new(Reply::whole()));
    gateway.chat(HELLO).ok();
    gateway.chat(HELLO).ok();
    over(&gateway.chat(HELLO), 422, "gateway: all calls for 1mo");
}

#[test]
fn what_is_set_back_by_hand_counts_at_once() {
    let gateway = serve("", &Upstream::new(Reply::whole()));
    let made = crate::keys::generate(&gateway, &json!({"max_budget": 0.000_05}));
    let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    chat(&gateway, key).ok();
    over(&chat(&gateway, key), 422, "api_key");
    // The spend has to be in the store before it can be set back there.
    booked(&gateway, token);
    gateway.post(&format!("/key/{token}/reset_spend"), r#"{"reset_to": 0}"#).ok();
    chat(&gateway, key).ok();
    over(&chat(&gateway, key), 422, "api_key");
}

/// Until the ledger has booked something of this key.
fn booked(gateway: &Gateway, token: &str) {
    let end = Instant::now() + PATIENCE;
    let spent = || gateway.get(&format!("/key/info?key={token}")).ok().json()["info"]["spend"].as_f64();
    while spent() == Some(0.0) && Instant::now() < end {
        pass(Duration::from_millis(20));
    }
}

#[test]
fn windows_in_memory_hear_of_what_is_set_back() {
    let gateway = serve("", &Upstream::new(Reply::whole()));
    let team = json!({"team_id": "house", "max_budget": 0.000_05, "budget_duration": "30d"});
    gateway.post("/team/new", team.to_string()).ok();
    let windows =
        json!([{"budget_duration": "1d", "max_budget": 0.000_05}, {"budget_duration": "1mo", "max_budget": 1.0}]);
    let limits = json!({"key_alias": "laptop", "soft_budget": 0.000_06, "budget_limits": windows});
    let made = crate::keys::generate(&gateway, &limits);
    let (key, token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    let made = crate::keys::generate(&gateway, &json!({"team_id": "house"}));
    let (of_team, team_token) = (made["key"].as_str().unwrap(), made["token"].as_str().unwrap());
    let soft = || gateway.logs().matches("the soft budget of api_key").count();
    for round in 1..3 {
        chat(&gateway, key).ok();
        over(&chat(&gateway, key), 422, "api_key: laptop for 1d");
        booked(&gateway, token);
        assert_eq!(soft(), round, "what is reached again is told again");
        gateway.post(&format!("/key/{token}/reset_spend"), r#"{"reset_to": 0}"#).ok();
    }
    chat(&gateway, key).ok();
    over(&chat(&gateway, key), 422, "api_key: laptop for 1d");
    chat(&gateway, of_team).ok();
    over(&chat(&gateway, of_team), 422, "team: house for 30d");
    booked(&gateway, token);
    booked(&gateway, team_token);
    gateway.post("/global/spend/reset", "").ok();
    chat(&gateway, key).ok();
    chat(&gateway, of_team).ok();
    over(&chat(&gateway, of_team), 422, "team: house for 30d");
    // What is set by hand counts as well: here as much as the day allows.
    booked(&gateway, token);
    gateway.post("/key/update", json!({"key": key, "spend": 0}).to_string()).ok();
    chat(&gateway, key).ok();
}

#[test]
fn a_model_that_costs_nothing_is_served_beyond_the_budget() {
    let up = Upstream::new(Reply::whole());
    let free = "info = { input_cost_per_token = 0, output_cost_per_token = 0 }\n";
    let gateway = Gateway::start(&config("", &[model("small", &up) + free, model("dear", &up) + PRICE]));
    let key = key_with(&gateway, &json!({"max_budget": 0}));
    chat(&gateway, &key).ok();
    let body = HELLO.replace("small", "dear");
    over(&gateway.call("POST", "/v1/chat/completions", &[("x-api-key", &key)], body.as_bytes()), 422, "api_key");
}

#[test]
fn a_model_has_a_budget_of_its_own_by_key() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up) + PRICE, model("large", &up) + PRICE]));
    let limits: Value = json!({"large": {"budget_limit": "0.00005", "time_period": "1d"}});
    let key = key_with(&gateway, &json!({"key_alias": "laptop", "model_max_budget": limits}));
    let call = |model: &str| {
        let body = HELLO.replace("small", model);
        gateway.call("POST", "/v1/chat/completions", &[("x-api-key", &key)], body.as_bytes())
    };
    call("large").ok();
    over(&call("large"), 422, "model_per_key: laptop:large for 1d");
    call("small").ok();
}

#[test]
fn a_model_has_a_budget_of_its_own_by_team_user_end_user_and_tag_and_a_restart_does_not_fill_it() {
    let up = Upstream::new(Reply::whole());
    let text = config("", &[model("small", &up) + PRICE, model("large", &up) + PRICE]);
    let state = tempfile::tempdir().unwrap();
    let serve = || Setup::toml(&text).state(state.path()).start();
    let gateway = serve();
    let limits: Value = json!({"large": {"budget_limit": 0.00005, "time_period": "1d"}, "small": 1});
    let make = |path: &str, body: Value| gateway.post(path, body.to_string()).ok().json();
    make("/team/new", json!({"team_id": "home", "model_max_budget": limits}));
    make("/user/new", json!({"user_id": "ann", "model_max_budget": limits}));
    make("/customer/new", json!({"user_id": "guest", "model_max_budget": {"large": 0.00005}}));
    make("/tag/new", json!({"name": "night", "model_max_budget": limits}));
    let keys = [
        json!({"team_id": "home"}),
        json!({"user_id": "ann"}),
        json!({"key_alias": "plain"}),
        json!({"key_alias": "dark", "metadata": {"tags": ["night"]}}),
    ];
    let keys = keys.map(|fields| key_with(&gateway, &fields));
    let owners = [
        "model_per_team: home:large for 1d",
        "model_per_user: ann:large for 1d",
        "model_per_end_user: guest:large",
        "model_per_tag: night:large for 1d",
    ];
    let call = |gateway: &Gateway, key: &str, model: &str| {
        let body = HELLO.replace("small", model);
        // The end user is of no matter to the others' limits, and its key has none of its own.
        let body = if key == keys[2] { body.replacen('{', "{\"user\":\"guest\",", 1) } else { body };
        gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], body.as_bytes())
    };
    for (key, owner) in keys.iter().zip(owners) {
        call(&gateway, key, "large").ok();
        over(&call(&gateway, key, "large"), 422, owner);
        call(&gateway, key, "small").ok();
    }
    drop(gateway);
    let gateway = serve();
    for (key, owner) in keys.iter().zip(owners) {
        over(&call(&gateway, key, "large"), 422, owner);
        call(&gateway, key, "small").ok();
    }
}
