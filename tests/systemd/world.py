"""What the checks need: calls, load with counts, systemctl, and steps that are timed and told."""

import collections
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time

MASTER = "sk-master-of-the-systemd-test"
FILES = "/opt/gateway-test"
TLS = ssl.create_default_context(cafile=f"{FILES}/ca.pem")


class Failed(Exception):
    """What a check found."""


def expect(truth, what):
    if not truth:
        raise Failed(what)


class Report:
    """Each step on one line; a failed one with the journal's last lines."""

    def __init__(self):
        self.failed = 0

    @contextlib.contextmanager
    def step(self, name):
        began = time.monotonic()
        details = []
        try:
            yield details.append
        except Exception as e:  # Whatever it was: the steps after it are told, too.
            self.failed += 1
            print(f"FAIL {time.monotonic() - began:6.1f} s  {name}: {type(e).__name__}: {e}")
            for line in run("journalctl", "-b", "-n", "15", "--no-pager", "-o", "short-monotonic").splitlines():
                print(f"     | {line}")
            return
        print(f"ok   {time.monotonic() - began:6.1f} s  {name}{''.join(f'; {d}' for d in details)}")


def run(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout


def systemctl(*words):
    done = subprocess.run(["systemctl", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    expect(done.returncode == 0, f"systemctl {' '.join(words)}: {done.stdout}")
    return done.stdout


def prop(name, unit="gateway.service"):
    return run("systemctl", "show", "-P", name, unit).strip()


def wait_for(what, truth, patience=20):
    end = time.monotonic() + patience
    while not truth():
        expect(time.monotonic() < end, f"{what} did not come within {patience} s")
        time.sleep(0.05)


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect("/run/gateway.sock")


def connection(via, timeout):
    if via == "https":
        return http.client.HTTPSConnection("localhost", 443, context=TLS, timeout=timeout)
    if via == "unix":
        return Unix("localhost", timeout=timeout)
    return http.client.HTTPConnection("127.0.0.1", 4000, timeout=timeout)


def call(method, path, body=None, via="tcp", key=MASTER, timeout=40):
    """One request on a connection of its own; the open answer."""
    line = connection(via, timeout)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Connection": "close"}
    line.request(method, path, body, headers)
    return line.getresponse()


def get(path, **more):
    answer = call("GET", path, **more)
    return answer.status, answer.read().decode()


def chat(wish=None, stream=False, pad=0, model="fast", **more):
    """A chat call; the text of a whole answer, or the open answer of a stream."""
    text = json.dumps(wish or {}) + "\n" + "x" * pad
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
    answer = call("POST", "/v1/chat/completions", body, **more)
    if stream and answer.status == 200:
        return answer
    payload = answer.read().decode()
    expect(answer.status == 200, f"status {answer.status}: {payload[:300]}")
    return json.loads(payload)["choices"][0]["message"]["content"]


def read_stream(answer):
    """The events and the number of comments."""
    events, comments = [], 0
    for line in answer:
        if line.startswith(b"data: "):
            events.append(line[6:].strip())
        elif line.startswith(b":"):
            comments += 1
    return events, comments


class Load:
    """Callers without a pause, on connections of their own; every answer is counted by what became of it."""

    def __init__(self, callers):
        self.counts = collections.Counter()
        self.longest = 0.0
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(via,)) for via in callers]

    def _call(self, via):
        while not self._end.is_set():
            began = time.monotonic()
            try:
                chat(via=via)
                what = "served"
            except Exception as e:
                what = f"{via}: {type(e).__name__} {e}"
            with self._lock:
                self.counts[what] += 1
                self.longest = max(self.longest, time.monotonic() - began)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def told(self):
        expect(self.counts["served"] > 20, f"hardly any load: {dict(self.counts)}")
        lost = {what: n for what, n in self.counts.items() if what != "served"}
        expect(not lost, f"{self.counts['served']} served, lost: {lost}")
        return f"{self.counts['served']} calls, 0 lost, the longest {self.longest:.1f} s"


class Streams:
    """Streams that stay open for a while; each must end whole."""

    def __init__(self, number, wish, via=("tcp", "https")):
        self.ended = []
        self._threads = []
        for place in range(number):
            answer = chat(wish, stream=True, via=via[place % len(via)])
            expect(not isinstance(answer, str), "no stream")
            thread = threading.Thread(target=self._read, args=(answer, wish["events"]))
            thread.start()
            self._threads.append(thread)

    def _read(self, answer, number):
        try:
            events, _ = read_stream(answer)
            whole = len(events) == number + 2 and events[-1] == b"[DONE]"
            self.ended.append("whole" if whole else f"{len(events)} events, the last {events[-1:]}")
        except Exception as e:
            self.ended.append(f"{type(e).__name__} {e}")

    def told(self):
        for thread in self._threads:
            thread.join()
        broken = [end for end in self.ended if end != "whole"]
        expect(not broken, f"streams that broke: {broken}")
        return f"{len(self.ended)} open streams, all whole"
