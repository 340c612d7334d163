//! What a call costs.

use super::rates::{Moment, Price, Rate, Service};
use super::schedule;
use std::time::SystemTime;

/// What a call used. Parts are counted within their whole, as OpenAI counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All of the prompt: cached, written and special ones included.
    pub prompt: u64,
    /// All of the answer: reasoning included.
    pub completion: u64,
    /// Of the prompt: read from a cache.
    pub cached: u64,
    /// Of the prompt: written to a cache, for however long.
    pub cache_write: u64,
    /// Of the written: those kept for an hour.
    pub cache_write_1h: u64,
    /// Of the completion.
    pub reasoning: u64,
    /// Of the prompt.
    pub audio_in: u64,
    /// Of the completion.
    pub audio_out: u64,
    /// Of the prompt.
    pub image_in: u64,
    /// Of the completion.
    pub image_out: u64,
    /// Web searches that the provider made.
    pub searches: u64,
    /// Whole pictures sent and made.
    pub pictures_in: u64,
    pub pictures_out: u64,
    /// Audio heard and spoken (or the time of the call, where a deployment is priced by that), in milliseconds.
    pub millis_in: u64,
    pub millis_out: u64,
    /// Letters to be spoken, and letters made.
    pub characters_in: u64,
    pub characters_out: u64,
    pub pixels_in: u64,
    pub pixels_out: u64,
    /// Rerank queries.
    pub queries: u64,
}

/// The cost of a call. The three parts add up to the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charge {
    /// Nano-dollars.
    pub nanos: u64,
    pub input_nanos: u64,
    pub output_nanos: u64,
    /// Searches, and what is charged by the request.
    pub other_nanos: u64,
    /// Something was used that has no price: the true cost is higher.
    pub unpriced: bool,
}

/// Sums are exact: thousandths of a pico-dollar, since seconds are counted in thousandths.
const PER_UNIT: u128 = 1000;
/// Of these, in a nano-dollar.
const PER_NANO: u128 = 1000 * PER_UNIT;

impl Price {
    /// What a call costs at that time, at the standard class of service.
    pub fn charge(&self, tokens: &Tokens, at: SystemTime) -> Charge {
        self.charge_as(tokens, at, Service::Standard)
    }

    /// What a call costs at that time and class of service.
    pub fn charge_as(&self, tokens: &Tokens, at: SystemTime, service: Service) -> Charge {
        let moment = Moment { service, prompt: tokens.prompt, at: schedule::seconds(at) };
        let mut sheet = Sheet { price: self, moment, unpriced: false };
        let input = sheet.input(tokens);
        let output = sheet.output(tokens);
        let other = sheet.other(tokens);
        if input == 0 && output == 0 && other == 0 {
            sheet.unpriced |= sheet.uncounted(tokens);
        }
        // Each part is what the rounded sum grows by, so that nothing is rounded twice.
        let (upto_input, upto_output) = (nanos(input), nanos(input.saturating_add(output)));
        let all = nanos(input.saturating_add(output).saturating_add(other));
        Charge {
            nanos: all,
            input_nanos: upto_input,
            output_nanos: upto_output - upto_input,
            other_nanos: all - upto_output,
            unpriced: sheet.unpriced,
        }
    }
}

/// Rounds half up, once.
fn nanos(exact: u128) -> u64 {
    u64::try_from(exact.saturating_add(PER_NANO / 2) / PER_NANO).unwrap_or(u64::MAX)
}

struct Sheet<'a> {
    price: &'a Price,
    moment: Moment,
    unpriced: bool,
}

impl Sheet<'_> {
    fn rate(&self, rate: Rate) -> Option<u64> {
        self.price.rate(rate, self.moment)
    }

    /// The cost of whole units; `None` without a price for them.
    fn units(&self, rate: Rate, count: u64) -> Option<u128> {
        self.rate(rate).map(|pico| cost(count, pico))
    }

    /// The rate of text. Models that take or make nothing but audio or images state only the rate of these.
    fn text_rate(&self, rates: [Rate; 3]) -> Option<u64> {
        rates.iter().find_map(|rate| self.rate(*rate))
    }

    fn input(&mut self, used: &Tokens) -> u128 {
        let input = self.text_rate([Rate::Input, Rate::AudioIn, Rate::ImageTokenIn]);
        let written_1h = used.cache_write_1h.min(used.cache_write);
        let written = used.cache_write - written_1h;
        let write = self.rate(Rate::CacheWrite).or(input);
        let audio = self.rate(Rate::AudioIn).map(|pico| (used.audio_in, pico));
        let image = self.rate(Rate::ImageTokenIn).map(|pico| (used.image_in, pico));
        let apart = [
            self.rate(Rate::CacheRead).or(input).map(|pico| (used.cached, pico)),
            write.map(|pico| (written, pico)),
            self.rate(Rate::CacheWrite1h).or(write).map(|pico| (written_1h, pico)),
            audio,
            image,
        ];
        let (tokens, text) = split(used.prompt, &apart, input);
        let transcribes = self.price.facts.mode.as_deref() == Some("audio_transcription");
        let mut units = 0u128;
        if used.prompt == 0 || input.is_none() {
            let millis = self.rate(Rate::SecondIn).or_else(|| self.rate(Rate::SecondOut).filter(|_| transcribes));
            units = units.saturating_add(u128::from(used.millis_in) * u128::from(millis.unwrap_or(0)));
            for (rate, count) in [(Rate::CharacterIn, used.characters_in), (Rate::PixelIn, used.pixels_in)] {
                units = units.saturating_add(self.units(rate, count).unwrap_or(0));
            }
        }
        // A chat counts its pictures as tokens; an embedding model is sent either.
        if used.prompt == 0 || input.is_none() || self.price.facts.mode.as_deref() == Some("embedding") {
            units = units.saturating_add(self.units(Rate::ImageIn, used.pictures_in).unwrap_or(0));
        }
        self.unpriced |= input.is_none() && text > 0 && units == 0 && !self.is_by_unit();
        tokens.saturating_add(units)
    }

    fn output(&mut self, used: &Tokens) -> u128 {
        let output = self.text_rate([Rate::Output, Rate::AudioOut, Rate::ImageTokenOut]);
        let part = |rate, count| self.price.part_rate(rate, Rate::Output, self.moment).map(|pico| (count, pico));
        let own = |rate, count| self.rate(rate).map(|pico| (count, pico));
        let image = own(Rate::ImageTokenOut, used.image_out);
        let apart = [part(Rate::Reasoning, used.reasoning), own(Rate::AudioOut, used.audio_out), image];
        let (tokens, text) = split(used.completion, &apart, output);
        let mut units = 0u128;
        if image.is_none_or(|(count, _)| count == 0) {
            units = units.saturating_add(self.units(Rate::ImageOut, used.pictures_out).unwrap_or(0));
            units = units.saturating_add(self.units(Rate::PixelOut, used.pixels_out).unwrap_or(0));
        }
        if used.completion == 0 || output.is_none() {
            let millis = self.rate(Rate::SecondOut).unwrap_or(0);
            units = units.saturating_add(u128::from(used.millis_out) * u128::from(millis));
            units = units.saturating_add(self.units(Rate::CharacterOut, used.characters_out).unwrap_or(0));
        }
        self.unpriced |= output.is_none() && text > 0 && units == 0 && !self.is_by_unit();
        tokens.saturating_add(units)
    }

    fn other(&mut self, used: &Tokens) -> u128 {
        let search = [Rate::SearchMedium, Rate::SearchLow, Rate::SearchHigh].iter().find_map(|r| self.rate(*r));
        self.unpriced |= used.searches > 0 && search.is_none();
        cost(used.searches, search.unwrap_or(0))
            .saturating_add(self.units(Rate::Query, used.queries).unwrap_or(0))
            .saturating_add(self.units(Rate::Request, 1).unwrap_or(0))
    }

    /// Whether the model has a price by something other than tokens: then tokens without a rate are not charged.
    fn is_by_unit(&self) -> bool {
        self.price.rates.iter().any(|e| !e.rate.spec().per_token && !e.rate.is_search())
    }

    /// Of a call without any cost: whether it used a unit that has no rate at all, and nothing else.
    fn uncounted(&self, used: &Tokens) -> bool {
        let tokens = used.prompt > 0 || used.completion > 0;
        let units = [
            (used.pictures_in, Rate::ImageIn),
            (used.pictures_out, Rate::ImageOut),
            (used.millis_in, Rate::SecondIn),
            (used.millis_out, Rate::SecondOut),
            (used.characters_in, Rate::CharacterIn),
            (used.characters_out, Rate::CharacterOut),
            (used.queries, Rate::Query),
        ];
        !tokens
            && units.iter().any(|(count, _)| *count > 0)
            && !units.iter().any(|(count, rate)| *count > 0 && self.rate(*rate).is_some())
            && !self.has_free_side()
    }

    /// A rate of zero says that a side is free, in whatever unit it is counted.
    fn has_free_side(&self) -> bool {
        self.rate(Rate::Input) == Some(0) && self.rate(Rate::Output) == Some(0)
    }
}

fn cost(count: u64, pico: u64) -> u128 {
    (u128::from(count) * u128::from(pico)).saturating_mul(PER_UNIT)
}

/// The cost of `whole` tokens of which some are priced apart, and how many are left for the rate of text.
fn split(whole: u64, apart: &[Option<(u64, u64)>], text_pico: Option<u64>) -> (u128, u64) {
    let (mut sum, mut text) = (0u128, whole);
    for (count, pico) in apart.iter().flatten() {
        sum = sum.saturating_add(cost(*count, *pico));
        text = text.saturating_sub(*count);
    }
    (sum.saturating_add(cost(text, text_pico.unwrap_or(0))), text)
}
