use super::keys::{Fate, KEYS};
use super::*;
use crate::config::file::{Duration, OneOrMany};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/litellm")
}

fn fixture(name: &str) -> Converted {
    read(&fixtures().join(format!("{name}.yaml"))).unwrap()
}

fn converted(text: &str) -> Converted {
    convert(text, "test.yaml").unwrap()
}

fn error(text: &str) -> String {
    convert(text, "test.yaml").unwrap_err()
}

fn notes(converted: &Converted) -> Vec<String> {
    converted.notes.iter().map(Note::to_string).collect()
}

fn paths(converted: &Converted) -> Vec<&str> {
    converted.notes.iter().map(|n| n.path.as_str()).collect()
}

fn seconds(s: f64) -> Option<Duration> {
    Some(Duration::from_seconds(s).unwrap())
}

fn one(text: &str) -> Option<OneOrMany> {
    Some(OneOrMany::One(text.into()))
}

/// A config of one model with these lines in its `litellm_params`.
fn params(lines: &str) -> String {
    format!("model_list:\n- model_name: m\n  litellm_params:\n    model: openai/m\n{}", lines.replace('|', "    "))
}

#[test]
fn every_fixture_loads_and_survives_a_round_trip_through_toml() {
    let mut count = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        count += 1;
        let file = read(&path).unwrap().file;
        let text = toml::to_string_pretty(&file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let back: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let plain = |f: &File| serde_json::to_value(f).unwrap();
        assert_eq!(plain(&back), plain(&file), "{}", path.display());
        assert!(!text.contains("os.environ/") || path.ends_with("references.yaml"), "{text}");
    }
    assert!(count >= 14, "{count}");
}

#[test]
fn the_master_key_may_be_any_text_or_a_reference() {
    assert_eq!(fixture("master_key_plain").file.master_key, Some("correct-horse-battery".into()));
    assert_eq!(fixture("master_key_reference").file.master_key, Some("env:LITELLM_MASTER_KEY".into()));
    let number = error("general_settings: {master_key: 12345}");
    assert_eq!(number, "test.yaml: general_settings.master_key: found a number, expected a text (put it in quotes)");
}

#[test]
fn the_database_url_is_found_in_either_section_and_may_be_null() {
    let url = "postgresql://litellm:hunter2secret@db:5432/litellm";
    assert_eq!(fixture("database_url_litellm_settings").file.database_url, Some(url.into()));
    let null = fixture("database_url_null");
    assert_eq!(null.file.database_url, None);
    assert_eq!(null.notes, []);
    let both = converted("litellm_settings: {database_url: a}\ngeneral_settings: {database_url: b}");
    assert_eq!(both.file.database_url, Some("b".into()));
}

#[test]
fn known_settings_that_are_not_served_are_one_note_each() {
    let budget = fixture("budget_general_settings");
    assert_eq!(paths(&budget), Vec::<String>::new());
    assert_eq!(
        (budget.file.limits.max_budget, budget.file.limits.budget_duration.as_deref()),
        (Some(25.0), Some("30d"))
    );
    let callback = fixture("success_callback");
    assert_eq!(notes(&callback), ["litellm_settings.success_callback: callbacks and exporters are not served yet"]);
    let budgets = converted("router_settings: {provider_budget_config: {openai: {budget_limit: 1}}}");
    assert_eq!(paths(&budgets), Vec::<String>::new());
    assert_eq!(budgets.file.limits.providers["openai"].max_budget, Some(1.0));
}

#[test]
fn fallbacks_are_read_in_all_their_forms() {
    for (name, expected) in [
        (
            "fallbacks_maps",
            json!({"fallbacks": {"small": ["large"]}, "context_window_fallbacks": {"small": ["large"]},
                "default_fallbacks": ["large"]}),
        ),
        ("fallbacks_list", json!({"num_retries": 2, "default_fallbacks": ["large", "small"]})),
        ("fallbacks_named", json!({"fallbacks": {"small": ["large"]}})),
    ] {
        let converted = fixture(name);
        assert_eq!(converted.notes, [], "{name}");
        assert_eq!(serde_json::to_value(&converted.file.routing).unwrap(), expected, "{name}");
    }
}

#[test]
fn router_settings_are_routing_and_win() {
    let all = converted(concat!(
        "litellm_settings: {num_retries: 1, allowed_fails: 9}\n",
        "router_settings:\n  num_retries: 3\n  routing_strategy: usage-based-routing-v2\n",
        "  routing_strategy_args: {lowest_latency_buffer: 0.5, ttl: 10}\n  retry_policy: {TimeoutErrorRetries: 4}\n",
        "  model_group_alias: {gpt-4: small, x: {model: small, hidden: true}}\n  enable_pre_call_checks: true\n",
        "  optional_pre_call_checks: [session_affinity, router_budget_limiting, forward_client_headers_by_model_group]\n  default_priority: 1\n",
    ));
    let expected = json!({
        "num_retries": 3, "allowed_fails": 9, "strategy": "usage-based-routing-v2", "latency_buffer": 0.5,
        "retry_policy": {"TimeoutErrorRetries": 4}, "pre_call_checks": true, "session_affinity": true, "queue": {},
        "model_group_alias": {"gpt-4": "small", "x": {"model": "small", "hidden": true}}
    });
    assert_eq!(serde_json::to_value(&all.file.routing).unwrap(), expected);
    assert_eq!(paths(&all), ["router_settings.optional_pre_call_checks"]);
    let wrong = error("router_settings: {routing_strategy: fastest}");
    assert!(wrong.contains("expected one of simple-shuffle"), "{wrong}");
}

#[test]
fn a_setting_that_is_empty_or_off_is_not_worth_a_note() {
    let quiet =
        "litellm_settings: {cache: false, fallbacks: [], cache_params: {}, num_retries: null, set_verbose: true}";
    assert_eq!(converted(quiet).notes, []);
    let loud = converted("general_settings: {health_check_details: false}");
    assert_eq!(paths(&loud), ["general_settings.health_check_details"]);
}

#[test]
fn two_deployments_of_one_name_stay_two_with_their_shares() {
    let two = fixture("two_deployments");
    let models: Vec<_> = two.file.models.iter().map(|m| (m.name.as_str(), m.model.as_str(), m.id.as_deref())).collect();
    assert_eq!(models, [("gpt-4o", "openai/gpt-4o", Some("first")), ("gpt-4o", "openrouter/openai/gpt-4o", Some("2"))]);
    assert!(two.file.models.iter().all(|m| m.params.is_empty() && m.info.is_empty()));
    assert_eq!(two.notes, []);
    let shares: Vec<_> = two.file.models.iter().map(|m| (m.rpm, m.weight)).collect();
    assert_eq!(shares, [(Some(60), None), (Some(20), Some(2.0))]);
    assert_eq!((two.file.routing.num_retries, two.file.routing.cooldown_time), (Some(3), seconds(30.0)));
}

#[test]
fn wildcards_stand_as_written() {
    let models = fixture("wildcards").file.models;
    let seen: Vec<_> = models.iter().map(|m| (m.name.as_str(), m.model.as_str())).collect();
    assert_eq!(seen, [("openai/*", "openai/*"), ("local-*", "hosted_vllm/*"), ("*", "*")]);
    assert_eq!(models[1].api_base.as_deref(), Some("http://gpu.lan:8000/v1"));
}

#[test]
fn references_stay_references() {
    let all = fixture("references");
    let model = &all.file.models[0];
    assert_eq!(model.model, "env:CHAT_MODEL");
    assert_eq!(model.api_base.as_deref(), Some("env:CHAT_BASE"));
    assert_eq!(model.api_key, one("env:CHAT_KEY"));
    assert_eq!(model.organization.as_deref(), Some("env:CHAT_ORG"));
    assert_eq!(model.timeout, None);
    let headers: Vec<_> = model.extra_headers.iter().map(|(k, v)| (k.as_str(), v.0.as_str())).collect();
    assert_eq!(headers, [("X-Fixed", "homelab"), ("X-Number", "7"), ("X-Team", "env:CHAT_TEAM")]);
    assert_eq!(all.file.database_url, Some("env:DATABASE_URL".into()));
    assert_eq!(paths(&all), ["model_list[0].litellm_params.timeout"]);
}

#[test]
fn environment_variables_are_texts() {
    let environment = fixture("environment_variables").file.environment;
    let seen: Vec<_> = environment.iter().map(|(k, v)| (k.as_str(), v.0.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("OLLAMA_API_BASE", "http://ollama.lan:11434"),
            ("OPENAI_API_KEY", "literal-openai-secret"),
            ("PORT", "4001"),
            ("SHARED_KEY", "env:REAL_SHARED_KEY"),
            ("STORE_MODEL_IN_DB", "true"),
        ]
    );
}

#[test]
fn included_lists_are_added_and_included_maps_win() {
    let all = fixture("include");
    let names: Vec<_> = all.file.models.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"]);
    assert_eq!(all.file.defaults.drop_params, Some(true));
    assert_eq!(all.file.defaults.timeout, seconds(120.0));
    assert_eq!(paths(&all), ["litellm_settings"]);
    let unread = converted("include: [other.yaml]\nmodel_list: null");
    assert_eq!(notes(&unread), ["include: included files were not read"]);
}

#[test]
fn includes_are_bounded_and_errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let load = |name: &str| read(&dir.path().join(name)).map(|c| c.file.models.len());
    file("loop.yaml", "include: [pool.yaml]");
    file("pool.yaml", "include: [./loop.yaml]");
    assert!(load("loop.yaml").unwrap_err().contains("includes itself"));
    for level in 0..10 {
        file(&format!("{level}.yaml"), &format!("include: [{}.yaml]", level + 1));
    }
    file("10.yaml", "");
    assert!(load("0.yaml").unwrap_err().contains("9.yaml: included more than 8 levels down"));
    assert_eq!(load("2.yaml"), Ok(0));
    file("twice.yaml", "include: [leaf.yaml, leaf.yaml]");
    file("leaf.yaml", "model_list: [{model_name: a, litellm_params: {model: openai/a}}]");
    assert_eq!(load("twice.yaml"), Ok(2));
    file("missing.yaml", "include: [nowhere.yaml]");
    assert!(load("missing.yaml").unwrap_err().contains("nowhere.yaml: "));
    file("wrong.yaml", "include: {a: 1}");
    assert!(load("wrong.yaml").unwrap_err().ends_with("include: found a map, expected a list of file names"));
    file("broken.yaml", "model_list: [");
    file("outer.yaml", "include: broken.yaml");
    assert!(load("outer.yaml").unwrap_err().contains("broken.yaml:1:"));
}

#[test]
fn the_homelab_is_carried_over() {
    let all = fixture("homelab");
    let file = &all.file;
    assert_eq!(file.master_key, Some("sk-house-master".into()));
    assert_eq!(file.server.key_header.as_deref(), Some("X-House-Key"));
    assert_eq!(file.server.body_limit.map(|s| s.0), Some(32 << 20));
    assert_eq!(file.server.answer_limit.map(|s| s.0), Some(512 << 10));
    assert_eq!(file.health.concurrency, Some(4));
    assert_eq!(file.log.format, Some(LogFormat::Json));
    assert_eq!(file.defaults.timeout, seconds(240.0));
    assert_eq!(file.defaults.stream_timeout, seconds(45.0));
    assert_eq!(file.defaults.drop_params, Some(true));
    assert_eq!(file.models.len(), 6);

    let merged = &file.models[0];
    assert_eq!((merged.timeout, merged.stream_timeout), (seconds(300.0), seconds(30.0)));
    assert_eq!(merged.drop_params, Some(true));
    assert_eq!(merged.api_key, one("sk-literal-openai-key"));
    assert_eq!(merged.id.as_deref(), Some("cloud-gpt-4o"));
    assert_eq!(merged.info["max_input_tokens"], 128_000);

    assert_eq!(serde_json::to_value(&file.models[2].params).unwrap(), json!({"max_tokens": 8192}));
    let local = &file.models[3];
    assert_eq!(local.api_base.as_deref(), Some("env:OLLAMA_BASE"));
    assert_eq!(
        serde_json::to_value(&local.params).unwrap(),
        json!({"keep_alive": "30m", "num_ctx": 32768, "stop": ["<|im_end|>"], "temperature": 0.6, "think": false})
    );
    assert_eq!(local.additional_drop_params, ["parallel_tool_calls", "tools[*].strict"]);
    assert_eq!(local.allowed_openai_params, ["reasoning_effort"]);
    assert_eq!(
        serde_json::to_value(&local.extra_body).unwrap(),
        json!({"chat_template_kwargs": {"enable_thinking": false}})
    );
    assert_eq!(local.info["site"], json!({"rack": 2}));
    assert_eq!(file.models[4].provider.as_deref(), Some("openai"));
    assert_eq!(file.models[4].params["temprature"], 0.1);
}

#[test]
fn the_homelab_is_told_what_was_left_behind() {
    let all = fixture("homelab");
    let seen = notes(&all);
    for expected in [
        "model_list[].litellm_params.temprature (1 model): unknown; did you mean `temperature`? Sent upstream as it stands",
        "model_list[].litellm_params.max_paralel_requests (1 model): unknown; did you mean `max_parallel_requests`? Sent upstream as it stands",
        "litellm_settings.num_retires: unknown key; did you mean `num_retries`?",
        "litellm_settings.cache_params.namespce: unknown key; did you mean `namespace`?",
        "general_settings.request_timeout: unknown key here; did you mean `litellm_settings.request_timeout`?",
        "general_settings.custom_auth: it names Python code, which this gateway does not run",
        "mcp_servers.home_assistant.alowed_tools: unknown key; did you mean `allowed_tools`?",
    ] {
        assert!(seen.iter().any(|note| note == expected), "{expected}\nis not in\n{}", seen.join("\n"));
    }
    for quiet in [
        "set_verbose",
        "proxy_batch_write_at",
        "failure_callback",
        "disable_spend_logs",
        "x-defaults",
        "cache_params.host",
        "keep_alive",
    ] {
        assert!(!seen.iter().any(|note| note.contains(quiet)), "{quiet} is in\n{}", seen.join("\n"));
    }
    assert_eq!(seen.len(), seen.iter().collect::<BTreeSet<_>>().len());
}

#[test]
fn nothing_that_may_be_secret_is_ever_shown() {
    let secrets =
        ["sk-house-master", "sk-literal-openai-key", "literal-db-password", "literal-openai-secret", "hunter2secret"];
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let all = read(&path).unwrap();
            let shown = format!("{:?} {:?}", notes(&all), all.file.master_key);
            assert!(secrets.iter().all(|s| !shown.contains(s)), "{shown}");
        }
    }
    for broken in [
        "general_settings: {master_key: [hunter2secret]}",
        "general_settings: hunter2secret",
        "general_settings:\n  master_key: 'hunter2secret",
        "general_settings:\n  master_key: \"hunter2secret\\q\"",
        "general_settings:\n  master_key: hunter2secret: x",
        "general_settings:\n\tmaster_key: hunter2secret",
        "general_settings:\n  master_key: *hunter2secret",
        "general_settings:\n  master_key: !!int hunter2secret",
        "general_settings:\n  master_key: !hunter2secret!x y",
        "general_settings:\n  master_key: %hunter2secret",
        "general_settings:\n  master_key: @hunter2secret",
        "general_settings:\n  master_key: &hunter2secret\n  [",
        "a: {<<: hunter2secret}",
        "hunter2secret",
        "--- a\n--- hunter2secret",
        "model_list: [hunter2secret]",
        "model_list: [{model_name: m, litellm_params: {model: openai/m, timeout: hunter2secret}}]",
        "litellm_settings: {drop_params: hunter2secret, request_timeout: hunter2secret, json_logs: hunter2secret}",
        "environment_variables: {A: [hunter2secret]}",
    ] {
        let message = error(broken);
        assert!(message.starts_with("test.yaml:") && !message.contains("hunter2secret"), "{broken}\n{message}");
    }
    let as_key = converted("general_settings: {sk-hunter2secret: null, 'a:hunter2secret': 1}");
    assert!(!notes(&as_key).join("\n").contains("hunter2secret"), "{:?}", as_key.notes);
    assert!(error("api_key: 999e99999").contains("put a text in quotes"));
}

#[test]
fn syntax_errors_name_line_and_column() {
    assert_eq!(error("a: 1\nb: [1, 2\n").split(' ').next(), Some("test.yaml:2:4:"));
    assert_eq!(error("a: 1\nb: 'x"), "test.yaml:2:4: not valid YAML: unclosed quote");
}

#[test]
fn of_a_repeated_key_the_last_counts_with_a_note() {
    let twice = converted(
        "litellm_settings:\n  drop_params: true\n  drop_params: false\nlitellm_settings:\n  request_timeout: 5\n",
    );
    assert_eq!(twice.file.defaults.drop_params, None);
    assert_eq!(twice.file.defaults.timeout, seconds(5.0));
    assert_eq!(
        notes(&twice),
        [
            "litellm_settings.drop_params: given more than once; the last one counts",
            "litellm_settings: given more than once; the last one counts",
        ]
    );
    let merged = converted(
        "base: &b {request_timeout: 1, drop_params: true}\nlitellm_settings:\n  <<: *b\n  request_timeout: 2\n",
    );
    assert_eq!((merged.file.defaults.timeout, merged.file.defaults.drop_params), (seconds(2.0), Some(true)));
    assert_eq!(paths(&merged), ["base"]);
}

#[test]
fn booleans_and_numbers_are_taken_in_every_spelling() {
    for (word, meant) in [
        ("yes", true),
        ("No", false),
        ("ON", true),
        ("off", false),
        ("True", true),
        ("\"yes\"", true),
        ("'off'", false),
    ] {
        assert_eq!(
            converted(&format!("litellm_settings: {{drop_params: {word}}}")).file.defaults.drop_params,
            Some(meant)
        );
    }
    for (number, meant) in [("60", 60.0), ("'60'", 60.0), ("0.5", 0.5), ("\"1.5\"", 1.5)] {
        assert_eq!(converted(&format!("router_settings: {{timeout: {number}}}")).file.defaults.timeout, seconds(meant));
    }
    assert_eq!(converted("router_settings: {timeout: 0}").file.defaults.timeout, None);
    for wrong in ["-1", "abc", "'nan'", "'inf'", "[1]", "1e30", "true"] {
        let message = error(&format!("router_settings: {{timeout: {wrong}}}"));
        assert!(message.starts_with("test.yaml: router_settings.timeout: "), "{message}");
    }
    for wrong in ["0", "1.5", "-3", "99999999999"] {
        assert!(error(&format!("general_settings: {{health_check_concurrency: {wrong}}}")).contains("from 1 on"));
    }
    assert!(error("general_settings: {max_request_size_mb: -1}").contains("cannot be negative"));
}

#[test]
fn absent_things_are_absent() {
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "model_list: null",
        "model_list:\ngeneral_settings:\nmcp_servers:\ninclude:\n",
        "{}",
    ] {
        let all = converted(text);
        assert!(all.file.models.is_empty() && all.file.master_key.is_none(), "{text}");
    }
    let nulls = converted(&params("|api_key: null\n|timeout:\n|temperature: ~\n|extra_body: null\n|api_base: ''\n"));
    let model = &nulls.file.models[0];
    assert_eq!((&model.api_key, model.timeout, &model.api_base), (&None, None, &None));
    assert!(model.params.is_empty() && nulls.notes.is_empty());
}

#[test]
fn what_is_of_the_wrong_type_is_named_all_at_once() {
    let message = error(
        "model_list: {a: 1}\ngeneral_settings: []\nlitellm_settings: 5\nrouter_settings: x\nenvironment_variables: [A=b]\nmcp_servers: [a]\n",
    );
    let expected = [
        "test.yaml: model_list: found a map, expected a list",
        "test.yaml: environment_variables: found a list, expected a map",
        "test.yaml: litellm_settings: found a number, expected a map",
        "test.yaml: general_settings: found a list, expected a map",
        "test.yaml: router_settings: found a text, expected a map",
        "test.yaml: mcp_servers: found a list, expected a map",
    ];
    assert_eq!(message, expected.join("\n"));
    assert!(error("- a").ends_with("found a list, expected a map of sections (`model_list:` and others)"));
}

#[test]
fn an_incomplete_model_entry_is_named() {
    let entries = "model_list:\n- model_name: one\n- litellm_params: {model: openai/x}\n- model_name: three\n  litellm_params: {api_key: k}\n- four\n- model_name: 5\n  litellm_params: {model: openai/x}\n-\n";
    let expected = [
        "test.yaml: model_list[0] (one): litellm_params.model is missing",
        "test.yaml: model_list[1]: model_name is missing",
        "test.yaml: model_list[2] (three): litellm_params.model is missing",
        "test.yaml: model_list[3]: found a text, expected a map with `model_name` and `litellm_params`",
        "test.yaml: model_list[4].model_name: found a number, expected a text (put it in quotes)",
        "test.yaml: model_list[5]: found nothing, expected a map with `model_name` and `litellm_params`",
    ];
    assert_eq!(error(entries), expected.join("\n"));
}

#[test]
fn settings_a_level_off_are_sent_to_their_place() {
    let off = converted(
        "drop_params: true\nmodel_list:\n- {model_name: a, api_key: k, mode: chat, litellm_params: {model: openai/a}}\n",
    );
    assert_eq!(
        notes(&off),
        [
            "drop_params: unknown key here; did you mean `litellm_settings.drop_params`?",
            "model_list[].api_key (1 model): unknown key here; did you mean `model_list[].litellm_params.api_key`?",
            "model_list[].mode (1 model): unknown key here; did you mean `model_list[].model_info.mode`?",
        ]
    );
}

#[test]
fn unknown_members_go_upstream_and_known_ones_stay_here() {
    let lines = "|top_k: 40\n|min_p: 0.1\n|my_vendor_switch: {a: [1, {b: null}]}\n|aws_region_name: eu-1\n|vertex_project: p\n|aws_flavour: x\n|input_cost_per_token_above_200k_tokens: 1\n|rust: true\n|n: 2\n|top_q: 1\n|api_bse: http://x\n";
    let all = converted(&params(lines));
    assert_eq!(
        serde_json::to_value(&all.file.models[0].params).unwrap(),
        json!({"top_k": 40, "min_p": 0.1, "my_vendor_switch": {"a": [1, {}]}, "n": 2, "top_q": 1, "api_bse": "http://x"})
    );
    assert_eq!(
        paths(&all),
        [
            "model_list[].litellm_params.aws_flavour (1 model)",
            "model_list[].litellm_params.top_q (1 model)",
            "model_list[].litellm_params.api_bse (1 model)",
        ]
    );
    assert!(all.notes[2].reason.contains("`api_base`"));
    let cloud = &all.file.models[0].cloud;
    assert_eq!((cloud.region.as_deref(), cloud.project.as_deref()), (Some("eu-1"), Some("p")));
}

#[test]
fn large_and_odd_numbers_reach_toml() {
    let all = converted(&params("|seed: 18446744073709551615\n|big: -9223372036854775808\n|hex: 0x1F\n|exp: 1e-3\n"));
    assert!(toml::to_string_pretty(&all.file).is_ok());
    assert_eq!(all.file.models[0].params["hex"], 31);
}

#[test]
fn bombs_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(error(&bomb).contains("too large, too deeply nested, or too many aliases"), "{}", error(&bomb));
    let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(error(&deep).starts_with("test.yaml:1:"), "{}", error(&deep));
    let blocks: String = (0..500).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert!(error(&blocks).starts_with("test.yaml:"), "{}", error(&blocks));
    assert!(error("a: &a [*a]").starts_with("test.yaml:1:"));
}

#[test]
fn the_table_has_no_row_twice_and_every_pattern_is_reached() {
    let mut seen = BTreeSet::new();
    for (section, key, _) in KEYS {
        assert!(seen.insert((section, key)), "{section}.{key}");
        let example = key.replace('*', "x");
        let first = KEYS.iter().find(|(s, k, _)| s == section && k == key).map(|(_, _, fate)| *fate);
        assert_eq!(keys::fate(section, &example), first, "{section}.{key} is hidden by an earlier row");
    }
    assert_eq!(keys::fate(keys::PARAMS, "aws_"), keys::fate(keys::PARAMS, "aws_flavour"));
    assert_eq!(keys::fate(keys::PARAMS, "cost_per_"), None);
    assert_eq!(keys::fate(keys::PARAMS, "rpms"), None);
}

#[test]
fn the_documentation_has_every_key_where_it_belongs() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/litellm.md")).unwrap();
    for (section, key, fate) in KEYS {
        let title = if section.is_empty() { "### Top level".to_owned() } else { format!("### `{section}`") };
        let (_, rest) = text.split_once(&title).unwrap_or_else(|| panic!("{title} is missing"));
        let part = rest.split("\n### ").next().unwrap_or(rest);
        let quoted = format!("`{key}`");
        let row = part.lines().find(|line| line.starts_with('|') && line.contains(&quoted));
        let row = row.unwrap_or_else(|| panic!("{section}.{key} is missing"));
        let word = match fate {
            Fate::Carried => "carried",
            Fate::NotYet(_) => "not yet",
            Fate::Refused(_) => "refused",
            Fate::NoNeed(_) => "no need",
        };
        assert!(row.contains(&format!("| {word} |")), "{section}.{key} is not \"{word}\": {row}");
    }
}
