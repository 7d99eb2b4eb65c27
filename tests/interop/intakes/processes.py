"""Processes that a rehearsal needs: ours with the ports they chose, and peers with ports that are free."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

READY = 60
GRACE = 15


class Died(RuntimeError):
    """A process that has ended, or never came up."""


def free_port():
    """A TCP port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def last_words(log):
    """The last lines of a log that say something."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " / ".join(line[:300] for line in lines[-3:]) or "it said nothing"


def end(process):
    """SIGTERM to the process's group, and SIGKILL when that is not enough."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


@contextmanager
def running(name, command, directory, ready, environment=None):
    """Runs `command` until the block ends; `ready` is asked until it says something. The pid, and that."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY
        while not (said := ready()):
            if process.poll() is not None:
                raise Died(f"{name} ended with {process.returncode}: {last_words(log)}")
            if time.monotonic() > deadline:
                raise Died(f"{name} is not ready after {READY} s: {last_words(log)}")
            time.sleep(0.05)
        yield process.pid, said
        if process.poll() is not None:
            raise Died(f"{name} has ended with {process.returncode}: {last_words(log)}")
    finally:
        end(process)


def listening(port):
    """Whether somebody accepts connections there."""

    def ask():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            return False

    return ask


class Ours:
    """Where our binaries and examples are."""

    def __init__(self, binaries, examples, directory):
        """`directory` is for whatever the processes leave behind."""
        self.binaries, self.examples, self.directory = Path(binaries), Path(examples), Path(directory)
        self.started = 0

    def package(self, model):
        """The directory of an example's package."""
        return self.examples / "models" / model / "1"

    def place(self, name):
        """A new directory for one process."""
        self.started += 1
        place = self.directory / f"{self.started}-{name}"
        place.mkdir()
        return place

    @contextmanager
    def process(self, binary, *flags):
        """Runs one of ours on free ports; its pid, and its addresses by name, among them `grpc`."""
        place = self.place(binary)
        ports = place / "ports.json"

        def ready():
            try:
                return json.loads(ports.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                return None

        listen = ["--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ports-file", ports]
        command = [self.binaries / binary, *listen, *flags]
        with running(binary, command, place, ready, {"XDG_RUNTIME_DIR": str(place)}) as started:
            yield started

    def server(self, models):
        """understudy-server with a model, or a directory of them; it refuses nobody because this machine is busy."""
        patience = ["--queue-wait", "30s", "--compute-wait", "30s"]
        return self.process("understudy-server", "--models", self.examples / "models" / models, *patience)

    def report(self, sidecar, candidate=""):
        """What `understudy report --json` prints."""
        command = [self.binaries / "understudy", "report", sidecar, "--json", "--candidate", candidate]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if said.returncode:
            raise Died(f"understudy report: exit {said.returncode}, {said.stderr.strip()[:300]}")
        return json.loads(said.stdout)
