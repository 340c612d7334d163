//! What was counted in the last minute: a limit that holds over every span of 60 seconds, wherever it begins.
//!
//! Amounts are kept by the slot of 50 ms in which they came, and leave a minute and a slot after the end of theirs: no
//! span of 60 s ever holds more than was admitted, also where calls reach their upstream a little later than each other,
//! and a limit is reached again 0.2 % later than by an exact clock.

use std::collections::VecDeque;

/// A moment, counted in slots since the process began.
pub type Slot = u64;

pub const SLOT_MS: u64 = 50;
/// A minute, the slot in which the amount came, and one for the way to the upstream.
const STAY: u64 = 60_000 / SLOT_MS + 2;

/// The amounts of one limit.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// In the order of time; one entry a slot.
    entries: VecDeque<(Slot, u64)>,
    sum: u64,
}

impl Bucket {
    /// What the minute before `now` holds.
    pub fn used(&mut self, now: Slot) -> u64 {
        while let Some(&(slot, amount)) = self.entries.front().filter(|(slot, _)| slot + STAY <= now) {
            debug_assert!(slot <= now);
            self.sum -= amount;
            self.entries.pop_front();
        }
        self.sum
    }

    /// Counts an amount; the slot under which it may be taken back.
    pub fn add(&mut self, now: Slot, amount: u64) -> Slot {
        // Who read the clock before another one may come to the lock after him.
        let slot = self.entries.back().map_or(now, |(last, _)| now.max(*last));
        // A sum that overflows would free the limit.
        let amount = amount.min(u64::MAX - self.sum);
        self.sum += amount;
        match self.entries.back_mut().filter(|(last, _)| *last == slot) {
            Some((_, all)) => *all += amount,
            None => self.entries.push_back((slot, amount)),
        }
        slot
    }

    /// What was counted in that slot was less; nothing where its minute is over.
    pub fn take_back(&mut self, slot: Slot, amount: u64) {
        // Most calls are over as soon as they have begun.
        let last = self.entries.len().checked_sub(1).filter(|last| self.entries[*last].0 == slot);
        let place = last.or_else(|| self.entries.binary_search_by_key(&slot, |(slot, _)| *slot).ok());
        if let Some((_, entry)) = place.and_then(|place| self.entries.get_mut(place)) {
            let amount = amount.min(*entry);
            *entry -= amount;
            self.sum -= amount;
        }
    }

    /// When `need` fits below `limit`, if nothing else comes; none where it never does.
    pub fn fits_at(&mut self, now: Slot, limit: u64, need: u64) -> Option<Slot> {
        let mut left = self.used(now);
        let room = limit.checked_sub(need)?;
        if left <= room {
            return Some(now);
        }
        self.entries.iter().find_map(|(slot, amount)| {
            left -= amount;
            (left <= room).then_some(slot + STAY)
        })
    }

    /// When nothing of it counts any more, if nothing else comes.
    pub fn empty_at(&mut self, now: Slot) -> Slot {
        self.used(now);
        self.entries.back().map_or(now, |(slot, _)| slot + STAY)
    }

    pub fn is_empty(&mut self, now: Slot) -> bool {
        self.used(now) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plain model: every amount with its slot, and a sum over all that are younger than a minute.
    #[derive(Default)]
    struct Plain(Vec<(Slot, u64)>);

    impl Plain {
        fn used(&self, now: Slot) -> u64 {
            self.0.iter().filter(|(slot, _)| slot + STAY > now).map(|(_, amount)| amount).sum()
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Wait(u64),
        /// Admit this amount below the limit, if it fits.
        Ask(u64),
        /// Give a part of the n-th admitted amount back.
        Back(usize, u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (0..800_u64).prop_map(Act::Wait),
            (0..40_u64).prop_map(Act::Ask),
            (any::<usize>(), 0..40_u64).prop_map(|(n, part)| Act::Back(n, part)),
        ];
        proptest::collection::vec(act, 0..120)
    }

    proptest! {
        #[test]
        fn it_is_the_plain_model_and_no_minute_holds_more_than_its_limit(acts in acts(), limit in 1..100_u64) {
            let (mut bucket, mut plain, mut now) = (Bucket::default(), Plain::default(), 0);
            let mut admitted: Vec<(Slot, u64)> = Vec::new();
            for act in acts {
                match act {
                    Act::Wait(slots) => now += slots,
                    Act::Ask(amount) => {
                        let fits = bucket.used(now) + amount <= limit;
                        prop_assert_eq!(fits, bucket.fits_at(now, limit, amount) == Some(now));
                        if fits {
                            bucket.add(now, amount);
                            plain.0.push((now, amount));
                            admitted.push((now, amount));
                        } else if let Some(at) = bucket.fits_at(now, limit, amount) {
                            // When it says that there is room there is, and a slot before that there is none.
                            prop_assert!(plain.used(at) + amount <= limit);
                            prop_assert!(plain.used(at - 1) + amount > limit);
                        } else {
                            prop_assert!(amount > limit);
                        }
                    }
                    Act::Back(n, part) => {
                        if let Some(place) = n.checked_rem(admitted.len()) {
                            let (slot, amount) = &mut admitted[place];
                            let part = part.min(*amount);
                            *amount -= part;
                            plain.0[place].1 = *amount;
                            // Amounts whose minute is over are not in the bucket any more.
                            bucket.used(now);
                            bucket.take_back(*slot, part);
                        }
                    }
                }
                prop_assert_eq!(bucket.used(now), plain.used(now));
            }
            // Whatever minute one looks at, by real time: slots are half-open spans, so 1201 of them hold a minute.
            for (start, _) in &admitted {
                let held: u64 = admitted.iter().filter(|(s, _)| s >= start && *s < start + STAY).map(|(_, a)| a).sum();
                prop_assert!(held <= limit);
            }
        }
    }

    #[test]
    fn what_comes_late_to_the_lock_keeps_the_order() {
        let mut bucket = Bucket::default();
        bucket.add(10, 1);
        assert_eq!(bucket.add(9, 2), 10);
        bucket.take_back(10, 1);
        assert_eq!((bucket.used(10), bucket.used(1211), bucket.used(1212)), (2, 2, 0));
    }
}
