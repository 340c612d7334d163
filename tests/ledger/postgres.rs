//! A private Postgres for one test, which may stop it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A running server, which ends with this.
pub struct Postgres {
    bin: PathBuf,
    home: TempDir,
    /// Postgres does not run as root.
    user: Option<(u32, u32)>,
}

impl Postgres {
    /// A new and empty server; none where it is not installed.
    pub fn start() -> Option<Self> {
        let debian = (15..=18).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let bin = debian.chain(path).find(|dir| dir.join("initdb").exists() && dir.join("pg_ctl").exists())?;
        let home = tempfile::Builder::new().prefix("gw-pg-").tempdir().unwrap();
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let user = is_root.then(account);
        if let Some((uid, gid)) = user {
            chown(home.path(), Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let postgres = Postgres { bin, home, user };
        postgres.run("initdb", &["-U", "gateway", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-D", "data"]);
        postgres.again();
        Some(postgres)
    }

    /// The line of a configuration.
    pub fn setting(&self) -> String {
        let host = self.home.path().display();
        format!("database_url = \"postgresql://gateway@/postgres?host={host}\"\n")
    }

    /// Starts it once more.
    pub fn again(&self) {
        let options = format!("-c listen_addresses= -k {} -c fsync=off", self.home.path().display());
        self.run("pg_ctl", &["-w", "-t", "60", "-s", "-D", "data", "-o", &options, "-l", "log", "start"]);
    }

    pub fn stop(&self) {
        self.run("pg_ctl", &["-w", "-s", "-m", "immediate", "-D", "data", "stop"]);
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(self.home.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) {
        assert!(self.command(name).args(arguments).status().unwrap().success(), "{name} {arguments:?}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.command("pg_ctl").args(["-s", "-m", "immediate", "-D", "data", "stop"]).status();
    }
}

fn account() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|l| l.starts_with("postgres:"))
        .or_else(|| passwd.lines().find(|l| l.starts_with("nobody:")));
    let mut ids = line.unwrap().split(':').skip(2).map(|id| id.parse().unwrap());
    (ids.next().unwrap(), ids.next().unwrap())
}
