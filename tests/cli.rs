//! The commands and what they say: `check`, `import`, help, exit codes.

use crate::support::setup::{Ended, run};
use crate::support::{Reply, Setup, UPSTREAM_KEY, Upstream, config, model};
use std::path::PathBuf;

/// A directory with one file in it.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn check(name: &str, text: &str, more: &[&str]) -> Ended {
    let (_dir, path) = file(name, text);
    let mut words = vec!["check", "--config", path.to_str().unwrap()];
    words.extend(more);
    run(&words)
}

const GOOD: &str = "[[models]]\nname = \"small\"\nmodel = \"openai/gpt-4o-mini\"\napi_key = \"env:NOT_SET_ANYWHERE\"\n";

#[test]
fn check_offline_needs_no_secret() {
    let ended = check("gateway.toml", GOOD, &["--offline"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn check_names_a_provider_key_that_is_missing() {
    let ended = check("gateway.toml", GOOD, &[]);
    assert!(ended.stderr.contains("NOT_SET_ANYWHERE") && ended.stderr.contains("small"), "{}", ended.stderr);
}

#[test]
fn check_fails_without_the_master_key_that_the_file_names() {
    let ended = check("gateway.toml", "master_key = \"env:NOT_SET_ANYWHERE\"\n", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("NOT_SET_ANYWHERE") && ended.stderr.contains("master_key"), "{}", ended.stderr);
}

#[test]
fn check_passes_when_the_secret_is_in_the_environment() {
    let (_dir, path) = file("gateway.toml", GOOD);
    let words = ["check", "--config", path.to_str().unwrap()];
    let ended = Setup::command(&words).variable("NOT_SET_ANYWHERE", "sk-now-set").run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("sk-now-set") && !ended.stdout.contains("sk-now-set"));
}

#[test]
fn a_typo_is_shown_with_its_line_a_caret_and_the_nearest_name() {
    let ended = check("gateway.toml", &GOOD.replace("api_key", "api_keey"), &["--offline"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["api_keey", "`api_key`", "^", "4", "gateway.toml"] {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
    }
}

#[test]
fn a_typo_in_the_name_of_a_table_is_shown_the_same_way() {
    let ended = check("gateway.toml", &format!("[sever]\nworkers = 2\n{GOOD}"), &["--offline"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("`server`") && ended.stderr.contains('^'), "{}", ended.stderr);
}

#[test]
fn a_typo_beside_a_secret_does_not_print_the_secret() {
    let text = "[[models]]\nname = \"small\"\nmodel = \"openai/x\"\napi_keey = \"sk-in-clear-123\"\n";
    let ended = check("gateway.toml", text, &["--offline"]);
    assert_eq!(ended.code, Some(1));
    assert!(!ended.stderr.contains("sk-in-clear-123"), "{}", ended.stderr);
}

#[test]
fn a_value_of_the_wrong_kind_is_shown_at_its_line() {
    for (line, part) in [
        ("body_limit = \"32 parsecs\"", "32MiB"),
        ("drain = \"-3s\"", "30s"),
        ("workers = \"many\"", "expected"),
        ("workers = -1", "-1"),
        ("listen = \"unix:/x\"", "expected"),
    ] {
        let ended = check("gateway.toml", &format!("[server]\n{line}\n{GOOD}"), &["--offline"]);
        assert_eq!(ended.code, Some(1), "{line} {ended:?}");
        for part in [part, "gateway.toml:2:", "^"] {
            assert!(ended.stderr.contains(part), "no {part} for {line} in {}", ended.stderr);
        }
    }
}

#[test]
fn all_mistakes_of_meaning_are_shown_together() {
    let text = concat!(
        "[[models]]\nname = \"one\"\nmodel = \"opnai/gpt\"\n",
        "[[models]]\nname = \"two\"\nmodel = \"openai_like/x\"\n",
        "[[models]]\nname = \"three\"\nmodel = \"openai/x\"\napi_base = \"ftp://house\"\napi_key = \"k\"\n",
        "[[models]]\nname = \"\"\nmodel = \"openai/x\"\napi_key = \"k\"\n",
    );
    let ended = check("gateway.toml", text, &["--offline"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["opnai", "`openai`", "two", "api_base", "three"] {
        assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
    }
}

#[test]
fn an_origin_that_no_browser_sends_is_a_mistake() {
    for origin in ["https://exa mple", "", "app.example", "https://app.example/"] {
        let ended = check("gateway.toml", &format!("[server]\ncors_origins = [\"{origin}\"]\n"), &["--offline"]);
        assert_eq!(ended.code, Some(1), "{origin} {ended:?}");
        assert!(ended.stderr.contains("server.cors_origins"), "{}", ended.stderr);
    }
    let good = "[server]\ncors_origins = [\"*\", \"null\", \"http://localhost:3000\", \"app://local\"]\n";
    let ended = check("gateway.toml", good, &["--offline"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn an_odd_address_of_a_provider_that_is_not_served_keeps_no_file_from_loading() {
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: sap/a, api_base: \"https://a.example/x?api-version=1\"}\n";
    let ended = check("config.yaml", text, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("'sap' is not served yet"), "{}", ended.stderr);
}

#[test]
fn a_file_without_end_is_a_mistake() {
    for (name, text) in [("config.yaml", "include: [/dev/zero]\n"), ("other.yaml", "include: [endless.yaml]\n")] {
        let (dir, path) = file(name, text);
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("endless.yaml")).unwrap();
        let ended = run(&["check", "--offline", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("16 MiB"), "{}", ended.stderr);
    }
}

#[test]
fn two_deployments_of_one_id_are_a_mistake() {
    let one = format!("{GOOD}id = \"same\"\n");
    let ended = check("gateway.toml", &format!("{one}{one}"), &["--offline"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("same"), "{}", ended.stderr);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let ended = run(&["check", "--config", "/nowhere/gateway.toml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/nowhere/gateway.toml"), "{}", ended.stderr);
}

#[test]
fn a_certificate_authority_that_cannot_be_read_is_named() {
    let ended =
        check("gateway.toml", &GOOD.replace("env:NOT_SET_ANYWHERE\"", "k\"\nca_file = \"/nowhere/ca.pem\""), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/nowhere/ca.pem"), "{}", ended.stderr);
}

#[test]
fn wrong_use_is_a_2() {
    for words in [&["fly"][..], &["check", "--offlin"], &["--port", "many"], &["import"], &["import", "nginx", "x"]] {
        let ended = run(words);
        assert_eq!(ended.code, Some(2), "{words:?} {ended:?}");
        assert!(!ended.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn help_and_version_are_a_0_and_name_the_commands() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["serve", "check", "reload", "import", "demo"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
    assert!(!help.stdout.contains("completions"), "{}", help.stdout);
    let version = run(&["--version"]);
    assert_eq!(version.code, Some(0));
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
}

#[test]
fn completions_and_the_man_page_can_be_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("gateway"));
    }
    let ended = run(&["man"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains(".TH"), "{}", ended.stdout);
}

#[test]
fn the_word_serve_may_be_left_out() {
    let up = Upstream::new(Reply::whole());
    let (_dir, path) = file("gateway.toml", &config("", &[model("small", &up)]));
    // Without a socket of its own to name, the address is one that is taken; only the way there matters.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for first in [&["serve"][..], &[]] {
        let mut words = first.to_vec();
        words.extend(["--config", path.to_str().unwrap(), "--port", &port]);
        let setup = Setup::command(&words).variable("MASTER_KEY", "sk-m").variable("UPSTREAM_KEY", UPSTREAM_KEY);
        let state = setup.dir().to_str().unwrap().to_owned();
        let ended = setup.arg("--state-dir").arg(&state).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&port), "a taken port is named: {}", ended.stderr);
    }
}

#[test]
fn import_prints_a_configuration_that_check_accepts() {
    let yaml = concat!(
        "model_list:\n  - model_name: small\n    litellm_params:\n      model: openai/gpt-4o-mini\n",
        "      api_key: os.environ/OPENAI_KEY\n      ttl: 10\n",
        "general_settings:\n  master_key: sk-1234-in-clear\nrouter_settings:\n  cache_kwargs: {a: 1}\n",
    );
    let (_dir, path) = file("config.yaml", yaml);
    let ended = run(&["import", "litellm", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("env:OPENAI_KEY") && ended.stdout.contains("[[models]]"), "{}", ended.stdout);
    for left_out in ["ttl", "cache_kwargs"] {
        assert!(ended.stderr.contains(left_out), "{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("sk-1234-in-clear"), "{}", ended.stderr);
    let checked = check("gateway.toml", &ended.stdout, &["--offline"]);
    assert_eq!(checked.code, Some(0), "{}\n{}", ended.stdout, checked.stderr);
}

#[test]
fn import_of_a_broken_file_is_a_1() {
    let (_dir, path) = file("config.yaml", "model_list: [\n");
    let ended = run(&["import", "litellm", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("config.yaml") && ended.stdout.is_empty(), "{ended:?}");
}

#[test]
fn reload_without_a_running_gateway_is_a_1_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(&["reload", "--state-dir", dir.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("control.sock"), "{}", ended.stderr);
}
