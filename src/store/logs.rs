//! Reading the ledger: a part at a time, by the key of its rows, so that every page costs the same.

use super::ledger::{LedgerRow, Prompt, floor_id};
use super::records::{self, Listed, MOST};
use super::sql::{Cell, Record, Row, Value, Where, anywhere, select};
use super::{Result, Store};

/// Which calls are wanted; what is none does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// From this time on, to the millisecond.
    pub from: Option<i64>,
    /// Before this time.
    pub to: Option<i64>,
    pub key_id: Option<String>,
    pub user_id: Option<String>,
    pub team_id: Option<String>,
    /// Calls of any of these teams.
    pub team_ids: Option<Vec<String>>,
    pub organization_id: Option<String>,
    pub end_user: Option<String>,
    pub session_id: Option<String>,
    /// The name that was routed by.
    pub model_group: Option<String>,
    pub deployment: Option<String>,
    pub provider: Option<String>,
    pub call_type: Option<String>,
    pub tool: Option<String>,
    pub tag: Option<String>,
    pub status: Option<String>,
    pub error_code: Option<String>,
    pub error_class: Option<String>,
    /// A part of the error's text, in any case.
    pub error: Option<String>,
    pub key_alias: Option<String>,
    pub min_nanos: Option<i64>,
    pub max_nanos: Option<i64>,
    pub cache_hit: Option<bool>,
}

impl LogFilter {
    /// Where the rows come from. With a tag, from the index of that tag in the order of ids, whatever the planner
    /// thinks: SQLite takes the left side of a CROSS JOIN first, and Postgres finds the same by itself.
    fn source(&self) -> &'static str {
        match self.tag {
            Some(_) => "ledger_tags AS tagged CROSS JOIN ledger",
            None => "ledger",
        }
    }

    /// The id that rows are sorted by.
    fn id(&self) -> &'static str {
        match self.tag {
            Some(_) => "tagged.id",
            None => "ledger.id",
        }
    }

    /// The same with no more than the one condition whose rows an index has in the order of ids. Tags come first, as
    /// [`LogFilter::source`] has it, then what usually has the fewest rows.
    fn by_index(&self) -> LogFilter {
        let mut alone = LogFilter { from: self.from, to: self.to, ..LogFilter::default() };
        if self.tag.is_some() {
            alone.tag.clone_from(&self.tag);
        } else if self.session_id.is_some() {
            alone.session_id.clone_from(&self.session_id);
        } else if self.end_user.is_some() {
            alone.end_user.clone_from(&self.end_user);
        } else if self.key_id.is_some() {
            alone.key_id.clone_from(&self.key_id);
        } else if self.user_id.is_some() {
            alone.user_id.clone_from(&self.user_id);
        } else if self.status.as_deref().is_some_and(|status| status != "success") {
            alone.status.clone_from(&self.status);
        } else if self.team_id.is_some() {
            alone.team_id.clone_from(&self.team_id);
        } else if self.model_group.is_some() {
            alone.model_group.clone_from(&self.model_group);
        }
        alone
    }

    /// Whether rows that an index finds do not fit all the same: they are read then, and passed over.
    fn passes_over(&self) -> bool {
        *self != self.by_index()
    }

    fn conditions(&self) -> Where {
        let mut filter = Where::default();
        let (from, to) = (self.from.map(floor_id), self.to.map(floor_id));
        if let Some(tag) = &self.tag {
            filter.and("tagged.id = ledger.id AND tagged.tag = ?", [tag.to_value()]);
            filter.and_some("tagged.id >= ?", from.as_ref());
            filter.and_some("tagged.id < ?", to.as_ref());
        } else {
            filter.and_some("ledger.id >= ?", from.as_ref());
            filter.and_some("ledger.id < ?", to.as_ref());
        }
        filter.and_some("key_id = ?", self.key_id.as_ref());
        filter.and_some("user_id = ?", self.user_id.as_ref());
        filter.and_some("team_id = ?", self.team_id.as_ref());
        if let Some(teams) = &self.team_ids {
            filter.and_in("team_id", teams);
        }
        filter.and_some("organization_id = ?", self.organization_id.as_ref());
        filter.and_some("end_user = ?", self.end_user.as_ref());
        filter.and_some("session_id = ?", self.session_id.as_ref());
        filter.and_some("model_group = ?", self.model_group.as_ref());
        filter.and_some("deployment = ?", self.deployment.as_ref());
        filter.and_some("provider = ?", self.provider.as_ref());
        filter.and_some("call_type = ?", self.call_type.as_ref());
        filter.and_some("tool = ?", self.tool.as_ref());
        if let Some(status) = &self.status {
            filter.and("status = ?", [status.to_value()]);
            if status != "success" {
                // The words of the partial index, which SQLite wants to see.
                filter.and("status <> 'success'", []);
            }
        }
        filter.and_some("error_code = ?", self.error_code.as_ref());
        filter.and_some("error_class = ?", self.error_class.as_ref());
        if let Some(part) = &self.error {
            filter.and("lower(error) LIKE ? ESCAPE '!'", [anywhere(part)]);
        }
        filter.and_some("key_alias = ?", self.key_alias.as_ref());
        filter.and_some("cost_nanos >= ?", self.min_nanos.as_ref());
        filter.and_some("cost_nanos <= ?", self.max_nanos.as_ref());
        filter.and_some("cache_hit = ?", self.cache_hit.as_ref());
        filter
    }
}

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogOrder {
    #[default]
    Newest,
    Oldest,
}

/// Rows that are looked at for one page, where most of them may not fit.
const LOOKED_AT: i64 = 20_000;
/// The same where each is found by its tag first, and then looked up.
const LOOKED_UP: i64 = 5_000;

/// Three look-ups by an index each; with `OR`, a database may read the whole ledger in the order of its key instead.
const BY_ANY_ID: &str = " WHERE id IN (SELECT id FROM ledger WHERE id = $1 \
    UNION SELECT id FROM ledger WHERE client_id = $1 UNION SELECT id FROM ledger WHERE upstream_id = $1) \
    ORDER BY id DESC LIMIT $2";

impl Store {
    /// A part of the calls; `after` is what [`Listed::next`] said before. No page looks at more than a bounded number of
    /// rows, so that one may be short, or empty, and still have a next.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn logs(
        &self,
        filter: &LogFilter,
        order: LogOrder,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Listed<LedgerRow>> {
        let mut conditions = filter.conditions();
        let after = after.map(str::to_owned);
        let (beyond, direction) = match (order, &filter.tag) {
            (LogOrder::Newest, None) => ("ledger.id < ?", "DESC"),
            (LogOrder::Newest, Some(_)) => ("tagged.id < ?", "DESC"),
            (LogOrder::Oldest, None) => ("ledger.id > ?", "ASC"),
            (LogOrder::Oldest, Some(_)) => ("tagged.id > ?", "ASC"),
        };
        conditions.and_some(beyond, after.as_ref());
        let last = if filter.passes_over() { self.last_looked_at(filter, order, after.as_ref()).await? } else { None };
        let within = match (order, &filter.tag) {
            (LogOrder::Newest, None) => "ledger.id >= ?",
            (LogOrder::Newest, Some(_)) => "tagged.id >= ?",
            (LogOrder::Oldest, None) => "ledger.id <= ?",
            (LogOrder::Oldest, Some(_)) => "tagged.id <= ?",
        };
        conditions.and_some(within, last.as_ref());
        let limit = limit.clamp(1, MOST);
        let most = conditions.bind(Value::Int(limit + 1));
        let columns: Vec<String> = LedgerRow::COLUMNS.iter().map(|c| format!("ledger.{}", c.name)).collect();
        let sql = format!(
            "SELECT {} FROM {}{} ORDER BY {} {direction} LIMIT {most}",
            columns.join(", "),
            filter.source(),
            conditions.text(),
            filter.id()
        );
        let rows = self.db.search(&sql, conditions.params).await?.rows;
        let mut rows = rows.into_iter().map(LedgerRow::read).collect::<Result<Vec<_>>>()?;
        let more = rows.len() as i64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = rows.last().filter(|_| more).map(|row| row.id.clone()).or(last);
        Ok(Listed { rows, next })
    }

    /// The id of the last row that a page looks at, where there are more behind it.
    async fn last_looked_at(
        &self,
        filter: &LogFilter,
        order: LogOrder,
        after: Option<&String>,
    ) -> Result<Option<String>> {
        let filter = filter.by_index();
        let mut conditions = filter.conditions();
        let (beyond, direction) = match (order, &filter.tag) {
            (LogOrder::Newest, None) => ("ledger.id < ?", "DESC"),
            (LogOrder::Newest, Some(_)) => ("tagged.id < ?", "DESC"),
            (LogOrder::Oldest, None) => ("ledger.id > ?", "ASC"),
            (LogOrder::Oldest, Some(_)) => ("tagged.id > ?", "ASC"),
        };
        conditions.and_some(beyond, after);
        let skip = conditions.bind(Value::Int(if filter.tag.is_some() { LOOKED_UP } else { LOOKED_AT }));
        let id = filter.id();
        let sql = format!(
            "SELECT {id} FROM {}{} ORDER BY {id} {direction} LIMIT 1 OFFSET {skip}",
            filter.source(),
            conditions.text()
        );
        self.db.search(&sql, conditions.params).await?.rows.pop().map(Row::one).transpose()
    }

    /// How many calls there are, as far as a page would look for them: up to `most`, and whether there may be more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn roughly_count_logs(&self, filter: &LogFilter, most: i64) -> Result<(i64, bool)> {
        let last = if filter.passes_over() { self.last_looked_at(filter, LogOrder::Newest, None).await? } else { None };
        let mut conditions = filter.conditions();
        conditions.and_some(if filter.tag.is_some() { "tagged.id >= ?" } else { "ledger.id >= ?" }, last.as_ref());
        let limit = conditions.bind(Value::Int(most.max(1)));
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM {}{} LIMIT {limit}) AS found",
            filter.source(),
            conditions.text()
        );
        let count = self.db.search(&sql, conditions.params).await?.rows.pop().map_or(Ok(0), Row::one)?;
        Ok((count, last.is_some() || count >= most))
    }

    /// How many calls there are, counted up to `most`: nobody waits for a number of millions.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_logs(&self, filter: &LogFilter, most: i64) -> Result<i64> {
        let mut conditions = filter.conditions();
        let most = conditions.bind(Value::Int(most.max(1)));
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM {}{} LIMIT {most}) AS found",
            filter.source(),
            conditions.text()
        );
        self.db.search(&sql, conditions.params).await?.rows.pop().map_or(Ok(0), Row::one)
    }

    /// The calls that have this id: ours, the client's, or the upstream's.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn logs_by_any_id(&self, id: &str) -> Result<Vec<LedgerRow>> {
        let sql = format!("{}{BY_ANY_ID}", select::<LedgerRow>());
        let rows = self.db.read(&sql, vec![id.to_owned().to_value(), Value::Int(MOST)]).await?.rows;
        rows.into_iter().map(LedgerRow::read).collect()
    }

    /// What was asked and answered in a call, where it was kept.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn prompt(&self, id: &str) -> Result<Option<Prompt>> {
        records::find(&self.db, records::id(id)).await
    }
}
