//! What was heard, told in OpenAI's formats: JSON, text, subtitles.

use super::Wish;
use serde_json::{Value, json};
use std::fmt::Write;

/// OpenAI's `response_format` of transcriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Json,
    /// With times.
    Verbose,
    /// By speaker.
    Diarized,
    Text,
    Srt,
    Vtt,
}

/// A transcript in nobody's words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    pub text: String,
    /// As the provider calls it.
    pub language: Option<String>,
    /// How long the audio plays.
    pub seconds: Option<f64>,
    pub words: Vec<Word>,
    /// The provider's id of it.
    pub id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Word {
    pub word: String,
    /// With its punctuation, and with what stands between it and the next one.
    pub shown: String,
    /// In seconds.
    pub start: f64,
    pub end: f64,
    pub speaker: Option<String>,
    /// It is no noise.
    pub is_said: bool,
}

/// Words that belong together.
#[derive(Debug, PartialEq)]
struct Segment {
    start: f64,
    end: f64,
    text: String,
    speaker: Option<String>,
}

/// A pause of so many seconds parts segments.
const PAUSE: f64 = 2.0;
/// A segment is not longer, in seconds and in characters: two lines of a subtitle.
const LONGEST: f64 = 7.0;
const MOST: usize = 84;
/// A sentence that is shorter goes together with the next one, in characters.
const SHORT: usize = 12;

impl Transcript {
    /// How long the audio plays, in milliseconds, where that is known.
    pub fn millis(&self) -> Option<u64> {
        let seconds = self.seconds.or_else(|| Some(self.words.iter().map(|word| word.end).fold(0.0, f64::max)))?;
        (seconds > 0.0 && seconds < 1e9).then_some((seconds * 1000.0).round() as u64)
    }

    /// The transcript as it is wanted, and whether that is plain text.
    pub fn told(&self, wish: Wish) -> (Vec<u8>, bool) {
        let text = |text: String| (text.into_bytes(), true);
        match wish.format {
            Format::Text => text(format!("{}\n", self.text)),
            Format::Srt => text(self.subtitles(|number, segment| {
                format!("{number}\n{} --> {}\n", clock(segment.start, ','), clock(segment.end, ','))
            })),
            Format::Vtt => text(
                "WEBVTT\n\n".to_owned()
                    + &self.subtitles(|_, segment| {
                        format!("{} --> {}\n", clock(segment.start, '.'), clock(segment.end, '.'))
                    }),
            ),
            Format::Json | Format::Verbose | Format::Diarized => (self.json(wish).to_string().into_bytes(), false),
        }
    }

    fn json(&self, wish: Wish) -> Value {
        let mut told = json!({"text": self.text, "task": "transcribe"});
        if let Some(language) = &self.language {
            told["language"] = language.as_str().into();
        }
        if let Some(millis) = self.millis() {
            let seconds = millis as f64 / 1000.0;
            told["duration"] = json!(seconds);
            told["usage"] = json!({"type": "duration", "seconds": seconds});
        }
        if wish.words {
            let said = self.words.iter().filter(|word| word.is_said);
            told["words"] = said.map(|word| json!({"word": word.word, "start": word.start, "end": word.end})).collect();
        }
        match wish.format {
            Format::Verbose if wish.segments => {
                let segments = self.segments().into_iter().enumerate();
                let one = |(id, s): (usize, Segment)| json!({"id": id, "seek": 0, "start": s.start, "end": s.end, "text": s.text, "tokens": [], "temperature": 0.0});
                told["segments"] = segments.map(one).collect();
            }
            Format::Diarized => {
                let mut speakers: Vec<String> = Vec::new();
                let mut name = |speaker: Option<String>| {
                    let speaker = speaker.unwrap_or_default();
                    let known = speakers.iter().position(|known| *known == speaker);
                    letters(known.unwrap_or_else(|| {
                        speakers.push(speaker);
                        speakers.len() - 1
                    }))
                };
                let segments = self.segments().into_iter().enumerate();
                let one = |(id, s): (usize, Segment)| json!({"type": "transcript.text.segment", "id": format!("seg_{id}"), "start": s.start, "end": s.end, "text": s.text, "speaker": name(s.speaker)});
                told["segments"] = segments.map(one).collect();
            }
            _ => (),
        }
        told
    }

    fn subtitles(&self, head: impl Fn(usize, &Segment) -> String) -> String {
        let mut text = String::new();
        for (place, segment) in self.segments().iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{}\n\n", head(place + 1, segment), segment.text);
        }
        text
    }

    fn segments(&self) -> Vec<Segment> {
        if self.words.is_empty() && !self.text.is_empty() {
            let end = self.seconds.unwrap_or(0.0);
            return vec![Segment { start: 0.0, end, text: self.text.clone(), speaker: None }];
        }
        let mut segments: Vec<Segment> = Vec::new();
        for word in &self.words {
            match segments.last_mut().filter(|segment| segment.takes(word)) {
                Some(segment) => {
                    segment.text.push_str(&word.shown);
                    segment.end = segment.end.max(word.end);
                }
                None => segments.push(Segment {
                    start: word.start,
                    end: word.end,
                    text: word.shown.clone(),
                    speaker: word.speaker.clone(),
                }),
            }
        }
        for segment in &mut segments {
            // A line that is empty would end a subtitle.
            segment.text = segment.text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        segments.retain(|segment| !segment.text.is_empty());
        segments
    }
}

impl Segment {
    fn takes(&self, word: &Word) -> bool {
        let length = self.text.chars().count();
        let has_ended = self.text.trim_end().ends_with(['.', '!', '?', '…', '。', '！', '？']) && length > SHORT;
        self.speaker == word.speaker
            && word.start - self.end < PAUSE
            && word.end - self.start <= LONGEST
            && length + word.shown.trim_end().chars().count() <= MOST
            && !has_ended
    }
}

/// `01:02:03,456`
fn clock(seconds: f64, point: char) -> String {
    let millis = (seconds.clamp(0.0, 359_999.0) * 1000.0).round() as u64;
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    format!("{hours:02}:{minutes:02}:{:02}{point}{:03}", rest / 1000, rest % 1000)
}

/// `A` to `Z`, then `AA`, as OpenAI names speakers.
fn letters(mut number: usize) -> String {
    let mut name = String::new();
    loop {
        name.insert(0, char::from(b'A' + u8::try_from(number % 26).unwrap_or(0)));
        if number < 26 {
            return name;
        }
        number = number / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, start: f64, speaker: &str) -> Word {
        Word {
            word: text.trim().to_owned(),
            shown: text.to_owned(),
            start,
            end: start + 0.5,
            speaker: (!speaker.is_empty()).then(|| speaker.to_owned()),
            is_said: true,
        }
    }

    #[test]
    fn segments_end_where_a_reader_would_end_them() {
        let heard = |words| Transcript { words, text: "x".into(), ..Transcript::default() };
        let texts = |words| heard(words).segments().into_iter().map(|s| s.text).collect::<Vec<_>>();
        let sentences = [("This is a sentence. ", 0.0), ("And ", 0.6), ("one more.", 1.2)];
        assert_eq!(texts(sentences.map(|(t, s)| word(t, s, "")).into()), ["This is a sentence.", "And one more."]);
        assert_eq!(texts(vec![word("Mr. ", 0.0, ""), word("Bean ", 0.5, "")]), ["Mr. Bean"]);
        assert_eq!(texts(vec![word("a ", 0.0, ""), word("b", 5.0, "")]), ["a", "b"]);
        assert_eq!(texts(vec![word("a ", 0.0, "0"), word("b", 0.5, "1")]), ["a", "b"]);
        let long = (0..40).map(|n| word("word\n\n", f64::from(n) * 0.1, "")).collect();
        assert!(texts(long).iter().all(|text| text.len() <= MOST && !text.contains('\n')));
        assert_eq!(texts(Vec::new()), ["x"]);
    }

    #[test]
    fn times_and_speakers_are_written_as_everywhere() {
        assert_eq!((clock(3723.4567, ',').as_str(), clock(-1.0, '.').as_str()), ("01:02:03,457", "00:00:00.000"));
        assert_eq!([0, 25, 26, 701, 702].map(letters), ["A", "Z", "AA", "ZZ", "AAA"]);
    }
}
