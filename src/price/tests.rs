//! Charges computed by hand, and the built-in table against its facts.

use super::rates::{Moment, Rate, When};
use super::*;
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

fn price(fields: &str) -> Price {
    table::parse_line(&format!("acme\tx\tchat\t{fields}")).unwrap().price
}

fn mode(mode: &str, fields: &str) -> Price {
    table::parse_line(&format!("acme\tx\t{mode}\t{fields}")).unwrap().price
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2026-11-20.
const NOW: u64 = 1_795_132_800;

fn nanos(price: &Price, tokens: Tokens) -> u64 {
    let charge = price.charge(&tokens, at(NOW));
    assert_eq!(charge.input_nanos + charge.output_nanos + charge.other_nanos, charge.nanos);
    assert!(!charge.unpriced, "{tokens:?}");
    charge.nanos
}

// A dollar per million tokens is 1000 nano-dollars per token, which is how the sums below are told.
#[test]
fn token_charges_are_the_hand_computed_ones() {
    let none = Tokens::default();
    let chat = |prompt, completion| Tokens { prompt, completion, ..none };
    let cached = |cached, cache_write, cache_write_1h| Tokens { cached, cache_write, cache_write_1h, ..chat(1000, 0) };
    let claude = "in=3;out=15;read=0.3;write=3.75;write1h=6";
    let gemini = "in=1.25;in>200000=2.5;out=10;out>200000=15;read=0.125;read>200000=0.25";
    for (fields, tokens, expected) in [
        // 7 x 2500 + 3 x 10000
        ("in=2.5;out=10", chat(7, 3), 47_500),
        // 1 x 0.0002 dollars per million = 0.2 nano-dollars: less than a half
        ("in=0.0002;out=0", chat(1, 0), 0),
        // 0.5 is rounded up
        ("in=0.0005;out=0", chat(1, 0), 1),
        // 0.3 + 0.3 = 0.6: one sum, rounded once; the parts alone would be 0
        ("in=0.0003;out=0.0003", chat(1, 1), 1),
        ("in=0;out=0", chat(1000, 1000), 0),
        // 600 x 3000 + 400 x 300
        (claude, cached(400, 0, 0), 1_920_000),
        // 500 x 3000 + 200 x 300 + 300 x 3750
        (claude, cached(200, 300, 0), 2_685_000),
        // 700 x 3000 + 200 x 3750 + 100 x 6000, of 300 written 100 for an hour
        (claude, cached(0, 300, 100), 3_450_000),
        // no cache rates: all 1000 x 3000
        ("in=3;out=15", cached(400, 300, 100), 3_000_000),
        // no rate of an hour: 700 x 3000 + 300 x 3750
        ("in=3;out=15;write=3.75", cached(0, 300, 300), 3_225_000),
        // reads are free, as stated: 600 x 3000
        ("in=3;out=15;read=0", cached(400, 0, 0), 1_800_000),
        // more parts than the whole: the parts are charged, the rest is none: 1500 x 300
        (claude, cached(1500, 0, 0), 450_000),
        // at the threshold: 200000 x 1250 + 10 x 10000
        (gemini, chat(200_000, 10), 250_100_000),
        // above it every token: 200001 x 2500 + 10 x 15000
        (gemini, chat(200_001, 10), 500_152_500),
        // cached ones count for the threshold: 100001 x 2500 + 100000 x 250
        (gemini, Tokens { cached: 100_000, ..chat(200_001, 0) }, 275_002_500),
        // a tier without a cache rate keeps the base's: 1 x 4000 + 200000 x 200
        ("in=2;in>200000=4;out=0;read=0.2", Tokens { cached: 200_000, ..chat(200_001, 0) }, 40_004_000),
        // several ranges: 128001 x 3000
        ("in=1.2;in>32000=2.4;in>128000=3;out=6", chat(128_001, 0), 384_003_000),
        // 32001 x 2400
        ("in=1.2;in>32000=2.4;in>128000=3;out=6", chat(32_001, 0), 76_802_400),
        // 60 x 400 + 40 x 4000
        ("in=0;out=0.4;reasoning=4", Tokens { reasoning: 40, ..chat(0, 100) }, 184_000),
        // reasoning within the output: 100 x 400
        ("in=0;out=0.4", Tokens { reasoning: 40, ..chat(0, 100) }, 40_000),
        // the tier's output price is that of reasoning too: 201 x 1000 + 100 x 900
        ("in=1;out=0.4;out>200=0.9;reasoning=0.4", Tokens { reasoning: 40, ..chat(201, 100) }, 291_000),
        // 80 x 300 + 20 x 1000 + 30 x 2000 + 10 x 12000
        ("in=0.3;out=2;audio_in=1;audio_out=12", Tokens { audio_in: 20, audio_out: 10, ..chat(100, 40) }, 224_000),
        // audio of a model without such prices is text: 100 x 300
        ("in=0.3;out=2", Tokens { audio_in: 20, ..chat(100, 0) }, 30_000),
        // 50 x 5000 + 50 x 10000 + 100 x 40000
        ("in=5;image_in=10;image_out=40", Tokens { image_in: 50, image_out: 100, ..chat(100, 100) }, 4_750_000),
        // what makes images alone makes images, said or not: 100 x 5000 + 100 x 40000
        ("in=5;image_in=10;image_out=40", chat(100, 100), 4_500_000),
        // 10 x 1000 + 2 searches at a cent
        ("in=1;out=1;search_medium=0.01;search_high=0.02", Tokens { searches: 2, ..chat(10, 0) }, 20_010_000),
        // 10 x 1000 + the request
        ("in=1;out=1;request=0.005", chat(10, 0), 5_010_000),
    ] {
        assert_eq!(nanos(&price(fields), tokens), expected, "{fields} {tokens:?}");
    }
}

#[test]
fn charges_by_other_units_are_the_hand_computed_ones() {
    let none = Tokens::default();
    for (kind, fields, tokens, expected) in [
        // whisper states the second of both sides; it is one: 1.5 x 0.0001 dollars
        ("audio_transcription", "second_in=0.0001;second_out=0.0001", Tokens { millis_in: 1500, ..none }, 150_000),
        // one millisecond of 0.0001 is 100 nano-dollars
        ("audio_transcription", "second_out=0.0001", Tokens { millis_in: 1, ..none }, 100),
        // tokens were counted, so seconds are not charged: 10 x 2500
        (
            "audio_transcription",
            "in=2.5;out=10;second_in=0.0001",
            Tokens { prompt: 10, millis_in: 9000, ..none },
            25_000,
        ),
        // and they are where tokens were not
        ("audio_transcription", "in=2.5;out=10;second_in=0.0001", Tokens { millis_in: 9000, ..none }, 900_000),
        // 1000 letters x 0.000015
        ("audio_speech", "character_in=0.000015", Tokens { characters_in: 1000, ..none }, 15_000_000),
        // 2 x 0.04
        ("image_generation", "picture_out=0.04", Tokens { pictures_out: 2, prompt: 20, ..none }, 80_000_000),
        // tokens of the image were counted: 1290 x 30000 and not 0.039 besides
        (
            "image_generation",
            "in=0.3;out=2.5;image_out=30;picture_out=0.039",
            Tokens { pictures_out: 1, completion: 1290, image_out: 1290, ..none },
            38_700_000,
        ),
        // 1024 x 1024 x 0.00000002
        ("image_generation", "pixel_out=0.00000002", Tokens { pixels_out: 1_048_576, ..none }, 20_971_520),
        // 3 x 0.002
        ("rerank", "in=0;out=0;query=0.002", Tokens { queries: 3, prompt: 500, ..none }, 6_000_000),
        // text and pictures: 10 x 800 + 2 x 0.00006
        ("embedding", "in=0.8;out=0;picture_in=0.00006", Tokens { prompt: 10, pictures_in: 2, ..none }, 128_000),
        // a deployment priced by its time: 2.5 x 0.001
        ("chat", "second_in=0.001", Tokens { prompt: 10, completion: 5, millis_in: 2500, ..none }, 2_500_000),
    ] {
        assert_eq!(nanos(&mode(kind, fields), tokens), expected, "{kind} {fields}");
    }
}

#[test]
fn what_has_no_price_is_said() {
    let used = |prompt, completion, searches| Tokens { prompt, completion, searches, ..Tokens::default() };
    for (fields, tokens, unpriced) in [
        ("in=1;out=1", used(1, 1, 0), false),
        ("in=1", used(1, 0, 0), false),
        ("in=1", used(1, 1, 0), true),
        ("out=1", used(1, 1, 0), true),
        ("in=1;out=1", used(1, 1, 1), true),
        ("picture_out=1", used(9, 0, 0), false),
        ("search_medium=1", used(9, 0, 1), true),
        ("in=1;out=1", Tokens { pictures_out: 1, ..Tokens::default() }, true),
        ("in=0;out=0", Tokens { pictures_out: 1, ..Tokens::default() }, false),
    ] {
        assert_eq!(price(fields).charge(&tokens, at(NOW)).unpriced, unpriced, "{fields} {tokens:?}");
    }
}

#[test]
fn services_dates_and_hours_count() {
    let tokens = Tokens { prompt: 10, completion: 1, ..Tokens::default() };
    let batch = price("in=2;in@batches=1;out=4;out@batches=2;out@priority=8;reasoning=4");
    // 10 x 1000 + 1 x 2000; priority has a price of its own for the output alone: 10 x 2000 + 1 x 8000
    for (name, expected) in [("batches", 12_000), ("priority", 28_000), ("default", 24_000), ("auto", 24_000)] {
        assert_eq!(batch.charge_as(&tokens, at(NOW), Service::named(name)).nanos, expected, "{name}");
    }
    let argon = Prices::built_in().find("gemini", "gemini-4-argon").unwrap();
    let december = schedule::day("2026-12-01").unwrap();
    // 10 x 2000 + 1 x 10000, then 10 x 4000 + 1 x 20000
    assert_eq!(argon.charge(&tokens, at(december - 1)).nanos, 30_000);
    assert_eq!(argon.charge(&tokens, at(december)).nanos, 60_000);
    // The peak price without hours; with them, 16:30 to 00:30 UTC at half of it.
    let deepseek = Prices::built_in().find("deepseek", "deepseek-v4-pro").unwrap();
    assert_eq!(deepseek.charge(&tokens, at(0)).nanos, 10 * 1320 + 3960);
    let night = price("in=2;in~=1;out=4;out~=2;off_peak=16:30-00:30");
    assert_eq!(night.charge(&tokens, at(december + 16 * 3600 + 1800)).nanos, 12_000);
    assert_eq!(night.charge(&tokens, at(december + 16 * 3600 + 1799)).nanos, 24_000);
    // Before 1970 is 1970.
    assert_eq!(argon.charge(&tokens, SystemTime::UNIX_EPOCH - Duration::from_secs(9)).nanos, 30_000);
}

fn rate(provider: &str, model: &str, rate: Rate, prompt: u64) -> Option<u64> {
    Prices::built_in().find(provider, model)?.rate(rate, Moment { prompt, at: NOW, ..Moment::default() })
}

#[test]
fn well_known_models_cost_what_their_vendors_say() {
    let million = 1_000_000;
    for (provider, model, input, output, read) in [
        ("openai", "gpt-4o", 2.5, 10.0, Some(1.25)),
        ("openai", "gpt-5.5", 5.0, 30.0, Some(0.5)),
        ("anthropic", "claude-sonnet-4-5", 3.0, 15.0, Some(0.3)),
        ("anthropic", "claude-opus-5", 5.0, 25.0, Some(0.5)),
        ("gemini", "gemini-2.5-pro", 1.25, 10.0, Some(0.125)),
        ("gemini", "gemini-2.5-flash", 0.3, 2.5, Some(0.03)),
        ("deepseek", "deepseek-v4-pro", 1.32, 3.96, Some(0.044)),
        ("xai", "grok-4.20", 1.25, 2.5, Some(0.2)),
        ("openrouter", "openai/gpt-4o", 2.5, 10.0, Some(1.25)),
        ("dashscope", "qwen3-max", 1.2, 6.0, None),
        ("opencode", "big-pickle", 0.0, 0.0, Some(0.0)),
    ] {
        let pico = |usd: f64| Some((usd * f64::from(million)).round() as u64);
        assert_eq!(rate(provider, model, Rate::Input, 1), pico(input), "{model}");
        assert_eq!(rate(provider, model, Rate::Output, 1), pico(output), "{model}");
        assert_eq!(rate(provider, model, Rate::CacheRead, 1), read.and_then(pico), "{model}");
    }
    assert_eq!(rate("openai", "gpt-5.5", Rate::Input, 272_001), Some(10_000_000));
    assert_eq!(rate("anthropic", "claude-sonnet-4-5", Rate::CacheWrite1h, 1), Some(6_000_000));
}

#[test]
fn names_are_found_as_litellm_users_write_them() {
    for (provider, model, same_as) in [
        ("openai", "GPT-4O", ("openai", "gpt-4o")),
        ("openai", "gpt-4o-2026-01-31", ("openai", "gpt-4o")),
        ("anthropic", "claude-sonnet-4-5-latest", ("anthropic", "claude-sonnet-4-5")),
        ("anthropic", "claude-opus-5-20260101", ("anthropic", "claude-opus-5")),
        ("openai", "ft:gpt-4o-2024-08-06:me::id", ("openai", "ft:gpt-4o-2024-08-06")),
        (
            "bedrock_converse",
            "ca.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ),
        ("vertex_ai", "claude-opus-5", ("vertex_ai", "claude-opus-5@default")),
        ("openrouter", "openai/gpt-4o:nitro", ("openrouter", "openai/gpt-4o")),
        ("vertex_ai", "claude-opus-5@20260101", ("vertex_ai", "claude-opus-5@default")),
        ("amazon_nova", "nova-pro-v1", ("amazon_nova", "amazon-nova/nova-pro-v1")),
        ("azure", "global/gpt-4o", ("azure", "gpt-4o")),
        ("fireworks_ai", "glm-4p7", ("fireworks_ai", "accounts/fireworks/models/glm-4p7")),
        ("ollama_chat", "llama3:latest", ("ollama", "llama3")),
    ] {
        let found = Prices::built_in().find(provider, model);
        assert!(found.is_some(), "{provider}/{model}");
        assert_eq!(found, Prices::built_in().find(same_as.0, same_as.1), "{provider}/{model}");
    }
    for (provider, model) in [
        ("openai", "gpt-4o-mini-plus"),
        ("openai", "gpt"),
        ("openai", ""),
        ("openai", "ft:gpt-4o"),
        ("custom_openai", "gpt-4o"),
        ("azure_ai", "jais-30b-chat"),
        ("openrouter", "openai/gpt-4o:free"),
    ] {
        assert_eq!(Prices::built_in().find(provider, model), None, "{provider}/{model}");
    }
    let facts = Prices::built_in().facts("azure_ai", "jais-30b-chat").unwrap();
    assert_eq!(facts.max_input_tokens, Some(8192));
}

#[test]
fn every_built_in_row_can_be_read_and_found() {
    let (mut rows, mut providers) = (0, std::collections::BTreeSet::new());
    let mut before: Option<Row> = None;
    for line in BUILT_IN.lines().filter(|line| !line.starts_with('#')) {
        let row = table::parse_line(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(row.line(), line);
        assert!(before.as_ref().is_none_or(|b| b.order(&row).is_lt()), "{line}");
        if row.price.is_priced() {
            assert!(Prices::built_in().find(&row.provider, &row.model).is_some(), "{line}");
        }
        providers.insert(row.provider.clone());
        rows += 1;
        before = Some(row);
    }
    let header = BUILT_IN.lines().next().unwrap();
    assert!(header.contains("2026-11-20"), "{header}");
    assert!(header.contains(&format!("{rows} models of {} providers", providers.len())), "{header}");
}

#[test]
fn a_price_map_wins_over_the_table() {
    let prices = Prices::with_map(
        r#"{"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
            "claude-opus-5": {"litellm_provider": "anthropic", "max_input_tokens": 7},
            "house/own": {"mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}}"#,
    )
    .unwrap();
    let charge = |provider: &str, model: &str| {
        let tokens = Tokens { prompt: 10, completion: 10, cached: 10, ..Tokens::default() };
        prices.find(provider, model).map(|p| p.charge(&tokens, at(NOW)).nanos)
    };
    // The whole entry counts, so the cached ten cost what others do: 10 x 1000 + 10 x 2000.
    assert_eq!(charge("openai", "gpt-4o"), Some(30_000));
    assert_eq!(charge("house", "own"), Some(0));
    // An entry without a price hides none: 10 x 500 + 10 x 25000
    assert_eq!(charge("anthropic", "claude-opus-5"), Some(255_000));
    assert_eq!(prices.facts("anthropic", "claude-opus-5").unwrap().max_input_tokens, Some(7));
    assert_eq!(prices.models("house").collect::<Vec<_>>(), [("own", "chat")]);
    let openai: Vec<_> = prices.models("openai").filter(|(_, mode)| is_chat(mode)).collect();
    assert!(openai.contains(&("gpt-4o", "chat")) && !openai.iter().any(|(m, _)| *m == "whisper-1"));
    assert!(Prices::with_map(r#"{"a/b": {"input_cost_per_token": true}}"#).unwrap_err().contains("'a/b'"));
}

#[test]
fn looking_through_the_table_takes_no_time() {
    let start = std::time::Instant::now();
    let table = Table::from_text(BUILT_IN);
    assert!(table.rows("openai", "gpt-4o").next().is_some());
    // Far more than it takes, for machines that are busy.
    assert!(start.elapsed() < Duration::from_millis(200));
}

prop_compose! {
    fn any_tokens()(n in prop::collection::vec(0u64..1_000_000, 10)) -> Tokens {
        Tokens {
            prompt: n[0], completion: n[1], cached: n[2] % (n[0] / 4 + 1), cache_write: n[3] % (n[0] / 4 + 1),
            cache_write_1h: n[4] % (n[0] / 8 + 1), reasoning: n[5] % (n[1] / 4 + 1), audio_in: n[6] % (n[0] / 4 + 1),
            audio_out: n[7] % (n[1] / 4 + 1), searches: n[8] % 5, millis_in: n[9], ..Tokens::default()
        }
    }
}

prop_compose! {
    fn any_price()(rates in prop::collection::vec((0usize..23, 0u64..100_000_000), 0..12)) -> Price {
        let mut price = Price::default();
        for (rate, pico) in rates {
            price.set(rates::SPECS[rate].rate, When::default(), pico);
        }
        price
    }
}

proptest! {
    #[test]
    fn more_tokens_never_cost_less(price in any_price(), input in 0u64..100_000_000, tokens in any_tokens(), more in 1u64..100_000) {
        let mut price = price;
        price.set(Rate::Input, When::default(), input);
        let cost = |tokens: &Tokens| price.charge(tokens, at(NOW)).nanos;
        let prompt = Tokens { prompt: tokens.prompt.max(1), millis_in: 0, ..tokens };
        let grown = Tokens { prompt: prompt.prompt + more, ..prompt };
        prop_assert!(cost(&grown) >= cost(&prompt));
        let completion = Tokens { completion: tokens.completion.max(1), ..tokens };
        let grown = Tokens { completion: completion.completion + more, ..completion };
        prop_assert!(cost(&grown) >= cost(&completion));
        let grown = Tokens { searches: tokens.searches + more, ..tokens };
        prop_assert!(cost(&grown) >= cost(&tokens));
    }

    #[test]
    fn the_sum_is_exact(input in 0u64..10_000_000_000, output in 0u64..10_000_000_000, prompt in 0u64..1_000_000_000, completion in 0u64..1_000_000_000) {
        let mut price = Price::default();
        price.set(Rate::Input, When::default(), input);
        price.set(Rate::Output, When::default(), output);
        let charge = price.charge(&Tokens { prompt, completion, ..Tokens::default() }, at(NOW));
        let exact = u128::from(input) * u128::from(prompt) + u128::from(output) * u128::from(completion);
        prop_assert_eq!(u128::from(charge.nanos), (exact + 500) / 1000);
        prop_assert_eq!(charge.input_nanos + charge.output_nanos + charge.other_nanos, charge.nanos);
    }

    #[test]
    fn no_count_overflows(price in any_price(), n in prop::collection::vec(any::<u64>(), 10), at in any::<u32>()) {
        let tokens = Tokens {
            prompt: n[0], completion: n[1], cached: n[2], cache_write: n[3], cache_write_1h: n[4], reasoning: n[5],
            searches: n[6], pictures_out: n[7], millis_in: n[8], millis_out: n[9], ..Tokens::default()
        };
        let charge = price.charge(&tokens, self::at(u64::from(at)));
        prop_assert_eq!(charge.input_nanos + charge.output_nanos + charge.other_nanos, charge.nanos);
    }

    #[test]
    fn any_name_is_looked_for(provider in "openai|bedrock|.{0,8}", model in ".{0,30}") {
        let _ = Prices::built_in().find(&provider, &model);
        let _ = Prices::built_in().models(&provider).count();
    }
}
