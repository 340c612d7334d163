//! What must hold for every input.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// One OpenAI chunk, sensible or not.
fn chunk() -> impl Strategy<Value = String> {
    let text = prop_oneof![Just(String::new()), "[a-z\"\\\\\n é😀]{1,6}".prop_map(|text| text)];
    let call = (
        prop_oneof![Just(None), (0u8..3).prop_map(Some)],
        prop_oneof![Just(None), Just(Some("")), Just(Some("a")), Just(Some("b:1"))],
        prop_oneof![Just(None), Just(Some("f")), Just(Some(""))],
        prop_oneof![Just(json!(null)), Just(json!("")), Just(json!("{\"a\":")), Just(json!("1}")), Just(json!({"a": 1}))],
    )
        .prop_map(|(index, id, name, arguments)| {
            json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
    let delta = prop_oneof![
        4 => text.clone().prop_map(|t| json!({"content": t})),
        2 => text.clone().prop_map(|t| json!({"reasoning_content": t})),
        1 => text.clone().prop_map(|t| json!({"reasoning": t, "content": null})),
        1 => text.clone().prop_map(|t| json!({"refusal": t})),
        1 => (text.clone(), text.clone()).prop_map(|(t, s)| json!({"reasoning_content": t,
            "thinking_blocks": [{"type": "thinking", "thinking": t, "signature": s}]})),
        1 => text.clone().prop_map(|t| json!({"thinking_blocks": [{"type": "redacted_thinking", "data": t}]})),
        1 => text.prop_map(|t| json!({"content": [{"type": "text", "text": t}]})),
        5 => prop::collection::vec(call, 1..3).prop_map(|calls| json!({"tool_calls": calls})),
        1 => Just(json!({"function_call": {"name": "old", "arguments": "{}"}})),
        1 => Just(json!({})),
        1 => Just(Value::Null),
    ];
    let finish = prop_oneof![
        12 => Just(Value::Null),
        1 => Just(json!("")),
        1 => prop_oneof![Just(json!("stop")), Just(json!("length")), Just(json!("tool_calls")), Just(json!("content_filter"))],
    ];
    let usage = json!({"prompt_tokens": 9.0, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 20}});
    prop_oneof![
        20 => (delta, finish, 0u8..8).prop_map(|(delta, finish, other)| {
            let index = u8::from(other == 0);
            json!({"choices": [{"index": index, "delta": delta, "finish_reason": finish}], "usage": null}).to_string()
        }),
        1 => Just(json!({"choices": [], "usage": usage}).to_string()),
        1 => Just(json!({"choices": null}).to_string()),
        1 => Just("[DONE]".to_owned()),
        1 => prop_oneof![Just("{\"error\":{\"message\":\"x\"}}"), Just("{"), Just("[]"), Just("{\"choices\":{}}")]
            .prop_map(str::to_owned),
    ]
}

fn cut(stream: &str, cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = Bytes::from(stream.to_owned());
    let mut chunks = Vec::new();
    for cut in cuts {
        if rest.is_empty() {
            break;
        }
        chunks.push(rest.split_to((*cut).min(rest.len())));
    }
    chunks.push(rest);
    chunks
}

/// Changes one byte of one of the files of that name.
fn changed(file: &str, which: Index, at: Index, byte: u8) -> Vec<u8> {
    let cases = cases(file);
    let mut bytes = std::fs::read(which.get(&cases).join(file)).unwrap();
    let at = at.index(bytes.len());
    bytes[at] = byte;
    bytes
}

proptest! {
    #[test]
    fn every_sequence_of_chunks_gives_events_in_order(chunks in prop::collection::vec(chunk(), 0..30)) {
        let mut stream = Stream::new(MODEL, ID, 7);
        let mut out = BytesMut::new();
        for chunk in &chunks {
            stream.chunk(chunk.as_bytes(), &mut out);
        }
        end(&mut stream, &mut out);
        let told = String::from_utf8(out.to_vec()).unwrap();
        let gathered = order::check(&told);
        prop_assert!(gathered.is_ok(), "{gathered:?}\n{told}");
    }

    #[test]
    fn nothing_that_was_said_is_lost(said in prop::collection::vec((any::<bool>(), "[a-z\"\\\\\n é😀]{1,6}"), 0..8), pieces in prop::collection::vec((0usize..4, "x[a-z\"\\\\]{0,4}"), 0..20)) {
        let mut stream = Stream::new(MODEL, ID, 7);
        let mut out = BytesMut::new();
        let mut put = |delta: Value| stream.chunk(json!({"choices": [{"delta": delta}]}).to_string().as_bytes(), &mut out);
        let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::<(usize, String)>::new());
        for (is_text, more) in &said {
            let (name, all) = if *is_text { ("content", &mut text) } else { ("reasoning_content", &mut thinking) };
            all.push_str(more);
            put(json!({name: more}));
        }
        for (index, more) in &pieces {
            let mut call = json!({"index": index, "function": {"arguments": more}});
            match calls.iter_mut().find(|(known, _)| known == index) {
                Some((_, all)) => all.push_str(more),
                None => {
                    calls.push((*index, more.clone()));
                    call["id"] = format!("call_{index}").into();
                    call["function"]["name"] = "f".into();
                }
            }
            put(json!({"tool_calls": [call]}));
        }
        stream.chunk(b"[DONE]", &mut out);
        let told = order::check(std::str::from_utf8(&out).unwrap()).unwrap();
        let all = |kind: &str| told.content.iter().map(|block| block[kind].as_str().unwrap_or_default()).collect::<String>();
        prop_assert_eq!(all("text"), text);
        prop_assert_eq!(all("thinking"), thinking);
        let of_calls = told.content.iter().filter(|block| block["type"] == "tool_use");
        let told: Vec<_> = of_calls.map(|block| (block["id"].clone(), block["input"].clone())).collect();
        let expected: Vec<_> = calls.into_iter().map(|(i, all)| (json!(format!("call_{i}")), json!(all))).collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn any_chunking_gives_the_same_events(which in any::<Index>(), cuts in prop::collection::vec(1usize..90, 0..60)) {
        let cases = cases("chat.sse");
        let stream = read(which.get::<PathBuf>(&cases), "chat.sse");
        prop_assert_eq!(translate(cut(&stream, &cuts)), translate([stream.into()]));
    }

    #[test]
    fn any_chunking_is_watched_alike(which in any::<Index>(), cuts in prop::collection::vec(1usize..90, 0..60)) {
        let cases = cases("native.sse");
        let stream = read(which.get::<PathBuf>(&cases), "native.sse");
        prop_assert_eq!(watch(cut(&stream, &cuts)), watch([stream.into()]));
    }

    #[test]
    fn changed_requests_never_panic(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>()) {
        let body = changed("request.json", which, at, byte);
        if let Ok(chat) = to_chat(&body) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&chat).is_ok(), "{}", String::from_utf8_lossy(&chat));
        }
        let _ = (estimate_tokens(&body), strip_billing_header(&body), native_usage(&body));
    }

    #[test]
    fn changed_answers_never_panic(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>()) {
        let body = changed("answer.json", which, at, byte);
        if let Ok(message) = from_chat(&body, MODEL, ID) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&message).is_ok(), "{}", String::from_utf8_lossy(&message));
        }
        let _ = native_usage(&body);
    }

    #[test]
    fn changed_streams_keep_their_order(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>()) {
        let stream = changed("chat.sse", which, at, byte);
        let told = String::from_utf8_lossy(&translate_lossy(&stream)).into_owned();
        prop_assert!(order::check(&told).is_ok(), "{told}");
    }

    #[test]
    fn changed_native_streams_never_panic(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>(), cuts in prop::collection::vec(1usize..90, 0..60)) {
        let stream = changed("native.sse", which, at, byte);
        let mut watch = Watch::new(Arc::default());
        let mut rest = Bytes::from(stream);
        for cut in cuts {
            watch.push(rest.split_to(cut.min(rest.len())));
            while let Step::Forward(_) = watch.step() {}
        }
        let _ = (watch.end(), watch.seen_tokens());
    }
}

/// As [`translate`], for bytes that may be no text.
fn translate_lossy(bytes: &[u8]) -> Vec<u8> {
    let mut events = Events::new(1 << 20);
    let mut stream = Stream::new(MODEL, ID, 7);
    let mut out = BytesMut::new();
    events.push(Bytes::copy_from_slice(bytes));
    while let Some(event) = events.take().unwrap() {
        if let Content::Data(data) = sse::content(&event) {
            stream.chunk(&data, &mut out);
        }
    }
    end(&mut stream, &mut out);
    out.to_vec()
}
