//! ElevenLabs.

use super::{priced, sends_speech, transcribes, wav};
use crate::support::forms::parts;
use crate::support::strict::elevenlabs;
use crate::support::{Gateway, Reply, Upstream};
use serde_json::json;

fn heard() -> Reply {
    let word = |text: &str, kind: &str, start: f64| json!({"text": text, "type": kind, "start": start, "end": start + 0.5, "speaker_id": "speaker_0"});
    let told = json!({"language_code": "eng", "text": "Hello Oslo.", "transcription_id": "t1",
        "words": [word("Hello", "word", 0.0), word(" ", "spacing", 0.5), word("Oslo.", "word", 1.0)]});
    Reply::json(200, &told.to_string())
}

fn over(up: Upstream, model: &str, prices: &str) -> (Upstream, Gateway) {
    priced(up.strict(elevenlabs::check), "elevenlabs", model, prices)
}

#[test]
fn elevenlabs_hears_a_form() {
    let (up, gateway) = over(Upstream::new(heard()), "scribe_v1", "input_cost_per_second = 0.001");
    let asked =
        [("language", "en"), ("temperature", "0.2"), ("num_speakers", "2"), ("response_format", "verbose_json")];
    let told = transcribes(&gateway, &asked, &wav(3)).ok();
    assert_eq!(told.header("x-litellm-response-cost").as_deref(), Some("0.003"), "the file plays three seconds");
    let told = told.json();
    assert_eq!((&told["text"], &told["segments"][0]["text"]), (&json!("Hello Oslo."), &json!("Hello Oslo.")));
    let sent = parts(&up.only_request());
    let texts: Vec<(&str, String)> = sent
        .iter()
        .filter(|part| part.filename.is_none())
        .map(|part| (part.name.as_str(), String::from_utf8_lossy(&part.content).into_owned()))
        .collect();
    let expected = [("model_id", "scribe_v1"), ("language_code", "en"), ("temperature", "0.2"), ("num_speakers", "2")];
    assert_eq!(texts, expected.map(|(name, text)| (name, text.to_owned())));
    assert_eq!(sent.last().unwrap().content, wav(3));
    transcribes(&gateway, &[("webhook", "true")], &wav(1)).error(400);
    assert_eq!(gateway.wait_calls(2)[0]["cost_usd"], "0.003");
}

#[test]
fn elevenlabs_speaks_as_the_bytes_come() {
    let (up, gateway) = sends_speech(|up| over(up, "eleven_multilingual_v2", ""), "sage");
    let seen = up.only_request();
    assert_eq!(seen.target, "/v1/text-to-speech/CwhRBWXzGAHq8TQ4Fs17/stream?output_format=mp3_44100_128");
    assert_eq!(seen.json(), json!({"text": "Grüße!", "model_id": "eleven_multilingual_v2"}));
    // Six letters at 0.00008, by the table.
    assert_eq!(gateway.wait_calls(1)[0]["cost_usd"], "0.00048");
}

#[test]
fn elevenlabs_refusals_are_told() {
    let quota = elevenlabs::error(401, "quota_exceeded", "This request exceeds your quota.");
    let (_, gateway) = over(Upstream::new(quota), "scribe_v1", "");
    let answer = transcribes(&gateway, &[], &wav(1));
    let error = answer.error(402);
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("insufficient_quota", "This request exceeds your quota.")
    );
    let (up, gateway) = over(Upstream::new(Reply::json(200, "{}")), "eleven_v3", "");
    let speech = |more: &serde_json::Value| {
        let body = super::with(json!({"model": "m", "input": "a", "voice": "alloy"}), more);
        gateway.post("/v1/audio/speech", body.to_string())
    };
    assert_eq!(speech(&json!({"response_format": "flac"})).error(400).param.as_deref(), Some("response_format"));
    assert_eq!(speech(&json!({"instructions": "Sing."})).error(400).param.as_deref(), Some("instructions"));
    assert_eq!(up.requests().len(), 0);
    speech(&json!({"voice": "nobody"})).error(404);
    assert!(speech(&json!({"speed": 3})).error(400).message.contains("between 0.7 and 1.2"));
    // A voice is one part of the path, whatever it holds.
    speech(&json!({"voice": "../../user"})).error(404);
    assert!(up.requests().last().unwrap().target.starts_with("/v1/text-to-speech/..%2F..%2Fuser/stream?"));
    // It says yes, and sends no sound.
    assert_eq!(speech(&json!({})).error(502).kind, "upstream_error");
}
