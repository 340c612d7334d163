//! nix/fetch-secrets.sh with the real program and a false 1Password.

use super::root;
use crate::support::setup::PROGRAM;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// `op read REFERENCE`: only with the token, and from a folder that stands for the vault.
const OP: &str = r#"#!/bin/sh
[ "$1" = read ] && [ "$OP_SERVICE_ACCOUNT_TOKEN" = ops-token ] || { echo "op: not signed in" >&2; exit 1; }
cat "$VAULT/$(printf '%s' "$2" | tr / _)" 2>/dev/null || { echo "op: no such item" >&2; exit 1; }
"#;

struct Lab {
    dir: TempDir,
}

#[derive(Debug)]
struct Ended {
    ok: bool,
    said: String,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "credentials", "vault", "run"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let lab = Lab { dir };
        std::os::unix::fs::symlink(PROGRAM, lab.at("bin/gateway")).unwrap();
        lab.program("op", OP);
        lab.credential("op-token", "ops-token\n");
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        // Written by a child, so that no other test's fork holds the file open for writing while it is started.
        let path = self.at("bin").join(name);
        let status = Command::new("/bin/sh")
            .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .arg(text)
            .status();
        assert!(status.unwrap().success());
    }

    fn credential(&self, name: &str, value: &str) {
        std::fs::write(self.at("credentials").join(name), value).unwrap();
    }

    fn vault(&self, reference: &str, value: &str) {
        std::fs::write(self.at("vault").join(reference.replace('/', "_")), value).unwrap();
    }

    fn fetch(&self, sources: &[&str]) -> Ended {
        let mut command = Command::new("/bin/sh");
        command.arg(root().join("nix/fetch-secrets.sh")).arg(self.at("run")).args(sources).env_clear();
        command.env("PATH", format!("{}:/usr/bin:/bin", self.at("bin").display()));
        command.env("CREDENTIALS_DIRECTORY", self.at("credentials")).env("VAULT", self.at("vault"));
        let ended = command.output().unwrap();
        assert!(ended.stdout.is_empty(), "{ended:?}");
        Ended { ok: ended.status.success(), said: String::from_utf8(ended.stderr).unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.at("run/env")
    }

    /// The names of the result's directory.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.at("run")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The value that a shell reads from the result.
    fn value(&self, name: &str) -> String {
        let script = format!(". \"$0\"; printf '%s' \"${name}\"");
        let ended = Command::new("/bin/sh").arg("-c").arg(script).arg(self.file()).output().unwrap();
        String::from_utf8(ended.stdout).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn all_sources_meet_in_one_file_that_the_gateway_reads() {
    let lab = Lab::new();
    lab.credential("environment", "FROM_ENV=one");
    lab.credential("FROM_FILE", "two\n");
    lab.vault("op://Home lab/Groq/key", "three\n");
    lab.program("bao", "#!/bin/sh\nprintf 'FROM_COMMAND=%s' \"$1\"\n");
    let sources = ["--env-file", "environment", "--file", "FROM_FILE", "FROM_FILE"];
    let more = ["--op", "FROM_OP", "op://Home lab/Groq/key", "--", "bao", "four"];
    let ended = lab.fetch(&[&sources[..], &more[..]].concat());
    assert!(ended.ok, "{ended:?}");
    for (name, value) in [("FROM_ENV", "one"), ("FROM_FILE", "two"), ("FROM_OP", "three"), ("FROM_COMMAND", "four")] {
        assert_eq!(lab.value(name), value, "{name}");
        assert!(!ended.said.contains(value), "{ended:?}");
    }
    assert_eq!(lab.left(), ["env"]);
    assert_eq!(mode(&lab.file()), 0o440);
}

#[test]
fn a_value_of_any_shape_arrives_as_it_is() {
    for value in
        ["a\"b\\c$d`e", "line one\nline two", "  spaces  ", "#no comment", "'single'", "äöü", "$(id)", "\\", "%s"]
    {
        let lab = Lab::new();
        lab.credential("KEY", value);
        let ended = lab.fetch(&["--file", "KEY", "KEY"]);
        assert!(ended.ok, "{value:?} {ended:?}");
        assert_eq!(lab.value("KEY"), value);
        let config = lab.at("gateway.toml");
        std::fs::write(&config, "master_key = \"env:KEY\"\n").unwrap();
        let check = Command::new(PROGRAM).arg("check").arg(&config).arg("--env-file").arg(lab.file()).output().unwrap();
        assert!(check.status.success(), "{value:?} {check:?}");
    }
}

#[test]
fn whatever_fails_the_last_good_set_stays() {
    let lab = Lab::new();
    lab.credential("KEY", "good");
    assert!(lab.fetch(&["--file", "KEY", "KEY"]).ok);
    let before = std::fs::read(lab.file()).unwrap();
    lab.credential("EMPTY", "\n");
    lab.credential("broken", "A=1\nsecret-without-a-name\n");
    lab.program("down", "#!/bin/sh\necho A=half; echo 'no route' >&2; exit 3\n");
    lab.program("chatty", "#!/bin/sh\necho 'Welcome to the vault'\n");
    for (source, reason) in [
        (&["--file", "OTHER", "MISSING"][..], "OTHER"),
        (&["--file", "EMPTY", "EMPTY"], "EMPTY is empty"),
        (&["--env-file", "nowhere"], "env file"),
        (&["--env-file", "broken"], ":2:"),
        (&["--op", "KEY", "op://vault/gone/key"], "op://vault/gone/key"),
        (&["--", "down"], "'down' failed"),
        (&["--", "chatty"], ":1:"),
        (&["--what"], "--what"),
    ] {
        let ended = lab.fetch(source);
        assert!(!ended.ok && ended.said.contains(reason), "{source:?} {ended:?}");
        assert!(ended.said.contains("last good set"), "{ended:?}");
        assert!(!ended.said.contains("secret-without"), "{ended:?}");
        assert_eq!(std::fs::read(lab.file()).unwrap(), before, "{source:?}");
        assert_eq!(lab.left(), ["env"], "{source:?}");
    }
}

#[test]
fn a_store_that_is_down_at_first_leaves_no_half_file() {
    let lab = Lab::new();
    lab.vault("op://v/a/key", "here");
    let ended = lab.fetch(&["--op", "A", "op://v/a/key", "--op", "B", "op://v/b/key"]);
    assert!(!ended.ok && ended.said.contains("1Password does not give B"), "{ended:?}");
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[test]
fn a_rotated_secret_takes_the_place_of_the_old_one() {
    let lab = Lab::new();
    lab.credential("KEY", "old");
    assert!(lab.fetch(&["--file", "KEY", "KEY"]).ok);
    let again = lab.fetch(&["--file", "KEY", "KEY"]);
    assert!(again.ok && again.said.contains("nothing has changed"), "{again:?}");
    lab.credential("KEY", "new");
    assert!(lab.fetch(&["--file", "KEY", "KEY"]).ok);
    assert_eq!(lab.value("KEY"), "new");
}

#[test]
fn the_token_reaches_the_tool_of_the_secret_store_only() {
    let lab = Lab::new();
    lab.vault("op://v/a/key", "here");
    lab.program("show", "#!/bin/sh\necho \"SEEN=${OP_SERVICE_ACCOUNT_TOKEN:-nothing}\"\n");
    let ended = lab.fetch(&["--op", "A", "op://v/a/key", "--", "show"]);
    assert!(ended.ok, "{ended:?}");
    assert_eq!(lab.value("SEEN"), "nothing");
}
