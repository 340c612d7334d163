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

impl Holder {
    /// Adds the tags that all its calls have: the key's and its team's, also those that LiteLLM's users write into
    /// `metadata`.
    pub fn add_tags(&self, tags: &mut Vec<String>) {
        let team = self.team.as_ref();
        let written = [Some(&self.key.metadata), team.map(|team| &team.metadata)];
        let written = written.into_iter().flatten().filter_map(|metadata| metadata.get("tags")?.as_array());
        let written = written.flatten().filter_map(serde_json::Value::as_str);
        let own = self.key.tags.iter().chain(team.into_iter().flat_map(|team| &team.tags));
        for tag in own.map(String::as_str).chain(written) {
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
    }

    /// The key's organization, else the team's, else the user's.
    pub(super) fn organization_id(&self) -> Option<&str> {
        let of_team = self.team.as_ref().and_then(|team| team.organization_id.as_deref());
        let of_user = self.user.as_ref().and_then(|user| user.organization_id.as_deref());
        self.key.organization_id.as_deref().or(of_team).or(of_user)
    }

    /// All budgets that one of these names, each once.
    pub(super) fn budget_ids(&self) -> impl Iterator<Item = &String> {
        let named = [
            self.key.budget_id.as_ref(),
            self.user.as_ref().and_then(|user| user.budget_id.as_ref()),
            self.team.as_ref().and_then(|team| team.budget_id.as_ref()),
            self.team.as_ref().and_then(|team| team.member_budget_id.as_ref()),
            self.member.as_ref().and_then(|member| member.budget_id.as_ref()),
            self.organization.as_ref().and_then(|organization| organization.budget_id.as_ref()),
        ];
        named.into_iter().flatten().collect::<BTreeSet<_>>().into_iter()
    }

    /// All access groups that the key or the team names.
    pub(super) fn access_group_ids(&self) -> impl Iterator<Item = &String> {
        self.key.access_group_ids.iter().chain(self.team.iter().flat_map(|team| &team.access_group_ids))
    }
}

impl Store {
    /// Who shows the key with this hash; also within its period of grace.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn holder(&self, hash: &str, at: i64) -> Result<Option<Holder>> {
        match self.key_by_hash(hash, at).await? {
            Some(key) => self.with_key(key).await.map(Some),
            None => Ok(None),
        }
    }

    /// Who has the key of that id, whatever becomes of those who show it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn holder_of(&self, id: &str) -> Result<Option<Holder>> {
        match self.get::<Key>(id).await? {
            Some(key) => self.with_key(key).await.map(Some),
            None => Ok(None),
        }
    }

    async fn with_key(&self, key: Key) -> Result<Holder> {
        let user: Option<User> = self.get_some(key.user_id.as_deref()).await?;
        let team: Option<Team> = self.get_some(key.team_id.as_deref()).await?;
        let member = match (&team, &key.user_id) {
            (Some(team), Some(user_id)) => self.member(&team.id, user_id).await?,
            _ => None,
        };
        let mut holder = Holder { user, team, member, ..Holder::of(key) };
        holder.organization = self.get_some(holder.organization_id()).await?;
        holder.budgets = self.get_all(holder.budget_ids()).await?;
        holder.access_groups = self.get_all(holder.access_group_ids()).await?;
        Ok(holder)
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
