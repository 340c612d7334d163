//! Names with one `*` in them, which stands for any text.

/// What the `*` of `pattern` stands for in `text`; for a pattern without one, the empty text when both are equal.
pub fn capture<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
    match pattern.split_once('*') {
        None => (pattern == text).then_some(""),
        Some((head, tail)) => text.strip_prefix(head)?.strip_suffix(tail),
    }
}

/// Puts `text` in the place of the `*`.
pub fn fill(pattern: &str, text: &str) -> String {
    pattern.replacen('*', text, 1)
}

/// The candidate that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stands_for_any_text() {
        assert_eq!(capture("openai/*", "openai/gpt"), Some("gpt"));
        assert_eq!(capture("*", "a/b"), Some("a/b"));
        assert_eq!(capture("a*z", "az"), Some(""));
        assert_eq!(capture("a*az", "az"), None);
        assert_eq!(capture("gpt", "gpt"), Some(""));
        assert_eq!(fill("up-*", "x"), "up-x");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("fsat", ["slow", "fast"]), Some("fast"));
        assert_eq!(nearest("zebra", ["slow", "fast"]), None);
    }
}
