//! How long the answers of a model are, on average: what a call is expected to use before anybody knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Models that are remembered.
const MOST: usize = 4096;
/// Nothing is known yet.
const UNKNOWN: u64 = u64::MAX;

/// Output tokens of an answer of one model, on average.
#[derive(Debug)]
pub struct Pace {
    /// Times 16.
    tokens: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { tokens: AtomicU64::new(UNKNOWN) }
    }
}

impl Pace {
    pub fn tokens(&self) -> Option<u64> {
        Some(self.tokens.load(Ordering::Relaxed)).filter(|tokens| *tokens != UNKNOWN).map(|tokens| tokens.div_ceil(16))
    }

    /// An answer had so many. Of two that end in the same moment one may be left out of the average.
    pub fn learn(&self, output: u64) {
        let output = output.min(1 << 32);
        let learnt = match self.tokens.load(Ordering::Relaxed) {
            UNKNOWN => output * 16,
            pace => pace - pace / 8 + output * 2,
        };
        self.tokens.store(learnt, Ordering::Relaxed);
    }
}

/// Those of all models.
#[derive(Debug, Default)]
pub struct Paces(Mutex<HashMap<String, Arc<Pace>>>);

impl Paces {
    pub fn of(&self, model: &str) -> Arc<Pace> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = all.get(model) {
            return pace.clone();
        }
        if all.len() >= MOST {
            all.clear();
        }
        let pace = Arc::new(Pace::default());
        all.insert(model.to_owned(), pace.clone());
        pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_is_the_average_and_later_ones_move_it() {
        let paces = Paces::default();
        let pace = paces.of("a");
        assert_eq!(pace.tokens(), None);
        pace.learn(80);
        assert_eq!(paces.of("a").tokens(), Some(80));
        (0..60).for_each(|_| pace.learn(8));
        assert!((8..=9).contains(&pace.tokens().unwrap()), "{pace:?}");
        assert_eq!(paces.of("b").tokens(), None);
    }
}
