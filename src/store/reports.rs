//! Sums by day, and reports made of them: no report reads the ledger.

use super::ledger::date_of;
use super::sql::{Cells, Value, Where, record};
use super::{Kind, Result, Store};

record! {
    /// What one entity used on one day, by key, model, provider, endpoint and tool.
    pub struct Daily in "daily", key 9 {
        pub kind: Kind,
        pub id: String,
        pub day: i64,
        pub key_id: String,
        pub model: String,
        pub model_group: String,
        pub provider: String,
        pub endpoint: String,
        pub tool: String,
        pub spend_nanos: i64,
        pub calls: i64,
        pub failed: i64,
        pub prompt_tokens: i64,
        pub completion_tokens: i64,
        pub cached_tokens: i64,
        pub cache_write_tokens: i64,
        pub reasoning_tokens: i64,
        pub cache_hits: i64,
        pub millis: i64,
    }
}

impl Daily {
    pub(super) const ADD: &'static str = "ON CONFLICT (kind, id, day, key_id, model, model_group, provider, endpoint, tool) \
        DO UPDATE SET spend_nanos = daily.spend_nanos + excluded.spend_nanos, \
        calls = daily.calls + excluded.calls, \
        failed = daily.failed + excluded.failed, \
        prompt_tokens = daily.prompt_tokens + excluded.prompt_tokens, \
        completion_tokens = daily.completion_tokens + excluded.completion_tokens, \
        cached_tokens = daily.cached_tokens + excluded.cached_tokens, \
        cache_write_tokens = daily.cache_write_tokens + excluded.cache_write_tokens, \
        reasoning_tokens = daily.reasoning_tokens + excluded.reasoning_tokens, \
        cache_hits = daily.cache_hits + excluded.cache_hits, \
        millis = daily.millis + excluded.millis";

    pub(super) fn add(&mut self, other: &Daily) {
        self.spend_nanos = self.spend_nanos.saturating_add(other.spend_nanos);
        self.calls += other.calls;
        self.failed += other.failed;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.cache_hits += other.cache_hits;
        self.millis += other.millis;
    }
}

/// Which sums are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DailyFilter {
    /// [`Kind::Gateway`] counts each call once; the others have a row for each user, team, organization, customer or tag.
    pub kind: Kind,
    /// None is all of that kind.
    pub ids: Option<Vec<String>>,
    /// Days from 1970-01-01, both included.
    pub from_day: Option<i64>,
    pub to_day: Option<i64>,
    pub key_ids: Option<Vec<String>>,
    /// The name that was routed by, or the upstream's.
    pub model: Option<String>,
    pub provider: Option<String>,
    pub endpoint: Option<String>,
    pub tool: Option<String>,
}

impl DailyFilter {
    fn conditions(&self) -> Where {
        use super::sql::Cell;
        let mut filter = Where::default();
        filter.and("kind = ?", [self.kind.to_value()]);
        if let Some(ids) = &self.ids {
            filter.and_in("id", ids);
        }
        filter.and_some("day >= ?", self.from_day.as_ref());
        filter.and_some("day <= ?", self.to_day.as_ref());
        if let Some(ids) = &self.key_ids {
            filter.and_in("key_id", ids);
        }
        if let Some(model) = &self.model {
            filter.and("(model = ? OR model_group = ?)", [model.to_value(), model.to_value()]);
        }
        filter.and_some("provider = ?", self.provider.as_ref());
        filter.and_some("endpoint = ?", self.endpoint.as_ref());
        filter.and_some("tool = ?", self.tool.as_ref());
        filter
    }
}

/// What a report has a row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Told as `YYYY-MM-DD`.
    Day,
    /// The user, team, .. of the filter's kind.
    Id,
    Key,
    Model,
    ModelGroup,
    Provider,
    Endpoint,
    Tool,
}

impl By {
    fn column(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Id => "id",
            By::Key => "key_id",
            By::Model => "model",
            By::ModelGroup => "model_group",
            By::Provider => "provider",
            By::Endpoint => "endpoint",
            By::Tool => "tool",
        }
    }
}

/// Sums of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub spend_nanos: i64,
    pub calls: i64,
    pub failed: i64,
    pub prompt_tokens: i64,
    pub completion_tokens: i64,
    pub cached_tokens: i64,
    pub cache_write_tokens: i64,
    pub reasoning_tokens: i64,
    pub cache_hits: i64,
    pub millis: i64,
}

const SUMS: [&str; 10] = [
    "spend_nanos",
    "calls",
    "failed",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cache_hits",
    "millis",
];

impl Sums {
    fn read(cells: &mut Cells) -> Result<Sums> {
        Ok(Sums {
            spend_nanos: cells.take()?,
            calls: cells.take()?,
            failed: cells.take()?,
            prompt_tokens: cells.take()?,
            completion_tokens: cells.take()?,
            cached_tokens: cells.take()?,
            cache_write_tokens: cells.take()?,
            reasoning_tokens: cells.take()?,
            cache_hits: cells.take()?,
            millis: cells.take()?,
        })
    }
}

/// A row of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// One for each [`By`], in their order.
    pub groups: Vec<String>,
    pub sums: Sums,
}

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReportOrder {
    /// What cost most.
    #[default]
    Spend,
    /// By the groups; the latest day first.
    Groups,
}

/// Longer reports are asked for by days.
const MOST: i64 = 100_000;

impl Store {
    /// Sums by what is asked for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn report(
        &self,
        filter: &DailyFilter,
        by: &[By],
        order: ReportOrder,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<ReportRow>> {
        let mut conditions = filter.conditions();
        let columns: Vec<&str> = by.iter().map(|b| b.column()).collect();
        let sums: Vec<String> =
            SUMS.iter().map(|name| format!("CAST(COALESCE(SUM({name}), 0) AS BIGINT) AS sum_{name}")).collect();
        let told: Vec<String> = columns.iter().map(|c| (*c).to_owned()).chain(sums).collect();
        let group = if columns.is_empty() { String::new() } else { format!(" GROUP BY {}", columns.join(", ")) };
        let mut sorted: Vec<String> =
            by.iter().map(|b| format!("{}{}", b.column(), if *b == By::Day { " DESC" } else { "" })).collect();
        if order == ReportOrder::Spend {
            sorted.insert(0, "sum_spend_nanos DESC".to_owned());
        }
        let sorted = if columns.is_empty() { String::new() } else { format!(" ORDER BY {}", sorted.join(", ")) };
        let most = conditions.bind(Value::Int(limit.clamp(1, MOST)));
        let skip = conditions.bind(Value::Int(skip.max(0)));
        let sql = format!(
            "SELECT {} FROM daily{}{group}{sorted} LIMIT {most} OFFSET {skip}",
            told.join(", "),
            conditions.text()
        );
        let rows = self.db.search(&sql, conditions.params).await?.rows;
        let read = |row: super::sql::Row| {
            let mut cells = row.cells();
            let groups = by.iter().map(|b| group_of(*b, &mut cells)).collect::<Result<Vec<String>>>()?;
            Ok(ReportRow { groups, sums: Sums::read(&mut cells)? })
        };
        rows.into_iter().map(read).collect()
    }

    /// The sums of everything that the filter lets through.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sums(&self, filter: &DailyFilter) -> Result<Sums> {
        let rows = self.report(filter, &[], ReportOrder::Spend, 0, 1).await?;
        Ok(rows.into_iter().next().map(|row| row.sums).unwrap_or_default())
    }

    /// The names of all tags that calls had.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tag_names(&self) -> Result<Vec<String>> {
        let sql = "SELECT id FROM totals WHERE kind = 'tag' AND span = '' ORDER BY id LIMIT $1";
        let rows = self.db.read(sql, vec![Value::Int(MOST)]).await?.rows;
        rows.into_iter().map(super::sql::Row::one).collect()
    }
}

fn group_of(by: By, cells: &mut Cells) -> Result<String> {
    if by != By::Day {
        return cells.take();
    }
    let (year, month, day) = date_of(cells.take()?);
    Ok(format!("{year:04}-{month:02}-{day:02}"))
}
