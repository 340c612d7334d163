//! How a caller is told of a limit that does not admit its call.
//!
//! Names of headers and the first words of messages are LiteLLM's (its rate limiter and its budget errors); the message
//! goes on to say whose limit it is, what is used and when to come back.

use super::book::{Refused, Unit};
use super::bucket::{SLOT_MS, Slot};
use super::plan::Pot;
use super::subject::Who;
use crate::auth::Caller;
use crate::error::{Error, Kind};
use crate::price::usd_text;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};

/// With whom, and when.
pub struct Told<'a> {
    pub caller: &'a Caller,
    pub slot: Slot,
    /// Microseconds.
    pub now: i64,
    pub over_budget: StatusCode,
}

type Headers = Vec<(HeaderName, HeaderValue)>;

fn put(headers: &mut Headers, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.push((name, value));
    }
}

/// A time as RFC 3339 has it, UTC, to the second.
fn moment(micros: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(micros).and_then(|at| at.round(jiff::Unit::Second));
    at.map_or_else(|_| "never".to_owned(), |at| at.to_string())
}

impl Refused {
    /// When a call that a rate refuses may come again; none where nobody can say, or it never may.
    pub fn wait_ms(&self, now: Slot) -> Option<u64> {
        let Refused::Rate { unit, limit, at, .. } = self else { return None };
        let until = at.map(|at| at.saturating_sub(now).max(1).saturating_mul(SLOT_MS));
        // Nobody knows when a call under way ends.
        until.or((*unit == Unit::Parallel && *limit > 0).then_some(1000))
    }

    pub fn error(&self, told: &Told<'_>) -> Error {
        match self {
            Refused::Rate { subject, unit, limit, used, need, .. } => {
                let shown = subject.shown(told.caller);
                let (word, unit_word) = (subject.who.word(), unit.word());
                let left = limit.saturating_sub(*used);
                let mut message = format!(
                    "Rate limit exceeded for {word}: {shown}. Limit type: {unit_word}. Current limit: {limit}, Remaining: {left}, Used: {used}, Requested: {need}."
                );
                let mut headers = Headers::new();
                if let Some(ms) = self.wait_ms(told.slot) {
                    let resets = told.now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX / 2000) * 1000);
                    let resets = moment(resets);
                    message += &match unit {
                        Unit::Parallel => " Try again when one of them has ended.".to_owned(),
                        _ => format!(" Try again in {}.{} s. Limit resets at: {resets}.", ms / 1000, ms % 1000 / 100),
                    };
                    headers.push((RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000))));
                    put(&mut headers, "retry-after-ms", &ms.to_string());
                    put(&mut headers, "reset_at", &resets);
                } else {
                    message += " It admits nothing.";
                    put(&mut headers, "x-should-retry", "false");
                }
                put(&mut headers, "rate_limit_type", unit_word);
                let prefix =
                    if subject.who == Who::Key { "x-ratelimit".to_owned() } else { format!("x-ratelimit-{word}") };
                put(&mut headers, &format!("{prefix}-limit-{unit_word}"), &limit.to_string());
                put(&mut headers, &format!("{prefix}-remaining-{unit_word}"), &left.to_string());
                if subject.who == Who::Key {
                    put(&mut headers, &format!("x-ratelimit-{word}-limit-{unit_word}"), &limit.to_string());
                    put(&mut headers, &format!("x-ratelimit-{word}-remaining-{unit_word}"), &left.to_string());
                }
                Error::new(Kind::RateLimited, message).with_headers(headers)
            }
            Refused::Budget { pot, spent, reserved, need } => over_budget(pot, *spent, *reserved, *need, told),
            Refused::Unread(_) => unread(),
        }
    }
}

/// The store did not say what was spent.
pub fn unread() -> Error {
    Error::new(
        Kind::Unreachable,
        "The database of this gateway cannot be reached, so that nobody knows what is left of your budget; try again later.",
    )
    .with_type("no_db_connection")
}

fn over_budget(pot: &Pot, spent: i64, reserved: i64, need: i64, told: &Told<'_>) -> Error {
    let usd = |nanos: i64| usd_text(u64::try_from(nanos).unwrap_or(0));
    let max = pot.max_nanos.unwrap_or(0);
    let mut message = format!("Budget has been exceeded! Current cost: {}, Max budget: {}.", usd(spent), usd(max));
    message += &format!(" It is the budget of {}: {}", pot.subject.who.word(), pot.subject.shown(told.caller));
    message += &match &pot.window {
        Some(window) => format!(" for {}, and begins anew at {}.", pot.entity.span, moment(window.end)),
        None => ", and is never set back by itself.".to_owned(),
    };
    if spent < max && reserved > 0 {
        message += &format!(" Calls under way have set {} aside.", usd(reserved));
    }
    if spent < max && need > 0 && pot.strict {
        message += &format!(" This one may cost up to {}.", usd(need));
    }
    let mut headers = Headers::new();
    // Trying again does not help, whatever a client makes of the status.
    put(&mut headers, "x-should-retry", "false");
    Error::new(Kind::OverBudget(told.over_budget), message).with_headers(headers)
}
