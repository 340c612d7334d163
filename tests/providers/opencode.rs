//! OpenCode Zen, whose models speak the languages of their vendors.

use super::{hello, serve, with};
use crate::support::{Gateway, Reply, Seen, UPSTREAM_KEY, Upstream, config, deployment};
use serde_json::json;

/// Each family at its own path, with its own header for the same key.
fn zen(seen: &Seen) -> Reply {
    let key = |name: &str| seen.header(name).is_some_and(|key| key.trim_start_matches("Bearer ") == UPSTREAM_KEY);
    let one_key =
        ["authorization", "x-api-key", "x-goog-api-key"].iter().filter(|name| seen.header(name).is_some()).count() == 1;
    let refused = || Reply::json(401, r#"{"type":"error","error":{"type":"AuthError","message":"Missing API key."}}"#);
    let told = match seen.target.as_str() {
        _ if !one_key => return refused(),
        "/zen/v1/messages" if key("x-api-key") && seen.header("anthropic-version").is_some() => {
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
                "stop_sequence": null, "content": [{"type": "text", "text": "claude"}], "usage": {"input_tokens": 12, "output_tokens": 5}})
        }
        "/zen/v1/models/gemini-3-pro:generateContent" if key("x-goog-api-key") => {
            json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [{"text": "gemini"}]}}],
                "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}})
        }
        "/zen/v1/responses" if key("authorization") => {
            json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5.6",
                "output": [{"type": "message", "id": "m1", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "gpt", "annotations": []}]}],
                "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
                    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 17}})
        }
        "/zen/v1/chat/completions" if key("authorization") => {
            json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m",
                "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "glm"}, "finish_reason": "stop"}]})
        }
        "/zen/v1/models" if key("authorization") => {
            json!({"object": "list", "data": [{"id": "claude-sonnet-4-5"}, {"id": "glm-5-free"}]})
        }
        _ => return refused(),
    };
    Reply::json(200, &told.to_string())
}

fn over(more: &str) -> (Upstream, Gateway) {
    let up = Upstream::script(zen).rules(|rules| rules.is_free = true);
    let base = format!("{}/zen/v1", up.origin());
    let gateway = Gateway::start(&config(more, &[deployment("zen/*", "opencode/*", &base)]));
    (up, gateway)
}

#[test]
fn each_family_of_opencode_is_spoken_to_in_its_own_language() {
    let (up, gateway) = over("");
    for (model, expected, path) in [
        ("claude-sonnet-4-5", "claude", "/zen/v1/messages"),
        ("gemini-3-pro", "gemini", "/zen/v1/models/gemini-3-pro:generateContent"),
        ("glm-5-free", "glm", "/zen/v1/chat/completions"),
        ("big-pickle", "glm", "/zen/v1/chat/completions"),
    ] {
        let told = gateway.chat(with(hello(), &json!({"model": format!("zen/{model}")})).to_string()).ok().json();
        assert_eq!(told["choices"][0]["message"]["content"], expected, "{told}");
        assert_eq!(up.requests().pop().unwrap().target, path);
    }
    let ask =
        json!({"model": "zen/claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(gateway.post("/v1/messages", ask.to_string()).ok().json()["content"][0]["text"], "claude");
    // Errors have Anthropic's envelope, whatever was asked.
    let text = config("", &[deployment("m", "opencode/glm-5", &format!("{}/zen/v1", up.origin()))]);
    let wrong = Gateway::start(&text.replace("env:UPSTREAM_KEY", "wrong-key"));
    assert!(wrong.chat(hello().to_string()).error(401).message.ends_with("Missing API key."));
}

#[test]
fn opencodes_gpt_models_make_responses_themselves() {
    let up = Upstream::script(zen).rules(|rules| rules.is_free = true);
    let base = format!("{}/zen/v1", up.origin());
    let gateway = serve(&up, "opencode/gpt-5.6", &base, "info = { mode = \"responses\" }\n");
    let told = gateway.post("/v1/responses", json!({"model": "m", "input": "hi"}).to_string()).ok().json();
    assert_eq!(told["output"][0]["content"][0]["text"], "gpt", "{told}");
    assert_eq!(up.only_request().target, "/zen/v1/responses");
}

fn names(gateway: &Gateway) -> Vec<String> {
    let (name, key) = crate::support::authorization();
    let told = gateway.call("GET", "/v1/models", &[(name, &key)], b"").ok().json();
    told["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_provider_lists_is_shown_behind_its_wildcard_if_that_is_asked_for() {
    let (up, gateway) = over("");
    assert_eq!(names(&gateway), ["zen/big-pickle"], "what the price table knows");
    assert!(up.requests().is_empty());
    let (up, gateway) = over("ask_for_models = true\nworkers = 1");
    for _ in 0..2 {
        assert_eq!(names(&gateway), ["zen/claude-sonnet-4-5", "zen/glm-5-free"]);
    }
    assert_eq!(up.requests().len(), 1, "it is asked now and then, and not for each list");
    assert_eq!(up.requests()[0].method, "GET");
}

#[test]
fn a_provider_that_does_not_list_its_models_has_those_of_the_table() {
    for reply in [Reply::json(500, "{}"), Reply::json(200, "[7"), Reply::json(200, r#"{"data":[]}"#)] {
        let up = Upstream::new(reply).rules(|rules| rules.is_free = true);
        let text = config("ask_for_models = true\nworkers = 1", &[deployment("zen/*", "opencode/*", up.base())]);
        let gateway = Gateway::start(&text);
        assert_eq!(names(&gateway), ["zen/big-pickle"]);
    }
}
