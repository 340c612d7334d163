//! What each entity has spent: over its life, and within each window of a budget.

use super::db::{Db, Tx};
use super::records::{self, MOST};
use super::sql::{Cell, Record, Type, Value, ValueRef, Where, is_default, record, select};
use super::{Result, Store};
use serde::{Deserialize, Serialize};

/// Whose sum it is. The order is the one in which rows are locked, whoever does it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Key,
    /// A model by a key: the key's id, and the model.
    KeyModel,
    User,
    /// A user in a team: the team's id, and the user's.
    Member,
    Team,
    Organization,
    Customer,
    Tag,
    Model,
    Deployment,
    Provider,
    /// All calls.
    #[default]
    Gateway,
    /// A model by a team, a user, a customer, or a tag: the owner's id, and the model. Booked where there is a budget alone.
    TeamModel,
    UserModel,
    CustomerModel,
    TagModel,
}

impl Kind {
    const WORDS: [(Kind, &'static str); 16] = [
        (Kind::Key, "key"),
        (Kind::KeyModel, "key_model"),
        (Kind::User, "user"),
        (Kind::Member, "member"),
        (Kind::Team, "team"),
        (Kind::Organization, "organization"),
        (Kind::Customer, "customer"),
        (Kind::Tag, "tag"),
        (Kind::Model, "model"),
        (Kind::Deployment, "deployment"),
        (Kind::Provider, "provider"),
        (Kind::Gateway, "gateway"),
        (Kind::TeamModel, "team_model"),
        (Kind::UserModel, "user_model"),
        (Kind::CustomerModel, "customer_model"),
        (Kind::TagModel, "tag_model"),
    ];

    /// As tables have it.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("gateway", |(_, word)| word)
    }
}

impl Cell for Kind {
    const TYPE: Type = Type::Text;

    fn to_ref(&self) -> ValueRef<'_> {
        ValueRef::Text(self.word().into())
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        let Value::Text(text) = value else { return Err("the kind of an entity") };
        let found = Self::WORDS.iter().find(|(_, word)| *word == text);
        found.map(|(kind, _)| *kind).ok_or("the kind of an entity")
    }
}

/// Something that spends, over its life or within a window.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Entity {
    pub kind: Kind,
    pub id: String,
    /// The second half of a name that has two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// The length of the window as the budget has it, such as `30d`; empty for the whole life.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub span: String,
    /// When the window began, in microseconds; 0 for the whole life.
    #[serde(skip_serializing_if = "is_default")]
    pub start: i64,
}

impl Entity {
    /// An entity over its whole life. No name holds a NUL: the table could not.
    pub fn of(kind: Kind, id: &str) -> Self {
        Entity { kind, id: id.replace('\0', "\u{fffd}"), ..Entity::default() }
    }

    /// Its part of another one.
    pub fn with(mut self, sub: &str) -> Self {
        self.sub = sub.replace('\0', "\u{fffd}");
        self
    }

    /// The same within a window.
    pub fn within(mut self, span: &str, start: i64) -> Self {
        (self.span, self.start) = (span.to_owned(), start);
        self
    }

    /// The same where it lies.
    pub fn as_ref(&self) -> EntityRef<'_> {
        let Entity { kind, id, sub, span, start } = self;
        EntityRef { kind: *kind, id, sub, span, start: *start }
    }

    pub(super) fn key(&self) -> Vec<Value> {
        vec![self.kind.to_value(), self.id.to_value(), self.sub.to_value(), self.span.to_value(), self.start.to_value()]
    }
}

/// An [`Entity`] whose names lie elsewhere, as many as a call is booked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityRef<'a> {
    pub kind: Kind,
    pub id: &'a str,
    pub sub: &'a str,
    pub span: &'a str,
    pub start: i64,
}

impl EntityRef<'_> {
    pub fn to_entity(self) -> Entity {
        Entity::of(self.kind, self.id).with(self.sub).within(self.span, self.start)
    }
}

record! {
    /// The sums of an entity.
    pub struct Total in "totals", key 5 {
        pub kind: Kind,
        pub id: String,
        pub sub: String,
        pub span: String,
        pub start: i64,
        /// The sum of the ledger's rows, exactly.
        pub spend_nanos: i64,
        /// What a reset or an import makes of it: [`Total::spent`] is both.
        pub offset_nanos: i64,
        /// What calls under way have set aside, where several gateways share a budget.
        pub reserved_nanos: i64,
        pub calls: i64,
        /// Of the calls: failures and interrupted ones.
        pub failed: i64,
        pub prompt_tokens: i64,
        pub completion_tokens: i64,
        pub cached_tokens: i64,
        /// When the last call ended.
        pub last_at: i64,
    }
}

impl Total {
    /// Nothing yet.
    pub fn none(entity: &Entity) -> Self {
        let Entity { kind, id, sub, span, start } = entity.clone();
        Total { kind, id, sub, span, start, ..Total::default() }
    }

    pub(super) fn add(&mut self, other: &Total) {
        self.spend_nanos = self.spend_nanos.saturating_add(other.spend_nanos);
        self.reserved_nanos += other.reserved_nanos;
        self.calls += other.calls;
        self.failed += other.failed;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
        self.last_at = self.last_at.max(other.last_at);
    }

    pub fn entity(&self) -> Entity {
        let Total { kind, id, sub, span, start, .. } = self.clone();
        Entity { kind, id, sub, span, start }
    }

    /// What it has spent, as it is shown and as budgets count it.
    pub fn spent(&self) -> i64 {
        self.spend_nanos.saturating_add(self.offset_nanos)
    }
}

/// Adds to sums; each row as it is, and a new one where there is none.
pub(super) const ADD: &str = "ON CONFLICT (kind, id, sub, span, start) DO UPDATE SET \
    spend_nanos = totals.spend_nanos + excluded.spend_nanos, \
    reserved_nanos = totals.reserved_nanos + excluded.reserved_nanos, \
    calls = totals.calls + excluded.calls, \
    failed = totals.failed + excluded.failed, \
    prompt_tokens = totals.prompt_tokens + excluded.prompt_tokens, \
    completion_tokens = totals.completion_tokens + excluded.completion_tokens, \
    cached_tokens = totals.cached_tokens + excluded.cached_tokens, \
    last_at = CASE WHEN excluded.last_at > totals.last_at THEN excluded.last_at ELSE totals.last_at END";

const KEY: &str = "kind = $1 AND id = $2 AND sub = $3 AND span = $4 AND start = $5";

impl Store {
    /// The sums of these entities, in this order; zeros where nothing was spent.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn totals(&self, entities: &[Entity]) -> Result<Vec<Total>> {
        let found = find(&self.db, entities).await?;
        Ok(entities
            .iter()
            .map(|e| found.iter().find(|t| t.entity() == *e).cloned().unwrap_or_else(|| Total::none(e)))
            .collect())
    }

    /// The entities of a kind that have spent most over their life.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn top_totals(&self, kind: Kind, skip: i64, limit: i64) -> Result<Vec<Total>> {
        let sql = format!(
            "{} WHERE kind = $1 AND span = '' ORDER BY spend_nanos + offset_nanos DESC, id, sub LIMIT $2 OFFSET $3",
            select::<Total>()
        );
        let params = vec![kind.to_value(), Value::Int(limit.clamp(1, MOST)), Value::Int(skip.max(0))];
        self.db.read(&sql, params).await?.rows.into_iter().map(Total::read).collect()
    }

    /// The sums over their life of all that begin with this name: of the members of a team, of the models of a key.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn totals_under(&self, kind: Kind, id: &str) -> Result<Vec<Total>> {
        let sql = format!("{} WHERE kind = $1 AND id = $2 AND span = '' ORDER BY sub", select::<Total>());
        let params = vec![kind.to_value(), id.to_owned().to_value()];
        self.db.read(&sql, params).await?.rows.into_iter().map(Total::read).collect()
    }

    /// Sets what an entity has spent over its life; within a window that is under way it has spent no more than that.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn set_spent(&self, kind: Kind, id: &str, nanos: i64) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let mut totals = of(&mut tx, kind, id).await?;
        totals.retain(|t| t.sub.is_empty() && (t.span.is_empty() || t.spent() > nanos));
        let whole = Entity::of(kind, id);
        if !totals.iter().any(|t| t.entity() == whole) {
            totals.push(Total::none(&whole));
        }
        totals.sort_by_key(Total::entity);
        for total in &totals {
            set(&mut tx, &total.entity(), nanos).await?;
        }
        tx.commit().await
    }
}

impl Store {
    /// Whatever all entities of these kinds have spent no longer counts.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forgive_all(&self, kinds: &[Kind], at: i64) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let mut whom: Vec<(Kind, String)> = Vec::new();
        for kind in kinds {
            let sql = "SELECT DISTINCT id FROM totals WHERE kind = $1";
            for row in tx.run(sql, vec![kind.to_value()]).await?.rows {
                whom.push((*kind, row.one()?));
            }
        }
        let keys: Vec<String> = whom.iter().filter(|(kind, _)| *kind == Kind::Key).map(|(_, id)| id.clone()).collect();
        forgive(&mut tx, whom).await?;
        super::changes::note(&mut tx, "key", &keys, at).await?;
        // One that is always there: whoever counts in memory reads all its sums again.
        super::changes::note(&mut tx, "spend", &[String::new()], at).await?;
        tx.commit().await
    }
}

async fn find(db: &Db, entities: &[Entity]) -> Result<Vec<Total>> {
    let mut found = Vec::new();
    for part in entities.chunks(200) {
        let mut filter = Where::default();
        let rows: Vec<String> = part
            .iter()
            .map(|e| {
                let cells: Vec<String> = e.key().into_iter().map(|v| filter.bind(v)).collect();
                format!("({})", cells.join(", "))
            })
            .collect();
        let sql = format!("{} WHERE (kind, id, sub, span, start) IN (VALUES {})", select::<Total>(), rows.join(", "));
        let answer = db.search(&sql, filter.params).await?;
        for row in answer.rows {
            found.push(Total::read(row)?);
        }
    }
    Ok(found)
}

async fn of(tx: &mut Tx, kind: Kind, id: &str) -> Result<Vec<Total>> {
    let sql = format!("{} WHERE kind = $1 AND id = $2", select::<Total>());
    let rows = tx.run(&sql, vec![kind.to_value(), id.to_owned().to_value()]).await?.rows;
    rows.into_iter().map(Total::read).collect()
}

async fn set(tx: &mut Tx, entity: &Entity, nanos: i64) -> Result<()> {
    records::insert_new(tx, &[Total::none(entity)]).await?;
    let mut params = entity.key();
    params.push(Value::Int(nanos));
    tx.run(&format!("UPDATE totals SET offset_nanos = $6 - spend_nanos WHERE {KEY}"), params).await.map(drop)
}

/// What these have spent no longer counts. Rows are locked in the order of entities, as booking does it.
pub(super) async fn forgive(tx: &mut Tx, mut whom: Vec<(Kind, String)>) -> Result<()> {
    whom.sort_unstable();
    whom.dedup();
    for (kind, id) in whom {
        let mut entities: Vec<Entity> = of(tx, kind, &id).await?.iter().map(Total::entity).collect();
        entities.sort_unstable();
        for entity in entities {
            set(tx, &entity, 0).await?;
        }
    }
    Ok(())
}

/// The same for one part of it.
pub(super) async fn forgive_sub(tx: &mut Tx, kind: Kind, id: &str, sub: &str) -> Result<()> {
    let mut entities: Vec<Entity> = of(tx, kind, id).await?.iter().map(Total::entity).collect();
    entities.retain(|e| e.sub == sub);
    entities.sort_unstable();
    for entity in entities {
        set(tx, &entity, 0).await?;
    }
    Ok(())
}
