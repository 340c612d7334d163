//! The request body as it arrived, and changes to it.
//!
//! The body stays the caller's bytes. One pass finds the spans of the outermost members; [`Edits`] then names what is
//! to be different, and [`Edits::apply`] makes the changed body in one copy. What is not edited goes on byte for byte.

use crate::error::Error;
use crate::wire::json::{self, Kind, Value};
use bytes::{Buf, Bytes, BytesMut};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

/// More outermost members than any real request has; the bound keeps the search for duplicates cheap.
const MAX_MEMBERS: usize = 256;

/// An outermost member.
#[derive(Debug)]
pub struct Member {
    name: Name,
    /// From the opening quote of the name to the end of the value.
    whole: Range<usize>,
    pub value: Value,
}

#[derive(Debug)]
enum Name {
    Plain(Range<usize>),
    /// The name was written with escapes: `"mod\u0065l"` is `model` and must not slip past as something else.
    Decoded(Box<str>),
}

/// A JSON object as it arrived.
#[derive(Debug)]
pub struct Envelope {
    bytes: Bytes,
    members: Vec<Member>,
}

impl Envelope {
    /// Checks that the bytes are one JSON object without duplicate outermost members.
    ///
    /// # Errors
    /// A 400 that says what is wrong and where.
    pub fn parse(bytes: Bytes, max_depth: usize) -> Result<Self, Error> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::invalid("The request body is empty; a JSON object is expected."));
        }
        let mut members = Vec::with_capacity(12);
        let mut too_many = false;
        let text = &bytes;
        let mut bad_name = None;
        json::object(text, max_depth, |m| {
            if members.len() >= MAX_MEMBERS {
                too_many = true;
                return;
            }
            let name = if text[m.key.clone()].contains(&b'\\') {
                match json::unescape(&text[m.key.clone()]) {
                    Some(name) => Name::Decoded(name.into()),
                    None => {
                        bad_name.get_or_insert(m.key.start);
                        return;
                    }
                }
            } else {
                Name::Plain(m.key.clone())
            };
            members.push(Member { name, whole: m.key.start - 1..m.value.span.end, value: m.value });
        })
        .map_err(|fault| bad_json(&bytes, fault))?;
        if let Some(at) = bad_name {
            return Err(bad_json(
                &bytes,
                json::Fault { at, what: json::What::Expected("a member name of valid escapes") },
            ));
        }
        if too_many {
            return Err(Error::invalid(format!("The request body has more than {MAX_MEMBERS} members.")));
        }
        let envelope = Envelope { bytes, members };
        for (i, member) in envelope.members.iter().enumerate() {
            let name = envelope.name(member);
            if envelope.members[..i].iter().any(|earlier| envelope.name(earlier) == name) {
                let name = shorten(&String::from_utf8_lossy(name));
                return Err(Error::invalid(format!("The member '{name}' occurs more than once in the request body."))
                    .at_param(name));
            }
        }
        Ok(envelope)
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member's name, decoded.
    pub fn name<'a>(&'a self, member: &'a Member) -> &'a [u8] {
        match &member.name {
            Name::Plain(span) => &self.bytes[span.clone()],
            Name::Decoded(name) => name.as_bytes(),
        }
    }

    /// The member of that name, absent when it is `null`: for every decision of the gateway the two mean the same.
    pub fn get(&self, name: &str) -> Option<&Member> {
        self.find(name).map(|i| &self.members[i]).filter(|m| m.value.kind != Kind::Null)
    }

    /// The place of the member of that name among [`Envelope::members`].
    pub fn find(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|m| self.name(m) == name.as_bytes())
    }

    /// The JSON text of a value.
    pub fn text(&self, value: &Value) -> &[u8] {
        &self.bytes[value.span.clone()]
    }

    /// The string of that name.
    pub fn string(&self, name: &str) -> Option<Cow<'_, str>> {
        let member = self.get(name).filter(|m| m.value.kind == Kind::String)?;
        let span = &member.value.span;
        json::unescape(&self.bytes[span.start + 1..span.end - 1])
    }

    /// The same object with these members in place of its own.
    pub fn with(&self, members: &serde_json::Map<String, serde_json::Value>) -> Bytes {
        let mut edits = Edits::default();
        let texts: Vec<(&str, Vec<u8>)> =
            members.iter().map(|(name, value)| (&**name, value.to_string().into_bytes())).collect();
        for (name, json) in texts {
            match self.find(name) {
                Some(place) => edits.replace(&self.members[place], json),
                // Such a name needs escapes, and means nothing to anybody.
                None if name.contains(['"', '\\']) || name.chars().any(char::is_control) => (),
                None => edits.insert(name, json),
            }
        }
        edits.apply(self)
    }

    /// Whether the member of that name is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|m| self.text(&m.value) == b"true")
    }

    /// The number of that name.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.number_of(self.get(name)?)
    }

    /// The number that a member is.
    pub fn number_of(&self, member: &Member) -> Option<f64> {
        let text = (member.value.kind == Kind::Number).then(|| self.text(&member.value))?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

/// Keeps a foreign text in an error message to a bearable length, on one line.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    let mut short: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

fn bad_json(bytes: &[u8], fault: json::Fault) -> Error {
    let before = &bytes[..fault.at.min(bytes.len())];
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    let message = format!("The request body is not acceptable JSON: {} (line {line}, column {column}).", fault.what);
    Error::invalid(message)
}

/// What is to be different from the body that arrived.
#[derive(Debug, Default)]
pub struct Edits<'a> {
    removed: Vec<usize>,
    splices: Vec<(Range<usize>, Cow<'a, [u8]>)>,
    inserted: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> Edits<'a> {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.splices.is_empty() && self.inserted.is_empty()
    }

    /// Leaves out the member at this place.
    pub fn remove(&mut self, member: usize) {
        if !self.removed.contains(&member) {
            self.removed.push(member);
        }
    }

    /// Gives the bytes of this span another text; spans must not overlap.
    pub fn splice(&mut self, span: Range<usize>, text: impl Into<Cow<'a, [u8]>>) {
        self.splices.push((span, text.into()));
    }

    /// Gives a member another value.
    pub fn replace(&mut self, member: &Member, json: impl Into<Cow<'a, [u8]>>) {
        self.splice(member.value.span.clone(), json);
    }

    /// Gives a member another name, which needs no escapes.
    pub fn rename(&mut self, member: &Member, name: &str) {
        let key_end = match &member.name {
            Name::Plain(span) => span.end + 1,
            // The written length of an escaped name is not kept: rename it together with the colon behind it.
            Name::Decoded(_) => {
                self.splice(member.whole.start..member.value.span.start, format!("\"{name}\":").into_bytes());
                return;
            }
        };
        self.splice(member.whole.start..key_end, format!("\"{name}\"").into_bytes());
    }

    /// Adds a member behind the others; the name needs no escapes.
    pub fn insert(&mut self, name: &'a str, json: impl Into<Cow<'a, [u8]>>) {
        self.inserted.push((name, json.into()));
    }

    /// The changed body in one piece; the same bytes, uncopied, when nothing changes.
    pub fn apply(self, envelope: &Envelope) -> Bytes {
        if self.is_empty() {
            return envelope.bytes.clone();
        }
        splice(&envelope.bytes, &self.changes(envelope))
    }

    /// The changed body as it is sent: what does not change is not copied where that is worth a piece of its own.
    pub fn pieces(self, envelope: &Envelope) -> Pieces {
        if self.is_empty() || envelope.bytes.len() < Pieces::LARGE {
            return Pieces::from(self.apply(envelope));
        }
        let bytes = &envelope.bytes;
        let mut pieces = Pieces::default();
        let mut small = BytesMut::new();
        let mut at = 0;
        for (span, text) in self.changes(envelope) {
            pieces.add(bytes.slice(at..span.start), &mut small);
            small.extend_from_slice(&text);
            at = span.end;
        }
        pieces.add(bytes.slice(at..), &mut small);
        pieces.push(small.freeze());
        pieces
    }

    /// The spans that are to be different, in order and apart, and what takes their place.
    fn changes(mut self, envelope: &Envelope) -> Vec<(Range<usize>, Cow<'a, [u8]>)> {
        let members = &envelope.members;
        let kept = |i: &usize| !self.removed.contains(i);
        let last_kept = (0..members.len()).rev().find(kept);
        let mut changes: Vec<(Range<usize>, Cow<'a, [u8]>)> =
            Vec::with_capacity(self.splices.len() + self.removed.len() + 1);
        // A member goes with the comma behind it; those after the last kept one go with the comma before them.
        for i in (0..members.len()).filter(|i| !kept(i) && last_kept.is_some_and(|last| *i < last)) {
            changes.push((members[i].whole.start..members[i + 1].whole.start, Cow::Borrowed(&[])));
        }
        let end = members.last().map_or_else(|| after_brace(&envelope.bytes), |m| m.whole.end);
        let tail = match last_kept {
            Some(last) => members[last].whole.end..end,
            None => members.first().map_or(end, |m| m.whole.start)..end,
        };
        let mut added = Vec::new();
        for (i, (name, json)) in self.inserted.iter().enumerate() {
            if i > 0 || last_kept.is_some() {
                added.push(b',');
            }
            added.extend_from_slice(format!("\"{name}\":").as_bytes());
            added.extend_from_slice(json);
        }
        let dropped: Vec<Range<usize>> = self.removed.iter().map(|&i| members[i].whole.clone()).collect();
        self.splices.retain(|(span, _)| !dropped.iter().any(|gone| gone.start <= span.start && span.end <= gone.end));
        changes.append(&mut self.splices);
        changes.push((tail, Cow::Owned(added)));
        changes.sort_by_key(|(span, _)| (span.start, span.end));
        changes
    }
}

/// A body in the pieces in which it is sent, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    next: Bytes,
    rest: VecDeque<Bytes>,
}

impl Pieces {
    /// A body below this is cheaper to copy than to keep apart.
    const LARGE: usize = 16 << 10;
    /// A stretch below this gets no piece of its own.
    const WORTH: usize = 4 << 10;

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.next.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Everything in one piece.
    pub fn join(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.next.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.next);
        self.rest.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }

    /// Adds a stretch of the body behind what is still `small`.
    fn add(&mut self, stretch: Bytes, small: &mut BytesMut) {
        if stretch.len() < Self::WORTH {
            small.extend_from_slice(&stretch);
            return;
        }
        self.push(small.split().freeze());
        self.push(stretch);
    }

    fn push(&mut self, piece: Bytes) {
        if self.next.is_empty() {
            self.next = piece;
        } else if !piece.is_empty() {
            self.rest.push_back(piece);
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.next
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let pieces = std::iter::once(&self.next).filter(|next| !next.is_empty()).chain(&self.rest);
        into.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let part = count.min(self.next.len());
            self.next.advance(part);
            count -= part;
            if self.next.is_empty() {
                match self.rest.pop_front() {
                    Some(piece) => self.next = piece,
                    None => break,
                }
            }
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        let mut pieces = Pieces::default();
        pieces.push(whole);
        pieces
    }
}

/// Offset behind the opening brace of an object without members.
fn after_brace(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b == b'{').map_or(0, |at| at + 1)
}

/// Copies `bytes` with the given spans, in order and apart, replaced.
fn splice(bytes: &[u8], changes: &[(Range<usize>, Cow<'_, [u8]>)]) -> Bytes {
    let added: usize = changes.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(bytes.len() + added);
    let mut at = 0;
    for (span, text) in changes {
        out.extend_from_slice(&bytes[at..span.start]);
        out.extend_from_slice(text);
        at = span.end;
    }
    out.extend_from_slice(&bytes[at..]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Envelope {
        Envelope::parse(Bytes::copy_from_slice(text.as_bytes()), 32).unwrap()
    }

    fn removed(text: &str, places: &[usize], insert: &[&'static str]) -> String {
        let envelope = parse(text);
        let mut edits = Edits::default();
        places.iter().for_each(|&i| edits.remove(i));
        insert.iter().for_each(|name| edits.insert(name, b"true".as_slice()));
        String::from_utf8(edits.apply(&envelope).to_vec()).unwrap()
    }

    #[test]
    fn members_leave_with_one_comma_each() {
        let text = r#"{ "a":1, "b" : 2 ,"c":3 }"#;
        assert_eq!(removed(text, &[0], &[]), r#"{ "b" : 2 ,"c":3 }"#);
        assert_eq!(removed(text, &[1], &[]), r#"{ "a":1, "c":3 }"#);
        assert_eq!(removed(text, &[2], &[]), r#"{ "a":1, "b" : 2 }"#);
        assert_eq!(removed(text, &[1, 2], &["d"]), r#"{ "a":1,"d":true }"#);
        assert_eq!(removed(text, &[0, 2], &[]), r#"{ "b" : 2 }"#);
        assert_eq!(removed(text, &[2, 0, 1], &[]), r#"{  }"#);
        assert_eq!(removed(text, &[2, 0, 1], &["d", "e"]), r#"{ "d":true,"e":true }"#);
        assert_eq!(removed(" {}", &[], &["d"]), r#" {"d":true}"#);
    }

    #[test]
    fn an_escaped_name_is_the_name_it_spells() {
        let envelope = parse(r#"{"mod\u0065l" : "x"}"#);
        assert_eq!(envelope.string("model").as_deref(), Some("x"));
        let mut edits = Edits::default();
        edits.rename(&envelope.members()[0], "other");
        assert_eq!(&edits.apply(&envelope)[..], br#"{"other":"x"}"#);
        let twice = Envelope::parse(Bytes::from_static(br#"{"model":"a","mod\u0065l":"b"}"#), 8);
        assert!(twice.unwrap_err().to_string().contains("more than once"));
    }

    proptest! {
        #[test]
        fn edits_do_what_they_say(n in 0usize..7, gone in prop::collection::vec(any::<bool>(), 7), other in prop::collection::vec(any::<bool>(), 7), add in 0usize..3) {
            let text: String = format!("{{{}}}", (0..n).map(|i| format!(" \"k{i}\" :{i}")).collect::<Vec<_>>().join(" ,"));
            let envelope = parse(&text);
            let mut edits = Edits::default();
            let mut expected = serde_json::Map::new();
            for i in 0..n {
                let member = &envelope.members()[i];
                if other[i] { edits.replace(member, b"[9]".as_slice()); }
                if gone[i] { edits.remove(i); continue; }
                expected.insert(format!("k{i}"), if other[i] { serde_json::json!([9]) } else { i.into() });
            }
            for name in &["x", "y", "z"][..add] { edits.insert(name, b"null".as_slice()); expected.insert((*name).into(), serde_json::Value::Null); }
            let after: serde_json::Value = serde_json::from_slice(&edits.apply(&envelope)).unwrap();
            prop_assert_eq!(after, serde_json::Value::Object(expected));
        }

        #[test]
        fn pieces_are_the_changed_body(lengths in prop::collection::vec(0usize..100_000, 1..5), step in 1usize..50_000, gone in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
            let members: Vec<String> = lengths.iter().enumerate().map(|(i, n)| format!("\"k{i}\":\"{}\"", "x".repeat(*n))).collect();
            let envelope = parse(&format!("{{{}}}", members.join(",")));
            let edits = || {
                let mut edits = Edits::default();
                edits.remove(gone.index(lengths.len()));
                edits.replace(&envelope.members()[other.index(lengths.len())], b"[9]".as_slice());
                edits.insert("more", b"1".as_slice());
                edits
            };
            let mut pieces = edits().pieces(&envelope);
            let whole = edits().apply(&envelope);
            prop_assert_eq!(&pieces.join(), &whole);
            prop_assert_eq!(pieces.len(), whole.len());
            let mut sent = Vec::new();
            while pieces.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = pieces.chunks_vectored(&mut slices);
                prop_assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
                let seen: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                let taken = step.min(seen.len());
                sent.extend_from_slice(&seen[..taken]);
                pieces.advance(taken);
            }
            prop_assert_eq!(sent, whole);
        }
    }
}
