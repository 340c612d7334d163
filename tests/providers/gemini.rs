//! Gemini.

use super::{chunks, everything, hello, says_hello, serve, streamed, with};
use crate::support::strict::gemini;
use crate::support::{Reply, Seen, Upstream};
use serde_json::{Value, json};

fn usage() -> Value {
    json!({"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17})
}

fn answer(parts: &Value) -> String {
    json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": parts}}],
        "usageMetadata": usage(), "modelVersion": "gemini-up", "responseId": "r1"})
    .to_string()
}

/// What fits the call: whole or streamed.
pub fn reply(seen: &Seen) -> Reply {
    if !seen.target.contains(":streamGenerateContent") {
        return Reply::json(200, &answer(&json!([{"text": "Hello über there"}])));
    }
    let piece = |text: &str, finish: Value| {
        let event = json!({"candidates": [{"index": 0, "finishReason": finish,
            "content": {"role": "model", "parts": [{"text": text}]}}], "usageMetadata": usage(), "responseId": "r1"});
        format!("data: {event}\r\n\r\n")
    };
    let pieces = [piece("Hello ü", Value::Null), piece("ber there", json!("STOP"))];
    streamed("text/event-stream", &[pieces[0].as_bytes(), pieces[1].as_bytes()])
}

#[test]
fn gemini_is_spoken_whole_and_streamed_to_callers_of_both_formats() {
    let up = Upstream::script(reply).strict(gemini::check);
    let gateway = serve(&up, "gemini/gemini-3-flash-preview", up.origin(), "");
    says_hello(&gateway);
    assert_eq!(up.requests()[0].target, "/v1beta/models/gemini-3-flash-preview:generateContent");
}

#[test]
fn every_model_behind_a_wildcard_has_a_path_of_its_own() {
    let up = Upstream::script(reply).strict(gemini::check);
    let text = crate::support::config("", &[crate::support::deployment("g/*", "gemini/*", up.origin())]);
    let gateway = crate::support::Gateway::start(&text);
    for model in ["g/gemini-2.5-pro", "g/gemini-2.5-flash", "g/../../evil"] {
        gateway.chat(with(hello(), &json!({"model": model})).to_string()).ok();
    }
    let targets: Vec<String> = up.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        ["gemini-2.5-pro", "gemini-2.5-flash", "..%2F..%2Fevil"]
            .map(|model| format!("/v1beta/models/{model}:generateContent"))
    );
}

#[test]
fn the_proof_of_a_call_comes_back_with_its_id_alone() {
    let call = json!([{"functionCall": {"id": "fc1", "name": "weather", "args": {"city": "Oslo"}},
        "thoughtSignature": "Qx/+AbC="}]);
    let replies = vec![Reply::json(200, &answer(&call)), Reply::json(200, &answer(&json!([{"text": "4 C"}])))];
    let up = Upstream::queue(replies).strict(gemini::check);
    let gateway = serve(&up, "gemini/gemini-3-pro-preview", up.origin(), "");
    let first = with(hello(), &json!({"tools": super::weather(), "reasoning_effort": "high"}));
    let told = gateway.chat(first.to_string()).ok().json();
    let message = &told["choices"][0]["message"];
    assert_eq!(told["choices"][0]["finish_reason"], "tool_calls");
    // A plain client of OpenAI's sends back what that knows of a call.
    let made = &message["tool_calls"][0];
    let plain = json!({"id": made["id"], "type": "function", "function": made["function"]});
    let second = with(
        first,
        &json!({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [plain]},
            {"role": "tool", "tool_call_id": made["id"], "content": "4 C"}]}),
    );
    gateway.chat(second.to_string()).ok();
    let sent = up.requests()[1].json();
    assert_eq!(sent["contents"][1]["parts"][0]["thoughtSignature"], "Qx/+AbC=", "{sent}");
    assert_eq!(sent["contents"][1]["parts"][0]["functionCall"]["id"], "fc1");
}

#[test]
fn geminis_errors_are_told_in_openais_words() {
    let retry = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]);
    let up = Upstream::new(gemini::error(429, "RESOURCE_EXHAUSTED", "slow down", &retry)).strict(gemini::check);
    let answer = serve(&up, "gemini/gemini-2.5-flash", up.origin(), "").chat(hello().to_string());
    let error = answer.error(429);
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("rate_limit_error", "slow down"));
    assert_eq!(answer.header("retry-after").as_deref(), Some("7"));

    let up = Upstream::script(reply).strict(gemini::check);
    let text = crate::support::config("", &[crate::support::deployment("m", "gemini/gemini-2.5-flash", up.origin())]);
    let wrong = crate::support::Gateway::start(&text.replace("env:UPSTREAM_KEY", "wrong-key"));
    assert_eq!(wrong.chat(hello().to_string()).error(401).kind, "authentication_error");
    let gateway = serve(&up, "gemini/gemini-2.5-flash", up.origin(), "");
    let refused = gateway.chat(with(everything(), &json!({"logit_bias": {"5": 1}})).to_string()).error(400);
    assert_eq!(refused.param.as_deref(), Some("logit_bias"));
    gateway.chat(with(everything(), &json!({"logit_bias": {"5": 1}, "drop_params": true})).to_string()).ok();
}

#[test]
fn a_gemini_stream_that_breaks_off_or_fails_is_not_taken_for_whole() {
    let begun = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}]}}]}\n\n";
    let failed = "data: {\"error\":{\"code\":503,\"message\":\"overloaded\",\"status\":\"UNAVAILABLE\"}}\n\n";
    for pieces in [vec![begun], vec![begun, failed], vec![begun, "<html>\n\n"]] {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let up = Upstream::new(streamed("text/event-stream", &pieces)).strict(gemini::check);
        let gateway = serve(&up, "gemini/gemini-2.5-flash", up.origin(), "");
        let mut client = gateway.open_chat(with(hello(), &json!({"stream": true})).to_string());
        assert_eq!(client.head().status(), 200);
        let events = client.contents();
        crate::support::ErrorBody::of_event(events.last().unwrap());
        assert_eq!(gateway.only_call()["outcome"], "failure");
    }
    let whole = Upstream::script(reply).strict(gemini::check);
    assert!(chunks(&serve(&whole, "gemini/gemini-2.5-flash", whole.origin(), ""), &hello()).len() > 3);
}
