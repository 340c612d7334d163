//! Ids of calls that Anthropic does not take, made acceptable: `^[a-zA-Z0-9_-]+$`.

use crate::provider::hub::{hash, may_stand, plain};
use std::borrow::Cow;

/// An id for a call that the upstream accepts: the same for the call and its result, in every request.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    if !id.is_empty() && id.bytes().all(may_stand) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("{}_{:016x}", plain(id), hash(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_changed_only_if_they_must_be() {
        assert_eq!(call_id("toolu_1-a"), "toolu_1-a");
        assert_ne!(call_id("a.b"), call_id("a:b"));
        let made = call_id("");
        assert!(!made.is_empty() && made.bytes().all(may_stand));
    }
}
