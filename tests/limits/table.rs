//! Each owner of limits with each limit that it can have.

use super::budgets::over;
use super::{PRICE, key_with, refused};
use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::reply::text as delta;
use crate::support::{Answer, Client, Gate, Gateway, MASTER_KEY, Reply, Upstream, config, model};
use serde_json::{Map, Value, json};

/// A limit: what the management API calls it, what `gateway.toml` calls it, and its value.
#[derive(Clone, Copy)]
struct Limit(&'static str, &'static str, f64);

const REQUESTS: Limit = Limit("rpm_limit", "rpm", 1.0);
/// One call uses 17 tokens.
const TOKENS: Limit = Limit("tpm_limit", "tpm", 20.0);
const PLACES: Limit = Limit("max_parallel_requests", "max_parallel_requests", 1.0);
/// One call costs 62 micro-dollars.
const BUDGET: Limit = Limit("max_budget", "max_budget", 0.000_05);

/// A gateway where this owner alone has this limit, and how its calls are made.
struct Served {
    gateway: Gateway,
    key: String,
    said: &'static str,
}

impl Served {
    fn new(owner: &str, limit: Limit, up: &Upstream) -> Served {
        let Limit(api, toml, value) = limit;
        // TOML tells whole numbers and others apart.
        let number = if value.fract() == 0.0 { format!("{value:.0}") } else { value.to_string() };
        let (own, of_all) = match owner {
            "deployment" => (format!("limits = {{ {toml} = {number} }}\n"), String::new()),
            "provider" => (String::new(), format!("[limits.providers.openai]\n{toml} = {number}\n")),
            "gateway" => (String::new(), format!("[limits]\n{toml} = {number}\n")),
            "tag (file)" => (String::new(), format!("[limits.tags.batch]\n{toml} = {number}\n")),
            _ => Default::default(),
        };
        let gateway = Gateway::start(&(config("", &[model("small", up)]) + PRICE + &own + &of_all));
        let value = if value.fract() == 0.0 { json!(value as i64) } else { json!(value) };
        let with = |body: Value, name: &str, value: Value| {
            let mut body: Map<String, Value> = body.as_object().unwrap().clone();
            body.insert(name.to_owned(), value);
            Value::Object(body)
        };
        let post = |path: &str, body: Value| drop(gateway.post(path, body.to_string()).ok());
        let mut said = "";
        let key = match owner {
            "api_key" => key_with(&gateway, &with(json!({}), api, value)),
            "api_key (budget)" => {
                post("/budget/new", with(json!({"budget_id": "plan"}), api, value));
                key_with(&gateway, &json!({"budget_id": "plan"}))
            }
            "user" => {
                post("/user/new", with(json!({"user_id": "ann", "auto_create_key": false}), api, value));
                key_with(&gateway, &json!({"user_id": "ann"}))
            }
            "team" => {
                post("/team/new", with(json!({"team_id": "house"}), api, value));
                key_with(&gateway, &json!({"team_id": "house"}))
            }
            "team_member" => {
                post("/user/new", json!({"user_id": "bob", "auto_create_key": false}));
                let name = match api {
                    "max_budget" => "team_member_budget".to_owned(),
                    name => format!("team_member_{name}"),
                };
                post("/team/new", with(json!({"team_id": "house"}), &name, value));
                post("/team/member_add", json!({"team_id": "house", "member": {"role": "user", "user_id": "bob"}}));
                key_with(&gateway, &json!({"team_id": "house", "user_id": "bob"}))
            }
            "end_user" => {
                post("/customer/new", with(json!({"user_id": "cat"}), api, value));
                said = "\"user\":\"cat\",";
                MASTER_KEY.to_owned()
            }
            "tag" | "tag (file)" => {
                if owner == "tag" {
                    post("/tag/new", with(json!({"name": "batch"}), api, value));
                }
                said = "\"metadata\":{\"tags\":[\"other\",\"batch\"]},";
                MASTER_KEY.to_owned()
            }
            "model_per_key" if api == "max_budget" => {
                key_with(&gateway, &json!({"model_max_budget": {"small": value}}))
            }
            "model_per_key" => key_with(&gateway, &with(json!({}), &format!("model_{api}"), json!({"small": value}))),
            "model_per_team" => {
                post("/team/new", with(json!({"team_id": "house"}), &format!("model_{api}"), json!({"small": value})));
                key_with(&gateway, &json!({"team_id": "house"}))
            }
            "deployment" | "provider" | "gateway" => MASTER_KEY.to_owned(),
            other => panic!("{other}"),
        };
        Served { gateway, key, said }
    }

    fn open(&self, body: &str) -> Client {
        let mut client = self.gateway.client();
        let body = body.replacen('{', &format!("{{{}", self.said), 1);
        client.request("POST", "/v1/chat/completions", &[("x-api-key", &self.key)], body.as_bytes());
        client
    }

    fn call(&self) -> Answer {
        self.open(HELLO).answer()
    }
}

fn word(owner: &str) -> &str {
    owner.split(' ').next().unwrap()
}

const RATED: [&str; 12] = [
    "api_key",
    "api_key (budget)",
    "user",
    "team",
    "team_member",
    "end_user",
    "tag",
    "tag (file)",
    "model_per_key",
    "model_per_team",
    "deployment",
    "provider",
];

#[test]
fn every_owner_s_requests_are_limited() {
    let up = Upstream::new(Reply::whole());
    for owner in RATED.into_iter().chain(["gateway"]) {
        let served = Served::new(owner, REQUESTS, &up);
        served.call().ok();
        let message = refused(&served.call(), word(owner), "requests");
        assert!(message.contains("Current limit: 1, Remaining: 0, Used: 1, Requested: 1."), "{message}");
    }
    assert_eq!(up.requests().len(), 13);
}

#[test]
fn every_owner_s_tokens_are_limited() {
    let up = Upstream::new(Reply::whole());
    for owner in RATED.into_iter().chain(["gateway"]) {
        let served = Served::new(owner, TOKENS, &up);
        served.call().ok();
        let message = refused(&served.call(), word(owner), "tokens");
        assert!(message.contains("Current limit: 20, Remaining: 3, Used: 17"), "{message}");
    }
}

#[test]
fn every_owner_s_calls_at_the_same_time_are_limited() {
    let owners =
        ["api_key", "api_key (budget)", "user", "team", "end_user", "tag (file)", "deployment", "provider", "gateway"];
    for owner in owners {
        let gate = Gate::new();
        let held = gate.clone();
        let up = Upstream::script(move |_| Reply::stream().send(&delta("a")).wait(&held).end());
        let served = Served::new(owner, PLACES, &up);
        let mut first = served.open(STREAM);
        first.head();
        first.content().unwrap();
        refused(&served.open(STREAM).answer(), word(owner), "max_parallel_requests");
        gate.open();
        first.contents();
        served.gateway.wait_calls(2);
        served.open(STREAM).answer().ok();
    }
}

#[test]
fn every_owner_s_budget_is_kept_and_known_by_its_name() {
    let up = Upstream::new(Reply::whole());
    // A model has a budget by key and none by team, as in LiteLLM.
    for owner in RATED.into_iter().chain(["gateway"]).filter(|owner| *owner != "model_per_team") {
        let served = Served::new(owner, BUDGET, &up);
        served.call().ok();
        let message = over(&served.call(), 422, word(owner));
        assert!(message.contains("Current cost: 0.000062, Max budget: 0.00005."), "{message}");
    }
}

#[test]
fn tags_are_made_changed_shown_and_taken_away() {
    let up = Upstream::new(Reply::whole());
    let served = Served::new("tag", BUDGET, &up);
    let gateway = &served.gateway;
    served.call().ok();
    over(&served.call(), 422, "tag: batch, and is never set back");
    let post = |path: &str, body: Value| gateway.post(path, body.to_string());
    let changed =
        post("/tag/update", json!({"name": "batch", "max_budget": 1.0, "budget_duration": "30d"})).ok().json();
    assert_eq!((&changed["tag"]["max_budget"], &changed["tag"]["name"]), (&json!(1.0), &json!("batch")), "{changed}");
    served.call().ok();
    let info = post("/tag/info", json!({"names": ["batch"]})).ok().json();
    assert_eq!(info["batch"]["budget_duration"], "30d", "{info}");
    assert_eq!(gateway.get("/tag/list").ok().json().as_array().map(Vec::len), Some(1));
    post("/tag/new", json!({"name": "batch"})).error(400);
    post("/tag/update", json!({"name": "nobody"})).error(404);
    post("/tag/new", json!({"name": "b", "max_budget": "much"})).error(400);
    let key = key_with(gateway, &json!({}));
    gateway.call("POST", "/tag/new", &[("x-api-key", &key)], b"{\"name\":\"x\"}").error(403);
    post("/tag/delete", json!({"name": "batch"})).ok();
    post("/tag/delete", json!({"name": "batch"})).error(404);
    served.call().ok();
}
