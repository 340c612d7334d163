//! `[[pass_through]]`: paths that lead to other APIs.

use crate::secret::Written;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A path whose requests go on to another address.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PassThrough {
    /// Where callers ask, such as `/weather`.
    pub path: String,
    /// Where it leads, `http://` or `https://`.
    pub target: String,
    /// Sent with every request; a value may end in a reference, as in `Bearer env:NAME`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Written>,
    /// What lies below the path leads below the target.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_subpath: bool,
    /// Whether a key is asked for. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<bool>,
    /// What a request costs, in dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_request: Option<f64>,
}
