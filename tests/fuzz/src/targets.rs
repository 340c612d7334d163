//! What must hold for any bytes, beside that nothing panics and nothing runs for ever.

use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use gateway::envelope::Envelope;
use gateway::error::Origin;
use gateway::exchange::{Back, Plain, Relay, Teller};
use gateway::price::Prices;
use gateway::provider::anthropic::{self, Context, Facts};
use gateway::provider::{self, Language, foreign};
use gateway::route::Tariff;
use gateway::tap::Step;
use gateway::wire::{form, gemini, messages, realtime};
use gateway::wire::sse::{self, Content, Events};
use gateway::wire::{json, sse::TooLarge};
use serde_json::Value;
use std::sync::Arc;

pub type Target = fn(&[u8]);

pub const ALL: &[(&str, Target)] = &[
    ("anthropic_request", anthropic_request),
    ("anthropic_answer", anthropic_answer),
    ("anthropic_stream", anthropic_stream),
    ("gemini", |data| language(Language::Gemini, "gemini", "gemini-3-pro", data)),
    ("bedrock", |data| language(Language::Bedrock, "bedrock", "us.anthropic.claude-sonnet-4-5-v1:0", data)),
    ("cohere", |data| language(Language::Cohere, "cohere_chat", "command-a-03-2025", data)),
    ("replicate", |data| language(Language::Replicate, "replicate", "meta/meta-llama-3-8b-instruct", data)),
    ("ollama", |data| language(Language::Ollama, "ollama", "qwen3", data)),
    ("audio", audio),
    ("parts", parts),
    ("messages_to_chat", messages_to_chat),
    ("messages_from_chat", messages_from_chat),
    ("messages_stream", messages_stream),
    ("messages_watch", messages_watch),
    ("gemini_to_chat", gemini_to_chat),
    ("gemini_from_chat", gemini_from_chat),
    ("form_parser", form_parser),
    ("spent", spent),
    ("json_scanner", json_scanner),
    ("sse_events", sse_events),
    ("price_map", price_map),
];

/// As deep as the gateway lets requests be nested.
const MAX_DEPTH: usize = 128;

/// A request that is accepted becomes one that the API can read: turns alternate, and `max_tokens` is there.
fn anthropic_request(data: &[u8]) {
    for model in ["claude-3-5-haiku-20241022", "claude-sonnet-4-5", "claude-opus-5-5", "else"] {
        // Only what passes for a request at the door comes this far.
        if Envelope::parse(Bytes::copy_from_slice(data), MAX_DEPTH).is_err() {
            return;
        }
        let facts = Facts { model, drop_params: data.len() % 2 == 0, max_output: None };
        let Ok(foreign) = anthropic::request(data, &facts) else { continue };
        let body: Value = serde_json::from_slice(&foreign.body).expect("the upstream's body is JSON");
        assert!(body["max_tokens"].is_u64(), "{body}");
        let turns = body["messages"].as_array().expect("turns");
        let mut last = "assistant";
        for role in turns.iter().filter_map(|turn| turn["role"].as_str()) {
            assert!(role != last, "turns of one role in a row: {body}");
            last = role;
        }
    }
}

fn anthropic_answer(data: &[u8]) {
    let _ = anthropic::error(data);
    if let Ok(chat) = anthropic::answer(data, &Context::default(), 1) {
        let chat: Value = serde_json::from_slice(&chat).expect("an answer is JSON");
        assert!(chat["choices"][0]["finish_reason"].is_string() && chat["usage"].is_object(), "{chat}");
    }
    let _ = messages::native_usage(data);
}

/// However the bytes are cut, the caller gets the same.
fn anthropic_stream(data: &[u8]) {
    let context = foreign::Context::Anthropic { context: Context::default(), created: 1 };
    let back = Back::Chat { from: Some(Box::new(context)), shows_usage: data.len() % 2 == 0 };
    same_however_cut(data, &back, chunks);
}

/// The three ways of a language of its own: the first byte chooses one.
fn language(language: Language, provider: &'static str, model: &str, data: &[u8]) {
    let Some((way, data)) = data.split_first() else { return };
    let facts = provider::Facts {
        provider,
        model,
        streams: way & 4 != 0,
        drop_params: way & 8 != 0,
        max_output: None,
        id: "id",
        created: 1,
    };
    let asked = br#"{"messages":[{"role":"user","content":"x"}]}"#;
    let context = foreign::request(language, asked, &facts).expect("a plain request").context;
    match way % 3 {
        0 => {
            if Envelope::parse(Bytes::copy_from_slice(data), MAX_DEPTH).is_ok()
                && let Ok(made) = foreign::request(language, data, &facts)
            {
                let body: Value = serde_json::from_slice(&made.body).expect("the upstream's body is JSON");
                assert!(body.is_object());
            }
        }
        1 => {
            let _ = foreign::error(language, StatusCode::BAD_REQUEST, "", data);
            if let Ok(chat) = foreign::answer(&context, data, &Origin::default()) {
                let chat: Value = serde_json::from_slice(&chat).expect("an answer is JSON");
                assert!(chat["choices"][0]["finish_reason"].is_string(), "{chat}");
            }
        }
        _ => {
            let back = Back::Chat { from: Some(Box::new(context)), shows_usage: way & 4 != 0 };
            same_however_cut(data, &back, chunks);
        }
    }
}

/// Audio of providers with words of their own: what is asked has a path that is one, what was heard can be told.
fn audio(data: &[u8]) {
    let Some((way, data)) = data.split_first() else { return };
    let (language, provider, model) = match way & 1 {
        0 => (Language::Deepgram, "deepgram", if way & 2 == 0 { "nova-3" } else { "aura-2" }),
        _ => (Language::ElevenLabs, "elevenlabs", "scribe_v2"),
    };
    let drop_params = way & 4 != 0;
    let facts =
        provider::Facts { provider, model, streams: false, drop_params, max_output: None, id: "id", created: 1 };
    if Envelope::parse(Bytes::copy_from_slice(data), MAX_DEPTH).is_ok() {
        for plain in [Plain::Transcription, Plain::Speech] {
            if let Ok(made) = provider::audio::request(language, plain, data, &facts) {
                assert!(made.path.parse::<actix_web::http::Uri>().is_ok() || format!("/{}", made.path).parse::<actix_web::http::Uri>().is_ok(), "{}", made.path);
                let _: Value = serde_json::from_slice(&made.body).expect("the body is JSON");
            }
        }
    }
    let _ = foreign::error(language, StatusCode::BAD_REQUEST, "", data);
    if let Ok(heard) = provider::audio::heard(language, data, &Origin::default()) {
        use provider::audio::{Format, Wish};
        for format in [Format::Json, Format::Verbose, Format::Diarized, Format::Text, Format::Srt, Format::Vtt] {
            let (told, is_text) = heard.told(Wish { format, words: true, segments: true });
            assert!(std::str::from_utf8(&told).is_ok());
            assert!(is_text || serde_json::from_slice::<Value>(&told).is_ok());
        }
    }
}

/// Lists of parts become texts, however the stream is cut.
fn parts(data: &[u8]) {
    if let Ok(told) = foreign::answer(&foreign::Context::Parts, data, &Origin::default())
        && serde_json::from_slice::<Value>(data).is_ok()
    {
        let _: Value = serde_json::from_slice(&told).expect("what was JSON stays it");
    }
    let back = Back::Chat { from: Some(Box::new(foreign::Context::Parts)), shows_usage: true };
    same_however_cut(data, &back, values);
}

/// The data of each event is JSON, whatever it says.
fn values(stream: &[u8]) {
    for data in data_of(stream).iter().filter(|data| data.as_slice() != b"[DONE]") {
        let _: Value = serde_json::from_slice(data).expect("an event is JSON");
    }
}

/// What Google's clients ask becomes a chat request, or is refused.
fn gemini_to_chat(data: &[u8]) {
    if Envelope::parse(Bytes::copy_from_slice(data), MAX_DEPTH).is_err() {
        return;
    }
    if let Ok(chat) = gemini::to_chat(data, "m", data.len() % 2 == 0) {
        let chat = Envelope::parse(Bytes::from(chat), MAX_DEPTH * 4).expect("a chat request");
        serde_json::from_slice::<&serde_json::value::RawValue>(chat.bytes()).expect("a chat request is JSON");
        assert!(chat.get("messages").is_some() && chat.get("model").is_some());
    }
}

fn gemini_from_chat(data: &[u8]) {
    if let Ok(told) = gemini::from_chat(data, "m", "id", data.len() % 2 == 0) {
        let told: Value = serde_json::from_slice(&told).expect("an answer is JSON");
        assert!(told["candidates"].is_array(), "{told}");
    }
}

/// A form as it is read: the heads of its parts and their contents, up to its end or its fault.
fn read_form(pieces: &[&[u8]]) -> (Vec<(form::Head, Vec<u8>)>, bool, bool) {
    let (mut parser, mut parts) = (form::Parser::new("b"), Vec::new());
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.take() {
                Ok(Some(form::Event::Part(head))) => parts.push((head, Vec::new())),
                Ok(Some(form::Event::Data(data))) => {
                    parts.last_mut().expect("data of a part").1.extend_from_slice(&data);
                }
                Ok(Some(form::Event::End)) => return (parts, true, false),
                Ok(None) => break,
                Err(_) => return (parts, false, true),
            }
        }
    }
    (parts, false, false)
}

/// However a form is cut, its parts are the same; and what is written of them is read again.
fn form_parser(data: &[u8]) {
    let _ = std::str::from_utf8(data).ok().and_then(form::boundary);
    let (parts, is_whole, is_bad) = read_form(&[data]);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let middle = data.split_at(data.len() / 2);
    for pieces in [&bytes[..], &[middle.0, middle.1]] {
        let (again, whole, bad) = read_form(pieces);
        assert!((whole, bad) == (is_whole, is_bad));
        // Of a part that is broken off, what is known of it may be more or less.
        if is_whole {
            assert!(again == parts);
        }
    }
    if !is_whole || parts.iter().any(|(_, data)| data.windows(3).any(|window| window == b"--b")) {
        return;
    }
    let mut written = Vec::new();
    for (head, data) in &parts {
        form::write_head("b", head, &mut written);
        written.extend_from_slice(data);
        written.extend_from_slice(b"\r\n");
    }
    written.extend_from_slice(&form::end("b"));
    let (again, whole, _) = read_form(&[&written]);
    assert!(whole && again.iter().map(|(_, data)| data).eq(parts.iter().map(|(_, data)| data)));
}

/// Whatever an answer holds, it says what was used or nothing.
fn spent(data: &[u8]) {
    let mut spent = provider::Spent::default();
    data.split(|byte| *byte == b'\n').for_each(|piece| spent.read(piece));
    let _ = realtime::event(data);
}

fn messages_to_chat(data: &[u8]) {
    let _ = messages::estimate_tokens(data);
    if let Some(stripped) = messages::strip_billing_header(data) {
        let stripped: Value = serde_json::from_slice(&stripped).expect("what is left is JSON");
        assert!(stripped.is_object());
    }
    if let Ok(chat) = messages::to_chat(data) {
        let chat = Envelope::parse(Bytes::from(chat), MAX_DEPTH * 4).expect("a chat request");
        serde_json::from_slice::<&serde_json::value::RawValue>(chat.bytes()).expect("a chat request is JSON");
        assert!(chat.get("messages").is_some() && chat.get("model").is_some());
    }
}

fn messages_from_chat(data: &[u8]) {
    if let Ok(message) = messages::from_chat(data, "m", "msg_1") {
        serde_json::from_slice::<&serde_json::value::RawValue>(&message).expect("a message is JSON");
        let (_, is_error) = messages::native_usage(&message);
        assert!(!is_error, "{}", String::from_utf8_lossy(&message));
    }
}

fn messages_stream(data: &[u8]) {
    let to =
        Teller::Messages { model: "m".into(), id: "msg_1".into(), estimated_input: 3, names: Arc::default() };
    let back = Back::FromChat { from: None, to, shows_usage: false };
    same_however_cut(data, &back, ordered);
}

/// What goes on is what came, up to an error.
fn messages_watch(data: &[u8]) {
    let (out, _) = play(data, &Back::Messages, [data.len().max(1)].into_iter().cycle());
    let shared = out.iter().zip(data).take_while(|(a, b)| a == b).count();
    assert!(shared == out.len() || shared == data.len() || out.len() - shared <= 64, "bytes were changed");
    same_however_cut(data, &Back::Messages, |_| ());
}

/// The scanner takes what a parser takes, and nothing else.
fn json_scanner(data: &[u8]) {
    let scanned = json::object(data, usize::MAX.min(100), |m| {
        let _ = json::unescape(&data[m.key.clone()]);
        let value = &data[m.value.span.clone()];
        if m.value.kind == json::Kind::Array {
            json::array(value, 100, |_| ()).expect("an array that was scanned already");
        }
    });
    let parsed = serde_json::from_slice::<&serde_json::value::RawValue>(data);
    let is_object = parsed.as_ref().is_ok_and(|raw| raw.get().starts_with('{'));
    match scanned {
        Ok(()) => assert!(is_object, "{parsed:?}"),
        Err(fault) if fault.what == json::What::TooDeep => (),
        Err(fault) => assert!(!is_object, "{fault:?}"),
    }
    if let Ok(envelope) = Envelope::parse(Bytes::copy_from_slice(data), 100) {
        assert!(is_object);
        let _ = envelope.string("model");
        let _ = envelope.flag("stream");
    }
}

/// Events put together again are the bytes they came from.
fn sse_events(data: &[u8]) {
    let split = |sizes: &mut dyn Iterator<Item = usize>| -> Result<(Vec<Bytes>, Bytes), TooLarge> {
        let (mut events, mut all, mut rest) = (Events::new(4096), Vec::new(), data);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
            rest = after;
            events.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = events.take()? {
                let _ = sse::content(&event);
                all.push(event);
            }
        }
        Ok((all, events.finish()))
    };
    let whole = split(&mut [data.len()].into_iter());
    if let (Ok((events, rest)), Ok(cut)) = (&whole, split(&mut cuts(data))) {
        assert_eq!((events, rest), (&cut.0, &cut.1), "cut otherwise");
        assert_eq!([events.concat(), rest.to_vec()].concat(), data, "bytes were lost");
    }
}

/// A map that is read twice gives the same prices, and none of them breaks a sum.
fn price_map(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(prices) = Prices::with_map(text) else { return };
    let Ok(Value::Object(entries)) = serde_json::from_str::<Value>(text) else { return };
    for (name, entry) in entries.iter().take(8) {
        let provider = entry["litellm_provider"].as_str().unwrap_or_default();
        if let Some(price) = prices.find(provider, name) {
            let most = gateway::price::Tokens { prompt: u64::MAX, completion: u64::MAX, ..Default::default() };
            let _ = price.charge(&most, std::time::SystemTime::UNIX_EPOCH);
            let _ = price.to_model_info(std::time::SystemTime::UNIX_EPOCH);
        }
    }
}

/// Sizes of pieces that follow from the data, so that a finding plays again.
fn cuts(data: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let mut state = data.iter().fold(1u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (state >> 33) as usize % 23
    })
}

fn same_however_cut(data: &[u8], back: &Back, check: fn(&[u8])) {
    let (whole, end) = play(data, back, [data.len().max(1)].into_iter().cycle());
    let (cut, cut_end) = play(data, back, cuts(data));
    assert_eq!(whole, cut, "{} \n-- cut:\n{}", String::from_utf8_lossy(&whole), String::from_utf8_lossy(&cut));
    assert_eq!(end, cut_end);
    check(&whole);
}

/// What a caller gets of a stream that comes in pieces of these sizes, and the error that it ends with.
fn play(data: &[u8], back: &Back, mut sizes: impl Iterator<Item = usize>) -> (BytesMut, Option<String>) {
    let mut relay = Relay::new(back.clone(), Arc::new(Origin::new("fuzz", [])), Tariff::default());
    let (mut out, mut rest, mut has_ended) = (BytesMut::new(), data, false);
    loop {
        match relay.step() {
            Step::Forward(event) => out.extend_from_slice(&event),
            Step::Finish(event) => {
                out.extend_from_slice(&event);
                let _ = (relay.usage(), relay.seen_tokens());
                return (out, None);
            }
            Step::Fail(error) => return (out, Some(error.to_string())),
            Step::More if rest.is_empty() => {
                assert!(!has_ended, "more is wanted behind the end");
                has_ended = true;
                relay.end();
            }
            Step::More => {
                let (chunk, after) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
                rest = after;
                relay.push(Bytes::copy_from_slice(chunk));
            }
        }
    }
}

/// The data of each event.
fn data_of(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut events, mut all) = (Events::new(usize::MAX), Vec::new());
    events.push(Bytes::copy_from_slice(stream));
    while let Ok(Some(event)) = events.take() {
        match sse::content(&event) {
            Content::Data(data) => all.push(data.into_owned()),
            Content::Nothing => (),
            Content::Garbage => panic!("garbage: {}", String::from_utf8_lossy(&event)),
        }
    }
    all
}

/// All events are chunks.
fn chunks(stream: &[u8]) {
    for data in data_of(stream).iter().filter(|data| data.as_slice() != b"[DONE]") {
        let chunk: Value = serde_json::from_slice(data).expect("a chunk is JSON");
        assert!(chunk["choices"].is_array(), "{chunk}");
    }
}

/// Blocks follow each other, each opened, filled and closed.
fn ordered(stream: &[u8]) {
    let (mut next, mut is_open, mut has_begun) = (0, false, false);
    for data in data_of(stream) {
        let event: Value = serde_json::from_slice(&data).expect("an event is JSON");
        let kind = event["type"].as_str().unwrap_or_default();
        match kind {
            "message_start" => assert!(!std::mem::replace(&mut has_begun, true), "begun twice"),
            "content_block_start" => {
                assert!(has_begun && !is_open && event["index"] == next, "{event}");
                is_open = true;
            }
            "content_block_delta" => assert!(is_open && event["index"] == next, "{event}"),
            "content_block_stop" => {
                assert!(is_open && event["index"] == next, "{event}");
                (is_open, next) = (false, next + 1);
            }
            "message_delta" | "message_stop" => assert!(has_begun && !is_open, "{event}"),
            other => assert!(matches!(other, "ping" | "error"), "{other}"),
        }
    }
}
