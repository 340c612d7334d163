//! Names and ids that Anthropic does not take, made acceptable: `^[a-zA-Z0-9_-]{1,128}$` for tools,
//! `^[a-zA-Z0-9_-]+$` for ids of calls.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

const LONGEST: usize = 128;

/// Tool names that had to be changed, both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolNames {
    sent: HashMap<Box<str>, Box<str>>,
    given: HashMap<Box<str>, Box<str>>,
}

impl ToolNames {
    /// Reads all names of a request, in any order and number; those that need it get another, and no two the same.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self::within(LONGEST, names)
    }

    /// The same for an upstream whose names are at most `longest` characters, which are more than 17.
    pub fn within<'a>(longest: usize, names: impl Iterator<Item = &'a str>) -> Self {
        let (fine, odd): (HashSet<&str>, Vec<&str>) = {
            let (mut fine, mut odd) = (HashSet::new(), Vec::new());
            for name in names {
                if is_fine(name, longest) {
                    fine.insert(name);
                } else {
                    odd.push(name);
                }
            }
            (fine, odd)
        };
        let mut table = ToolNames::default();
        for name in odd {
            if name.is_empty() || table.sent.contains_key(name) {
                continue;
            }
            let mut other = plain(name);
            other.truncate(longest);
            let taken = |table: &ToolNames, other: &str| fine.contains(other) || table.given.contains_key(other);
            if name.len() > longest || taken(&table, &other) {
                other.truncate(longest - 17);
                other = format!("{other}_{:016x}", hash(name));
            }
            // Equal hashes of different names: the first keeps it, the others go as they are and are refused upstream.
            if !taken(&table, &other) {
                table.sent.insert(name.into(), other.as_str().into());
                table.given.insert(other.into(), name.into());
            }
        }
        table
    }

    /// Whether no name had to be changed.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// What the upstream is told.
    pub fn sent<'a>(&'a self, given: &'a str) -> &'a str {
        self.sent.get(given).map_or(given, |name| name)
    }

    /// What the caller called it.
    pub fn given<'a>(&'a self, sent: &'a str) -> &'a str {
        self.given.get(sent).map_or(sent, |name| name)
    }
}

/// An id for a call that the upstream accepts: the same for the call and its result, in every request.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    if !id.is_empty() && id.bytes().all(may_stand) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("{}_{:016x}", plain(id), hash(id)))
}

fn is_fine(name: &str, longest: usize) -> bool {
    !name.is_empty() && name.len() <= longest && name.bytes().all(may_stand)
}

fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The text with `_` for every character that may not stand in a name.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// FNV-1a: the same in every process, unlike the standard library's.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let long = "x".repeat(200);
        let given = ["get_weather", "get.weather", "get weather", "größe", &long];
        let table = ToolNames::new(given.into_iter());
        let sent: HashSet<&str> = given.iter().map(|name| table.sent(name)).collect();
        assert_eq!(sent.len(), given.len());
        for name in given {
            assert!(is_fine(table.sent(name), LONGEST), "{name}");
            assert_eq!(table.given(table.sent(name)), name);
        }
        assert_eq!(table.sent("get_weather"), "get_weather");
    }

    #[test]
    fn ids_are_changed_only_if_they_must_be() {
        assert_eq!(call_id("toolu_1-a"), "toolu_1-a");
        assert_ne!(call_id("a.b"), call_id("a:b"));
        assert!(is_fine(&call_id(""), LONGEST));
    }
}
