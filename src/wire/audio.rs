//! Audio, as far as a call's cost depends on it: how long a file plays, and what transcriptions and speech used.
//!
//! A file is looked at from its first and its last bytes alone. Sources: RFC 3533 (Ogg), RFC 7845 (Opus), RFC 9639
//! (FLAC), RFC 9559 (Matroska), ISO 14496-12 (MP4), ISO 11172-3 and 13818-3 (MPEG audio).

use crate::usage::Usage;
use memchr::memmem;
use serde_json::Value;

/// How much of each end of a file is looked at.
pub const LOOK: usize = 64 << 10;
/// Longer than any file of an API.
const MOST_MILLIS: u64 = 1000 * 60 * 60 * 100;

/// How long a file of that many bytes plays, in milliseconds; none where its ends do not say.
pub fn millis(head: &[u8], tail: &[u8], length: u64) -> Option<u64> {
    let millis = match head {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => wav(head, length),
        [b'f', b'L', b'a', b'C', ..] => flac(head),
        [b'O', b'g', b'g', b'S', ..] => ogg(head, tail),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska(head),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => mp4(head).or_else(|| mp4(tail)),
        _ => mpeg(head, length),
    }?;
    (millis > 0 && millis <= MOST_MILLIS).then_some(millis)
}

/// For want of a length: speech is seldom packed tighter than into 32 kbit/s.
pub fn guess(length: u64) -> u64 {
    length / 4
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn wav(head: &[u8], length: u64) -> Option<u64> {
    let (mut at, mut rate) = (12usize, None);
    loop {
        let size = little(head, at + 4)?;
        match head.get(at..at + 4)? {
            b"fmt " => rate = Some(u64::from(little(head, at + 16)?)),
            b"data" => {
                // Whoever streams does not know the size, and writes the largest, or none.
                let rest = length.saturating_sub(at as u64 + 8);
                let size = if size == 0 { rest } else { u64::from(size).min(rest) };
                return (size * 1000).checked_div(rate?);
            }
            _ => (),
        }
        at = at.checked_add(8 + size as usize + (size as usize & 1))?;
    }
}

fn flac(head: &[u8]) -> Option<u64> {
    let packed = u64::from(big(head, 18)?) << 32 | u64::from(big(head, 22)?);
    let (rate, samples) = (packed >> 44, packed & 0xf_ffff_ffff);
    (samples * 1000).checked_div(rate)
}

fn ogg(head: &[u8], tail: &[u8]) -> Option<u64> {
    let (rate, skipped) = match (memmem::find(head, b"OpusHead"), memmem::find(head, b"\x01vorbis")) {
        (Some(at), _) => (48_000, u64::from(*head.get(at + 10)?) | u64::from(*head.get(at + 11)?) << 8),
        (_, Some(at)) => (u64::from(little(head, at + 12)?), 0),
        _ => return None,
    };
    let page = memmem::rfind(tail, b"OggS")?;
    let granule = u64::from(little(tail, page + 6)?) | u64::from(little(tail, page + 10)?) << 32;
    granule.saturating_sub(skipped).checked_mul(1000)?.checked_div(rate)
}

fn mp4(part: &[u8]) -> Option<u64> {
    let at = memmem::find(part, b"mvhd")? + 4;
    let (scale, duration) = match part.get(at)? {
        1 => (big(part, at + 20)?, u64::from(big(part, at + 24)?) << 32 | u64::from(big(part, at + 28)?)),
        _ => (big(part, at + 12)?, u64::from(big(part, at + 16)?)),
    };
    duration.checked_mul(1000)?.checked_div(u64::from(scale))
}

/// What browsers record has no length.
fn matroska(head: &[u8]) -> Option<u64> {
    let info = memmem::find(head, &[0x15, 0x49, 0xa9, 0x66])?;
    let info = &head[info..];
    let scale = memmem::find(info, &[0x2a, 0xd7, 0xb1, 0x83]).and_then(|at| info.get(at + 4..at + 7));
    let scale = scale.map_or(1_000_000, |b| u32::from_be_bytes([0, b[0], b[1], b[2]]));
    let at = memmem::find(info, &[0x44, 0x89])?;
    let ticks = match info.get(at + 2)? {
        0x84 => f64::from(f32::from_be_bytes(info.get(at + 3..at + 7)?.try_into().ok()?)),
        0x88 => f64::from_be_bytes(info.get(at + 3..at + 11)?.try_into().ok()?),
        _ => return None,
    };
    let millis = ticks * f64::from(scale) / 1e6;
    millis.is_finite().then_some(millis.max(0.0) as u64)
}

/// MP3 by the count of frames that its first one tells, else by its rate.
fn mpeg(head: &[u8], length: u64) -> Option<u64> {
    const RATES: [[u64; 15]; 2] = [
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let start = match head {
        [b'I', b'D', b'3', _, _, _, a, b, c, d, ..] => {
            let size = [a, b, c, d].iter().fold(0usize, |sum, byte| sum << 7 | usize::from(**byte & 0x7f));
            size + 10
        }
        _ => 0,
    };
    let frame = head.get(start..start + 4)?;
    // Eleven bits of synchrony, and layer III.
    if frame[0] != 0xff || frame[1] & 0xe0 != 0xe0 || frame[1] & 0x06 != 0x02 {
        return None;
    }
    let version = frame[1] >> 3 & 3;
    let is_first = version == 3;
    let divided = match version {
        3 => 1,
        2 => 2,
        0 => 4,
        _ => return None,
    };
    let samples_a_second = *[44_100u64, 48_000, 32_000].get(usize::from(frame[2] >> 2 & 3))? / divided;
    let rate = *RATES[usize::from(!is_first)].get(usize::from(frame[2] >> 4))?;
    let samples_a_frame = if is_first { 1152 } else { 576 };
    let beginning = &head[start..head.len().min(start + 64)];
    let count = memmem::find(beginning, b"Xing").or_else(|| memmem::find(beginning, b"Info"));
    if let Some(at) = count
        && big(beginning, at + 4)? & 1 == 1
    {
        return (u64::from(big(beginning, at + 8)?) * samples_a_frame * 1000).checked_div(samples_a_second);
    }
    (length.saturating_sub(start as u64) * 8).checked_div(rate)
}

/// What a transcription or speech used, by an answer or an event of one: tokens, or seconds that were heard.
pub fn usage(json: &[u8]) -> Option<Usage> {
    let told: Value = serde_json::from_slice(json).ok()?;
    let millis =
        |seconds: &Value| seconds.as_f64().filter(|s| (0.0..1e9).contains(s)).map(|s| (s * 1000.0).round() as u64);
    // Groq and others put it where only they look.
    let usage = [&told["usage"], &told["x_groq"]["usage"]].into_iter().find(|usage| usage.is_object());
    let seconds = usage.and_then(|usage| millis(&usage["seconds"])).or_else(|| millis(&told["duration"]));
    let count = |name: &str| usage.and_then(|usage| usage[name].as_u64());
    let details = |name: &str| usage.and_then(|usage| usage["input_token_details"][name].as_u64());
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    if seconds.is_none() && input.is_none() && output.is_none() {
        return None;
    }
    Some(Usage {
        prompt_tokens: input.unwrap_or(0),
        completion_tokens: output.unwrap_or(0),
        audio_in_tokens: details("audio_tokens").unwrap_or(0),
        millis_in: seconds.unwrap_or(0),
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wav_of(data: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend_from_slice(&24_000u32.to_le_bytes());
        file.extend_from_slice(&48_000u32.to_le_bytes());
        file.extend_from_slice(b"\x02\0\x10\0data");
        file.extend_from_slice(&data.to_le_bytes());
        file
    }

    #[test]
    fn each_format_says_how_long_it_plays() {
        let long = |head: &[u8], length: u64| millis(head, head, length);
        let file = wav_of(96_000);
        assert_eq!(long(&file, file.len() as u64 + 96_000), Some(2000));
        let file = wav_of(u32::MAX);
        assert_eq!(long(&file, file.len() as u64 + 24_000), Some(500));
        // MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 16,000 bytes a second.
        let mut mp3 = vec![0xff, 0xfb, 0x90, 0x00];
        mp3.resize(100, 0);
        assert_eq!(long(&mp3, 160_000), Some(10_000));
        let tagged = [b"ID3\x04\0\0\0\0\0\x05hello".as_slice(), &mp3].concat();
        assert_eq!(long(&tagged, 160_015), Some(10_000));
        mp3[36..48].copy_from_slice(b"Xing\0\0\0\x01\0\0\0\x0a");
        assert_eq!(long(&mp3, 7), Some(10 * 1152 * 1000 / 44_100));
        let mut flac = b"fLaC\0\0\0\x22".to_vec();
        flac.resize(18, 0);
        flac.extend_from_slice(&((16_000u64 << 44) | 40_000).to_be_bytes());
        assert_eq!(long(&flac, 9), Some(2500));
        let mut opus = b"OggS\0\0........OpusHead\x01\x01".to_vec();
        opus.extend_from_slice(&[0x38, 0x01]);
        opus.extend_from_slice(b"..................OggS\0\x04");
        opus.extend_from_slice(&(48_000u64 + 312).to_le_bytes());
        assert_eq!(long(&opus, 9), Some(1000));
        let mut mp4 = b"\0\0\0\x18ftypM4A ....moov....mvhd\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        mp4.extend_from_slice(&600u32.to_be_bytes());
        mp4.extend_from_slice(&900u32.to_be_bytes());
        assert_eq!(long(&mp4, 9), Some(1500));
        let mut webm = vec![0x1a, 0x45, 0xdf, 0xa3, 0x15, 0x49, 0xa9, 0x66, 0x90, 0x44, 0x89, 0x84];
        webm.extend_from_slice(&1234.0f32.to_be_bytes());
        assert_eq!(long(&webm, 9), Some(1234));
        assert_eq!((long(b"text", 9), long(b"", 0)), (None, None));
    }

    #[test]
    fn tokens_and_seconds_are_told_apart() {
        let told = |text: &str| {
            usage(text.as_bytes()).map(|u| (u.prompt_tokens, u.completion_tokens, u.audio_in_tokens, u.millis_in))
        };
        let tokens = r#"{"text":"a","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"input_token_details":{"audio_tokens":10,"text_tokens":4}}}"#;
        assert_eq!(told(tokens), Some((14, 45, 10, 0)));
        assert_eq!(told(r#"{"text":"a","usage":{"type":"duration","seconds":3}}"#), Some((0, 0, 0, 3000)));
        assert_eq!(told(r#"{"text":"a","duration":8.47,"segments":[]}"#), Some((0, 0, 0, 8470)));
        assert_eq!(told(r#"{"text":"a"}"#), None);
        assert_eq!(told("1\n00:00:00,000 --> 00:00:01,000\na"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            magic in prop::sample::select(vec![&b"RIFF....WAVE"[..], b"fLaC", b"OggS", b"....ftypmvhd", b"\x1a\x45\xdf\xa3\x15\x49\xa9\x66", b"ID3\x03\0\0", b"\xff\xfb", b""]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            length in any::<u64>(),
        ) {
            let head = [magic, &rest].concat();
            let _ = millis(&head, &rest, length / 16);
            let _ = usage(&head);
        }
    }
}
