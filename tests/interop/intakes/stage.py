"""What all rehearsals have in common: a sidecar beside a primary, traffic, and a look at the reports."""

import json
import os
import signal
import time
from contextlib import contextmanager
from urllib.request import urlopen

import account
import meshes
import servers

SETTLES = 60
# Requests that are enough for a verdict about either of the examples' candidates.
ENOUGH = 2500
# Columns of the examples' answers, by the names under which both packages rehearse.
PACKAGES = {"good": "adult_candidate", "bad": "adult_candidate_bad"}
# How servers that are not ours are to be understood: the output with P(>50K).
OUTPUTS = {"mlserver": "predict", "triton": "p"}
CLASSES = "<=50K,>50K"
SLICES = ("--slices", "education;marital_status;age:30,50")
# Nothing may be lost only because this machine is busy: that is not what is looked at here.
PATIENCE = ("--candidate-timeout", "30s", "--join-ttl", "60s", "--queue", "16384")
GATES = ("--gate", "0.98", "--min-duration", "0s")


class Stage:
    """Where one scene is played. What it starts ends with `stack`."""

    def __init__(self, name, stack, peers, ours, traffic, requests):
        """`peers` are paths by name."""
        self.name, self.stack, self.peers, self.ours, self.traffic = name, stack, peers, ours, traffic
        self.requests, self.failed, self.pids = requests, False, {}
        # Who is asked what they have counted, when something is missing.
        self.witnesses = []

    def server(self, models="adult"):
        """Our server with an example's model, or with all of them in `.`; its address."""
        _, addresses = self.stack.enter_context(self.ours.server(models))
        return addresses["grpc"]

    def other(self, peer, model="adult"):
        """A server that is not ours, with the trees of an example's package as `adult`; its address."""
        start = {"mlserver": servers.mlserver, "triton": servers.triton}[peer]
        place, package = self.ours.place(peer), self.ours.package(model)
        return self.stack.enter_context(start(self.peers[peer], place, package, "adult"))

    def nginx(self, primary, sidecar, path, timeout=60):
        """See meshes.nginx."""
        place = self.ours.place("nginx")
        return self.stack.enter_context(meshes.nginx(self.peers["nginx"], place, primary, sidecar, path, timeout))

    def envoy(self, primary, sidecar, **options):
        """See meshes.envoy."""
        place = self.ours.place("envoy")
        started = meshes.envoy(self.peers["envoy"], place, primary, sidecar, **options)
        address, admin = self.stack.enter_context(started)
        self.witnesses.append(("Envoy", lambda: meshes.copies(admin)))
        return address

    def traefik(self, primary, sidecar):
        """See meshes.traefik."""
        place = self.ours.place("traefik")
        return self.stack.enter_context(meshes.traefik(self.peers["traefik"], place, primary, sidecar))

    def packages(self):
        """Flags for both packages as candidates in the sidecar's own process."""
        good, bad = (self.ours.package(name) for name in ("adult-candidate", "adult-candidate-bad"))
        return "--candidates", f"good={good},bad={bad}"

    def tables(self, candidates):
        """Flags for candidates as tables of a file."""
        file = self.ours.place("config") / "sidecar.toml"
        lines = []
        for candidate in candidates:
            # A JSON string is a TOML string.
            lines += ["[[candidates]]", *(f"{key} = {json.dumps(value)}" for key, value in candidate.items())]
        file.write_text("\n".join(lines), encoding="utf-8")
        return "--config", file

    def sidecar(self, intake, primary, *flags, name="good"):
        """Starts a sidecar and waits until it knows its primary; its address. `name` is one of its candidates."""
        command = ["--primary", f"http://{primary}", "--intake", intake, *PATIENCE, *GATES, *flags]
        pid, addresses = self.stack.enter_context(self.ours.process("shadow-sidecar", *command))
        address = addresses["grpc"]
        self.pids[address] = pid
        self.witnesses.append(("the sidecar's edge", lambda: refusals(addresses["admin"])))
        self.wait_for(address, name, "connected", lambda report: report["intake"]["connected"])
        return address

    def wait_for(self, sidecar, name, what, holds):
        """The first report for which that holds."""
        deadline = time.monotonic() + SETTLES
        while not holds(report := self.ours.report(sidecar, name)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} after {SETTLES} s: {report['exchanges']}, {report['intake']}")
            time.sleep(0.1)
        return report

    @contextmanager
    def hanging(self, sidecar):
        """The sidecar does nothing until the block ends: neither reads nor closes what it has been sent."""
        os.kill(self.pids[sidecar], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pids[sidecar], signal.SIGCONT)

    def say(self, text):
        """That what was to be seen was seen."""
        print(f"ok {self.name}: {text}", flush=True)

    def send(self, address, **options):
        """Sends the traffic; see Traffic.send."""
        self.traffic.send(address, "adult", self.requests, **options)

    def check(self, sidecar, candidates=PACKAGES, *, noise=False):
        """Waits for the end of a rehearsal and looks at its reports; `candidates` are columns of answers by name."""
        for name, column in candidates.items():
            full = f"{self.name}-{name}" if name in PACKAGES else self.name
            try:
                self.wait_for(sidecar, name, "settled", lambda report: account.settled(report, self.requests))
                report = self.ours.report(sidecar, name)
                account.conservation(report, self.requests)
                account.comparison(report, self.requests, self.traffic.agreed(column, self.requests))
                account.decision(report, column == "adult_candidate", self.requests >= ENOUGH)
                if noise:
                    account.noise(report)
            except Exception as error:  # whatever went wrong, the others are still looked at
                self.fail(full, error)
            else:
                print(f"ok {full}: {account.line(report)}", flush=True)

    def fail(self, name, error):
        """Says so."""
        self.failed = True
        said = [f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"]
        for witness, ask in self.witnesses:
            try:
                said.append(f"{witness}: {ask() or 'nothing'}")
            except OSError as silent:
                said.append(f"{witness}: {silent}")
        print(f"FAIL {name}: {'; '.join(said)}", flush=True)


def refusals(admin):
    """What one of our processes has counted that it did not take, or not finish."""
    with urlopen(f"http://{admin}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    words = ("refused", "rejected", "cut", "reset", "shed", "dropped", "unmatched", "cancelled")
    lines = (line for line in lines if not line.startswith("#") and any(word in line for word in words))
    return ", ".join(line for line in lines if not line.endswith(" 0"))[:1500]
