//! Keys that were looked up, so that a call with a known key asks the store for nothing.
//!
//! Many small maps in the place of a large one: workers that read at the same time hardly ever meet. What is changed in
//! the store is forgotten, by the number of its change ([`crate::database`]).

use crate::database::Told;
use crate::store::Holder;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

const SHARDS: usize = 64;
/// Keys of a shard; beyond it some are forgotten, and looked up again when they call.
const MOST: usize = 1024;
/// Hashes of a shard that lead to no key; anybody may send any.
const MOST_UNKNOWN: usize = 128;
/// A hash that leads to no key is asked for again after this time.
const UNKNOWN_AGE: Duration = Duration::from_secs(10);

/// The same for the old text of a key, which is good for its period of grace alone.
const GRACE_AGE: Duration = Duration::from_secs(1);

/// SHA-256 of a key.
pub type Hash = [u8; 32];

/// What is remembered of a hash.
#[derive(Debug, Clone)]
pub enum Memory {
    Key(Arc<Holder>),
    /// The same, looked up longer ago than it is good for.
    Old(Arc<Holder>),
    /// There was no such key a moment ago.
    Unknown,
    Nothing,
}

#[derive(Debug)]
struct Entry {
    holder: Arc<Holder>,
    at: Instant,
    /// It was found by a hash that the key had before.
    in_grace: bool,
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<Hash, Entry>,
    unknown: HashMap<Hash, Instant>,
}

/// The keys that this process remembers.
#[derive(Debug)]
pub struct Remembered {
    shards: Vec<RwLock<Shard>>,
    /// Counts how often something was forgotten: what was read before must not be remembered after.
    turns: AtomicU64,
    many: AtomicUsize,
}

impl Default for Remembered {
    fn default() -> Self {
        Remembered {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            turns: AtomicU64::new(0),
            many: AtomicUsize::new(0),
        }
    }
}

impl Remembered {
    fn shard(&self, hash: &Hash) -> &RwLock<Shard> {
        // A digest is as random at its start as anywhere.
        &self.shards[usize::from(hash[0]) % SHARDS]
    }

    /// What is known of a hash.
    pub fn find(&self, hash: &Hash, age: Duration) -> Memory {
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        match shard.keys.get(hash) {
            Some(entry) if entry.at.elapsed() < if entry.in_grace { GRACE_AGE.min(age) } else { age } => {
                Memory::Key(entry.holder.clone())
            }
            Some(entry) => Memory::Old(entry.holder.clone()),
            None => match shard.unknown.get(hash) {
                Some(at) if at.elapsed() < UNKNOWN_AGE.min(age) => Memory::Unknown,
                _ => Memory::Nothing,
            },
        }
    }

    /// To be asked before the store is, and handed to [`Remembered::keep`].
    pub fn turn(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Remembers what the store said, unless something was forgotten meanwhile. True for the first key of all.
    pub fn keep(&self, hash: Hash, found: Option<&Arc<Holder>>, turn: u64) -> bool {
        let mut shard = self.shard(&hash).write().unwrap_or_else(PoisonError::into_inner);
        if self.turn() != turn {
            return false;
        }
        let Some(holder) = found else {
            if shard.unknown.len() >= MOST_UNKNOWN {
                shard.unknown.clear();
            }
            shard.unknown.insert(hash, Instant::now());
            // A remembered unknown key must become known within a second, too.
            return self.many.fetch_add(1, Ordering::Relaxed) == 0;
        };
        if shard.keys.len() >= MOST && !shard.keys.contains_key(&hash) {
            let oldest = shard.keys.iter().min_by_key(|(_, entry)| entry.at).map(|(hash, _)| *hash);
            if let Some(oldest) = oldest {
                shard.keys.remove(&oldest);
            }
        }
        shard.unknown.remove(&hash);
        let in_grace = holder.key.hash != hex(&hash);
        shard.keys.insert(hash, Entry { holder: holder.clone(), at: Instant::now(), in_grace });
        self.many.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub fn is_empty(&self) -> bool {
        self.many.load(Ordering::Relaxed) == 0
    }

    /// Forgets what has changed.
    pub fn forget(&self, told: &Told) {
        let changes = match told {
            Told::Some(changes) if changes.is_empty() => return,
            Told::Some(changes) => Some(changes),
            Told::All => None,
        };
        self.turns.fetch_add(1, Ordering::AcqRel);
        let only_keys = changes.filter(|changes| changes.iter().all(|change| change.kind == "key"));
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            match only_keys {
                // A key with a period of grace is remembered under two hashes, so its own hash is compared too.
                Some(changes) => {
                    let names = |text: &str| changes.iter().any(|change| change.id == text);
                    shard.keys.retain(|hash, entry| !names(&hex(hash)) && !names(&entry.holder.key.hash));
                    shard.unknown.retain(|hash, _| !names(&hex(hash)));
                }
                // People change seldom, and what they change for which key is a long story.
                None => {
                    shard.keys.clear();
                    shard.unknown.clear();
                }
            }
        }
        if only_keys.is_none() {
            self.many.store(0, Ordering::Relaxed);
        }
    }
}

/// As the store knows a key.
pub fn hex(hash: &Hash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    hash.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Key};

    fn holder(hash: &Hash) -> Arc<Holder> {
        let key = Key { id: hex(hash), hash: hex(hash), ..Key::default() };
        Arc::new(Holder::of(key))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_changed_is_forgotten_and_what_was_read_before_is_not_remembered() {
        let memory = Remembered::default();
        let (one, two) = ([1; 32], [2; 32]);
        let turn = memory.turn();
        assert!(memory.keep(one, Some(&holder(&one)), turn));
        memory.keep(two, None, turn);
        assert!(matches!(memory.find(&one, LONG), Memory::Key(_)));
        assert!(matches!(memory.find(&one, Duration::ZERO), Memory::Old(_)));
        assert!(matches!(memory.find(&two, LONG), Memory::Unknown));
        let change = |id: &Hash| Change { number: 1, kind: "key".to_owned(), id: hex(id) };
        memory.forget(&Told::Some(vec![change(&one)]));
        assert!(matches!(memory.find(&one, LONG), Memory::Nothing));
        assert!(matches!(memory.find(&two, LONG), Memory::Unknown));
        memory.keep(one, Some(&holder(&one)), turn);
        assert!(matches!(memory.find(&one, LONG), Memory::Nothing));
        memory.forget(&Told::All);
        assert!(memory.is_empty());
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let memory = Remembered::default();
        for n in 0..100_000_u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_le_bytes());
            memory.keep(hash, None, memory.turn());
        }
        let kept: usize = memory.shards.iter().map(|s| s.read().unwrap().unknown.len()).sum();
        assert!(kept <= SHARDS * MOST_UNKNOWN);
    }
}
