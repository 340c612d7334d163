//! How long to wait before a deployment is asked again.

use crate::error::Error;
use std::time::{Duration, SystemTime};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);
/// An upstream that wants to be left alone for longer is not waited for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// The wait before repeat number `repeat` (from 0), with `chance` from 0 to below 1 in it: doubling, less up to a
/// quarter, so that those who failed together do not come back together. `None` where waiting makes no sense.
pub fn wait(repeat: u32, asked: Option<Duration>, floor: Duration, chance: f64) -> Option<Duration> {
    let doubled = FIRST.saturating_mul(2u32.saturating_pow(repeat.min(16))).min(LONGEST);
    let own = doubled.mul_f64(1.0 - 0.25 * chance.clamp(0.0, 1.0)).max(floor);
    match asked {
        Some(asked) if asked > LONGEST_ASKED => None,
        // A little later than asked for: who asks for a second counts whole ones.
        Some(asked) => Some(asked.max(floor).mul_f64(1.0 + 0.1 * chance.clamp(0.0, 1.0))),
        None => Some(own),
    }
}

/// How long the upstream wants to be left alone: `retry-after-ms`, or `retry-after` in seconds or as a date.
pub fn asked(error: &Error, now: SystemTime) -> Option<Duration> {
    let header = |name: &str| {
        let (_, value) = error.headers().iter().find(|(known, _)| known.as_str() == name)?;
        value.to_str().ok()
    };
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    if let Some(ms) = header("retry-after-ms").and_then(number) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    let text = header("retry-after")?;
    match number(text) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => {
            let at = httpdate::parse_http_date(text.trim()).ok()?;
            Some(at.duration_since(now).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use actix_web::http::StatusCode;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_never_below_the_floor_nor_beyond_bearing(repeat in 0u32..100, chance in 0.0f64..1.0, floor in 0u64..3) {
            let floor = Duration::from_secs(floor);
            let wait = wait(repeat, None, floor, chance).unwrap();
            prop_assert!(wait >= floor && wait <= LONGEST.max(floor));
            prop_assert!(wait >= Duration::from_millis(375));
        }
    }

    #[test]
    fn what_the_upstream_asks_for_counts_up_to_a_minute() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(5, Some(seconds(2)), Duration::ZERO, 0.0), Some(seconds(2)));
        assert_eq!(wait(0, Some(Duration::ZERO), seconds(1), 0.0), Some(seconds(1)));
        assert_eq!(wait(0, Some(seconds(61)), Duration::ZERO, 0.0), None);
    }

    #[test]
    fn the_upstream_may_ask_in_three_ways() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        let told = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            let error = Error::new(Kind::Upstream(StatusCode::TOO_MANY_REQUESTS), "slow down");
            asked(&error.with_headers(headers.collect()), now)
        };
        assert_eq!(told(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(told(&[("retry-after", "7"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(told(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::from_secs(10)));
        assert_eq!([told(&[("retry-after", "soon")]), told(&[("retry-after", "-1")]), told(&[])], [None; 3]);
    }
}
