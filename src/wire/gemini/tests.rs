use super::*;
use bytes::BytesMut;
use proptest::prelude::*;

fn chat(body: &Value) -> Value {
    serde_json::from_slice(&to_chat(body.to_string().as_bytes(), "m", false).unwrap()).unwrap()
}

#[test]
fn a_request_is_told_in_chat() {
    let body = json!({
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is this?"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": true}, {"text": "I look."}, {"functionCall": {"name": "look", "args": {"a": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "a cat"}}}, {"text": "And?"}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 9, "stopSequences": ["END"], "candidateCount": 1,
            "responseMimeType": "application/json", "thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": true}},
        "safetySettings": [],
    });
    let expected = json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "look", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "call_0", "content": "{\"result\":\"a cat\"}"},
            {"role": "user", "content": "And?"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "temperature": 0.5, "max_tokens": 9, "stop": ["END"], "response_format": {"type": "json_object"},
        "litellm_include_thoughts": true, "reasoning_effort": "medium",
    });
    assert_eq!(chat(&body), expected);
}

#[test]
fn what_has_no_twin_is_named() {
    let hi = json!([{"parts": [{"text": "hi"}]}]);
    for (body, param) in [
        (json!({}), "contents"),
        (json!({"contents": hi, "cachedContent": "x"}), "cachedContent"),
        (json!({"contents": hi, "tools": [{"googleSearch": {}}]}), "tools[0].googleSearch"),
        (json!({"contents": [{"role": "system", "parts": [{"text": "a"}]}]}), "contents[0].role"),
        (json!({"contents": [{"parts": [{"fileData": {"fileUri": "x"}}]}]}), "contents[0]"),
        (json!({"contents": [{"parts": [{"functionResponse": {"name": "x"}}]}]}), "contents[0]"),
        (
            json!({"contents": hi, "generationConfig": {"responseModalities": ["AUDIO"]}}),
            "generationConfig.responseModalities",
        ),
    ] {
        assert_eq!(to_chat(body.to_string().as_bytes(), "m", false).unwrap_err().param(), Some(param), "{body}");
    }
}

#[test]
fn an_answer_is_told_whole_and_in_pieces() {
    let usage =
        json!({"prompt_tokens": 12, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2}});
    let body = json!({"choices": [{"message": {"content": "Hi", "reasoning_content": "hm", "tool_calls": [
        {"id": "c", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}, "finish_reason": "tool_calls"}], "usage": usage});
    let told: Value = serde_json::from_slice(&from_chat(body.to_string().as_bytes(), "m", "r", true).unwrap()).unwrap();
    let call = json!({"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}});
    let parts = json!([{"text": "hm", "thought": true}, {"text": "Hi"}, call]);
    let counts = json!({"promptTokenCount": 12, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "cachedContentTokenCount": 0, "totalTokenCount": 19});
    assert_eq!(
        told,
        json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": counts, "modelVersion": "m", "responseId": "r"})
    );

    let mut stream = Stream::new("m".into(), "r".into(), false);
    let mut out = BytesMut::new();
    for chunk in [
        json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        json!({"choices": [{"delta": {"reasoning_content": "hm"}}]}),
        json!({"choices": [{"delta": {"content": "Hi"}}]}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a\""}}]}}]}),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}}]}),
        json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        json!({"choices": [], "usage": usage}),
    ] {
        stream.chunk(chunk.to_string().as_bytes(), &mut out);
    }
    stream.end(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let events: Vec<Value> = text
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["candidates"][0]["content"]["parts"], json!([{"text": "Hi"}]));
    assert_eq!(events[1]["candidates"][0]["content"]["parts"], json!([call]));
    assert_eq!((&events[1]["usageMetadata"], &events[1]["candidates"][0]["finishReason"]), (&counts, &json!("STOP")));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in ".{0,200}", inside in "[\\[\\]{}:,\"a-z0-9]{0,100}") {
        let _ = to_chat(body.as_bytes(), "m", true);
        let _ = to_chat(format!("{{\"contents\":[{inside}]}}").as_bytes(), "m", true);
        let _ = from_chat(body.as_bytes(), "m", "r", true);
        Stream::new(String::new(), String::new(), true).chunk(body.as_bytes(), &mut BytesMut::new());
    }
}
