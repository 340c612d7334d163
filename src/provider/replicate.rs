//! Replicate's predictions: a model is run with an input of its own, and the prediction is watched until it has ended.
//!
//! Pure: [`request`] makes the body, a [`Reader`] reads what comes back, [`error`] the refusals; who watches is
//! [`crate::upstream`]. Source: Replicate's HTTP API reference (<https://replicate.com/docs/reference/http>), and the
//! inputs that its language models have in common.

mod answer;
mod pictures;
mod request;

pub use answer::{Prediction, Reader, error, events};
pub use pictures::{painted, picture_request};
pub use request::request;

use super::hub::NameRule;
use super::path::segment;

const NAMES: NameRule = NameRule { longest: 64, letter_first: false };

/// Where a model is run, and its version where that is a part of its name: `owner/name`, `owner/name:version`, a version
/// alone, or `deployments/owner/name`.
pub fn route(model: &str) -> (String, Option<&str>) {
    let version = model.rsplit_once(':').map_or(model, |(_, version)| version);
    if version.len() == 64 && version.bytes().all(|b| b.is_ascii_hexdigit()) {
        return ("predictions".to_owned(), Some(version));
    }
    let (kind, name) = model.split_once("deployments/").map_or(("models", model), |(_, name)| ("deployments", name));
    let name: Vec<String> = name.split('/').map(segment).collect();
    (format!("{kind}/{}/predictions", name.join("/")), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_versions_and_deployments_are_run_in_their_places() {
        let version = "02e509c789964a7ea8736978a43525956ef40397be9033abf9fd2badfe68c9e3";
        assert_eq!(route("meta/llama-3"), ("models/meta/llama-3/predictions".to_owned(), None));
        assert_eq!(route("deployments/me/mine"), ("deployments/me/mine/predictions".to_owned(), None));
        assert_eq!(route(&format!("a/b:{version}")), ("predictions".to_owned(), Some(version)));
        assert_eq!(route(version), ("predictions".to_owned(), Some(version)));
        assert_eq!(route("a/../b?c").0, "models/a/../b%3Fc/predictions");
    }
}
