//! Keys, users, teams and budgets of the configuration: from what was written to the store's own records.
//!
//! What a field may hold is said in [`crate::http::admin::fields`], for requests and for this file alike.

use super::file::{self, File};
use super::{Mode, look_up};
use crate::auth::remembered::hex;
use crate::auth::{digest, hint};
use crate::http::admin::{fields, mode_of_key, role_of_user, routes_of_type};
use crate::pattern::nearest;
use crate::secret::Secrets;
use crate::store::{Budget, Declared, Key, Member, Team, User};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Who made these records.
const BY: &str = "configuration";
/// Names and ids are shorter.
const MOST_NAME: usize = 128;
/// A text that is shorter is guessed, one that is longer no header carries.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=512;

/// What is needed beside the file.
pub(super) struct Context<'a> {
    pub secrets: &'a Secrets,
    pub mode: Mode,
    pub master_key: Option<&'a SecretString>,
    /// Now, in microseconds.
    pub at: i64,
}

/// Reads what the file declares; what is wrong is added to `errors`.
pub(super) fn resolve(
    file: &File,
    context: &Context<'_>,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Declared {
    let mut reading = Reading { file, context, errors, warnings };
    let budgets = reading.all("budgets", &file.budgets, |_, name, budget| Ok(Budget { id: name.to_owned(), ..budget }));
    let users = reading.all("users", &file.users, |reading, name, user: User| {
        reading.declares_budget(&user.budget_id)?;
        role_of_user(&user).map_err(|e| told(&e))?;
        Ok(User { id: name.to_owned(), ..user })
    });
    let teams = reading.all("teams", &file.teams, |reading, name, team: Team| {
        reading.declares_budget(&team.budget_id)?;
        reading.declares_budget(&team.member_budget_id)?;
        let alias = team.alias.or_else(|| Some(name.to_owned()));
        Ok(Team { id: name.to_owned(), alias, ..team })
    });
    let mut members = Vec::new();
    for (name, team) in &file.teams {
        for (place, written) in team.members_with_roles.iter().enumerate() {
            match reading.member(name, written) {
                Ok(member) if members.iter().any(|m: &Member| m.team_id == *name && m.user_id == member.user_id) => {
                    reading.wrong(&format!("teams.{name}.members_with_roles[{place}]"), "this user is there already");
                }
                Ok(member) => members.push(member),
                Err(e) => reading.wrong(&format!("teams.{name}.members_with_roles[{place}]"), &e),
            }
        }
    }
    let keys = reading.keys();
    Declared::new(keys, users, teams, members, budgets)
}

struct Reading<'a> {
    file: &'a File,
    context: &'a Context<'a>,
    errors: &'a mut Vec<String>,
    warnings: &'a mut Vec<String>,
}

/// A record as the store has it, from what was written.
fn record<T: fields::Fields>(mut record: T, written: &impl serde::Serialize, handled: &[&str]) -> Result<T, String> {
    let members: Map<String, Value> = match serde_json::to_value(written) {
        Ok(Value::Object(members)) => members,
        Ok(_) => Map::new(),
        Err(e) => return Err(e.to_string()),
    };
    fields::apply(&mut record, &members, handled).map_err(|e| told(&e))?;
    Ok(record)
}

/// What a caller would be told, with the field that it is about.
pub(super) fn told(error: &crate::error::Error) -> String {
    let text = error.to_string();
    match error.param().filter(|field| !text.contains(*field)) {
        Some(field) => format!("{field}: {text}"),
        None => text,
    }
}

/// A record with the marks of its making.
trait Marked {
    fn marked(at: i64) -> Self;
}

macro_rules! marked {
    ($($Name:ident),*) => {
        $(impl Marked for $Name {
            fn marked(at: i64) -> Self {
                let by = Some(BY.to_owned());
                $Name { created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..$Name::default() }
            }
        })*
    };
}
marked!(Key, User, Team, Budget);

impl Reading<'_> {
    fn wrong(&mut self, place: &str, what: &str) {
        self.errors.push(format!("{place}: {what}"));
    }

    /// All tables of one kind.
    fn all<W: serde::Serialize, T: Marked + fields::Fields>(
        &mut self,
        kind: &str,
        tables: &BTreeMap<String, W>,
        finish: impl Fn(&mut Self, &str, T) -> Result<T, String>,
    ) -> Vec<T> {
        let mut records = Vec::new();
        for (name, written) in tables {
            let read = named(name).and_then(|()| record(T::marked(self.context.at), written, &["members_with_roles"]));
            match read.and_then(|record| finish(self, name, record)) {
                Ok(record) => records.push(record),
                Err(e) => self.wrong(&format!("{kind}.{name}"), &e),
            }
        }
        records
    }

    fn member(&self, team: &str, written: &file::Member) -> Result<Member, String> {
        let user = written.user_id.as_ref().ok_or("user_id is missing: which user is it?")?;
        self.declares("user_id", "users", user, &self.file.users)?;
        let role = written.role.as_deref().unwrap_or("user");
        if !matches!(role, "admin" | "user") {
            return Err("role is `admin` or `user`".to_owned());
        }
        let member = record(Member::default(), written, &["user_id", "role", "models"])?;
        self.declares_budget(&member.budget_id)?;
        Ok(Member {
            team_id: team.to_owned(),
            user_id: user.clone(),
            role: role.to_owned(),
            models: written.models.clone(),
            created_at: self.context.at,
            ..member
        })
    }

    /// A limit that does not exist limits nobody: what a declaration names has to be declared.
    fn declares<T>(&self, field: &str, kind: &str, name: &str, known: &BTreeMap<String, T>) -> Result<(), String> {
        if known.contains_key(name) {
            return Ok(());
        }
        let near = nearest(name, known.keys().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Err(format!("{field}: there is no [{kind}.{}]{near}", crate::envelope::shorten(name)))
    }

    fn declares_budget(&self, id: &Option<String>) -> Result<(), String> {
        id.as_ref().map_or(Ok(()), |id| self.declares("budget_id", "budgets", id, &self.file.budgets))
    }

    fn keys(&mut self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        let (mut by_hash, mut by_alias) = (HashMap::new(), HashMap::new());
        for (name, written) in &self.file.keys {
            match named(name).and_then(|()| self.key(name, written)) {
                Ok(key) => {
                    if let Some(other) = by_hash.insert(key.hash.clone(), name) {
                        self.wrong(&format!("keys.{name}"), &format!("it is the same key as keys.{other}"));
                    }
                    let alias = key.alias.clone().unwrap_or_default();
                    if let Some(other) = by_alias.insert(alias, name) {
                        self.wrong(&format!("keys.{name}"), &format!("it has the alias of keys.{other}"));
                    }
                    keys.push(key);
                }
                Err(e) => self.wrong(&format!("keys.{name}"), &e),
            }
        }
        keys
    }

    fn key(&mut self, name: &str, written: &file::Key) -> Result<Key, String> {
        let (hash, hint) = self.hash(name, written)?;
        let mut key: Key = record(Key::marked(self.context.at), written, &["key", "hash"])?;
        routes_of_type(&mut key).and_then(|()| mode_of_key(&key)).map_err(|e| told(&e))?;
        if let Some(team) = &key.team_id {
            self.declares("team_id", "teams", team, &self.file.teams)?;
        }
        self.declares_budget(&key.budget_id)?;
        // A user may be known by his name alone, and be in the database.
        if let Some(Err(e)) = key.user_id.as_ref().map(|id| self.declares("user_id", "users", id, &self.file.users)) {
            self.warnings.push(format!("keys.{name}.{e}; what the database says of this user counts"));
        }
        // What it has spent stays with its name when its text changes.
        Ok(Key { id: format!("keys.{name}"), hash, hint, alias: key.alias.or_else(|| Some(name.to_owned())), ..key })
    }

    /// The hash of a key's text, and what may be shown of it.
    fn hash(&self, name: &str, written: &file::Key) -> Result<(String, Option<String>), String> {
        let text = match (&written.key, &written.hash) {
            (Some(text), None) => text,
            (None, Some(hash)) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
                let hash = hash.to_ascii_lowercase();
                if self.context.master_key.is_some_and(|key| hex(&digest(key.expose_secret().as_bytes())) == hash) {
                    return Err("this is the hash of the master key; make another one".to_owned());
                }
                return Ok((hash, None));
            }
            (None, Some(_)) => return Err("hash: it is not the SHA-256 of a key, 64 hexadecimal digits".to_owned()),
            (Some(_), Some(_)) => return Err("it has both key and hash; leave one of them out".to_owned()),
            (None, None) => return Err("it has neither key nor hash; write key = \"env:NAME\"".to_owned()),
        };
        if self.context.mode == Mode::Offline && text.reference().is_some() {
            // Stands for a key that is not known here, and is another one for another reference.
            return Ok((hex(&digest(text.0.as_bytes())), None));
        }
        let secret = look_up(text, self.context.secrets).ok_or_else(|| match text.reference() {
            Some(variable) => {
                format!("key: the variable {variable} is not set in the env file or the environment; set it")
            }
            None => format!("key: it is empty; write key = \"env:NAME\", or take keys.{name} out"),
        })?;
        let bytes = secret.expose_secret().as_bytes();
        if !KEY_LENGTH.contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(format!(
                "key: a key has {} to {} letters, digits and signs, and no blanks",
                KEY_LENGTH.start(),
                KEY_LENGTH.end()
            ));
        }
        let hash = digest(bytes);
        if self.context.master_key.is_some_and(|key| digest(key.expose_secret().as_bytes()) == hash) {
            return Err("key: this is the master key; make another one".to_owned());
        }
        Ok((hex(&hash), Some(hint(bytes))))
    }
}

fn named(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MOST_NAME || name.chars().any(char::is_control) {
        return Err(format!("a name has 1 to {MOST_NAME} letters, digits and signs"));
    }
    Ok(())
}
