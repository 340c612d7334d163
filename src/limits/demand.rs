//! What a call asks for, as far as limits need to know: sizes, read out of whatever format it has.

use crate::envelope::Envelope;
use crate::meter::estimate;
use crate::price::Charge;
use crate::route::Tariff;
use crate::usage::Usage;

/// Output that is expected while nothing is known of a model.
const USUAL_OUTPUT: u64 = 256;

/// The sizes of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Of the body.
    pub prompt_bytes: usize,
    /// The most tokens of one answer, where the call says so.
    pub max_output: Option<u64>,
    /// Answers that are asked for.
    pub answers: u64,
}

/// The members that bound an answer, in all formats.
pub const OUTPUT_LIMITS: [&str; 3] = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

impl Demand {
    pub fn of(envelope: &Envelope) -> Self {
        let mut demand = Demand { prompt_bytes: envelope.bytes().len(), max_output: None, answers: 1 };
        for member in envelope.members() {
            let name = envelope.name(member);
            let is_limit = OUTPUT_LIMITS.iter().any(|limit| limit.as_bytes() == name);
            // Of `best_of` answers some are thrown away, and all are charged.
            if !is_limit && !matches!(name, b"n" | b"best_of") {
                continue;
            }
            // What is larger is no bound at all.
            let number = envelope.number_of(member).filter(|number| (0.0..=1e12).contains(number));
            let Some(count) = number.map(|number| number as u64) else { continue };
            match is_limit {
                true => demand.max_output = demand.max_output.max(Some(count)),
                false => demand.answers = demand.answers.max(count),
            }
        }
        demand
    }

    /// What the call will probably use, given what answers of the model usually have.
    pub fn expected(&self, usual: Option<u64>) -> Usage {
        let each = usual.unwrap_or(USUAL_OUTPUT).min(self.max_output.unwrap_or(u64::MAX));
        Usage {
            prompt_tokens: estimate(self.prompt_bytes),
            completion_tokens: each.saturating_mul(self.answers),
            ..Usage::default()
        }
    }
}

/// Whether calls of this price cost nothing, whatever they use: budgets are no matter then.
pub fn is_free(tariff: &Tariff) -> bool {
    let much = Usage { prompt_tokens: 1_000_000, completion_tokens: 1_000_000, ..Usage::default() };
    matches!(tariff.charge(&much), Charge { nanos: 0, unpriced: false, .. })
}
