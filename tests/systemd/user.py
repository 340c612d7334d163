"""The units of `gateway systemd-units --user`, under the manager of a person."""

import os
import pathlib
import pwd
import subprocess
import sys
import time

from world import Report, expect, get, run, wait_for

NAME = "person"
report = Report()
step = report.step


def as_person(*words):
    """As the person, with the way to the own manager; output and exit code."""
    home, number = pwd.getpwnam(NAME).pw_dir, pwd.getpwnam(NAME).pw_uid
    environment = {"HOME": home, "XDG_RUNTIME_DIR": f"/run/user/{number}", "PATH": os.environ["PATH"]}
    done = subprocess.run(words, user=NAME, group=NAME, extra_groups=[], cwd=home, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout, done.returncode


def systemctl(*words):
    said, code = as_person("systemctl", "--user", *words)
    expect(code == 0, f"systemctl --user {' '.join(words)}: {said}")
    return said.strip()


def state(unit):
    return as_person("systemctl", "--user", "show", "-P", "ActiveState", unit)[0].strip()


with step("a person with a manager"):
    run("useradd", "--create-home", NAME)
    number = pwd.getpwnam(NAME).pw_uid
    said = run("systemctl", "start", f"user@{number}.service")
    wait_for("the manager", lambda: as_person("systemctl", "--user", "is-system-running")[0].strip() in
             ("running", "degraded"))
with step("the units are written, and taken up"):
    said, code = as_person("gateway", "systemd-units", "--user", "--program", "/usr/local/bin/gateway")
    expect(code == 0, said)
    settings = pathlib.Path(pwd.getpwnam(NAME).pw_dir) / ".config/gateway"
    as_person("mkdir", "-p", str(settings))
    (settings / "gateway.toml").write_text('master_key = "env:GATEWAY_MASTER_KEY"\n')
    (settings / "secrets.env").write_text("GATEWAY_MASTER_KEY=sk-master-of-the-systemd-test\n")
    run("chown", "-R", f"{NAME}:{NAME}", str(settings))
    os.chmod(settings / "secrets.env", 0o600)
    systemctl("daemon-reload")
    said, _ = as_person("systemd-analyze", "--user", "verify", "gateway.service", "gateway.socket")
    expect("gateway" not in "\n".join(line for line in said.splitlines() if "RestartSteps" not in line
                                      and "RestartMaxDelaySec" not in line and "man gateway" not in line), said)
    systemctl("enable", "--now", "gateway.socket")
    expect(state("gateway.service") == "inactive", "it runs before it is needed")
with step("the first call starts the chain") as tell:
    began = time.monotonic()
    expect(get("/health/readiness")[0] == 200, "not ready")
    tell(f"after {time.monotonic() - began:.2f} s")
    expect(get("/v1/models")[0] == 200 and get("/v1/models", key="sk-wrong")[0] == 401, "the key")
with step("a setting, a rotated key, and one that a reload cannot change") as tell:
    (settings / "secrets.env").write_text("GATEWAY_MASTER_KEY=sk-another\n")
    systemctl("restart", "gateway-secrets.service")
    expect(get("/v1/models", key="sk-another")[0] == 200 and get("/v1/models")[0] == 401, "not rotated")
    (settings / "gateway.toml").write_text(
        'master_key = "env:GATEWAY_MASTER_KEY"\n[server]\nroot_path = "/llm"\n')
    systemctl("restart", "gateway-config.service")
    wait_for("the new path", lambda: get("/llm/v1/models", key="sk-another")[0] == 200)
    expect(get("/llm/v1/models", key="sk-another")[0] == 200, "not restarted")
with step("restarts in any order"):
    for unit in ("gateway", "gateway-config", "gateway-secrets", "gateway"):
        systemctl("restart", f"{unit}.service")
        expect(get("/health/readiness")[0] == 200, f"not served after a restart of {unit}")
with step("the doctor, told where the files are"):
    runtime = f"/run/user/{number}"
    said, code = as_person("gateway", "doctor", "--config", str(settings / "gateway.toml"), "--env-file",
                           f"{runtime}/gateway-secrets/env")
    expect(code == 0, said)

print(f"     {report.failed} of the steps failed" if report.failed else "     all steps passed")
sys.exit(1 if report.failed else 0)
