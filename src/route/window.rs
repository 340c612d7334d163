//! What was taken in the last minute, exactly: a limit of a minute holds for any minute, not for those of the clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Amounts and when they were taken, the oldest first.
#[derive(Debug, Default)]
pub struct Window {
    taken: VecDeque<(u64, Instant, u64)>,
    sum: u64,
    next: u64,
}

impl Window {
    /// Takes an amount if no more than `limit` is taken in any minute.
    ///
    /// # Errors
    /// When so much may be taken again.
    pub fn take(&mut self, now: Instant, amount: u64, limit: u64) -> Result<u64, Duration> {
        self.forget(now);
        // What alone is above the limit is let in when nothing else is there: it could never be served else.
        if self.sum > 0 && self.sum.saturating_add(amount) > limit {
            let mut left = self.sum;
            for (_, at, taken) in &self.taken {
                left -= taken;
                if left == 0 || left.saturating_add(amount) <= limit {
                    return Err((*at + MINUTE).saturating_duration_since(now));
                }
            }
            return Err(MINUTE);
        }
        let id = self.next;
        self.next += 1;
        self.sum += amount;
        self.taken.push_back((id, now, amount));
        Ok(id)
    }

    /// What was taken turned out to be another amount; 0 gives it back.
    pub fn correct(&mut self, id: u64, amount: u64) {
        let Some(place) = self.taken.iter().rposition(|(known, ..)| *known == id) else { return };
        let before = std::mem::replace(&mut self.taken[place].2, amount);
        self.sum = self.sum - before + amount;
        if amount == 0 {
            self.taken.remove(place);
        }
    }

    /// What was taken in the last minute.
    pub fn sum(&mut self, now: Instant) -> u64 {
        self.forget(now);
        self.sum
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, at, amount)) = self.taken.front() {
            if now.saturating_duration_since(*at) < MINUTE {
                return;
            }
            self.sum -= amount;
            self.taken.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_comes_back_after_a_minute() {
        let (mut window, now) = (Window::default(), Instant::now());
        assert!(window.take(now, 1, 2).is_ok());
        assert!(window.take(now + Duration::from_secs(20), 1, 2).is_ok());
        assert_eq!(window.take(now + Duration::from_secs(30), 1, 2), Err(Duration::from_secs(30)));
        assert!(window.take(now + MINUTE, 1, 2).is_ok());
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let (mut window, now) = (Window::default(), Instant::now());
        let id = window.take(now, 100, 100).unwrap();
        assert!(window.take(now, 1, 100).is_err());
        window.correct(id, 30);
        assert!(window.take(now, 70, 100).is_ok());
        assert_eq!(window.sum(now), 100);
    }

    proptest! {
        #[test]
        fn no_minute_holds_more_than_the_limit(
            steps in prop::collection::vec((0u64..20_000, 1u64..5), 1..200),
            limit in 5u64..30,
        ) {
            let (mut window, start) = (Window::default(), Instant::now());
            let (mut at, mut taken) = (0, Vec::new());
            for (wait, amount) in steps {
                at += wait;
                if window.take(start + Duration::from_millis(at), amount, limit).is_ok() {
                    taken.push((at, amount));
                }
            }
            for (begin, _) in &taken {
                let of_minute = taken.iter().filter(|(at, _)| (*begin..begin + 60_000).contains(at));
                prop_assert!(of_minute.map(|(_, amount)| amount).sum::<u64>() <= limit);
            }
        }
    }
}
