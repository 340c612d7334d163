//! From the database of LiteLLM to our store: `gateway import litellm-db`.
//!
//! [`tables`] is pure: a row of LiteLLM's as JSON becomes a record of ours, or a reason why it does not. [`sealed`] opens
//! values that LiteLLM has encrypted. What is not carried over is counted and named; nothing is imported blank.

pub mod calls;
mod days;
mod mcp;
mod models;
pub mod sealed;
mod tables;

use crate::seal::Seals;
use crate::store::{Brought, Configured, Foreign, Store};
use jiff::tz::TimeZone;
use sealed::Opener;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What LiteLLM's tables begin with.
const PREFIX: &str = "LiteLLM_";
/// Rows that are read at once.
const PART: i64 = 1000;
/// Names of one kind that are shown; the rest is counted.
const SHOWN: usize = 20;

type Row = Map<String, Value>;

/// What is not carried over although a row has it, or a row as a whole: in the words of the operator.
#[derive(Debug, Default)]
pub struct Notes(Vec<String>);

impl Notes {
    fn say(&mut self, text: impl Into<String>) {
        self.0.push(text.into());
    }
}

/// The tables that are read, with their key.
const READ: [(&str, &str); 16] = [
    ("LiteLLM_BudgetTable", "budget_id"),
    ("LiteLLM_ObjectPermissionTable", "object_permission_id"),
    ("LiteLLM_ModelTable", "id"),
    ("LiteLLM_OrganizationTable", "organization_id"),
    ("LiteLLM_UserTable", "user_id"),
    ("LiteLLM_TeamTable", "team_id"),
    // Its key has two columns; the first alone would leave rows out between two parts.
    (tables::MEMBERSHIP, ""),
    ("LiteLLM_EndUserTable", "user_id"),
    ("LiteLLM_TagTable", "tag_name"),
    ("LiteLLM_AccessGroupTable", "access_group_id"),
    ("LiteLLM_VerificationToken", "token"),
    ("LiteLLM_DeprecatedVerificationToken", "token"),
    ("LiteLLM_ProxyModelTable", "model_id"),
    ("LiteLLM_CredentialsTable", "credential_id"),
    (mcp::SERVERS, "server_id"),
    (mcp::TOOLSETS, "toolset_id"),
];

/// Why a table stays where it is. The others that have rows are named without a reason.
const LEFT: [(&str, &str); 12] = [
    ("LiteLLM_MCPUserCredentials", "callers have no credentials of their own at servers of tools"),
    (
        calls::TABLE,
        "single calls stay there, unless --with-logs is given; what they add up to is carried over by day, key, model and provider",
    ),
    ("LiteLLM_ErrorLogs", "single calls stay there"),
    ("LiteLLM_SpendLogToolIndex", "single calls stay there"),
    ("LiteLLM_SpendLogGuardrailIndex", "single calls stay there"),
    ("LiteLLM_Config", "settings belong into the configuration file: gateway import litellm config.yaml"),
    ("LiteLLM_DeletedVerificationToken", "copies of what was deleted stay there"),
    ("LiteLLM_DeletedTeamTable", "copies of what was deleted stay there"),
    ("LiteLLM_OrganizationMembership", "roles within an organization are not known here"),
    ("LiteLLM_ProjectTable", "projects are not known here; keys keep the id of theirs"),
    ("LiteLLM_InvitationLink", "links of invitation are good for LiteLLM alone"),
    ("LiteLLM_AuditLog", "the record of changes stays there"),
];

/// A record of run time that is stored sealed. It holds secrets in clear: neither shown nor logged.
struct Unsealed {
    kind: &'static str,
    id: String,
    value: Value,
}

impl Unsealed {
    fn called(&self) -> &str {
        let names = ["model_name", "server_name", "toolset_name"];
        names.iter().find_map(|name| self.value.get(*name)?.as_str()).unwrap_or(&self.id)
    }
}

/// What there is in LiteLLM's database, as records of ours.
pub struct Found {
    brought: Brought,
    stored: Vec<Unsealed>,
    notes: Notes,
    sealed: sealed::Survey,
    /// Tables of LiteLLM, with their rows.
    tables: BTreeMap<String, i64>,
    /// Keys that were given another text, by their hash before.
    renewed: BTreeMap<String, String>,
    /// Single calls are carried over too.
    with_calls: bool,
}

/// Reads everything that is carried over, but for the sums of days.
///
/// # Errors
/// A text for the operator: the database does not answer, or is not LiteLLM's.
pub async fn look(
    from: &Foreign,
    opener: &Opener,
    (now, zone): (i64, &TimeZone),
    with_calls: bool,
) -> Result<Found, String> {
    let tables: BTreeMap<String, i64> = from.tables(PREFIX).await.map_err(|e| e.to_string())?.into_iter().collect();
    if !tables.contains_key("LiteLLM_VerificationToken") {
        return Err(
            "this database has no table LiteLLM_VerificationToken, so it is not LiteLLM's; where its tables are \
                    in another schema than public, add ?schema=NAME to the URL"
                .to_owned(),
        );
    }
    let mut rows: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for (table, key) in READ {
        if tables.contains_key(table) {
            rows.insert(table, all(from, table, key).await?);
        }
    }
    let (mut notes, mut survey) = (Notes::default(), sealed::Survey::default());
    sealed::survey(&rows, opener, &mut survey);
    let mut stored = models::read(&rows, opener, &mut notes, &mut survey);
    stored.extend(mcp::read(&rows, opener, &mut notes, &mut survey));
    let brought = tables::records(&rows, now, zone, &mut notes);
    let renewed = tables::renewed(rows.get("LiteLLM_DeprecatedVerificationToken").map_or(&[], Vec::as_slice));
    Ok(Found { brought, stored, notes, sealed: survey, tables, renewed, with_calls })
}

async fn all(from: &Foreign, table: &str, key: &str) -> Result<Vec<Row>, String> {
    let told = |e: crate::store::Fault| format!("{table}: {e}");
    if key.is_empty() {
        let sql = format!("SELECT CAST(row_to_json(t) AS TEXT) FROM \"{table}\" AS t");
        return from.read(&sql, &[]).await.map_err(told);
    }
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().and_then(|row| row.get(key)).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let part = from.rows(table, key, after.as_deref(), PART).await.map_err(told)?;
        let is_last = (part.len() as i64) < PART;
        rows.extend(part);
        if is_last {
            return Ok(rows);
        }
    }
}

/// Writes it into the store, with the sums of days, and with single calls where they are wanted; `tell` hears how many of
/// them are done.
///
/// # Errors
/// A text for the operator: one of the two databases does not answer, or there is no key to seal with.
pub async fn write(
    found: &mut Found,
    from: &Foreign,
    (to, seals): (&Store, &Seals),
    now: i64,
    tell: impl Fn(&calls::Copied),
) -> Result<String, String> {
    found.brought.configured = found.sealed_anew(seals, now)?;
    let done = to.bring(&found.brought, now).await.map_err(|e| e.to_string())?;
    let offered = found.counts();
    let mut text = String::from("imported:\n");
    for (copied, (name, offered)) in done.iter().zip(offered) {
        let there = offered.saturating_sub(usize::try_from(copied.rows).unwrap_or(offered));
        let _ = write!(text, "{:>9}  {name}", copied.rows);
        text.push_str(&if there > 0 { format!(" ({there} were there already)\n") } else { "\n".to_owned() });
    }
    let (read, written) = days::copy(from, to, &found.tables).await?;
    let _ = write!(text, "{written:>9}  sums of days");
    text.push_str(&if read > written {
        format!(" ({} were there already)\n", read - written)
    } else {
        "\n".to_owned()
    });
    if found.with_calls && found.tables.contains_key(calls::TABLE) {
        let calls::Copied { read, written, odd } = calls::copy(from, to, &found.renewed, tell).await?;
        let _ = write!(text, "{written:>9}  single calls");
        let there = read.saturating_sub(written).saturating_sub(odd);
        text.push_str(&if there > 0 { format!(" ({there} were there already)\n") } else { "\n".to_owned() });
        if odd > 0 {
            let _ = writeln!(text, "{odd:>9}  single calls without a time or an id are left out");
        }
    }
    Ok(text)
}

impl Found {
    /// In the order in which the store tells of them.
    fn counts(&self) -> [(&'static str, usize); 12] {
        let brought = &self.brought;
        [
            ("budgets", brought.budgets.len()),
            ("organizations", brought.organizations.len()),
            ("users", brought.users.len()),
            ("teams", brought.teams.len()),
            ("members of teams", brought.members.len()),
            ("customers", brought.customers.len()),
            ("tags", brought.tags.len()),
            ("access groups", brought.access_groups.len()),
            ("keys", brought.keys.len()),
            ("old keys in their grace period", brought.graces.len()),
            ("models, credentials and servers of tools", self.stored.len()),
            ("amounts that were spent", brought.spent.len()),
        ]
    }

    fn sealed_anew(&self, seals: &Seals, now: i64) -> Result<Vec<Configured>, String> {
        let seal = |one: &Unsealed| {
            let body = seals.seal(&one.value.to_string(), &format!("{}/{}", one.kind, one.id))?;
            let updated_by = Some(tables::BY.to_owned());
            Ok(Configured { kind: one.kind.to_owned(), id: one.id.clone(), body, updated_at: now, updated_by })
        };
        self.stored.iter().map(seal).collect()
    }

    /// What would be imported.
    pub fn plan(&self) -> String {
        let mut text = String::from("would be imported:\n");
        for (name, count) in self.counts() {
            let _ = writeln!(text, "{count:>9}  {name}");
        }
        for one in &self.stored {
            let _ = writeln!(text, "           {} '{}'", one.kind, one.called());
        }
        let days: i64 = days::TABLES.iter().filter_map(|table| self.tables.get(table.name)).sum();
        let _ = writeln!(text, "{days:>9}  rows of LiteLLM's sums of days");
        if self.with_calls {
            let calls = self.tables.get(calls::TABLE).copied().unwrap_or(0);
            let _ = writeln!(text, "{calls:>9}  single calls, without prompts and answers");
        }
        text
    }

    /// What is not carried over, and why.
    pub fn left(&self) -> String {
        let mut text = String::new();
        let is_read = |table: &str| {
            READ.iter().any(|(name, _)| *name == table) || days::TABLES.iter().any(|known| known.name == table)
        };
        let is_wanted = |table: &str| self.with_calls && table == calls::TABLE;
        for (table, count) in self.tables.iter().filter(|(table, count)| **count > 0 && !is_wanted(table)) {
            let why = LEFT.iter().find(|(name, _)| name == table).map(|(_, why)| *why);
            if why.is_some() || !is_read(table) {
                let _ = writeln!(text, "{count:>9}  {table}: {}", why.unwrap_or("not known here"));
            }
        }
        for note in self.notes.0.iter().take(SHOWN) {
            let _ = writeln!(text, "           {note}");
        }
        if self.notes.0.len() > SHOWN {
            let _ = writeln!(text, "           and {} more like these", self.notes.0.len() - SHOWN);
        }
        if !text.is_empty() {
            text.insert_str(0, "not carried over:\n");
        }
        text + &self.sealed.told()
    }
}
