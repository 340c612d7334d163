//! The row of a tool's call in the ledger: opened before the server is asked, settled when the call is over.

use super::{Fault, Offered, ToolResult};
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::gateway::{Live, Worker};
use crate::ledger::Pen;
use crate::meter;
use crate::store::{LedgerRow, Settled};
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
    call: Box<Settled>,
    key: String,
    settled: bool,
}

impl Booking {
    /// Opens the row. `said` is what the request has told of itself: endpoint, session, end user.
    ///
    /// # Errors
    /// A 503 where the ledger cannot be written.
    pub fn open(worker: &Worker, live: &Live, caller: &Caller, offered: &Offered, said: &LedgerRow) -> Result<Booking> {
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
            call: Box::new(Settled { row, ..Settled::default() }),
            key: caller.name().to_owned(),
            settled: false,
        };
        if live.config.ledger.enabled && worker.pen.open(&booking.call, live.config.ledger.serve_unaccounted)? {
            booking.pen = Some(worker.pen.clone());
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
