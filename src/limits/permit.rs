//! An admission with its reservation, for as long as the call is under way.

use super::book::{Claim, Held, Left, Refused};
use super::bound::Bound;
use super::bucket::Slot;
use super::plan::Pot;
use super::{Limits, remote, shown};
use crate::config::limits::Counted;
use crate::price::Charge;
use crate::route::Tariff;
use crate::store::{Engine, Entity};
use crate::usage::Usage;
use actix_web::http::header::{HeaderName, HeaderValue};
use std::sync::Arc;

/// What an admitted call holds. Dropped without being settled, it gives everything back: the call was never made.
#[derive(Debug, Default)]
pub struct Permit {
    admitted: Option<Box<Admitted>>,
    is_asked: bool,
}

#[derive(Debug)]
struct Admitted {
    limits: Arc<Limits>,
    /// Kept where the call is settled: its answer still shows what was left.
    held: Held,
    /// When it was admitted.
    slot: Slot,
    /// Whether the model's answers are learned from; not for the permit of an attempt.
    learns: bool,
    counted: Counted,
    /// Who has set money aside that the store may come to hold.
    claim: Option<Claim>,
    /// Set where a budget is not to be exceeded.
    strict: Option<Strict>,
    /// What is held of rates that several gateways share, and what was left of them.
    remote: Option<remote::Held>,
    shared: Vec<Left>,
    /// Streamed tokens above this are counted before the end.
    next: u64,
    /// Nothing is held any more.
    is_over: bool,
}

/// What bounds a call under a budget that is never exceeded.
#[derive(Debug, Clone, Copy)]
pub struct Strict {
    pub bound: Bound,
    /// Of each answer: the caller's limit, or the one that is sent in its place.
    pub output: u64,
    /// The limit has to be written into the body.
    pub is_set: bool,
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
        Permit { admitted: None, is_asked: true }
    }

    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Of what the book has admitted at that time, for the call or its attempt.
    pub(super) fn new(
        limits: Arc<Limits>,
        held: Held,
        slot: Slot,
        claim: Claim,
        counted: Counted,
        strict: Option<Strict>,
    ) -> Self {
        let admitted = Admitted {
            limits,
            learns: !claim.is_visit,
            claim: (!held.pots().is_empty()).then_some(claim),
            held,
            slot,
            counted,
            strict,
            remote: None,
            shared: Vec::new(),
            next: STEP,
            is_over: false,
        };
        Permit { admitted: Some(Box::new(admitted)), is_asked: true }
    }

    /// Says what is left of the limits, as the headers of the answer.
    pub fn tell(&self, put: impl FnMut(HeaderName, HeaderValue)) {
        let Some(Admitted { held, shared, slot, .. }) = self.admitted.as_deref() else { return };
        shown::tell(held.left().chain(shared.iter().copied()), held.pots().iter().zip(&held.spent), *slot, put);
    }

    /// While the call is under way.
    fn holding(&self) -> Option<&Admitted> {
        self.admitted.as_deref().filter(|admitted| !admitted.is_over)
    }

    /// The sums in which the call counts.
    pub fn sums(&self) -> impl Iterator<Item = &Entity> {
        self.holding().into_iter().flat_map(|admitted| admitted.held.pots().iter().map(|pot| &*pot.entity))
    }

    /// What is set aside, in nano-dollars.
    pub fn reserved_nanos(&self) -> i64 {
        self.holding().map_or(0, |admitted| admitted.held.nanos)
    }

    /// The same with what is held of rates that several gateways share.
    pub(super) fn with_remote(mut self, remote: Option<remote::Admitted>) -> Self {
        if let (Some(admitted), Some((held, left))) = (self.admitted.as_deref_mut(), remote) {
            (admitted.remote, admitted.shared) = (Some(held), left);
        }
        self
    }

    /// Whether the store holds money for the call.
    pub fn is_stored(&self) -> bool {
        let Some(admitted) = self.holding().filter(|admitted| admitted.claim.is_some()) else { return false };
        admitted.limits.book().is_stored(&admitted.held)
    }

    /// The bound of a call under a budget that is never exceeded.
    pub fn strict(&self) -> Option<Strict> {
        self.holding()?.strict
    }

    /// Under such a budget a call whose usage nobody tells is charged what was set aside, at most.
    pub fn at_most(&self, charge: Charge) -> Charge {
        match (self.strict(), u64::try_from(self.reserved_nanos())) {
            (Some(_), Ok(nanos)) if charge.nanos > nanos => Charge { nanos, other_nanos: nanos, ..Charge::default() },
            _ => charge,
        }
    }

    /// What an interrupted call is charged; none where it is an estimate.
    pub fn charge_if_lost(&self) -> Option<Charge> {
        self.strict()?;
        let nanos = u64::try_from(self.reserved_nanos()).ok()?;
        Some(Charge { nanos, other_nanos: nanos, ..Charge::default() })
    }

    /// What a deployment of this price asks beyond what is set aside, of whose budgets.
    pub(super) fn lacks(&self, tariff: &Tariff) -> Option<(Claim, &[Pot], i64)> {
        let admitted = self.holding()?;
        let (strict, claim) = (admitted.strict?, admitted.claim?);
        let nanos = strict.bound.nanos(tariff, strict.output).unwrap_or(i64::MAX);
        let more = nanos.saturating_sub(admitted.held.nanos);
        (more > 0).then_some((claim, admitted.held.pots(), more))
    }

    /// Sets so much more aside; `is_admitted` where the store has admitted it.
    pub(super) fn raise(&mut self, more: i64, is_admitted: bool) -> std::result::Result<(), Refused> {
        match self.admitted.as_deref_mut() {
            Some(Admitted { limits, held, is_over: false, .. }) => limits.book().raise(held, more, is_admitted),
            _ => Ok(()),
        }
    }

    /// So much was used so far; what is more than was expected counts at once, in steps.
    pub fn count_on(&mut self, usage: impl FnOnce() -> Usage, output: u64) {
        let is_due = |admitted: &&mut Admitted| output >= admitted.next && !admitted.is_over;
        let Some(admitted) = self.admitted.as_deref_mut().filter(is_due) else { return };
        admitted.next = output.saturating_add(STEP);
        if !admitted.held.lines.is_empty() {
            let (tokens, slot) = (admitted.counted.tokens(&usage()), admitted.limits.slot());
            admitted.limits.book().count_on(&mut admitted.held, tokens, slot);
        }
    }

    /// The call is over: what it has really used takes the place of what it held. `is_booked_later` where the ledger
    /// has it; `is_final` where the upstream itself said what was used.
    ///
    /// True where the store holds money for the call, which is given back when the call is booked.
    pub fn settle(&mut self, usage: &Usage, cost_nanos: i64, is_booked_later: bool, is_final: bool) -> bool {
        let Some(admitted) = self.admitted.as_deref_mut().filter(|admitted| !admitted.is_over) else { return false };
        admitted.is_over = true;
        let Admitted { limits, held, learns, claim, counted, strict, remote, .. } = admitted;
        let tokens = counted.tokens(usage);
        if let Some(remote) = remote.take() {
            remote.settle(tokens);
        }
        if strict.is_some() && cost_nanos > held.nanos {
            tracing::warn!(
                "a call cost {cost_nanos} nano-dollars where at most {} was set aside: the provider charges what its prices do not say",
                held.nanos
            );
        }
        if is_final && *learns {
            held.plan.pace.learn(usage.completion_tokens);
        }
        // No other gateway knows of it until it is booked, and one may come.
        let is_owed = is_booked_later && cost_nanos > 0 && limits.store.engine() == Engine::Postgres;
        let slot = limits.slot();
        let (crossed, is_stored) = {
            let mut book = limits.book();
            let is_stored = if is_owed { book.land(held, cost_nanos) } else { book.arrive(held) };
            let crossed = book.spend(held, cost_nanos, is_booked_later);
            book.release(held, Some(tokens), slot);
            (crossed, is_stored)
        };
        for one in crossed {
            limits.say(one);
        }
        if let (true, false, Some(claim)) = (is_stored, is_booked_later, claim) {
            // Nobody books it, so nobody else gives it back.
            limits.share.give_back(claim.name());
        }
        is_stored
    }

    /// The attempt has come to nothing, made or not: what it held is free before the next one asks. True where the store
    /// cannot be told, so that it holds money until the call is booked.
    pub async fn leave(mut self, was_made: bool) -> bool {
        let Some(admitted) = self.holding() else { return false };
        let (limits, claim) = (admitted.limits.clone(), admitted.claim);
        let is_stored = match was_made {
            true => self.settle(&Usage::default(), 0, true, false),
            false => self.release(),
        };
        let Some(claim) = claim.filter(|_| is_stored) else { return false };
        limits.store.unreserve(&[claim.name()]).await.is_err()
    }

    /// What was never used is free; true where the store still holds money for it.
    fn release(&mut self) -> bool {
        let Some(admitted) = self.admitted.as_deref_mut().filter(|admitted| !admitted.is_over) else { return false };
        admitted.is_over = true;
        let Admitted { limits, held, remote, .. } = admitted;
        // Dropped, it gives back what is held there.
        drop(remote.take());
        let slot = limits.slot();
        let mut book = limits.book();
        book.give_back(held);
        book.release(held, None, slot);
        book.arrive(held)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.release()
            && let Some(Admitted { limits, claim: Some(claim), .. }) = self.admitted.as_deref()
        {
            limits.share.give_back(claim.name());
        }
    }
}
