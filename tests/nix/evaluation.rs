//! Smoke evaluation of the module by Nix, with a stand-in for nixpkgs. It says nothing about NixOS itself.

use super::{CASES, blocks, golden, root, tree};
use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command of Nix, or nothing where it is left out on purpose.
fn nix(program: &str) -> Option<Command> {
    if std::env::var_os("GATEWAY_NIX").is_some_and(|value| value == "off") {
        // Not by a macro: those write to where the test runner hides it.
        stderr().write_all(b"\nSKIPPED, because GATEWAY_NIX=off: the NixOS module is not evaluated\n").unwrap();
        return None;
    }
    let mut command = Command::new(program);
    command.current_dir(root());
    command.env("NIX_CONFIG", "experimental-features = nix-command\nbuild-users-group =");
    Some(command)
}

fn output(command: &mut Command) -> String {
    let ended = command.output().unwrap_or_else(|e| {
        panic!("{e}: {command:?}. Use tests/run, install Debian's nix-bin, or leave these tests out by GATEWAY_NIX=off")
    });
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// A text of `tests/nix/evaluate.nix`.
fn evaluated(name: &str) -> Option<String> {
    let mut nix = nix("nix")?;
    nix.args(["--store", "dummy://", "eval", "--raw", "--impure", "-f", "tests/nix/evaluate.nix", name]);
    Some(output(&mut nix))
}

/// The units and files of a module in Nix.
fn evaluated_module(module: &str) -> Option<String> {
    let mut nix = nix("nix")?;
    let expression = format!("(import ./tests/nix/evaluate.nix).of {{ {module} }}");
    nix.args(["--store", "dummy://", "eval", "--raw", "--impure", "--expr", &expression]);
    Some(output(&mut nix))
}

/// A value of an expression, as JSON.
fn value(expression: &str) -> Option<serde_json::Value> {
    let mut nix = nix("nix")?;
    nix.args(["--store", "dummy://", "eval", "--json", "--impure", "--expr", expression]);
    Some(serde_json::from_str(&output(&mut nix)).unwrap())
}

/// The texts of a bundle: each behind a line `@@ NAME`.
fn unbundled(text: &str) -> BTreeMap<String, String> {
    let parts = text.split("@@ ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn nix_files(directory: &Path) -> Vec<PathBuf> {
    tree(directory).into_keys().filter(|name| name.ends_with(".nix")).map(|name| directory.join(name)).collect()
}

#[test]
fn every_file_of_nix_can_be_parsed() {
    let Some(mut nix) = nix("nix-instantiate") else { return };
    let mut files = nix_files(&root().join("nix"));
    files.extend(nix_files(&root().join("tests/nix")));
    files.extend(["flake.nix", "module.nix"].map(|name| root().join(name)));
    assert!(files.len() > 20, "{files:?}");
    output(nix.args(["--store", "dummy://", "--parse"]).args(files));
}

#[test]
fn the_units_are_those_of_the_golden_files() {
    let Some(text) = evaluated("golden") else { return };
    let (new, old) = (unbundled(&text), tree(&golden()));
    let names: Vec<_> = new.keys().chain(old.keys()).collect();
    let differ: Vec<_> = names.into_iter().filter(|name| new.get(*name) != old.get(*name)).collect();
    assert!(differ.is_empty(), "run tests/nix/eval --golden, and read what it changes: {differ:?}");
}

#[test]
fn the_list_of_options_is_current() {
    let Some(text) = evaluated("options") else { return };
    let written = std::fs::read_to_string(root().join("docs/options.md")).unwrap();
    assert!(text == written, "docs/options.md is old: run tests/nix/eval --golden");
}

#[test]
fn each_assertion_refuses_a_configuration() {
    let Some(unreached) = value("(import ./tests/nix/evaluate.nix).unreached") else { return };
    assert_eq!(unreached, serde_json::json!([]), "assertions, by place, without a case in tests/nix/failing.nix");
}

#[test]
fn a_name_that_is_no_option_is_refused() {
    for (setting, name) in [
        ("services.gateway.enabel = true;", "services.gateway.enabel"),
        ("services.gateway.secrets.onepassword = {};", "services.gateway.secrets.onepassword"),
        ("services.gateway.models = [{ name = \"a\"; model = 1; }];", "services.gateway.models[0].model"),
        ("services.gateway.port = 70000;", "services.gateway.port"),
        ("services.nginx.virtualHost = {};", "services.nginx.virtualHost"),
        ("systemd.services.gateway.serviceconfig = {};", "systemd.services.gateway.serviceconfig"),
    ] {
        let Some(mut nix) = nix("nix") else { return };
        let case = format!("(import ./tests/nix/evaluate.nix).of {{ services.gateway.enable = true; {setting} }}");
        nix.args(["--store", "dummy://", "eval", "--raw", "--impure", "--expr", &case]);
        let ended = nix.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(name), "{setting} {said}");
    }
}

#[test]
fn one_case_is_written_out_for_other_tests() {
    let Some(mut list) = nix("tests/nix/eval") else { return };
    let names = output(list.arg("--list"));
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), CASES);
    let dir = tempfile::tempdir().unwrap();
    let Some(mut eval) = nix("tests/nix/eval") else { return };
    output(eval.arg("house").arg(dir.path()));
    assert_eq!(tree(dir.path()), tree(&golden().join("house")));
}

/// They are not run here: that they could be is the least.
#[test]
fn the_scripts_of_the_virtual_machines_are_python() {
    let stand_ins = "{ coreutils = \"/c\"; socat = \"/s\"; openssl = \"/o\"; runCommand = _: _: _: \"/made\";
        writeShellScriptBin = name: _: \"/${name}\"; writers.writePython3Bin = name: _: text: \"/${name}\"; }";
    let scripts = format!(
        "let arguments = {{ gateway = \"/g\"; module = {{ }}; pkgs = {stand_ins}; }}; in
         builtins.mapAttrs (name: _: (import (./nix/tests + \"/${{name}}\") arguments).testScript)
           (removeAttrs (builtins.readDir ./nix/tests) [ \"upstream.nix\" ])"
    );
    let Some(scripts) = value(&scripts) else { return };
    let scripts = scripts.as_object().unwrap();
    assert!(scripts.len() >= 5, "{scripts:?}");
    for (name, script) in scripts {
        let compiled = Command::new("python3")
            .args(["-c", "import sys; compile(sys.argv[1], sys.argv[2], 'exec')", script.as_str().unwrap(), name])
            .output();
        let Ok(compiled) = compiled else {
            stderr()
                .write_all(b"\nSKIPPED, because there is no python3: the scripts of the virtual machines\n")
                .unwrap();
            return;
        };
        assert!(compiled.status.success(), "{name}: {}", String::from_utf8_lossy(&compiled.stderr));
    }
}

#[test]
fn lengths_and_sizes_are_read_as_the_program_reads_them() {
    let Some(read) = value(
        "let w = import ./nix/written.nix; in {
           seconds = map w.seconds [ \"30s\" \"5m\" \"1.5h\" \"500ms\" \"1d\" \"007\" 90 \"soon\" \"15min\" true ];
           bytes = map w.bytes [ \"32MiB\" \"10MB\" \"512KiB\" \"1GiB\" \"1GB\" \"10kB\" \"5\" 1048576 \"big\" ];
         }",
    ) else {
        return;
    };
    let expected = serde_json::json!({
        "seconds": [30, 300, 5400, 1, 86400, 7, 90, null, null, null],
        "bytes": [33554432, 10_000_000, 524288, 1073741824, 1_000_000_000, 10_000, 5, 1048576, null],
    });
    assert_eq!(read, expected);
}

#[test]
fn the_examples_for_nixos_fit_together() {
    for document in ["docs/nixos.md", "README.md"] {
        let examples: Vec<_> = blocks(document, "nix").into_iter().filter(|block| !block.starts_with('{')).collect();
        let modules: String = examples.iter().map(|block| format!("{{ {block} }}\n")).collect();
        let Some(text) = evaluated_module(&format!("imports = [ {modules} ];")) else { return };
        assert!(text.contains("@@ units/gateway.socket"), "{document}: {text}");
        assert!(!text.contains("assertions = "), "{document}: {text}");
    }
}
