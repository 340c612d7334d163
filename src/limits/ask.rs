//! How a plan is asked for: the rates in memory or in Redis, the money in memory or in the store.

use super::book::{Claim, Held, Refused};
use super::bound::{self, Bound};
use super::bucket::Slot;
use super::permit::{Permit, Strict};
use super::plan::{Plan, Pot};
use super::refusal::{self, Told};
use super::share::Mode;
use super::{Asked, Denied, Limits, Worth, demand, remote};
use crate::auth::Caller;
use crate::config::limits::Limits as Settings;
use crate::database::{self, State, Watch};
use crate::error::Error;
use crate::route::Tariff;
use crate::store::{self, Entity, Reservation};
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

/// What is asked, with all that is known of it.
#[derive(Clone, Copy)]
struct Question<'a> {
    database: &'a Watch,
    settings: &'a Settings,
    asked: &'a Asked<'a>,
    asker: Asker,
    expected: Expected,
    /// The most that it costs, where a budget is never to be exceeded.
    bound: Option<Bound>,
}

/// What a call will probably use.
#[derive(Debug, Clone, Copy)]
struct Expected {
    tokens: u64,
    nanos: i64,
}

/// What the book says of a call.
enum Said {
    Admitted(Permit),
    Denied(Denied),
    /// These sums are to be read first.
    Unread(Vec<Arc<Entity>>),
    /// Another gateway came between: what calls held in memory was put into the store already.
    Moved,
}

impl Limits {
    /// Checks and charges a plan.
    pub(super) async fn ask(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        mut plan: Arc<Plan>,
        asker: Asker,
    ) -> Result<Permit, Denied> {
        if plan.is_empty() {
            return Ok(Permit::free());
        }
        let expected = asked.expected(settings, &plan);
        if !plan.pots.is_empty() && expected.nanos == 0 && asked.is_free() {
            plan = Arc::new(plan.without_budgets());
        }
        let mut question = Question { database, settings, asked, asker, expected, bound: None };
        // Most calls are under limits that this gateway counts alone, and wait for nothing.
        let is_alone = self.share.gateways() == 1 && (plan.pots.is_empty() || self.share.mode() == Mode::Alone);
        if is_alone && settings.redis.is_none() && !plan.is_strict() {
            match self.ask_book(&question, &plan, !plan.pots.is_empty()) {
                Said::Admitted(permit) => return Ok(permit),
                Said::Denied(denied) => return Err(denied),
                Said::Unread(_) | Said::Moved => (),
            }
        }
        question.bound = question.bound_under(&plan)?;
        Box::pin(self.ask_around(&question, plan)).await
    }

    /// The same where somebody else may have to be asked: the server that counts rates, the store, other gateways.
    async fn ask_around(self: &Arc<Self>, question: &Question<'_>, mut plan: Arc<Plan>) -> Result<Permit, Denied> {
        let remote = self.ask_remote(question, &plan).await?;
        match remote {
            Some(_) => plan = Arc::new(plan.without_rates()),
            None if self.share.gateways() > 1 => plan = Arc::new(plan.divided(self.share.gateways())),
            None => (),
        }
        if plan.is_empty() && remote.is_none() {
            return Ok(Permit::free());
        }
        let permit = self.ask_here(question, &plan).await?;
        // Where this is not come to, what is held there is given back.
        Ok(permit.with_remote(remote))
    }

    /// Asks the server that several gateways share for leave under the rates of a call; none where there is none.
    async fn ask_remote(&self, question: &Question<'_>, plan: &Plan) -> Result<Option<remote::Admitted>, Denied> {
        let Question { settings, asked, asker, expected, .. } = *question;
        if settings.redis.is_none() || plan.lines.is_empty() {
            return Ok(None);
        }
        let slot = self.slot();
        // The end of an attempt may be told after the next one at the same deployment has begun.
        let id = if asker.is_call() { asked.id } else { crate::meter::new_id() };
        match self.remote.admit(&plan.lines, &id, expected.tokens, slot).await {
            None => Ok(None),
            Some(Ok(admitted)) => Ok(Some(admitted)),
            Some(Err(refused)) => Err(self.told(settings, asked.caller, slot, database::now(), &refused)),
        }
    }

    async fn ask_here(self: &Arc<Self>, question: &Question<'_>, plan: &Arc<Plan>) -> Result<Permit, Denied> {
        let database = question.database;
        // While the store is away what is known of budgets is counted on here, but for those that are never exceeded.
        let is_away = database.state() == State::Down && !plan.is_strict();
        let counts_in_store = !plan.pots.is_empty() && !is_away;
        for _ in 0..MOST_READS {
            if counts_in_store && self.share.is_shared().await.ok_or_else(refusal::unread)? {
                return self.ask_store(question, plan).await;
            }
            match self.ask_book(question, plan, counts_in_store) {
                Said::Admitted(permit) => return Ok(permit),
                Said::Denied(denied) => return Err(denied),
                Said::Unread(entities) => self.read(database, &entities, !plan.is_strict()).await?,
                Said::Moved => (),
            }
        }
        Err(refusal::unread().into())
    }

    /// Asks in memory, in one step. `counts_alone` where that is only right while there is no other gateway.
    fn ask_book(self: &Arc<Self>, question: &Question<'_>, plan: &Arc<Plan>, counts_alone: bool) -> Said {
        let Question { settings, asked, expected, bound, .. } = *question;
        let slot = self.slot();
        let mut strict = None;
        let reserve = |free: i64| match bound {
            None => expected.nanos,
            Some(bound) => {
                let reserved = bound.within(asked.tariff, free);
                strict = reserved.map(|reserved| bound.strict(reserved.output));
                reserved.map_or(i64::MAX, |reserved| reserved.nanos)
            }
        };
        let claim = question.claim();
        let admitted = {
            let mut book = self.book();
            if counts_alone && self.share.mode() != Mode::Alone {
                return Said::Moved;
            }
            let mut admitted = book.admit(plan, expected.tokens, reserve, slot);
            if let Ok(held) = &mut admitted {
                book.depart(claim, held, false);
            }
            admitted
        };
        match admitted {
            Ok(held) => Said::Admitted(Permit::new(self.clone(), held, slot, claim, settings.counted, strict)),
            Err(Refused::Unread(entities)) => Said::Unread(entities),
            Err(refused) => Said::Denied(self.told(settings, asked.caller, slot, database::now(), &refused)),
        }
    }

    /// The same for a call of one of several gateways: rates are this gateway's part, and money is set aside in the store.
    async fn ask_store(self: &Arc<Self>, question: &Question<'_>, plan: &Arc<Plan>) -> Result<Permit, Denied> {
        let Question { settings, asked, expected: Expected { tokens, nanos }, bound, .. } = *question;
        let (slot, now) = (self.slot(), database::now());
        let told = |refused: Refused| self.told(settings, asked.caller, slot, now, &refused);
        self.book().check_lines(&plan.lines, tokens, slot).map_err(told)?;
        let entities: Vec<Entity> = plan.pots.iter().map(|pot| (*pot.entity).clone()).collect();
        let claim = question.claim();
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
                None => (nanos, None),
            };
            let wanted: Vec<Reservation> = plan.pots.iter().map(|pot| wanted(pot, nanos)).collect();
            match self.store.reserve(&name, &self.node, &wanted, now).await {
                Ok(Ok(())) => {
                    let mut held = Held::new(plan.clone(), nanos);
                    let charged = {
                        let mut book = self.book();
                        for (pot, total) in held.pots().iter().zip(&totals) {
                            // What others have spent counts for a soft budget, too.
                            book.purse(&pot.entity).read(total.spent(), 0);
                        }
                        book.hold(held.pots(), nanos);
                        held.spent = totals.iter().map(store::Total::spent).collect();
                        book.depart(claim, &mut held, true);
                        // Another call may have taken the last place of a rate meanwhile.
                        book.check_lines(&plan.lines, tokens, slot).map(|()| {
                            held.lines = book.charge(&plan.lines, tokens, slot);
                        })
                    };
                    // Dropped, it gives back what the store holds.
                    let permit = Permit::new(self.clone(), held, slot, claim, settings.counted, strict);
                    return charged.map(|()| permit).map_err(told);
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
        database: &Watch,
        settings: &Settings,
        caller: &Caller,
        permit: &mut Permit,
        tariff: &Tariff,
    ) -> Result<bool, Error> {
        let told = |refused: Refused| self.told(settings, caller, self.slot(), database::now(), &refused).error;
        let Some((claim, pots, more)) = permit.lacks(tariff) else { return Ok(false) };
        // What is in the store is raised there, and what is about to be put there is raised when it is.
        self.share.is_shared().await.ok_or_else(refusal::unread)?;
        let is_stored = permit.is_stored();
        if is_stored {
            let asked: Vec<Reservation> = pots.iter().map(|pot| wanted(pot, more)).collect();
            match self.store.reserve(&claim.name(), &self.node, &asked, database::now()).await {
                Ok(Ok(())) => (),
                Ok(Err(refused)) => return Err(in_store(pots, refused, more).map_or_else(refusal::unread, told)),
                Err(fault) => return Err(not_set_aside(&fault)),
            }
        }
        for _ in 0..MOST_READS {
            match permit.raise(more, is_stored) {
                Ok(()) => return Ok(true),
                // They were forgotten since the call was admitted.
                Err(Refused::Unread(entities)) => self.read(database, &entities, false).await?,
                Err(refused) => return Err(told(refused)),
            }
        }
        Err(refusal::unread())
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

    /// What it will probably use, as far as that is limited.
    fn expected(&self, settings: &Settings, plan: &Plan) -> Expected {
        let usage = self.demand.expected(plan.pace.tokens());
        let nanos = match self.worth {
            _ if plan.pots.is_empty() => 0,
            Worth::Body(..) => i64::try_from(self.tariff.charge(&usage).nanos).unwrap_or(i64::MAX),
            Worth::Known(nanos) => nanos,
        };
        Expected { tokens: settings.counted.tokens(&usage), nanos }
    }
}

impl Question<'_> {
    fn claim(&self) -> Claim {
        Claim { call: self.asked.id, is_visit: !self.asker.is_call() }
    }

    /// The most that the call costs, where that has to be known.
    fn bound_under(&self, plan: &Plan) -> Result<Option<Bound>, Error> {
        let asked = self.asked;
        let (face, envelope) = match (self.asker, asked.worth) {
            (_, Worth::Known(_)) => return Ok(None),
            _ if !plan.is_strict() => return Ok(None),
            (Asker::Visit(Some(strict)), Worth::Body(..)) => return Ok(Some(Bound::of_call(strict))),
            (Asker::Call | Asker::Visit(None), Worth::Body(face, envelope)) => (face, envelope),
        };
        let bound = Bound::of(face, envelope, &asked.demand, asked.tariff.max_output())?;
        // A price that is not known has no bound.
        bound.nanos(asked.tariff, 1).ok_or_else(|| bound::unpriced(asked.model))?;
        Ok(Some(bound))
    }
}

/// What a call asks of a budget in the store.
fn wanted(pot: &Pot, nanos: i64) -> Reservation {
    Reservation { entity: (*pot.entity).clone(), nanos, limit_nanos: pot.max_nanos, strict: pot.strict }
}
