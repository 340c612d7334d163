//! Stores for tests: a new file for SQLite, and for Postgres a new schema in a server of our own.
//!
//! One server serves the whole run, whether its tests are threads (`cargo test`) or processes (`cargo nextest`): the
//! first that needs it starts it, each holds a shared lock, and a shell that waits for an exclusive one stops it.

use crate::store::{Engine, Store, read_url};
use secrecy::SecretString;
use std::fs::{File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Makes of each function two tests, one on either engine.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn on_sqlite() {
                $crate::store::tests::engines::run($crate::store::Engine::Sqlite, super::$name);
            }

            #[test]
            fn on_postgres() {
                $crate::store::tests::engines::run($crate::store::Engine::Postgres, super::$name);
            }
        })*
    };
}
pub(crate) use on_both;

/// An empty, migrated store for one test.
pub fn run<F: Future<Output = ()>>(engine: Engine, test: impl FnOnce(Store) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let Some(store) = bare(engine, directory.path()).await else { return };
        store.migrate(super::NOW).await.unwrap();
        test(store).await;
    });
}

/// A store without tables; none where there is no Postgres.
pub async fn bare(engine: Engine, directory: &Path) -> Option<Store> {
    match engine {
        Engine::Sqlite => Some(Store::sqlite(&directory.join("gateway.db")).unwrap()),
        Engine::Postgres => {
            let address = read_url(&SecretString::from(schema_url(8)?)).unwrap();
            Some(Store::postgres(&address, tokio::runtime::Handle::current()).unwrap())
        }
    }
}

/// The URL of a new schema, with so many connections.
pub fn schema_url(connections: usize) -> Option<String> {
    let server = SERVER.as_ref()?;
    let name = format!("t_{:016x}", rand::random::<u64>());
    let made = server.tool("psql").args(["-q", "-h"]).arg(&server.home).args(["-U", "gateway", "-d", "postgres", "-c"]);
    let status = made.arg(format!("CREATE SCHEMA {name}")).status().unwrap();
    assert!(status.success());
    let host = server.home.display();
    Some(format!(
        "postgresql://gateway@/postgres?host={host}&schema={name}&connection_limit={connections}&pool_timeout=60"
    ))
}

struct Server {
    bin: PathBuf,
    home: PathBuf,
    /// Postgres does not run as root.
    user: Option<(u32, u32)>,
    _in_use: File,
}

static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
    let Some(bin) = binaries() else {
        eprintln!("SKIPPED: everything on Postgres: its server (initdb) is not installed (Debian: postgresql)");
        return None;
    };
    // A path of our own for each target folder, and short: that of a socket has 107 bytes at most.
    let mut hasher = DefaultHasher::new();
    std::env::current_exe().unwrap().parent().hash(&mut hasher);
    let home = std::env::temp_dir().join(format!("gateway-pg-{:016x}", hasher.finish()));
    std::fs::create_dir_all(&home).unwrap();
    let starting = File::create(home.join("starting")).unwrap();
    starting.lock().unwrap();
    let in_use = File::create(home.join("in-use")).unwrap();
    // It waits here while an idle server is being stopped.
    in_use.lock_shared().unwrap();
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let user = is_root.then(|| account(&["postgres", "nobody"]).expect("a user other than root"));
    let server = Server { bin, home, user, _in_use: in_use };
    server.start();
    Some(server)
});

impl Server {
    fn tool(&self, name: &str) -> ManagedCommand {
        let mut command = Command::new(self.bin.join(name));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(&self.home).stdin(Stdio::null());
        ManagedCommand(command)
    }

    fn is_ready(&self) -> bool {
        let status = self.tool("pg_isready").args(["-q", "-h"]).arg(&self.home).status().unwrap();
        status.success()
    }

    fn start(&self) {
        if self.is_ready() {
            return;
        }
        if let Some((uid, gid)) = self.user {
            chown(&self.home, Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(&self.home, Permissions::from_mode(0o755)).unwrap();
        let data = self.home.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data).unwrap();
        }
        let made = self.tool("initdb").args(["-U", "gateway", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-D"]);
        let output = made.arg(&data).0.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let options = format!(
            "-c listen_addresses= -k {} -c fsync=off -c max_connections=300 -c shared_buffers=32MB",
            self.home.display()
        );
        let log = self.home.join("log");
        let made = self.tool("pg_ctl").args(["-w", "-t", "60", "-s", "-D"]).arg(&data).args(["-o", &options, "-l"]);
        let status = made.arg(&log).args(["start"]).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
        // In the background, for as long as the server lives, which is longer than this process.
        let script = format!(
            "(while sleep 3; do flock -n in-use sh -c '{}/pg_ctl -s -m immediate -D data stop; rm -rf data' && exit; done) &",
            self.bin.display()
        );
        let mut reaper = Command::new("sh");
        if let Some((uid, gid)) = self.user {
            reaper.uid(uid).gid(gid);
        }
        reaper.args(["-c", &script]).current_dir(&self.home).process_group(0);
        let status = reaper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
    }
}

/// A command that is built by value.
struct ManagedCommand(Command);

impl ManagedCommand {
    fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.0.args(args);
        self
    }

    fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    fn status(mut self) -> std::io::Result<std::process::ExitStatus> {
        self.0.status()
    }
}

fn binaries() -> Option<PathBuf> {
    let debian = (15..=18).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    debian.chain(path).find(|dir| dir.join("initdb").exists() && dir.join("pg_ctl").exists())
}

/// The user and group ids of the first of these accounts.
fn account(names: &[&str]) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    names.iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
