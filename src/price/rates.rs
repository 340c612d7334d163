//! What is priced, and when which price holds.

use super::decimal;
use super::facts::Facts;
use super::schedule::{self, Window};

/// A unit that a provider charges for. The order is that of [`SPECS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rate {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    Reasoning,
    AudioIn,
    AudioOut,
    ImageTokenIn,
    ImageTokenOut,
    ImageIn,
    ImageOut,
    SecondIn,
    SecondOut,
    CharacterIn,
    CharacterOut,
    PixelIn,
    PixelOut,
    Query,
    Request,
    SearchLow,
    SearchMedium,
    SearchHigh,
}

/// How a rate is called, here and elsewhere.
#[derive(Debug)]
pub struct Spec {
    pub rate: Rate,
    /// In the table of this project.
    pub key: &'static str,
    /// In LiteLLM's price map and `/model/info`; empty where it has no member of its own.
    pub field: &'static str,
    /// Whether the unit is a token, which the table writes per million.
    pub per_token: bool,
}

const fn token(rate: Rate, key: &'static str, field: &'static str) -> Spec {
    Spec { rate, key, field, per_token: true }
}

const fn unit(rate: Rate, key: &'static str, field: &'static str) -> Spec {
    Spec { rate, key, field, per_token: false }
}

pub const SPECS: &[Spec] = &[
    token(Rate::Input, "in", "input_cost_per_token"),
    token(Rate::Output, "out", "output_cost_per_token"),
    token(Rate::CacheRead, "read", "cache_read_input_token_cost"),
    token(Rate::CacheWrite, "write", "cache_creation_input_token_cost"),
    token(Rate::CacheWrite1h, "write1h", "cache_creation_input_token_cost_above_1hr"),
    token(Rate::Reasoning, "reasoning", "output_cost_per_reasoning_token"),
    token(Rate::AudioIn, "audio_in", "input_cost_per_audio_token"),
    token(Rate::AudioOut, "audio_out", "output_cost_per_audio_token"),
    token(Rate::ImageTokenIn, "image_in", "input_cost_per_image_token"),
    token(Rate::ImageTokenOut, "image_out", "output_cost_per_image_token"),
    unit(Rate::ImageIn, "picture_in", "input_cost_per_image"),
    unit(Rate::ImageOut, "picture_out", "output_cost_per_image"),
    unit(Rate::SecondIn, "second_in", "input_cost_per_second"),
    unit(Rate::SecondOut, "second_out", "output_cost_per_second"),
    unit(Rate::CharacterIn, "character_in", "input_cost_per_character"),
    unit(Rate::CharacterOut, "character_out", "output_cost_per_character"),
    unit(Rate::PixelIn, "pixel_in", "input_cost_per_pixel"),
    unit(Rate::PixelOut, "pixel_out", "output_cost_per_pixel"),
    unit(Rate::Query, "query", "input_cost_per_query"),
    unit(Rate::Request, "request", "input_cost_per_request"),
    unit(Rate::SearchLow, "search_low", ""),
    unit(Rate::SearchMedium, "search_medium", ""),
    unit(Rate::SearchHigh, "search_high", ""),
];

impl Rate {
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }

    /// A web search, which comes on top of whatever else is charged.
    pub fn is_search(self) -> bool {
        matches!(self, Rate::SearchLow | Rate::SearchMedium | Rate::SearchHigh)
    }

    /// Whether the unit is one of the answer.
    pub fn is_output(self) -> bool {
        matches!(
            self,
            Rate::Output
                | Rate::Reasoning
                | Rate::AudioOut
                | Rate::ImageTokenOut
                | Rate::ImageOut
                | Rate::SecondOut
                | Rate::CharacterOut
                | Rate::PixelOut
        )
    }
}

/// The class of service a call was made with. Names are LiteLLM's suffixes of price fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    #[default]
    Standard,
    Batches,
    Flex,
    Priority,
    Fast,
    Ultrafast,
    Balanced,
    Decisions,
}

impl Service {
    pub const SPECIAL: &[(Service, &'static str)] = &[
        (Service::Batches, "batches"),
        (Service::Flex, "flex"),
        (Service::Priority, "priority"),
        (Service::Fast, "fast"),
        (Service::Ultrafast, "ultrafast"),
        (Service::Balanced, "balanced"),
        (Service::Decisions, "decisions"),
    ];

    /// The service of that name, as in a request's `service_tier`; names without a price of their own are standard.
    pub fn named(name: &str) -> Service {
        Service::SPECIAL.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map_or(Service::Standard, |(s, _)| *s)
    }

    pub fn name(self) -> &'static str {
        Service::SPECIAL.iter().find(|(s, _)| *s == self).map_or("standard", |(_, n)| n)
    }
}

/// The condition of a rate. Of all that hold, the greatest counts: the fields are in that order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct When {
    pub service: Service,
    /// The prompt has more tokens than this.
    pub above: u64,
    /// In the hours of [`Price::off_peak`].
    pub off_peak: bool,
    /// From this time on, in seconds since 1970.
    pub from: u64,
}

impl When {
    /// Whether the rate always holds.
    pub fn is_plain(self) -> bool {
        self == When::default()
    }
}

/// What a call is like, as far as prices depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    pub service: Service,
    pub prompt: u64,
    /// Seconds since 1970.
    pub at: u64,
}

/// A rate with its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub rate: Rate,
    pub when: When,
    /// Pico-dollars for one unit.
    pub pico: u64,
}

/// What the calls of a model cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Price {
    pub(super) rates: Vec<Entry>,
    pub(super) off_peak: Vec<Window>,
    pub(super) facts: Facts,
}

impl Price {
    /// What is known of the model besides its price.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether anything is known about the cost. Rates of zero are known.
    pub fn is_priced(&self) -> bool {
        !self.rates.is_empty()
    }

    pub(super) fn set(&mut self, rate: Rate, when: When, pico: u64) {
        match self.rates.iter_mut().find(|e| e.rate == rate && e.when == when) {
            Some(entry) => entry.pico = pico,
            None => self.rates.push(Entry { rate, when, pico }),
        }
    }

    /// The rate of one unit at that moment.
    pub(super) fn rate(&self, rate: Rate, moment: Moment) -> Option<u64> {
        self.entry(rate, moment).map(|e| e.pico)
    }

    /// As [`Price::rate`], unless `whole`, of which these units are a part, is priced by a more special rule: a
    /// long-context price without a word about reasoning is also that of reasoning.
    pub(super) fn part_rate(&self, part: Rate, whole: Rate, moment: Moment) -> Option<u64> {
        let (part, whole) = (self.entry(part, moment)?, self.entry(whole, moment));
        Some(whole.filter(|whole| whole.when > part.when).unwrap_or(part).pico)
    }

    fn entry(&self, rate: Rate, moment: Moment) -> Option<&Entry> {
        let holds = |when: &When| {
            (when.service == Service::Standard || when.service == moment.service)
                && (when.above == 0 || moment.prompt > when.above)
                && when.from <= moment.at
                && (!when.off_peak || schedule::is_within(&self.off_peak, moment.at))
        };
        self.rates.iter().filter(|e| e.rate == rate && holds(&e.when)).max_by_key(|e| e.when)
    }
}

/// A price above this, in pico-dollars a token, is more likely a slip: 1000 dollars per million.
pub const SUSPICIOUS: u64 = 1_000_000_000;

/// Reads what one unit costs, in dollars (`10^-12` of them is the smallest).
pub(super) fn read(text: &str) -> Result<u64, decimal::Fault> {
    decimal::parse_rate(text, decimal::PICO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_finds_its_own_names() {
        for (i, spec) in SPECS.iter().enumerate() {
            assert_eq!((spec.rate as usize, spec.rate.spec().key), (i, spec.key));
        }
        assert_eq!(SPECS.len(), Rate::SearchHigh as usize + 1);
    }

    #[test]
    fn the_most_special_rate_counts() {
        let mut price = Price::default();
        let when = When::default();
        price.set(Rate::Output, when, 1);
        price.set(Rate::Output, When { above: 100, ..when }, 2);
        price.set(Rate::Output, When { above: 200, ..when }, 3);
        price.set(Rate::Output, When { service: Service::Priority, ..when }, 4);
        price.set(Rate::Output, When { from: 1000, ..when }, 5);
        price.set(Rate::Reasoning, when, 6);
        let at = |service, prompt, at| Moment { service, prompt, at };
        for (moment, output, reasoning) in [
            (at(Service::Standard, 100, 0), 1, 6),
            (at(Service::Standard, 101, 0), 2, 2),
            (at(Service::Standard, 201, 0), 3, 3),
            // No price for a long prompt of that service: the service's own base, not the standard long one.
            (at(Service::Priority, 201, 0), 4, 4),
            (at(Service::Flex, 50, 999), 1, 6),
            (at(Service::Flex, 50, 1000), 5, 5),
            (at(Service::Standard, 201, 1000), 3, 3),
        ] {
            assert_eq!(price.rate(Rate::Output, moment), Some(output), "{moment:?}");
            assert_eq!(price.part_rate(Rate::Reasoning, Rate::Output, moment), Some(reasoning), "{moment:?}");
        }
        assert_eq!(price.rate(Rate::Input, at(Service::Standard, 1, 0)), None);
    }
}
