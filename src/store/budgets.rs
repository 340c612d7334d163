//! Budgets that several share, and tags of calls.

use super::access::{Entry, Managed};
use super::records::dated;
use super::sql::record;
use super::{Declared, Kind};
use serde_json::Value as Json;
use std::collections::BTreeMap;

record! {
    /// Limits with a name (LiteLLM's table BudgetTable).
    pub struct Budget in "budgets", key 1 {
        pub id: String,
        pub max_budget_nanos: Option<i64>,
        pub soft_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub model_max_budget: Json,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub max_parallel_requests: Option<i64>,
        pub allowed_models: Vec<String>,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

dated!(Budget by id);

impl Entry for Budget {
    const WORD: &'static str = "budget";

    fn declared(declared: &Declared) -> Option<&BTreeMap<String, Self>> {
        Some(declared.budgets())
    }
}

impl Managed for Budget {
    const SUMS: Option<Kind> = None;
    // A budget that is gone limits nobody: what named it would otherwise be refused for a limit that cannot be read.
    const WITH_IT: &'static [&'static str] = &[
        "UPDATE keys SET budget_id = NULL WHERE budget_id = $1",
        "UPDATE users SET budget_id = NULL WHERE budget_id = $1",
        "UPDATE organizations SET budget_id = NULL WHERE budget_id = $1",
        "UPDATE teams SET budget_id = NULL WHERE budget_id = $1",
        "UPDATE teams SET member_budget_id = NULL WHERE member_budget_id = $1",
        "UPDATE team_members SET budget_id = NULL WHERE budget_id = $1",
        "UPDATE customers SET budget_id = NULL WHERE budget_id = $1",
        "UPDATE tags SET budget_id = NULL WHERE budget_id = $1",
    ];

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}

record! {
    /// A tag with limits. Calls may have tags that are none of these.
    pub struct Tag in "tags", key 1 {
        pub name: String,
        pub description: Option<String>,
        pub models: Vec<String>,
        pub model_info: Json,
        pub budget_id: Option<String>,
        pub max_budget_nanos: Option<i64>,
        pub soft_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub model_max_budget: Json,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

dated!(Tag by name);

impl Entry for Tag {
    const WORD: &'static str = "tag";
}

impl Managed for Tag {
    const SUMS: Option<Kind> = Some(Kind::Tag);

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}
