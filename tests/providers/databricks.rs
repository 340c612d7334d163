//! Databricks.

use super::{chunks, everything, hello, says_hello, serve, streamed, text_of, with};
use crate::support::strict::databricks;
use crate::support::{Gateway, Reply, Seen, Upstream, config};
use serde_json::{Value, json};

fn reply(seen: &Seen) -> Reply {
    if seen.target == "/oidc/v1/token" {
        return Reply::json(200, r#"{"access_token":"oauth-1","token_type":"Bearer","expires_in":3600}"#);
    }
    if seen.target.contains("gte") {
        let told = json!({"object": "list", "model": "gte", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3}});
        return Reply::json(200, &told.to_string());
    }
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17});
    let thinks = seen.target.contains("claude");
    let chunk = |delta: &Value, finish: Value, usage: &Value| {
        let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let thought =
        json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "Qx=="}]}]);
    if seen.json()["stream"] == true {
        let mut pieces = Vec::new();
        if thinks {
            pieces.push(chunk(&json!({"role": "assistant", "content": thought}), Value::Null, &Value::Null));
        }
        pieces.push(chunk(&json!({"content": "Hello ü"}), Value::Null, &Value::Null));
        pieces.push(chunk(&json!({"content": "ber there"}), json!("stop"), &usage));
        pieces.push("data: [DONE]\n\n".to_owned());
        let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        return streamed("text/event-stream", &pieces);
    }
    let text = json!("Hello über there");
    let content = match thinks {
        true => json!([thought[0], {"type": "text", "text": text}]),
        false => text,
    };
    let told = json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]});
    Reply::json(200, &told.to_string())
}

#[test]
fn databricks_endpoints_are_invoked_by_their_names() {
    let up = Upstream::script(reply).strict(databricks::check);
    let gateway = serve(&up, "databricks/databricks-meta-llama-3-3-70b-instruct", up.origin(), "");
    says_hello(&gateway);
    assert_eq!(up.requests()[0].target, "/serving-endpoints/databricks-meta-llama-3-3-70b-instruct/invocations");
    for (name, value) in [("seed", json!(1)), ("presence_penalty", json!(0.5)), ("parallel_tool_calls", json!(true))] {
        let refused = gateway.chat(with(hello(), &json!({name: value})).to_string()).error(400);
        assert_eq!(refused.param.as_deref(), Some(name));
    }
    gateway.chat(with(everything(), &json!({"seed": 1, "drop_params": true})).to_string()).ok();
}

#[test]
fn thinking_that_comes_in_lists_is_told_in_openais_way() {
    let up = Upstream::script(reply).strict(databricks::check);
    let base = format!("{}/serving-endpoints", up.origin());
    let gateway = serve(&up, "databricks/databricks-claude-sonnet-5", &base, "");
    let asked = with(hello(), &json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
    let told = gateway.chat(asked.to_string()).ok().json();
    let message = &told["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Hello über there"), &json!("hm")));
    assert_eq!(message["thinking_blocks"][0]["signature"], "Qx==");
    let told = chunks(&gateway, &asked);
    assert_eq!(
        (text_of(&told).as_str(), &told[0]["choices"][0]["delta"]["reasoning_content"]),
        ("Hello über there", &json!("hm"))
    );
    assert_eq!(told.last().unwrap()["usage"]["total_tokens"], 17);
    let told = gateway.post("/v1/messages", super::messages().to_string()).ok().json();
    assert_eq!(
        (&told["content"][0]["thinking"], &told["content"][1]["text"]),
        (&json!("hm"), &json!("Hello über there"))
    );
}

#[test]
fn databricks_embeds_in_both_formats() {
    let up = Upstream::script(reply).strict(databricks::check);
    let gateway = serve(&up, "databricks/databricks-gte-large-en", up.origin(), "");
    let ask = |more: &Value| with(json!({"model": "m", "input": ["a"], "user": "u"}), more).to_string();
    let told = gateway.post("/v1/embeddings", ask(&json!({}))).ok().json();
    assert_eq!((&told["data"][0]["embedding"], &told["usage"]["prompt_tokens"]), (&json!([0.5, -1.0]), &json!(3)));
    let told = gateway.post("/v1/embeddings", ask(&json!({"encoding_format": "base64"}))).ok().json();
    assert_eq!(told["data"][0]["embedding"], "AAAAPwAAgL8=");
    assert_eq!(up.requests()[1].json(), json!({"input": ["a"]}));
    assert_eq!(gateway.wait_calls(2)[0]["cost_usd"], "0.00000039");
}

#[test]
fn a_service_principal_gets_a_token_and_errors_are_told() {
    let up = Upstream::script(reply).strict(databricks::check);
    let text = format!(
        "[[models]]\nname = \"m\"\nmodel = \"databricks/llama\"\napi_base = \"{}\"\n[models.cloud]\nclient_id = \"principal\"\nclient_secret = \"s3cr3t\"\n",
        up.origin()
    );
    let gateway = Gateway::start(&config("", &[text]));
    for _ in 0..2 {
        gateway.chat(hello().to_string()).ok();
    }
    let targets: Vec<String> = up.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets[1..], ["/serving-endpoints/llama/invocations"; 2]);
    let busy = databricks::error(429, "REQUEST_LIMIT_EXCEEDED", "Exceeded workspace rate limit");
    let up = Upstream::new(busy).strict(databricks::check);
    let error = serve(&up, "databricks/llama", up.origin(), "").chat(hello().to_string()).error(429);
    assert_eq!(error.message, "Exceeded workspace rate limit");
}
