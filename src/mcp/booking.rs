//! The row of a tool's call in the ledger: opened before the server is asked, settled when the call is over.

use super::{Fault, Offered, ToolResult};
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::gateway::{Live, Worker};
use crate::ledger::Pen;
use crate::limits::{Asked, Demand, Permit, Worth};
use crate::meter;
use crate::route::Tariff;
use crate::store::{LedgerRow, Settled};
use crate::usage::Usage;
use std::rc::Rc;
use std::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

/// LiteLLM's word for a tool's call.
const CALL_TYPE: &str = "call_mcp_tool";
/// Longer messages say nothing more.
const MOST_MESSAGE: usize = 1000;

/// A tool's call on its way into the ledger.
pub struct Booking {
    id: Uuid,
    started: Instant,
    pen: Option<Rc<Pen>>,
    /// What it holds of its caller's budgets.
    permit: Permit,
    call: Box<Settled>,
    key: String,
    settled: bool,
}

impl Booking {
    /// Sets the tool's cost aside, and opens the row. `said` is what the request has told of itself: endpoint, session,
    /// end user.
    ///
    /// # Errors
    /// A budget of the caller has not so much left; a 503 where the ledger cannot be written.
    pub async fn open(
        worker: &Worker,
        live: &Live,
        caller: &Caller,
        offered: &Offered,
        said: &LedgerRow,
    ) -> Result<Booking> {
        let id = meter::new_id();
        let cost = i64::try_from(offered.cost_nanos()).unwrap_or(i64::MAX);
        let label = offered.label();
        let mut row = LedgerRow {
            call_type: CALL_TYPE.to_owned(),
            provider: Some("mcp".to_owned()),
            tool: Some(label.clone()),
            cost_nanos: cost,
            other_nanos: cost,
            status: "interrupted".to_owned(),
            ..said.clone()
        };
        meter::begin(&mut row, &id, caller, &format!("MCP: {label}"));
        let mut booking = Booking {
            id,
            started: Instant::now(),
            pen: None,
            permit: Permit::none(),
            call: Box::new(Settled { row, ..Settled::default() }),
            key: caller.name().to_owned(),
            settled: false,
        };
        let (limits, row) = (&worker.gateway.limits, &mut booking.call.row);
        if cost > 0 {
            let asked = Asked {
                id,
                caller,
                model: &label,
                end_user: row.end_user.as_deref(),
                tags: &row.tags,
                worth: Worth::Known(cost),
                demand: Demand::default(),
                tariff: &Tariff::default(),
                is_strained: false,
            };
            let admitted = limits.admit_tool(&worker.gateway.database, &live.config.limits, &asked).await;
            booking.permit = admitted.inspect_err(|_| {
                // The call was not made: there is nothing to settle.
                booking.settled = true;
            })?;
            row.reserved_nanos = booking.permit.reserved_nanos();
        }
        row.node = Some(limits.node.clone());
        booking.call.windows = booking.permit.sums().cloned().collect();
        booking.call.reserved = booking.permit.is_stored();
        if live.config.ledger.enabled {
            let opened = worker.pen.open(&booking.call, live.config.ledger.serve_unaccounted);
            if opened.inspect_err(|_| booking.settled = true)? {
                booking.pen = Some(worker.pen.clone());
            }
        }
        Ok(booking)
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The call is over.
    pub fn end(&mut self, result: &std::result::Result<ToolResult, Fault>) {
        match result {
            Ok(result) if result.is_error() => self.settle("success", 200, Some("the tool says that it has failed")),
            Ok(_) => self.settle("success", 200, None),
            Err(fault) => {
                // What was not carried out costs nothing.
                if fault.is_undone() || matches!(fault, Fault::Refused(_)) {
                    (self.call.row.cost_nanos, self.call.row.other_nanos) = (0, 0);
                }
                self.settle("failure", status(fault), Some(&fault.to_string()));
            }
        }
    }

    fn settle(&mut self, outcome: &str, status: u16, error: Option<&str>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let took = self.started.elapsed();
        let row = &mut self.call.row;
        row.ended_at = row.started_at.saturating_add(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        outcome.clone_into(&mut row.status);
        row.http_status = Some(i64::from(status));
        if let Some(error) = error {
            row.error_class = Some("tool".to_owned());
            row.error = Some(error.chars().take(MOST_MESSAGE).collect());
        }
        let is_stored = self.permit.settle(&Usage::default(), row.cost_nanos, self.pen.is_some(), false);
        self.call.reserved = is_stored;
        if let Some(pen) = &self.pen {
            pen.settle(&self.call, true);
        }
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (tool, error) = (self.call.row.tool.as_deref().unwrap_or_default(), error.unwrap_or_default());
        macro_rules! line {
            ($level:ident, $message:expr) => {
                $level!(target: "gateway::request", request_id = %self.id, key = self.key, tool, status, duration_ms, outcome, error, "{}", $message)
            };
        }
        if outcome == "failure" { line!(warn, "tool call failed") } else { line!(info, "tool called") }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.settle("cancelled", 499, None);
    }
}

fn status(fault: &Fault) -> u16 {
    error(fault, "").status().as_u16()
}

/// What a caller of REST is told.
pub fn error(fault: &Fault, server: &str) -> Error {
    use crate::error::Kind;
    let message = format!("The server of tools '{server}': {fault}.");
    match fault {
        Fault::Unreached(_) | Fault::Gone | Fault::Status(404 | 405) => Error::new(Kind::Unreachable, message),
        Fault::Late(_) => Error::new(Kind::Timeout, message),
        Fault::Rpc(error) if matches!(error.code, super::rpc::PARAMS) => Error::invalid(message),
        Fault::Dropped => Error::new(Kind::Stopping, message),
        Fault::Rpc(_) | Fault::Status(_) | Fault::Refused(_) | Fault::Broken(_) | Fault::TooLarge(_) => {
            Error::new(Kind::Garbled, message)
        }
    }
}
