//! What the records of a process that has ended mean: each call is settled, or was interrupted.

use super::record::{Opened, Record};
use crate::store::Settled;
use std::collections::HashMap;

/// Calls that were opened and not settled yet, while records are read in the order in which they were written.
#[derive(Debug, Default)]
pub struct Recovery {
    open: HashMap<String, (Opened, usize)>,
}

impl Recovery {
    /// The next record, which stands in the file of this number. A settled call is given back, to be booked; an open one
    /// is remembered.
    pub fn see(&mut self, record: Record, file: usize) -> Option<Settled> {
        match record {
            Record::Open(opened) => {
                self.open.insert(opened.id().to_owned(), (opened, file));
                None
            }
            Record::Settle(call) => {
                self.open.remove(&call.row.id);
                Some(call)
            }
        }
    }

    /// A call was settled in another way than by a record.
    pub fn forget(&mut self, id: &str) {
        self.open.remove(id);
    }

    /// The first file with a call that is under way, in a process that lives.
    pub fn first_file(&self) -> Option<usize> {
        self.open.values().map(|(_, file)| *file).min()
    }

    /// All records are read, and nobody writes any more: what is still open was interrupted. Nobody knows when, so it
    /// ends where it began; it is charged at the estimate that it was opened with. Sorted by id.
    ///
    /// A call whose settlement was booked before it was lost from here is not booked twice: its row is there.
    pub fn interrupted(self) -> Vec<Settled> {
        let mut calls: Vec<Settled> = self.open.into_values().map(|(opened, _)| opened.call()).collect();
        calls.sort_unstable_by(|a, b| a.row.id.cmp(&b.row.id));
        for Settled { row, .. } in &mut calls {
            row.status = "interrupted".to_owned();
            row.ended_at = row.started_at;
            row.estimated = true;
            row.error_class.get_or_insert_with(|| "interrupted".to_owned());
            row.error.get_or_insert_with(|| "The gateway ended before this call did.".to_owned());
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{self, End, Front};
    use crate::store::LedgerRow;
    use proptest::prelude::*;

    fn call(id: &str, cost: i64) -> Settled {
        let row = LedgerRow {
            id: id.to_owned(),
            started_at: 7,
            cost_nanos: cost,
            status: "success".to_owned(),
            ..LedgerRow::default()
        };
        Settled { row, ..Settled::default() }
    }

    fn begun(call: &Settled) -> Record {
        let mut bytes = Vec::new();
        record::encode(End::Open, call, &mut bytes).unwrap();
        let Front::Record(record, _) = record::front(&bytes) else { panic!("{bytes:?}") };
        *record
    }

    #[test]
    fn what_was_opened_and_not_settled_was_interrupted() {
        let mut recovery = Recovery::default();
        assert_eq!(recovery.see(begun(&call("b", 5)), 3), None);
        assert_eq!(recovery.see(begun(&call("a", 6)), 2), None);
        assert_eq!(recovery.see(begun(&call("c", 7)), 4), None);
        assert_eq!(recovery.see(Record::Settle(call("a", 1)), 4), Some(call("a", 1)));
        assert_eq!(recovery.first_file(), Some(3));
        let rows: Vec<LedgerRow> = recovery.interrupted().into_iter().map(|s| s.row).collect();
        let told: Vec<(&str, &str, i64, i64)> =
            rows.iter().map(|r| (r.id.as_str(), r.status.as_str(), r.cost_nanos, r.ended_at)).collect();
        assert_eq!(told, [("b", "interrupted", 5, 7), ("c", "interrupted", 7, 7)]);
        assert!(rows.iter().all(|r| r.estimated));
    }

    proptest! {
        /// Each call that was opened is settled or interrupted, whenever its process ends.
        #[test]
        fn no_call_is_lost_and_none_told_twice(ends in proptest::collection::vec(any::<(u8, u8)>(), 0..30), cut in any::<prop::sample::Index>()) {
            let mut written: Vec<(u16, Record)> = Vec::new();
            for (n, (open, length)) in ends.iter().enumerate() {
                let id = format!("{n:02}");
                written.push((u16::from(*open), begun(&call(&id, 1))));
                written.push((u16::from(*open) + 1 + u16::from(*length), Record::Settle(call(&id, 2))));
            }
            written.sort_by_key(|(at, _)| *at);
            let cut = cut.index(written.len() + 1);
            let opened = written[..cut].iter().filter(|(_, r)| matches!(r, Record::Open(_))).count();
            let mut recovery = Recovery::default();
            let mut rows: Vec<Settled> = written.drain(..cut).filter_map(|(_, r)| recovery.see(r, 0)).collect();
            rows.extend(recovery.interrupted());
            let mut ids: Vec<String> = rows.iter().map(|s| s.row.id.clone()).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!((ids.len(), rows.len()), (opened, opened));
        }
    }
}
