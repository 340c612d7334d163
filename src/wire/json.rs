//! One pass over JSON bytes that checks them and shows the members of the outermost object.
//!
//! The gateway forwards bodies it does not own, so it looks at them without building a tree: every byte is checked
//! against RFC 8259 (UTF-8 included), nothing is copied, and what was not asked for is only skipped. Depth is bounded.

mod block;

use block::Block;
use std::borrow::Cow;
use std::ops::Range;

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// The kind with its article, for messages: "an object".
    pub fn with_article(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Bool => "a boolean",
            Kind::Null => "null",
        }
    }
}

/// A value and where it stands in the scanned bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub kind: Kind,
    pub span: Range<usize>,
    /// Elements of an array, members of an object, 0 otherwise.
    pub items: usize,
    /// Index of the first element of an array that is not an object.
    pub first_other: Option<usize>,
}

/// A member of an object: its key between the quotes, as written, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub key: Range<usize>,
    pub value: Value,
}

/// Why bytes are not acceptable JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the byte at which it was noticed.
    pub at: usize,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Something else was expected here.
    Expected(&'static str),
    /// The text ended too early.
    End,
    /// Deeper than the given bound.
    TooDeep,
    /// Not UTF-8.
    Encoding,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Expected(what) => write!(f, "expected {what}"),
            What::End => f.write_str("it ends too early"),
            What::TooDeep => f.write_str("it is nested too deeply"),
            What::Encoding => f.write_str("it is not UTF-8"),
        }
    }
}

/// Walks the outermost object of `bytes` and shows each member to `see`, in order.
///
/// # Errors
/// The first fault, with its offset; members before it have been seen by then.
pub fn object(bytes: &[u8], max_depth: usize, see: impl FnMut(Member)) -> Result<(), Fault> {
    if simdutf8::basic::from_utf8(bytes).is_err() {
        let at = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), |_| bytes.len());
        return Err(Fault { at, what: What::Encoding });
    }
    let mut scan = Scan::new(bytes, max_depth);
    scan.space();
    scan.members(see)?;
    scan.space();
    if scan.at < bytes.len() { Err(scan.expected("the end of the text")) } else { Ok(()) }
}

/// Walks the array at the start of `bytes` and shows each element to `see`, in order.
///
/// # Errors
/// As [`object`].
pub fn array(bytes: &[u8], max_depth: usize, mut see: impl FnMut(Value)) -> Result<(), Fault> {
    let mut scan = Scan::new(bytes, max_depth);
    scan.space();
    scan.elements(max_depth, &mut see)
}

/// The text that a JSON text spells, where it is one and no longer than an id.
pub fn short_text(json: &[u8]) -> Option<String> {
    const MOST: usize = 256;
    (json.len() <= MOST).then(|| serde_json::from_slice(json).ok())?
}

/// The text of a JSON string, given what stands between its quotes.
pub fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.contains(&b'\\') {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: usize,
    block: Block,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8], max_depth: usize) -> Self {
        Scan { bytes, at: 0, max_depth, block: Block::NONE }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected(&self, what: &'static str) -> Fault {
        let what = if self.at >= self.bytes.len() { What::End } else { What::Expected(what) };
        Fault { at: self.at, what }
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn byte(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    fn members(&mut self, mut see: impl FnMut(Member)) -> Result<(), Fault> {
        let depth = self.max_depth.checked_sub(1).ok_or(Fault { at: self.at, what: What::TooDeep })?;
        self.byte(b'{', "an object")?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            let value = self.value(depth)?;
            see(Member { key, value });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.expected("`,` or `}`")),
            }
            self.space();
        }
    }

    /// A key with its colon and the space behind it.
    #[inline]
    fn key(&mut self) -> Result<Range<usize>, Fault> {
        let start = self.at + 1;
        self.byte(b'"', "a member name in quotes")?;
        self.string()?;
        let key = start..self.at - 1;
        self.space();
        self.byte(b':', "`:`")?;
        self.space();
        Ok(key)
    }

    fn elements(&mut self, depth: usize, see: &mut dyn FnMut(Value)) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault { at: self.at, what: What::TooDeep })?;
        self.byte(b'[', "an array")?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            see(self.value(depth)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.expected("`,` or `]`")),
            }
            self.space();
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        let start = self.at;
        let (mut items, mut first_other) = (0, None);
        let kind = match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string()?;
                Kind::String
            }
            Some(b'{') => {
                items = self.skip_object(depth)?;
                Kind::Object
            }
            Some(b'[') => {
                self.elements(depth, &mut |element| {
                    if element.kind != Kind::Object && first_other.is_none() {
                        first_other = Some(items);
                    }
                    items += 1;
                })?;
                Kind::Array
            }
            Some(b't') => self.word(b"true", Kind::Bool)?,
            Some(b'f') => self.word(b"false", Kind::Bool)?,
            Some(b'n') => self.word(b"null", Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            _ => return Err(self.expected("a value")),
        };
        Ok(Value { kind, span: start..self.at, items, first_other })
    }

    /// As [`Scan::members`], for objects further in, whose members nobody asked to see.
    fn skip_object(&mut self, depth: usize) -> Result<usize, Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault { at: self.at, what: What::TooDeep })?;
        let mut count = 0;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(0);
        }
        loop {
            self.key()?;
            self.value(depth)?;
            count += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(count);
                }
                _ => return Err(self.expected("`,` or `}`")),
            }
            self.space();
        }
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<Kind, Fault> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(kind)
        } else {
            Err(Fault { at: self.at, what: What::Expected("`true`, `false` or `null`") })
        }
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// The rest of a string, its closing quote included.
    #[inline]
    fn string(&mut self) -> Result<(), Fault> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor has what the function is made for")]
            // SAFETY: as just found out.
            return unsafe { self.string_wide() };
        }
        self.string_by(block::portable)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn string_wide(&mut self) -> Result<(), Fault> {
        self.string_by(|block| block::wide(block))
    }

    #[inline(always)]
    fn string_by(&mut self, look: impl Fn(&[u8; block::SIZE]) -> block::Look) -> Result<(), Fault> {
        loop {
            self.at = self.block.next_mark(self.bytes, self.at, &look);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.code_escape()?,
                _ => return Err(self.expected("a character that may stand in a string")),
            }
        }
    }

    /// The escape of four hexadecimal digits.
    fn code_escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        if self.peek() != Some(b'u') {
            return Err(self.expected("an escape sequence"));
        }
        for _ in 0..4 {
            self.at += 1;
            if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                return Err(self.expected("four hexadecimal digits"));
            }
        }
        self.at += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(text: &str) -> Result<Vec<String>, Fault> {
        let mut keys = Vec::new();
        object(text.as_bytes(), 64, |m| keys.push(text[m.key].to_owned()))?;
        Ok(keys)
    }

    #[test]
    fn members_are_seen_in_order_with_their_spans() {
        let text = r#" { "a" : [ {} , 1 ] , "b\"" : "x\u00e9" , "c":-1.5e+3 } "#;
        let mut seen = Vec::new();
        object(text.as_bytes(), 8, |m| {
            seen.push((
                text[m.key].to_owned(),
                m.value.kind,
                text[m.value.span].to_owned(),
                m.value.items,
                m.value.first_other,
            ))
        })
        .unwrap();
        assert_eq!(seen[0], ("a".into(), Kind::Array, "[ {} , 1 ]".into(), 2, Some(1)));
        assert_eq!(seen[1], ("b\\\"".into(), Kind::String, "\"x\\u00e9\"".into(), 0, None));
        assert_eq!(seen[2], ("c".into(), Kind::Number, "-1.5e+3".into(), 0, None));
    }

    #[test]
    fn what_is_not_json_is_refused_at_its_place() {
        for (text, at) in [
            ("", 0),
            ("[]", 0),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{\"a\":01}", 6),
            ("{\"a\":1} x", 8),
            ("{\"a\":\"\n\"}", 6),
            ("{'a':1}", 1),
            ("{\"a\":tru}", 5),
            ("{\"a\":\"\\x\"}", 7),
            ("{\"a\":1", 6),
        ] {
            assert_eq!(keys(text).unwrap_err().at, at, "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", 8, |_| ()).unwrap_err().what, What::Encoding);
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(keys(&deep(63)).is_ok());
        assert_eq!(keys(&deep(64)).unwrap_err().what, What::TooDeep);
        assert_eq!(keys(&deep(1_000_000)).unwrap_err().what, What::TooDeep);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f32>().prop_map(|f| serde_json::json!(f)),
            ".{0,60}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(".{0,12}", inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_object_is_read_as_serde_json_reads_it(value in prop::collection::hash_map("[a-z\"\\\\é]{0,8}", json(), 0..6)) {
            let value = serde_json::Value::Object(value.into_iter().collect());
            let text = serde_json::to_string_pretty(&value).unwrap();
            let mut seen = serde_json::Map::new();
            object(text.as_bytes(), 64, |m| {
                let key = unescape(&text.as_bytes()[m.key]).unwrap().into_owned();
                seen.insert(key, serde_json::from_str(&text[m.value.span]).unwrap());
            }).unwrap();
            // Read back, since serde_json's reading of floats is not exact to the last digit.
            prop_assert_eq!(serde_json::Value::Object(seen), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }

        #[test]
        fn a_changed_byte_is_accepted_exactly_when_serde_json_accepts_it(value in prop::collection::hash_map("[a-z]{0,4}", json(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = serde_json::to_vec(&serde_json::Value::Object(value.into_iter().collect())).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let theirs = serde_json::from_slice::<std::collections::HashMap<String, &serde_json::value::RawValue>>(&bytes).is_ok();
            let ours = object(&bytes, 100, |_| ()).is_ok();
            prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
