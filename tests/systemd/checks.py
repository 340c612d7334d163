"""The life of a gateway on a machine with systemd, Postgres and Nginx. Runs inside, as root; see `run`."""

import glob
import itertools
import json
import os
import pathlib
import pwd
import re
import socket
import sys
import time

from world import (
    MASTER, FILES, Load, Report, Streams, call, chat, expect, get, prop, read_stream, run, systemctl, wait_for,
)

CHAIN = ["gateway-secrets.service", "gateway-config.service", "gateway.service"]
DOWN = pathlib.Path("/etc/gateway/vault-is-down")
VAULT = pathlib.Path("/etc/gateway/vault")
SETTINGS = pathlib.Path("/etc/gateway/gateway.toml")
PHONE = "sk-phone-of-the-systemd-test"


def declared():
    """Keys and people as the module writes them; the same without it."""
    module = pathlib.Path("/etc/gateway-module.toml")
    if not module.exists():
        return '[keys.phone]\nkey = "env:GATEWAY_KEY_PHONE"\nmodels = ["fast"]\nmax_budget = 5\n'
    tables = re.split(r"(?m)^(?=\[)", module.read_text())
    served = ("[keys.", "[users.", "[mcp_servers.", "[home_assistant]")
    return "".join(table for table in tables if table.startswith(served))


TOML = """
master_key = "env:GATEWAY_MASTER_KEY"
database_url = "postgres:///gateway?host=/run/postgresql"
[server]
workers = 2
body_limit = "48MiB"
drain = "10s"
early_commit = "1s"
keep_alive = "1s"
trusted_proxies = ["unix"]
""" + declared() + """
[[models]]
name = "fast"
model = "openai_like/fast"
api_base = "http://127.0.0.1:9009/v1"
api_key = "env:GROQ_API_KEY"
"""

report = Report()
step = report.step


def sql(text):
    return run("runuser", "-u", "gateway", "--", "psql", "-d", "gateway", "-Atc", text).strip()


def generated(wish):
    """A key by the management API, and what it answered."""
    answer = call("POST", "/key/generate", json.dumps(wish))
    payload = answer.read().decode()
    expect(answer.status == 200, f"status {answer.status}: {payload[:300]}")
    return json.loads(payload)


def row_of(identity):
    """The row of a call in Postgres, once it is settled."""
    wait_for("the row", lambda: sql(f"select 1 from ledger where id = '{identity}' and status <> 'open'") == "1")
    names = ["status", "model", "key_alias", "prompt_tokens", "completion_tokens", "stream", "ip"]
    return dict(zip(names, sql(f"select {', '.join(names)} from ledger where id = '{identity}'").split("|")))


def stop_all():
    def stopped():
        # A try that is on its way takes the place of a stop.
        run("systemctl", "stop", "gateway-config-retry.timer", "gateway-secrets-retry.timer", *reversed(CHAIN))
        return all(prop("ActiveState", unit) in ("inactive", "failed") for unit in CHAIN)

    wait_for("the end of the chain", stopped)
    for path in glob.glob("/run/gateway/*") + glob.glob("/run/gateway-secrets/*"):
        os.remove(path)


def verify():
    units = [u for u in CHAIN + ["gateway.socket"]]
    # What an older systemd does not know it says, and leaves out.
    known = ("Unknown key 'RestartSteps'", "Unknown key 'RestartMaxDelaySec'", "Unknown key 'PollLimit", "man gateway")
    lines = run("systemd-analyze", "verify", *units).splitlines()
    ours = [line for line in lines if "gateway" in line and not any(word in line for word in known)]
    expect(not ours, ours)


def neighbours():
    run("systemd-run", "-q", "--unit=model-server", "python3", f"{FILES}/upstream.py")
    run("systemd-run", "-q", "--unit=front", "nginx", "-g", "daemon off;", "-c", "/etc/gateway-front.conf")

    def reached(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_for("the model server", lambda: reached(9009))
    wait_for("nginx", lambda: reached(443))
    as_postgres = ["runuser", "-u", "postgres", "--"]
    wait_for("postgres", lambda: run(*as_postgres, "psql", "-Atc", "select 1").strip() == "1")
    run(*as_postgres, "createuser", "gateway")
    run(*as_postgres, "createdb", "-O", "gateway", "gateway")
    who = run("runuser", "-u", "gateway", "--", "psql", "-d", "gateway", "-Atc", "select current_user").strip()
    expect(who == "gateway", f"peer authentication: {who}")


SETTINGS.write_text(TOML)
os.chmod(SETTINGS, 0o644)

with step("systemd accepts the units"):
    verify()
with step("exposure") as tell:
    for unit, limit in (("gateway.service", 1.2), ("gateway-config.service", 1.2), ("gateway-secrets.service", 2.5)):
        last = run("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        score = float(last.split(":")[1].split()[0])
        expect(score <= limit, last)
        tell(f"{unit} {score}")
with step("Postgres with peer authentication, Nginx, a model server"):
    neighbours()
with step("the socket listens, and nothing else runs"):
    expect(prop("ActiveState", "gateway.socket") == "active", "no socket")
    for unit in CHAIN:
        expect(prop("ActiveState", unit) == "inactive", f"{unit} runs")

with step("the vault is down at boot: a caller is sent away, the socket stays") as tell:
    DOWN.touch()
    try:
        status = get("/health/readiness", timeout=15)
        raise AssertionError(f"answered: {status}")
    except OSError as e:
        tell(f"the caller got {type(e).__name__}")
    time.sleep(3)
    expect(prop("ActiveState", "gateway.socket") == "active", prop("Result", "gateway.socket"))
    expect(not os.path.exists("/run/gateway-secrets/env"), "half a set of secrets lies there")
with step("the vault is back: served again by itself, with the socket untouched") as tell:
    DOWN.unlink()
    began = time.monotonic()

    def served():
        try:
            return chat().startswith("pong")
        except Exception:
            return False

    wait_for("an answer", served, 30)
    tell(f"after {time.monotonic() - began:.1f} s")

with step("the first call starts the whole chain") as tell:
    stop_all()
    began = time.monotonic()
    expect(chat().startswith("pong"), "no answer")
    tell(f"answered after {time.monotonic() - began:.2f} s")
    for unit in CHAIN:
        expect(prop("ActiveState", unit) == "active", f"{unit} is {prop('ActiveState', unit)}")
    env = os.stat("/run/gateway-secrets/env")
    expect(env.st_mode & 0o777 == 0o440 and env.st_uid == 0, f"mode {env.st_mode:o}, owner {env.st_uid}")
    tell(f"status \"{prop('StatusText')}\"")
with step("chat over HTTPS, whole and streamed; over the unix socket"):
    expect(chat(via="https").startswith("pong"), "whole")
    events, _ = read_stream(chat({"events": 5, "gap": 0.05}, stream=True, via="https"))
    expect(len(events) == 7 and events[-1] == b"[DONE]", events)
    expect(chat(via="unix").startswith("pong"), "unix")
    expect(get("/v1/models", via="https", key="sk-wrong")[0] == 401, "a wrong key is served")

CALLERS = ["tcp", "tcp", "unix", "https", "https"]
with step("three restarts under load, with streams open") as tell:
    with Load(CALLERS) as load:
        for _ in range(3):
            streams = Streams(4, {"events": 8, "gap": 0.15})
            before = prop("MainPID")
            systemctl("restart", "gateway.service")
            expect(prop("MainPID") != before, "the same process")
            tell(streams.told())
    tell(load.told())
with step("reloads under load, with streams open") as tell:
    with Load(CALLERS) as load:
        streams = Streams(4, {"events": 20, "gap": 0.1})
        before = prop("MainPID")
        for _ in range(10):
            systemctl("reload", "gateway.service")
        tell(streams.told())
        expect(prop("MainPID") == before, "another process")
    tell(load.told())
with step("every link restarted under load, in every order") as tell:
    with Load(["tcp", "https"]) as load:
        before = prop("MainPID")
        for order in (CHAIN[:2], CHAIN[1::-1], CHAIN[:2]):
            for unit in order:
                systemctl("restart", unit)
        expect(prop("MainPID") == before, "a link restarted the gateway")
        for order in itertools.permutations(CHAIN):
            systemctl("restart", *order)
    tell(load.told())
    # The one restart that closes the addresses for a moment; as often as an impatient person does it.
    for _ in range(8):
        systemctl("restart", "gateway.socket", *CHAIN)
    chat()

with step("a switch: reload, restart of gateway-config, start; a new model is served") as tell:
    before = prop("MainPID")
    SETTINGS.write_text(TOML + TOML[TOML.index("[[models]]"):].replace('"fast"', '"added"'))
    systemctl("reload", "gateway.service")
    systemctl("restart", "gateway-config.service")
    systemctl("start", "gateway.service", "gateway.socket")
    expect(chat(model="added").startswith("pong"), "not served")
    expect(prop("MainPID") == before, "another process")
with step("a setting that a reload cannot change: the gateway is restarted for it, and nobody is refused") as tell:
    before, good = prop("MainPID"), SETTINGS.read_text()
    with Load(CALLERS) as load:
        SETTINGS.write_text(good.replace("workers = 2", 'workers = 2\nroot_path = "/llm"'))
        streams = Streams(2, {"events": 8, "gap": 0.15})
        systemctl("restart", "gateway-config.service")
        wait_for("the new path", lambda: get("/llm/v1/models")[0] == 200)
        tell(streams.told())
    expect(prop("MainPID") != before, "the same process")
    tell(load.told())
with step("a new file at the moment in which the gateway starts is not missed") as tell:
    good = SETTINGS.read_text()

    def render(delay):
        time.sleep(delay)
        systemctl("restart", "gateway-config.service")

    for number in range(8):
        name = f"moment-{number}"
        systemctl("restart", "--no-block", "gateway.service")
        SETTINGS.write_text(good + TOML[TOML.index("[[models]]"):].replace('"fast"', f'"{name}"'))
        render(number * 0.05)
        expect(chat(model=name).startswith("pong"), "not served")
    SETTINGS.write_text(good)
    systemctl("restart", "gateway-config.service")
if os.path.exists("/etc/systemd/system/gateway-switch.service"):
    with step("a switch after one that failed: what was mended is in force at once") as tell:
        good = SETTINGS.read_text()
        SETTINGS.write_text(good + "\n[sever]\n")
        run("systemctl", "restart", "gateway-config.service")
        expect(prop("ActiveState", "gateway-config.service") == "failed", "not refused")
        SETTINGS.write_text(good + TOML[TOML.index("[[models]]"):].replace('"fast"', '"mended"'))
        # A switch passes over units that have failed, and starts the targets.
        began = time.monotonic()
        systemctl("start", "multi-user.target")
        wait_for("the mended file", lambda: prop("ActiveState", "gateway-config.service") == "active", 1)
        expect(chat(model="mended").startswith("pong"), "not served")
        tell(f"after {time.monotonic() - began:.1f} s")
    with step("a switch with another address: the socket is opened anew, and only then") as tell:
        unit = pathlib.Path("/etc/systemd/system/gateway-switch.service")
        opened = prop("ActiveEnterTimestampMonotonic", "gateway.socket")
        systemctl("start", "multi-user.target")
        unit.write_text(unit.read_text() + "# another text, the same addresses\n")
        systemctl("daemon-reload")
        systemctl("start", "multi-user.target")
        wait_for("the end of the switch", lambda: prop("ActiveState", "gateway-switch.service") == "inactive")
        expect(prop("ActiveEnterTimestampMonotonic", "gateway.socket") == opened, "opened anew for nothing")
        drop_in = pathlib.Path("/etc/systemd/system/gateway.socket.d/address.conf")
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text("[Socket]\nListenStream=127.0.0.1:4001\n")
        unit.write_text(re.sub(r'"[0-9a-f]{64}"', '"another"', unit.read_text()))
        systemctl("daemon-reload")
        # As a switch to another program does it.
        systemctl("restart", "gateway.service")
        systemctl("start", "multi-user.target", "gateway-switch.service")
        expect(get("/health/liveliness")[0] == 200, "not served")
        with socket.socket() as s:
            s.connect(("127.0.0.1", 4001))
        chat(model="added")
with step("a broken file is refused, the old one stays"):
    good = SETTINGS.read_text()
    SETTINGS.write_text(good + "\n[sever]\n")
    run("systemctl", "restart", "gateway-config.service")
    said = run("journalctl", "-b", "-u", "gateway-config", "-o", "cat", "--no-pager")
    expect("did you mean `server`" in said, said[-500:])
    chat(model="added")
    SETTINGS.write_text(good)
    systemctl("restart", "gateway-config.service")
with step("a rotated secret needs a restart of gateway-secrets alone, and no new process"):
    before = prop("MainPID")
    expect(chat().split()[1] == "upstream"[-8:], chat())
    VAULT.write_text(VAULT.read_text().replace("gsk-first-key-of-the-upstream", "gsk-second-key-ROTATED1"))
    systemctl("restart", "gateway-secrets.service")
    expect(chat().split()[1] == "ROTATED1", chat())
    expect(prop("MainPID") == before, "another process")
with step("the vault is down later: the last good set stays, and it is tried again") as tell:
    began = time.time()
    DOWN.touch()
    run("systemctl", "restart", "--no-block", "gateway-secrets.service")
    time.sleep(1)
    expect(chat().split()[1] == "ROTATED1", "other secrets")
    systemctl("restart", "gateway.service")
    expect(chat().split()[1] == "ROTATED1", "no secrets after a restart")

    def tries():
        said = run("journalctl", "-u", "gateway-secrets", "-o", "cat", "--no-pager", "--since", f"@{began:.6f}")
        return said.count("1Password does not give")

    # Those of the timer: it goes on when its own tries fail, and round by round.
    before = tries()
    wait_for("four tries more", lambda: tries() >= before + 4, 40)
    tell(f"{tries()} tries")
    DOWN.unlink()
    wait_for("the fetch", lambda: prop("ActiveState", "gateway-secrets.service") == "active", 30)

with step("kill -9: another process") as tell:
    before, began = prop("MainPID"), time.monotonic()
    systemctl("kill", "-s", "KILL", "--kill-whom=main", "gateway.service")
    wait_for("another process", lambda: prop("MainPID") not in ("0", before))
    chat()
    tell(f"served again after {time.monotonic() - began:.1f} s")
with step("the watchdog: a process that stands still is replaced") as tell:
    chat()
    before, began = prop("MainPID"), time.monotonic()
    os.kill(int(before), 19)
    wait_for("another process", lambda: prop("MainPID") not in ("0", before), 30)
    chat()
    tell(f"served again after {time.monotonic() - began:.1f} s")
    expect("Watchdog timeout" in run("journalctl", "-b", "-u", "gateway", "--no-pager"), "nothing in the journal")

with step("the journal has the fields of each call") as tell:
    answer = call("POST", "/v1/chat/completions", json.dumps(
        {"model": "fast", "messages": [{"role": "user", "content": "{}"}]}), via="https")
    answer.read()
    wanted = answer.headers["x-litellm-call-id"]

    def entry():
        return run("journalctl", "-b", "-u", "gateway", "-o", "json", "--no-pager", f"GATEWAY_REQUEST_ID={wanted}")

    wait_for("the entry", lambda: entry().startswith("{"))
    fields = json.loads(entry().splitlines()[0])
    for name, value in (("GATEWAY_OUTCOME", "success"), ("GATEWAY_MODEL", "fast"), ("GATEWAY_STATUS", "200"),
                        ("SYSLOG_IDENTIFIER", "gateway"), ("_SYSTEMD_UNIT", "gateway.service"), ("PRIORITY", "6")):
        expect(fields.get(name) == value, f"{name}={fields.get(name)}")
    tell(", ".join(sorted(name for name in fields if name.startswith("GATEWAY_"))))
with step("a key of the management API, a streamed call with it, its row in Postgres by peer authentication") as tell:
    made = generated({"key_alias": "tablet", "models": ["fast"], "max_budget": 5, "duration": "30d"})
    tablet = made["key"]
    answer = chat({"events": 4}, stream=True, via="https", key=tablet)
    identity = answer.headers["x-litellm-call-id"]
    events, _ = read_stream(answer)
    expect(events[-1] == b"[DONE]", events)
    row = row_of(identity)
    for name, value in (("status", "success"), ("key_alias", "tablet"), ("stream", "1"), ("ip", "127.0.0.1")):
        expect(row[name] == value, row)
    tell(", ".join(f"{name} {value}" for name, value in row.items()))
    who = sql("select distinct usename from pg_stat_activity where datname = 'gateway' and usename is not null")
    expect(who == "gateway", who)
    answer = call("POST", "/v1/chat/completions", json.dumps(
        {"model": "added", "messages": [{"role": "user", "content": "{}"}]}), key=tablet)
    expect(answer.status == 403, f"another model: {answer.status} {answer.read()}")
with step("a key that the module declares, from a secret: its calls, its row, its rotation, its end") as tell:
    def with_key(key, model="fast"):
        answer = call("POST", "/v1/chat/completions", json.dumps(
            {"model": model, "messages": [{"role": "user", "content": "{}"}]}), key=key, via="https")
        answer.read()
        return answer.status, answer.headers["x-litellm-call-id"]

    status, identity = with_key(PHONE)
    expect(status == 200, f"{status}")
    row = row_of(identity)
    expect((row["status"], row["key_alias"]) == ("success", "phone"), row)
    tell(", ".join(f"{name} {value}" for name, value in row.items()))
    owner = sql(f"select key_id from ledger where id = '{identity}'")
    expect(with_key(PHONE, "added")[0] == 403, "a model that is not declared is served")
    listed = run("runuser", "-u", "gateway", "--", "gateway", "key", "list")
    expect("phone" in listed and "tablet" in listed, listed)
    before = prop("MainPID")
    vault = VAULT.read_text()
    VAULT.write_text(vault.replace(PHONE, "sk-phone-another-one"))
    systemctl("restart", "gateway-secrets.service")
    expect(with_key(PHONE)[0] == 401, "the old one is served")
    status, identity = with_key("sk-phone-another-one")
    expect(status == 200, f"the new one: {status}")
    row_of(identity)
    expect(sql(f"select key_id from ledger where id = '{identity}'") == owner, "another key in the ledger")
    good = SETTINGS.read_text()
    SETTINGS.write_text(good.replace("[keys.phone", "[keys.other").replace("GATEWAY_KEY_PHONE", "GROQ_API_KEY"))
    systemctl("restart", "gateway-config.service")
    expect(with_key("sk-phone-another-one")[0] == 401, "it is served after its end")
    SETTINGS.write_text(good)
    VAULT.write_text(vault)
    systemctl("restart", "gateway-secrets.service", "gateway-config.service")
    expect(with_key(PHONE)[0] == 200, "not served again")
    expect(prop("MainPID") == before, "another process")
if os.path.exists("/etc/systemd/system/gateway-mcp-files.socket"):
    with step("tools of a program in a unit of its own, and of Home Assistant") as tell:
        def tools(key=PHONE):
            payload = json.loads(call("GET", "/mcp-rest/tools/list", via="https", key=key).read())
            expect(not payload.get("error"), payload)
            return sorted(tool["mcp_info"]["server_name"] for tool in payload["tools"])

        def who(server, key=PHONE):
            wish = {"server_id": server, "name": "who", "arguments": {}}
            answer = call("POST", "/mcp-rest/tools/call", json.dumps(wish), via="https", key=key)
            payload = answer.read().decode()
            expect(answer.status == 200, f"{answer.status} {payload[:300]}")
            return json.loads(json.loads(payload)["content"][0]["text"])

        expect(tools(MASTER) == ["files", "home_assistant"], tools(MASTER))
        expect(tools() == ["files", "home_assistant"], f"of the key: {tools()}")
        expect(tools(tablet) == [], f"of a key without a grant: {tools(tablet)}")
        who("home_assistant")
        first = who("files")
        expect(first["uid"] not in (0, pwd.getpwnam("gateway").pw_uid), f"user {first['uid']}")
        expect(first["words"] == ["/srv/a share", "100%"], first)
        expect(first["secret_of_its_own"] == "token-of-the-files-alone" and first["sees"] == [], first)
        expect(not [name for name in first["names"] if "GATEWAY" in name or "GROQ" in name], first["names"])
        expect(who("files")["pid"] == first["pid"], "a process for each call")
        os.kill(first["pid"], 9)

        def another():
            try:
                return who("files")["pid"] != first["pid"]
            except Exception:
                # A call that may have run already is not sent again.
                return False

        wait_for("another process", another)
        wait_for("the rows", lambda: int(sql("select count(*) from ledger where call_type = 'call_mcp_tool'") or 0) >= 4)
        unit = run("systemctl", "list-units", "--plain", "--no-legend", "gateway-mcp-files@*").split()[0]
        score = run("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        expect(float(score.split(":")[1].split()[0]) <= 2.5, score)
        tell(f"user {first['uid']}, {score.split(':')[1].split()[0]} of 10, another process after kill -9")
        systemctl("restart", "gateway.service")
        expect(who("files")["uid"] and tools() == ["files", "home_assistant"], "not served after a restart")
with step("Postgres is away and comes back: who is known is served, the rows come afterwards, the doctor says it") as tell:
    postgres = run("systemctl", "list-units", "--plain", "--no-legend", "postgresql@*").split()[0]
    # Known again: a reload forgets who was looked up.
    expect(with_key(tablet)[0] == 200, "not served")
    systemctl("stop", postgres)
    wait_for("readiness to say so", lambda: get("/health/readiness")[0] == 503)
    expect("is down" in prop("StatusText"), prop("StatusText"))
    missed = []
    for number in range(6):
        answer = call("POST", "/v1/chat/completions", json.dumps(
            {"model": "fast", "messages": [{"role": "user", "content": "{}"}]}), key=(PHONE, tablet)[number % 2])
        expect(answer.status == 200, f"{answer.status} {answer.read()}")
        answer.read()
        missed.append(answer.headers["x-litellm-call-id"])
    said = run("gateway", "doctor")
    for line in ("without its database", "systemctl start postgresql"):
        expect(line in said, said)
    before = prop("MainPID")
    systemctl("start", postgres)
    began = time.monotonic()
    wait_for("readiness", lambda: get("/health/readiness")[0] == 200)
    for identity in missed:
        expect(row_of(identity)["status"] == "success", identity)
    expect(prop("MainPID") == before, "another process")
    tell(f"{len(missed)} rows {time.monotonic() - began:.1f} s after it came back")
with step("20 MB through Nginx") as tell:
    size = 20_000_000
    began = time.monotonic()
    expect(int(chat(pad=size, via="https").split()[2]) > size, "cut short")
    tell(f"{time.monotonic() - began:.1f} s")
with step("a stream that is silent for longer than Nginx waits, on a shorter clock") as tell:
    location = pathlib.Path("/etc/gateway-location.conf")
    text = location.read_text()
    lines = [f"proxy_read_timeout 4s;" if "proxy_read_timeout" in line else line for line in text.splitlines()]
    location.write_text("\n".join(lines))
    run("systemctl", "kill", "-s", "HUP", "--kill-whom=main", "front.service")
    time.sleep(0.5)
    events, comments = read_stream(chat({"events": 2, "silence": 10}, stream=True, via="https"))
    expect(len(events) == 4 and events[-1] == b"[DONE]", events)
    expect(comments >= 7, f"{comments} comments")
    tell(f"10 s of silence, Nginx's limit 4 s, {comments} keep-alives")

with step("a dump of the database, whole or not at all") as tell:
    systemctl("start", "gateway-backup.service")
    dump = pathlib.Path(next(line for line in run("systemctl", "cat", "gateway-backup").splitlines() if "mv" in line)
                        .split(".new", 1)[1].split(" ", 1)[1].strip(' "').replace("%%", "%"))
    expect(dump.stat().st_uid == pwd.getpwnam("gateway").pw_uid and dump.stat().st_mode & 0o777 == 0o600, dump.stat())
    expect(not os.path.exists(f"{dump}.new"), "half a dump")
    tell(f"{dump}, {dump.stat().st_size} bytes")
with step("without a database_url: SQLite in the sandbox, with a key, its row, and a dump") as tell:
    good = SETTINGS.read_text()
    line = next(line for line in good.splitlines() if line.startswith("database_url"))
    before = prop("MainPID")
    SETTINGS.write_text(good.replace(line, ""))
    systemctl("restart", "gateway-config.service")
    wait_for("the other store", lambda: prop("MainPID") != before and
             json.loads(get("/health/readiness")[1]).get("store") == "sqlite")
    guest = generated({"key_alias": "guest", "models": ["fast"]})["key"]
    status, identity = with_key(guest)
    expect(status == 200, f"{status}")
    wait_for("the row", lambda: identity in get(f"/spend/logs?request_id={identity}")[1])
    database = pathlib.Path("/var/lib/gateway/gateway.db")
    expect(database.stat().st_mode & 0o777 == 0o600, f"{database.stat().st_mode:o}")
    if os.path.exists("/etc/systemd/system/gateway-backup-embedded.service"):
        for _ in range(2):
            systemctl("start", "gateway-backup-embedded.service")
        dump = next(pathlib.Path("/var/backup").glob("*/gateway.db"))
        expect(dump.stat().st_size > 0 and dump.stat().st_mode & 0o777 == 0o600, dump.stat())
        expect([path.name for path in dump.parent.iterdir()] == ["gateway.db"], "something is left there")
        tell(f"{dump}, {dump.stat().st_size} bytes")
    SETTINGS.write_text(good)
    systemctl("restart", "gateway-config.service")
    wait_for("Postgres again", lambda: json.loads(get("/health/readiness")[1]).get("store") == "postgres")
    expect(with_key(tablet)[0] == 200 and with_key(guest)[0] == 401, "the keys of the other store")
with step("gateway doctor finds nothing wrong") as tell:
    said = run("gateway", "doctor")
    expect("all is well" in said, said)
    tell(said.splitlines()[-1])
with step("no secret in units, properties, environments, command lines or the journal") as tell:
    secrets = [MASTER, PHONE, guest, "sk-phone-another-one", tablet, "token-of-the", "gsk-first-key", "gsk-second-key", "ops-token-of-the-test"]
    places = {
        "journal": run("journalctl", "-b", "--no-pager", "-o", "verbose", "--all"),
        "properties": run("systemctl", "show", "--all", *CHAIN, "gateway.socket"),
        "status": run("systemctl", "status", "--no-pager", "-l", *CHAIN),
        "doctor": run("gateway", "doctor"),
    }
    # Their stand-in for the store, too.
    for path in glob.glob("/etc/systemd/system/gateway*") + [str(SETTINGS), "/run/gateway/gateway.toml"]:
        if os.path.isfile(path):
            places[path] = pathlib.Path(path).read_text()
    pid = prop("MainPID")
    for name in ("environ", "cmdline"):
        places[f"/proc/{pid}/{name}"] = pathlib.Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    for place, text in places.items():
        expect(text, f"{place} is empty")
        for secret in secrets:
            expect(secret not in text, f"{secret} in {place}: {text[max(0, text.find(secret) - 300):][:400]}")
    tell(f"{len(places)} places")
with step("nothing of ours has failed"):
    failed = [line for line in run("systemctl", "--failed", "--plain", "--no-legend").splitlines() if "gateway" in line]
    expect(not failed, failed)

print(f"     {report.failed} of the steps failed" if report.failed else "     all steps passed")
sys.exit(1 if report.failed else 0)
