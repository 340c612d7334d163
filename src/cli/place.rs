//! The store from the shell, whether a gateway runs or not. One that runs hears of a change within a second.

use super::store::on_runtime;
use super::{Files, of_machine};
use crate::config::store::FILE;
use crate::config::{Config, Mode, load};
use crate::database;
use crate::store::Store;
use clap::Args;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Who did it, in the records.
pub const BY: &str = "shell";

/// Where the store is.
#[derive(Args)]
pub struct Place {
    /// gateway.toml, or a LiteLLM config.yaml [default: ./gateway.toml, then /etc/gateway/gateway.toml]
    #[arg(short, long, value_name = "FILE", env = "GATEWAY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// File of NAME=value lines with the secrets that the configuration refers to
    #[arg(long, value_name = "FILE", env = "GATEWAY_ENV_FILE", global = true)]
    env_file: Option<PathBuf>,
    /// The state directory of the gateway, where its embedded store is
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

impl Place {
    /// The files, and the state directory where it is named.
    pub(super) fn split(self) -> (Files, Option<PathBuf>) {
        (Files { config: self.config, env_file: self.env_file }, self.state_dir)
    }
}

/// Opens the store, brings it up to date, and acts on it. What the configuration declares is seen, and locked.
///
/// # Errors
/// A text for the operator: there is no store, or what the action says.
pub fn with_store(place: Place, act: impl AsyncFnOnce(Store) -> Result<String, String>) -> Result<String, String> {
    let (files, state_dir) = place.split();
    let config = load(&of_machine(files, state_dir), Mode::Live)?;
    may_write(&config)?;
    on_runtime(async {
        let store = database::open(&config, tokio::runtime::Handle::current())?;
        store.declare(config.declared.clone());
        store.migrate(database::now()).await.map_err(said)?;
        act(store).await
    })
}

/// A file that root makes could not be written by the gateway.
pub(super) fn may_write(config: &Config) -> Result<(), String> {
    let me = std::fs::metadata("/proc/self").map(|about| about.uid());
    let owner = std::fs::metadata(&config.state_dir).map(|about| about.uid());
    let fresh = !config.state_dir.join(FILE).exists();
    match (me, owner) {
        (_, Err(e)) if config.store.postgres.is_none() => Err(format!(
            "{}: {e}; name the gateway's state directory with --state-dir, or start the gateway once",
            config.state_dir.display()
        )),
        (Ok(me), Ok(owner)) if config.store.postgres.is_none() && fresh && me != owner => Err(format!(
            "{} has no store yet, and belongs to another user; start the gateway once, or run this as its user",
            config.state_dir.display()
        )),
        _ => Ok(()),
    }
}

/// What went wrong, for the operator.
pub fn said(error: impl Display) -> String {
    error.to_string()
}
