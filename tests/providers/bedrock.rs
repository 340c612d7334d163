//! Bedrock's Converse.

use super::{chunks, everything, hello, says_hello, serve, streamed, text_of, weather, with};
use crate::support::strict::bedrock::{self, event};
use crate::support::{ErrorBody, Gateway, Reply, Seen, Upstream};
use serde_json::{Value, json};

fn usage() -> Value {
    json!({"inputTokens": 12, "outputTokens": 5, "totalTokens": 17})
}

fn whole(content: &Value, reason: &str) -> Reply {
    let told = json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason,
        "usage": usage(), "metrics": {"latencyMs": 8}});
    Reply::json(200, &told.to_string())
}

fn stream(events: &[(&str, Value)]) -> Reply {
    let pieces: Vec<Vec<u8>> = events.iter().map(|(kind, payload)| event(kind, payload)).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    streamed("application/vnd.amazon.eventstream", &pieces)
}

fn said(index: u64, delta: &Value) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta, "p": "abc"}))
}

fn begun() -> (&'static str, Value) {
    ("messageStart", json!({"role": "assistant"}))
}

fn ended(reason: &str) -> [(&'static str, Value); 2] {
    [
        ("messageStop", json!({"stopReason": reason})),
        ("metadata", json!({"usage": usage(), "metrics": {"latencyMs": 8}})),
    ]
}

fn reply(seen: &Seen) -> Reply {
    if !seen.target.ends_with("/converse-stream") {
        return whole(&json!([{"text": "Hello über there"}]), "end_turn");
    }
    let mut events = vec![begun(), said(0, &json!({"text": "Hello ü"})), said(0, &json!({"text": "ber there"}))];
    events.push(("contentBlockStop", json!({"contentBlockIndex": 0})));
    events.extend(ended("end_turn"));
    stream(&events)
}

fn over(up: Upstream, model: &str) -> (Upstream, Gateway) {
    let up = up.strict(bedrock::check);
    let gateway = serve(&up, &format!("bedrock/{model}"), up.origin(), "cloud = { region = \"eu-west-1\" }\n");
    (up, gateway)
}

#[test]
fn converse_is_spoken_whole_and_streamed_to_callers_of_both_formats() {
    let (up, gateway) = over(Upstream::script(reply), "amazon.nova-pro-v1:0");
    says_hello(&gateway);
    let seen = &up.requests()[2];
    assert_eq!(seen.target, "/model/amazon.nova-pro-v1%3A0/converse");
    let sent = seen.json();
    assert_eq!(
        sent["messages"][0]["content"][1]["image"],
        json!({"format": "png", "source": {"bytes": "iVBORw0KGgo="}})
    );
    assert_eq!(sent["inferenceConfig"], json!({"maxTokens": 100, "stopSequences": ["END"]}));
    assert_eq!(up.requests()[3].target, "/model/amazon.nova-pro-v1%3A0/converse-stream");
}

#[test]
fn converse_thinks_and_calls_tools() {
    let call = json!({"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Oslo"}}});
    let thought = json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "Qx=="}}});
    let mut events = vec![
        begun(),
        said(0, &json!({"reasoningContent": {"text": "hm"}})),
        said(0, &json!({"reasoningContent": {"signature": "Qx=="}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}}),
        ),
        said(1, &json!({"toolUse": {"input": "{\"city\":"}})),
        said(1, &json!({"toolUse": {"input": "\"Oslo\"}"}})),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
    ];
    events.extend(ended("tool_use"));
    let replies =
        vec![whole(&json!([thought, call]), "tool_use"), stream(&events), whole(&json!([{"text": "4 C"}]), "end_turn")];
    let (up, gateway) = over(Upstream::queue(replies), "us.anthropic.claude-sonnet-4-5-20250929-v1:0");
    let asked = with(hello(), &json!({"tools": weather(), "reasoning_effort": "low", "max_tokens": 4000}));
    let told = gateway.chat(asked.to_string()).ok().json();
    let choice = &told["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["reasoning_content"]),
        (&json!("tool_calls"), &json!("hm"))
    );
    let made = &choice["message"]["tool_calls"][0];
    assert_eq!((&made["id"], &made["function"]["arguments"]), (&json!("tooluse_1"), &json!("{\"city\":\"Oslo\"}")));
    let told = chunks(&gateway, &asked);
    let arguments: String = told
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!((arguments.as_str(), text_of(&told).as_str()), (r#"{"city":"Oslo"}"#, ""));
    assert!(told.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
    // The thought goes back as it came, with its signature.
    let second = with(
        asked,
        &json!({"messages": [{"role": "user", "content": "hi"}, choice["message"],
            {"role": "tool", "tool_call_id": "tooluse_1", "content": "4 C"}]}),
    );
    gateway.chat(second.to_string()).ok();
    let sent = up.requests().pop().unwrap().json();
    assert_eq!(sent["messages"][1]["content"], json!([thought, call]), "{sent}");
    assert!(sent["additionalModelRequestFields"]["thinking"].is_object());
}

#[test]
fn bedrocks_ends_and_refusals_are_told_in_openais_words() {
    let text = json!([{"text": "a"}]);
    for (reason, expected) in
        [("max_tokens", "length"), ("stop_sequence", "stop"), ("guardrail_intervened", "content_filter")]
    {
        let (_, gateway) = over(Upstream::new(whole(&text, reason)), "amazon.nova-pro-v1:0");
        assert_eq!(gateway.chat(hello().to_string()).ok().json()["choices"][0]["finish_reason"], expected);
    }
    for (status, name, expected, kind) in [
        (429, "ThrottlingException", 429, "rate_limit_error"),
        (403, "AccessDeniedException", 403, "permission_error"),
        (403, "ExpiredTokenException", 401, "authentication_error"),
        (424, "ModelErrorException:http://internal.amazon.com/", 502, "upstream_error"),
    ] {
        let (_, gateway) = over(Upstream::new(bedrock::error(status, name, "no")), "amazon.nova-pro-v1:0");
        let error = gateway.chat(with(hello(), &json!({"num_retries": 0})).to_string()).error(expected);
        assert!(error.message.ends_with("no"), "{error:?}");
        if kind != "upstream_error" {
            assert_eq!(error.kind, kind, "{name}");
        }
    }
    let (_, gateway) = over(Upstream::script(reply), "amazon.nova-pro-v1:0");
    for (name, value) in [("logit_bias", json!({"5": 1})), ("n", json!(2)), ("seed", json!(7))] {
        let refused = gateway.chat(with(everything(), &json!({name: value})).to_string()).error(400);
        assert_eq!(refused.param.as_deref(), Some(name));
        gateway.chat(with(everything(), &json!({name: value, "drop_params": true})).to_string()).ok();
    }
}

#[test]
fn a_stream_of_bedrock_that_breaks_off_or_fails_is_not_taken_for_whole() {
    let start = [begun(), said(0, &json!({"text": "Hel"}))];
    let fault = ("!throttlingException", json!({"message": "slow down"}));
    let mut garbled = event("contentBlockDelta", &start[1].1);
    let last = garbled.len() - 1;
    garbled[last] ^= 1;
    let broken = [event(start[0].0, &start[0].1), event(start[1].0, &start[1].1), garbled];
    let pieces: Vec<&[u8]> = broken.iter().map(Vec::as_slice).collect();
    for reply in [
        stream(&start),
        stream(&[start[0].clone(), start[1].clone(), fault]),
        streamed("application/vnd.amazon.eventstream", &pieces),
    ] {
        let (_, gateway) = over(Upstream::new(reply), "amazon.nova-pro-v1:0");
        let mut client = gateway.open_chat(with(hello(), &json!({"stream": true})).to_string());
        assert_eq!(client.head().status(), 200);
        ErrorBody::of_event(client.contents().last().unwrap());
        assert_eq!(gateway.only_call()["outcome"], "failure");
    }
}
