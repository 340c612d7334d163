//! The units of a machine without NixOS, as plain files: `gateway systemd-units`.
//!
//! The same chain as the NixOS module's, which explains it: gateway-secrets, gateway-config, gateway.service, behind
//! gateway.socket. A test keeps the two equal. Directives are those of systemd.unit(5), systemd.service(5),
//! systemd.socket(5), systemd.exec(5).

use crate::config::file;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What the units of one machine differ in.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For the manager of a user instead of the system's.
    pub user: bool,
    /// Where the units will lie; the script that collects secrets lies beside them.
    pub directory: PathBuf,
    /// The program that the units run.
    pub program: PathBuf,
    /// The gateway ends by itself after so long without a connection.
    pub idle_timeout: Option<file::Duration>,
    /// How long open calls may go on after a stop (`server.drain`).
    pub drain: std::time::Duration,
    /// The store is Postgres, not the embedded one.
    pub is_postgres: bool,
}

/// A file to write.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: &'static str,
    pub text: String,
    pub mode: u32,
}

/// The name of the script beside the units.
pub const SCRIPT: &str = "gateway-fetch-secrets";
const SCRIPT_TEXT: &str = include_str!("../../nix/fetch-secrets.sh");

/// What every unit of the gateway gives up.
pub const HARDENING: &[(&str, &str)] = &[
    ("AmbientCapabilities", ""),
    ("CapabilityBoundingSet", ""),
    ("DevicePolicy", "closed"),
    ("KeyringMode", "private"),
    ("LockPersonality", "true"),
    ("MemoryDenyWriteExecute", "true"),
    ("NoNewPrivileges", "true"),
    ("PrivateDevices", "true"),
    ("PrivateMounts", "true"),
    ("PrivateTmp", "true"),
    ("PrivateUsers", "true"),
    ("ProcSubset", "pid"),
    ("ProtectClock", "true"),
    ("ProtectControlGroups", "true"),
    ("ProtectHome", "true"),
    ("ProtectHostname", "true"),
    ("ProtectKernelLogs", "true"),
    ("ProtectKernelModules", "true"),
    ("ProtectKernelTunables", "true"),
    ("ProtectProc", "invisible"),
    ("ProtectSystem", "strict"),
    ("RemoveIPC", "true"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ("RestrictNamespaces", "true"),
    ("RestrictRealtime", "true"),
    ("RestrictSUIDSGID", "true"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged"),
    ("SystemCallFilter", "~@resources"),
    ("UMask", "0077"),
];

/// What a user's manager can do without rights of its own: filters of system calls, and no mounts.
const FOR_USERS: &[&str] = &[
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "UMask",
];

/// All files of the plan.
pub fn all(plan: &Plan) -> Vec<Unit> {
    let unit = |name, text| Unit { name, text, mode: 0o644 };
    let mut files = vec![
        unit("gateway.socket", socket(plan)),
        unit("gateway.service", service(plan)),
        unit("gateway-config.service", config(plan)),
        unit("gateway-secrets.service", secrets(plan)),
        unit("gateway-config-retry.timer", retry("gateway-config.service")),
        unit("gateway-secrets-retry.timer", retry("gateway-secrets.service")),
        Unit { name: SCRIPT, text: SCRIPT_TEXT.to_owned(), mode: 0o755 },
    ];
    if !plan.user {
        files.push(unit("gateway-backup.service", backup(plan)));
        files.push(unit("gateway-backup.timer", BACKUP_TIMER.to_owned()));
    }
    files
}

impl Plan {
    /// systemd's own word for a path: `%t` and `%h` in a user's manager.
    fn runtime(&self) -> &'static str {
        if self.user { "%t" } else { "/run" }
    }

    fn settings(&self) -> &'static str {
        if self.user { "%h/.config/gateway" } else { "/etc/gateway" }
    }

    /// `program`, as a command line of systemd holds it.
    fn gateway(&self) -> String {
        word(&self.program)
    }
}

/// A path as one word of a command line: systemd's specifiers and variables are made plain.
fn word(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%").replace('$', "$$");
    if text.contains([' ', '\t', '"', '\'', '\\', ';']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}

/// The hardening, with some directives in another way.
fn hardened(plan: &Plan, instead: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in HARDENING {
        if plan.user && !FOR_USERS.contains(name) {
            continue;
        }
        let value = instead.iter().find(|(other, _)| other == name).map_or(*value, |(_, value)| value);
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

fn identity(plan: &Plan) -> &'static str {
    if plan.user { "" } else { "User=gateway\nGroup=gateway\n" }
}

/// Before a command that has to reach beyond the sandbox.
fn as_root(plan: &Plan) -> &'static str {
    if plan.user { "" } else { "+" }
}

fn socket(plan: &Plan) -> String {
    let runtime = plan.runtime();
    let idle = match plan.idle_timeout {
        // Whoever comes while the gateway ends by itself must be kept, so the queue is looked at less often instead.
        Some(_) => "FlushPending=false\nTriggerLimitIntervalSec=0\nPollLimitIntervalSec=2s\nPollLimitBurst=15\n",
        None => "FlushPending=true\n",
    };
    let owner = if plan.user { "" } else { "SocketUser=gateway\nSocketGroup=gateway\n" };
    format!(
        "[Unit]
Description=Addresses of the gateway
StartLimitIntervalSec=0

[Socket]
ListenStream=127.0.0.1:4000
# For a web server in front: put its user into the group gateway, or its group into SocketGroup=.
ListenStream={runtime}/gateway.sock
FileDescriptorName=gateway
FreeBind=true
Backlog=4096
SocketMode=0660
{owner}# Whoever waits while the chain is broken is sent away (true), and the socket stays.
{idle}
[Install]
WantedBy=sockets.target
"
    )
}

fn service(plan: &Plan) -> String {
    let (gateway, runtime) = (plan.gateway(), plan.runtime());
    let idle = plan.idle_timeout.map_or(String::new(), |limit| format!(" --idle-timeout {limit}"));
    let stop = plan.drain.as_secs().saturating_add(15);
    let network = if plan.user { "" } else { "network.target " };
    format!(
        "[Unit]
Description=Gateway to language models
Documentation=man:gateway(1)
Requires=gateway.socket
# Wanted, not required: no restart of a link of the chain stops the gateway.
Wants=gateway-config.service gateway-secrets.service
After={network}gateway.socket gateway-config.service gateway-secrets.service
# Every start counts, and a limit that is hit would stop the socket too.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
{identity}StateDirectory=gateway
StateDirectoryMode=0700
RuntimeDirectory=gateway
RuntimeDirectoryMode=0750
RuntimeDirectoryPreserve=true
ExecStart={gateway} serve --config {runtime}/gateway/gateway.toml --env-file {runtime}/gateway-secrets/env{idle}
ExecReload={gateway} reload --state-dir {runtime}/gateway
WatchdogSec=30s
TimeoutStartSec=30s
# server.drain and 15 seconds.
TimeoutStopSec={stop}s
KillMode=mixed
Restart=on-failure
RestartSec=500ms
RestartSteps=8
RestartMaxDelaySec=30s
LimitNOFILE=65536
OOMPolicy=stop
{hardening}",
        identity = identity(plan),
        hardening = hardened(plan, &[]),
    )
}

fn config(plan: &Plan) -> String {
    let (gateway, runtime, settings) = (plan.gateway(), plan.runtime(), plan.settings());
    format!(
        "[Unit]
Description=Configuration of the gateway
Wants=gateway-secrets.service
After=gateway-secrets.service
Before=gateway.service
OnFailure=gateway-config-retry.timer
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=true
{identity}RuntimeDirectory=gateway
RuntimeDirectoryMode=0750
RuntimeDirectoryPreserve=true
# A file that the secrets do not fit stops here, and the old one stays.
ExecStart={gateway} check --config {settings}/gateway.toml --env-file {runtime}/gateway-secrets/env
ExecStart=install -m 0440 -T {settings}/gateway.toml {runtime}/gateway/gateway.toml.new
ExecStart=mv -fT {runtime}/gateway/gateway.toml.new {runtime}/gateway/gateway.toml
# A setting that a reload cannot change has systemd restart the gateway.
ExecStartPost={tell}{gateway} reload --if-running --or-restart gateway.service --state-dir {runtime}/gateway
TimeoutStartSec=2min
{hardening}",
        identity = identity(plan),
        tell = as_root(plan),
        hardening = hardened(plan, &[]),
    )
}

fn secrets(plan: &Plan) -> String {
    let (gateway, runtime, settings) = (plan.gateway(), plan.runtime(), plan.settings());
    let script = word(&plan.directory.join(SCRIPT));
    let path = plan.program.parent().map(|p| p.display().to_string()).unwrap_or_default();
    let path = path.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let tell = as_root(plan);
    let (source, group, network) = if plan.user {
        // Credentials of a user's manager came late; here the file is the user's own anyway.
        (format!("Environment=CREDENTIALS_DIRECTORY={settings}\n"), "", "")
    } else {
        (
            format!("LoadCredential=environment:{settings}/secrets.env\n"),
            "Group=gateway\n",
            "Wants=network-online.target\nAfter=network-online.target\n",
        )
    };
    let (credential, token) = if plan.user {
        ("secrets.env", "")
    } else {
        ("environment", "#   LoadCredential=\n#   LoadCredential=op-token:/etc/gateway/op-token\n")
    };
    format!(
        "[Unit]
Description=Secrets of gateway
{network}Before=gateway-config.service gateway.service
OnFailure=gateway-secrets-retry.timer
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=true
{group}RuntimeDirectory=gateway-secrets
RuntimeDirectoryMode=0750
RuntimeDirectoryPreserve=true
Environment=\"PATH={path}:/usr/local/bin:/usr/bin:/bin\" XDG_CONFIG_HOME=/tmp
# {settings}/secrets.env holds NAME=value lines, mode 0600. From 1Password instead, with the token of a service account
# in {settings}/op-token, mode 0600: `systemctl edit gateway-secrets`, and there
#   [Service]
{token}#   ExecStart=
#   ExecStart=/bin/sh {script} {runtime}/gateway-secrets --op GATEWAY_MASTER_KEY op://VAULT/ITEM/FIELD
{source}ExecStart=/bin/sh {script} {runtime}/gateway-secrets --env-file {credential}
# What was rotated is in force as soon as it is here.
ExecStartPost={tell}{gateway} reload --if-running --or-restart gateway.service --state-dir {runtime}/gateway
UnsetEnvironment=RUNTIME_DIRECTORY
TimeoutStartSec=2min
{hardening}",
        hardening = hardened(plan, &[("PrivateUsers", "false"), ("MemoryDenyWriteExecute", "false")]),
    )
}

/// Starts a unit again after it failed, more and more slowly. With `Restart=` whoever is ordered after the unit would wait for
/// systemd's own next try, even beside a good set of secrets.
fn retry(unit: &str) -> String {
    format!(
        "[Unit]
Description=The next try of {unit}

[Timer]
OnActiveSec=1min
OnActiveSec=3min
OnActiveSec=7min
OnActiveSec=15min
OnActiveSec=31min
OnActiveSec=61min
RemainAfterElapse=false
Unit={unit}
"
    )
}

fn backup(plan: &Plan) -> String {
    let gateway = plan.gateway();
    let (about, order, directories, dump, commands) = if plan.is_postgres {
        (
            "Of Postgres on this machine",
            "Wants=postgresql.service\nAfter=postgresql.service",
            "StateDirectory=gateway/backup",
            "/var/lib/gateway/backup/gateway.dump",
            "ExecStart=pg_dump --host=/run/postgresql --format=custom --file=/var/lib/gateway/backup/gateway.dump.new gateway
ExecStart=pg_restore --list --file=/dev/null /var/lib/gateway/backup/gateway.dump.new"
                .to_owned(),
        )
    } else {
        (
            "Of SQLite; with a database_url in gateway.toml write the units anew",
            "# Nobody has called yet.\nConditionPathExists=/var/lib/gateway/gateway.db",
            "StateDirectory=gateway gateway/backup",
            "/var/lib/gateway/backup/gateway.db",
            format!(
                "ExecStart=rm -f /var/lib/gateway/backup/gateway.db.new
ExecStart={gateway} store backup --config /dev/null --state-dir /var/lib/gateway /var/lib/gateway/backup/gateway.db.new"
            ),
        )
    };
    format!(
        "# {about}. For it: systemctl enable --now gateway-backup.timer
[Unit]
Description=Dump of the gateway's database
{order}

[Service]
Type=oneshot
User=gateway
Group=gateway
{directories}
StateDirectoryMode=0700
# Under another name until it is whole. A backup program takes /var/lib/gateway; nothing under /run, so no secret.
{commands}
ExecStart=mv -fT {dump}.new {dump}
TimeoutStartSec=1h
IOSchedulingClass=idle
Nice=10
{hardening}",
        hardening = hardened(plan, &[("RestrictAddressFamilies", "AF_UNIX")]),
    )
}

const BACKUP_TIMER: &str = "[Unit]
Description=Dump of the gateway's database

[Timer]
OnCalendar=03:15
Persistent=true
RandomizedDelaySec=10min

[Install]
WantedBy=timers.target
";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(user: bool) -> Plan {
        Plan {
            user,
            directory: "/etc/systemd/system".into(),
            program: "/opt/llm gate/100%/gateway".into(),
            idle_timeout: None,
            drain: std::time::Duration::from_secs(30),
            is_postgres: false,
        }
    }

    #[test]
    fn the_dump_is_one_of_the_store_that_is_used() {
        let embedded = backup(&plan(false));
        assert!(embedded.contains(" store backup ") && !embedded.contains("pg_dump"), "{embedded}");
        let postgres = backup(&Plan { is_postgres: true, ..plan(false) });
        assert!(postgres.contains("pg_dump") && !postgres.contains(" store backup "), "{postgres}");
    }

    #[test]
    fn a_program_with_odd_characters_is_one_word() {
        let text = service(&plan(false));
        assert!(text.contains("ExecStart=\"/opt/llm gate/100%%/gateway\" serve "), "{text}");
    }

    #[test]
    fn an_idle_gateway_keeps_who_waits() {
        let idle = Plan { idle_timeout: "10m".parse().ok(), ..plan(false) };
        assert!(service(&idle).contains("/gateway-secrets/env --idle-timeout 10m\n"));
        assert!(socket(&idle).contains("FlushPending=false\n") && socket(&plan(false)).contains("FlushPending=true\n"));
    }

    #[test]
    fn a_user_has_no_directive_that_only_root_can_have() {
        for unit in all(&plan(true)) {
            for name in ["User=", "SocketUser=", "ProtectSystem=", "CapabilityBoundingSet=", "/etc/gateway", "=/run/"] {
                assert!(!unit.text.lines().any(|l| !l.starts_with('#') && l.contains(name)), "{}: {name}", unit.name);
            }
        }
    }
}
