//! Azure OpenAI, and the other models of Azure.

use super::{chunks, everything, hello, says_hello, serve, streamed, text_of, weather, with};
use crate::support::strict::azure;
use crate::support::{ErrorBody, Gateway, Reply, Seen, Upstream};
use serde_json::{Value, json};

fn filters() -> Value {
    json!({"hate": {"filtered": false, "severity": "safe"}})
}

fn chunk(delta: &Value, finish: &Value) -> String {
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "content_filter_results": filters()}]});
    format!("data: {chunk}\n\n")
}

fn usage() -> Value {
    json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17})
}

fn whole(message: &Value, finish: &str) -> Reply {
    let told = json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06", "usage": usage(),
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": filters()}],
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "content_filter_results": filters()}]});
    Reply::json(200, &told.to_string())
}

/// A stream begins with what the filters say of the prompt: a chunk that is none.
fn stream(chunks: &[String]) -> Reply {
    let first = json!({"id": "", "object": "", "created": 0, "model": "", "choices": [],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": filters()}]});
    let last = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage()});
    let mut all = vec![format!("data: {first}\n\n")];
    all.extend(chunks.iter().cloned());
    all.push(format!("data: {last}\n\ndata: [DONE]\n\n"));
    let pieces: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
    streamed("text/event-stream; charset=utf-8", &pieces)
}

fn reply(seen: &Seen) -> Reply {
    match seen.json()["stream"] == true {
        true => stream(&[
            chunk(&json!({"role": "assistant", "content": "Hello ü"}), &Value::Null),
            chunk(&json!({"content": "ber there"}), &json!("stop")),
        ]),
        false => whole(&json!({"role": "assistant", "content": "Hello über there"}), "stop"),
    }
}

const VERSION: &str = "cloud = { api_version = \"2024-10-21\" }\ninfo = { base_model = \"azure/gpt-4o\" }\n";

fn over(up: Upstream) -> (Upstream, Gateway) {
    let up = up.strict(azure::check);
    let gateway = serve(&up, "azure/my gpt", up.origin(), VERSION);
    (up, gateway)
}

#[test]
fn azure_is_spoken_whole_and_streamed_to_callers_of_both_formats() {
    let (_, gateway) = over(Upstream::script(reply));
    says_hello(&gateway);
    // 12 tokens at 2.5 and 5 at 10 for a million: the operator says which model the deployment is.
    assert_eq!(gateway.wait_calls(6)[0]["cost_usd"], "0.00008");
    let told = chunks(&gateway, &hello());
    assert!(told.iter().all(|chunk| chunk["id"] == "c1"), "the chunk of the filters is none: {told:#?}");
    let one = gateway.chat(with(everything(), &json!({"logit_bias": {"5": 1}, "seed": 3})).to_string());
    one.ok();
}

#[test]
fn azure_calls_tools() {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}});
    let part = |arguments: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
    let begun = json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]});
    let streamed = stream(&[
        chunk(&begun, &Value::Null),
        chunk(&part("{\"city\":"), &Value::Null),
        chunk(&part("\"Oslo\"}"), &Value::Null),
        chunk(&json!({}), &json!("tool_calls")),
    ]);
    let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let (_, gateway) = over(Upstream::queue(vec![whole(&message, "tool_calls"), streamed]));
    let asked = with(hello(), &json!({"tools": weather(), "tool_choice": "required"}));
    assert_eq!(gateway.chat(asked.to_string()).ok().json()["choices"][0]["message"]["tool_calls"][0], call);
    let told = chunks(&gateway, &asked);
    let arguments: String = told
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!((arguments.as_str(), text_of(&told).as_str()), (r#"{"city":"Oslo"}"#, ""));
}

#[test]
fn what_azure_refuses_and_filters_is_told() {
    let filtered = json!({"error": {"message": "The response was filtered.", "type": null, "param": "prompt", "code": "content_filter",
        "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    let (_, gateway) = over(Upstream::new(Reply::json(400, &filtered.to_string())));
    let error = gateway.chat(hello().to_string()).error(400);
    assert_eq!((error.code.as_str(), error.param.as_deref()), ("content_filter", Some("prompt")));
    let cut = whole(&json!({"role": "assistant", "content": "a"}), "content_filter");
    let (_, gateway) = over(Upstream::new(cut));
    assert_eq!(gateway.chat(hello().to_string()).ok().json()["choices"][0]["finish_reason"], "content_filter");
    let busy = azure::error(
        429,
        "429",
        "Requests to this API have exceeded the call rate limit. Please retry after 3 seconds.",
    );
    let (_, gateway) = over(Upstream::new(busy));
    assert_eq!(gateway.chat(hello().to_string()).error(429).kind, "rate_limit_error");
    // What API Management says of it has no `error`.
    let (_, gateway) = over(Upstream::new(Reply::json(401, r#"{"statusCode":401,"message":"Access denied."}"#)));
    assert!(gateway.chat(hello().to_string()).error(401).message.ends_with("Access denied."));
    let begun = chunk(&json!({"role": "assistant", "content": "Hel"}), &Value::Null);
    let (_, gateway) = over(Upstream::new(streamed("text/event-stream", &[begun.as_bytes()])));
    let mut client = gateway.open_chat(with(hello(), &json!({"stream": true})).to_string());
    assert_eq!(client.head().status(), 200);
    ErrorBody::of_event(client.contents().last().unwrap());
    assert_eq!(gateway.only_call()["outcome"], "failure");
}

#[test]
fn the_other_models_of_azure_have_a_door_of_their_own() {
    let up = Upstream::script(reply).strict(azure::check_models);
    let gateway = serve(&up, "azure_ai/Llama-3.3-70B-Instruct", &format!("{}/models", up.origin()), "");
    says_hello(&gateway);
    assert_eq!(up.requests()[0].json()["model"], "Llama-3.3-70B-Instruct");
    let sent = with(hello(), &json!({"max_completion_tokens": 7}));
    gateway.chat(sent.to_string()).ok();
    assert_eq!(up.requests().pop().unwrap().json()["max_tokens"], 7);
}

#[test]
fn claude_on_azure_speaks_its_own_language() {
    let up = Upstream::script(|seen: &Seen| {
        let told = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
            "stop_sequence": null, "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 12, "output_tokens": 5}});
        match seen.target.as_str() {
            "/anthropic/v1/messages" => Reply::json(200, &told.to_string()),
            _ => azure::error(404, "404", "Resource not found"),
        }
    })
    .rules(|rules| rules.is_free = true);
    let gateway = serve(&up, "azure_ai/claude-sonnet-4-5", up.origin(), "");
    assert_eq!(gateway.chat(hello().to_string()).ok().json()["choices"][0]["message"]["content"], "Hello");
    let seen = up.only_request();
    assert!(seen.header("anthropic-version").is_some());
    assert!(seen.header("x-api-key").is_some() != seen.header("authorization").is_some(), "one key, in one place");
}
