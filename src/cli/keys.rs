//! `gateway key`: keys from the shell, in the store itself, whether a gateway runs or not. One that runs hears of it
//! within a second.

use super::place::{BY, Place, said, with_store};
use crate::auth::remembered::hex;
use crate::auth::{digest, hint};
use crate::database;
use crate::http::admin::times;
use crate::http::admin::{hash_of, new_text};
use crate::store::{Entity, Key, KeyFilter, Kind, Page, Store, Team};
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    act: Act,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
enum Act {
    /// Make a key; its text is printed this once
    Create(Create),
    /// List the keys
    List,
    /// Show a key
    Info(Named),
    /// Delete a key: it is refused from now on
    Revoke(Named),
    /// Give a key another text, which is printed
    Rotate(Rotate),
}

#[derive(Args)]
struct Create {
    /// A name for the key
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// A model that it may use; more than once for several [default: all]
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Whose key it is
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The team that it is for
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// How much may be spent with it, in dollars
    #[arg(long, value_name = "USD")]
    max_budget: Option<f64>,
    /// After which time it starts again from nothing, such as 30d
    #[arg(long, value_name = "DURATION")]
    budget_duration: Option<String>,
    /// How long it is good for, such as 30d [default: for ever]
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
}

#[derive(Args)]
struct Named {
    /// The key's alias, its hash, or `-` for its text on standard input
    key: String,
}

#[derive(Args)]
struct Rotate {
    #[command(flatten)]
    named: Named,
    /// How long the old text goes on, such as 1h [default: not at all]
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
}

/// Carries the command out.
///
/// # Errors
/// A text for the operator: no store, no such key, a value that cannot be.
pub fn run(args: Keys) -> Result<String, String> {
    with_store(args.place, async |store| act(&store, args.act).await)
}

async fn act(store: &Store, act: Act) -> Result<String, String> {
    match act {
        Act::Create(asked) => create(store, asked).await,
        Act::List => list(store).await,
        Act::Info(named) => {
            let key = find(store, &named).await?;
            let spent = store.totals(&[Entity::of(Kind::Key, &key.id)]).await.map_err(said)?;
            let spent = spent.first().map_or(0, crate::store::Total::spent);
            let row = crate::http::admin::key_row(&key, spent, store.is_locked::<Key>(&key.id));
            serde_json::to_string_pretty(&row).map(|text| text + "\n").map_err(said)
        }
        Act::Revoke(named) => {
            let key = find(store, &named).await?;
            let hashes = std::slice::from_ref(&key.hash);
            store.delete_keys(hashes, &[], Some(BY), database::now()).await.map_err(said)?;
            Ok(format!("{} is revoked\n", shown(&key)))
        }
        Act::Rotate(asked) => {
            let key = find(store, &asked.named).await?;
            let (secret, at) = (new_text(), database::now());
            let grace = asked.grace.as_deref().map(|span| after(at, "--grace", span)).transpose()?;
            let hash = hex(&digest(secret.as_bytes()));
            let hint = hint(secret.as_bytes());
            let change = |key: &mut Key| {
                (key.hint, key.updated_by) = (Some(hint), Some(BY.to_owned()));
                Ok(())
            };
            store.regenerate_key(&key.hash, &hash, at, grace, change).await.map_err(said)?;
            Ok(secret + "\n")
        }
    }
}

fn after(at: i64, option: &str, span: &str) -> Result<i64, String> {
    times::after(at, span).map_err(|e| format!("{option}: {e}"))
}

async fn create(store: &Store, asked: Create) -> Result<String, String> {
    let (secret, at) = (new_text(), database::now());
    let hash = hex(&digest(secret.as_bytes()));
    let max_budget_nanos = match asked.max_budget {
        Some(usd) if (0.0..=1e9).contains(&usd) => Some((usd * 1e9).round() as i64),
        Some(_) => return Err("--max-budget: it is an amount of dollars from 0 to 1e9".to_owned()),
        None => None,
    };
    if let Some(span) = &asked.budget_duration {
        after(at, "--budget-duration", span)?;
    }
    if let Some(team) = &asked.team
        && store.get::<Team>(team).await.map_err(said)?.is_none()
    {
        return Err(format!("--team: there is no team '{team}'"));
    }
    let key = Key {
        id: hash.clone(),
        hash,
        hint: Some(hint(secret.as_bytes())),
        alias: asked.alias,
        user_id: asked.user,
        team_id: asked.team,
        models: asked.models,
        max_budget_nanos,
        budget_duration: asked.budget_duration,
        expires_at: asked.duration.as_deref().map(|span| after(at, "--duration", span)).transpose()?,
        created_at: at,
        created_by: Some(BY.to_owned()),
        updated_at: at,
        updated_by: Some(BY.to_owned()),
        ..Key::default()
    };
    store.create_key(&key).await.map_err(said)?;
    Ok(secret + "\n")
}

/// One line a key: hash, hint, alias, user, team, and its end, or that it is blocked or locked.
async fn list(store: &Store) -> Result<String, String> {
    let mut text = String::new();
    let mut page = Page { limit: 1000, ..Page::default() };
    loop {
        let found = store.list_keys(&KeyFilter::default(), &page).await.map_err(said)?;
        for key in &found.rows {
            let or = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".to_owned());
            let end = match (key.blocked, key.expires_at) {
                (true, _) => "blocked".to_owned(),
                (false, Some(at)) => times::iso(at),
                (false, None) if store.is_locked::<Key>(&key.id) => "locked".to_owned(),
                (false, None) => "-".to_owned(),
            };
            let cells = [key.hash.clone(), or(&key.hint), or(&key.alias), or(&key.user_id), or(&key.team_id), end];
            text.push_str(&(cells.join("\t") + "\n"));
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(text),
        }
    }
}

async fn find(store: &Store, named: &Named) -> Result<Key, String> {
    let mut name = named.key.clone();
    if name == "-" {
        name.clear();
        std::io::stdin().read_line(&mut name).map_err(|e| format!("standard input: {e}"))?;
    }
    let name = name.trim();
    let by_hash = store.key_by_hash(&hash_of(name), database::now()).await.map_err(said)?;
    if let Some(key) = by_hash {
        return Ok(key);
    }
    let filter = KeyFilter { alias: Some(name.to_owned()), ..KeyFilter::default() };
    let found = store.list_keys(&filter, &Page::default()).await.map_err(said)?;
    let shown = if name.starts_with("sk-") { hint(name.as_bytes()) } else { name.to_owned() };
    found.rows.into_iter().next().ok_or_else(|| format!("there is no key '{shown}'; `gateway key list` shows them"))
}

fn shown(key: &Key) -> &str {
    key.alias.as_deref().or(key.hint.as_deref()).unwrap_or(&key.hash)
}
