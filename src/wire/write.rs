//! Writes JSON straight into a buffer: most of what is written is copied from other JSON as it stands.

use bytes::BufMut;

/// An object that is being written.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, empty: true }
    }

    /// Where the value of the next member is to be written; its name needs no escapes.
    pub fn slot(&mut self, name: &str) -> &mut Vec<u8> {
        comma(self.out, &mut self.empty);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A member whose value is JSON already.
    pub fn json(&mut self, name: &str, json: impl AsRef<[u8]>) {
        self.slot(name).extend_from_slice(json.as_ref());
    }

    /// A member whose value is a text.
    pub fn text(&mut self, name: &str, text: &str) {
        quote(self.slot(name), text);
    }

    /// Members that are written already, each with a comma in front; not the first ones.
    pub fn more(&mut self, members: &[u8]) {
        self.out.extend_from_slice(members);
    }

    pub fn close(self) {
        self.out.push(b'}');
    }
}

/// A comma, unless this is the first of a list.
pub fn comma(out: &mut Vec<u8>, empty: &mut bool) {
    if !std::mem::replace(empty, false) {
        out.push(b',');
    }
}

/// A text as a JSON string.
pub fn quote(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    escape(out, text);
    out.put_u8(b'"');
}

/// A text as it stands between the quotes of a JSON string.
pub fn escape(out: &mut impl BufMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.put_slice(&bytes[from..at]);
        from = at + 1;
        if short.is_empty() {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.put_slice(b"\\u00");
            out.put_slice(&digits);
        } else {
            out.put_slice(short);
        }
    }
    out.put_slice(&bytes[from..]);
}

/// A text as a JSON string of its own.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    quote(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_is_quoted_as_json_wants_it(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_slice::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
