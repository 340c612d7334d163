//! Keys: what a caller shows, known by its hash alone.

use super::access::{Entry, bury, missing, sorted, taken};
use super::db::Tx;
use super::records::{self, Listed, Page, dated};
use super::sql::{Cell, Value, Where, anywhere, record, select};
use super::{Declared, Kind, Result, Store, changes, totals};
use serde_json::Value as Json;
use std::collections::BTreeMap;

record! {
    /// A virtual key; its fields are LiteLLM's (its table VerificationToken).
    pub struct Key in "keys", key 1 {
        /// The hash that it began with. What it spends is booked under this, so it stays when the key is regenerated.
        pub id: String,
        /// SHA-256 of the whole key, in hex: LiteLLM's `token`.
        pub hash: String,
        /// What may be shown of the key: LiteLLM's `key_name`.
        pub hint: Option<String>,
        pub alias: Option<String>,
        pub user_id: Option<String>,
        pub team_id: Option<String>,
        pub organization_id: Option<String>,
        pub project_id: Option<String>,
        pub agent_id: Option<String>,
        pub budget_id: Option<String>,
        /// None is all.
        pub models: Vec<String>,
        pub aliases: Json,
        pub config: Json,
        pub permissions: Json,
        pub metadata: Json,
        pub tags: Vec<String>,
        pub guardrails: Vec<String>,
        pub allowed_routes: Vec<String>,
        pub allowed_cache_controls: Vec<String>,
        pub access_group_ids: Vec<String>,
        pub key_type: Option<String>,
        pub max_budget_nanos: Option<i64>,
        pub soft_budget_nanos: Option<i64>,
        pub budget_duration: Option<String>,
        pub budget_limits: Json,
        /// `compatible` or `strict`, where it differs from the gateway's.
        pub budget_mode: Option<String>,
        pub model_max_budget: Json,
        pub temp_budget_increase_nanos: Option<i64>,
        pub temp_budget_expires_at: Option<i64>,
        pub tpm_limit: Option<i64>,
        pub rpm_limit: Option<i64>,
        pub max_parallel_requests: Option<i64>,
        pub model_tpm_limit: Json,
        pub model_rpm_limit: Json,
        pub tpm_limit_type: Option<String>,
        pub rpm_limit_type: Option<String>,
        pub object_permission: Json,
        pub router_settings: Json,
        pub blocked: bool,
        pub expires_at: Option<i64>,
        pub auto_rotate: bool,
        pub rotation_interval: Option<String>,
        pub rotation_count: i64,
        pub rotated_at: Option<i64>,
        pub rotates_at: Option<i64>,
        /// Fields of LiteLLM that have no column.
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

record! {
    /// A hash that a key had, and that is good for a while (LiteLLM's table DeprecatedVerificationToken).
    pub struct Grace in "graces", key 1 {
        pub hash: String,
        pub key_id: String,
        pub revoke_at: i64,
    }
}

dated!(Key by id);

impl Entry for Key {
    const WORD: &'static str = "key";

    fn declared(declared: &Declared) -> Option<&BTreeMap<String, Self>> {
        Some(declared.keys())
    }
}

/// Which keys are wanted; what is none does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    pub user_id: Option<String>,
    pub team_id: Option<String>,
    /// Keys of any of these teams.
    pub team_ids: Option<Vec<String>>,
    /// Keys of this user, or of any of these teams.
    pub user_or_teams: Option<(String, Vec<String>)>,
    pub organization_id: Option<String>,
    /// The whole alias.
    pub alias: Option<String>,
    /// A part of it, in any case.
    pub alias_part: Option<String>,
    pub hash: Option<String>,
    pub blocked: Option<bool>,
    pub budget_id: Option<String>,
    /// Keys that are valid longer than this time.
    pub valid_at: Option<i64>,
    /// Keys that are to be rotated by this time.
    pub rotates_by: Option<i64>,
}

impl KeyFilter {
    fn conditions(&self) -> Where {
        let mut filter = Where::default();
        filter.and_some("user_id = ?", self.user_id.as_ref());
        filter.and_some("team_id = ?", self.team_id.as_ref());
        if let Some(teams) = &self.team_ids {
            filter.and_in("team_id", teams);
        }
        if let Some((user, teams)) = &self.user_or_teams {
            filter.and_either(("user_id", user), ("team_id", teams));
        }
        filter.and_some("organization_id = ?", self.organization_id.as_ref());
        filter.and_some("alias = ?", self.alias.as_ref());
        if let Some(part) = &self.alias_part {
            filter.and("lower(alias) LIKE ? ESCAPE '!'", [anywhere(part)]);
        }
        filter.and_some("hash = ?", self.hash.as_ref());
        filter.and_some("blocked = ?", self.blocked.as_ref());
        filter.and_some("budget_id = ?", self.budget_id.as_ref());
        filter.and_some("(expires_at IS NULL OR expires_at > ?)", self.valid_at.as_ref());
        filter.and_some("rotates_at <= ?", self.rotates_by.as_ref());
        filter
    }

    /// The same for a key that the configuration declares, which is never rotated.
    fn admits(&self, key: &Key) -> bool {
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        let alias = key.alias.as_deref().unwrap_or_default().to_lowercase();
        let in_teams = |teams: &Vec<String>| key.team_id.as_ref().is_some_and(|team| teams.contains(team));
        same(&self.user_id, &key.user_id)
            && same(&self.team_id, &key.team_id)
            && self.team_ids.as_ref().is_none_or(in_teams)
            && self
                .user_or_teams
                .as_ref()
                .is_none_or(|(user, teams)| key.user_id.as_ref() == Some(user) || in_teams(teams))
            && same(&self.organization_id, &key.organization_id)
            && same(&self.alias, &key.alias)
            && self.alias_part.as_ref().is_none_or(|part| alias.contains(&part.to_lowercase()))
            && self.hash.as_ref().is_none_or(|hash| *hash == key.hash)
            && self.blocked.is_none_or(|blocked| blocked == key.blocked)
            && same(&self.budget_id, &key.budget_id)
            && self.valid_at.is_none_or(|at| key.expires_at.is_none_or(|end| end > at))
            && self.rotates_by.is_none()
    }
}

/// A key by its hash, or by one that it had and that is still good.
const BY_HASH: &str = " WHERE hash = $1 OR id IN (SELECT key_id FROM graces WHERE hash = $1 AND revoke_at > $2)";

impl Store {
    /// Inserts a key.
    ///
    /// # Errors
    /// There is one with its hash or its alias, or a regenerated one began with its hash.
    pub async fn create_key(&self, key: &Key) -> Result<()> {
        self.unlocked_key(Some(&key.hash), None)?;
        self.free_alias(key.alias.as_deref())?;
        let mut tx = self.db.begin().await?;
        records::insert(&mut tx, key).await.map_err(|f| taken::<Key>(f, shown(key), key.alias.as_deref()))?;
        // It may have been a key before, and deleted; the old text must be good for nothing but this.
        tx.run("DELETE FROM graces WHERE hash = $1", records::id(&key.hash)).await?;
        changes::note(&mut tx, Key::WORD, std::slice::from_ref(&key.hash), key.created_at).await?;
        tx.commit().await
    }

    /// The key that a caller shows: by its hash, or within the period of grace by the one before it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn key_by_hash(&self, hash: &str, at: i64) -> Result<Option<Key>> {
        if let Some(key) = self.declared().key_by_hash(hash) {
            return Ok(Some(key.clone()));
        }
        let sql = format!("{}{BY_HASH}", select::<Key>());
        let params = vec![hash.to_owned().to_value(), Value::Int(at)];
        let rows = self.db.read(&sql, params).await?.rows;
        rows.into_iter().next().map(super::sql::Record::read).transpose()
    }

    /// Changes a key, as [`Store::update`] does; its id stays.
    ///
    /// # Errors
    /// There is none with this hash, its new alias belongs to another, or the change refuses it.
    pub async fn update_key(
        &self,
        hash: &str,
        at: i64,
        change: impl FnOnce(&mut Key) -> Result<()> + Send,
    ) -> Result<Key> {
        self.unlocked_key(Some(hash), None)?;
        let mut tx = self.db.begin().await?;
        let mut key = hold(&mut tx, hash, at).await?;
        let (id, old) = (key.id.clone(), key.hash.clone());
        change(&mut key)?;
        self.free_alias(key.alias.as_deref())?;
        (key.id, key.hash) = (id, old);
        key.updated_at = at;
        records::replace(&mut tx, records::id(&key.id), &key)
            .await
            .map_err(|f| taken::<Key>(f, shown(&key), key.alias.as_deref()))?;
        changes::note(&mut tx, Key::WORD, std::slice::from_ref(&key.hash), at).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Gives a key another text. The old one is good until `grace_until`, if that is later than now; what the key has
    /// spent stays with it.
    ///
    /// # Errors
    /// There is none with this hash, or the new hash belongs to another key, or did so before.
    pub async fn regenerate_key(
        &self,
        hash: &str,
        new_hash: &str,
        at: i64,
        grace_until: Option<i64>,
        change: impl FnOnce(&mut Key) -> Result<()> + Send,
    ) -> Result<Key> {
        self.unlocked_key(Some(hash), None)?;
        self.unlocked_key(Some(new_hash), None)?;
        let mut tx = self.db.begin().await?;
        let mut key = hold(&mut tx, hash, at).await?;
        let (id, old) = (key.id.clone(), key.hash.clone());
        if !tx.run("SELECT id FROM keys WHERE id = $1 AND id <> $2", two(new_hash, &id)).await?.rows.is_empty() {
            return Err(taken::<Key>(super::Fault::Taken("id".to_owned()), "sk-...", None));
        }
        change(&mut key)?;
        (key.id, key.hash) = (id, new_hash.to_owned());
        key.rotation_count += 1;
        key.rotated_at = Some(at);
        key.updated_at = at;
        records::replace(&mut tx, records::id(&key.id), &key)
            .await
            .map_err(|f| taken::<Key>(f, shown(&key), key.alias.as_deref()))?;
        if let Some(until) = grace_until.filter(|until| *until > at) {
            let sql = "INSERT INTO graces (hash, key_id, revoke_at) VALUES ($1, $2, $3) \
                       ON CONFLICT (hash) DO UPDATE SET key_id = excluded.key_id, revoke_at = excluded.revoke_at";
            tx.run(sql, vec![old.to_value(), key.id.to_value(), Value::Int(until)]).await?;
        }
        tx.run("DELETE FROM graces WHERE hash = $1", records::id(new_hash)).await?;
        changes::note(&mut tx, Key::WORD, &[old, key.hash.clone()], at).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Deletes keys, by hash or by alias, and gives back those that there were.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn delete_keys(
        &self,
        hashes: &[String],
        aliases: &[String],
        by: Option<&str>,
        at: i64,
    ) -> Result<Vec<Key>> {
        hashes.iter().try_for_each(|hash| self.unlocked_key(Some(hash), None))?;
        aliases.iter().try_for_each(|alias| self.unlocked_key(None, Some(alias)))?;
        let mut tx = self.db.begin().await?;
        let mut gone = Vec::new();
        for (column, names) in [("hash", hashes), ("alias", aliases)] {
            for name in sorted(names) {
                gone.extend(bury_where(&mut tx, column, &name, by, at).await?);
            }
        }
        totals::forgive(&mut tx, gone.iter().map(|key| (Kind::Key, key.id.clone())).collect()).await?;
        let hashes: Vec<String> = gone.iter().map(|key| key.hash.clone()).collect();
        changes::note(&mut tx, Key::WORD, &hashes, at).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// A part of the keys, newest first.
    ///
    /// # Errors
    /// The database does not answer, or the page is none.
    pub async fn list_keys(&self, filter: &KeyFilter, page: &Page) -> Result<Listed<Key>> {
        self.list_where(filter.conditions(), |key| filter.admits(key), page).await
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_keys(&self, filter: &KeyFilter) -> Result<i64> {
        self.count_where(filter.conditions(), |key| filter.admits(key)).await
    }

    /// The aliases of keys, by the alphabet, after this one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn key_aliases(&self, filter: &KeyFilter, after: Option<&str>, limit: i64) -> Result<Vec<String>> {
        let mut conditions = filter.conditions();
        conditions.and("alias IS NOT NULL", []);
        conditions.and_some("alias > ?", after.map(str::to_owned).as_ref());
        let declared = self.declared();
        conditions.and_not_in("hash", &declared.hashes());
        let limit = limit.clamp(1, records::MOST);
        let most = conditions.bind(Value::Int(limit));
        let sql = format!("SELECT alias FROM keys{} ORDER BY alias LIMIT {most}", conditions.text());
        let found = self.db.search(&sql, conditions.params).await?.rows;
        let mut aliases: Vec<String> = found.into_iter().map(super::sql::Row::one).collect::<Result<_>>()?;
        let own = declared.keys().values().filter(|key| filter.admits(key)).filter_map(|key| key.alias.clone());
        aliases.extend(own.filter(|alias| after.is_none_or(|after| alias.as_str() > after)));
        aliases.sort_unstable();
        aliases.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(aliases)
    }

    /// The keys with these hashes, those that there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn keys_by_hash(&self, hashes: &[String]) -> Result<Vec<Key>> {
        let declared = self.declared();
        let (own, others): (Vec<String>, Vec<String>) =
            hashes.iter().cloned().partition(|hash| declared.key_by_hash(hash).is_some());
        let mut keys: Vec<Key> = own.iter().filter_map(|hash| declared.key_by_hash(hash).cloned()).collect();
        if !others.is_empty() {
            let mut filter = Where::default();
            filter.and_in("hash", &others);
            keys.extend(records::all::<Key>(&self.db, filter, "id").await?);
        }
        Ok(keys)
    }
}

/// For messages: a hash of a key is no secret, but nobody knows his own.
fn shown(key: &Key) -> &str {
    key.hint.as_deref().unwrap_or("sk-...")
}

fn two(a: &str, b: &str) -> Vec<Value> {
    vec![a.to_owned().to_value(), b.to_owned().to_value()]
}

async fn hold(tx: &mut Tx, hash: &str, at: i64) -> Result<Key> {
    let sql = format!("{}{BY_HASH}{}", select::<Key>(), tx.lock());
    let rows = tx.run(&sql, vec![hash.to_owned().to_value(), Value::Int(at)]).await?.rows;
    rows.into_iter().next().map(super::sql::Record::read).transpose()?.ok_or_else(|| missing::<Key>(hash))
}

/// Deletes keys and keeps copies of them; the column is a constant of this program.
pub(super) async fn bury_where(tx: &mut Tx, column: &str, value: &str, by: Option<&str>, at: i64) -> Result<Vec<Key>> {
    let sql = format!("{} WHERE {column} = $1 ORDER BY id{}", select::<Key>(), tx.lock());
    let rows = tx.run(&sql, records::id(value)).await?.rows;
    let keys: Vec<Key> = rows.into_iter().map(super::sql::Record::read).collect::<Result<_>>()?;
    for key in &keys {
        records::delete::<Key>(tx, records::id(&key.id)).await?;
        tx.run("DELETE FROM graces WHERE key_id = $1", records::id(&key.id)).await?;
        bury(tx, Key::WORD, &key.id, key, by, at).await?;
    }
    Ok(keys)
}
