//! Records of the spool, to bytes and back.
//!
//! A file begins with [`MAGIC`]. A record is the length of its payload and the CRC-32 of it, four bytes each, little
//! endian, then the payload: a byte for its kind, and a call as JSON. A later version adds members, which this one
//! passes over, or kinds, which it sets aside.

use crate::store::{LedgerRow, Settled};
use std::io;

/// What a file of the spool begins with; the last byte is the version of the form.
pub const MAGIC: [u8; 8] = *b"gwspool\x01";
/// Length and checksum.
const HEAD: usize = 8;
/// A call with its prompt and its answer is smaller than this; a longer length is not one of ours.
pub const MAX_PAYLOAD: usize = 64 << 20;

const OPEN: u8 = 1;
const SETTLE: u8 = 2;

/// What is known of a call.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it is in a box wherever it is handed on")]
pub enum Record {
    /// It is about to be sent upstream.
    Open(Opened),
    /// It is over.
    Settle(Settled),
}

/// A call that was opened. Hardly ever is more wanted of it than its id, so no more is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    id: String,
    json: Box<[u8]>,
}

impl Opened {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As it stands it is the row of an interrupted call: charged at its estimate.
    pub fn call(&self) -> Settled {
        serde_json::from_slice(&self.json).unwrap_or_else(|e| {
            tracing::error!("the record that opened call {} is booked with its id alone: {e}", self.id);
            let row = LedgerRow { id: self.id.clone(), ..LedgerRow::default() };
            Settled { row, ..Settled::default() }
        })
    }
}

/// The part of an open record that is read.
#[derive(serde::Deserialize)]
struct Head {
    row: RowHead,
}

#[derive(serde::Deserialize)]
struct RowHead {
    #[serde(default)]
    id: String,
}

fn opened(json: &[u8]) -> Option<Record> {
    let head: Head = serde_json::from_slice(json).ok()?;
    Some(Record::Open(Opened { id: head.row.id, json: json.into() }))
}

/// Which of its two ends a call has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Open,
    Settle,
}

/// Writes a whole record in place of what is in `bytes`, which is kept from call to call.
///
/// # Errors
/// The call is too large to be one.
pub fn encode(end: End, call: &Settled, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    bytes.extend_from_slice(&[0; HEAD]);
    bytes.push(match end {
        End::Open => OPEN,
        End::Settle => SETTLE,
    });
    serde_json::to_writer(&mut *bytes, call)?;
    let length = bytes.len() - HEAD;
    if length > MAX_PAYLOAD {
        return Err(io::Error::other(format!("a call of {length} bytes does not fit into the spool")));
    }
    let checksum = crc32fast::hash(&bytes[HEAD..]);
    bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Front {
    /// A record, and how many bytes it has.
    Record(Box<Record>, usize),
    /// A whole record of so many bytes that another version wrote.
    Foreign(usize),
    /// The beginning of a record, or nothing.
    More,
    /// No record: what was being written when the machine went off, or damage.
    Torn(&'static str),
}

/// Looks at the front of the bytes behind the magic.
pub fn front(bytes: &[u8]) -> Front {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Front::More };
    let number = |at: usize| head[at..at + 4].iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let length = number(0) as usize;
    if length == 0 {
        return Front::Torn("a record without content");
    }
    if length > MAX_PAYLOAD {
        return Front::Torn("a length that no record has");
    }
    let Some(payload) = rest.get(..length) else { return Front::More };
    if crc32fast::hash(payload) != number(4) {
        return Front::Torn("a wrong checksum");
    }
    let size = HEAD + length;
    let json = &payload[1..];
    let record = match payload[0] {
        OPEN => opened(json),
        SETTLE => serde_json::from_slice(json).ok().map(Record::Settle),
        _ => None,
    };
    record.map_or(Front::Foreign(size), |record| Front::Record(Box::new(record), size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entity, Kind, LedgerRow, Prompt};
    use proptest::prelude::*;

    fn any_call() -> impl Strategy<Value = Settled> {
        let text = proptest::option::of(any::<String>());
        (
            any::<String>(),
            text.clone(),
            text,
            any::<[i64; 4]>(),
            any::<[bool; 3]>(),
            proptest::collection::vec(any::<String>(), 0..4),
        )
            .prop_map(|(id, key_id, request, numbers, flags, tags)| Settled {
                row: LedgerRow {
                    id,
                    key_id,
                    started_at: numbers[0],
                    cost_nanos: numbers[1],
                    first_at: flags[0].then_some(numbers[2]),
                    estimated: flags[1],
                    tags: tags.clone(),
                    ..LedgerRow::default()
                },
                windows: tags.iter().map(|t| Entity::of(Kind::Tag, t).within("1d", numbers[3])).collect(),
                prompt: request.map(|request| Prompt { request: Some(request), ..Prompt::default() }),
                reserved: flags[2],
            })
    }

    fn any_record() -> impl Strategy<Value = (End, Settled)> {
        (any::<bool>(), any_call()).prop_map(|(open, call)| (if open { End::Open } else { End::Settle }, call))
    }

    fn bytes_of((end, call): &(End, Settled)) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(*end, call, &mut bytes).unwrap();
        bytes
    }

    fn read(record: Record) -> (End, Settled) {
        match record {
            Record::Open(opened) => (End::Open, opened.call()),
            Record::Settle(call) => (End::Settle, call),
        }
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written(records in proptest::collection::vec(any_record(), 0..5), cut in any::<prop::sample::Index>()) {
            let encoded: Vec<Vec<u8>> = records.iter().map(bytes_of).collect();
            let bytes = encoded.concat();
            let cut = cut.index(bytes.len() + 1);
            let (mut at, mut got) = (0, Vec::new());
            loop {
                match front(&bytes[at..cut]) {
                    Front::Record(record, size) => {
                        at += size;
                        got.push(read(*record));
                    }
                    Front::More => break,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            // All whole records before the cut, and nothing of the one that it goes through.
            let whole = encoded.iter().scan(0, |sum, e| { *sum += e.len(); Some(*sum) }).filter(|end| *end <= cut).count();
            prop_assert_eq!(&got[..], &records[..whole]);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = front(&bytes);
        }

        #[test]
        fn a_flipped_bit_is_noticed(record in any_record(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = bytes_of(&record);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(!matches!(front(&bytes), Front::Record(..) | Front::Foreign(_)));
        }
    }

    #[test]
    fn a_record_of_another_version_is_passed_over_as_a_whole() {
        let later = |kind: u8, json: &str| {
            let payload = [&[kind], json.as_bytes()].concat();
            let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
            [&length[..], &crc32fast::hash(&payload).to_le_bytes(), &payload].concat()
        };
        let bytes = later(9, "{}");
        assert_eq!(front(&bytes), Front::Foreign(bytes.len()));
        let bytes = later(SETTLE, r#"{"row":{"id":"x","added_later":1},"more":[]}"#);
        let row = LedgerRow { id: "x".to_owned(), ..LedgerRow::default() };
        let record = Record::Settle(Settled { row, ..Settled::default() });
        assert_eq!(front(&bytes), Front::Record(Box::new(record), bytes.len()));
    }

    #[test]
    fn a_record_says_no_more_than_it_must() {
        let row = LedgerRow { id: "x".to_owned(), cost_nanos: 5, ..LedgerRow::default() };
        let bytes = bytes_of(&(End::Settle, Settled { row, ..Settled::default() }));
        assert_eq!(&bytes[HEAD + 1..], br#"{"row":{"id":"x","cost_nanos":5}}"#);
    }

    #[test]
    fn zeros_behind_the_last_record_are_torn() {
        assert!(matches!(front(&[0; 64]), Front::Torn(_)));
        assert_eq!(front(&[0; 7]), Front::More);
    }
}
