//! A Postgres of one test: made in its own directory, reached by a unix socket, gone with the test.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    /// Postgres does not run as root.
    user: Option<(u32, u32)>,
}

impl Postgres {
    /// A running server; none where it is not installed.
    pub fn start() -> Option<Self> {
        let debian = (15..=18).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = debian.chain(std::env::split_paths(&path)).find(|dir| dir.join("initdb").exists());
        let Some(bin) = found else {
            eprintln!("SKIPPED: everything on Postgres: its server (initdb) is not installed (Debian: postgresql)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let user = is_root.then(account);
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let server = Postgres { bin, dir, user };
        server.tool("initdb", &["-U", "gateway", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-D", "data"]);
        server.up();
        Some(server)
    }

    pub fn up(&self) {
        let options = format!("-c listen_addresses= -k {} -c fsync=off", self.dir.path().display());
        self.tool("pg_ctl", &["-w", "-s", "-D", "data", "-o", &options, "-l", "log", "start"]);
    }

    pub fn down(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-D", "data", "-m", "immediate", "stop"]);
    }

    pub fn url(&self) -> String {
        format!("postgresql://gateway@/postgres?host={}", self.dir.path().display())
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(self.bin.join(name));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let command = command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "{name} {arguments:?}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        // It may be down already.
        let command = command.args(["-s", "-D", "data", "-m", "immediate", "stop"]).current_dir(self.dir.path());
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn account() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let found = ["postgres", "nobody"].iter().find_map(|name| {
        let mut fields = passwd.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    found.expect("a user other than root")
}
