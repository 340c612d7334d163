//! The ledger's row, and what its id says.

use super::sql::record;
use super::totals::EntityRef;
use super::{Entity, Kind};
use serde_json::Value as Json;
use std::borrow::Cow;
use uuid::Uuid;

record! {
    /// A call: who made it, where it went, what it used and how it ended.
    pub struct LedgerRow in "ledger", key 1, sparse {
        /// A UUIDv7 made here; rows are sorted by it, and it says their month.
        pub id: String,
        /// Microseconds, as in the id to the millisecond.
        pub started_at: i64,
        /// When the first token came.
        pub first_at: Option<i64>,
        pub ended_at: i64,
        /// The client's own id of the call.
        pub client_id: Option<String>,
        /// The upstream's id of its answer.
        pub upstream_id: Option<String>,
        pub session_id: Option<String>,
        pub trace_id: Option<String>,
        /// The gateway that served it.
        pub node: Option<String>,
        /// LiteLLM's word, such as `acompletion`.
        pub call_type: String,
        /// The route, such as `/v1/chat/completions`.
        pub endpoint: String,
        pub stream: bool,
        /// [`Key::id`](super::Key), or what the master key is called.
        pub key_id: Option<String>,
        /// The key's alias at that time.
        pub key_alias: Option<String>,
        pub user_id: Option<String>,
        pub team_id: Option<String>,
        pub organization_id: Option<String>,
        pub project_id: Option<String>,
        pub agent_id: Option<String>,
        /// The customer: who asks the one who asks us.
        pub end_user: Option<String>,
        pub tags: Vec<String>,
        /// What was asked for.
        pub model: String,
        /// The name that it was routed by.
        pub model_group: Option<String>,
        /// What the upstream calls it.
        pub upstream_model: Option<String>,
        /// The id of the deployment.
        pub deployment: Option<String>,
        pub provider: Option<String>,
        pub api_base: Option<String>,
        /// An MCP tool, `server/name`.
        pub tool: Option<String>,
        pub prompt_tokens: i64,
        pub completion_tokens: i64,
        /// Of the prompt: read from a cache.
        pub cached_tokens: i64,
        /// Of the prompt: written to a cache.
        pub cache_write_tokens: i64,
        pub cache_write_1h_tokens: i64,
        /// Of the completion.
        pub reasoning_tokens: i64,
        pub audio_in_tokens: i64,
        pub audio_out_tokens: i64,
        pub image_in_tokens: i64,
        pub image_out_tokens: i64,
        pub searches: i64,
        /// Other counts, as the price knows them.
        pub usage: Json,
        /// The whole; the three parts add up to it.
        pub cost_nanos: i64,
        pub input_nanos: i64,
        pub output_nanos: i64,
        /// Searches, and what is charged by the request.
        pub other_nanos: i64,
        /// What was set aside for it.
        pub reserved_nanos: i64,
        /// The upstream gave no final usage.
        pub estimated: bool,
        /// Something was used that has no price.
        pub unpriced: bool,
        /// `success`, `failure`, `cancelled` or `interrupted`.
        pub status: String,
        pub http_status: Option<i64>,
        /// The word of the log for what went wrong.
        pub error_class: Option<String>,
        pub error_code: Option<String>,
        pub error: Option<String>,
        pub retries: i64,
        pub fallbacks: i64,
        pub cache_hit: bool,
        pub cache_key: Option<String>,
        pub ip: Option<String>,
        pub user_agent: Option<String>,
        pub metadata: Json,
    }
}

record! {
    /// What was asked and answered, where the operator keeps that.
    pub struct Prompt in "prompts", key 1 {
        pub id: String,
        pub request: Option<String>,
        pub response: Option<String>,
    }
}

record! {
    /// That a call had a tag.
    pub struct Tagged in "ledger_tags", key 2 {
        pub tag: String,
        pub id: String,
    }
}

/// A call of a million dollars, or of as many tokens, is a mistake somewhere; a sum that overflows would keep every
/// later row of its entity out of the ledger.
const MOST: i64 = 1_000_000_000_000_000;

impl LedgerRow {
    /// Whether it counts among the failed ones.
    pub fn failed(&self) -> bool {
        matches!(self.status.as_str(), "failure" | "interrupted")
    }

    /// The entities that it is booked on, each once.
    pub fn entities(&self) -> Vec<Entity> {
        let mut names = Vec::new();
        self.name_entities(&mut names);
        let mut entities: Vec<Entity> = names.into_iter().map(EntityRef::to_entity).collect();
        entities.sort_unstable();
        entities.dedup();
        entities
    }

    /// The same as they lie here; one may come twice.
    pub(super) fn name_entities<'a>(&'a self, names: &mut Vec<EntityRef<'a>>) {
        let model = self.model_group.as_deref().unwrap_or(&self.model);
        let with = |kind, id: Option<&'a str>, sub: Option<&'a str>| {
            Some(EntityRef { kind, id: id?, sub: sub?, ..EntityRef::default() })
        };
        let of = |kind, id| with(kind, id, Some(""));
        let (key, user, team) = (self.key_id.as_deref(), self.user_id.as_deref(), self.team_id.as_deref());
        names.extend(
            [
                of(Kind::Key, key),
                with(Kind::KeyModel, key, Some(model)),
                of(Kind::User, user),
                with(Kind::Member, team, user),
                of(Kind::Team, team),
                of(Kind::Organization, self.organization_id.as_deref()),
                of(Kind::Customer, self.end_user.as_deref()),
                of(Kind::Model, Some(model)),
                of(Kind::Deployment, self.deployment.as_deref()),
                of(Kind::Provider, self.provider.as_deref()),
                of(Kind::Gateway, Some("")),
            ]
            .into_iter()
            .flatten(),
        );
        names.extend(self.tags.iter().filter_map(|tag| of(Kind::Tag, Some(tag))));
    }

    /// The same with every number such that it can be summed up.
    pub(super) fn summable(&self) -> Cow<'_, Self> {
        let numbers = [
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.cache_write_tokens,
            self.cache_write_1h_tokens,
            self.reasoning_tokens,
            self.cost_nanos,
            self.input_nanos,
            self.output_nanos,
            self.other_nanos,
            self.reserved_nanos,
        ];
        if numbers.iter().all(|number| (0..=MOST).contains(number)) {
            return Cow::Borrowed(self);
        }
        let mut row = self.clone();
        let clamped = numbers.map(|number| number.clamp(0, MOST));
        [
            row.prompt_tokens,
            row.completion_tokens,
            row.cached_tokens,
            row.cache_write_tokens,
            row.cache_write_1h_tokens,
            row.reasoning_tokens,
            row.cost_nanos,
            row.input_nanos,
            row.output_nanos,
            row.other_nanos,
            row.reserved_nanos,
        ] = clamped;
        Cow::Owned(row)
    }
}

const DAY: i64 = 86_400_000_000;

/// The day of a time, counted from 1970-01-01, UTC.
pub fn day_of(micros: i64) -> i64 {
    micros.div_euclid(DAY)
}

/// Year, month and day of month of a day.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub fn date_of(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let in_era = shifted.rem_euclid(146_097);
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The day of a date. Source: the same, `days_from_civil`.
pub fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let in_era = year.rem_euclid(400);
    let in_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468
}

/// A month, counted from the year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(pub i64);

impl Month {
    pub fn of(micros: i64) -> Month {
        let (year, month, _) = date_of(day_of(micros));
        Month(year * 12 + month - 1)
    }

    /// Its first instant.
    pub fn start(self) -> i64 {
        day_of_date(self.0.div_euclid(12), self.0.rem_euclid(12) + 1, 1) * DAY
    }

    pub fn next(self) -> Month {
        Month(self.0 + 1)
    }

    /// The partition of the ledger.
    pub fn table(self) -> String {
        format!("ledger_{:04}_{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    /// The month of a partition.
    pub fn of_table(name: &str) -> Option<Month> {
        let (year, month) = name.strip_prefix("ledger_")?.split_once('_')?;
        Some(Month(year.parse::<i64>().ok()? * 12 + month.parse::<i64>().ok()? - 1))
    }
}

/// What every id of that millisecond or later is above of, and every earlier one below: the first 48 bits of a UUIDv7
/// are its time (RFC 9562, section 5.7).
pub fn floor_id(micros: i64) -> String {
    let millis = micros.div_euclid(1000).clamp(0, (1 << 48) - 1);
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

/// The time in an id, in microseconds; none if it is no UUIDv7 as it is written here.
pub(super) fn time_of_id(id: &str) -> Option<i64> {
    let uuid = Uuid::try_parse(id).ok().filter(|u| u.get_version_num() == 7 && u.hyphenated().to_string() == id)?;
    let millis = uuid.as_bytes()[..6].iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    Some(millis * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_there_and_back() {
        for (day, date) in [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (19_782, (2024, 2, 29)), (20_778, (2026, 11, 21))]
        {
            assert_eq!(date_of(day), date);
            assert_eq!(day_of_date(date.0, date.1, date.2), day);
        }
        assert!((-800_000..2_000_000).step_by(13).all(|day| {
            let (y, m, d) = date_of(day);
            day_of_date(y, m, d) == day
        }));
    }

    #[test]
    fn an_id_says_its_month() {
        let at = day_of_date(2026, 11, 30) * DAY + DAY - 1;
        let id = |micros: i64| {
            let millis = u64::try_from(micros / 1000).unwrap();
            uuid::Builder::from_unix_timestamp_millis(millis, &[0xff; 10]).into_uuid().to_string()
        };
        assert_eq!(time_of_id(&id(at)), Some(at / 1000 * 1000));
        assert_eq!(Month::of(at).table(), "ledger_2026_11");
        assert_eq!(Month::of_table("ledger_2026_11"), Some(Month::of(at)));
        assert!(id(at) < floor_id(Month::of(at).next().start()) && id(at) >= floor_id(at));
        assert_eq!(time_of_id("6f9619ff-8b86-4011-b42d-00c04fc964ff"), None);
        assert_eq!(time_of_id(&id(at).to_uppercase()), None);
    }

    #[test]
    fn a_row_is_booked_on_each_entity_once() {
        let row = LedgerRow {
            key_id: Some("k".to_owned()),
            user_id: Some("u".to_owned()),
            team_id: Some("t".to_owned()),
            model: "m".to_owned(),
            tags: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
            ..LedgerRow::default()
        };
        let words: Vec<String> =
            row.entities().iter().map(|e| format!("{}:{}:{}", e.kind.word(), e.id, e.sub)).collect();
        assert_eq!(
            words,
            [
                "key:k:",
                "key_model:k:m",
                "user:u:",
                "member:t:u",
                "team:t:",
                "tag:a:",
                "tag:b:",
                "model:m:",
                "gateway::"
            ]
        );
    }
}
