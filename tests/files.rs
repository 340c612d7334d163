//! Files and batches of a provider: whose they are, where they go, what they cost.

use crate::support::forms::{form, parts};
use crate::support::postgres::Postgres;
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, authorization, config, deployment};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

/// An upstream with files and batches, whose next id ends with the number of what was asked before.
fn provider() -> Upstream {
    let made = std::sync::atomic::AtomicUsize::new(0);
    let script = move |seen: &crate::support::upstream::Seen| {
        let number = made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let path = seen.target.split('?').next().unwrap_or_default().to_owned();
        let usage = json!({"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 100,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1100});
        let told = match (seen.method.as_str(), path.as_str()) {
            ("POST", "/v1/files") => json!({"id": format!("file-{number}"), "object": "file", "purpose": "batch"}),
            ("POST", "/v1/batches") => {
                json!({"id": format!("batch_{number}"), "object": "batch", "status": "validating"})
            }
            ("POST", cancel) if cancel.ends_with("/cancel") => {
                let id = cancel.split('/').nth(3).unwrap();
                json!({"id": id, "object": "batch", "status": "cancelling"})
            }
            ("GET", "/v1/files/file-out/content") => {
                return Reply::answer(200, &[("Content-Type", "application/octet-stream")], b"{\"a\":1}\n{\"b\":2}\n");
            }
            ("GET", batch) if batch.starts_with("/v1/batches/") => {
                let id = batch.strip_prefix("/v1/batches/").unwrap();
                json!({"id": id, "object": "batch", "status": "completed", "output_file_id": "file-out", "model": "gpt-x", "usage": usage})
            }
            ("DELETE", file) => json!({"id": file.strip_prefix("/v1/files/"), "object": "file", "deleted": true}),
            ("GET", file) => json!({"id": file.strip_prefix("/v1/files/"), "object": "file", "bytes": 7}),
            other => return Reply::error(404, "invalid_request_error", None, &format!("{other:?}")),
        };
        Reply::json(200, &told.to_string())
    };
    Upstream::script(script).rules(|rules| rules.is_free = true)
}

fn serve(up: &Upstream) -> Gateway {
    let info = "info = { input_cost_per_token = 0.00001, output_cost_per_token = 0.0001, input_cost_per_token_batches = 0.000005, output_cost_per_token_batches = 0.00005 }\n";
    let other = deployment("other", "openai/gpt-y", up.base()) + info;
    Gateway::start(&config("", &[deployment("mine", "openai/gpt-x", up.base()) + info, other]))
}

fn key(gateway: &Gateway, body: Value) -> String {
    gateway.post("/key/generate", body.to_string()).ok().json()["key"].as_str().unwrap().to_owned()
}

fn ask(gateway: &Gateway, key: &str, method: &str, path: &str, body: &[u8], kind: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    gateway.call(method, path, &[("Authorization", &bearer), ("Content-Type", kind)], body)
}

fn get(gateway: &Gateway, key: &str, path: &str) -> Answer {
    ask(gateway, key, "GET", path, b"", "application/json")
}

fn line(model: &str) -> String {
    json!({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": model, "messages": []}})
        .to_string()
}

fn send(gateway: &Gateway, key: &str, texts: &[(&str, &str)], content: &str) -> Answer {
    let (kind, body) = form(texts, &[("file", "requests.jsonl", content.as_bytes())]);
    ask(gateway, key, "POST", "/v1/files", &body, &kind)
}

#[test]
fn a_batch_is_sent_looked_at_and_booked_once_and_is_its_keys_alone() {
    let up = provider();
    let gateway = serve(&up);
    let (one, two) = (key(&gateway, json!({"key_alias": "one"})), key(&gateway, json!({"key_alias": "two"})));
    let content = format!("{}\n\n{}", line("mine"), line("mine"));
    let file = send(&gateway, &one, &[("purpose", "batch"), ("target_model_names", "mine")], &content).ok().json();
    let sent = parts(&up.only_request());
    let names: Vec<&str> = sent.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["purpose", "file"]);
    // The provider knows the model by another name.
    assert_eq!(String::from_utf8_lossy(&sent[1].content), format!("{}\n\n{}", line("gpt-x"), line("gpt-x")));
    let id = file["id"].as_str().unwrap();
    let body = json!({"input_file_id": id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}).to_string();
    let json = "application/json";
    assert_eq!(
        ask(&gateway, &two, "POST", "/v1/batches", body.as_bytes(), json).error(404).param.as_deref(),
        Some("id")
    );
    let batch = ask(&gateway, &one, "POST", "/v1/batches", body.as_bytes(), json).ok().json();
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    for path in [&path, &format!("/v1/files/{id}"), &format!("/v1/files/{id}/content")] {
        get(&gateway, &two, path).error(404);
    }
    get(&gateway, &two, "/v1/files/file-out/content").error(404);
    ask(&gateway, &two, "DELETE", &format!("/files/{id}"), b"", json).error(404);
    ask(&gateway, &two, "POST", &format!("{path}/cancel"), b"", json).error(404);
    assert_eq!(get(&gateway, &two, "/v1/batches").ok().json()["data"], json!([]));
    assert_eq!(up.requests().len(), 2, "nobody else's question reaches the provider");

    for _ in 0..2 {
        assert_eq!(get(&gateway, &one, &path).ok().json()["status"], "completed");
    }
    let listed = get(&gateway, &one, "/batches").ok().json();
    assert_eq!((&listed["data"][0]["status"], &listed["has_more"]), (&json!("completed"), &json!(false)));
    let answers = get(&gateway, &one, "/v1/files/file-out/content").ok();
    assert_eq!(answers.text(), "{\"a\":1}\n{\"b\":2}\n");
    let rows = crate::ledger::rows(&gateway, 4);
    let of = |call: &str| rows.iter().filter(|row| row["call_type"] == call).collect::<Vec<_>>();
    let [bill] = of("aretrieve_batch")[..] else { panic!("{rows:#?}") };
    assert_eq!((&bill["prompt_tokens"], &bill["completion_tokens"]), (&json!(1000), &json!(100)));
    // At the price of a batch.
    assert_eq!(bill["spend"], json!(0.01));
    for call in ["acreate_file", "acreate_batch", "afile_content"] {
        assert_eq!(of(call).len(), 1, "{call}");
    }
    // What a batch used counts against budgets.
    gateway.post("/key/update", json!({"key": one, "max_budget": 0.01}).to_string()).ok();
    let spent = ask(&gateway, &one, "POST", "/v1/batches", body.as_bytes(), json);
    assert!(matches!(spent.status, 422 | 429), "{}", spent.text());
    let info = get(&gateway, &one, "/key/info").ok().json();
    assert_eq!(info["info"]["spend"], json!(0.01));
}

/// A provider whose batch is over when the gate is open, and says in its file of answers what they used.
fn slow(is_over: &Arc<AtomicBool>) -> Upstream {
    let is_over = is_over.clone();
    let script = move |seen: &crate::support::upstream::Seen| {
        let told = match (seen.method.as_str(), seen.target.as_str()) {
            ("POST", "/v1/files") => json!({"id": "file-1", "object": "file", "purpose": "batch"}),
            ("POST", _) => json!({"id": "batch_1", "object": "batch", "status": "validating"}),
            ("GET", "/v1/files/file-out/content") => {
                let body = json!({"model": "gpt-x", "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}});
                let line = json!({"custom_id": "1", "response": {"status_code": 200, "body": body}}).to_string();
                return Reply::answer(200, &[], line.as_bytes());
            }
            _ if is_over.load(SeqCst) => {
                json!({"id": "batch_1", "object": "batch", "status": "completed", "output_file_id": "file-out"})
            }
            _ => json!({"id": "batch_1", "object": "batch", "status": "in_progress"}),
        };
        Reply::json(200, &told.to_string())
    };
    Upstream::script(script).rules(|rules| rules.is_free = true)
}

fn watching(up: &Upstream, more: &str) -> String {
    let info = "info = { input_cost_per_token_batches = 0.000005, output_cost_per_token_batches = 0.00005 }\n";
    let text = config("", &[deployment("mine", "openai/gpt-x", up.base()) + info]);
    format!("{more}{text}[ledger]\nbatch_interval = \"100ms\"\n")
}

/// Makes a batch with a key, and asks no more for it.
fn leave_a_batch(gateway: &Gateway) -> String {
    let key = key(gateway, json!({}));
    let file = send(gateway, &key, &[("purpose", "batch"), ("target_model_names", "mine")], &line("mine")).ok().json();
    let body = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let bearer = format!("Bearer {key}");
    let headers =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("x-litellm-tags", "night")];
    gateway.call("POST", "/v1/batches", &headers, body.to_string().as_bytes()).ok();
    key
}

fn looks(up: &Upstream) -> usize {
    up.requests().iter().filter(|seen| seen.method == "GET" && seen.target == "/v1/batches/batch_1").count()
}

#[test]
fn a_batch_that_nobody_looks_at_is_booked_also_after_a_restart_and_the_end_of_its_key() {
    let is_over = Arc::new(AtomicBool::new(false));
    let (up, state) = (slow(&is_over), tempfile::tempdir().unwrap());
    let text = watching(&up, "");
    let gateway = Setup::toml(&text).state(state.path()).start();
    let key = leave_a_batch(&gateway);
    up.wait_requests(4);
    assert!(looks(&up) >= 2);
    gateway.post("/key/delete", json!({"keys": [key]}).to_string()).ok();
    gateway.signal("KILL");
    drop(gateway);
    is_over.store(true, SeqCst);
    let gateway = Setup::toml(&text).state(state.path()).start();
    let rows = crate::ledger::rows(&gateway, 3);
    let bill = rows.iter().find(|row| row["call_type"] == "aretrieve_batch").unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((&bill["spend"], &bill["prompt_tokens"]), (&json!(0.01), &json!(1000)));
    let made = rows.iter().find(|row| row["call_type"] == "acreate_batch").unwrap();
    assert_eq!((&bill["api_key"], &bill["request_tags"]), (&made["api_key"], &json!(["night"])));
}

#[test]
fn of_two_gateways_one_books_a_batch() {
    let Some(postgres) = Postgres::start() else { return };
    let is_over = Arc::new(AtomicBool::new(false));
    let up = slow(&is_over);
    let text = watching(&up, &format!("database_url = \"{}\"\n", postgres.url()));
    let (one, two) = (Gateway::start(&text), Gateway::start(&text));
    leave_a_batch(&one);
    up.wait_requests(4);
    is_over.store(true, SeqCst);
    assert_eq!(crate::ledger::rows(&two, 3).iter().filter(|row| row["call_type"] == "aretrieve_batch").count(), 1);
}

#[test]
fn files_are_listed_told_and_deleted() {
    let up = provider();
    let gateway = serve(&up);
    let (name, master) = authorization();
    let key = master.strip_prefix("Bearer ").unwrap();
    assert_eq!(name.to_ascii_lowercase(), "authorization");
    let mut ids = Vec::new();
    for purpose in ["user_data", "assistants", "user_data"] {
        let told = send(&gateway, key, &[("purpose", purpose)], "some text").ok().json();
        ids.push(told["id"].as_str().unwrap().to_owned());
    }
    let listed = |path: &str| {
        let data = get(&gateway, key, path).ok().json()["data"].clone();
        data.as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let newest: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(listed("/v1/files"), newest);
    assert_eq!(listed("/v1/files?limit=2"), newest[..2]);
    assert_eq!(listed(&format!("/v1/files?after={}", ids[1])), ids[..1]);
    assert_eq!(listed("/v1/files?purpose=assistants"), ids[1..2]);
    assert_eq!(get(&gateway, key, &format!("/v1/files/{}", ids[0])).ok().json()["bytes"], 7);
    let path = format!("/v1/files/{}", ids[0]);
    assert_eq!(ask(&gateway, key, "DELETE", &path, b"", "application/json").ok().json()["deleted"], true);
    get(&gateway, key, &path).error(404);
    get(&gateway, key, "/v1/files?limit=x").error(400);
    get(&gateway, key, "/v1/files?after=file-gone").error(404);
    // An id is no path.
    for id in ["../models", "a/../../models", "%2e%2e%2fmodels"] {
        get(&gateway, key, &format!("/v1/files/{id}")).any_error();
    }
    assert!(up.requests().iter().all(|seen| !seen.target.contains("models")));
}

#[test]
fn the_requests_of_a_batch_ask_only_what_the_key_may() {
    let up = provider();
    let gateway = serve(&up);
    let key = key(&gateway, json!({"models": ["mine"]}));
    let batch = [("purpose", "batch")];
    send(&gateway, &key, &batch, &line("mine")).ok();
    // By the provider's name too, since it is the same model.
    send(&gateway, &key, &batch, &line("gpt-x")).ok();
    for model in ["other", "gpt-y", "gpt-z"] {
        let error = send(&gateway, &key, &batch, &format!("{}\n{}", line("mine"), line(model))).error(403);
        assert!(error.message.starts_with("Line 2 of the batch"), "{error:?}");
    }
    for (content, what) in
        [("{}", "no body"), ("x", "not one JSON object"), (r#"{"body":{"model":7}}"#, "no body with a model")]
    {
        let error = send(&gateway, &key, &batch, content).error(400);
        assert!(error.message.contains(what), "{error:?}");
    }
    let refused = send(&gateway, &key, &[("purpose", "batch"), ("model", "other")], &line("other")).error(403);
    assert_eq!(refused.kind, "key_model_access_denied");
    // A file whose lines nobody has read makes no batch.
    let file = send(&gateway, &key, &[("purpose", "user_data")], &line("other")).ok().json();
    let body = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions"}).to_string();
    let error = ask(&gateway, &key, "POST", "/v1/batches", body.as_bytes(), "application/json").error(400);
    assert_eq!(error.param.as_deref(), Some("input_file_id"));
}

#[test]
fn what_cannot_be_kept_or_has_no_place_is_said() {
    let up = Upstream::new(Reply::json(200, r#"{"object":"file"}"#)).rules(|rules| rules.is_free = true);
    let gateway = serve(&up);
    let (_, master) = authorization();
    let key = master.strip_prefix("Bearer ").unwrap();
    send(&gateway, key, &[("purpose", "user_data")], "x").error(502);
    assert_eq!(send(&gateway, key, &[], "x").error(400).param.as_deref(), Some("purpose"));
    let error = send(&gateway, key, &[("purpose", "a"), ("custom_llm_provider", "groq")], "x").error(400);
    assert_eq!(error.param.as_deref(), Some("custom_llm_provider"));
    send(&gateway, key, &[("purpose", "a"), ("model", "none")], "x").error(400);
    let (kind, body) = form(&[("purpose", "a")], &[]);
    assert_eq!(ask(&gateway, key, "POST", "/v1/files", &body, &kind).error(400).param.as_deref(), Some("file"));
    ask(&gateway, key, "POST", "/v1/files", b"{}", "application/json").error(400);
    let claude = deployment("c", "anthropic/claude-x", up.base());
    let gateway = Gateway::start(&config("", &[claude]));
    let error = send(&gateway, key, &[("purpose", "a"), ("model", "c")], "x").error(501);
    assert!(error.message.contains("/anthropic/"), "{error:?}");
}
