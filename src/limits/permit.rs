//! An admission with its reservation, for as long as the call is under way.

use super::Limits;
use super::book::Held;
use super::refusal::Headers;
use crate::config::limits::Counted;
use crate::store::Entity;
use crate::usage::Usage;
use std::sync::Arc;

/// What an admitted call holds. Dropped without being settled, it gives everything back: the call was never made.
#[derive(Debug, Default)]
pub struct Permit {
    admitted: Option<Box<Admitted>>,
    /// Kept where the call is settled: its answer still shows them.
    headers: Headers,
    is_asked: bool,
}

#[derive(Debug)]
struct Admitted {
    limits: Arc<Limits>,
    held: Held,
    model: String,
    counted: Counted,
    /// Streamed tokens above this are counted before the end.
    next: u64,
}

/// Streamed tokens are counted in steps of so many.
const STEP: u64 = 256;

impl Permit {
    /// Of a call that has not asked.
    pub fn none() -> Self {
        Permit::default()
    }

    /// Of a call without limits.
    pub(super) fn free() -> Self {
        Permit { admitted: None, headers: Headers::new(), is_asked: true }
    }

    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    pub(super) fn new(limits: Arc<Limits>, held: Held, model: &str, counted: Counted, headers: Headers) -> Self {
        let admitted = Admitted { limits, held, model: model.to_owned(), counted, next: STEP };
        Permit { admitted: Some(Box::new(admitted)), headers, is_asked: true }
    }

    /// What is left of the limits, for the answer.
    pub fn headers(&self) -> &[(actix_web::http::header::HeaderName, actix_web::http::header::HeaderValue)] {
        &self.headers
    }

    /// The sums in which the call counts.
    pub fn sums(&self) -> impl Iterator<Item = &Entity> {
        self.admitted.iter().flat_map(|admitted| admitted.held.pots.iter().map(|entity| &**entity))
    }

    /// What is set aside, in nano-dollars.
    pub fn reserved_nanos(&self) -> i64 {
        self.admitted.as_ref().map_or(0, |admitted| admitted.held.nanos)
    }

    /// So much was used so far; what is more than was expected counts at once, in steps.
    pub fn count_on(&mut self, usage: impl FnOnce() -> Usage, output: u64) {
        let Some(admitted) = self.admitted.as_deref_mut().filter(|a| output >= a.next && !a.held.lines.is_empty())
        else {
            return;
        };
        admitted.next = output.saturating_add(STEP);
        let (tokens, slot) = (admitted.counted.tokens(&usage()), admitted.limits.slot());
        admitted.limits.book().count_on(&mut admitted.held.lines, tokens, slot);
    }

    /// The call is over: what it has really used takes the place of what it held. `is_booked_later` where the ledger
    /// has it; `is_final` where the upstream itself said what was used.
    pub fn settle(&mut self, usage: &Usage, cost_nanos: i64, is_booked_later: bool, is_final: bool) {
        let Some(admitted) = self.admitted.take() else { return };
        let Admitted { limits, held, model, counted, .. } = *admitted;
        let slot = limits.slot();
        let mut book = limits.book();
        book.release(held.lines, Some(counted.tokens(usage)), slot);
        for entity in &held.pots {
            if let Some(purse) = book.purses.get_mut(entity) {
                purse.give_back(held.nanos);
                purse.spend(cost_nanos, is_booked_later);
            }
        }
        if is_final {
            book.learn(&model, usage.completion_tokens);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(admitted) = self.admitted.take() else { return };
        let Admitted { limits, held, .. } = *admitted;
        let slot = limits.slot();
        let mut book = limits.book();
        book.release(held.lines, None, slot);
        for entity in &held.pots {
            if let Some(purse) = book.purses.get_mut(entity) {
                purse.give_back(held.nanos);
            }
        }
    }
}
