//! `gateway import`: from other gateways.

use super::{Files, print, sources};
use crate::config::{Mode, Sources, load};
use crate::database;
use crate::import::sealed::Opener;
use crate::import::{look, write};
use crate::secret::Secrets;
use crate::store::Foreign;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Import {
    /// Print a LiteLLM config.yaml as gateway.toml; what is not carried over goes to standard error
    Litellm { file: PathBuf },
    /// Import keys, people, budgets, what they spent, models, credentials and MCP servers from LiteLLM's database; without --apply it says what it would do
    LitellmDb(Database),
}

#[derive(Args)]
pub struct Database {
    /// LiteLLM's Postgres, or env:NAME of its URL; nothing is written to it
    url: String,
    /// Write into the store that the configuration names
    #[arg(long)]
    apply: bool,
    /// Import single calls too, as rows of the ledger; they count in no sum, since sums come over by themselves
    #[arg(long)]
    with_logs: bool,
    #[command(flatten)]
    files: Files,
    /// The state directory of the gateway, where its embedded store is
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub fn run(import: Import) -> Result<(), String> {
    match import {
        Import::Litellm { file } => configuration(&file),
        Import::LitellmDb(args) => from_database(args).and_then(|text| print(text.as_bytes())),
    }
}

fn configuration(file: &Path) -> Result<(), String> {
    let converted = crate::config::litellm::read(file)?;
    for note in &converted.notes {
        eprintln!("not carried over: {note}");
    }
    let text =
        toml::to_string_pretty(&converted.file).map_err(|e| format!("the result cannot be written as TOML: {e}"))?;
    print(text.as_bytes())
}

fn from_database(args: Database) -> Result<String, String> {
    let sources = Sources { state_dir: args.state_dir, ..sources(args.files).unwrap_or_default() };
    let config = load(&sources, Mode::Live)?;
    let secrets = Secrets::load(sources.env_file.as_deref())?;
    let url = super::store::url(&args.url, &secrets)?;
    let key =
        secrets.get("LITELLM_SALT_KEY").or_else(|| secrets.get("LITELLM_MASTER_KEY")).or(config.master_key.clone());
    if args.apply {
        super::place::may_write(&config)?;
    }
    super::store::on_runtime(async {
        let from = Foreign::new(&url, tokio::runtime::Handle::current())
            .map_err(|e| e.to_string().replacen("database_url", "the URL", 1))?;
        let now = database::now();
        let mut found = look(&from, &Opener::new(key), (now, &config.limits.zone), args.with_logs).await?;
        if !args.apply {
            return Ok(format!("{}{}nothing was written; add --apply to do it\n", found.plan(), found.left()));
        }
        let to = database::open(&config, tokio::runtime::Handle::current())?;
        to.migrate(now).await.map_err(|e| e.to_string())?;
        let done = write(&mut found, &from, (&to, &config.seals), now, tell).await?;
        Ok(format!("{done}{}", found.left()))
    })
}

/// Says now and then how far it is: millions of calls take their time.
fn tell(copied: &crate::import::calls::Copied) {
    if copied.read > 0 && copied.read.is_multiple_of(100_000) {
        eprintln!("{} single calls", copied.read);
    }
}
