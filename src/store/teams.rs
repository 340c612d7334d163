//! Teams and their members.

use super::access::{Entry, Managed, missing};
use super::records::{self, Listed, Page, dated};
use super::sql::{Cell, Value, Where, anywhere, record};
use super::{Declared, Fault, Kind, Result, Store, changes, totals};
use serde_json::Value as Json;
use std::collections::BTreeMap;

record! {
    /// A team (LiteLLM's table TeamTable).
    pub struct Team in "teams", key 1 {
        pub id: String,
        pub alias: Option<String>,
        pub organization_id: Option<String>,
        pub budget_id: Option<String>,
        pub models: Vec<String>,
        pub model_aliases: Json,
        pub metadata: Json,
        pub tags: Vec<String>,
        pub guardrails: Vec<String>,
        pub member_permissions: Vec<String>,
        pub access_group_ids: Vec<String>,
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
        pub tpm_limit_type: Option<String>,
        pub rpm_limit_type: Option<String>,
        /// Each member's, where the member has none: LiteLLM's `team_member_budget`, and so on.
        pub member_max_budget_nanos: Option<i64>,
        pub member_budget_duration: Option<String>,
        pub member_budget_id: Option<String>,
        pub member_tpm_limit: Option<i64>,
        pub member_rpm_limit: Option<i64>,
        pub member_key_duration: Option<String>,
        pub object_permission: Json,
        pub router_settings: Json,
        pub blocked: bool,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

record! {
    /// A user in a team.
    pub struct Member in "team_members", key 2 {
        pub team_id: String,
        pub user_id: String,
        /// `admin` or `user`.
        pub role: String,
        pub budget_id: Option<String>,
        /// LiteLLM's `max_budget_in_team`.
        pub max_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub models: Vec<String>,
        pub extra: Json,
        pub created_at: i64,
    }
}

dated!(Team by id);

impl Entry for Team {
    const WORD: &'static str = "team";

    fn declared(declared: &Declared) -> Option<&BTreeMap<String, Self>> {
        Some(declared.teams())
    }
}

impl Managed for Team {
    const SUMS: Option<Kind> = Some(Kind::Team);
    const KEYS_BY: Option<&'static str> = Some("team_id");
    const WITH_IT: &'static [&'static str] = &["DELETE FROM team_members WHERE team_id = $1"];

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}

/// Which teams are wanted; what is none does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TeamFilter {
    pub ids: Option<Vec<String>>,
    /// The whole alias.
    pub alias: Option<String>,
    /// A part of it, in any case.
    pub alias_part: Option<String>,
    pub organization_id: Option<String>,
    /// Teams that this user is a member of.
    pub user_id: Option<String>,
}

impl TeamFilter {
    fn conditions(&self) -> Where {
        let mut filter = Where::default();
        if let Some(ids) = &self.ids {
            filter.and_in("id", ids);
        }
        filter.and_some("alias = ?", self.alias.as_ref());
        if let Some(part) = &self.alias_part {
            filter.and("lower(alias) LIKE ? ESCAPE '!'", [anywhere(part)]);
        }
        filter.and_some("organization_id = ?", self.organization_id.as_ref());
        filter.and_some("id IN (SELECT team_id FROM team_members WHERE user_id = ?)", self.user_id.as_ref());
        filter
    }

    /// The same for a team that the configuration declares.
    fn admits(&self, team: &Team, declared: &Declared) -> bool {
        let alias = team.alias.as_deref().unwrap_or_default().to_lowercase();
        self.ids.as_ref().is_none_or(|ids| ids.contains(&team.id))
            && (self.alias.is_none() || self.alias == team.alias)
            && self.alias_part.as_ref().is_none_or(|part| alias.contains(&part.to_lowercase()))
            && (self.organization_id.is_none() || self.organization_id == team.organization_id)
            && self.user_id.as_ref().is_none_or(|user| declared.member(&team.id, user).is_some())
    }
}

impl Store {
    /// A part of the teams, newest first.
    ///
    /// # Errors
    /// The database does not answer, or the page is none.
    pub async fn list_teams(&self, filter: &TeamFilter, page: &Page) -> Result<Listed<Team>> {
        let declared = self.declared();
        self.list_where(filter.conditions(), |team| filter.admits(team, &declared), page).await
    }

    /// How many teams there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_teams(&self, filter: &TeamFilter) -> Result<i64> {
        let declared = self.declared();
        self.count_where(filter.conditions(), |team| filter.admits(team, &declared)).await
    }

    /// Adds members to a team; all of them or none.
    ///
    /// # Errors
    /// There is no such team, or one of them is a member already.
    pub async fn add_members(&self, team_id: &str, members: &[Member], at: i64) -> Result<()> {
        self.unlocked::<Team>(team_id)?;
        let mut tx = self.db.begin().await?;
        let team: Option<Team> = records::hold(&mut tx, records::id(team_id)).await?;
        team.ok_or_else(|| missing::<Team>(team_id))?;
        for member in members {
            if member.team_id != team_id {
                return Err(Fault::Invalid(format!("The member '{}' is of another team.", member.user_id)));
            }
            records::insert(&mut tx, member).await.map_err(|fault| match fault {
                Fault::Taken(_) => {
                    Fault::Taken(format!("The user '{}' is a member of the team '{team_id}' already.", member.user_id))
                }
                other => other,
            })?;
        }
        changes::note(&mut tx, Team::WORD, &[team_id.to_owned()], at).await?;
        tx.commit().await
    }

    /// The user's place in the team.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn member(&self, team_id: &str, user_id: &str) -> Result<Option<Member>> {
        if self.is_locked::<Team>(team_id) {
            return Ok(self.declared().member(team_id, user_id).cloned());
        }
        records::find(&self.db, place(team_id, user_id)).await
    }

    /// The members of these teams, in the order in which they came.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn members_of(&self, team_ids: &[String]) -> Result<Vec<Member>> {
        let mut members: Vec<Member> = self.declared().members_of(team_ids).cloned().collect();
        let others: Vec<String> = team_ids.iter().filter(|id| !self.is_locked::<Team>(id)).cloned().collect();
        if !others.is_empty() {
            let mut filter = Where::default();
            filter.and_in("team_id", &others);
            members.extend(records::all::<Member>(&self.db, filter, "team_id, created_at, user_id").await?);
        }
        Ok(members)
    }

    /// The places that these users have in teams.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn memberships_of(&self, user_ids: &[String]) -> Result<Vec<Member>> {
        let declared = self.declared();
        let mut places: Vec<Member> = declared.memberships_of(user_ids).cloned().collect();
        let mut filter = Where::default();
        filter.and_in("user_id", user_ids);
        filter.and_not_in("team_id", &declared.teams().keys().cloned().collect::<Vec<_>>());
        places.extend(records::all::<Member>(&self.db, filter, "user_id, created_at, team_id").await?);
        Ok(places)
    }

    /// Changes a member, as [`Store::update`] does; team and user stay.
    ///
    /// # Errors
    /// The user is no member of the team, or the change refuses it.
    pub async fn update_member(
        &self,
        team_id: &str,
        user_id: &str,
        at: i64,
        change: impl FnOnce(&mut Member) -> Result<()> + Send,
    ) -> Result<Member> {
        self.unlocked::<Team>(team_id)?;
        let mut tx = self.db.begin().await?;
        let mut member: Member = records::hold(&mut tx, place(team_id, user_id))
            .await?
            .ok_or_else(|| Fault::Missing(format!("The user '{user_id}' is no member of the team '{team_id}'.")))?;
        change(&mut member)?;
        (member.team_id, member.user_id) = (team_id.to_owned(), user_id.to_owned());
        records::replace(&mut tx, place(team_id, user_id), &member).await?;
        changes::note(&mut tx, Team::WORD, &[team_id.to_owned()], at).await?;
        tx.commit().await?;
        Ok(member)
    }

    /// Takes a member out of a team; whether there was one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_member(&self, team_id: &str, user_id: &str, at: i64) -> Result<bool> {
        self.unlocked::<Team>(team_id)?;
        let mut tx = self.db.begin().await?;
        let was = records::delete::<Member>(&mut tx, place(team_id, user_id)).await?;
        if was {
            totals::forgive_sub(&mut tx, Kind::Member, team_id, user_id).await?;
            changes::note(&mut tx, Team::WORD, &[team_id.to_owned()], at).await?;
        }
        tx.commit().await?;
        Ok(was)
    }
}

fn place(team_id: &str, user_id: &str) -> Vec<Value> {
    vec![team_id.to_owned().to_value(), user_id.to_owned().to_value()]
}
