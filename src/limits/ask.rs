//! How a plan is asked for: the rates in memory or in Redis, the money in memory or in the store.

use super::book::{Claim, Held, Refused};
use super::bound::{self, Bound};
use super::bucket::Slot;
use super::permit::{Permit, Strict};
use super::plan::{Plan, Pot};
use super::refusal::{self, Told};
use super::{Asked, Denied, Limits, Worth, demand, remote, share};
use crate::auth::Caller;
use crate::config::limits::Limits as Settings;
use crate::database::{self, State, Watch};
use crate::error::Error;
use crate::route::Tariff;
use crate::store::{self, Entity, Reservation};
use crate::usage::Usage;
use std::sync::Arc;
use std::time::Duration;

/// Reads that a booking got in the way of, before a call is told to come again.
const MOST_READS: usize = 100;
/// Times that a call asks the store for room, under a budget of which others take at the same time.
const SHARED_TRIES: usize = 5;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    Call,
    /// A call at a deployment, with what bounds it already.
    Visit(Option<Strict>),
}

impl Asker {
    fn is_call(self) -> bool {
        matches!(self, Asker::Call)
    }
}

impl Limits {
    /// Checks and charges a plan.
    pub(super) async fn ask(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        mut plan: Plan,
        asker: Asker,
    ) -> Result<Permit, Denied> {
        let is_free = !plan.pots.is_empty() && asked.is_free();
        if is_free {
            plan.pots.clear();
        }
        if plan.is_empty() {
            return Ok(Permit::free());
        }
        let remote = self.ask_remote(settings, asked, &plan, asker).await?;
        match remote {
            Some(_) => plan.lines.clear(),
            None => plan.divide(self.share.gateways()),
        }
        let permit = self.ask_here(database, settings, asked, &plan, asker).await?;
        // Where this is not come to, what is held there is given back.
        Ok(permit.with_remote(remote))
    }

    /// Asks the server that several gateways share for leave under the rates of a call; none where there is none.
    async fn ask_remote(
        &self,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
        asker: Asker,
    ) -> Result<Option<remote::Admitted>, Denied> {
        if settings.redis.is_none() || plan.lines.is_empty() {
            return Ok(None);
        }
        let slot = self.slot();
        // The end of an attempt may be told after the next one at the same deployment has begun.
        let id = if asker.is_call() { asked.id } else { crate::meter::new_id() };
        let expected = asked.demand.expected(self.book().pace(asked.model));
        match self.remote.admit(&plan.lines, &id, settings.counted.tokens(&expected), slot).await {
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
        asker: Asker,
    ) -> Result<Permit, Denied> {
        let now = database::now();
        let bound = match (asker, asked.worth) {
            (_, Worth::Known(_)) => None,
            _ if !plan.is_strict() => None,
            (Asker::Visit(Some(strict)), _) => Some(Bound::of_call(strict)),
            (Asker::Call | Asker::Visit(None), Worth::Body(face, envelope)) => {
                let limit = asked.tariff.max_output();
                let bound = Bound::of(face, envelope, &asked.demand, limit)?;
                // A price that is not known has no bound.
                bound.nanos(asked.tariff, 1).ok_or_else(|| bound::unpriced(asked.model))?;
                Some(bound)
            }
        };
        let claim = Claim { call: asked.id, is_visit: !asker.is_call() };
        // While the store is away what is known of budgets is counted on here, but for those that are never exceeded.
        let is_away = database.state() == State::Down && !plan.is_strict();
        for _ in 0..MOST_READS {
            let counts_in_store = !plan.pots.is_empty() && !is_away;
            if counts_in_store && self.share.is_shared().await.ok_or_else(refusal::unread)? {
                return self.ask_store(settings, asked, plan, bound, claim).await;
            }
            let slot = self.slot();
            let mut strict = None;
            let outcome = {
                let mut book = self.book();
                if counts_in_store && self.share.mode() != share::Mode::Alone {
                    // Another gateway came between: what calls held in memory was put into the store already.
                    continue;
                }
                let expected = asked.demand.expected(book.pace(asked.model));
                let tokens = settings.counted.tokens(&expected);
                let reserve = |free: i64| match bound {
                    None => asked.nanos(&expected),
                    Some(bound) => {
                        let reserved = bound.within(asked.tariff, free);
                        strict = reserved.map(|reserved| bound.strict(reserved.output));
                        reserved.map_or(i64::MAX, |reserved| reserved.nanos)
                    }
                };
                let held = book.admit(plan, tokens, reserve, slot);
                held.map(|held| {
                    book.depart(claim, &held, false);
                    let left = book.left(&plan.lines, slot);
                    let spent: Vec<i64> = plan.pots.iter().map(|pot| book.spent(pot)).collect();
                    (held, left, spent)
                })
            };
            match outcome {
                Ok((held, left, spent)) => {
                    let mut headers = refusal::headers(&left, slot);
                    refusal::add_budgets(&mut headers, plan.pots.iter().zip(spent));
                    let model = asker.is_call().then(|| asked.model.to_owned());
                    let claim = (!plan.pots.is_empty()).then_some(claim);
                    return Ok(Permit::new(self.clone(), held, model, claim, settings.counted, strict, headers));
                }
                Err(Refused::Unread(entities)) => self.read(database, &entities, !plan.is_strict()).await?,
                Err(refused) => return Err(self.told(settings, asked.caller, slot, now, &refused)),
            }
        }
        Err(refusal::unread().into())
    }

    /// The same for a call of one of several gateways: rates are this gateway's part, and money is set aside in the store.
    async fn ask_store(
        self: &Arc<Self>,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
        bound: Option<Bound>,
        claim: Claim,
    ) -> Result<Permit, Denied> {
        let (slot, now) = (self.slot(), database::now());
        let told = |refused: Refused| self.told(settings, asked.caller, slot, now, &refused);
        let expected = asked.demand.expected(self.book().pace(asked.model));
        let tokens = settings.counted.tokens(&expected);
        self.book().check_lines(&plan.lines, tokens, slot).map_err(told)?;
        let entities: Vec<Entity> = plan.pots.iter().map(|pot| (*pot.entity).clone()).collect();
        let name = claim.name();
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
            match self.store.reserve(&name, &self.node, &wanted, now).await {
                Ok(Ok(())) => {
                    let mut held = Held { lines: Vec::new(), pots: plan.pots.clone(), nanos };
                    let charged = {
                        let mut book = self.book();
                        for (pot, total) in held.pots.iter().zip(&totals) {
                            // What others have spent counts for a soft budget, too.
                            book.purse(&pot.entity).read(total.spent(), 0);
                        }
                        book.hold(&held.pots, nanos);
                        book.depart(claim, &held, true);
                        // Another call may have taken the last place of a rate meanwhile.
                        book.check_lines(&plan.lines, tokens, slot).map(|()| {
                            held.lines = book.charge(&plan.lines, tokens, slot);
                            book.left(&plan.lines, slot)
                        })
                    };
                    let mut headers = charged.as_ref().map_or_else(|_| Vec::new(), |left| refusal::headers(left, slot));
                    refusal::add_budgets(&mut headers, plan.pots.iter().zip(totals.iter().map(store::Total::spent)));
                    let model = (!claim.is_visit).then(|| asked.model.to_owned());
                    // Dropped, it gives back what the store holds.
                    let permit = Permit::new(self.clone(), held, model, Some(claim), settings.counted, strict, headers);
                    return charged.map(|_| permit).map_err(told);
                }
                // With less room than was seen a moment ago a lower limit may fit.
                Ok(Err(refused)) => last = Some((refused, nanos)),
                Err(fault) => return Err(not_set_aside(&fault).into()),
            }
        }
        let found = last.and_then(|(refused, need)| in_store(&plan.pots, refused, need));
        Err(found.map_or_else(|| refusal::unread().into(), told))
    }

    fn told(&self, settings: &Settings, caller: &Caller, slot: Slot, now: i64, refused: &Refused) -> Denied {
        let wait = refused.wait_ms(slot).map(Duration::from_millis);
        Denied { error: refused.error(&Told { caller, slot, now, over_budget: settings.over_budget }), wait }
    }

    /// The call goes to a dearer deployment than it was admitted for; true where more is set aside now.
    ///
    /// # Errors
    /// A budget that is never to be exceeded has not so much left.
    pub async fn raise(
        &self,
        settings: &Settings,
        caller: &Caller,
        permit: &mut Permit,
        tariff: &Tariff,
    ) -> Result<bool, Error> {
        let told = |refused: Refused| self.told(settings, caller, self.slot(), database::now(), &refused).error;
        let Some((claim, pots, more)) = permit.lacks(tariff) else { return Ok(false) };
        // What is in the store is raised there, and what is about to be put there is raised when it is.
        self.share.is_shared().await.ok_or_else(refusal::unread)?;
        let is_stored = self.book().is_stored(&claim);
        if is_stored {
            let asked: Vec<Reservation> = pots.iter().map(|pot| wanted(pot, more)).collect();
            match self.store.reserve(&claim.name(), &self.node, &asked, database::now()).await {
                Ok(Ok(())) => (),
                Ok(Err(refused)) => return Err(in_store(pots, refused, more).map_or_else(refusal::unread, told)),
                Err(fault) => return Err(not_set_aside(&fault)),
            }
        }
        permit.raise(more, is_stored).map_err(told)?;
        Ok(true)
    }
}

/// What the store says of a budget that has no room.
fn in_store(pots: &[Pot], refused: store::Refusal, need: i64) -> Option<Refused> {
    let pot = pots.iter().find(|pot| *pot.entity == refused.entity)?;
    let (spent, reserved) = (refused.spent_nanos, refused.reserved_nanos);
    Some(Refused::Budget { pot: Box::new(pot.clone()), spent, reserved, need })
}

fn not_set_aside(fault: &store::Fault) -> Error {
    tracing::warn!("what a call may cost cannot be set aside in the store: {fault}");
    refusal::unread()
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
