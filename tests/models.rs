//! What can be asked about models and health.

use crate::support::{Gateway, Reply, Setup, UPSTREAM_KEY, Upstream, config, deployment, model, upstream};
use serde_json::{Value, json};

fn names(value: &Value) -> Vec<&str> {
    value["data"].as_array().unwrap().iter().filter_map(|item| item["id"].as_str()).collect()
}

fn serve(up: &Upstream) -> Gateway {
    let info = "info = { mode = \"chat\", max_input_tokens = 8192, supports_vision = true }\n";
    let models = [
        model("small", up) + info,
        model("small", up),
        deployment("my/large model", "openai/large-up", up.base()),
        deployment("house/*", "openai/*", up.base()),
    ];
    Gateway::start(&config("", &models))
}

#[test]
fn each_model_is_listed_once_and_a_wildcard_as_the_models_behind_it() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    let all = gateway.get("/v1/models?return_wildcard_routes=true").ok().json();
    let shown = names(&all);
    assert!(shown.contains(&"house/*"), "{shown:?}");
    for path in ["/v1/models", "/models"] {
        let list = gateway.get(path).ok().json();
        assert_eq!(list["object"], "list");
        let names = names(&list);
        assert_eq!(names[..2], ["small", "my/large model"]);
        assert!(names.contains(&"house/gpt-4o") && !names.iter().any(|name| name.contains('*')), "{names:?}");
        assert_eq!(names.len(), names.iter().collect::<std::collections::HashSet<_>>().len());
        for item in list["data"].as_array().unwrap() {
            assert_eq!(item["object"], "model");
            assert!(item["created"].is_u64() && item["owned_by"].is_string(), "{item}");
        }
    }
}

#[test]
fn a_wildcard_for_every_provider_leaves_those_with_an_entry_of_their_own() {
    let up = Upstream::new(Reply::whole());
    let every = "[[models]]\nname = \"*\"\nmodel = \"*\"\n".to_owned();
    let text = config("", &[every, deployment("openai/*", "openai/*", up.base())]);
    let setup = Setup::toml(&text).variable("OPENAI_API_KEY", "sk-not-for-this").variable("GROQ_API_KEY", "gsk-1");
    let gateway = setup.start();
    let list = gateway.get("/v1/models?return_wildcard_routes=true").ok().json();
    assert_eq!(names(&list).iter().filter(|name| **name == "openai/*").count(), 1);
    assert!(names(&list).contains(&"groq/*"), "{list}");
    for _ in 0..3 {
        gateway.chat(crate::chat::HELLO.replace("small", "openai/small")).ok();
    }
}

#[test]
fn one_model_can_be_asked_for() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    assert_eq!(gateway.get("/v1/models/small").ok().json()["id"], "small");
    assert_eq!(gateway.get("/models/small").ok().json()["id"], "small");
    assert_eq!(gateway.get("/v1/models/my%2Flarge%20model").ok().json()["id"], "my/large model");
    assert_eq!(gateway.get("/v1/models/my/large%20model").ok().json()["id"], "my/large model");
    gateway.get("/v1/models/smal").error(404);
}

#[test]
fn model_info_comes_page_by_page_too() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    let page = |query: &str| gateway.get(&format!("/v2/model/info{query}")).ok().json();
    let first = page("?size=3");
    assert_eq!(
        (&first["total_count"], &first["total_pages"], &first["current_page"]),
        (&json!(4), &json!(2), &json!(1))
    );
    let second = page("?size=3&page=2");
    assert_eq!((first["data"].as_array().map(Vec::len), second["data"].as_array().map(Vec::len)), (Some(3), Some(1)));
    assert_eq!(second["data"][0]["model_name"], "house/*");
    assert_eq!(page("?search=LARGE")["data"][0]["model_name"], "my/large model");
    let id = first["data"][0]["model_info"]["id"].as_str().unwrap();
    assert_eq!(page(&format!("?modelId={id}"))["total_count"], 1);
    assert_eq!(page("?page=9")["data"], json!([]));
    assert_eq!(gateway.get("/v2/model/info?page=0").error(400).param.as_deref(), Some("page"));
}

#[test]
fn model_info_shows_each_deployment_without_its_secrets() {
    let up = Upstream::new(Reply::whole());
    let gateway = serve(&up);
    for path in ["/model/info", "/v1/model/info"] {
        let answer = gateway.get(path).ok();
        assert!(!answer.text().contains(UPSTREAM_KEY) && !answer.text().contains("UPSTREAM_KEY"), "{}", answer.text());
        let info = answer.json();
        let items = info["data"].as_array().unwrap();
        assert_eq!(items.len(), 4);
        assert_eq!(items[0]["model_name"], "small");
        assert_eq!(items[0]["litellm_params"]["model"], "openai/small-up");
        assert_eq!(items[0]["litellm_params"]["api_base"], up.base());
        assert_eq!(items[0]["litellm_params"].get("api_key"), None);
        assert_eq!(items[0]["model_info"]["max_input_tokens"], 8192);
        assert!(items[0]["model_info"]["id"].is_string());
        assert_ne!(items[0]["model_info"]["id"], items[1]["model_info"]["id"]);
    }
}

#[test]
fn model_info_of_one_deployment_can_be_asked_for() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    let all = gateway.get("/model/info").ok().json();
    let id = all["data"][2]["model_info"]["id"].as_str().unwrap();
    let one = gateway.get(&format!("/model/info?litellm_model_id={id}")).ok().json();
    let one = if one["data"].is_array() { one["data"][0].clone() } else { one["data"].clone() };
    assert_eq!(one["model_name"], "my/large model");
}

#[test]
fn deployment_ids_survive_a_restart() {
    let up = Upstream::new(Reply::whole());
    let ids = || -> Vec<Value> {
        let info = serve(&up).get("/model/info").ok().json();
        info["data"].as_array().unwrap().iter().map(|item| item["model_info"]["id"].clone()).collect()
    };
    assert_eq!(ids(), ids());
}

#[test]
fn model_groups_are_summed_up_by_name() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    let info = gateway.get("/model_group/info").ok().json();
    let groups = info["data"].as_array().unwrap();
    let found: Vec<_> = groups.iter().filter_map(|g| g["model_group"].as_str()).collect();
    assert_eq!(found[..2], ["small", "my/large model"]);
    // As in the list of models, what is known behind a wildcard stands for it.
    assert!(found[2..].contains(&"house/gpt-4.1") && !found.contains(&"house/*"), "{found:?}");
    let one = gateway.get("/model_group/info?model_group=house/gpt-4.1").ok().json();
    assert_eq!((&one["data"][0]["providers"], &one["data"][0]["mode"]), (&json!(["openai"]), &json!("chat")));
    assert_eq!(groups[0]["providers"], json!(["openai"]));
    assert_eq!(groups[0]["supports_vision"], true);
}

#[test]
fn liveness_is_a_word_and_readiness_an_object() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    for path in ["/health/liveliness", "/health/liveness"] {
        assert!(gateway.call("GET", path, &[], b"").ok().text().contains("I'm alive!"), "{path}");
    }
    let ready = gateway.call("GET", "/health/readiness", &[], b"").ok().json();
    assert!(ready["status"].is_string(), "{ready}");
}

#[test]
fn health_really_calls_every_deployment_and_says_what_is_wrong_with_each() {
    let good = Upstream::new(Reply::whole());
    let bad = Upstream::new(Reply::error(500, "server_error", None, "broken pump"));
    let (_socket, nobody) = upstream::refusing();
    let gateway = Gateway::start(&config(
        "",
        &[model("good", &good), model("bad", &bad), deployment("gone", "openai/up", &format!("http://{nobody}/v1"))],
    ));
    let answer = gateway.get("/health").ok();
    assert!(!answer.text().contains(UPSTREAM_KEY));
    let health = answer.json();
    assert_eq!((&health["healthy_count"], &health["unhealthy_count"]), (&json!(1), &json!(2)), "{health}");
    assert_eq!(health["healthy_endpoints"].as_array().unwrap().len(), 1);
    let unhealthy = health["unhealthy_endpoints"].as_array().unwrap();
    assert!(unhealthy.iter().all(|e| e["error"].as_str().is_some_and(|text| !text.is_empty())), "{health}");
    assert!(unhealthy.iter().any(|e| e["error"].as_str().unwrap().contains("broken pump")), "{health}");
    let sent = good.only_request().json();
    assert!(sent["max_tokens"].as_u64().or(sent["max_completion_tokens"].as_u64()).is_some_and(|n| n <= 16), "{sent}");
}

#[test]
fn health_does_not_wait_longer_than_its_limit_for_a_silent_upstream() {
    let (good, silent) = (Upstream::new(Reply::whole()), Upstream::new(Reply::silence()));
    let text = config("", &[model("good", &good), model("silent", &silent)]) + "[health]\ntimeout = \"300ms\"\n";
    let health = Gateway::start(&text).get("/health").ok().json();
    assert_eq!((&health["healthy_count"], &health["unhealthy_count"]), (&json!(1), &json!(1)), "{health}");
    silent.wait_departures(1);
}

#[test]
fn health_calls_deployments_side_by_side() {
    let silent: Vec<Upstream> = (0..6).map(|_| Upstream::new(Reply::silence())).collect();
    let models: Vec<String> = silent.iter().map(|up| model("silent", up)).collect();
    let gateway = Gateway::start(&(config("", &models) + "[health]\ntimeout = \"1s\"\nconcurrency = 6\n"));
    let start = std::time::Instant::now();
    assert_eq!(gateway.get("/health").ok().json()["unhealthy_count"], 6);
    assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
}

#[test]
fn the_front_page_and_the_list_of_routes_are_there() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    gateway.get("/").ok();
    let routes = gateway.get("/routes").ok().text();
    for path in ["/v1/chat/completions", "/v1/models", "/health/readiness", "/routes"] {
        assert!(routes.contains(path), "{path} is not among {routes}");
    }
}

#[test]
fn head_requests_are_answered_without_a_body() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    let mut client = gateway.client();
    client.request("HEAD", "/health/liveliness", &[], b"");
    assert_eq!(client.head().status(), 200);
    // A body would now be taken for the head of this answer.
    client.request("GET", "/v1/nothing", &[], b"");
    assert!([401, 404].contains(&client.head().status()));
}

#[test]
fn errors_of_these_routes_have_the_usual_shape() {
    let gateway = serve(&Upstream::new(Reply::whole()));
    for (path, status) in [("/v1/models/nothing", 404), ("/model/infos", 404)] {
        gateway.get(path).error(status);
    }
}

#[test]
fn groups_of_models_are_listed_for_whoever_asks_for_them() {
    let up = Upstream::new(Reply::whole());
    let grouped = model("small", &up) + "info = { access_groups = [\"free\"] }\n";
    let gateway = Gateway::start(&config("", &[grouped, model("large", &up)]));
    let ids = |query: &str| -> Vec<String> {
        let told = gateway.get(&format!("/v1/models{query}")).ok().json();
        told["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(""), ["small", "large"]);
    assert_eq!(ids("?only_model_access_groups=True"), ["free"]);
    assert_eq!(ids("?include_model_access_groups=true"), ["small", "large", "free"]);
}
