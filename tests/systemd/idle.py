"""A client at the moment of the idle exit, again and again, with systemd's own socket. Needs systemd 255.

`FlushPending=no` keeps who waits when the gateway ends by itself; the limits of the socket must bear the many starts,
and a chain that is broken for a while.
"""

import os
import pathlib
import sys
import threading
import time

from world import FILES, Report, expect, get, prop, run, systemctl, wait_for

ROUNDS = int(os.environ["GATEWAY_ROUNDS"])
# server.idle_timeout of these units, and the time in which the gateway makes sure that nobody has come in.
LIMIT, SETTLE = 0.3, 0.1
DOWN = pathlib.Path("/etc/gateway/vault-is-down")

pathlib.Path("/etc/gateway/gateway.toml").write_text('master_key = "env:GATEWAY_MASTER_KEY"\n')
report = Report()
step = report.step

with step("the gateway ends when nobody is connected, the socket stays"):
    expect(get("/health/readiness")[0] == 200, "not served")
    wait_for("the end", lambda: prop("ActiveState") == "inactive")
    expect(prop("Result") == "success", prop("Result"))
    expect(prop("ActiveState", "gateway.socket") == "active", "no socket")
    expect("the next one starts" in run("journalctl", "-b", "-u", "gateway", "-o", "cat", "--no-pager"), "not told")

with step(f"{ROUNDS} clients at the moment of the exit") as tell:
    processes, longest, lost = set(), 0.0, []
    for number in range(ROUNDS):
        get("/health/liveliness")
        # Across the exit: from before it is decided until the process is gone.
        time.sleep(LIMIT - 0.05 + (SETTLE + 0.2) * number / ROUNDS)
        began = time.monotonic()
        try:
            status, _ = get("/health/liveliness", via=("tcp", "unix")[number % 2], timeout=30)
            expect(status == 200, f"status {status}")
        except Exception as e:
            lost.append(f"round {number}: {type(e).__name__} {e}")
        longest = max(longest, time.monotonic() - began)
        processes.add(prop("MainPID"))
    expect(not lost, f"{len(lost)} lost: {lost[:5]}")
    expect(len(processes) > ROUNDS / 4, f"only {len(processes)} processes: the exit was not met")
    tell(f"0 lost, {len(processes)} processes, the longest answer {longest:.2f} s")

with step("bursts of 20 clients around the exit") as tell:
    failed = []

    def one(delay):
        time.sleep(delay)
        try:
            expect(get("/health/liveliness", timeout=30)[0] == 200, "status")
        except Exception as e:
            failed.append(f"{type(e).__name__} {e}")

    for _ in range(max(5, ROUNDS // 20)):
        get("/health/liveliness")
        threads = [threading.Thread(target=one, args=(LIMIT + place * 0.012,)) for place in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expect(not failed, f"{len(failed)} lost: {failed[:5]}")
    tell("0 lost")

with step("a broken chain does not take the socket away, and who waits is served afterwards") as tell:
    wait_for("the end", lambda: prop("ActiveState") == "inactive")
    systemctl("stop", "gateway-secrets.service", "gateway-config.service")
    for path in ("/run/gateway/gateway.toml", "/run/gateway-secrets/env"):
        os.remove(path)
    DOWN.touch()
    answers = []

    def wait_long():
        began = time.monotonic()
        try:
            answers.append((get("/health/readiness", timeout=60)[0], time.monotonic() - began))
        except Exception as e:
            answers.append((f"{type(e).__name__} {e}", time.monotonic() - began))

    waiting = threading.Thread(target=wait_long)
    waiting.start()
    time.sleep(10)
    expect(prop("ActiveState", "gateway.socket") == "active", prop("Result", "gateway.socket"))
    starts = run("journalctl", "-b", "-u", "gateway", "-o", "cat", "--no-pager", "--since", "-10s").count("Starting ")
    DOWN.unlink()
    waiting.join()
    expect(answers[0][0] == 200, answers)
    tell(f"{starts} starts in 10 s, served after {answers[0][1]:.0f} s")
    expect(prop("ActiveState", "gateway.socket") == "active", prop("Result", "gateway.socket"))

print(f"     {report.failed} of the steps failed" if report.failed else "     all steps passed")
sys.exit(1 if report.failed else 0)
