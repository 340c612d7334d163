//! `gateway systemd-units`: the plan from the command line, the files to disk, and what to do with them.

use super::{Files, sources};
use crate::config::{Mode, declared, file, load};
use crate::systemd::units::{Plan, Unit, all};
use clap::Args;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[derive(Args)]
pub struct Units {
    /// Units for your own systemd (systemctl --user) in place of the machine's
    #[arg(long)]
    user: bool,
    /// Where to write them [default: /etc/systemd/system, with --user ~/.config/systemd/user]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The program that the units run [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Have the gateway end after so long without any connection, such as 10m (systemd 255)
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<file::Duration>,
    /// Write over files that are there and differ
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    files: Files,
}

/// The first systemd whose sockets can wait calmly for a gateway that ends by itself (`PollLimitIntervalSec=`).
const IDLE_NEEDS: u32 = 255;

/// Writes the units and says what comes next.
///
/// # Errors
/// A text for the operator: a file that is there and differs, a directory that cannot be written.
pub fn write(args: Units) -> Result<(), String> {
    if args.idle_timeout.is_some()
        && !args.force
        && let Some(version) = systemd_version().filter(|version| *version < IDLE_NEEDS)
    {
        return Err(format!(
            "--idle-timeout needs systemd {IDLE_NEEDS}, and this is {version}: it would refuse who comes while the gateway ends. Leave it out, or write units for another machine with --force"
        ));
    }
    let directory = match args.dir {
        Some(directory) => std::path::absolute(&directory).map_err(|e| format!("{}: {e}", directory.display()))?,
        None if args.user => home()?.join(".config/systemd/user"),
        None => PathBuf::from("/etc/systemd/system"),
    };
    let program = match args.program {
        Some(program) if program.is_absolute() => program,
        Some(program) => return Err(format!("--program {}: systemd wants the whole path", program.display())),
        None => std::env::current_exe()
            .map_err(|e| format!("the path of this program is not known ({e}); name it with --program"))?,
    };
    // What the file says now; a machine without one gets the default.
    let files = sources(args.files);
    let config = files.as_ref().and_then(|sources| load(sources, Mode::Offline).ok());
    let drain = config.map_or(Duration::from_secs(30), |config| config.server.drain);
    // Where the address of the database is, as a secret, is not looked at: that there is one is enough.
    let is_postgres = files.as_ref().and_then(|sources| declared(sources).ok()).is_some_and(|declared| {
        declared.database.is_some() || declared.references.iter().any(|reference| reference.place == "database_url")
    });
    if !args.user && ["/home", "/root", "/run/user"].iter().any(|hidden| program.starts_with(hidden)) {
        eprintln!(
            "warning: the units cannot see {} (ProtectHome=); copy the program to /usr/local/bin, and run this command from there",
            program.display()
        );
    }
    let plan = Plan { user: args.user, directory, program, idle_timeout: args.idle_timeout, drain, is_postgres };
    put_all(&plan.directory, &all(&plan), args.force)?;
    super::print(next_steps(&plan).as_bytes())
}

fn home() -> Result<PathBuf, String> {
    std::env::var_os("HOME").map(PathBuf::from).ok_or_else(|| "HOME is not set; name a directory with --dir".to_owned())
}

/// All of them, or none: a mixture of old and new would be hard to understand.
fn put_all(directory: &Path, files: &[Unit], force: bool) -> Result<(), String> {
    let differing: Vec<_> = files
        .iter()
        .filter(|file| std::fs::read_to_string(directory.join(file.name)).is_ok_and(|old| old != file.text))
        .map(|file| file.name)
        .collect();
    if !differing.is_empty() && !force {
        return Err(format!(
            "{} in {} is there already, and differs; keep changes of your own in a drop-in (systemctl edit), and write over the rest with --force",
            differing.join(", "),
            directory.display()
        ));
    }
    std::fs::create_dir_all(directory).map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    for file in files {
        let path = directory.join(file.name);
        put(&path, file).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(())
}

fn put(path: &Path, file: &Unit) -> std::io::Result<()> {
    let new = path.with_file_name(format!(".{}.new", file.name));
    std::fs::write(&new, &file.text)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(file.mode))?;
    std::fs::rename(new, path)
}

fn next_steps(plan: &Plan) -> String {
    let (settings, systemctl, user, files) = if plan.user {
        (
            "~/.config/gateway",
            "systemctl --user",
            "",
            " --config ~/.config/gateway/gateway.toml --env-file $XDG_RUNTIME_DIR/gateway-secrets/env",
        )
    } else {
        (
            "/etc/gateway",
            "systemctl",
            "  useradd --system --user-group --home-dir /var/lib/gateway --shell /usr/sbin/nologin gateway\n",
            "",
        )
    };
    format!(
        "Written to {}. Next:\n\n{user}  install -d {settings}            # gateway.toml goes there, and secrets.env:\n  install -m 0600 /dev/null {settings}/secrets.env   # NAME=value lines, such as GATEWAY_MASTER_KEY=sk-...\n  {systemctl} daemon-reload\n  {systemctl} enable --now gateway.socket\n\nThe first call starts the gateway. After a change of gateway.toml: {systemctl} restart gateway-config;\nafter a change of the secrets: {systemctl} restart gateway-secrets. What is wrong, and the cure: gateway doctor{files}\n",
        plan.directory.display()
    )
}

/// Of this machine, if it has one.
fn systemd_version() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
