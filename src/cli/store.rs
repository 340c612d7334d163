//! `gateway migrate` and `gateway store copy`: the database itself, whether a gateway runs or not.

use super::{Files, of_machine};
use crate::config::store::FILE;
use crate::config::{Mode, load};
use crate::database;
use crate::limits::share;
use crate::secret::{Secrets, Written};
use crate::store::{Configured, Store, read_url};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Migrate {
    #[command(flatten)]
    files: Files,
    /// The state directory of the gateway, where its embedded store is
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Act {
    /// Copy everything into an empty store: from SQLite to Postgres, or back. No gateway may run on either meanwhile
    Copy(Copy),
    /// Write the embedded store into a new file, while a gateway runs on it; for Postgres there is pg_dump
    Backup(Backup),
    /// Give back what a gateway that does not come back has set aside in budgets that several gateways share
    Release(Release),
    /// Seal stored models and credentials with the key that is in force; GATEWAY_SEAL_KEY_OLD opens what another sealed
    Reseal(Migrate),
}

#[derive(Args)]
pub struct Release {
    /// The gateway, by its id; without it those that have set something aside are listed
    node: Option<String>,
    #[command(flatten)]
    files: Files,
    /// The state directory of the gateway, where its embedded store is
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct Backup {
    /// The file to be made
    file: PathBuf,
    #[command(flatten)]
    files: Files,
    /// The state directory of the gateway, where its embedded store is
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct Copy {
    /// gateway.db or the directory it is in, a Postgres URL, or env:NAME of one
    from: String,
    /// The same; it is made if it is a file
    to: String,
    /// File of NAME=value lines in which env:NAME is looked up
    #[arg(long, value_name = "FILE", env = "GATEWAY_ENV_FILE")]
    env_file: Option<PathBuf>,
}

/// Brings the tables up to date; says what they were and are.
///
/// # Errors
/// A text for the operator: there is no database, or its schema is of another major version.
pub fn migrate(args: Migrate) -> Result<String, String> {
    let config = load(&of_machine(args.files, args.state_dir), Mode::Live)?;
    super::place::may_write(&config)?;
    on_runtime(async {
        let store = database::open(&config, tokio::runtime::Handle::current())?;
        let before = store.health().await.ok().map(|health| health.schema.version);
        let schema = store.migrate(database::now()).await.map_err(|e| e.to_string())?;
        let name = store.engine().name();
        let (major, version) = (schema.major, schema.version);
        Ok(match before {
            Some(before) if before == version && version > schema.known => format!(
                "the store ({name}) has the schema {major}.{version}, newer than this gateway's ({major}.{}), which runs on it; nothing to do\n",
                schema.known
            ),
            Some(before) if before == version => {
                format!("the store ({name}) has the schema {major}.{version}; nothing to do\n")
            }
            Some(before) => {
                format!("the store ({name}) was at {major}.{before} and has the schema {major}.{version} now\n")
            }
            None => format!("the store ({name}) has the schema {major}.{version} now\n"),
        })
    })
}

/// Carries the command out.
///
/// # Errors
/// A text for the operator: a store cannot be reached, or the one to copy into is not empty.
pub fn run(act: Act) -> Result<String, String> {
    match act {
        Act::Copy(args) => copy(args),
        Act::Backup(args) => back_up(args),
        Act::Release(args) => release(args),
        Act::Reseal(args) => reseal(args),
    }
}

/// A gateway whose spool is lost can no longer say what became of its calls.
fn release(args: Release) -> Result<String, String> {
    let config = load(&of_machine(args.files, args.state_dir), Mode::Live)?;
    on_runtime(async {
        let store = database::open(&config, tokio::runtime::Handle::current())?;
        let now = database::now();
        let text = |e: crate::store::Fault| e.to_string();
        let held = store.reserved_by_node().await.map_err(text)?;
        let live = store.live_nodes(now - share::GONE).await.map_err(text)?;
        let is_live = |id: &str| live.iter().any(|node| node.id == id);
        let Some(id) = args.node else {
            let line = |(id, many): &(String, i64)| {
                format!("{id}  {many} set aside{}\n", if is_live(id) { "; it lives" } else { "" })
            };
            let lines: String = held.iter().map(line).collect();
            return Ok(if lines.is_empty() { "no gateway has set anything aside\n".to_owned() } else { lines });
        };
        if is_live(&id) {
            return Err(format!(
                "the gateway {id} lives, and gives back by itself what it has set aside; stop it first"
            ));
        }
        if !held.iter().any(|(other, _)| *other == id) {
            return Err(format!(
                "no gateway {id} has set anything aside; `gateway store release` lists those that have"
            ));
        }
        let many = store.release(&id, now).await.map_err(text)?;
        Ok(format!("{many} set aside by {id} are given back\n"))
    })
}

/// Everything that was sealed is sealed anew; what cannot be opened is named, and stays.
fn reseal(args: Migrate) -> Result<String, String> {
    let config = load(&of_machine(args.files, args.state_dir), Mode::Live)?;
    super::place::may_write(&config)?;
    on_runtime(async {
        let store = database::open(&config, tokio::runtime::Handle::current())?;
        let rows = store.configured().await.map_err(|e| e.to_string())?;
        let (mut done, mut lost) = (0, Vec::new());
        for row in rows.into_iter().filter(|row| !config.seals.is_fresh(&row.body)) {
            let about = format!("{}/{}", row.kind, row.id);
            match config.seals.open(&row.body, &about).and_then(|text| config.seals.seal(&text, &about)) {
                Ok(body) => {
                    let row = Configured { body, updated_at: database::now(), ..row };
                    store.configure(&row).await.map_err(|e| e.to_string())?;
                    done += 1;
                }
                Err(why) => lost.push(format!("{about}: {why}")),
            }
        }
        match lost.is_empty() {
            true => Ok(format!("{done} sealed anew\n")),
            false => Err(format!("{done} sealed anew; these are not:\n{}", lost.join("\n"))),
        }
    })
}

fn back_up(args: Backup) -> Result<String, String> {
    let config = load(&of_machine(args.files, args.state_dir), Mode::Live)?;
    let source = config.state_dir.join(FILE);
    if config.store.postgres.is_none() && !source.exists() {
        return Err(format!("{}: there is no store in this file", source.display()));
    }
    let file = args.file.to_str().ok_or("the name of the file is not UTF-8")?;
    // Nobody else reads it: it holds what the store holds.
    make_private(&args.file)?;
    on_runtime(async {
        let store = database::open(&config, tokio::runtime::Handle::current())?;
        let done = store.back_up(file).await;
        done.inspect_err(|_| drop(std::fs::remove_file(&args.file))).map_err(|e| e.to_string())
    })?;
    let size = std::fs::metadata(&args.file).map_or(0, |about| about.len());
    Ok(format!("{file}: {size} bytes\n"))
}

/// An empty file, which SQLite fills.
fn make_private(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    made.map(drop).map_err(|e| format!("{}: {e}", path.display()))
}

fn copy(args: Copy) -> Result<String, String> {
    let secrets = Secrets::load(args.env_file.as_deref())?;
    let (from, to) = (Place::read(&args.from, &secrets)?, Place::read(&args.to, &secrets)?);
    if let Place::File(path) = &from
        && !path.exists()
    {
        return Err(format!("{}: there is no store in this file", path.display()));
    }
    on_runtime(async {
        let (source, target) = (from.open()?, to.open()?);
        let about = |which: &str| {
            let which = which.to_owned();
            move |e: crate::store::Fault| format!("the store to copy {which}: {e}")
        };
        // An older one is brought up to date: its copy would lack what was added since.
        source.health().await.map_err(about("from"))?;
        source.migrate(database::now()).await.map_err(about("from"))?;
        target.migrate(database::now()).await.map_err(about("into"))?;
        let copied = source.copy_into(&target).await.map_err(|e| e.to_string())?;
        if let Place::File(path) = &to {
            give_to_owner(path)?;
        }
        let mut text = String::new();
        for part in copied {
            text.push_str(&format!("{:>10}  {}\n", part.rows, part.table));
        }
        text.push_str("all is copied; point database_url at it (or take it out, for the file) and start the gateway\n");
        Ok(text)
    })
}

pub(super) fn on_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| format!("no thread can be started: {e}"))?;
    runtime.block_on(work)
}

/// Where a store is.
enum Place {
    File(PathBuf),
    Postgres(SecretString),
}

impl Place {
    fn read(written: &str, secrets: &Secrets) -> Result<Place, String> {
        let url = url(written, secrets)?;
        let text = url.expose_secret();
        if text.starts_with("postgresql://") || text.starts_with("postgres://") {
            return Ok(Place::Postgres(url));
        }
        let path = Path::new(text);
        Ok(Place::File(if path.is_dir() { path.join(FILE) } else { path.to_owned() }))
    }

    fn open(&self) -> Result<Store, String> {
        match self {
            Place::File(path) => Store::sqlite(path),
            Place::Postgres(url) => {
                let address = read_url(url).map_err(|e| e.to_string().replacen("database_url", "the URL", 1))?;
                Store::postgres(&address, tokio::runtime::Handle::current())
            }
        }
        .map_err(|e| format!("the store cannot be opened: {e}"))
    }
}

/// What is written, or the secret that it refers to: everybody on this machine can read a command line.
pub(super) fn url(written: &str, secrets: &Secrets) -> Result<SecretString, String> {
    let written = Written(written.to_owned());
    match written.reference() {
        None => Ok(SecretString::from(written.0)),
        Some(name) => secrets
            .get(name)
            .ok_or_else(|| format!("the variable {name} is not set in the env file or the environment")),
    }
}

/// A file that root makes in the gateway's directory is the gateway's.
fn give_to_owner(path: &Path) -> Result<(), String> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(owner), Ok(file)) = (std::fs::metadata(directory), std::fs::metadata(path)) else { return Ok(()) };
    if owner.uid() == file.uid() {
        return Ok(());
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let name = PathBuf::from(name);
        if name.exists() {
            std::os::unix::fs::chown(&name, Some(owner.uid()), Some(owner.gid())).map_err(|e| {
                format!("{}: it cannot be given to the owner of {}: {e}", name.display(), directory.display())
            })?;
        }
    }
    Ok(())
}
