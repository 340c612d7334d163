//! Ollama.

use super::{chunks, everything, hello, says_hello, serve, streamed, text_of, weather, with};
use crate::support::strict::ollama;
use crate::support::{ErrorBody, Gateway, Reply, Seen, Upstream};
use serde_json::{Value, json};

fn line(message: &Value, more: &Value) -> String {
    let message = with(json!({"role": "assistant", "content": ""}), message);
    let line = with(
        json!({"model": "qwen3:8b", "created_at": "2026-11-20T10:00:00Z", "message": message, "done": false}),
        more,
    );
    format!("{line}\n")
}

fn done(reason: &str) -> Value {
    json!({"done": true, "done_reason": reason, "total_duration": 2_000_000, "prompt_eval_count": 12, "eval_count": 5})
}

fn stream(lines: &[String]) -> Reply {
    let pieces: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
    streamed("application/x-ndjson", &pieces)
}

fn reply(seen: &Seen) -> Reply {
    let says = |text: &str| json!({"content": text});
    match seen.json()["stream"] == true {
        true => stream(&[
            line(&says("Hello ü"), &json!({})),
            line(&says("ber there"), &json!({})),
            line(&json!({}), &done("stop")),
        ]),
        false => Reply::json(200, &line(&says("Hello über there"), &done("stop"))),
    }
}

fn over(up: Upstream, model: &str, more: &str) -> (Upstream, Gateway) {
    let up = up.strict(ollama::check);
    let gateway = serve(&up, &format!("ollama_chat/{model}"), up.origin(), more);
    (up, gateway)
}

#[test]
fn ollama_is_spoken_whole_and_streamed_to_callers_of_both_formats() {
    let (up, gateway) =
        over(Upstream::script(reply), "qwen3:8b", "params = { num_ctx = 32768, keep_alive = \"10m\" }\n");
    says_hello(&gateway);
    let sent = up.requests()[2].json();
    assert_eq!((&sent["options"]["num_ctx"], &sent["keep_alive"]), (&json!(32768), &json!("10m")), "{sent}");
    assert_eq!((&sent["options"]["num_predict"], &sent["options"]["stop"]), (&json!(100), &json!(["END"])));
    assert_eq!(sent["messages"][1]["images"], json!(["iVBORw0KGgo="]));
    assert_eq!(
        (&sent["messages"][3]["tool_name"], &sent["messages"][3]["content"]),
        (&json!("weather"), &json!("20 C"))
    );
    gateway.chat(with(hello(), &json!({"num_ctx": 4096, "top_k": 3})).to_string()).ok();
    assert_eq!(up.requests().pop().unwrap().json()["options"], json!({"num_ctx": 4096, "top_k": 3}));
}

#[test]
fn ollama_thinks_and_calls_tools() {
    let call = json!({"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]});
    let whole = Reply::json(200, &line(&with(call.clone(), &json!({"thinking": "hm"})), &done("stop")));
    let streamed = stream(&[
        line(&json!({"thinking": "h"}), &json!({})),
        line(&json!({"thinking": "m"}), &json!({})),
        line(&call, &json!({})),
        line(&json!({}), &done("stop")),
    ]);
    let (up, gateway) = over(Upstream::queue(vec![whole, streamed]), "qwen3:8b", "");
    let asked = with(hello(), &json!({"tools": weather(), "reasoning_effort": "low"}));
    let told = gateway.chat(asked.to_string()).ok().json();
    let choice = &told["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["reasoning_content"]),
        (&json!("tool_calls"), &json!("hm"))
    );
    let made = &choice["message"]["tool_calls"][0];
    assert_eq!(made["function"], json!({"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}));
    assert!(made["id"].as_str().is_some_and(|id| !id.is_empty()), "Ollama has no ids of its own: {made}");
    let told = chunks(&gateway, &asked);
    let thought: String =
        told.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].as_str()).collect();
    assert_eq!((thought.as_str(), text_of(&told).as_str()), ("hm", ""));
    assert!(told.iter().any(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "weather"));
    assert!(told.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
    assert_eq!(up.requests()[0].json()["think"], true);
}

#[test]
fn ollamas_ends_and_refusals_are_told_in_openais_words() {
    let (_, gateway) =
        over(Upstream::new(Reply::json(200, &line(&json!({"content": "a"}), &done("length")))), "qwen3:8b", "");
    assert_eq!(gateway.chat(hello().to_string()).ok().json()["choices"][0]["finish_reason"], "length");
    let missing = ollama::error(404, "model 'qwen3:8b' not found");
    let (_, gateway) = over(Upstream::new(missing), "qwen3:8b", "");
    let error = gateway.chat(hello().to_string()).error(404);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("model_not_found", "model 'qwen3:8b' not found"));
    let (_, gateway) = over(Upstream::script(reply), "llama3.2", "");
    let thinks = with(hello(), &json!({"reasoning_effort": "high"}));
    assert!(gateway.chat(thinks.to_string()).error(400).message.contains("does not support thinking"));
    gateway.chat(with(hello(), &json!({"reasoning_effort": "none"})).to_string()).ok();
    for (name, value) in [("logit_bias", json!({"5": 1})), ("n", json!(2))] {
        let refused = gateway.chat(with(everything(), &json!({name: value})).to_string()).error(400);
        assert_eq!(refused.param.as_deref(), Some(name));
    }
    let link =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}]}]);
    gateway.chat(with(hello(), &json!({"messages": link})).to_string()).error(400);
}

#[test]
fn an_ollama_stream_that_breaks_off_or_fails_is_not_taken_for_whole() {
    let begun = line(&json!({"content": "Hel"}), &json!({}));
    let failed = "{\"error\":\"an error was encountered while running the model\"}\n".to_owned();
    for lines in [vec![begun.clone()], vec![begun.clone(), failed], vec![begun, "<html>\n".to_owned()]] {
        let (_, gateway) = over(Upstream::new(stream(&lines)), "qwen3:8b", "");
        let mut client = gateway.open_chat(with(hello(), &json!({"stream": true})).to_string());
        assert_eq!(client.head().status(), 200);
        ErrorBody::of_event(client.contents().last().unwrap());
        assert_eq!(gateway.only_call()["outcome"], "failure");
    }
}
