//! From LiteLLM's database to ours: `gateway import litellm-db`.

use crate::chat::HELLO;
use crate::support::postgres::Postgres;
use crate::support::setup::Ended;
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};
use std::path::Path;

/// LiteLLM's key, as its user has it.
const LAPTOP: &str = "sk-laptop-of-ann-0001";

fn litellm() -> Option<Postgres> {
    let postgres = Postgres::start()?;
    postgres.sql(include_str!("fixtures/litellm-database.sql"));
    Some(postgres)
}

fn import(state: &Path, toml: &str, postgres: &Postgres, salt: &str, more: &[&str]) -> Ended {
    let words: Vec<&str> = ["import", "litellm-db", "env:OLD"].iter().chain(more).copied().collect();
    let mut setup = Setup::command(&words).arg("--state-dir").arg(state.to_str().unwrap());
    let (file, env) = (setup.dir().join("gateway.toml"), setup.dir().join("env"));
    std::fs::write(&file, toml).unwrap();
    let secrets = format!("MASTER_KEY=sk-m\nUPSTREAM_KEY=x\nOLD={}\nLITELLM_SALT_KEY={salt}\n", postgres.url());
    std::fs::write(&env, secrets).unwrap();
    for (option, path) in [("--config", file), ("--env-file", env)] {
        setup = setup.arg(option).arg(path.to_str().unwrap());
    }
    setup.run()
}

fn chat(gateway: &Gateway, key: &str, model: &str) -> Answer {
    let body = HELLO.replace("small", model);
    gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], body.as_bytes())
}

#[test]
fn keys_people_budgets_and_spend_come_over_and_go_on() {
    let Some(postgres) = litellm() else { return };
    let up = Upstream::new(Reply::whole());
    let toml = config("", &[model("small", &up), model("large", &up)]);
    let state = tempfile::tempdir().unwrap();
    let run = |salt: &str, more: &[&str]| import(state.path(), &toml, &postgres, salt, more);

    // First what would be done.
    let plan = run("sk-salt-1234", &[]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    for line in [
        "        2  budgets\n",
        "        2  users\n",
        "        2  members of teams\n",
        "        5  keys\n",
        "        1  old keys in their grace period\n",
        "     2234  LiteLLM_SpendLogs: single calls stay there, unless --with-logs is given",
        "        4  models, credentials and servers of tools\n",
        "           mcp_server 'house'\n",
        "           mcp_toolset 'evening'\n",
        "MCP server 'files' (files) as a whole: command: only the configuration can name a program",
        "           model 'from-the-pages'\n",
        "           credential 'house'\n",
        "model 'of-another-key' (2) as a whole: a value of it cannot be opened",
        "        1  LiteLLM_GuardrailsTable: not known here\n",
        "key 'odd' as a whole: 'max_budget' must be an amount of dollars",
        "key 'ancient': its token is no SHA-256",
        "key 'cron': another key has this alias too",
        "1 keys of sessions of LiteLLM's admin pages",
        "the passwords of 1 users",
        "sealed values: 4, of which 3 can be opened\n",
        "LiteLLM_ProxyModelTable 'of-another-key': litellm_params.api_key cannot be opened",
        "LiteLLM_VerificationToken 'laptop': metadata.logging.callback_vars.langfuse_secret_key is carried over sealed",
        "nothing was written; add --apply to do it\n",
    ] {
        assert!(plan.stdout.contains(line), "{line}\nis not in\n{}", plan.stdout);
    }
    for hidden in ["sk-provider-key", "sk-in-clear", "AAECAwQ", "unrelated", "AuditLog"] {
        assert!(!plan.stdout.contains(hidden), "{hidden} is in\n{}", plan.stdout);
    }
    assert!(!state.path().join("gateway.db").exists());
    assert!(run("sk-wrong", &[]).stdout.contains("sealed values: 4, of which 0 can be opened"));

    let done = run("sk-salt-1234", &["--apply"]);
    assert!(done.code == Some(0) && done.stdout.contains("        5  keys\n"), "{done:?}");
    let again = run("sk-salt-1234", &["--apply"]);
    assert!(again.stdout.contains("        0  keys (5 were there already)"), "{again:?}");
    assert!(again.stdout.contains("        0  sums of days (6 were there already)"), "{again:?}");

    // What was imported was sealed with the key that was in force there.
    let gateway = Setup::toml(&toml).state(state.path()).secret("LITELLM_SALT_KEY", "sk-salt-1234").start();
    carried_models(&gateway, state.path());
    let get = |path: &str| gateway.get(path).ok().json();
    // The grant of the key names the server by its id.
    let authorization = format!("Bearer {LAPTOP}");
    let servers = gateway.call("GET", "/v1/mcp/server", &[("Authorization", &*authorization)], b"").ok().json();
    assert_eq!((&servers[0]["server_id"], &servers[0]["server_name"]), (&json!("home"), &json!("house")), "{servers}");
    let shown = gateway.get("/v1/mcp/server/home").ok();
    assert!(
        shown.json()["auth_type"] == "bearer_token" && !shown.text().contains("sk-provider-key"),
        "{}",
        shown.text()
    );
    assert_eq!(get("/v1/mcp/toolset/set-1")["toolset_name"], "evening");
    // The key that its user has goes on, as does the one before it; what it may do is what it could.
    chat(&gateway, LAPTOP, "small").ok();
    chat(&gateway, "sk-laptop-before", "small").ok();
    chat(&gateway, "sk-laptop-long-ago", "small").error(401);
    chat(&gateway, LAPTOP, "large").error(403);
    assert!(chat(&gateway, "sk-cron-0002", "small").error(401).message.contains("blocked"));
    chat(&gateway, "sk-twin-0003", "large").ok();
    chat(&gateway, "sk-odd-0004", "small").error(401);
    // What was spent in the window that is under way counts on; a window that is over does not.
    assert_eq!(chat(&gateway, "sk-spent-0006", "small").error(422).kind, "budget_exceeded");
    chat(&gateway, "sk-fresh-0007", "small").ok();
    chat(&gateway, "sk-session-0005", "small").error(401);

    let info = get(&format!("/key/info?key={LAPTOP}"))["info"].clone();
    for (name, expected) in [
        ("key_name", json!("sk-...0001")),
        ("key_alias", json!("laptop")),
        ("user_id", json!("ann")),
        ("team_id", json!("crew")),
        ("max_budget", json!(20.0)),
        ("budget_duration", json!("30d")),
        ("rpm_limit", json!(60)),
        ("models", json!(["small"])),
        ("object_permission", json!({"mcp_servers": ["home"], "mcp_tool_permissions": {"home": ["turn_on"]}})),
    ] {
        assert_eq!(info[name], expected, "{name}: {info:#}");
    }
    assert!(
        text(&info["expires"]).starts_with("2099-01-01")
            && text(&info["created_at"]).starts_with("2026-03-04T05:06:07")
    );
    assert_eq!(info["metadata"]["owner"], "Ann", "{info:#}");
    assert!(dollars(&info["spend"]) >= 2.125 && dollars(&info["spend"]) < 2.2, "{info:#}");

    let user = get("/user/info?user_id=ann")["user_info"].clone();
    assert_eq!((&user["user_role"], &user["max_budget"]), (&json!("internal_user"), &json!(10.0)), "{user:#}");
    let team = get("/team/info?team_id=crew")["team_info"].clone();
    assert_eq!((&team["team_alias"], &team["tpm_limit"]), (&json!("Crew"), &json!(9000)), "{team:#}");
    assert_eq!(team["model_aliases"], json!({"gpt-4": "small"}), "{team:#}");
    assert_eq!((&team["metadata"]["note"], team["members_with_roles"].as_array().unwrap().len()), (&json!("kept"), 2));
    let budgets = gateway.post("/budget/info", r#"{"budgets":["monthly"]}"#).ok().json();
    assert_eq!((&budgets[0]["max_budget"], &budgets[0]["rpm_limit"]), (&json!(25.5), &json!(100)), "{budgets:#}");
    let guest = get("/customer/info?end_user_id=guest");
    assert_eq!((&guest["alias"], &guest["blocked"]), (&json!("The guest"), &json!(true)), "{guest:#}");
    assert_eq!(dollars(&get("/global/spend")["spend"]).floor(), 5.0);

    let days = "start_date=2026-11-01&end_date=2026-11-02";
    let of = |path: &str| {
        get(&format!("/{path}daily/activity?{days}{}", if path.starts_with("user") { "" } else { "&tags=house" }))
    };
    let all = of("user/");
    let told = &all["metadata"];
    assert_eq!((told["total_api_requests"].as_i64(), dollars(&told["total_spend"])), (Some(41), 2.125_001), "{told:#}");
    assert_eq!(all["results"][1]["breakdown"]["model_groups"]["small"]["metrics"]["failed_requests"], 2, "{all:#}");
    assert_eq!(of("tag/")["metadata"]["total_api_requests"], 40);
    let ann = get(&format!("/user/daily/activity?user_id=ann&{days}"));
    assert_eq!(ann["metadata"]["total_api_requests"], 40);
}

#[test]
fn single_calls_come_over_once_and_are_added_to_nothing() {
    let Some(postgres) = litellm() else { return };
    let Some(own) = Postgres::start() else { return };
    let up = Upstream::new(Reply::whole());
    for database in [String::new(), format!("database_url = \"{}\"\n", own.url())] {
        let toml = database + &config("", &[model("small", &up)]);
        let state = tempfile::tempdir().unwrap();
        let run = |more: &[&str]| import(state.path(), &toml, &postgres, "sk-salt-1234", more);
        let plan = run(&["--with-logs"]);
        assert!(plan.stdout.contains("     2234  single calls, without prompts and answers\n"), "{plan:?}");
        assert!(!plan.stdout.contains("LiteLLM_SpendLogs"), "{plan:?}");
        // As whoever has imported the rest before.
        assert!(!run(&["--apply"]).stdout.contains("single calls\n"));
        let done = run(&["--apply", "--with-logs"]);
        assert!(done.code == Some(0) && done.stdout.contains("     2234  single calls\n"), "{done:?}");
        let again = run(&["--apply", "--with-logs"]);
        assert!(again.stdout.contains("        0  single calls (2234 were there already)\n"), "{again:?}");

        let gateway = Setup::toml(&toml).state(state.path()).secret("LITELLM_SALT_KEY", "sk-salt-1234").start();
        let get = |path: &str| gateway.get(path).ok().json();
        let row = get("/spend/logs?request_id=chatcmpl-1500")[0].clone();
        for (name, expected) in [
            ("spend", json!(0.001)),
            ("prompt_tokens", json!(20)),
            ("completion_tokens", json!(10)),
            ("startTime", json!("2026-11-01T10:00:00.002Z")),
            ("endTime", json!("2026-11-01T10:00:02.500Z")),
            ("model", json!("gpt-4o-mini")),
            ("model_group", json!("small")),
            ("user", json!("ann")),
            ("request_tags", json!(["house"])),
            ("status", json!("success")),
        ] {
            assert_eq!(row[name], expected, "{name}: {row:#}");
        }
        assert_eq!(row["metadata"]["usage_object"]["cache_read_input_tokens"], 8, "{row:#}");
        let count = |query: &str| get(&format!("/spend/logs/v2?{query}"))["total"].clone();
        assert_eq!(count(&format!("api_key={LAPTOP}")), 2234, "one of them by the key's old text");
        assert_eq!(
            (count("tag=house"), count("status_filter=failure"), count("user_id=ann")),
            (json!(2233), json!(1), json!(2233))
        );
        let failed = get("/spend/logs?request_id=failed-1")[0].clone();
        assert_eq!(failed["metadata"]["error_information"]["error_class"], "RateLimitError", "{failed:#}");
        let text = gateway.get("/spend/logs?request_id=chatcmpl-1").ok().text();
        assert!(!text.contains("secret question"), "{text}");
        // What was spent is what LiteLLM said it was.
        let info = get(&format!("/key/info?key={LAPTOP}"));
        assert_eq!(dollars(&info["info"]["spend"]), 2.125, "{info:#}");
        let days = get("/user/daily/activity?user_id=ann&start_date=2026-11-01&end_date=2026-11-02");
        assert_eq!(days["metadata"]["total_api_requests"], 40, "{days:#}");
    }
}

/// The models of its database are served here, with the keys that were opened, and stand sealed in the store.
fn carried_models(gateway: &Gateway, state: &Path) {
    let credential = gateway.get("/credentials/by_name/house").ok().json();
    assert_eq!(credential["credential_info"]["custom_llm_provider"], "openai", "{credential}");
    assert_eq!(credential["credential_values"]["api_key"], "****-key", "{credential}");
    let up = Upstream::new(Reply::whole())
        .rules(|rules| rules.authorization = vec![Some("Bearer sk-provider-key".to_owned())]);
    let params = |name: &str| json!({"litellm_params": {"api_base": up.base(), "litellm_credential_name": name}});
    let patch = |body: Value| {
        let body = body.to_string();
        gateway.call("PATCH", "/model/1/update", &[("x-api-key", crate::support::MASTER_KEY)], body.as_bytes())
    };
    patch(params("house")).ok();
    chat(gateway, crate::support::MASTER_KEY, "from-the-pages").ok();
    assert_eq!(patch(params("nobodys")).error(400).param.as_deref(), Some("litellm_params.litellm_credential_name"));
    for entry in std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&entry).unwrap();
        assert!(memchr::memmem::find(&bytes, b"sk-provider-key").is_none(), "{}", entry.display());
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn dollars(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_database_that_is_not_litellms_is_named_as_such() {
    let Some(postgres) = Postgres::start() else { return };
    let state = tempfile::tempdir().unwrap();
    let ended = import(state.path(), "master_key = \"sk-m\"\n", &postgres, "x", &["--apply"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("has no table LiteLLM_VerificationToken"), "{ended:?}");
    postgres.down();
    let ended = import(state.path(), "master_key = \"sk-m\"\n", &postgres, "x", &[]);
    assert!(ended.code == Some(1) && ended.stderr.contains("Postgres"), "{ended:?}");
}
