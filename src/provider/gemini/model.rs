//! What a model takes, told by its name: `gemini-MAJOR[.MINOR]-SIZE`, wherever in the name it stands.

/// Abilities of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// Zeros for what is no Gemini.
    pub version: (u8, u8),
    pub pro: bool,
    pub lite: bool,
}

impl Traits {
    pub(super) fn of(model: &str) -> Traits {
        let model = model.to_ascii_lowercase();
        let rest = model.split_once("gemini-").map_or("", |(_, rest)| rest);
        let mut words = rest.split(['-', '@']);
        let number = words.next().unwrap_or_default();
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        let version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
        // `gemini-flash-latest` and its like are the newest of their size.
        let version = if rest.ends_with("-latest") && version.0 == 0 { (3, 0) } else { version };
        let has = |size: &str| rest.split('-').any(|word| word == size);
        Traits { version, pro: has("pro"), lite: has("lite") }
    }

    pub(super) fn thinks(self) -> bool {
        self.version >= (2, 5)
    }

    /// Thinking is told by a level, in place of a number of tokens.
    pub(super) fn levels(self) -> bool {
        self.version >= (3, 0)
    }

    /// Calls in the history must carry the proof that the model made them.
    pub(super) fn wants_signatures(self) -> bool {
        self.version >= (3, 0)
    }

    /// An answer in JSON may be asked for beside tools.
    pub(super) fn json_beside_tools(self) -> bool {
        self.version >= (3, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (name, version, pro, lite) in [
            ("gemini-2.5-pro", (2, 5), true, false),
            ("gemini-2.5-flash-lite-preview-09-2025", (2, 5), false, true),
            ("models/gemini-3-pro-preview", (3, 0), true, false),
            ("gemini-1.5-pro-002", (1, 5), true, false),
            ("gemini-flash-latest", (3, 0), false, false),
            ("gemma-3-27b-it", (0, 0), false, false),
        ] {
            assert_eq!(Traits::of(name), Traits { version, pro, lite }, "{name}");
        }
    }
}
