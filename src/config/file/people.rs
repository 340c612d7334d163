//! Keys, users, teams and budgets as `gateway.toml` declares them. Fields have the names of LiteLLM's management API:
//! what a request to `/key/generate` may say, `[keys.NAME]` may.

use super::{Json, is_false};
use crate::secret::Written;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

type Tree = BTreeMap<String, Json>;

/// Declares a part of the file: optional fields, each left out where nothing was written.
macro_rules! written {
    ($(#[$about:meta])* pub struct $Name:ident {
        $(flags { $($(#[$flag_told:meta])* $flag:ident,)* })?
        $(maybe { $($(#[$maybe_told:meta])* $maybe:ident: $maybe_type:ty,)* })?
        $(lists { $($(#[$list_told:meta])* $list:ident: $list_type:ty,)* })?
        $(trees { $($(#[$tree_told:meta])* $tree:ident,)* })?
    }) => {
        $(#[$about])*
        #[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Name {
            $($($(#[$flag_told])* #[serde(skip_serializing_if = "is_false")] pub $flag: bool,)*)?
            $($($(#[$maybe_told])* #[serde(skip_serializing_if = "Option::is_none")] pub $maybe: Option<$maybe_type>,)*)?
            $($($(#[$list_told])* #[serde(skip_serializing_if = "Vec::is_empty")] pub $list: Vec<$list_type>,)*)?
            $($($(#[$tree_told])* #[serde(skip_serializing_if = "BTreeMap::is_empty")] pub $tree: Tree,)*)?
        }
    };
}

written! {
    /// `[keys.NAME]`: what a person or an app shows.
    pub struct Key {
        flags {
            blocked,
        }
        maybe {
            /// Its text, or better `env:NAME`.
            key: Written,
            /// In place of the text: SHA-256 of it, in hex.
            hash: String,
            /// Default: the name of the table.
            key_alias: String,
            user_id: String,
            team_id: String,
            organization_id: String,
            project_id: String,
            agent_id: String,
            budget_id: String,
            /// `llm_api`, `management`, `read_only` or `default`.
            key_type: String,
            /// A moment, such as `"2026-12-31T00:00:00Z"`.
            expires: String,
            max_budget: f64,
            soft_budget: f64,
            budget_duration: String,
            budget_mode: String,
            temp_budget_increase: f64,
            temp_budget_expiry: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
            tpm_limit_type: String,
            rpm_limit_type: String,
        }
        lists {
            models: String,
            tags: String,
            guardrails: String,
            allowed_routes: String,
            allowed_cache_controls: String,
            access_group_ids: String,
            budget_limits: Json,
        }
        trees {
            aliases,
            config,
            permissions,
            metadata,
            model_max_budget,
            model_tpm_limit,
            model_rpm_limit,
            object_permission,
            router_settings,
        }
    }
}

written! {
    /// `[users.NAME]`: a person or an application that has keys.
    pub struct User {
        flags {
            blocked,
        }
        maybe {
            user_alias: String,
            user_email: String,
            user_role: String,
            sso_user_id: String,
            organization_id: String,
            budget_id: String,
            max_budget: f64,
            soft_budget: f64,
            budget_duration: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
        }
        lists {
            models: String,
            tags: String,
            guardrails: String,
            allowed_cache_controls: String,
            budget_limits: Json,
        }
        trees {
            aliases,
            config,
            permissions,
            metadata,
            model_max_budget,
            model_tpm_limit,
            model_rpm_limit,
            object_permission,
        }
    }
}

written! {
    /// `[teams.NAME]`: what several keys and users share.
    pub struct Team {
        flags {
            blocked,
        }
        maybe {
            /// Default: the name of the table.
            team_alias: String,
            organization_id: String,
            budget_id: String,
            max_budget: f64,
            soft_budget: f64,
            budget_duration: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
            tpm_limit_type: String,
            rpm_limit_type: String,
            team_member_budget: f64,
            team_member_budget_duration: String,
            team_member_budget_id: String,
            team_member_tpm_limit: i64,
            team_member_rpm_limit: i64,
            team_member_key_duration: String,
        }
        lists {
            models: String,
            tags: String,
            guardrails: String,
            team_member_permissions: String,
            access_group_ids: String,
            budget_limits: Json,
            members_with_roles: Member,
        }
        trees {
            model_aliases,
            metadata,
            model_max_budget,
            model_tpm_limit,
            model_rpm_limit,
            object_permission,
            router_settings,
        }
    }
}

written! {
    /// A user in a team.
    pub struct Member {
        maybe {
            user_id: String,
            /// `admin`, or `user`, which is the default.
            role: String,
            max_budget_in_team: f64,
            budget_duration: String,
            budget_id: String,
            tpm_limit: i64,
            rpm_limit: i64,
        }
        lists {
            models: String,
        }
    }
}

written! {
    /// `[budgets.NAME]`: limits that keys, users, teams and members share by its name.
    pub struct Budget {
        maybe {
            max_budget: f64,
            soft_budget: f64,
            budget_duration: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
        }
        lists {
            allowed_models: String,
        }
        trees {
            model_max_budget,
        }
    }
}

/// `[new_keys]`: what keys that are made by the management API get, and what they may have.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewKeys {
    /// Used where a request says nothing.
    #[serde(skip_serializing_if = "super::is_default")]
    pub defaults: KeyDefaults,
    /// The most that a request may ask for, and what it gets where it says nothing.
    #[serde(skip_serializing_if = "super::is_default")]
    pub bounds: KeyBounds,
    /// Keys of teams.
    #[serde(skip_serializing_if = "super::is_default")]
    pub team: TeamKeys,
    /// Keys of no team.
    #[serde(skip_serializing_if = "super::is_default")]
    pub personal: PersonalKeys,
}

written! {
    /// LiteLLM's `default_key_generate_params`.
    pub struct KeyDefaults {
        maybe {
            user_id: String,
            team_id: String,
            duration: String,
            max_budget: f64,
            budget_duration: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
        }
        lists {
            models: String,
        }
        trees {
            metadata,
        }
    }
}

written! {
    /// LiteLLM's `upperbound_key_generate_params`.
    pub struct KeyBounds {
        maybe {
            duration: String,
            max_budget: f64,
            budget_duration: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
        }
    }
}

written! {
    /// LiteLLM's `team_key_generation`.
    pub struct TeamKeys {
        maybe {
            /// Roles in the team, `admin` and `user`, that may make keys of it.
            allowed_team_member_roles: Vec<String>,
        }
        lists {
            required_params: String,
        }
    }
}

written! {
    /// LiteLLM's `personal_key_generation`.
    pub struct PersonalKeys {
        maybe {
            /// Roles of users that may make keys of their own.
            allowed_user_roles: Vec<String>,
        }
        lists {
            required_params: String,
        }
    }
}

written! {
    /// `[new_users]`: what a new user gets where the request says nothing, unless it names another role than
    /// `internal_user`. LiteLLM's `default_internal_user_params`.
    pub struct NewUsers {
        maybe {
            user_role: String,
            max_budget: f64,
            budget_duration: String,
            tpm_limit: i64,
            rpm_limit: i64,
            max_parallel_requests: i64,
        }
        lists {
            models: String,
            teams: String,
        }
    }
}
