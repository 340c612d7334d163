//! Deepgram.

use super::{priced, sends_speech, transcribes, wav};
use crate::support::strict::deepgram;
use crate::support::{Gateway, Reply, Upstream};
use serde_json::json;

fn heard() -> Reply {
    let word = |word: &str, start: f64| json!({"word": word.to_lowercase().trim_matches('.'), "punctuated_word": word, "start": start, "end": start + 0.4});
    let best = json!({"transcript": "Hello Oslo.", "words": [word("Hello", 0.1), word("Oslo.", 0.6)]});
    let told = json!({"metadata": {"request_id": "dg-1", "duration": 2.5, "channels": 1},
        "results": {"channels": [{"alternatives": [best], "detected_language": "en"}]}});
    Reply::json(200, &told.to_string())
}

fn over(reply: Reply, model: &str, prices: &str) -> (Upstream, Gateway) {
    priced(Upstream::new(reply).strict(deepgram::check), "deepgram", model, prices)
}

#[test]
fn deepgram_hears_a_file_in_every_form() {
    let (up, gateway) = over(heard(), "nova-3", "");
    let told = transcribes(&gateway, &[("language", ""), ("keyterm", "Oslo & so")], &wav(3)).ok();
    assert_eq!(told.header("x-litellm-response-cost").as_deref(), Some("0.00018"), "2.5 seconds at 0.000072");
    let told = told.json();
    assert_eq!((&told["text"], &told["language"]), (&json!("Hello Oslo."), &json!("en")));
    assert_eq!(told["usage"], json!({"type": "duration", "seconds": 2.5}));
    let seen = up.only_request();
    assert_eq!(seen.header("content-type").as_deref(), Some("audio/wav"));
    assert_eq!(seen.body, wav(3), "the file goes alone");
    assert_eq!(seen.target, "/v1/listen?model=nova-3&detect_language=true&smart_format=true&keyterm=Oslo%20%26%20so");
    let srt = transcribes(&gateway, &[("response_format", "srt")], &wav(1)).ok();
    assert_eq!(srt.text(), "1\n00:00:00,100 --> 00:00:01,000\nHello Oslo.\n\n");
    assert!(srt.header("content-type").unwrap().starts_with("text/plain"));
    let words = [("response_format", "verbose_json"), ("timestamp_granularities[]", "word"), ("language", "de")];
    let verbose = transcribes(&gateway, &words, &wav(1)).ok().json();
    assert_eq!(verbose["words"][1], json!({"word": "oslo", "start": 0.6, "end": 1.0}));
    assert!(up.requests()[2].target.contains("language=de"));
    for call in gateway.wait_calls(3) {
        assert_eq!((&call["outcome"], &call["cost_usd"]), (&json!("success"), &json!("0.00018")), "{call}");
    }
}

#[test]
fn a_check_asks_each_model_for_what_it_is_for() {
    let up = Upstream::script(|seen| match seen.target.starts_with("/v1/speak") {
        true => Reply::answer(200, &[("Content-Type", "audio/mpeg")], b"\xff\xfb\x90\0"),
        false => heard(),
    })
    .strict(deepgram::check);
    let aura = crate::support::deployment("a", "deepgram/aura-2-thalia-en", up.origin())
        + "info = { mode = \"audio_speech\" }\n";
    let nova = crate::support::deployment("n", "deepgram/nova-3", up.origin());
    let embeds = Upstream::new(Reply::json(
        200,
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1]}]}"#,
    ))
    .rules(|rules| rules.is_free = true);
    let vectors = crate::support::deployment("v", "openai/text-embedding-3-small", embeds.base());
    let gateway = Gateway::start(&crate::support::config("", &[aura, nova, vectors]));
    let told = gateway.get("/health").ok().json();
    assert_eq!((&told["healthy_count"], &told["unhealthy_count"]), (&json!(3), &json!(0)), "{told:#}");
    assert_eq!(embeds.only_request().target, "/v1/embeddings");
}

#[test]
fn a_file_that_does_not_fit_into_memory_goes_to_deepgram_too() {
    let (up, gateway) = over(heard(), "nova-2", "");
    transcribes(&gateway, &[], &wav(40)).ok();
    assert_eq!(up.only_request().body, wav(40));
}

#[test]
fn deepgram_speaks_as_the_bytes_come() {
    let (up, gateway) = sends_speech(|up| over_script(up, "aura-2", "input_cost_per_character = 0.00003"), "orion");
    let seen = up.only_request();
    assert_eq!(seen.target, "/v1/speak?model=aura-2-orion-en&encoding=mp3");
    assert_eq!(seen.json(), json!({"text": "Grüße!"}));
    assert_eq!(gateway.wait_calls(1)[0]["cost_usd"], "0.00018");
}

fn over_script(up: Upstream, model: &str, prices: &str) -> (Upstream, Gateway) {
    priced(up.strict(deepgram::check), "deepgram", model, prices)
}

#[test]
fn deepgrams_refusals_and_what_it_does_not_do_are_told() {
    let (_, gateway) = over(deepgram::error(429, "TOO_MANY_REQUESTS", "slow down"), "nova-3", "");
    let error = transcribes(&gateway, &[], &wav(1)).error(429);
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("rate_limit_error", "slow down"));
    let (up, gateway) = over(heard(), "nova-3", "");
    for (name, value) in
        [("prompt", "Oslo"), ("callback", "http://127.0.0.1:1/"), ("stream", "true"), ("temperature", "1")]
    {
        let error = transcribes(&gateway, &[(name, value)], &wav(1)).error(400);
        assert_eq!(error.param.as_deref(), Some(name));
    }
    transcribes(&gateway, &[("prompt", "Oslo"), ("drop_params", "true")], &wav(1)).ok();
    assert_eq!(up.requests().len(), 1);
    gateway.chat(super::hello().to_string()).error(501);
    gateway.post("/v1/embeddings", json!({"model": "m", "input": "a"}).to_string()).error(501);
    // What is no sound is Deepgram's to refuse.
    assert!(transcribes(&gateway, &[], b"text").error(400).message.contains("corrupt"));
}
