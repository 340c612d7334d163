//! Keys of the store: made by the management API, shown by callers, changed, revoked.

use crate::chat::HELLO;
use crate::support::postgres::Postgres;
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Two models, one of them in an access group.
pub fn serve() -> Gateway {
    Gateway::start(&config("", &models()))
}

pub fn models() -> Vec<String> {
    let up = Upstream::new(Reply::whole());
    let fast = model("fast", &up) + "info = { access_groups = [\"free\"] }\n";
    vec![model("small", &up), fast]
}

pub fn post(gateway: &Gateway, key: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    gateway.call("POST", path, &headers, body.to_string().as_bytes())
}

pub fn get(gateway: &Gateway, key: &str, path: &str) -> Answer {
    gateway.call("GET", path, &[("Authorization", &format!("Bearer {key}"))], b"")
}

pub fn generate(gateway: &Gateway, body: &Value) -> Value {
    gateway.post("/key/generate", body.to_string()).ok().json()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

pub fn chat(gateway: &Gateway, key: &str) -> Answer {
    gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], HELLO.as_bytes())
}

#[test]
fn a_key_is_made_used_blocked_and_deleted() {
    let gateway = serve();
    let made =
        generate(&gateway, &json!({"key_alias": "laptop", "max_budget": 5, "duration": "30d", "metadata": {"a": 1}}));
    let key = text(&made["key"]);
    assert!(key.starts_with("sk-") && key.len() == 25, "{made}");
    assert_eq!((&made["max_budget"], &made["spend"], &made["metadata"]), (&json!(5.0), &json!(0.0), &json!({"a": 1})));
    assert_eq!(text(&made["key_name"]), format!("sk-...{}", &key[21..]));
    assert_eq!((&made["budget_reset_at"], &made["litellm_budget_table"]), (&Value::Null, &Value::Null));
    assert!(text(&made["expires"]).ends_with('Z') && text(&made["token"]).len() == 64, "{made}");
    chat(&gateway, key).ok();
    gateway.wait_log("the call with its key", |line| line.contains("laptop"));
    let body = json!({"key": key});
    assert_eq!(post(&gateway, crate::support::MASTER_KEY, "/key/block", &body).ok().json()["blocked"], true);
    let error = chat(&gateway, key).error(401);
    assert!(error.message.contains("blocked") && error.message.contains("/key/unblock"), "{error:?}");
    gateway.post("/key/unblock", body.to_string()).ok();
    chat(&gateway, key).ok();
    let deleted = gateway.post("/key/delete", json!({"keys": [key]}).to_string()).ok().json();
    assert_eq!(deleted, json!({"deleted_keys": [key]}));
    assert_eq!(chat(&gateway, key).error(401).kind, "token_not_found_in_db");
    gateway.post("/key/delete", json!({"keys": [key]}).to_string()).error(404);
    assert!(!gateway.logs().contains(key), "the log repeats a key");
}

#[test]
fn a_text_of_ones_own_is_taken_once() {
    let setup = Setup::toml(&config("", &models()));
    let dir = setup.dir().to_owned();
    let gateway = setup.start();
    let key = "sk-of-my-own-choice";
    assert_eq!(generate(&gateway, &json!({"key": key}))["key"], key);
    assert!(gateway.post("/key/generate", json!({"key": key}).to_string()).error(400).message.contains("already"));
    gateway.post("/key/generate", json!({"key": "pk-x-123456"}).to_string()).error(400);
    gateway.post("/key/generate", json!({"key": crate::support::MASTER_KEY}).to_string()).error(400);
    assert!(dir.join("gateway.db").exists());
}

#[test]
fn models_are_those_of_the_key() {
    let gateway = serve();
    let small = generate(&gateway, &json!({"models": ["small"]}));
    let group = generate(&gateway, &json!({"models": ["free"]}));
    let none = generate(&gateway, &json!({"models": ["no-default-models"]}));
    let ask = |key: &Value, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5});
        ["/v1/chat/completions", "/v1/messages", "/utils/token_counter"]
            .map(|path| post(&gateway, text(&key["key"]), path, &body))
    };
    for (key, model, status) in [
        (&small, "small", 200),
        (&small, "fast", 403),
        (&group, "fast", 200),
        (&group, "small", 403),
        (&none, "small", 403),
    ] {
        let answers = ask(key, model);
        assert_eq!(answers.each_ref().map(|a| a.status), [status; 3], "{model}: {}", answers[0].text());
        if status == 403 {
            assert_eq!(answers[0].error(403).kind, "key_model_access_denied");
            assert_eq!(answers[1].json()["error"]["type"], "permission_error");
        }
    }
    let listed = get(&gateway, text(&group["key"]), "/v1/models").ok().json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
    get(&gateway, text(&group["key"]), "/v1/models/small").error(404);
    let named = generate(&gateway, &json!({"models": ["small"], "aliases": {"gpt-4": "small"}}));
    assert_eq!(ask(&named, "gpt-4")[0].status, 200);
    let sly = generate(&gateway, &json!({"models": ["small"], "aliases": {"small": "fast"}}));
    assert_eq!(ask(&sly, "small")[0].status, 403);
}

#[test]
fn a_key_expires_and_its_routes_are_its_own() {
    let gateway = serve();
    let brief = generate(&gateway, &json!({"duration": "1s"}));
    chat(&gateway, text(&brief["key"])).ok();
    let begun = Instant::now();
    while chat(&gateway, text(&brief["key"])).status == 200 {
        assert!(begun.elapsed().as_secs() < 5, "the key does not expire");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(chat(&gateway, text(&brief["key"])).error(401).kind, "expired_key");
    let reading = generate(&gateway, &json!({"key_type": "read_only"}));
    let key = text(&reading["key"]);
    chat(&gateway, key).error(403);
    get(&gateway, key, "/v1/models").ok();
    let own = get(&gateway, key, "/key/info").ok().json();
    assert_eq!(own["info"]["allowed_routes"], json!(["info_routes"]));
}

#[test]
fn a_key_for_calls_manages_nothing_however_its_path_is_written() {
    let gateway = serve();
    gateway.post("/user/new", json!({"user_id": "root", "user_role": "proxy_admin"}).to_string()).ok();
    let of_type = |kind: &str| generate(&gateway, &json!({"user_id": "root", "key_type": kind}));
    let calling = of_type("llm_api");
    let key = text(&calling["key"]);
    chat(&gateway, key).ok();
    get(&gateway, key, "/v1/models").ok();
    // The router decodes what need not be encoded, and so has whoever looks at the path.
    for path in ["/key/generate", "/%6Bey/generate", "/k%65y/gener%61te", "/credentials", "/fallback", "/v1/mcp/server"]
    {
        let error = post(&gateway, key, path, &json!({})).error(403);
        assert!(error.message.contains("not allowed to call this route"), "{path}: {error:?}");
    }
    for path in ["/spend/logs", "/%73pend/logs", "/global/%73pend", "/router/settings", "/v1/access_group"] {
        get(&gateway, key, path).error(403);
    }
    let managing = of_type("management");
    let key = text(&managing["key"]);
    for path in ["/router/settings", "/tag/list", "/credentials", "/v1/access_group", "/access_group/list"] {
        get(&gateway, key, path).ok();
    }
    post(&gateway, key, "/chat/c%6Fmpletions", &json!({})).error(403);
    chat(&gateway, key).error(403);
}

#[test]
fn another_text_keeps_the_rest_and_the_old_one_has_its_grace() {
    let gateway = serve();
    let made = generate(&gateway, &json!({"key_alias": "phone", "tpm_limit": 7000}));
    let old = text(&made["key"]).to_owned();
    let body = json!({"key": old, "grace_period": "1h", "max_budget": 2.5});
    let next = gateway.post("/key/regenerate", body.to_string()).ok().json();
    assert_eq!(
        (&next["key_alias"], &next["tpm_limit"], &next["max_budget"]),
        (&json!("phone"), &json!(7000), &json!(2.5))
    );
    for key in [&*old, text(&next["key"])] {
        chat(&gateway, key).ok();
    }
    let last = gateway.post(&format!("/key/{}/regenerate", text(&next["token"])), "{}").ok().json();
    chat(&gateway, text(&next["key"])).error(401);
    chat(&gateway, text(&last["key"])).ok();
}

#[test]
fn keys_are_changed_and_listed() {
    let gateway = serve();
    let keys: Vec<Value> = (0..3)
        .map(|n| generate(&gateway, &json!({"key_alias": format!("k{n}"), "user_id": "ann", "custom": n})))
        .collect();
    let first = text(&keys[0]["key"]);
    let changed = gateway.post("/key/update", json!({"key": first, "models": ["fast"], "duration": null}).to_string());
    let changed = changed.ok().json();
    assert_eq!((&changed["key"], &changed["models"], &changed["custom"]), (&json!(first), &json!(["fast"]), &json!(0)));
    chat(&gateway, first).error(403);
    let error = gateway.post("/key/update", json!({"key": first, "tpm_limit": "many"}).to_string()).error(400);
    assert_eq!(error.param.as_deref(), Some("tpm_limit"));
    assert!(
        gateway
            .post("/key/update", json!({"key": first, "team_id": "none"}).to_string())
            .error(400)
            .message
            .contains("no team")
    );
    let page = gateway.get("/key/list?user_id=ann&size=2").ok().json();
    assert_eq!(
        (&page["total_count"], &page["total_pages"], page["keys"].as_array().map(Vec::len)),
        (&json!(3), &json!(2), Some(2))
    );
    let whole = gateway.get("/key/list?return_full_object=true&key_alias=k1").ok().json();
    assert_eq!(whole["keys"][0]["token"], keys[1]["token"]);
    assert_eq!(gateway.get("/key/aliases").ok().json()["aliases"], json!(["k0", "k1", "k2"]));
    let several = gateway.post("/v2/key/info", json!({"keys": [first, keys[2]["token"]]}).to_string()).ok().json();
    assert_eq!(several["info"].as_array().map(Vec::len), Some(2));
    let bulk = json!({"keys": [{"key": first, "rpm_limit": 3}, {"key": "sk-nobody-has-this"}]});
    let bulk = gateway.post("/key/bulk_update", bulk.to_string()).ok().json();
    assert_eq!(bulk["successful_updates"][0]["key_info"]["rpm_limit"], 3);
    assert_eq!(bulk["failed_updates"].as_array().map(Vec::len), Some(1), "{bulk}");
    gateway.post("/key/update", json!({"key": first, "spend": 3}).to_string()).ok();
    let reset = gateway.post(&format!("/key/{first}/reset_spend"), json!({"reset_to": 1}).to_string()).ok().json();
    assert_eq!((&reset["spend"], &reset["previous_spend"]), (&json!(1.0), &json!(3.0)));
}

#[test]
fn a_key_without_a_role_manages_nothing() {
    let gateway = serve();
    let (mine, other) = (generate(&gateway, &json!({"user_id": "ann"})), generate(&gateway, &json!({})));
    let mine = text(&mine["key"]);
    post(&gateway, mine, "/key/generate", &json!({})).error(403);
    post(&gateway, mine, "/key/update", &json!({"key": mine, "max_budget": 100})).error(403);
    post(&gateway, mine, "/key/delete", &json!({"keys": [other["key"]]})).error(403);
    get(&gateway, mine, &format!("/key/info?key={}", text(&other["token"]))).error(403);
    get(&gateway, mine, &format!("/key/info?key={mine}")).ok();
    assert_eq!(post(&gateway, mine, "/key/health", &json!({})).ok().json()["key"], "healthy");
}

#[test]
fn readiness_tells_of_the_store_and_a_postgres_that_is_down_is_a_503() {
    let gateway = serve();
    generate(&gateway, &json!({}));
    let ready = gateway.get("/health/readiness").ok().json();
    assert_eq!((&ready["db"], &ready["store"]), (&json!("connected"), &json!("sqlite")));
    let down = "database_url = \"postgresql://nobody@127.0.0.1:1/none\"\n";
    let gateway = Gateway::start(&(down.to_owned() + &config("", &models())));
    gateway.wait_log("the store that is down", |line| line.contains("the store (postgres) is down"));
    assert_eq!(gateway.get("/health/readiness").status, 503);
    // The master key needs no database.
    gateway.chat(HELLO).ok();
    assert_eq!(chat(&gateway, "sk-somebody-1234567").error(503).kind, "no_db_connection");
    let open = "[store]\nallow_requests_on_db_unavailable = true\n";
    let gateway = Gateway::start(&(down.to_owned() + &config("", &models()) + open));
    chat(&gateway, "sk-somebody-1234567").ok();
}

/// Waits for an answer of that status.
pub fn until(what: &str, status: u16, ask: impl Fn() -> Answer) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if answer.status == status {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: still {}: {}", answer.status, answer.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_gateways_share_a_postgres_that_may_go_away() {
    let Some(postgres) = Postgres::start() else { return };
    let age = "[store]\nkey_cache_age = \"4s\"\n";
    let toml = format!("database_url = \"{}\"\n{}{age}", postgres.url(), config("", &models()));
    let (one, two) = (Gateway::start(&toml), Gateway::start(&toml));
    let made = generate(&one, &json!({"models": ["small"], "max_budget": 5, "duration": "30d"}));
    let (key, doomed) = (text(&made["key"]), generate(&one, &json!({})));
    let doomed = text(&doomed["key"]);
    for key in [key, doomed] {
        chat(&one, key).ok();
        chat(&two, key).ok();
    }
    one.post("/key/delete", json!({"keys": [doomed]}).to_string()).ok();
    chat(&one, doomed).error(401);
    let waited = until("a key that was revoked elsewhere", 401, || chat(&two, doomed));
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    chat(&two, key).ok();
    postgres.down();
    let ready = |gateway: &Gateway| gateway.get("/health/readiness");
    until("readiness without a database", 503, || ready(&two));
    assert_eq!(ready(&two).json()["db"], "Not connected");
    // What is remembered goes on, what is not cannot be checked.
    chat(&two, key).ok();
    chat(&two, "sk-somebody-1234567").error(503);
    two.post("/key/generate", "{}").error(503);
    until("a key whose age is over", 503, || chat(&two, key));
    postgres.up();
    until("readiness with a database", 200, || ready(&two));
    chat(&two, "sk-somebody-1234567").error(401);
    chat(&two, key).ok();
    generate(&two, &json!({}));
    let lost = two.logs().lines().filter(|line| line.contains("the store (postgres) is down")).count();
    assert_eq!(lost, 1, "{}", two.logs());
}

/// Runs `gateway key` beside a gateway, on its files.
fn shell(gateway: &Gateway, words: &[&str]) -> (bool, String) {
    beside(gateway, "key", words)
}

/// Runs a command on the store of a running gateway.
pub fn beside(gateway: &Gateway, command: &str, words: &[&str]) -> (bool, String) {
    let dir = gateway.dir();
    let word = command;
    let mut command = std::process::Command::new(crate::support::setup::PROGRAM);
    command.env_clear().arg(word).args(words).arg("--state-dir").arg(dir);
    command.arg("--config").arg(dir.join("gateway.toml")).arg("--env-file").arg(dir.join("env"));
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    (output.status.success(), text.trim().to_owned())
}

#[test]
fn the_shell_makes_rotates_and_revokes_keys_of_a_running_gateway() {
    let gateway = serve();
    chat(&gateway, "sk-nobody-1234567890").error(401);
    let (made, key) = shell(&gateway, &["create", "--alias", "cron", "--model", "small", "--duration", "30d"]);
    assert!(made && key.starts_with("sk-"), "{key}");
    chat(&gateway, &key).ok();
    let (_, listed) = shell(&gateway, &["list"]);
    assert!(listed.contains("cron") && !listed.contains(&key), "{listed}");
    let (_, info) = shell(&gateway, &["info", "cron"]);
    assert_eq!(serde_json::from_str::<Value>(&info).unwrap()["models"], json!(["small"]));
    let (_, next) = shell(&gateway, &["rotate", "cron"]);
    until("the old text", 401, || chat(&gateway, &key));
    chat(&gateway, &next).ok();
    shell(&gateway, &["revoke", "cron"]);
    until("the revoked key", 401, || chat(&gateway, &next));
    let (found, message) = shell(&gateway, &["info", &next]);
    assert!(!found && message.contains("no key") && !message.contains(&next), "{message}");
    assert!(!shell(&gateway, &["create", "--duration", "soon"]).0);
}
