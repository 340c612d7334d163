//! What the configuration declares: keys, people and budgets that win over those of the database and are changed in
//! the configuration alone. The database holds what they have spent, and nothing else of them.

use super::access::Entry;
use super::{Budget, Fault, Holder, Key, Member, Result, Store, Team, User};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Records by their names.
#[derive(Debug, Default)]
pub struct Declared {
    keys: BTreeMap<String, Key>,
    users: BTreeMap<String, User>,
    teams: BTreeMap<String, Team>,
    members: Vec<Member>,
    budgets: BTreeMap<String, Budget>,
    ids_by_hash: HashMap<String, String>,
}

impl Declared {
    pub fn new(
        keys: Vec<Key>,
        users: Vec<User>,
        teams: Vec<Team>,
        members: Vec<Member>,
        budgets: Vec<Budget>,
    ) -> Declared {
        Declared {
            ids_by_hash: keys.iter().map(|key| (key.hash.clone(), key.id.clone())).collect(),
            keys: keys.into_iter().map(|key| (key.id.clone(), key)).collect(),
            users: users.into_iter().map(|user| (user.id.clone(), user)).collect(),
            teams: teams.into_iter().map(|team| (team.id.clone(), team)).collect(),
            members,
            budgets: budgets.into_iter().map(|budget| (budget.id.clone(), budget)).collect(),
        }
    }

    pub(super) fn keys(&self) -> &BTreeMap<String, Key> {
        &self.keys
    }

    pub(super) fn users(&self) -> &BTreeMap<String, User> {
        &self.users
    }

    pub(super) fn teams(&self) -> &BTreeMap<String, Team> {
        &self.teams
    }

    pub(super) fn budgets(&self) -> &BTreeMap<String, Budget> {
        &self.budgets
    }

    pub fn key_by_hash(&self, hash: &str) -> Option<&Key> {
        self.keys.get(self.ids_by_hash.get(hash)?)
    }

    pub(super) fn key_by_alias(&self, alias: &str) -> Option<&Key> {
        self.keys.values().find(|key| key.alias.as_deref() == Some(alias))
    }

    pub(super) fn hashes(&self) -> Vec<String> {
        self.keys.values().map(|key| key.hash.clone()).collect()
    }

    /// Members of these teams.
    pub(super) fn members_of(&self, team_ids: &[String]) -> impl Iterator<Item = &Member> {
        let wanted: BTreeSet<&String> = team_ids.iter().collect();
        self.members.iter().filter(move |member| wanted.contains(&member.team_id))
    }

    /// The places of these users.
    pub(super) fn memberships_of(&self, user_ids: &[String]) -> impl Iterator<Item = &Member> {
        let wanted: BTreeSet<&String> = user_ids.iter().collect();
        self.members.iter().filter(move |member| wanted.contains(&member.user_id))
    }

    pub(super) fn member(&self, team_id: &str, user_id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.team_id == team_id && member.user_id == user_id)
    }

    /// Who shows the key with this hash, where the database need not be asked for any of it.
    pub fn holder(&self, hash: &str) -> Option<Holder> {
        let key = self.key_by_hash(hash)?.clone();
        let user = match &key.user_id {
            Some(id) => Some(self.users.get(id)?.clone()),
            None => None,
        };
        let team = match &key.team_id {
            Some(id) => Some(self.teams.get(id)?.clone()),
            None => None,
        };
        let member = match (&key.team_id, &key.user_id) {
            (Some(team), Some(user)) => self.member(team, user).cloned(),
            _ => None,
        };
        let mut holder = Holder { user, team, member, ..Holder::of(key) };
        if holder.organization_id().is_some() || holder.access_group_ids().next().is_some() {
            return None;
        }
        let named = holder.budget_ids().map(|id| self.budgets.get(id).cloned());
        holder.budgets = named.collect::<Option<_>>()?;
        Some(holder)
    }
}

/// Why something is not changed here.
fn locked<R: Entry>(name: &str) -> Fault {
    Fault::Locked(format!(
        "The {} '{name}' is declared in the configuration of this gateway; change it there, and reload.",
        R::WORD
    ))
}

fn locked_key(key: &Key) -> Fault {
    locked::<Key>(key.alias.as_deref().unwrap_or(&key.id))
}

impl Store {
    /// From now on this is what the configuration declares.
    pub fn declare(&self, declared: Arc<Declared>) {
        self.declared.store(declared);
    }

    /// What the configuration declares.
    pub fn declared(&self) -> Arc<Declared> {
        self.declared.load_full()
    }

    /// Whether the configuration declares the record, so that nothing but what it has spent is changed here.
    pub fn is_locked<R: Entry>(&self, id: &str) -> bool {
        R::declared(&self.declared.load()).is_some_and(|records| records.contains_key(id))
    }

    /// # Errors
    /// The configuration declares the record.
    pub fn unlocked<R: Entry>(&self, id: &str) -> Result<()> {
        if self.is_locked::<R>(id) { Err(locked::<R>(id)) } else { Ok(()) }
    }

    /// # Errors
    /// The configuration declares the key with this hash, or the one that has this alias.
    pub(super) fn unlocked_key(&self, hash: Option<&str>, alias: Option<&str>) -> Result<()> {
        let declared = self.declared.load();
        let by_hash = hash.and_then(|hash| declared.key_by_hash(hash));
        match by_hash.or_else(|| alias.and_then(|alias| declared.key_by_alias(alias))) {
            Some(key) => Err(locked_key(key)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The alias belongs to a key that the configuration declares.
    pub(super) fn free_alias(&self, alias: Option<&str>) -> Result<()> {
        match alias.filter(|alias| self.declared.load().key_by_alias(alias).is_some()) {
            Some(alias) => Err(Fault::Taken(format!(
                "The alias '{alias}' belongs to a key that the configuration declares; choose another one."
            ))),
            None => Ok(()),
        }
    }

    /// The record, where the configuration declares it.
    pub(super) fn declared_record<R: Entry>(&self, id: &str) -> Option<R> {
        R::declared(&self.declared.load())?.get(id).cloned()
    }
}
