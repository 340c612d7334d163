//! How a deployment is doing: what is under way, how fast it answers, whether it cools down.
//!
//! All of it is atomic and read by every call; nothing waits for anything. It outlives a reload, since a deployment that
//! was failing a second ago still is.

use super::window::Window;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Sorts of failures that settings have numbers for, by LiteLLM's names of its exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    BadRequest,
    Authentication,
    Timeout,
    RateLimit,
    ContentPolicy,
    Server,
}

impl Class {
    pub const ALL: [Class; 6] = [
        Class::BadRequest,
        Class::Authentication,
        Class::Timeout,
        Class::RateLimit,
        Class::ContentPolicy,
        Class::Server,
    ];

    /// LiteLLM's name.
    pub fn name(self) -> &'static str {
        match self {
            Class::BadRequest => "BadRequestError",
            Class::Authentication => "AuthenticationError",
            Class::Timeout => "TimeoutError",
            Class::RateLimit => "RateLimitError",
            Class::ContentPolicy => "ContentPolicyViolationError",
            Class::Server => "InternalServerError",
        }
    }
}

/// Why a deployment cools down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has had too many calls.
    RateLimit,
    /// It failed.
    Failures,
}

const MINUTE: u64 = 60_000;
/// How fast old latencies are forgotten.
const DECAY_MS: f64 = 10_000.0;

#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    in_flight: AtomicU32,
    /// Milliseconds since `epoch`, and the cause in the lowest bit; 0 is not at all.
    cooling: AtomicU64,
    minute: AtomicU64,
    calls: AtomicU32,
    fails: [AtomicU32; 6],
    tokens: AtomicU64,
    /// Moving averages in milliseconds, as bits of `f64`; 0 is not known.
    whole: Average,
    first: Average,
    /// What the last background check found: 0 nothing yet, 1 well, 2 not well; and when.
    health: AtomicU64,
    /// No connection could be made the last time.
    unreachable: AtomicBool,
    /// For limits that nothing may be above.
    windows: Mutex<Windows>,
}

/// What happened in the last minute, call by call.
#[derive(Debug, Default)]
pub struct Windows {
    pub requests: Window,
    pub tokens: Window,
}

#[derive(Debug, Default)]
struct Average {
    value: AtomicU64,
    at: AtomicU64,
}

impl Average {
    /// Quick to believe in worse, slow to believe in better (peak EWMA).
    fn add(&self, ms: f64, now: u64) {
        let before = self.at.swap(now, Ordering::Relaxed);
        let old = f64::from_bits(self.value.load(Ordering::Relaxed));
        let weight = (-(now.saturating_sub(before) as f64) / DECAY_MS).exp();
        let new = if old == 0.0 || ms > old { ms } else { old * weight + ms * (1.0 - weight) };
        self.value.store(new.max(0.001).to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> Option<f64> {
        let value = f64::from_bits(self.value.load(Ordering::Relaxed));
        (value > 0.0).then_some(value)
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            epoch: Instant::now(),
            in_flight: AtomicU32::new(0),
            cooling: AtomicU64::new(0),
            minute: AtomicU64::new(0),
            calls: AtomicU32::new(0),
            fails: Default::default(),
            tokens: AtomicU64::new(0),
            whole: Average::default(),
            first: Average::default(),
            health: AtomicU64::new(0),
            unreachable: AtomicBool::new(false),
            windows: Mutex::default(),
        }
    }
}

impl Pulse {
    fn ms(&self, now: Instant) -> u64 {
        // From 1 on: 0 is never.
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX / 4) + 1
    }

    /// Attempts and answers under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// One more is under way, if there are fewer than `most`.
    pub fn enter(&self, most: Option<u32>) -> bool {
        let Some(most) = most else {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let up = |now: u32| (now < most).then(|| now + 1);
        self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, up).is_ok()
    }

    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// When it may be asked again, and why not before.
    pub fn cooling(&self, now: Instant) -> Option<(Duration, Cause)> {
        let packed = self.cooling.load(Ordering::Relaxed);
        if packed == 0 {
            return None;
        }
        let left = (packed >> 1).saturating_sub(self.ms(now));
        let cause = if packed & 1 == 1 { Cause::RateLimit } else { Cause::Failures };
        (left > 0).then(|| (Duration::from_millis(left), cause))
    }

    /// Leaves it alone for so long.
    pub fn cool(&self, now: Instant, length: Duration, cause: Cause) {
        let until = self.ms(now).saturating_add(u64::try_from(length.as_millis()).unwrap_or(MINUTE * 60 * 24));
        let packed = until << 1 | u64::from(cause == Cause::RateLimit);
        self.cooling.fetch_max(packed, Ordering::Relaxed);
    }

    /// It has answered: whatever was wrong is over.
    pub fn warm_up(&self) {
        if self.cooling.load(Ordering::Relaxed) != 0 {
            self.cooling.store(0, Ordering::Relaxed);
        }
        if self.is_unreachable() {
            self.reached(true);
        }
    }

    /// Counts belong to a minute; the first one in a new minute sets them back.
    fn turn(&self, now: Instant) {
        let minute = self.ms(now) / MINUTE;
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            self.calls.store(0, Ordering::Relaxed);
            self.tokens.store(0, Ordering::Relaxed);
            self.fails.iter().for_each(|fails| fails.store(0, Ordering::Relaxed));
        }
    }

    pub fn succeeded(&self, now: Instant, first: Option<Duration>, whole: Option<Duration>, tokens: u64) {
        self.turn(now);
        let at = self.ms(now);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        first.into_iter().for_each(|time| self.first.add(ms(time), at));
        whole.into_iter().for_each(|time| self.whole.add(ms(time), at));
    }

    /// Counts a failure; returns all calls of this minute, all failures, and those of this sort.
    pub fn failed(&self, now: Instant, class: Class) -> (u32, u32, u32) {
        self.turn(now);
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let of_class = self.fails[class as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let fails = self.fails.iter().map(|fails| fails.load(Ordering::Relaxed)).sum();
        (calls, fails, of_class)
    }

    /// Failures of this minute so far.
    pub fn fails(&self, now: Instant) -> u32 {
        if self.minute.load(Ordering::Relaxed) != self.ms(now) / MINUTE {
            return 0;
        }
        self.fails.iter().map(|fails| fails.load(Ordering::Relaxed)).sum()
    }

    /// Calls and tokens of this minute so far.
    pub fn usage(&self, now: Instant) -> (u32, u64) {
        if self.minute.load(Ordering::Relaxed) != self.ms(now) / MINUTE {
            return (0, 0);
        }
        (self.calls.load(Ordering::Relaxed), self.tokens.load(Ordering::Relaxed))
    }

    /// The average time in milliseconds to the first token of a stream, or to a whole answer.
    pub fn latency(&self, streams: bool) -> Option<f64> {
        match streams {
            true => self.first.get().or_else(|| self.whole.get()),
            false => self.whole.get().or_else(|| self.first.get()),
        }
    }

    /// What the last check found, and how long ago.
    pub fn health(&self, now: Instant) -> Option<(bool, Duration)> {
        let packed = self.health.load(Ordering::Relaxed);
        (packed != 0).then(|| (packed & 1 == 1, Duration::from_millis(self.ms(now).saturating_sub(packed >> 1))))
    }

    pub fn checked(&self, now: Instant, well: bool) {
        self.health.store(self.ms(now) << 1 | u64::from(well), Ordering::Relaxed);
    }

    /// Whether a connection could be made.
    pub fn reached(&self, well: bool) {
        self.unreachable.store(!well, Ordering::Relaxed);
    }

    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// The exact counts of the last minute, for limits. Taken by calls of limited deployments alone, and never for long.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_no_more_often_than_there_are_slots() {
        let pulse = Pulse::default();
        assert!(pulse.enter(Some(2)) && pulse.enter(Some(2)) && !pulse.enter(Some(2)));
        pulse.leave();
        assert!(pulse.enter(Some(2)) && !pulse.enter(Some(2)));
        assert_eq!(pulse.in_flight(), 2);
    }

    #[test]
    fn cooling_ends_by_itself_or_with_an_answer() {
        let (pulse, now) = (Pulse::default(), Instant::now());
        pulse.cool(now, Duration::from_secs(5), Cause::RateLimit);
        pulse.cool(now, Duration::from_secs(1), Cause::Failures);
        let (left, cause) = pulse.cooling(now).unwrap();
        assert!(cause == Cause::RateLimit && left > Duration::from_secs(4) && left <= Duration::from_secs(5));
        assert_eq!(pulse.cooling(now + Duration::from_secs(6)), None);
        pulse.warm_up();
        assert_eq!(pulse.cooling(now), None);
    }

    #[test]
    fn counts_are_of_one_minute() {
        let (pulse, now) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.failed(now, Class::Server), (1, 1, 1));
        assert_eq!(pulse.failed(now, Class::Timeout), (2, 2, 1));
        pulse.succeeded(now, None, None, 7);
        assert_eq!(pulse.usage(now), (3, 7));
        let later = now + Duration::from_secs(61);
        assert_eq!(pulse.usage(later), (0, 0));
        assert_eq!(pulse.failed(later, Class::Server), (1, 1, 1));
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_a_fast_one_with_time() {
        let (pulse, now) = (Pulse::default(), Instant::now());
        let whole = |at: Instant, ms: u64| pulse.succeeded(at, None, Some(Duration::from_millis(ms)), 0);
        whole(now, 10);
        whole(now, 500);
        assert_eq!(pulse.latency(false).unwrap().round(), 500.0);
        whole(now + Duration::from_secs(1), 10);
        assert!(pulse.latency(false).unwrap() > 400.0);
        whole(now + Duration::from_secs(100), 10);
        assert!(pulse.latency(false).unwrap() < 20.0);
    }
}
