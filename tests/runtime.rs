//! Models, credentials and settings that are made while the gateway runs; and how deployments are watched.

use crate::chat::HELLO;
use crate::support::feed::{PATIENCE, pass};
use crate::support::postgres::Postgres;
use crate::support::upstream::refusing;
use crate::support::{Answer, Gateway, Reply, Setup, UPSTREAM_KEY, Upstream, config, deployment, model};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn asks(model: &str) -> String {
    HELLO.replace("\"small\"", &format!("\"{model}\""))
}

fn new_model(name: &str, id: &str, up: &Upstream) -> Value {
    json!({"model_name": name, "model_info": {"id": id}, "litellm_params": {
        "model": format!("openai/{name}-up"), "api_base": up.base(), "api_key": UPSTREAM_KEY}})
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        pass(Duration::from_millis(20));
    }
}

fn call(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {}", crate::support::MASTER_KEY);
    let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
    gateway.call(method, path, &headers, body.to_string().as_bytes())
}

#[test]
fn models_are_put_into_groups_and_out_of_them() {
    let up = Upstream::new(Reply::whole());
    let fixed = model("small", &up) + "info = { access_groups = [\"fixed\"] }\n";
    let gateway = Gateway::start(&config("", &[fixed]));
    for (name, id) in [("large", "m1"), ("large", "m2"), ("huge", "m3")] {
        gateway.post("/model/new", new_model(name, id, &up).to_string()).ok();
    }
    let key = gateway.post("/key/generate", r#"{"models":["prod"]}"#).ok().json()["key"].as_str().unwrap().to_owned();
    let asks_for = |model: &str| {
        gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key.as_str())], asks(model).as_bytes())
    };
    asks_for("large").error(403);
    let made = json!({"access_group": "prod", "model_names": ["large"]});
    let done = gateway.post("/access_group/new", made.to_string()).ok().json();
    assert_eq!((&done["access_group"], &done["models_updated"]), (&json!("prod"), &json!(2)), "{done}");
    asks_for("large").ok();
    asks_for("huge").error(403);
    gateway.post("/access_group/new", made.to_string()).error(400);
    let info = gateway.get("/access_group/prod/info").ok().json();
    assert_eq!(info, json!({"access_group": "prod", "model_names": ["large"], "deployment_count": 2}));
    let all = gateway.get("/access_group/list").ok().json();
    let names: Vec<&str> =
        all["access_groups"].as_array().unwrap().iter().filter_map(|group| group["access_group"].as_str()).collect();
    assert_eq!(names, ["fixed", "prod"]);
    let put = |group: &str, body: Value| call(&gateway, "PUT", &format!("/access_group/{group}/update"), &body);
    put("prod", json!({"model_ids": ["m3", "m1"]})).ok();
    asks_for("huge").ok();
    assert_eq!(gateway.get("/access_group/prod/info").ok().json()["model_names"], json!(["huge", "large"]));
    for (body, param) in [
        (json!({}), "model_names"),
        (json!({"model_names": ["lrge"]}), "model_names"),
        (json!({"model_ids": ["m9"]}), "model_ids"),
    ] {
        assert_eq!(put("prod", body).error(400).param.as_deref(), Some(param));
    }
    // What the file says stays as it is there.
    for (group, models) in [("prod", json!(["small"])), ("fixed", json!(["huge"]))] {
        assert_eq!(put(group, json!({"model_names": models})).error(403).kind, "locked_by_configuration", "{group}");
    }
    put("nobody", json!({"model_names": ["huge"]})).error(404);
    assert_eq!(call(&gateway, "DELETE", "/access_group/prod/delete", &json!({})).ok().json()["models_updated"], 2);
    asks_for("huge").error(403);
    gateway.get("/access_group/prod/info").error(404);
    call(&gateway, "DELETE", "/access_group/fixed/delete", &json!({})).error(403);
}

#[test]
fn a_model_is_made_changed_and_taken_away_while_calls_are_served() {
    let (up, other) = (Upstream::new(Reply::whole()), Upstream::new(Reply::whole()));
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    gateway.chat(asks("large")).error(400);
    let made = gateway.post("/model/new", new_model("large", "m1", &other).to_string()).ok();
    assert!(!made.text().contains(UPSTREAM_KEY), "{}", made.text());
    gateway.chat(asks("large")).ok();
    assert_eq!(other.only_request().json()["model"], "large-up");
    gateway.post("/model/new", new_model("large", "m1", &other).to_string()).error(400);
    let info = gateway.get("/model/info").ok().text();
    assert!(info.contains("\"db_model\":true") && !info.contains(UPSTREAM_KEY), "{info}");

    call(&gateway, "PATCH", "/model/m1/update", &json!({"litellm_params": {"model": "openai/huge"}})).ok();
    gateway.chat(asks("large")).ok();
    assert_eq!(other.requests()[1].json()["model"], "huge");
    gateway.post("/model/update", json!({"model_name": "great", "model_info": {"id": "m1"}}).to_string()).ok();
    gateway.chat(asks("great")).ok();
    // As LiteLLM's own client names it.
    gateway.post("/model/update", json!({"id": "m1", "model_info": {"note": "kept"}}).to_string()).ok();
    gateway.chat(asks("large")).error(400);
    let broken = json!({"model_name": "x", "litellm_params": {"model": "grok-of-nobody/x"}});
    assert_eq!(gateway.post("/model/new", broken.to_string()).error(400).param.as_deref(), Some("litellm_params"));

    gateway.post("/model/delete", json!({"id": "m1"}).to_string()).ok();
    gateway.chat(asks("great")).error(400);
    gateway.post("/model/delete", json!({"id": "m1"}).to_string()).error(404);
    gateway.chat(HELLO).ok();
    let declared = gateway.get("/model/info").ok().json()["data"][0]["model_info"]["id"].as_str().unwrap().to_owned();
    let error = gateway.post("/model/delete", json!({"id": declared}).to_string()).error(403);
    assert_eq!(error.kind, "locked_by_configuration");
    let key = gateway.post("/key/generate", "{}").ok().json()["key"].as_str().unwrap().to_owned();
    let authorization = format!("Bearer {key}");
    let body = new_model("x", "m2", &other).to_string();
    gateway.call("POST", "/model/new", &[("Authorization", &authorization)], body.as_bytes()).error(403);
}

#[test]
fn what_is_stored_is_sealed_outlives_a_restart_and_is_opened_by_its_key_alone() {
    let (up, state) = (Upstream::new(Reply::whole()), tempfile::tempdir().unwrap());
    let text = config("", &[model("small", &up)]);
    let start = |key: &str, old: Option<&str>| {
        let setup = Setup::toml(&text).state(state.path()).secret("GATEWAY_SEAL_KEY", key);
        match old {
            Some(old) => setup.secret("GATEWAY_SEAL_KEY_OLD", old).start(),
            None => setup.start(),
        }
    };
    let gateway = start("first-seal-key", None);
    let values =
        json!({"credential_name": "house", "credential_values": {"api_key": UPSTREAM_KEY, "api_base": up.base()}});
    gateway.post("/credentials", values.to_string()).ok();
    let by_credential = json!({"model_name": "large", "litellm_params": {"model": "openai/large-up", "litellm_credential_name": "house"}});
    gateway.post("/model/new", by_credential.to_string()).ok();
    gateway.chat(asks("large")).ok();
    // A second one of that name would take its values away.
    assert_eq!(gateway.post("/credentials", values.to_string()).error(400).param.as_deref(), Some("credential_name"));
    gateway.chat(asks("large")).ok();
    let shown = gateway.get("/credentials").ok().text();
    assert!(shown.contains("house") && !shown.contains(UPSTREAM_KEY), "{shown}");
    drop(gateway);
    for entry in std::fs::read_dir(state.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        assert!(memchr::memmem::find(&bytes, UPSTREAM_KEY.as_bytes()).is_none(), "{}", path.display());
    }
    let serves = |gateway: &Gateway| gateway.chat(asks("large")).status == 200;
    let gateway = start("first-seal-key", None);
    until("the stored model after a restart", || serves(&gateway));
    drop(gateway);
    let gateway = start("second-seal-key", Some("first-seal-key"));
    until("the stored model under another key", || serves(&gateway));
    drop(gateway);
    let resealed = |key: &str, old: &str| {
        let setup = Setup::command(&["store", "reseal"]).arg("--state-dir").arg(state.path().to_str().unwrap());
        let (file, env) = (setup.dir().join("gateway.toml"), setup.dir().join("env"));
        std::fs::write(&file, &text).unwrap();
        let secrets = format!("MASTER_KEY=sk-m\nUPSTREAM_KEY=x\nGATEWAY_SEAL_KEY={key}\nGATEWAY_SEAL_KEY_OLD={old}\n");
        std::fs::write(&env, secrets).unwrap();
        setup.arg("--config").arg(file.to_str().unwrap()).arg("--env-file").arg(env.to_str().unwrap()).run()
    };
    let lost = resealed("second-seal-key", "neither");
    assert!(lost.code == Some(1) && lost.stderr.contains("credential/house"), "{lost:?}");
    let done = resealed("second-seal-key", "first-seal-key");
    assert!(done.code == Some(0) && done.stdout.contains("2 sealed anew"), "{done:?}");
    assert!(resealed("second-seal-key", "first-seal-key").stdout.contains("0 sealed anew"));
    let gateway = start("second-seal-key", None);
    until("the stored model by the new key alone", || serves(&gateway));
    drop(gateway);
    let gateway = start("third-seal-key", None);
    gateway.wait_log("what cannot be opened", |line| line.contains("GATEWAY_SEAL_KEY_OLD"));
    gateway.chat(asks("large")).error(400);
    gateway.chat(HELLO).ok();
}

#[test]
fn fallbacks_and_settings_are_changed_while_the_gateway_runs_and_the_file_wins() {
    let (bad, up) = (Upstream::new(Reply::error(500, "server_error", None, "no")), Upstream::new(Reply::whole()));
    let models = [model("small", &bad), model("large", &up), model("own", &bad)];
    let text = config("", &models) + "[routing]\ncooldown_time = \"3s\"\nfallbacks = { own = [\"large\"] }\n";
    let gateway = Gateway::start(&text);
    gateway.chat(HELLO).error(500);
    gateway.post("/fallback", json!({"model": "small", "fallback_models": ["large"]}).to_string()).ok();
    gateway.chat(HELLO).ok();
    assert_eq!(gateway.get("/fallback/small").ok().json()["fallback_models"], json!(["large"]));
    gateway.post("/fallback", json!({"model": "small", "fallback_models": ["nobody"]}).to_string()).error(400);
    let locked =
        gateway.post("/fallback", json!({"model": "own", "fallback_models": ["small"]}).to_string()).error(403);
    assert_eq!(locked.kind, "locked_by_configuration");
    call(&gateway, "DELETE", "/fallback/small", &json!({})).ok();
    gateway.chat(HELLO).error(500);

    gateway.post("/fallback", json!({"model": "nobody", "fallback_models": ["large"]}).to_string()).error(400);
    let locked = json!({"field_name": "cooldown_time", "field_value": 60}).to_string();
    assert_eq!(gateway.post("/config/field/update", locked).error(403).kind, "locked_by_configuration");

    let before = bad.requests().len();
    gateway.post("/config/field/update", json!({"field_name": "num_retries", "field_value": 2}).to_string()).ok();
    gateway.chat(HELLO).error(500);
    assert_eq!(bad.requests().len() - before, 3);
    assert_eq!(gateway.get("/router/settings").ok().json()["current_values"]["num_retries"], 2);
    assert_eq!(gateway.get("/config/field/info?field_name=num_retries").ok().json()["field_value"], 2);
    gateway
        .post("/config/field/update", json!({"field_name": "num_retries", "field_value": "many"}).to_string())
        .error(400);
    gateway
        .post("/config/field/update", json!({"field_name": "master_key", "field_value": "x"}).to_string())
        .error(400);
    gateway.post("/config/field/delete", json!({"field_name": "num_retries"}).to_string()).ok();
    gateway.get("/config/field/info?field_name=num_retries").error(404);
}

#[test]
fn a_model_that_one_gateway_is_told_of_is_served_by_another_within_a_second() {
    let Some(postgres) = Postgres::start() else { return };
    let up = Upstream::new(Reply::whole());
    let text = format!("database_url = \"env:DB\"\n{}", config("", &[model("small", &up)]));
    let start = || Setup::toml(&text).secret("DB", &postgres.url()).start();
    let (one, two) = (start(), start());
    until("the store of the other", || two.get("/health/readiness").ok().json()["db"] == "connected");
    one.post("/model/new", new_model("large", "m1", &up).to_string()).ok();
    let begun = Instant::now();
    until("the model at the other", || two.chat(asks("large")).status == 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_server_of_the_house_that_goes_down_is_known_before_it_is_called() {
    let (socket, refused) = refusing();
    let down = deployment("small", "openai/small-up", &format!("http://{refused}/v1"));
    let up = Upstream::new(Reply::whole());
    let text = config("", &[down, model("small", &up)]) + "[health]\nhouse_interval = \"50ms\"\n";
    let gateway = Gateway::start(&text);
    gateway.wait_notice("STATUS=serving 1 model; down: small", 1);
    for _ in 0..3 {
        assert_eq!(gateway.chat(HELLO).ok().header("x-litellm-attempted-retries").as_deref(), Some("0"));
    }
    drop(socket);
}

#[test]
fn checks_in_the_background_are_remembered_and_a_connection_is_tried_without_configuring_it() {
    let (bad, up) = (Upstream::new(Reply::error(500, "server_error", None, "no")), Upstream::new(Reply::whole()));
    let text =
        config("", &[model("small", &bad), model("large", &up)]) + "[health]\nbackground = true\ninterval = \"1s\"\n";
    let gateway = Gateway::start(&text);
    until("the checks of both", || {
        gateway.get("/health/history").ok().json()["health_checks"].as_array().unwrap().len() >= 2
    });
    let history = gateway.get("/health/history?model=small").ok().json();
    assert!(
        history["health_checks"].as_array().unwrap().iter().all(|check| check["status"] == "unhealthy"),
        "{history}"
    );
    let latest = gateway.get("/health/latest").ok().json();
    let states: Vec<&str> =
        latest["latest_health_checks"].as_object().unwrap().values().map(|d| d["status"].as_str().unwrap()).collect();
    assert!(states.contains(&"healthy") && states.contains(&"unhealthy"), "{latest}");
    let params = |up: &Upstream| json!({"litellm_params": {"model": "openai/x", "api_base": up.base(), "api_key": UPSTREAM_KEY}});
    assert_eq!(gateway.post("/health/test_connection", params(&up).to_string()).ok().json()["status"], "success");
    assert_eq!(gateway.post("/health/test_connection", params(&bad).to_string()).ok().json()["status"], "error");
    gateway.post("/health/test_connection", "{}").error(400);
    assert_eq!(gateway.get("/health/services?service=database").ok().json()["status"], "success");
    gateway.get("/health/services?service=slack").error(400);
}

#[test]
fn what_checks_found_is_known_after_a_restart_and_unknown_models_are_no_good_health() {
    let (bad, up) = (Upstream::new(Reply::error(500, "server_error", None, "no")), Upstream::new(Reply::whole()));
    let state = tempfile::tempdir().unwrap();
    let text = config("", &[model("small", &bad), model("large", &up)]);
    let serve = || Setup::toml(&text).state(state.path()).start();
    let gateway = serve();
    let found = gateway.get("/health?model=small").ok().json();
    assert_eq!((&found["healthy_count"], &found["unhealthy_count"]), (&json!(0), &json!(1)));
    let found = gateway.get("/health?model=openai/large-up").ok().json();
    assert_eq!((&found["healthy_count"], &found["unhealthy_count"]), (&json!(1), &json!(0)));
    for nobody in ["/health?model=larg", "/health?model_id=nobody"] {
        let error = gateway.get(nobody).error(404);
        assert!(error.message.contains("No model of yours"), "{error:?}");
    }
    assert!(gateway.get("/health?model=larg").error(404).message.contains("`large`"));
    drop(gateway);

    let gateway = serve();
    let history = gateway.get("/health/history").ok().json();
    let names: Vec<&str> =
        history["health_checks"].as_array().unwrap().iter().map(|c| c["model_name"].as_str().unwrap()).collect();
    assert_eq!((names, &history["total_records"]), (vec!["large", "small"], &json!(2)));
    let second = gateway.get("/health/history?limit=1&offset=1").ok().json();
    assert!(second["health_checks"][0]["error_message"].as_str().unwrap().contains("no"), "{second}");
    let latest = gateway.get("/health/latest").ok().json();
    let mut states: Vec<&str> =
        latest["latest_health_checks"].as_object().unwrap().values().map(|d| d["status"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["healthy", "unhealthy"]);
    let key = gateway.post("/key/generate", r#"{"models":["large"]}"#).ok().json()["key"].as_str().unwrap().to_owned();
    let headers = [("Authorization", &*format!("Bearer {key}"))];
    gateway.call("GET", "/health?model=small", &headers, b"").error(404);
    assert_eq!(gateway.call("GET", "/health/history", &headers, b"").ok().json()["total_records"], 1);
}
