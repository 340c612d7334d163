//! Things that are looked up by name once, and found by their place from then on: calls ask for the same few again and
//! again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where something lies, for as long as it is not removed; the default is nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    index: u32,
    /// How often something was put there: what came later is another thing.
    turn: u32,
}

/// Things by their place.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn put(&mut self, thing: T) -> Place {
        if let Some(index) = self.free.pop()
            && let Some((turn, slot)) = self.slots.get_mut(index as usize)
        {
            *turn = turn.wrapping_add(1).max(1);
            *slot = Some(thing);
            return Place { index, turn: *turn };
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push((1, Some(thing)));
        Place { index, turn: 1 }
    }

    pub fn get(&self, place: Place) -> Option<&T> {
        let (turn, slot) = self.slots.get(place.index as usize)?;
        slot.as_ref().filter(|_| *turn == place.turn)
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let (turn, slot) = self.slots.get_mut(place.index as usize)?;
        slot.as_mut().filter(|_| *turn == place.turn)
    }

    pub fn take(&mut self, place: Place) -> Option<T> {
        let (turn, slot) = self.slots.get_mut(place.index as usize)?;
        let thing = slot.take_if(|_| *turn == place.turn)?;
        self.free.push(place.index);
        Some(thing)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        let place = |index: usize, turn: u32| Place { index: u32::try_from(index).unwrap_or(u32::MAX), turn };
        let slots = self.slots.iter().enumerate();
        slots.filter_map(move |(index, (turn, slot))| Some((place(index, *turn), slot.as_ref()?)))
    }
}

/// The place of something by its name, as whoever holds this saw it last.
#[derive(Debug, Default)]
pub struct Hint(AtomicU64);

impl Hint {
    fn place(&self) -> Place {
        let both = self.0.load(Ordering::Relaxed);
        // Both halves of one number.
        Place { index: both as u32, turn: (both >> 32) as u32 }
    }

    fn set(&self, place: Place) {
        self.0.store(u64::from(place.turn) << 32 | u64::from(place.index), Ordering::Relaxed);
    }
}

impl Clone for Hint {
    fn clone(&self) -> Self {
        Hint(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// Things by their name and by their place. A hint belongs to one name and one shelf.
#[derive(Debug)]
pub struct Shelf<K, V> {
    places: HashMap<Arc<K>, Place>,
    things: Slab<V>,
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Shelf { places: HashMap::new(), things: Slab::default() }
    }
}

impl<K: Hash + Eq, V: Default> Shelf<K, V> {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn contains(&self, name: &K) -> bool {
        self.places.contains_key(name)
    }

    pub fn named(&mut self, name: &K) -> Option<&mut V> {
        self.things.get_mut(*self.places.get(name)?)
    }

    /// Where it is, if it is there.
    pub fn find(&self, name: &K, hint: &Hint) -> Option<Place> {
        let known = hint.place();
        if self.things.get(known).is_some() {
            return Some(known);
        }
        let place = *self.places.get(name)?;
        hint.set(place);
        Some(place)
    }

    /// Where it is; a new one where there was none.
    pub fn seat(&mut self, name: &Arc<K>, hint: &Hint) -> Place {
        if let Some(place) = self.find(name, hint) {
            return place;
        }
        let place = self.things.put(V::default());
        self.places.insert(name.clone(), place);
        hint.set(place);
        place
    }

    pub fn seat_mut(&mut self, name: &Arc<K>, hint: &Hint) -> &mut V {
        let place = self.seat(name, hint);
        self.things.slots[place.index as usize].1.get_or_insert_default()
    }

    pub fn at(&self, place: Place) -> Option<&V> {
        self.things.get(place)
    }

    pub fn at_mut(&mut self, place: Place) -> Option<&mut V> {
        self.things.get_mut(place)
    }

    /// What was found at that place, also where it was removed and came again since.
    pub fn again(&mut self, place: Place, name: &K) -> Option<&mut V> {
        let place = if self.things.get(place).is_some() { place } else { *self.places.get(name)? };
        self.things.get_mut(place)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.things.slots.iter_mut().filter_map(|(_, slot)| slot.as_mut())
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&mut V) -> bool) {
        let things = &mut self.things;
        self.places.retain(|_, place| {
            let keeps = things.get_mut(*place).is_some_and(&mut stays);
            if !keeps {
                things.take(*place);
            }
            keeps
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_good_for_one_thing_alone() {
        let mut slab = Slab::default();
        let first = slab.put('a');
        assert_eq!((slab.take(first), slab.take(first)), (Some('a'), None));
        let second = slab.put('b');
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&'b')));
        assert_eq!(slab.get(Place::default()), None);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(second, &'b')]);
    }

    proptest! {
        /// Whatever was removed meanwhile, a hint never leads to a thing of another name.
        #[test]
        fn a_shelf_is_a_map(acts in proptest::collection::vec((0..6_usize, 0..3_u8), 0..80)) {
            let names: Vec<Arc<usize>> = (0..6).map(Arc::new).collect();
            let hints: Vec<Hint> = (0..6).map(|_| Hint::default()).collect();
            let (mut shelf, mut plain) = (Shelf::<usize, usize>::default(), HashMap::<usize, usize>::new());
            for (n, act) in acts {
                match act {
                    0 => {
                        let place = shelf.seat(&names[n], &hints[n]);
                        *shelf.at_mut(place).unwrap() += n + 1;
                        *plain.entry(n).or_default() += n + 1;
                    }
                    1 => {
                        shelf.retain(|value| !(*value).is_multiple_of(n + 1));
                        plain.retain(|_, value| !(*value).is_multiple_of(n + 1));
                    }
                    _ => prop_assert_eq!(shelf.find(&n, &hints[n]).and_then(|place| shelf.at(place)), plain.get(&n)),
                }
                prop_assert_eq!(shelf.len(), plain.len());
            }
        }
    }
}
