//! Watches a call from its start to its end, and says once how it ended.
//!
//! What a call used is read out of the answer on its way to the caller. A call that is given up half-way settles when
//! its meter is dropped; a call without final usage is settled with an estimate, never with nothing.

mod entry;

use crate::auth::Caller;
use crate::call::{Call, Presumed};
use crate::dispatch::trace::Trace;
use crate::envelope::{Envelope, shorten};
use crate::error::{Error, Kind as ErrorKind};
use crate::kept::Kept;
use crate::ledger::Pen;
use crate::limits::plan::is_dynamic;
use crate::limits::{Asked, Demand, Denied, Permit, Strict, Worth, bound};
use crate::price::{Charge, Service, usd_text};
use crate::route::{Deployment, Target, Tariff};
use crate::store::LedgerRow;
use crate::usage::{self, Usage};
use crate::wire::json::{self, Kind};
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use entry::Entry;
pub use entry::{begin, count};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{Level, enabled, info, warn};
use uuid::Uuid;

/// A new id for a call: a UUIDv7 (RFC 9562, section 5.7), so that ids sort by time.
pub fn new_id() -> Uuid {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The thread's own generator: a system call for each id would cost as much as reading the request.
    let random: [u8; 10] = rand::random();
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now.as_millis()).unwrap_or(0), &random).into_uuid()
}

/// What the gateway must know of a whole answer.
pub struct Whole {
    pub usage: Option<Usage>,
    /// The upstream's id of it.
    pub id: Option<String>,
    /// It holds an error and no choices, whatever its status said.
    pub is_error: bool,
    /// Without them there is no answer.
    pub has_choices: bool,
}

/// Looks at a whole answer.
///
/// # Errors
/// It is not one JSON object.
pub fn whole(body: &[u8]) -> Result<Whole, json::Fault> {
    let (mut usage, mut error, mut choices, mut id) = (None, false, false, None);
    let mut service = Service::Standard;
    json::object(body, MAX_DEPTH, |m| match &body[m.key] {
        b"usage" if m.value.kind == Kind::Object => usage = Usage::read(&body[m.value.span]),
        b"id" => id = json::short_text(&body[m.value.span]),
        b"service_tier" => service = usage::service(&body[m.value.span]),
        b"error" => error = m.value.kind != Kind::Null,
        b"base_resp" => error |= !choices && m.value.kind == Kind::Object,
        b"choices" => choices = m.value.kind == Kind::Array,
        _ => (),
    })?;
    let usage = usage.map(|usage| Usage { service, ..usage });
    Ok(Whole { usage, id, is_error: error && !choices, has_choices: choices })
}

/// A model whose deployment has failed more often in this minute is strained (LiteLLM's
/// `DYNAMIC_RATE_LIMIT_ERROR_THRESHOLD_PER_MINUTE`).
const FEW_FAILS: u32 = 1;

/// Answers nested deeper than this are taken for garbage.
pub const MAX_DEPTH: usize = 256;

/// Tokens in this many bytes of text, for want of a better count.
pub fn estimate(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// One call.
#[derive(Debug)]
pub struct Meter {
    pub id: Uuid,
    pub started: Instant,
    caller: Caller,
    model: String,
    stream: bool,
    deployment: Option<Arc<Deployment>>,
    tariff: Tariff,
    /// For an estimate of the prompt.
    request_bytes: usize,
    first: Option<Duration>,
    usage: Option<Usage>,
    /// Nobody has counted that.
    is_guess: bool,
    /// Output tokens seen so far, for an estimate.
    seen_tokens: u64,
    /// Where the call is going to be booked, once it is known where it goes.
    entry: Option<Entry>,
    attempts: Attempts,
    /// What the call holds of its limits.
    permit: Permit,
    /// What the attempt holds of the limits of where it goes.
    visit: Permit,
    /// The upstream was asked, or is about to be.
    is_sent: bool,
    /// The same for the attempt.
    is_visiting: bool,
    /// The store holds money for attempts that have come to nothing.
    is_left_over: bool,
    /// The next attempt is the first one at another model.
    has_fallen_back: bool,
    /// What was done for it so far.
    pub trace: Trace,
    settled: bool,
}

/// What it took to get an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts so far.
    made: u32,
    /// Attempts behind the first one, those at other models aside.
    pub retries: u32,
    /// Other models that were gone over to.
    pub fallbacks: u32,
}

impl Meter {
    pub fn new(id: Uuid, started: Instant) -> Self {
        Meter {
            id,
            started,
            caller: Caller::Anonymous,
            model: String::new(),
            stream: false,
            deployment: None,
            tariff: Tariff::default(),
            request_bytes: 0,
            first: None,
            usage: None,
            is_guess: false,
            seen_tokens: 0,
            entry: None,
            attempts: Attempts::default(),
            permit: Permit::none(),
            visit: Permit::none(),
            is_sent: false,
            is_visiting: false,
            is_left_over: false,
            has_fallen_back: false,
            trace: Trace::default(),
            settled: false,
        }
    }

    pub fn called_by(&mut self, caller: Caller) {
        self.caller = caller;
    }

    pub fn asked(&mut self, model: &str, stream: bool, request_bytes: usize) {
        self.model = shorten(model);
        self.stream = stream;
        self.request_bytes = request_bytes;
    }

    /// The call is to be booked: who made it and what it said.
    pub fn book(&mut self, pen: Rc<Pen>, mut row: LedgerRow) {
        entry::begin(&mut row, &self.id, &self.caller, &self.model);
        row.stream = self.stream;
        self.entry = Some(Entry::new(pen, row));
    }

    /// On whose behalf the call is made, where it is booked.
    pub fn end_user(&self) -> Option<&str> {
        self.entry.as_ref().and_then(Entry::end_user)
    }

    /// What is to be kept of what is asked and answered.
    pub fn keep(&mut self, kept: Option<Kept>) {
        if let (Some(entry), Some(kept)) = (&mut self.entry, kept) {
            entry.keep(kept);
        }
    }

    /// The answer in one piece, for what is kept.
    pub fn told(&mut self, body: &Bytes) {
        if let Some(kept) = self.entry.as_mut().and_then(Entry::kept) {
            kept.answer(body);
        }
    }

    /// An event of the answer, for what is kept.
    pub fn told_event(&mut self, event: &[u8]) {
        if let Some(kept) = self.entry.as_mut().and_then(Entry::kept) {
            kept.event(event);
        }
    }

    /// The call goes to this deployment, from now on by its price.
    pub fn goes_to(&mut self, target: &Target) {
        self.deployment = Some(target.deployment.clone());
        self.tariff = target.tariff();
        if let Some(entry) = &mut self.entry {
            entry.sent_to(target);
        }
    }

    /// The call goes over to another model.
    pub fn falls_back(&mut self) {
        self.attempts.fallbacks += 1;
        self.has_fallen_back = true;
    }

    /// An attempt is about to be made.
    pub fn tries(&mut self) {
        let is_fresh = std::mem::take(&mut self.has_fallen_back) || self.attempts.made == 0;
        self.attempts.retries += u32::from(!is_fresh);
        self.attempts.made += 1;
    }

    /// Where the call was sent last.
    pub fn deployment(&self) -> Option<&Deployment> {
        self.deployment.as_deref()
    }

    /// What it has taken so far.
    pub fn attempts(&self) -> Attempts {
        self.attempts
    }

    /// Asks for leave under all limits of the caller; once, at the price of where the call goes first.
    ///
    /// # Errors
    /// What [`crate::limits::Limits::admit`] says: a 429, a spent budget, or a 503. The call ends with it.
    pub async fn admit(&mut self, call: &Call) -> Result<(), Error> {
        if self.permit.is_asked() {
            return Ok(());
        }
        let (worker, settings) = (&call.worker, &call.live.config.limits);
        let (limits, database) = (&worker.gateway.limits, &worker.gateway.database);
        let admitted = limits.admit(&worker.plans, database, settings, &self.asked_of(call)).await;
        self.permit = admitted.inspect_err(|_| {
            // It is in the log. A script that runs wild must not fill the ledger with calls that were never made.
            self.entry = None;
        })?;
        Ok(())
    }

    /// Asks for leave under the limits of where this attempt goes.
    ///
    /// # Errors
    /// The deployment, its provider or what is left of a strict budget does not admit it; another deployment may.
    pub async fn enter(&mut self, call: &Call, deployment: &Arc<Deployment>) -> Result<(), Denied> {
        let (worker, settings) = (&call.worker, &call.live.config.limits);
        let (limits, database) = (&worker.gateway.limits, &worker.gateway.database);
        let before = std::mem::take(&mut self.visit);
        let was_made = std::mem::take(&mut self.is_visiting);
        self.is_left_over |= before.leave(was_made).await;
        let is_raised = limits.raise(database, settings, &self.caller, &mut self.permit, &self.tariff).await?;
        if settings.has_targets() {
            let (asked, strict) = (self.asked_of(call), self.permit.strict());
            self.visit = limits.enter(&worker.plans, database, settings, &asked, deployment, strict).await?;
        }
        if let Some(entry) = &mut self.entry {
            entry.counts_in(&limits.node, &self.permit, &self.visit, is_raised);
        }
        Ok(())
    }

    fn asked_of<'a>(&'a self, call: &'a Call) -> Asked<'a> {
        let said = self.entry.as_ref().map(Entry::row);
        // Only keys with a limit that depends on it make anybody look.
        let asks_for_strain = self.caller.holder().is_some_and(|holder| {
            [&holder.key.rpm_limit_type, &holder.key.tpm_limit_type].iter().any(|sort| is_dynamic(sort.as_deref()))
        });
        let fails = |deployment: &Arc<Deployment>| deployment.pulse.fails(Instant::now()) > FEW_FAILS;
        Asked {
            is_strained: asks_for_strain && call.plan.group().deployments.iter().any(fails),
            id: self.id,
            caller: &self.caller,
            model: call.plan.model(),
            end_user: said.and_then(|row| row.end_user.as_deref()),
            tags: said.map_or(&[], |row| &row.tags),
            worth: Worth::Body(call.face, &call.envelope),
            demand: Demand::of(&call.envelope),
            tariff: &self.tariff,
        }
    }

    /// The body with the limit of its answer that a strict budget affords, where it is not the caller's own.
    ///
    /// # Errors
    /// Never for a body that was read before.
    pub fn limited(&self, call: &Call, envelope: &Envelope) -> Result<Option<Envelope>, Error> {
        let set = |strict: &Strict| strict.is_set;
        let where_it_goes = self.visit.strict().filter(set);
        let Some(strict) = where_it_goes.or(self.permit.strict().filter(set)) else { return Ok(None) };
        bound::limited(envelope, call.face, strict.output, call.live.config.server.max_nesting).map(Some)
    }

    /// Says what is left of the limits, as the headers of the answer.
    pub fn tell_limits(&self, put: impl FnMut(HeaderName, HeaderValue)) {
        self.permit.tell(put);
    }

    /// The call is about to be sent upstream. When this returns, its row is sure to come, whatever becomes of the
    /// process.
    ///
    /// # Errors
    /// A 503 where the ledger cannot be written.
    pub fn open(&mut self, serve_unaccounted: bool) -> Result<(), Error> {
        (self.is_sent, self.is_visiting) = (true, true);
        let Some(entry) = &mut self.entry else { return Ok(()) };
        let usage = Usage { prompt_tokens: estimate(self.request_bytes), ..Usage::default() };
        let bound = self.visit.charge_if_lost().or_else(|| self.permit.charge_if_lost());
        let charge = bound.unwrap_or_else(|| self.tariff.charge(&usage));
        entry.open(&usage, &charge, serve_unaccounted)
    }

    /// The upstream's id of its answer.
    pub fn answered_as(&mut self, id: Option<&str>) {
        if let Some(entry) = &mut self.entry {
            entry.answered_as(id);
        }
    }

    /// The price of the call, for whoever asks why.
    pub fn price(&self) -> serde_json::Map<String, serde_json::Value> {
        self.tariff.shown()
    }

    /// The price of the call.
    pub fn tariff(&self) -> Tariff {
        self.tariff.clone()
    }

    /// What the call costs by what is known of it so far, in nano-dollars; `None` while the usage or the price is not
    /// known.
    pub fn cost(&self) -> Option<u64> {
        self.tariff.cost(&self.usage?)
    }

    /// The first bytes of the answer are there.
    pub fn answered(&mut self) {
        self.first.get_or_insert_with(|| self.started.elapsed());
    }

    pub fn used(&mut self, usage: Option<Usage>) {
        if usage.is_some() {
            (self.usage, self.is_guess) = (usage, false);
        }
    }

    /// What is used as long as the answer says nothing else.
    pub fn presumes(&mut self, presumed: Option<Presumed>) {
        if let Some(Presumed { usage, is_guess }) = presumed {
            (self.usage, self.is_guess) = (Some(usage), is_guess);
        }
    }

    pub fn saw(&mut self, output_tokens: u64) {
        self.seen_tokens = output_tokens;
        if !self.stream {
            return;
        }
        let request_bytes = self.request_bytes;
        let seen =
            || Usage { prompt_tokens: estimate(request_bytes), completion_tokens: output_tokens, ..Usage::default() };
        self.permit.count_on(seen, output_tokens);
    }

    /// The caller has, or is about to have, the whole answer.
    pub fn succeed(&mut self) {
        self.settle(200, "success", None);
    }

    /// The call ends with this error.
    pub fn fail(&mut self, error: &Error) {
        self.settle(error.status().as_u16(), "failure", Some(error));
    }

    fn settle(&mut self, status: u16, outcome: &'static str, error: Option<&Error>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let asked = self.deployment.is_some();
        let estimated = asked && self.usage.is_none() && (outcome != "failure" || self.seen_tokens > 0);
        let usage = match self.usage {
            Some(usage) => usage,
            None if estimated => Usage {
                prompt_tokens: estimate(self.request_bytes),
                completion_tokens: self.seen_tokens,
                ..Usage::default()
            },
            None => Usage::default(),
        };
        let estimated = estimated || (self.is_guess && outcome != "failure");
        let charge = if !usage.is_nothing() { self.tariff.charge(&usage) } else { Charge::default() };
        let charge = if self.usage.is_none() { self.visit.at_most(self.permit.at_most(charge)) } else { charge };
        let cost = (!charge.unpriced).then_some(charge.nanos);
        if let (None, Some(deployment)) = (cost, &self.deployment) {
            deployment.say_unpriced(&self.model);
        }
        if !self.is_sent && error.is_some_and(|e| matches!(e.kind, ErrorKind::RateLimited | ErrorKind::OverBudget(_))) {
            // No deployment admitted it. That is in the log; a script that runs wild must not fill the ledger.
            self.entry = None;
        }
        if self.is_sent {
            let cost = i64::try_from(charge.nanos).unwrap_or(i64::MAX);
            let mut is_stored = self.permit.settle(&usage, cost, self.entry.is_some(), self.usage.is_some());
            if self.is_visiting {
                is_stored |= self.visit.settle(&usage, cost, self.entry.is_some(), false);
            }
            if let Some(entry) = &mut self.entry {
                entry.is_reserved(is_stored || self.is_left_over);
            }
        }
        if let Some(entry) = &mut self.entry {
            entry.went(self.trace.steps());
            let attempts = self.attempts;
            let end = entry::End { usage: &usage, charge: &charge, estimated, status, outcome, error, attempts };
            entry.settle(&end, self.first, self.started.elapsed());
        }
        if !enabled!(target: "gateway::request", Level::WARN) {
            return;
        }
        let deployment = self.deployment.as_ref();
        macro_rules! line {
            ($level:ident, $message:expr $(, $more:tt)*) => {
                $level!(
                    target: "gateway::request",
                    request_id = %self.id,
                    key = self.caller.name(),
                    model = self.model,
                    deployment = deployment.map_or("", |d| &d.id),
                    provider = deployment.map_or("", |d| d.provider.name),
                    status,
                    stream = self.stream,
                    prompt_tokens = usage.prompt_tokens,
                    completion_tokens = usage.completion_tokens,
                    cached_tokens = usage.cached_tokens,
                    cache_write_tokens = usage.cache_write_tokens,
                    reasoning_tokens = usage.reasoning_tokens,
                    estimated,
                    cost_usd = cost.map(usd_text).unwrap_or_default(),
                    retries = self.attempts.retries,
                    fallbacks = self.attempts.fallbacks,
                    first_ms = self.first.map_or(0, millis),
                    duration_ms = millis(self.started.elapsed()),
                    outcome,
                    error_class = error.map_or("", Error::class),
                    error = error.map_or(String::new(), |e| shorten(&e.to_string())),
                    "{}", $message
                )
            };
        }
        // The operator looks for what is wrong with upstreams; what is wrong with a request is its sender's business.
        match error {
            Some(e) if e.status().is_server_error() || self.is_sent => line!(warn, "call failed"),
            Some(_) => line!(info, "call refused"),
            None if outcome == "cancelled" => line!(info, "call cancelled"),
            None => line!(info, "call served"),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Meter {
    fn drop(&mut self) {
        // 499 is nginx's status for a client that closed the connection.
        self.settle(499, "cancelled", None);
    }
}
