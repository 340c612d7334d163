//! What was spent: LiteLLM's `/spend/*`, `/global/*` and `/{user,team,tag,customer}/daily/activity`.
//!
//! Shapes are those of LiteLLM's API reference (spend tracking). Rows are read by their key, a page at a time; sums come
//! from totals and from sums by day, so that no report reads the ledger.

pub mod activity;
pub mod logs;
pub mod totals;

use super::models::{admitted, query};
use super::reply::{self, plain};
use crate::error::{Error, Kind, Result};
use crate::store::{Store, date_of, day_of, day_of_date};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;
use std::time::Instant;

const DAY: i64 = 86_400_000_000;
/// What is shown where no days are asked for.
const USUAL_DAYS: i64 = 30;

/// What a user may read of himself: his own calls, what they add up to, and that of the teams that he leads.
const OWN: [&str; 8] = [
    "/spend/logs",
    "/spend/logs/ui",
    "/spend/logs/v2",
    "/spend/logs/session/ui",
    "/user/daily/activity",
    "/user/daily/activity/aggregated",
    "/team/daily/activity",
    "/team/daily/activity/aggregated",
];

/// What was asked and answered in a call; whose it was is looked at there.
const OWN_CALL: &str = "/spend/logs/ui/";

/// Answers an administrator, and a user about himself; everybody else gets a 403.
async fn told<F: Future<Output = Result<Value>>>(request: &HttpRequest, tell: impl FnOnce(Asked) -> F) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let (live, caller) = admitted(request).await?;
        let path = crate::auth::path(request, &live);
        let role = caller.user().and_then(|user| user.role.as_deref());
        let is_admin = caller.holder().is_none() || matches!(role, Some("proxy_admin" | "proxy_admin_viewer"));
        let own = (!is_admin).then(|| caller.user().map(|user| user.id.clone())).flatten();
        let is_own = OWN.contains(&path) || path.starts_with(OWN_CALL);
        if !is_admin && (own.is_none() || !is_own) {
            return Err(Error::new(
                Kind::Forbidden,
                "Only administrators may see what others spend; use the master key, or a key of a proxy_admin.",
            )
            .with_type("auth_error"));
        }
        let gateway = &reply::worker(request)?.gateway;
        // Whoever asks at once would find no tables yet.
        gateway.database.settled().await;
        let store = gateway.store.clone();
        let mut asked = Asked { request: request.clone(), store, key_id: None, own };
        if let Some(named) = asked.one(&["api_key"]) {
            asked.key_id = Some(id_of_key(&asked.store, named).await?);
        }
        Ok(HttpResponse::Ok().json(tell(asked).await?))
    };
    let result = result.await;
    plain(request, started, result)
}

/// A request of somebody who may ask.
struct Asked {
    request: HttpRequest,
    store: Store,
    /// The user who asks about himself; none may see everything.
    own: Option<String>,
    /// What the key that is asked for is booked under.
    key_id: Option<String>,
}

/// A key's id, of what LiteLLM's clients send: its hash, its id, or the whole key. A key that was regenerated, or that
/// the configuration declares, is not booked under the hash that it has now.
async fn id_of_key(store: &Store, named: String) -> Result<String> {
    let hash = match named.starts_with("sk-") {
        true => crate::auth::remembered::hex(&crate::auth::digest(named.as_bytes())),
        false => named,
    };
    let key = store.key_by_hash(&hash, crate::database::now()).await?;
    Ok(key.map_or(hash, |key| key.id))
}

impl Asked {
    /// The first of these parameters that is there and says something.
    fn one(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| query(&self.request, name)).filter(|value| !value.is_empty())
    }

    /// Whose calls are asked for: one's own, where one may see no others'.
    fn user(&self) -> Option<String> {
        self.own.clone().or_else(|| self.one(&["user_id", "internal_user"]))
    }

    fn flag(&self, name: &str) -> Option<bool> {
        Some(matches!(self.one(&[name])?.to_ascii_lowercase().as_str(), "true" | "1"))
    }

    /// # Errors
    /// It is no number within these bounds.
    fn number(&self, name: &str, usual: i64, most: i64) -> Result<i64> {
        let Some(text) = self.one(&[name]) else { return Ok(usual) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Error::invalid(format!("'{name}' must be a number from 1 to {most}.")).at_param(name))
    }

    /// Money in dollars, as nano-dollars.
    fn nanos(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.one(&[name]) else { return Ok(None) };
        let dollars = text.parse::<f64>().ok().filter(|dollars| dollars.abs() < 1e6);
        let wrong = || Error::invalid(format!("'{name}' must be a number of dollars.")).at_param(name);
        dollars.map(|dollars| Some((dollars * 1e9).round() as i64)).ok_or_else(wrong)
    }

    /// A time in microseconds; `end` of a day that is given without a time is the next one's beginning.
    fn time(&self, names: &[&str], end: bool) -> Result<Option<i64>> {
        let Some(text) = self.one(names) else { return Ok(None) };
        let wrong = || {
            let name = names.first().copied().unwrap_or_default();
            Error::invalid(format!("'{name}' must be a date such as 2026-01-31, or 2026-01-31 13:45:00 in UTC."))
                .at_param(name)
        };
        let (at, has_time) = instant(&text).ok_or_else(wrong)?;
        Ok(Some(if end && !has_time { at + DAY } else { at }))
    }

    /// The days that are asked for, both included; else the last thirty.
    fn days(&self) -> Result<(i64, i64)> {
        let today = day_of(crate::database::now());
        let to = self.time(&["end_date", "endTime"], false)?.map_or(today, day_of);
        let from = self.time(&["start_date", "startTime"], false)?.map_or(to - USUAL_DAYS, day_of);
        if from > to {
            return Err(Error::invalid("'start_date' is after 'end_date'.").at_param("start_date"));
        }
        Ok((from, to))
    }
}

/// A date, or a date and a time of day in UTC, in microseconds, and whether there was a time.
fn instant(text: &str) -> Option<(i64, bool)> {
    let text = text.trim().trim_end_matches('Z').trim_end_matches("+00:00");
    let (date, time) = match text.split_once(['T', ' ', '+']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = day_of_date(year, month, day) * DAY;
    let Some(time) = time else { return Some((midnight, false)) };
    let seconds = time.splitn(3, ':').try_fold((0.0, 3600.0), |(sum, unit), part| {
        let number = part.parse::<f64>().ok().filter(|number| (0.0..61.0).contains(number))?;
        Some((sum + number * unit, unit / 60.0))
    });
    Some((midnight + (seconds?.0 * 1e6).round() as i64, true))
}

/// `2026-01-31`
fn date(day: i64) -> String {
    let (year, month, day) = date_of(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-01-31T13:45:00.123Z`
pub fn time(micros: i64) -> String {
    let millis = micros.rem_euclid(DAY) / 1000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{}T{:02}:{:02}:{:02}.{millis:03}Z", date(day_of(micros)), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Nano-dollars as a JSON number of dollars; less than nothing is what was forgiven too much.
fn dollars(nanos: i64) -> Value {
    match u64::try_from(nanos) {
        Ok(nanos) => serde_json::json!(crate::price::usd_number(nanos)),
        Err(_) => serde_json::json!(nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_clients_write_them() {
        let noon = (day_of_date(2026, 1, 31) * 24 + 12) * 3_600_000_000;
        for text in ["2026-01-31 12:00:00", "2026-01-31T12:00:00Z", "2026-01-31+12:00", "2026-01-31T12:00:00.000+00:00"]
        {
            assert_eq!(instant(text), Some((noon, true)), "{text}");
        }
        assert_eq!(time(noon + 5_000), "2026-01-31T12:00:00.005Z");
        assert_eq!(instant("2026-01-31"), Some((noon - DAY / 2, false)));
        for text in ["", "yesterday", "2026-13-01", "2026-01-31 noon", "2026-1", "2026-01-31 99:00:00"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
