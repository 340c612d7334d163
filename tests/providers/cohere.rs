//! Cohere.

use super::{chunks, everything, hello, says_hello, serve, streamed, text_of, weather, with};
use crate::support::strict::cohere;
use crate::support::{ErrorBody, Gateway, Reply, Seen, Upstream};
use serde_json::{Value, json};

fn usage() -> Value {
    json!({"billed_units": {"input_tokens": 3, "output_tokens": 5}, "tokens": {"input_tokens": 12, "output_tokens": 5}})
}

fn whole(message: &Value, reason: &str) -> Reply {
    let told = json!({"id": "c14c", "finish_reason": reason, "message": message, "usage": usage(), "logprobs": null});
    Reply::json(200, &told.to_string())
}

fn event(kind: &str, more: &Value) -> String {
    format!("event: {kind}\ndata: {}\n\n", with(json!({"type": kind}), more))
}

fn begun() -> String {
    event(
        "message-start",
        &json!({"id": "c14c", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}),
    )
}

fn said(name: &str, text: &str) -> String {
    event("content-delta", &json!({"index": 0, "delta": {"message": {"content": {name: text}}}}))
}

fn ended(reason: &str) -> String {
    event("message-end", &json!({"id": "c14c", "delta": {"finish_reason": reason, "usage": usage()}}))
}

fn stream(events: &[String]) -> Reply {
    let pieces: Vec<&[u8]> = events.iter().map(String::as_bytes).collect();
    streamed("text/event-stream", &pieces)
}

fn reply(seen: &Seen) -> Reply {
    match seen.json()["stream"] == true {
        true => stream(&[begun(), said("text", "Hello ü"), said("text", "ber there"), ended("COMPLETE")]),
        false => {
            whole(&json!({"role": "assistant", "content": [{"type": "text", "text": "Hello über there"}]}), "COMPLETE")
        }
    }
}

fn over(up: Upstream, model: &str) -> (Upstream, Gateway) {
    let up = up.strict(cohere::check);
    let gateway = serve(&up, &format!("cohere_chat/{model}"), up.origin(), "");
    (up, gateway)
}

#[test]
fn cohere_is_spoken_whole_and_streamed_to_callers_of_both_formats() {
    let (up, gateway) = over(Upstream::script(reply), "command-a-03-2025");
    says_hello(&gateway);
    // 3 tokens in at 2.5 and 5 out at 10 for a million: it charges what it bills, not what it counts.
    assert_eq!(gateway.wait_calls(6)[0]["cost_usd"], "0.0000575");
    let sent = up.requests()[2].json();
    assert_eq!(sent["messages"][1]["content"][1]["image_url"]["url"], "data:image/png;base64,iVBORw0KGgo=");
    let odd = json!({"top_p": 1, "presence_penalty": -1, "seed": 4, "tool_choice": "required", "tools": weather(), "drop_params": true});
    gateway.chat(with(hello(), &odd).to_string()).ok();
    let sent = up.requests().pop().unwrap().json();
    assert_eq!(
        (&sent["tool_choice"], &sent["p"], &sent["presence_penalty"]),
        (&json!("REQUIRED"), &Value::Null, &Value::Null)
    );
}

#[test]
fn cohere_calls_tools_and_thinks() {
    let calls = json!([{"id": "weather_0", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]);
    let message = json!({"role": "assistant", "tool_plan": "I look.", "tool_calls": calls});
    let streamed = stream(&[
        begun(),
        event(
            "content-start",
            &json!({"index": 0, "delta": {"message": {"content": {"type": "thinking", "thinking": ""}}}}),
        ),
        said("thinking", "hm"),
        event(
            "tool-call-start",
            &json!({"index": 0, "delta": {"message": {"tool_calls": {"id": "weather_0", "type": "function", "function": {"name": "weather", "arguments": ""}}}}}),
        ),
        event(
            "tool-call-delta",
            &json!({"index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": "{\"city\":"}}}}}),
        ),
        event(
            "tool-call-delta",
            &json!({"index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": "\"Oslo\"}"}}}}}),
        ),
        event("tool-call-end", &json!({"index": 0})),
        ended("TOOL_CALL"),
    ]);
    let (up, gateway) =
        over(Upstream::queue(vec![whole(&message, "TOOL_CALL"), streamed]), "command-a-reasoning-08-2025");
    let asked = with(hello(), &json!({"tools": weather(), "reasoning_effort": "high"}));
    let told = gateway.chat(asked.to_string()).ok().json();
    let choice = &told["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["reasoning_content"]),
        (&json!("tool_calls"), &json!("I look."))
    );
    assert_eq!(choice["message"]["tool_calls"], calls);
    let told = chunks(&gateway, &asked);
    let delta = |name: &str| -> String {
        told.iter().filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str()).collect()
    };
    assert_eq!((delta("reasoning_content").as_str(), text_of(&told).as_str()), ("hm", ""));
    let arguments: String = told
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"city":"Oslo"}"#);
    assert!(told.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
    assert_eq!(up.requests()[0].json()["thinking"], json!({"type": "enabled"}));
}

#[test]
fn coheres_ends_and_refusals_are_told_in_openais_words() {
    let text = json!({"role": "assistant", "content": [{"type": "text", "text": "a"}]});
    for (reason, expected) in [("MAX_TOKENS", "length"), ("STOP_SEQUENCE", "stop"), ("ERROR_TOXIC", "content_filter")] {
        let (_, gateway) = over(Upstream::new(whole(&text, reason)), "command-a-03-2025");
        assert_eq!(gateway.chat(hello().to_string()).ok().json()["choices"][0]["finish_reason"], expected);
    }
    let (_, gateway) = over(Upstream::new(whole(&text, "TIMEOUT")), "command-a-03-2025");
    gateway.chat(with(hello(), &json!({"num_retries": 0})).to_string()).error(504);
    let (_, gateway) = over(Upstream::new(cohere::error(429, "slow down")), "command-a-03-2025");
    let error = gateway.chat(hello().to_string()).error(429);
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("rate_limit_error", "slow down"));
    let (_, gateway) = over(Upstream::script(reply), "command-a-03-2025");
    for (name, value) in [("logit_bias", json!({"5": 1})), ("n", json!(2)), ("presence_penalty", json!(-1))] {
        let refused = gateway.chat(with(everything(), &json!({name: value})).to_string()).error(400);
        assert_eq!(refused.param.as_deref(), Some(name));
    }
}

#[test]
fn a_cohere_stream_that_breaks_off_or_fails_is_not_taken_for_whole() {
    let failed = event("message-end", &json!({"delta": {"finish_reason": "ERROR", "error": "internal"}}));
    for events in [vec![begun(), said("text", "Hel")], vec![begun(), said("text", "Hel"), failed]] {
        let (_, gateway) = over(Upstream::new(stream(&events)), "command-a-03-2025");
        let mut client = gateway.open_chat(with(hello(), &json!({"stream": true})).to_string());
        assert_eq!(client.head().status(), 200);
        ErrorBody::of_event(client.contents().last().unwrap());
        assert_eq!(gateway.only_call()["outcome"], "failure");
    }
}
