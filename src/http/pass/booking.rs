//! The row of a call that is passed on: opened before it goes on, settled when its answer is over.

use crate::auth::Caller;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::gateway::{Live, Worker};
use crate::http::entry;
use crate::ledger::Pen;
use crate::limits::plan::is_strict;
use crate::limits::{Asked, Demand, Denied, Permit, Worth};
use crate::meter;
use crate::route::{Deployment, Tariff};
use crate::store::{LedgerRow, Settled};
use crate::usage::Usage;
use actix_web::HttpRequest;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

/// Longer messages say nothing more.
const MOST_MESSAGE: usize = 1000;

/// What is known of such a call beforehand.
pub struct Terms<'a> {
    /// The route, for the ledger.
    pub endpoint: &'a str,
    /// LiteLLM's word for it.
    pub call_type: &'static str,
    pub provider: &'a str,
    pub api_base: &'a str,
    /// The name under which limits know it.
    pub model: &'a str,
    pub upstream_model: Option<&'a str>,
    pub deployment: Option<&'a Deployment>,
    /// What it costs whatever it uses.
    pub cost_nanos: u64,
    /// The price of what it uses.
    pub tariff: Tariff,
    /// The body, where one is known to be a call of a model.
    pub body: Option<(Face, &'a Envelope)>,
    pub streams: bool,
    /// What it costs is known only when it is over: a budget that is spent refuses it, and a strict one does too.
    pub spends: bool,
    /// It is used already: no limit can refuse it any more.
    pub is_owed: bool,
    /// A deployment that was chosen here: its own limits are asked as well.
    pub routed: Option<&'a Arc<Deployment>>,
}

/// A call on its way into the ledger.
pub struct Booking {
    pub id: Uuid,
    started: Instant,
    pen: Option<Rc<Pen>>,
    permit: Permit,
    /// What the deployment has set aside for it.
    visit: Permit,
    call: Box<Settled>,
    key: String,
    tariff: Tariff,
    cost_nanos: u64,
    prompt_bytes: usize,
    usage: Option<Usage>,
    /// Output tokens that were seen, where nobody says how many there are.
    seen: Option<u64>,
    settled: bool,
}

impl Booking {
    /// # Errors
    /// A limit of the caller does not admit it; a 503 where the ledger cannot be written.
    pub async fn open(
        request: &HttpRequest,
        worker: &Worker,
        live: &Live,
        caller: &Caller,
        terms: Terms<'_>,
        id: Uuid,
    ) -> Result<Booking> {
        let said = match terms.body {
            Some((_, envelope)) => entry::of(request, envelope, Face::Chat),
            None => Booking::said(request)?,
        };
        Ok(Booking::open_for(said, worker, live, caller, terms, id).await?)
    }

    /// What a request without a body that could be read says of itself for the ledger, in its headers.
    ///
    /// # Errors
    /// Never.
    pub fn said(request: &HttpRequest) -> Result<LedgerRow> {
        let nothing = Envelope::parse(Bytes::from_static(b"{}"), 2)?;
        Ok(entry::of(request, &nothing, Face::Chat))
    }

    /// As [`Booking::open`], with what a request has said of itself before.
    ///
    /// # Errors
    /// As [`Booking::open`]; with a time to wait where it is the deployment that does not admit it now.
    pub async fn open_for(
        said: LedgerRow,
        worker: &Worker,
        live: &Live,
        caller: &Caller,
        terms: Terms<'_>,
        id: Uuid,
    ) -> std::result::Result<Booking, Denied> {
        let cost = i64::try_from(terms.cost_nanos).unwrap_or(i64::MAX);
        // What costs nothing is under no budget.
        let cost = if terms.spends { cost.max(1) } else { cost };
        let mut row = LedgerRow {
            call_type: terms.call_type.to_owned(),
            endpoint: terms.endpoint.to_owned(),
            provider: Some(terms.provider.to_owned()),
            api_base: Some(terms.api_base.to_owned()),
            upstream_model: terms.upstream_model.map(str::to_owned),
            deployment: terms.deployment.map(|deployment| deployment.id.clone()),
            status: "interrupted".to_owned(),
            ..said
        };
        meter::begin(&mut row, &id, caller, terms.model);
        row.stream = terms.streams;
        let asked = Asked {
            id,
            caller,
            model: terms.model,
            end_user: row.end_user.as_deref(),
            tags: &row.tags,
            worth: terms.body.map_or(Worth::Known(cost), |(face, envelope)| Worth::Body(face, envelope)),
            demand: terms.body.map_or_else(Demand::default, |(_, envelope)| Demand::of(envelope)),
            tariff: &terms.tariff,
            is_strained: false,
        };
        if !terms.is_owed {
            worker.gateway.customers.admit(asked.end_user)?;
        }
        let (limits, database) = (&worker.gateway.limits, &worker.gateway.database);
        let permit = match limits.admit(&worker.plans, database, &live.config.limits, &asked).await {
            // A budget that is spent already counts no more.
            Err(_) if terms.is_owed => Permit::none(),
            admitted => admitted?,
        };
        if terms.body.is_some() && permit.strict().is_some_and(|strict| strict.is_set) {
            let why = "A budget of this call is strict (budget_mode), and what is passed on is not changed: name the limit of the answer (max_tokens, max_output_tokens), as low as the budget affords.";
            return Err(Error::invalid(why).at_param("max_tokens").into());
        }
        if terms.spends && terms.body.is_none() && !terms.is_owed && is_bound(live, caller, &permit) {
            let why =
                "A budget of this call is strict (budget_mode), and nobody can say beforehand what it costs at most.";
            return Err(Error::invalid(why).into());
        }
        let visit = match terms.routed {
            Some(deployment) => {
                let settings = &live.config.limits;
                let (plans, database) = (&worker.plans, &worker.gateway.database);
                limits.enter(plans, database, settings, &asked, deployment, permit.strict()).await?
            }
            None => Permit::none(),
        };
        row.reserved_nanos = permit.reserved_nanos().max(visit.reserved_nanos());
        row.node = Some(limits.node.clone());
        let call = Settled {
            windows: permit.sums().chain(visit.sums()).cloned().collect(),
            reserved: permit.is_stored() || visit.is_stored(),
            row,
            ..Settled::default()
        };
        let mut booking = Booking {
            id,
            started: Instant::now(),
            pen: None,
            permit,
            visit,
            call: Box::new(call),
            key: caller.name().to_owned(),
            tariff: terms.tariff,
            cost_nanos: terms.cost_nanos,
            prompt_bytes: terms.body.map_or(0, |(_, envelope)| envelope.bytes().len()),
            usage: None,
            seen: terms.body.map(|_| 0),
            settled: false,
        };
        // Should the process end, this is what the row says.
        booking.count("interrupted");
        if live.config.ledger.enabled {
            let opened = worker.pen.open(&booking.call, live.config.ledger.serve_unaccounted);
            if opened.inspect_err(|_| booking.settled = true)? {
                booking.pen = Some(worker.pen.clone());
            }
        }
        Ok(booking)
    }

    /// What the upstream says was used so far.
    pub fn used(&mut self, usage: Option<Usage>) {
        self.usage = usage.or(self.usage);
    }

    /// Tokens of the answer so far, for want of a better count; none where nothing is to be guessed.
    pub fn saw(&mut self, tokens: Option<u64>) {
        self.seen = tokens;
    }

    pub fn answered_as(&mut self, id: Option<String>) {
        let row = &mut self.call.row;
        row.upstream_id = row.upstream_id.take().or(id);
    }

    /// What it costs by what is known so far.
    pub fn cost(&self) -> Option<u64> {
        match self.usage {
            Some(usage) => self.tariff.cost(&usage).map(|nanos| nanos.saturating_add(self.cost_nanos)),
            None => (self.cost_nanos > 0).then_some(self.cost_nanos),
        }
    }

    /// Fills in what was used, and what that costs.
    fn count(&mut self, outcome: &str) -> Usage {
        let failed = outcome == "failure";
        let guess = self.seen.filter(|seen| !failed || *seen > 0).map(|seen| Usage {
            prompt_tokens: meter::estimate(self.prompt_bytes),
            completion_tokens: seen,
            ..Usage::default()
        });
        let guess = guess.filter(|guess| !guess.is_nothing());
        self.call.row.estimated = self.usage.is_none() && guess.is_some();
        let usage = self.usage.or(guess).unwrap_or_default();
        let mut charge = if usage.is_nothing() { Default::default() } else { self.tariff.charge(&usage) };
        if self.usage.is_none() {
            charge = self.permit.at_most(charge);
            if outcome == "interrupted" {
                charge = self.permit.charge_if_lost().filter(|_| self.seen.is_some()).unwrap_or(charge);
            }
        }
        if !failed {
            charge.nanos = charge.nanos.saturating_add(self.cost_nanos);
            charge.other_nanos = charge.other_nanos.saturating_add(self.cost_nanos);
        }
        meter::count(&mut self.call.row, &usage, &charge);
        usage
    }

    pub fn settle(&mut self, outcome: &str, status: u16, error: Option<&str>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let usage = self.count(outcome);
        let took = self.started.elapsed();
        let row = &mut self.call.row;
        row.ended_at = row.started_at.saturating_add(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        outcome.clone_into(&mut row.status);
        row.http_status = Some(i64::from(status));
        if outcome == "failure" {
            row.error_class = Some("pass_through".to_owned());
            row.error = error.map(|error| error.chars().take(MOST_MESSAGE).collect());
        }
        let cost = row.cost_nanos;
        self.call.reserved = self.permit.settle(&usage, cost, self.pen.is_some(), self.usage.is_some());
        self.call.reserved |= self.visit.settle(&usage, cost, self.pen.is_some(), false);
        if let Some(pen) = &self.pen {
            pen.settle(&self.call, true);
        }
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let row = &self.call.row;
        let (path, error) = (row.endpoint.as_str(), error.unwrap_or_default());
        macro_rules! line {
            ($level:ident, $message:expr) => {
                $level!(
                    target: "gateway::request",
                    request_id = %self.id,
                    key = self.key,
                    path,
                    model = row.model,
                    status,
                    prompt_tokens = usage.prompt_tokens,
                    completion_tokens = usage.completion_tokens,
                    estimated = row.estimated,
                    duration_ms,
                    outcome,
                    error,
                    "{}", $message
                )
            };
        }
        if outcome == "failure" { line!(warn, "passing on failed") } else { line!(info, "passed on") }
    }
}

/// Whether one of the budgets is never to be exceeded.
fn is_bound(live: &Live, caller: &Caller, permit: &Permit) -> bool {
    is_strict(&live.config.limits, caller) && permit.sums().next().is_some()
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.settle("cancelled", 499, None);
    }
}
