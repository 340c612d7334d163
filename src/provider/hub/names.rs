//! Names of tools that an upstream does not take, made acceptable: letters, digits, `_` and `-` are taken by all.

use std::collections::{HashMap, HashSet};

/// What an upstream demands of names beyond their characters.
#[derive(Debug, Clone, Copy)]
pub struct NameRule {
    pub longest: usize,
    /// The first character is a letter or `_`.
    pub letter_first: bool,
}

/// Tool names that had to be changed, both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolNames {
    sent: HashMap<Box<str>, Box<str>>,
    given: HashMap<Box<str>, Box<str>>,
}

impl ToolNames {
    /// Reads all names of a request, in any order and number; those that need it get another, and no two the same.
    pub fn new<'a>(rule: NameRule, names: impl Iterator<Item = &'a str>) -> Self {
        let (fine, odd): (HashSet<&str>, Vec<&str>) = {
            let (mut fine, mut odd) = (HashSet::new(), Vec::new());
            for name in names {
                if rule.allows(name) {
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
            if rule.letter_first && other.starts_with(|c: char| !c.is_ascii_alphabetic() && c != '_') {
                other.insert(0, '_');
            }
            other.truncate(rule.longest);
            let taken = |table: &ToolNames, other: &str| fine.contains(other) || table.given.contains_key(other);
            if name.len() > rule.longest || taken(&table, &other) {
                other.truncate(rule.longest - 17);
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

impl NameRule {
    fn allows(self, name: &str) -> bool {
        let first = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        !name.is_empty()
            && name.len() <= self.longest
            && name.bytes().all(may_stand)
            && (!self.letter_first || first(name))
    }
}

pub(in crate::provider) fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The text with `_` for every character that may not stand in a name.
pub(in crate::provider) fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// FNV-1a: the same in every process, unlike the standard library's.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: NameRule = NameRule { longest: 128, letter_first: false };

    #[test]
    fn names_come_back() {
        let long = "x".repeat(200);
        let given = ["get_weather", "get.weather", "get weather", "größe", "1st", &long];
        for rule in [RULE, NameRule { longest: 64, letter_first: true }] {
            let table = ToolNames::new(rule, given.into_iter());
            let sent: HashSet<&str> = given.iter().map(|name| table.sent(name)).collect();
            assert_eq!(sent.len(), given.len());
            for name in given {
                assert!(rule.allows(table.sent(name)), "{name}");
                assert_eq!(table.given(table.sent(name)), name);
            }
            assert_eq!(table.sent("get_weather"), "get_weather");
        }
    }
}
