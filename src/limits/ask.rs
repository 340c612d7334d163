//! How a plan is asked for: the rates in memory or in Redis, the money in memory or in the store.

use super::book::{Held, Refused};
use super::bound::{self, Bound};
use super::bucket::Slot;
use super::permit::{Permit, Strict};
use super::plan::{Plan, Pot};
use super::refusal::{self, Told};
use super::{Asked, Limits, Worth, demand, remote, share};
use crate::auth::Caller;
use crate::config::limits::Limits as Settings;
use crate::database::{self, State, Watch};
use crate::error::{Error, Result};
use crate::route::Tariff;
use crate::store::{self, Entity, Reservation};
use crate::usage::Usage;
use std::sync::Arc;

/// Reads that a booking got in the way of, before a call is told to come again.
const MOST_READS: usize = 100;
/// Times that a call asks the store for room, under a budget of which others take at the same time.
const SHARED_TRIES: usize = 5;

impl Limits {
    /// Checks and charges a plan. `attempt` is set for an attempt, with what bounds its call.
    pub(super) async fn ask(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        mut plan: Plan,
        attempt: Option<Option<Strict>>,
    ) -> Result<Permit> {
        let is_free = !plan.pots.is_empty() && asked.is_free();
        if is_free {
            plan.pots.clear();
        }
        if plan.is_empty() {
            return Ok(Permit::free());
        }
        let remote = self.ask_remote(settings, asked, &plan).await?;
        match remote {
            Some(_) => plan.lines.clear(),
            None => plan.divide(self.share.gateways()),
        }
        let permit = self.ask_here(database, settings, asked, &plan, attempt).await?;
        // Where this is not come to, what is held there is given back.
        Ok(permit.with_remote(remote))
    }

    /// Asks the server that several gateways share for leave under the rates of a call; none where there is none.
    async fn ask_remote(
        &self,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
    ) -> Result<Option<remote::Admitted>> {
        if settings.redis.is_none() || plan.lines.is_empty() {
            return Ok(None);
        }
        let slot = self.slot();
        let expected = asked.demand.expected(self.book().pace(asked.model));
        match self.remote.admit(&plan.lines, &asked.id, settings.counted.tokens(&expected), slot).await {
            None => Ok(None),
            Some(Ok(admitted)) => Ok(Some(admitted)),
            Some(Err(refused)) => Err(self.told(settings, asked.caller, slot, database::now(), &refused)),
        }
    }

    async fn ask_here(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
        attempt: Option<Option<Strict>>,
    ) -> Result<Permit> {
        let now = database::now();
        let bound = match attempt {
            Some(strict) => strict.map(|strict| strict.bound),
            None => match asked.worth {
                Worth::Body(face, envelope) if plan.is_strict() => {
                    let limit = asked.tariff.max_output();
                    let bound = Bound::of(face, envelope, &asked.demand, limit)?;
                    // A price that is not known has no bound.
                    bound.nanos(asked.tariff, 1).ok_or_else(|| bound::unpriced(asked.model))?;
                    Some(bound)
                }
                Worth::Body(..) | Worth::Known(_) => None,
            },
        };
        // While the store is away what is known of budgets is counted on here, but for those that are never exceeded.
        let is_away = database.state() == State::Down && !plan.is_strict();
        let mut is_looked_up = false;
        for _ in 0..MOST_READS {
            let counts_in_store = !plan.pots.is_empty() && !is_away;
            if counts_in_store && self.share.is_shared().await.ok_or_else(refusal::unread)? {
                if attempt.is_none() {
                    return self.ask_store(settings, asked, plan, bound).await;
                }
                // What is spent where an attempt goes is looked up; nothing is set aside for it.
                if !std::mem::replace(&mut is_looked_up, true) {
                    self.book().forget(&plan.pots);
                }
            }
            let slot = self.slot();
            let mut strict = None;
            let outcome = {
                let mut book = self.book();
                if counts_in_store && attempt.is_none() && self.share.mode() != share::Mode::Alone {
                    // Another gateway came between: what calls held in memory was put into the store already.
                    continue;
                }
                let expected = asked.demand.expected(book.pace(asked.model));
                let tokens = settings.counted.tokens(&expected);
                let reserve = |free: i64| match (bound, attempt) {
                    (None, _) => asked.nanos(&expected),
                    (Some(bound), Some(known)) => {
                        strict = known;
                        known.and_then(|known| bound.nanos(asked.tariff, known.output)).unwrap_or(i64::MAX)
                    }
                    (Some(bound), None) => {
                        let reserved = bound.within(asked.tariff, free);
                        strict = reserved.map(|reserved| bound.strict(reserved.output));
                        reserved.map_or(i64::MAX, |reserved| reserved.nanos)
                    }
                };
                let held = book.admit(plan, tokens, reserve, slot);
                held.map(|held| {
                    if attempt.is_none() {
                        book.depart(asked.id, &held, false);
                    }
                    let left = book.left(&plan.lines, slot);
                    let spent: Vec<i64> = plan.pots.iter().map(|pot| book.spent(pot)).collect();
                    (held, left, spent)
                })
            };
            match outcome {
                Ok((held, left, spent)) => {
                    let mut headers = refusal::headers(&left, slot);
                    refusal::add_budgets(&mut headers, plan.pots.iter().zip(spent));
                    let model = attempt.is_none().then(|| asked.model.to_owned());
                    let id = (attempt.is_none() && !plan.pots.is_empty()).then_some(asked.id);
                    return Ok(Permit::new(self.clone(), held, model, id, settings.counted, strict, headers));
                }
                Err(Refused::Unread(entities)) => self.read(database, &entities, !plan.is_strict()).await?,
                Err(refused) => return Err(self.told(settings, asked.caller, slot, now, &refused)),
            }
        }
        Err(refusal::unread())
    }

    /// The same for a call of one of several gateways: rates are this gateway's part, and money is set aside in the store.
    async fn ask_store(
        self: &Arc<Self>,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
        bound: Option<Bound>,
    ) -> Result<Permit> {
        let (slot, now) = (self.slot(), database::now());
        let told = |refused: Refused| self.told(settings, asked.caller, slot, now, &refused);
        let expected = asked.demand.expected(self.book().pace(asked.model));
        let tokens = settings.counted.tokens(&expected);
        self.book().check_lines(&plan.lines, tokens, slot).map_err(told)?;
        let entities: Vec<Entity> = plan.pots.iter().map(|pot| (*pot.entity).clone()).collect();
        let id = asked.id.hyphenated().to_string();
        let mut last = None;
        for _ in 0..if bound.is_some() { SHARED_TRIES } else { 1 } {
            let totals = self.store.totals(&entities).await.map_err(|_| refusal::unread())?;
            let free = plan.pots.iter().zip(&totals).filter(|(pot, _)| pot.strict).filter_map(|(pot, total)| {
                Some(pot.max_nanos?.saturating_sub(total.spent()).saturating_sub(total.reserved_nanos))
            });
            let (nanos, strict) = match bound {
                Some(bound) => {
                    let reserved = bound.within(asked.tariff, free.min().unwrap_or(i64::MAX));
                    let reserved = reserved.ok_or_else(|| bound::unpriced(asked.model))?;
                    (reserved.nanos, Some(bound.strict(reserved.output)))
                }
                None => (asked.nanos(&expected), None),
            };
            let wanted: Vec<Reservation> = plan.pots.iter().map(|pot| wanted(pot, nanos)).collect();
            match self.store.reserve(&id, &self.node, &wanted, now).await {
                Ok(Ok(())) => {
                    let mut held = Held { lines: Vec::new(), pots: plan.pots.clone(), nanos };
                    let charged = {
                        let mut book = self.book();
                        book.hold(&held.pots, nanos);
                        book.depart(asked.id, &held, true);
                        // Another call may have taken the last place of a rate meanwhile.
                        book.check_lines(&plan.lines, tokens, slot).map(|()| {
                            held.lines = book.charge(&plan.lines, tokens, slot);
                            book.left(&plan.lines, slot)
                        })
                    };
                    let mut headers = charged.as_ref().map_or_else(|_| Vec::new(), |left| refusal::headers(left, slot));
                    refusal::add_budgets(&mut headers, plan.pots.iter().zip(totals.iter().map(store::Total::spent)));
                    let model = Some(asked.model.to_owned());
                    // Dropped, it gives back what the store holds.
                    let permit =
                        Permit::new(self.clone(), held, model, Some(asked.id), settings.counted, strict, headers);
                    return charged.map(|_| permit).map_err(told);
                }
                // With less room than was seen a moment ago a lower limit may fit.
                Ok(Err(refused)) => last = Some((refused, nanos)),
                Err(fault) => {
                    tracing::warn!("what a call may cost cannot be set aside in the store: {fault}");
                    return Err(refusal::unread());
                }
            }
        }
        let found = last.and_then(|(refused, need)| {
            let pot = plan.pots.iter().find(|pot| *pot.entity == refused.entity)?;
            let (spent, reserved) = (refused.spent_nanos, refused.reserved_nanos);
            Some(Refused::Budget { pot: Box::new(pot.clone()), spent, reserved, need })
        });
        Err(found.map_or_else(refusal::unread, told))
    }

    fn told(&self, settings: &Settings, caller: &Caller, slot: Slot, now: i64, refused: &Refused) -> Error {
        refused.error(&Told { caller, slot, now, over_budget: settings.over_budget })
    }

    /// The call goes to a dearer deployment than it was admitted for; true where more is set aside now.
    ///
    /// # Errors
    /// A budget that is never to be exceeded has not so much left.
    pub fn raise(&self, settings: &Settings, caller: &Caller, permit: &mut Permit, tariff: &Tariff) -> Result<bool> {
        let refused = |refused: Refused| self.told(settings, caller, self.slot(), database::now(), &refused);
        permit.raise(tariff, refused)
    }
}

impl Asked<'_> {
    /// Whether budgets are no matter.
    fn is_free(&self) -> bool {
        match self.worth {
            Worth::Body(..) => demand::is_free(self.tariff),
            Worth::Known(nanos) => nanos == 0,
        }
    }

    /// What it costs with this usage, if the usage matters.
    fn nanos(&self, expected: &Usage) -> i64 {
        match self.worth {
            Worth::Body(..) => i64::try_from(self.tariff.charge(expected).nanos).unwrap_or(i64::MAX),
            Worth::Known(nanos) => nanos,
        }
    }
}

/// What a call asks of a budget in the store.
fn wanted(pot: &Pot, nanos: i64) -> Reservation {
    Reservation { entity: (*pot.entity).clone(), nanos, limit_nanos: pot.max_nanos, strict: pot.strict }
}
