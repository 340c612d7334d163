//! LiteLLM's `config.yaml`, served as it is.

use crate::chat::HELLO;
use crate::support::setup::run;
use crate::support::{MASTER_KEY, Reply, Setup, UPSTREAM_KEY, Upstream};
use std::path::PathBuf;

fn fixtures() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/litellm");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    paths
}

fn yaml(up: &Upstream, more: &str) -> String {
    format!(
        concat!(
            "model_list:\n  - model_name: small\n    litellm_params:\n      model: openai/small-up\n",
            "      api_base: {}\n      api_key: os.environ/UPSTREAM_KEY\n{}"
        ),
        up.base(),
        more
    )
}

#[test]
fn every_configuration_seen_in_the_wild_passes_the_check() {
    let all = fixtures();
    assert!(all.len() >= 10, "{all:?}");
    for path in all {
        let ended = run(&["check", "--offline", "--config", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{}: {}", path.display(), ended.stderr);
    }
}

#[test]
fn every_configuration_seen_in_the_wild_can_be_imported() {
    for path in fixtures() {
        let ended = run(&["import", "litellm", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{}: {}", path.display(), ended.stderr);
        let dir = tempfile::tempdir().unwrap();
        let toml = dir.path().join("gateway.toml");
        std::fs::write(&toml, &ended.stdout).unwrap();
        let checked = run(&["check", "--offline", "--config", toml.to_str().unwrap()]);
        assert_eq!(checked.code, Some(0), "{}: {}\n{}", path.display(), checked.stderr, ended.stdout);
    }
}

#[test]
fn a_config_yaml_is_served_directly() {
    let up = Upstream::new(Reply::whole());
    let text = yaml(&up, "general_settings:\n  master_key: os.environ/MASTER_KEY\n");
    let gateway = Setup::yaml(&text).start();
    gateway.chat(HELLO).ok();
    assert_eq!(up.only_request().json()["model"], "small-up");
    gateway.call("POST", "/v1/chat/completions", &[], HELLO.as_bytes()).error(401);
}

#[test]
fn the_master_key_may_come_from_the_usual_variable() {
    let up = Upstream::new(Reply::whole());
    let gateway = Setup::yaml(&yaml(&up, "")).secret("LITELLM_MASTER_KEY", MASTER_KEY).start();
    gateway.chat(HELLO).ok();
    gateway.call("POST", "/v1/chat/completions", &[], HELLO.as_bytes()).error(401);
}

#[test]
fn environment_variables_of_the_file_are_found_by_its_references() {
    let up = Upstream::new(Reply::whole());
    let text = yaml(&up, &format!("environment_variables:\n  INNER_KEY: {UPSTREAM_KEY}\n"));
    let gateway = Setup::yaml(&text.replace("os.environ/UPSTREAM_KEY", "os.environ/INNER_KEY")).start();
    gateway.chat(HELLO).ok();
    let environ = std::fs::read(format!("/proc/{}/environ", gateway.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("INNER_KEY"));
}

#[test]
fn parameters_beside_the_model_are_sent_with_every_call() {
    let up = Upstream::new(Reply::whole()).allow(&["x_new"]);
    let text = yaml(&up, "      temperature: 0.2\n      x_new: [1, \"a\"]\n      max_tokens: 50\n");
    Setup::yaml(&text).start().chat(HELLO).ok();
    let sent = up.only_request().json();
    assert_eq!((&sent["temperature"], &sent["max_tokens"]), (&serde_json::json!(0.2), &serde_json::json!(50)));
    assert_eq!(sent["x_new"], serde_json::json!([1, "a"]));
}

#[test]
fn what_is_not_served_yet_is_one_warning_each() {
    let up = Upstream::new(Reply::whole());
    let more = concat!(
        "      ttl: 5\nrouter_settings:\n  cache_kwargs: {a: 1}\n",
        "litellm_settings:\n  sucess_callback: [\"langfuse\"]\n  cache: true\n"
    );
    let gateway = Setup::yaml(&yaml(&up, more)).start();
    gateway.wait_log("the line behind the warnings", |line| line.contains("ready on"));
    let log = gateway.logs();
    for key in ["ttl", "router_settings.cache_kwargs", "litellm_settings.cache"] {
        assert_eq!(log.lines().filter(|line| line.contains(key)).count(), 1, "{key}\n{log}");
    }
    let unknown = log.lines().find(|line| line.contains("sucess_callback")).unwrap();
    assert!(unknown.contains("success_callback"), "{unknown}");
}

#[test]
fn two_deployments_of_one_name_are_served_in_turn_from_yaml_too() {
    let ups = [Upstream::new(Reply::whole()), Upstream::new(Reply::whole())];
    let second = yaml(&ups[1], "").replace("model_list:\n", "");
    let gateway = Setup::yaml(&yaml(&ups[0], &second)).start();
    for _ in 0..4 {
        gateway.chat(HELLO).ok();
    }
    assert_eq!([ups[0].requests().len(), ups[1].requests().len()], [2, 2]);
}

#[test]
fn a_broken_config_yaml_is_refused_with_its_line_and_without_its_secrets() {
    let up = Upstream::new(Reply::whole());
    let text = yaml(&up, "general_settings:\n  master_key: \"sk-secret-in-yaml\n");
    let ended = Setup::yaml(&text).unbound().run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("config.yaml"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("sk-secret-in-yaml"), "{}", ended.stderr);
}
