//! Users, the organizations above them, and customers: those who ask the ones who ask us.

use super::access::{Entry, Managed};
use super::records::{Listed, Page, dated};
use super::sql::{Cell, Where, anywhere, record};
use super::{Declared, Kind, Member, Result, Store};
use serde_json::Value as Json;
use std::collections::BTreeMap;

record! {
    /// A person or an application (LiteLLM's table UserTable).
    pub struct User in "users", key 1 {
        pub id: String,
        pub alias: Option<String>,
        pub email: Option<String>,
        /// `proxy_admin`, `proxy_admin_viewer`, `internal_user`, `internal_user_viewer`, ..
        pub role: Option<String>,
        pub sso_user_id: Option<String>,
        pub password_hash: Option<String>,
        pub organization_id: Option<String>,
        pub budget_id: Option<String>,
        pub models: Vec<String>,
        pub aliases: Json,
        pub config: Json,
        pub permissions: Json,
        pub metadata: Json,
        pub tags: Vec<String>,
        pub guardrails: Vec<String>,
        pub allowed_cache_controls: Vec<String>,
        pub max_budget_nanos: Option<i64>,
        pub soft_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub budget_limits: Json,
        pub model_max_budget: Json,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub max_parallel_requests: Option<i64>,
        pub model_tpm_limit: Json,
        pub model_rpm_limit: Json,
        pub object_permission: Json,
        pub blocked: bool,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

record! {
    /// A group of teams and users.
    pub struct Organization in "organizations", key 1 {
        pub id: String,
        pub alias: Option<String>,
        pub budget_id: Option<String>,
        pub models: Vec<String>,
        pub metadata: Json,
        pub object_permission: Json,
        pub max_budget_nanos: Option<i64>,
        pub soft_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub max_parallel_requests: Option<i64>,
        pub model_max_budget: Json,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

record! {
    /// An end user with a name and limits. A call may be for one that is none of these.
    pub struct Customer in "customers", key 1 {
        pub id: String,
        pub alias: Option<String>,
        pub budget_id: Option<String>,
        pub default_model: Option<String>,
        pub allowed_model_region: Option<String>,
        pub max_budget_nanos: Option<i64>,
        pub soft_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub model_max_budget: Json,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub max_parallel_requests: Option<i64>,
        pub metadata: Json,
        pub object_permission: Json,
        pub blocked: bool,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

dated!(User by id, Organization by id, Customer by id);

impl Entry for User {
    const WORD: &'static str = "user";

    fn declared(declared: &Declared) -> Option<&BTreeMap<String, Self>> {
        Some(declared.users())
    }
}

impl Managed for User {
    const SUMS: Option<Kind> = Some(Kind::User);
    const KEYS_BY: Option<&'static str> = Some("user_id");
    const WITH_IT: &'static [&'static str] = &["DELETE FROM team_members WHERE user_id = $1"];

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}

impl Entry for Organization {
    const WORD: &'static str = "organization";
}

impl Managed for Organization {
    const SUMS: Option<Kind> = Some(Kind::Organization);

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}

impl Entry for Customer {
    const WORD: &'static str = "customer";
}

impl Managed for Customer {
    const SUMS: Option<Kind> = Some(Kind::Customer);

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}

/// Which users are wanted; what is none does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    pub role: Option<String>,
    pub ids: Option<Vec<String>>,
    /// The whole address, in any case.
    pub email: Option<String>,
    /// A part of it, in any case.
    pub email_part: Option<String>,
    pub sso_user_id: Option<String>,
    pub organization_id: Option<String>,
    /// Members of this team.
    pub team_id: Option<String>,
}

impl UserFilter {
    fn conditions(&self, declared: &Declared) -> Where {
        let mut filter = Where::default();
        filter.and_some("role = ?", self.role.as_ref());
        if let Some(ids) = &self.ids {
            filter.and_in("id", ids);
        }
        if let Some(email) = &self.email {
            filter.and("lower(email) = ?", [email.to_lowercase().to_value()]);
        }
        if let Some(part) = &self.email_part {
            filter.and("lower(email) LIKE ? ESCAPE '!'", [anywhere(part)]);
        }
        filter.and_some("sso_user_id = ?", self.sso_user_id.as_ref());
        filter.and_some("organization_id = ?", self.organization_id.as_ref());
        match &self.team_id {
            Some(team) if declared.teams().contains_key(team) => {
                let members = declared.members_of(std::slice::from_ref(team));
                filter.and_in("id", &members.map(|member| member.user_id.clone()).collect::<Vec<_>>());
            }
            team => {
                filter.and_some("id IN (SELECT user_id FROM team_members WHERE team_id = ?)", team.as_ref());
            }
        }
        filter
    }

    /// The same for a user whom the configuration declares; `places` are his.
    fn admits(&self, user: &User, places: &[Member]) -> bool {
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        let email = user.email.as_deref().unwrap_or_default().to_lowercase();
        same(&self.role, &user.role)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&user.id))
            && self.email.as_ref().is_none_or(|wanted| wanted.to_lowercase() == email)
            && self.email_part.as_ref().is_none_or(|part| email.contains(&part.to_lowercase()))
            && same(&self.sso_user_id, &user.sso_user_id)
            && same(&self.organization_id, &user.organization_id)
            && self
                .team_id
                .as_ref()
                .is_none_or(|team| places.iter().any(|place| place.user_id == user.id && place.team_id == *team))
    }
}

impl Store {
    /// A part of the users, newest first.
    ///
    /// # Errors
    /// The database does not answer, or the page is none.
    pub async fn list_users(&self, filter: &UserFilter, page: &Page) -> Result<Listed<User>> {
        let places = self.places(filter).await?;
        let conditions = filter.conditions(&self.declared());
        self.list_where(conditions, |user| filter.admits(user, &places), page).await
    }

    /// The ids of customers that are blocked.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn blocked_customers(&self) -> Result<Vec<String>> {
        let sql = "SELECT id FROM customers WHERE blocked = 1 ORDER BY id LIMIT 100000";
        self.db.read(sql, Vec::new()).await?.rows.into_iter().map(super::sql::Row::one).collect()
    }

    /// Customers whose calls have to stay in a region, and the region.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn customers_of_regions(&self) -> Result<Vec<(String, String)>> {
        let sql = "SELECT id, allowed_model_region FROM customers WHERE allowed_model_region IS NOT NULL \
                   ORDER BY id LIMIT 100000";
        let read = |row: super::sql::Row| {
            let mut cells = row.cells();
            Ok((cells.take()?, cells.take()?))
        };
        self.db.read(sql, Vec::new()).await?.rows.into_iter().map(read).collect()
    }

    /// How many users there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_users(&self, filter: &UserFilter) -> Result<i64> {
        let places = self.places(filter).await?;
        let conditions = filter.conditions(&self.declared());
        self.count_where(conditions, |user| filter.admits(user, &places)).await
    }

    /// Who is in the team that is asked for: declared users may be members of teams of the database.
    async fn places(&self, filter: &UserFilter) -> Result<Vec<Member>> {
        match &filter.team_id {
            Some(team) => self.members_of(std::slice::from_ref(team)).await,
            None => Ok(Vec::new()),
        }
    }
}
