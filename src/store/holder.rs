//! A key with everything that decides what it may do: what is looked up once and then remembered.

use super::{AccessGroup, Budget, Key, Member, Organization, Result, Store, Team, User};
use std::collections::BTreeSet;

/// A key, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    pub key: Key,
    pub user: Option<User>,
    pub team: Option<Team>,
    /// The user's place in the team.
    pub member: Option<Member>,
    /// The key's organization, else the team's, else the user's.
    pub organization: Option<Organization>,
    /// All budgets that one of these names.
    pub budgets: Vec<Budget>,
    /// All access groups that the key or the team names.
    pub access_groups: Vec<AccessGroup>,
}

impl Holder {
    /// A key that nothing else is known of.
    pub fn of(key: Key) -> Self {
        Holder {
            key,
            user: None,
            team: None,
            member: None,
            organization: None,
            budgets: Vec::new(),
            access_groups: Vec::new(),
        }
    }
}

impl Store {
    /// Who shows the key with this hash; also within its period of grace.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn holder(&self, hash: &str, at: i64) -> Result<Option<Holder>> {
        let Some(key) = self.key_by_hash(hash, at).await? else { return Ok(None) };
        let user: Option<User> = self.get_some(key.user_id.as_deref()).await?;
        let team: Option<Team> = self.get_some(key.team_id.as_deref()).await?;
        let member = match (&team, &user) {
            (Some(team), Some(user)) => self.member(&team.id, &user.id).await?,
            _ => None,
        };
        let organization_id = [
            key.organization_id.as_deref(),
            team.as_ref().and_then(|t| t.organization_id.as_deref()),
            user.as_ref().and_then(|u| u.organization_id.as_deref()),
        ];
        let organization: Option<Organization> = self.get_some(organization_id.into_iter().flatten().next()).await?;
        let budgets = [
            &key.budget_id,
            user.as_ref().map_or(&None, |u| &u.budget_id),
            team.as_ref().map_or(&None, |t| &t.budget_id),
            team.as_ref().map_or(&None, |t| &t.member_budget_id),
            member.as_ref().map_or(&None, |m| &m.budget_id),
            organization.as_ref().map_or(&None, |o| &o.budget_id),
        ];
        let budgets = self.get_all(budgets.into_iter().flatten()).await?;
        let groups = key.access_group_ids.iter().chain(team.iter().flat_map(|t| &t.access_group_ids));
        let access_groups = self.get_all(groups).await?;
        Ok(Some(Holder { key, user, team, member, organization, budgets, access_groups }))
    }

    async fn get_some<R: super::Entry>(&self, id: Option<&str>) -> Result<Option<R>> {
        match id {
            Some(id) => self.get(id).await,
            None => Ok(None),
        }
    }

    async fn get_all<R: super::Entry>(&self, ids: impl Iterator<Item = &String>) -> Result<Vec<R>> {
        let ids: BTreeSet<&String> = ids.collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.get_many(&ids.into_iter().cloned().collect::<Vec<_>>()).await
    }
}
