//! What is counted against limits, in memory: rates, calls under way, and money. One lock around all of it, held for a
//! few look-ups: all limits of a call are checked, and then charged, or none is.

use super::bucket::{Bucket, Slot};
use super::plan::{Line, Plan, Pot};
use super::purse::Purse;
use super::subject::Subject;
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
#[derive(Debug, Default)]
pub struct Held {
    pub lines: Vec<HeldLine>,
    pub pots: Vec<Pot>,
    pub nanos: i64,
}

/// A budget that has come to its soft limit.
#[derive(Debug, Clone)]
pub struct Crossed {
    pub pot: Pot,
    pub spent: i64,
}

#[derive(Debug)]
pub struct HeldLine {
    pub subject: Arc<Subject>,
    /// Where the request was counted.
    requests: Option<Slot>,
    /// Where tokens were counted, and how many.
    tokens: Option<(Slot, u64)>,
    /// The same for those that came beyond what was expected.
    more: Vec<(Slot, u64)>,
    parallel: bool,
}

/// What is left of a limit.
#[derive(Debug, Clone)]
pub struct Left {
    pub subject: Arc<Subject>,
    pub unit: Unit,
    pub limit: u64,
    pub left: u64,
    /// When all of it is free again.
    pub free_at: Slot,
}

#[derive(Debug, Default)]
pub struct Book {
    accounts: HashMap<Arc<Subject>, Account>,
    pub purses: HashMap<Arc<Entity>, Purse>,
    /// Output tokens of an answer, on average and times 16, by model.
    paces: HashMap<String, u64>,
    /// Calls and attempts under way that have set money aside.
    flights: HashMap<Claim, Flight>,
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
    entities: Vec<Arc<Entity>>,
    nanos: i64,
    /// In the store, too.
    is_stored: bool,
}

/// Owners and models that are remembered anyway.
const MANY: usize = 4096;
/// Sums are read again rather than more of them kept.
const MOST_PURSES: usize = 65_536;

impl Book {
    /// Checks all limits and charges them. `tokens` is what the call is expected to use, and `reserve` says what it is
    /// to set aside, given what its strictest budget has left.
    pub fn admit(
        &mut self,
        plan: &Plan,
        tokens: u64,
        reserve: impl FnOnce(i64) -> i64,
        now: Slot,
    ) -> Result<Held, Refused> {
        let unread: Vec<Arc<Entity>> =
            plan.pots.iter().filter(|pot| !self.is_read(&pot.entity)).map(|pot| pot.entity.clone()).collect();
        if !unread.is_empty() {
            return Err(Refused::Unread(unread));
        }
        let free = plan.pots.iter().filter(|pot| pot.strict).filter_map(|pot| {
            let purse = self.purses.get(&pot.entity)?;
            Some(pot.max_nanos?.saturating_sub(purse.spent()).saturating_sub(purse.reserved()))
        });
        let nanos = if plan.pots.is_empty() { 0 } else { reserve(free.min().unwrap_or(i64::MAX)) };
        for pot in &plan.pots {
            self.check_pot(pot, nanos)?;
        }
        self.check_lines(&plan.lines, tokens, now)?;
        let mut held = Held { lines: self.charge(&plan.lines, tokens, now), pots: Vec::new(), nanos };
        for pot in &plan.pots {
            if let Some(purse) = self.purses.get_mut(&pot.entity) {
                purse.reserve(nanos);
                held.pots.push(pot.clone());
            }
        }
        Ok(held)
    }

    /// Sets more aside for a call that turns out to be dearer. What the store has admitted is not asked for again.
    pub fn raise(&mut self, claim: &Claim, held: &mut Held, more: i64, is_admitted: bool) -> Result<(), Refused> {
        for pot in held.pots.iter().filter(|pot| pot.strict && !is_admitted) {
            self.check_pot(pot, more)?;
        }
        self.hold(&held.pots, more);
        held.nanos = held.nanos.saturating_add(more);
        if let Some(flight) = self.flights.get_mut(claim) {
            flight.nanos = held.nanos;
        }
        Ok(())
    }

    /// A call has cost so much, and holds nothing any more. Says which budgets have come to their soft limit by it.
    pub fn spend(&mut self, held: &Held, cost_nanos: i64, is_booked_later: bool) -> Vec<Crossed> {
        let mut crossed = Vec::new();
        for pot in &held.pots {
            let Some(purse) = self.purses.get_mut(&pot.entity) else { continue };
            purse.give_back(held.nanos);
            purse.spend(cost_nanos, is_booked_later);
            let spent = purse.spent();
            if pot.soft_nanos.is_some_and(|soft| spent >= soft) && purse.told.is_none() {
                purse.told = Some(spent);
                crossed.push(Crossed { pot: pot.clone(), spent });
            }
        }
        crossed
    }

    /// Money is set aside, here or in the store as well.
    pub fn depart(&mut self, claim: Claim, held: &Held, is_stored: bool) {
        if !held.pots.is_empty() {
            let entities = held.pots.iter().map(|pot| pot.entity.clone()).collect();
            self.flights.insert(claim, Flight { entities, nanos: held.nanos, is_stored });
        }
    }

    /// The call or its attempt has ended; whether something is set aside for it in the store.
    pub fn arrive(&mut self, claim: &Claim) -> bool {
        self.flights.remove(claim).is_some_and(|flight| flight.is_stored)
    }

    /// Whether the store holds money for it.
    pub fn is_stored(&self, claim: &Claim) -> bool {
        self.flights.get(claim).is_some_and(|flight| flight.is_stored)
    }

    /// Sets aside without asking whether there is room: the store was asked.
    pub fn hold(&mut self, pots: &[Pot], nanos: i64) {
        for pot in pots {
            self.purse(&pot.entity).reserve(nanos);
        }
    }

    /// Who has set money aside that is not in the store, with each of the sums and how much that is.
    pub fn flying(&self) -> Vec<(Claim, Vec<Arc<Entity>>, i64)> {
        let unstored = self.flights.iter().filter(|(_, flight)| !flight.is_stored);
        unstored.map(|(claim, flight)| (*claim, flight.entities.clone(), flight.nanos)).collect()
    }

    /// So much is in the store now; what was set aside beyond that meanwhile, and none where it has ended.
    pub fn mark_stored(&mut self, claim: &Claim, nanos: i64) -> Option<i64> {
        let flight = self.flights.get_mut(claim)?;
        flight.is_stored = flight.nanos <= nanos;
        Some(flight.nanos.saturating_sub(nanos).max(0))
    }

    /// What was set aside is free again.
    pub fn give_back(&mut self, held: &Held) {
        for pot in &held.pots {
            if let Some(purse) = self.purses.get_mut(&pot.entity) {
                purse.give_back(held.nanos);
            }
        }
    }

    /// The sum of an entity, to be read into.
    pub fn purse(&mut self, entity: &Arc<Entity>) -> &mut Purse {
        if self.purses.len() >= MOST_PURSES && !self.purses.contains_key(entity) {
            self.purses.retain(|_, purse| !purse.is_idle());
            self.has_forgotten = true;
        }
        self.purses.entry(entity.clone()).or_default()
    }

    /// What the budgets of a call have spent so far.
    pub fn spent(&self, pot: &Pot) -> i64 {
        self.purses.get(&pot.entity).map_or(0, Purse::spent)
    }

    fn is_read(&self, entity: &Entity) -> bool {
        self.purses.get(entity).is_some_and(Purse::is_read)
    }

    fn check_pot(&self, pot: &Pot, nanos: i64) -> Result<(), Refused> {
        let (Some(purse), Some(max)) = (self.purses.get(&pot.entity), pot.max_nanos) else { return Ok(()) };
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
            let Some(account) = self.accounts.get_mut(&line.subject) else {
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
            let refuse = |unit, limit, used, need, at: Option<Slot>| {
                (at.unwrap_or(Slot::MAX), Refused::Rate { subject: line.subject.clone(), unit, limit, used, need, at })
            };
            let mut refusals = Vec::new();
            if let Some(limit) = line.parallel.filter(|limit| account.parallel >= *limit) {
                refusals.push((now, refuse(Unit::Parallel, limit, account.parallel, 1, None).1));
            }
            if let Some(limit) = line.requests {
                let used = account.requests.used(now);
                if used >= limit {
                    refusals.push(refuse(Unit::Requests, limit, used, 1, account.requests.fits_at(now, limit, 1)));
                }
            }
            if let Some(limit) = line.tokens {
                let used = account.tokens.used(now);
                // A call that is larger than the limit passes alone: what it will use is a guess.
                let need = tokens.clamp(1, limit.max(1));
                if limit == 0 || used.saturating_add(need) > limit {
                    refusals.push(refuse(Unit::Tokens, limit, used, need, account.tokens.fits_at(now, limit, need)));
                }
            }
            for refusal in refusals {
                if worst.as_ref().is_none_or(|(at, _)| refusal.0 > *at) {
                    worst = Some(refusal);
                }
            }
        }
        worst.map_or(Ok(()), |(_, refused)| Err(refused))
    }

    pub fn charge(&mut self, lines: &[Line], tokens: u64, now: Slot) -> Vec<HeldLine> {
        if self.accounts.len() >= self.sweep_at.max(MANY) {
            self.accounts.retain(|_, a| a.parallel > 0 || !a.requests.is_empty(now) || !a.tokens.is_empty(now));
            // Whoever fills it within a minute must not make each call go through all of it.
            self.sweep_at = self.accounts.len() * 2;
        }
        let charge = |line: &Line| {
            let account = self.accounts.entry(line.subject.clone()).or_default();
            account.parallel += u64::from(line.parallel.is_some());
            HeldLine {
                subject: line.subject.clone(),
                requests: line.requests.map(|_| account.requests.add(now, 1)),
                tokens: line.tokens.map(|_| (account.tokens.add(now, tokens), tokens)),
                more: Vec::new(),
                parallel: line.parallel.is_some(),
            }
        };
        lines.iter().map(charge).collect()
    }

    /// The call has used so many tokens so far: what goes beyond the reservation is counted when it comes.
    pub fn count_on(&mut self, held: &mut [HeldLine], tokens: u64, now: Slot) {
        for line in held {
            let (Some((_, counted)), Some(account)) = (line.tokens, self.accounts.get_mut(&line.subject)) else {
                continue;
            };
            let counted = line.more.iter().fold(counted, |sum, (_, more)| sum.saturating_add(*more));
            if tokens > counted {
                let more = tokens - counted;
                line.more.push((account.tokens.add(now, more), more));
            }
        }
    }

    /// The call is over, having used these tokens; none where it was never made, and nothing of it counts.
    pub fn release(&mut self, held: Vec<HeldLine>, tokens: Option<u64>, now: Slot) {
        for line in held {
            let Some(account) = self.accounts.get_mut(&line.subject) else { continue };
            account.parallel -= u64::from(line.parallel && account.parallel > 0);
            if let (Some(slot), None) = (line.requests, tokens) {
                account.requests.take_back(slot, 1);
            }
            let Some((slot, counted)) = line.tokens else { continue };
            let used = tokens.unwrap_or(0);
            let mut counts = vec![(slot, counted)];
            counts.extend(line.more);
            let counted = counts.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
            if used >= counted {
                account.tokens.add(now, used - counted);
                continue;
            }
            // What came last was counted too much first.
            let mut too_much = counted - used;
            for (slot, count) in counts.into_iter().rev() {
                let back = too_much.min(count);
                account.tokens.take_back(slot, back);
                too_much -= back;
            }
        }
    }

    /// What is left of each limit, now that the call is counted.
    pub fn left(&mut self, lines: &[Line], now: Slot) -> Vec<Left> {
        let mut all = Vec::new();
        for line in lines {
            let Some(account) = self.accounts.get_mut(&line.subject) else { continue };
            let mut tell = |unit, limit: Option<u64>, used: u64, free_at| {
                if let Some(limit) = limit {
                    let left = limit.saturating_sub(used);
                    all.push(Left { subject: line.subject.clone(), unit, limit, left, free_at });
                }
            };
            let parallel = account.parallel;
            for (unit, limit, bucket) in [
                (Unit::Requests, line.requests, &mut account.requests),
                (Unit::Tokens, line.tokens, &mut account.tokens),
            ] {
                if limit.is_some() {
                    tell(unit, limit, bucket.used(now), bucket.empty_at(now));
                }
            }
            tell(Unit::Parallel, line.parallel, parallel, now);
        }
        all
    }

    /// Output tokens that an answer of the model is expected to have.
    pub fn pace(&self, model: &str) -> Option<u64> {
        self.paces.get(model).map(|pace| pace.div_ceil(16))
    }

    /// An answer of the model had so many.
    pub fn learn(&mut self, model: &str, output: u64) {
        let output = output.min(1 << 32);
        match self.paces.get_mut(model) {
            Some(pace) => *pace = *pace - *pace / 8 + output * 2,
            None => {
                if self.paces.len() >= MANY {
                    self.paces.clear();
                }
                self.paces.insert(model.to_owned(), output * 16);
            }
        }
    }
}

#[cfg(test)]
mod tests;
