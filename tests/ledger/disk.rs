//! A disk that is full: calls are refused until there is room again, and none is lost.

use super::load::{Load, setting};
use super::on_both;
use crate::support::feed::{PATIENCE, pass};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A small file system of its own.
struct Disk(TempDir);

impl Disk {
    /// None where that is not allowed.
    fn new() -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m,mode=700", "none"]).arg(dir.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Disk(dir)),
            _ => {
                eprintln!("SKIPPED: a full disk (no file system can be mounted; it needs root)");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room there is.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        for size in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_calls_and_loses_none() {
    let rounds = setting("GATEWAY_FULL", 2);
    on_both(|database| {
        let Some(disk) = Disk::new() else { return };
        let load = Load::new(database, "", Duration::from_millis(5));
        let mut gateway = load.gateway(disk.path(), &[]);
        load.during(&gateway, || {
            for _ in 0..rounds {
                load.goes_on(&gateway);
                disk.fill();
                let (end, wanted) = (Instant::now() + PATIENCE, load.refused() + 20);
                while load.refused() < wanted {
                    assert!(Instant::now() < end, "nobody is refused:\n{}", gateway.logs());
                    pass(Duration::from_millis(20));
                }
                gateway.wait_log("that it is full", |line| line.contains("the ledger cannot be written"));
                disk.free();
            }
            load.goes_on(&gateway);
        });
        gateway.signal("TERM");
        assert!(gateway.wait_exit().success());
        let figures = load.check(disk.path());
        assert_eq!(figures.interrupted, 0, "{figures:?}");
        // A call that was refused, and ended when there was room again, has a row that says so.
        assert_eq!(figures.rows, figures.whole + figures.unseen, "{figures:?}");
    });
}
