//! The ledger's row of a call, from its first record to its last.

use super::Attempts;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::ledger::Pen;
use crate::limits::Permit;
use crate::price::Charge;
use crate::route::Target;
use crate::store::{Holder, LedgerRow, Settled};
use crate::usage::Usage;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

/// What LiteLLM calls the master key and its owner where it tells who spent.
const MASTER_KEY: &str = "litellm_proxy_master_key";
const MASTER_USER: &str = "default_user_id";
/// Longer messages say nothing more.
const MOST_MESSAGE: usize = 1000;

/// A call on its way into the ledger.
#[derive(Debug)]
pub struct Entry {
    pen: Rc<Pen>,
    call: Box<Settled>,
    is_open: bool,
    /// What was asked and answered, where that is kept.
    kept: Option<Box<Kept>>,
}

/// How a call ended.
pub struct End<'a> {
    pub usage: &'a Usage,
    pub charge: &'a Charge,
    pub estimated: bool,
    pub status: u16,
    pub outcome: &'a str,
    pub error: Option<&'a Error>,
    pub attempts: Attempts,
}

/// Fills in what is known before it is known where a call goes.
pub fn begin(row: &mut LedgerRow, id: &Uuid, caller: &Caller, model: &str) {
    row.id = id.hyphenated().to_string();
    row.started_at = time_of(id);
    row.ended_at = row.started_at;
    model.clone_into(&mut row.model);
    row.model_group = Some(model.to_owned());
    match caller {
        Caller::Anonymous => (),
        Caller::Master => {
            row.key_id = Some(MASTER_KEY.to_owned());
            row.user_id = Some(MASTER_USER.to_owned());
        }
        Caller::Key(holder) => {
            let Holder { key, user, team, organization, .. } = &**holder;
            row.key_id = Some(key.id.clone());
            row.key_alias.clone_from(&key.alias);
            row.user_id = key.user_id.clone().or_else(|| Some(user.as_ref()?.id.clone()));
            row.team_id = key.team_id.clone().or_else(|| Some(team.as_ref()?.id.clone()));
            row.organization_id = organization.as_ref().map(|o| o.id.clone()).or_else(|| key.organization_id.clone());
            row.project_id.clone_from(&key.project_id);
            if key.agent_id.is_some() {
                row.agent_id.clone_from(&key.agent_id);
            }
            holder.add_tags(&mut row.tags);
        }
    }
}

/// Microseconds, to the millisecond: the first 48 bits (RFC 9562, section 5.7).
fn time_of(id: &Uuid) -> i64 {
    id.as_bytes()[..6].iter().fold(0, |sum: i64, byte| sum << 8 | i64::from(*byte)) * 1000
}

impl Entry {
    pub fn new(pen: Rc<Pen>, row: LedgerRow) -> Self {
        Entry { pen, call: Box::new(Settled { row, ..Settled::default() }), is_open: false, kept: None }
    }

    /// Writes the record that makes the row sure, once. As it stands it is that of an interrupted call.
    ///
    /// # Errors
    /// A 503 where it cannot be written.
    pub fn open(&mut self, usage: &Usage, charge: &Charge, serve_unaccounted: bool) -> Result<()> {
        if self.is_open {
            return Ok(());
        }
        count(&mut self.call.row, usage, charge);
        self.call.row.estimated = true;
        "interrupted".clone_into(&mut self.call.row.status);
        self.is_open = self.pen.open(&self.call, serve_unaccounted)?;
        Ok(())
    }

    /// What is to be kept of the call, unless its request says otherwise.
    pub fn keep(&mut self, kept: Kept) {
        if self.call.row.metadata.get(crate::http::REDACTED) != Some(&true.into()) {
            self.kept = Some(Box::new(kept));
        }
    }

    pub fn end_user(&self) -> Option<&str> {
        self.call.row.end_user.as_deref()
    }

    pub fn kept(&mut self) -> Option<&mut Kept> {
        self.kept.as_deref_mut()
    }

    /// Where the call goes.
    pub fn sent_to(&mut self, target: &Target) {
        let (row, deployment) = (&mut self.call.row, &target.deployment);
        row.upstream_model = Some(target.model().to_owned());
        row.deployment = Some(deployment.id.clone());
        row.provider = Some(deployment.provider.name.to_owned());
        row.api_base = Some(deployment.api_base.clone());
    }

    /// What is known of the call.
    pub fn row(&self) -> &LedgerRow {
        &self.call.row
    }

    /// The sums in which it counts, and what it has set aside in them.
    pub fn counts_in(&mut self, node: &str, permit: &Permit, visit: &Permit, is_raised: bool) {
        self.call.windows = permit.sums().chain(visit.sums()).cloned().collect();
        self.call.row.node = Some(node.to_owned());
        self.call.row.reserved_nanos = permit.reserved_nanos().max(visit.reserved_nanos());
        self.call.reserved |= permit.is_stored() || visit.is_stored();
        // A later record goes before an earlier one, should the process end: it is where the call went last that it
        // counts.
        self.is_open &= !is_raised && visit.sums().next().is_none();
    }

    /// Money is set aside for it in the store.
    pub fn is_reserved(&mut self, is_stored: bool) {
        self.call.reserved = is_stored;
    }

    pub fn answered_as(&mut self, id: Option<&str>) {
        if let (None, Some(id)) = (&self.call.row.upstream_id, id) {
            self.call.row.upstream_id = Some(id.to_owned());
        }
    }

    /// What was done for it, where that is worth telling.
    pub fn went(&mut self, steps: &[serde_json::Value]) {
        if steps.is_empty() {
            return;
        }
        let metadata = &mut self.call.row.metadata;
        if !metadata.is_object() {
            *metadata = serde_json::json!({});
        }
        metadata["gateway_steps"] = steps.to_vec().into();
    }

    /// Writes the record that ends it.
    pub fn settle(&mut self, end: &End<'_>, first: Option<Duration>, took: Duration) {
        count(&mut self.call.row, end.usage, end.charge);
        let row = &mut self.call.row;
        let after = |time: Duration| row.started_at.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        (row.first_at, row.ended_at) = (first.map(after), after(took));
        row.estimated = end.estimated;
        end.outcome.clone_into(&mut row.status);
        row.http_status = Some(i64::from(end.status));
        (row.retries, row.fallbacks) = (end.attempts.retries.into(), end.attempts.fallbacks.into());
        if let Some(error) = end.error {
            row.error_class = Some(error.class().to_owned());
            row.error_code = Some(end.status.to_string());
            row.error = Some(error.to_string().chars().take(MOST_MESSAGE).collect());
        }
        self.call.prompt = self.kept.take().map(|kept| kept.prompt());
        self.pen.settle(&self.call, self.is_open);
    }
}

/// Fills in what was used, and what it costs.
pub fn count(row: &mut LedgerRow, usage: &Usage, charge: &Charge) {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    row.prompt_tokens = number(usage.prompt_tokens);
    row.completion_tokens = number(usage.completion_tokens);
    row.cached_tokens = number(usage.cached_tokens);
    row.cache_write_tokens = number(usage.cache_write_tokens);
    row.cache_write_1h_tokens = number(usage.cache_write_1h_tokens);
    row.reasoning_tokens = number(usage.reasoning_tokens);
    row.audio_in_tokens = number(usage.audio_in_tokens);
    row.audio_out_tokens = number(usage.audio_out_tokens);
    row.image_in_tokens = number(usage.image_in_tokens);
    row.image_out_tokens = number(usage.image_out_tokens);
    row.searches = number(usage.searches);
    row.cost_nanos = number(charge.nanos);
    row.input_nanos = number(charge.input_nanos);
    row.output_nanos = number(charge.output_nanos);
    row.other_nanos = number(charge.other_nanos);
    row.unpriced = charge.unpriced;
}
