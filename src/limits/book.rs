//! What is counted against limits, in memory: rates, calls under way, and money. One lock around all of it, held for a
//! moment: all limits of a call are checked, and then charged, or none is. Nothing is looked up by name that was found
//! before.

use super::bucket::{Bucket, Slot};
use super::plan::{Line, Plan, Pot};
use super::purse::Purse;
use super::shelf::{Hint, Place, Shelf, Slab};
use super::subject::{Subject, Who};
use crate::store::{Entity, visit_id};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// What is counted in a minute, or at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    Requests,
    Tokens,
    Parallel,
}

impl Unit {
    /// LiteLLM's word.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
            Unit::Parallel => "max_parallel_requests",
        }
    }
}

/// The rates of one owner.
#[derive(Debug, Default)]
struct Account {
    requests: Bucket,
    tokens: Bucket,
    parallel: u64,
}

/// A call that one limit does not admit.
#[derive(Debug, Clone)]
pub enum Refused {
    Rate {
        subject: Arc<Subject>,
        unit: Unit,
        limit: u64,
        used: u64,
        need: u64,
        /// When it would fit; none for calls under way, whose end nobody knows, and for what never fits.
        at: Option<Slot>,
    },
    Budget {
        pot: Box<Pot>,
        spent: i64,
        reserved: i64,
        /// What this call was to reserve.
        need: i64,
    },
    /// These sums were not read from the store yet.
    Unread(Vec<Arc<Entity>>),
}

/// What a call holds of its limits.
#[derive(Debug)]
pub struct Held {
    pub plan: Arc<Plan>,
    /// Of its rates, one for each.
    pub lines: Vec<HeldLine>,
    /// Set aside in each of its budgets.
    pub nanos: i64,
    /// What each of its budgets had spent before it.
    pub spent: Vec<i64>,
    flight: Option<Place>,
}

impl Held {
    pub fn new(plan: Arc<Plan>, nanos: i64) -> Self {
        Held { plan, lines: Vec::new(), nanos, spent: Vec::new(), flight: None }
    }

    pub fn pots(&self) -> &[Pot] {
        &self.plan.pots
    }

    /// What was left of its rates when it was admitted.
    pub fn left(&self) -> impl Iterator<Item = Left> {
        self.plan.lines.iter().zip(&self.lines).flat_map(|(line, held)| held.left(line))
    }
}

/// A budget that has come to its soft limit.
#[derive(Debug, Clone)]
pub struct Crossed {
    pub pot: Pot,
    pub spent: i64,
}

#[derive(Debug)]
pub struct HeldLine {
    account: Place,
    /// Where the request was counted.
    requests: Option<Slot>,
    /// Where tokens were counted, and how many.
    tokens: Option<(Slot, u64)>,
    /// The same for those that came beyond what was expected.
    more: Vec<(Slot, u64)>,
    parallel: bool,
    /// Of requests, tokens and calls at once: what was used with this one, and when all of it is free again.
    used: [(u64, Slot); 3],
}

impl HeldLine {
    fn left(&self, line: &Line) -> impl Iterator<Item = Left> {
        let who = line.subject.who;
        let limits = [(Unit::Requests, line.requests), (Unit::Tokens, line.tokens), (Unit::Parallel, line.parallel)];
        limits.into_iter().zip(self.used).filter_map(move |((unit, limit), (used, free_at))| {
            let limit = limit?;
            Some(Left { who, unit, limit, left: limit.saturating_sub(used), free_at })
        })
    }
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    pub who: Who,
    pub unit: Unit,
    pub limit: u64,
    pub left: u64,
    /// When all of it is free again.
    pub free_at: Slot,
}

#[derive(Debug, Default)]
pub struct Book {
    accounts: Shelf<Subject, Account>,
    pub purses: Shelf<Entity, Purse>,
    /// Calls and attempts that have set money aside: those under way, and what those that have ended came to.
    flights: Slab<Flight>,
    /// Those that have ended, and that no store knows of before the ledger is booked.
    landed: HashMap<Claim, Place>,
    /// With so many owners those whose minute is empty are forgotten.
    sweep_at: usize,
    /// Sums were forgotten: one that is not there may have been there before.
    pub has_forgotten: bool,
}

/// Who has set money aside: a call, or its attempt at a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub call: Uuid,
    pub is_visit: bool,
}

impl Claim {
    /// Its name in the store.
    pub fn name(&self) -> String {
        let call = self.call.hyphenated().to_string();
        if self.is_visit { visit_id(&call) } else { call }
    }
}

/// What is set aside while it is under way.
#[derive(Debug)]
struct Flight {
    claim: Claim,
    plan: Arc<Plan>,
    nanos: i64,
    /// In the store, too.
    is_stored: bool,
}

/// Money that is set aside here, and not in the store.
#[derive(Debug)]
pub struct Flying {
    pub claim: Claim,
    pub plan: Arc<Plan>,
    pub nanos: i64,
    place: Place,
}

/// Owners that are remembered anyway.
const MANY: usize = 4096;
/// Calls that wait to be booked, as many as a gateway that joins is told of.
const MOST_LANDED: usize = 262_144;
/// Sums are read again rather than more of them kept.
const MOST_PURSES: usize = 65_536;

impl Book {
    /// Checks all limits and charges them. `tokens` is what the call is expected to use, and `reserve` says what it is
    /// to set aside, given what its strictest budget has left.
    pub fn admit(
        &mut self,
        plan: &Arc<Plan>,
        tokens: u64,
        reserve: impl FnOnce(i64) -> i64,
        now: Slot,
    ) -> Result<Held, Refused> {
        let mut unread = Vec::new();
        let mut free = i64::MAX;
        for pot in &plan.pots {
            match self.read(pot) {
                None => unread.push(pot.entity.clone()),
                Some(purse) if pot.strict => {
                    let left =
                        pot.max_nanos.map(|max| max.saturating_sub(purse.spent()).saturating_sub(purse.reserved()));
                    free = left.map_or(free, |left| free.min(left));
                }
                Some(_) => (),
            }
        }
        if !unread.is_empty() {
            return Err(Refused::Unread(unread));
        }
        let nanos = if plan.pots.is_empty() { 0 } else { reserve(free) };
        for pot in &plan.pots {
            self.check_pot(pot, nanos)?;
        }
        self.check_lines(&plan.lines, tokens, now)?;
        let mut held = Held::new(plan.clone(), nanos);
        held.lines = self.charge(&plan.lines, tokens, now);
        held.spent = self.hold(&plan.pots, nanos);
        Ok(held)
    }

    /// Sets more aside for a call that turns out to be dearer. What the store has admitted is not asked for again.
    pub fn raise(&mut self, held: &mut Held, more: i64, is_admitted: bool) -> Result<(), Refused> {
        for pot in held.pots().iter().filter(|pot| pot.strict && !is_admitted) {
            self.check_pot(pot, more)?;
        }
        self.hold(held.pots(), more);
        held.nanos = held.nanos.saturating_add(more);
        if let Some(flight) = held.flight.and_then(|place| self.flights.get_mut(place)) {
            flight.nanos = held.nanos;
        }
        Ok(())
    }

    /// A call has cost so much, and holds nothing any more. Says which budgets have come to their soft limit by it.
    pub fn spend(&mut self, held: &Held, cost_nanos: i64, is_booked_later: bool) -> Vec<Crossed> {
        let mut crossed = Vec::new();
        for pot in held.pots() {
            let Some(purse) = self.held_purse(pot) else { continue };
            purse.give_back(held.nanos);
            purse.spend(cost_nanos, is_booked_later);
            if purse.crosses(pot.soft_nanos) {
                crossed.push(Crossed { pot: pot.clone(), spent: purse.spent() });
            }
        }
        crossed
    }

    /// Money is set aside, here or in the store as well.
    pub fn depart(&mut self, claim: Claim, held: &mut Held, is_stored: bool) {
        if !held.pots().is_empty() {
            let flight = Flight { claim, plan: held.plan.clone(), nanos: held.nanos, is_stored };
            held.flight = Some(self.flights.put(flight));
        }
    }

    /// The call or its attempt has ended and cost so much, which the ledger is going to book. Until it does nobody else
    /// knows, should another gateway come; so that is kept as if it were set aside. As [`Book::arrive`].
    pub fn land(&mut self, held: &mut Held, cost_nanos: i64) -> bool {
        if self.is_stored(held) || self.landed.len() >= MOST_LANDED {
            return self.arrive(held);
        }
        if let Some(place) = held.flight.take()
            && let Some(flight) = self.flights.get_mut(place)
        {
            flight.nanos = cost_nanos;
            if let Some(before) = self.landed.insert(flight.claim, place) {
                self.flights.take(before);
            }
        }
        false
    }

    /// The ledger has booked what a call of this gateway came to; what the store holds for it beside that.
    pub fn is_booked(&mut self, call: Uuid) -> impl Iterator<Item = Claim> {
        [false, true].into_iter().filter_map(move |is_visit| {
            let claim = Claim { call, is_visit };
            let place = self.landed.remove(&claim)?;
            self.flights.take(place).filter(|flight| flight.is_stored).map(|_| claim)
        })
    }

    /// The call or its attempt has ended; whether something is set aside for it in the store.
    pub fn arrive(&mut self, held: &mut Held) -> bool {
        let flight = held.flight.take().and_then(|place| self.flights.take(place));
        flight.is_some_and(|flight| flight.is_stored)
    }

    /// Whether the store holds money for it.
    pub fn is_stored(&self, held: &Held) -> bool {
        held.flight.and_then(|place| self.flights.get(place)).is_some_and(|flight| flight.is_stored)
    }

    /// Sets aside without asking whether there is room: somebody has. What each had spent.
    pub fn hold(&mut self, pots: &[Pot], nanos: i64) -> Vec<i64> {
        let hold = |pot: &Pot| {
            let purse = self.purse_of(&pot.entity, &pot.purse);
            purse.reserve(nanos);
            purse.spent()
        };
        pots.iter().map(hold).collect()
    }

    /// Who has set money aside that is not in the store.
    pub fn flying(&self) -> Vec<Flying> {
        let unstored = self.flights.iter().filter(|(_, flight)| !flight.is_stored);
        let flying = |(place, flight): (Place, &Flight)| {
            let Flight { claim, plan, nanos, .. } = flight;
            Flying { claim: *claim, plan: plan.clone(), nanos: *nanos, place }
        };
        unstored.map(flying).collect()
    }

    /// Whether it is still to be put into the store.
    pub fn is_flying(&self, flying: &Flying) -> bool {
        self.flights.get(flying.place).is_some()
    }

    /// So much is in the store now; what was set aside beyond that meanwhile, and none where it has ended.
    pub fn mark_stored(&mut self, flying: &Flying, nanos: i64) -> Option<i64> {
        let flight = self.flights.get_mut(flying.place)?;
        flight.is_stored = flight.nanos <= nanos;
        Some(flight.nanos.saturating_sub(nanos).max(0))
    }

    /// What was set aside is free again.
    pub fn give_back(&mut self, held: &Held) {
        for pot in held.pots() {
            if let Some(purse) = self.held_purse(pot) {
                purse.give_back(held.nanos);
            }
        }
    }

    /// The sum of an entity, to be read into.
    pub fn purse(&mut self, entity: &Arc<Entity>) -> &mut Purse {
        self.purse_of(entity, &Hint::default())
    }

    fn purse_of(&mut self, entity: &Arc<Entity>, hint: &Hint) -> &mut Purse {
        if self.purses.len() >= MOST_PURSES && !self.purses.contains(entity) {
            self.purses.retain(|purse| !purse.is_idle());
            self.has_forgotten = true;
        }
        self.purses.seat_mut(entity, hint)
    }

    fn held_purse(&mut self, pot: &Pot) -> Option<&mut Purse> {
        let place = self.purses.find(&pot.entity, &pot.purse)?;
        self.purses.at_mut(place)
    }

    /// The sum of a budget, if it was read.
    fn read(&self, pot: &Pot) -> Option<&Purse> {
        let place = self.purses.find(&pot.entity, &pot.purse)?;
        self.purses.at(place).filter(|purse| purse.is_read())
    }

    /// Of a budget whose sum was read.
    fn check_pot(&self, pot: &Pot, nanos: i64) -> Result<(), Refused> {
        let Some(purse) = self.read(pot) else { return Err(Refused::Unread(vec![pot.entity.clone()])) };
        let Some(max) = pot.max_nanos else { return Ok(()) };
        let (spent, reserved) = (purse.spent(), purse.reserved());
        let used = spent.saturating_add(reserved);
        let fits = if pot.strict { used.saturating_add(nanos) <= max && used < max } else { used < max };
        match fits {
            true => Ok(()),
            false => Err(Refused::Budget { pot: Box::new(pot.clone()), spent, reserved, need: nanos }),
        }
    }

    /// Of several limits that refuse, the one that does so longest is told.
    pub fn check_lines(&mut self, lines: &[Line], tokens: u64, now: Slot) -> Result<(), Refused> {
        let mut worst: Option<(Slot, Refused)> = None;
        for line in lines {
            let place = self.accounts.find(&line.subject, &line.account);
            let Some(account) = place.and_then(|place| self.accounts.at_mut(place)) else {
                for (unit, limit) in
                    [(Unit::Requests, line.requests), (Unit::Tokens, line.tokens), (Unit::Parallel, line.parallel)]
                {
                    if limit == Some(0) {
                        let subject = line.subject.clone();
                        return Err(Refused::Rate { subject, unit, limit: 0, used: 0, need: 1, at: None });
                    }
                }
                continue;
            };
            let mut refuse = |until: Slot, unit, limit, used, need, at| {
                if worst.as_ref().is_none_or(|(longest, _)| until > *longest) {
                    let subject = line.subject.clone();
                    worst = Some((until, Refused::Rate { subject, unit, limit, used, need, at }));
                }
            };
            if let Some(limit) = line.parallel.filter(|limit| account.parallel >= *limit) {
                refuse(now, Unit::Parallel, limit, account.parallel, 1, None);
            }
            if let Some(limit) = line.requests {
                let used = account.requests.used(now);
                if used >= limit {
                    let at = account.requests.fits_at(now, limit, 1);
                    refuse(at.unwrap_or(Slot::MAX), Unit::Requests, limit, used, 1, at);
                }
            }
            if let Some(limit) = line.tokens {
                let used = account.tokens.used(now);
                // A call that is larger than the limit passes alone: what it will use is a guess.
                let need = tokens.clamp(1, limit.max(1));
                if limit == 0 || used.saturating_add(need) > limit {
                    let at = account.tokens.fits_at(now, limit, need);
                    refuse(at.unwrap_or(Slot::MAX), Unit::Tokens, limit, used, need, at);
                }
            }
        }
        worst.map_or(Ok(()), |(_, refused)| Err(refused))
    }

    pub fn charge(&mut self, lines: &[Line], tokens: u64, now: Slot) -> Vec<HeldLine> {
        if self.accounts.len() >= self.sweep_at.max(MANY) {
            self.accounts.retain(|a| a.parallel > 0 || !a.requests.is_empty(now) || !a.tokens.is_empty(now));
            // Whoever fills it within a minute must not make each call go through all of it.
            self.sweep_at = self.accounts.len() * 2;
        }
        let charge = |line: &Line| {
            let place = self.accounts.seat(&line.subject, &line.account);
            let mut held = HeldLine {
                account: place,
                requests: None,
                tokens: None,
                more: Vec::new(),
                parallel: line.parallel.is_some(),
                used: [(0, now); 3],
            };
            let Some(account) = self.accounts.at_mut(place) else { return held };
            if line.requests.is_some() {
                held.requests = Some(account.requests.add(now, 1));
                held.used[0] = (account.requests.used(now), account.requests.empty_at(now));
            }
            if line.tokens.is_some() {
                held.tokens = Some((account.tokens.add(now, tokens), tokens));
                held.used[1] = (account.tokens.used(now), account.tokens.empty_at(now));
            }
            if held.parallel {
                account.parallel += 1;
                held.used[2] = (account.parallel, now);
            }
            held
        };
        lines.iter().map(charge).collect()
    }

    /// The call has used so many tokens so far: what goes beyond the reservation is counted when it comes.
    pub fn count_on(&mut self, held: &mut Held, tokens: u64, now: Slot) {
        for (line, held) in held.plan.lines.iter().zip(&mut held.lines) {
            let Some((_, counted)) = held.tokens else { continue };
            let Some(account) = self.accounts.again(held.account, &line.subject) else { continue };
            let counted = held.more.iter().fold(counted, |sum, (_, more)| sum.saturating_add(*more));
            if tokens > counted {
                let more = tokens - counted;
                held.more.push((account.tokens.add(now, more), more));
            }
        }
    }

    /// The call is over, having used these tokens; none where it was never made, and nothing of it counts.
    pub fn release(&mut self, held: &mut Held, tokens: Option<u64>, now: Slot) {
        for (line, held) in held.plan.lines.iter().zip(&mut held.lines) {
            let Some(account) = self.accounts.again(held.account, &line.subject) else { continue };
            account.parallel -= u64::from(std::mem::take(&mut held.parallel) && account.parallel > 0);
            if let (Some(slot), None) = (held.requests.take(), tokens) {
                account.requests.take_back(slot, 1);
            }
            let Some((slot, counted)) = held.tokens.take() else { continue };
            let used = tokens.unwrap_or(0);
            let all = held.more.iter().fold(counted, |sum, (_, count)| sum.saturating_add(*count));
            if used >= all {
                account.tokens.add(now, used - all);
                continue;
            }
            // What came last was counted too much first.
            let mut too_much = all - used;
            for (slot, count) in std::iter::once((slot, counted)).chain(held.more.drain(..)).rev() {
                let back = too_much.min(count);
                account.tokens.take_back(slot, back);
                too_much -= back;
            }
        }
    }
}

#[cfg(test)]
mod tests;
