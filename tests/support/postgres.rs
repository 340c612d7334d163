//! A Postgres of one test: made in its own directory, reached by a unix socket, gone with the test.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    /// Postgres does not run as root.
    user: Option<(u32, u32)>,
    /// Where it listens on 127.0.0.1.
    port: Option<u16>,
}

impl Postgres {
    /// A running server that lets everybody in; none where it is not installed.
    pub fn start() -> Option<Self> {
        Self::with("gateway", "trust", None)
    }

    /// A running server whose only role is let in by this method, with this password.
    pub fn with(role: &str, method: &str, password: Option<&str>) -> Option<Self> {
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
        let server = Postgres { bin, dir, user, port: None };
        let mut made = vec!["-U", role, "-A", method, "-N", "-E", "UTF8", "--locale=C", "-D", "data"];
        if let Some(password) = password {
            std::fs::write(server.dir.path().join("password"), password).unwrap();
            made.push("--pwfile=password");
        }
        server.tool("initdb", &made);
        server.up();
        Some(server)
    }

    /// A running server on 127.0.0.1 too, where it speaks TLS alone, with this certificate and its key.
    pub fn over_tls(certificate: &str, key: &str) -> Option<Self> {
        let mut server = Self::start()?;
        server.tool("pg_ctl", &["-w", "-s", "-D", "data", "-m", "immediate", "stop"]);
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = server.dir.path().join("data").join(to);
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = server.user {
                chown(&to, Some(uid), Some(gid)).unwrap();
            }
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(server.dir.path().join("data/pg_hba.conf"), rules).unwrap();
        // Free a moment ago; another one would have to take it just now.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.port = Some(free.local_addr().unwrap().port());
        drop(free);
        server.up();
        Some(server)
    }

    /// What follows `postgresql://gateway@HOST:` for this server.
    pub fn port(&self) -> u16 {
        self.port.expect("a server over TLS")
    }

    pub fn up(&self) {
        let tcp = self.port.map_or_else(String::new, |port| format!("127.0.0.1 -p {port} -c ssl=on"));
        let options = format!("-c listen_addresses={tcp} -k {} -c fsync=off", self.dir.path().display());
        let start = ["-w", "-s", "-D", "data", "-o", options.as_str(), "-l", "log", "start"];
        // What was killed is a process, to whoever looks for it by its number, until somebody has waited for it.
        let end = Instant::now() + super::feed::PATIENCE;
        while !self.does("pg_ctl", &start) {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "Postgres does not start:\n{log}");
            super::feed::pass(Duration::from_millis(50));
        }
    }

    pub fn down(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-D", "data", "-m", "immediate", "stop"]);
    }

    pub fn restart(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-D", "data", "-m", "fast", "-l", "log", "restart"]);
    }

    /// `kill -9`, of all its processes.
    pub fn kill(&self) {
        let all = self.processes();
        signal("KILL", &all);
        while all.iter().any(|pid| is_alive(*pid)) {
            super::feed::pass(Duration::from_millis(5));
        }
    }

    /// It hangs: connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        signal("STOP", &self.processes());
    }

    pub fn thaw(&self) {
        signal("CONT", &self.processes());
    }

    /// Carries statements out.
    pub fn sql(&self, text: &str) {
        std::fs::write(self.dir.path().join("script.sql"), text).unwrap();
        let host = self.dir.path().display().to_string();
        let stop = "ON_ERROR_STOP=1";
        self.tool(
            "psql",
            &["-q", "-X", "-v", stop, "-h", &host, "-U", "gateway", "-d", "postgres", "-f", "script.sql"],
        );
    }

    pub fn url(&self) -> String {
        self.url_of("gateway")
    }

    /// With this before the `@`.
    pub fn url_of(&self, who: &str) -> String {
        format!("postgresql://{who}@/postgres?host={}", self.dir.path().display())
    }

    /// The first process and its children.
    fn processes(&self) -> Vec<u32> {
        let file = std::fs::read_to_string(self.dir.path().join("data/postmaster.pid")).unwrap();
        let first: u32 = file.lines().next().unwrap().trim().parse().unwrap();
        let parent = |pid: u32| -> Option<u32> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        std::iter::once(first).chain(all.filter(|pid| parent(*pid) == Some(first))).collect()
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        assert!(self.does(name, arguments), "{name} {arguments:?}");
    }

    fn does(&self, name: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(self.bin.join(name));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let command = command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.status().unwrap().success()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        // It may be down already, or hang.
        if self.dir.path().join("data/postmaster.pid").exists() {
            self.thaw();
        }
        let command = command.args(["-s", "-D", "data", "-m", "immediate", "stop"]).current_dir(self.dir.path());
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// One may have ended by itself.
fn signal(name: &str, pids: &[u32]) {
    for pid in pids {
        let _ = Command::new("/bin/sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status();
    }
}

/// One that has ended and was not waited for is not.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn account() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let found = ["postgres", "nobody"].iter().find_map(|name| {
        let mut fields = passwd.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    found.expect("a user other than root")
}
