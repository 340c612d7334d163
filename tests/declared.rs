//! Keys, users, teams and budgets that the configuration declares: they win, are locked, and go when they are taken out.

use crate::daemon::reload;
use crate::keys::{chat, generate, get, models, post, text};
use crate::support::postgres::Postgres;
use crate::support::{Gateway, MASTER_KEY, Setup, UPSTREAM_KEY, config};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

const PHONE: &str = "sk-phone-0123456789abcdef";
const TABLET: &str = "sk-tablet-0123456789abcdef";

fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A house: a phone by reference, a tablet by hash, Ann who leads the team, and a shared budget.
fn house() -> String {
    format!(
        "{}{}",
        config("", &models()),
        format_args!(
            r#"
[keys.phone]
key = "env:GATEWAY_KEY_PHONE"
models = ["small"]
max_budget = 5
budget_duration = "30d"
metadata = {{ room = "hall" }}

[keys.tablet]
hash = "{}"
key_alias = "tab"
user_id = "ann"
team_id = "home"

[users.ann]
user_email = "ann@home.example"
user_role = "internal_user"
budget_id = "shared"

[teams.home]
models = ["small"]
members_with_roles = [{{ user_id = "ann", role = "admin", max_budget_in_team = 2.5 }}]

[budgets.shared]
max_budget = 10.5
budget_duration = "1mo"
"#,
            hash(TABLET)
        )
    )
}

fn start(toml: &str) -> Gateway {
    Setup::toml(toml).secret("GATEWAY_KEY_PHONE", PHONE).start()
}

fn send(gateway: &Gateway, path: &str, body: &Value) -> Value {
    gateway.post(path, body.to_string()).ok().json()
}

#[test]
fn what_is_declared_is_served_and_shown_as_locked() {
    let gateway = start(&house());
    chat(&gateway, PHONE).ok();
    chat(&gateway, TABLET).ok();
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(post(&gateway, PHONE, "/v1/chat/completions", &body).error(403).kind, "key_model_access_denied");
    assert_eq!(post(&gateway, TABLET, "/v1/chat/completions", &body).error(403).kind, "team_model_access_denied");
    let info = get(&gateway, PHONE, "/key/info").ok().json()["info"].clone();
    assert_eq!(
        (&info["key_alias"], &info["max_budget"], &info["budget_duration"], &info["metadata"], &info["locked"]),
        (&json!("phone"), &json!(5.0), &json!("30d"), &json!({"room": "hall"}), &json!(true))
    );
    let made = generate(&gateway, &json!({"key_alias": "made", "team_id": "home", "budget_id": "shared"}));
    assert_eq!(made["locked"], false);
    let listed = gateway.get("/key/list?return_full_object=true").ok().json();
    let aliases: Vec<&str> = listed["keys"].as_array().unwrap().iter().map(|key| text(&key["key_alias"])).collect();
    assert_eq!((&listed["total_count"], aliases), (&json!(3), vec!["phone", "tab", "made"]));
    let second = gateway.get("/key/list?return_full_object=true&size=1&page=3").ok().json();
    assert_eq!(second["keys"][0]["key_alias"], "made");
    assert_eq!(gateway.get("/key/list?user_id=ann").ok().json()["keys"], json!([hash(TABLET)]));
    assert_eq!(gateway.get("/key/aliases").ok().json()["aliases"], json!(["made", "phone", "tab"]));
    let user = gateway.get("/user/info?user_id=ann").ok().json();
    assert_eq!((&user["user_info"]["locked"], &user["user_info"]["teams"]), (&json!(true), &json!(["home"])));
    assert_eq!((&user["keys"][0]["key_alias"], &user["teams"][0]["team_id"]), (&json!("tab"), &json!("home")));
    let team = gateway.get("/team/info?team_id=home").ok().json();
    assert_eq!(team["keys"].as_array().map(Vec::len), Some(2), "{team}");
    assert_eq!(team["team_memberships"][0]["litellm_budget_table"]["max_budget"], 2.5);
    assert_eq!(gateway.get("/user/list?team=home").ok().json()["total"], 1);
    assert_eq!(gateway.get("/team/list?user_id=ann").ok().json()[0]["locked"], true);
    let budgets = gateway.get("/budget/list").ok().json();
    assert_eq!((&budgets[0]["budget_id"], &budgets[0]["locked"]), (&json!("shared"), &json!(true)));
    // Ann is what the file says she is: a team's admin, who sees its keys.
    assert_eq!(get(&gateway, TABLET, "/key/list?team_id=home").ok().json()["total_count"], 2);
}

#[test]
fn what_is_declared_is_changed_in_the_file_alone() {
    let gateway = start(&house());
    let home = json!({"team_id": "home"});
    for (path, body) in [
        ("/key/update", json!({"key": PHONE, "max_budget": 100})),
        ("/key/block", json!({"key": hash(TABLET)})),
        ("/key/regenerate", json!({"key": PHONE})),
        ("/key/delete", json!({"keys": [PHONE]})),
        ("/key/delete", json!({"key_aliases": ["tab"]})),
        ("/key/generate", json!({"key": PHONE})),
        ("/user/update", json!({"user_id": "ann", "max_budget": 1})),
        ("/user/update", json!({"user_email": "ann@home.example", "max_budget": 1})),
        ("/user/delete", json!({"user_ids": ["ann"]})),
        ("/user/new", json!({"user_id": "ann"})),
        ("/user/new", json!({"user_id": "eve", "teams": ["home"]})),
        ("/team/new", json!({"team_id": "home"})),
        ("/team/update", json!({"team_id": "home", "models": []})),
        ("/team/block", home.clone()),
        ("/team/delete", json!({"team_ids": ["home"]})),
        ("/team/member_add", json!({"team_id": "home", "member": {"user_id": "eve", "role": "user"}})),
        ("/team/member_update", json!({"team_id": "home", "user_id": "ann", "role": "user"})),
        ("/team/member_delete", json!({"team_id": "home", "user_id": "ann"})),
        ("/team/permissions_update", json!({"team_id": "home", "team_member_permissions": ["/key/generate"]})),
        ("/budget/new", json!({"budget_id": "shared"})),
        ("/budget/update", json!({"budget_id": "shared", "max_budget": 1})),
        ("/budget/delete", json!({"id": "shared"})),
    ] {
        let error = gateway.post(path, body.to_string()).error(403);
        assert_eq!(error.kind, "locked_by_configuration", "{path} {body} {error:?}");
        assert!(error.message.contains("declared in the configuration"), "{error:?}");
    }
    let error = gateway.post("/key/generate", json!({"key_alias": "phone"}).to_string()).error(400);
    assert!(error.message.contains("the configuration declares"), "{error:?}");
    gateway.get("/user/info?user_id=eve").error(404);
    chat(&gateway, PHONE).ok();
    // What it has spent is the database's, and may be set back.
    let reset = gateway.post(&format!("/key/{PHONE}/reset_spend"), json!({"reset_to": 0}).to_string()).ok().json();
    assert_eq!(reset["spend"], 0.0);
}

#[test]
fn a_reload_revokes_what_was_taken_out_and_the_rest_keeps_what_it_spent() {
    let gateway = start(&house());
    chat(&gateway, PHONE).ok();
    chat(&gateway, TABLET).ok();
    let made = generate(&gateway, &json!({"team_id": "home"}));
    let made = text(&made["key"]);
    assert_eq!(chat(&gateway, made).status, 200);
    // The tablet is taken out; the phone gets another text.
    let all = house();
    let (before, rest) = all.split_once("[keys.tablet]").unwrap();
    let (_, after) = rest.split_once("[users.ann]").unwrap();
    gateway.rewrite(&format!("{before}[users.ann]{after}"));
    let next = "sk-phone-another-text-987";
    gateway.rewrite_secrets(&[("MASTER_KEY", MASTER_KEY), ("UPSTREAM_KEY", UPSTREAM_KEY), ("GATEWAY_KEY_PHONE", next)]);
    assert_eq!(reload(&gateway).code, Some(0));
    assert_eq!(chat(&gateway, TABLET).error(401).kind, "token_not_found_in_db");
    chat(&gateway, PHONE).error(401);
    chat(&gateway, next).ok();
    // Calls before and after are the same key's, and it is found by the text that it has now.
    let rows = until("the rows of both texts", || {
        let rows = gateway.get(&format!("/spend/logs?api_key={next}")).ok().json();
        (rows.as_array().map(Vec::len) == Some(2)).then_some(rows)
    });
    assert!(rows.as_array().unwrap().iter().all(|row| row["api_key"] == "keys.phone"), "{rows}");
    // The team goes, and what was made in it stays behind; so does the name.
    gateway.rewrite(&config("", &models()));
    assert_eq!(reload(&gateway).code, Some(0));
    chat(&gateway, next).error(401);
    gateway.get("/team/info?team_id=home").error(404);
    chat(&gateway, made).error(401);
    gateway.post("/team/new", json!({"team_id": "home"}).to_string()).ok();
    chat(&gateway, made).ok();
}

/// Waits for what is booked a moment later.
fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn declared_keys_need_no_database() {
    let down = "database_url = \"postgresql://nobody@127.0.0.1:1/none\"\n";
    let gateway = start(&(down.to_owned() + &house()));
    chat(&gateway, PHONE).ok();
    chat(&gateway, TABLET).ok();
    assert_eq!(chat(&gateway, "sk-somebody-1234567").error(503).kind, "no_db_connection");
}

#[test]
fn a_user_of_the_database_may_have_a_declared_key() {
    let Some(postgres) = Postgres::start() else { return };
    let toml = format!(
        "database_url = \"{}\"\n{}[keys.phone]\nkey = \"env:GATEWAY_KEY_PHONE\"\nuser_id = \"bob\"\n",
        postgres.url(),
        config("", &models())
    );
    let gateway = start(&toml);
    assert!(gateway.logs().contains("keys.phone.user_id: there is no [users.bob]"), "{}", gateway.logs());
    send(&gateway, "/user/new", &json!({"user_id": "bob", "models": ["fast"], "auto_create_key": false}));
    assert_eq!(chat(&gateway, PHONE).error(403).kind, "user_model_access_denied");
    send(&gateway, "/user/update", &json!({"user_id": "bob", "models": []}));
    chat(&gateway, PHONE).ok();
    let mine = get(&gateway, PHONE, "/user/info").ok().json();
    assert_eq!((&mine["user_id"], &mine["keys"][0]["locked"]), (&json!("bob"), &json!(true)));
}

#[test]
fn what_cannot_be_declared_is_said_at_its_place() {
    let check = |declared: &str| {
        let ended = Setup::toml(&(config("", &models()) + declared)).unbound().run();
        assert_eq!(ended.code, Some(1), "{declared}{ended:?}");
        ended.stderr
    };
    for (declared, parts) in [
        ("[keys.a]\nkey = \"env:A\"\nmodells = []\n", &["unknown field `modells`", "did you mean `models`?"][..]),
        ("[keys.a]\nkey = \"env:A\"\n", &["keys.a: key: the variable A is not set"]),
        ("[keys.a]\nmodels = []\n", &["keys.a: it has neither key nor hash"]),
        ("[keys.a]\nhash = \"abc\"\n", &["keys.a: hash: it is not the SHA-256"]),
        ("[keys.a]\nkey = \"short\"\n", &["keys.a: key: a key has 8 to 512"]),
        ("[keys.a]\nkey = \"env:MASTER_KEY\"\n", &["keys.a: key: this is the master key"]),
        (
            "[keys.a]\nkey = \"sk-one-1234\"\n[keys.b]\nkey = \"sk-one-1234\"\n",
            &["keys.b: it is the same key as keys.a"],
        ),
        (
            "[keys.a]\nkey = \"sk-one-1234\"\nteam_id = \"hme\"\n[teams.home]\n",
            &["keys.a: team_id: there is no [teams.hme]; did you mean `home`?"],
        ),
        (
            "[keys.a]\nkey = \"sk-one-1234\"\nbudget_duration = \"soon\"\n",
            &["keys.a: budget_duration: A length of time"],
        ),
        ("[keys.a]\nkey = \"sk-one-1234\"\nmax_budget = -1\n", &["keys.a: 'max_budget' must be an amount"]),
        ("[keys.a]\nkey = \"sk-one-1234\"\ntpm_limit = \"many\"\n", &["invalid type: a string, expected i64"]),
        ("[keys.a]\nkey = \"sk-one-1234\"\nkey_type = \"root\"\n", &["keys.a: 'key_type' is one of"]),
        ("[users.a]\nuser_role = \"king\"\n", &["users.a: 'user_role' is one of"]),
        ("[users.a]\nbudget_id = \"none\"\n", &["users.a: budget_id: there is no [budgets.none]"]),
        (
            "[teams.a]\nmembers_with_roles = [{ role = \"admin\" }]\n",
            &["teams.a.members_with_roles[0]: user_id is missing"],
        ),
        (
            "[teams.a]\nmembers_with_roles = [{ user_id = \"bob\" }]\n[users.bo]\n",
            &["there is no [users.bob]; did you mean `bo`?"],
        ),
    ] {
        let said = check(declared);
        for part in parts {
            assert!(said.contains(part), "{part} is missing in: {said}");
        }
        assert!(!said.contains("sk-one"), "{said}");
    }
}

#[test]
fn an_offline_check_needs_no_keys() {
    let setup = Setup::toml(&house());
    let file = setup.dir().join("gateway.toml");
    let ended = Setup::command(&["check", "--offline"]).arg(&file.display().to_string()).run();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    std::fs::write(&file, house() + "[keys.other]\nkey = \"env:GATEWAY_KEY_PHONE\"\n").unwrap();
    let ended = Setup::command(&["check", "--offline"]).arg(&file.display().to_string()).run();
    assert!(ended.stderr.contains("it is the same key as keys."), "{ended:?}");
}
