"""The processes of a rehearsal, and a stand-in for a sidecar that says what no real one says today."""

import json
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Process:
    """A binary on free ports."""

    def __init__(self, directory: Path, name: str, *command: str, ports: bool = True):
        """Start it; with `ports` wait until it listens."""
        self.name, self.log = name, directory / f"{name}.log"
        file = directory / f"{name}.json"
        more = ["--ports-file", str(file)] if ports else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *more], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while ports and not (file.exists() and file.read_text().endswith("}")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not listen: {self.log.read_text()[-500:]}")
            time.sleep(0.05)
        self.ports = json.loads(file.read_text()) if ports else {}

    def stop(self) -> int:
        """End it as an orchestrator does; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def report(candidate: str, verdict: str) -> dict:
    """Make a report with everything hostile in it, with parts that only newer sidecars have."""
    counts = {"offered": 12, "compared": 10, "dropped": {HOSTILE: 1}, "failed": {"UNAVAILABLE": 1}, "in_flight": 0}
    latency = {"observed_via": HOSTILE, "count": 10, "mean": 1e-4, "p50": 1e-4, "p95": 2e-4, "p99": 4e-4, "max": 1e-3}
    return {
        "epoch": {
            "number": 3,
            "primary": {"name": "adult", "version": HOSTILE},
            "candidate": {"name": candidate, "version": "1"},
            "task": "multiclass",
            "comparator": HOSTILE,
        },
        "verdict": verdict,
        "reasons": [HOSTILE],
        "pairs_needed": None,
        "exchanges": counts,
        "rows": counts,
        "agreement": {"compared": 10, "agreed": 9, "rate": 0.9, "lower": 0.4, "upper": 0.99, "gate": 0.95},
        "flips": [
            {"primary": HOSTILE, "candidate": "b", "count": 1},
            {"primary": HOSTILE, "candidate": HOSTILE, "count": 9},
        ],
        "score_delta": {"count": 10, "mean": 0.1, "mean_absolute": 0.1, "max_absolute": 0.5, "root_mean_square": 0.2},
        "primary_latency": latency,
        "candidate_latency": latency,
        "intake": {"connected": False, "last_error": HOSTILE},
        "slices": [{"slice": HOSTILE, "observations": 10, "rate": 0.9}],
        "of_tomorrow": {HOSTILE: [1, HOSTILE]},
        "generated_unix_nanos": time.time_ns(),
    }


SEVERAL = {"reports": [report(HOSTILE, "reject"), report("second", "promote")]}
DISAGREEMENTS = {
    "disagreements": [
        {"arrived_unix_nanos": time.time_ns(), "prediction_id": HOSTILE, "features": {HOSTILE: HOSTILE}},
        {"arrived_unix_nanos": time.time_ns(), "prediction_id": "2", "primary_score": 0.25, "features": {}},
    ]
}


class StandIn:
    """Serves the page of a real sidecar with its headers, and the reports above."""

    def __init__(self, sidecar: str, told: dict, disagreements: dict | None = None, stream: bool = True):
        """Take the page from `sidecar` and tell `told`, with a stream or without a place for one."""
        with urllib.request.urlopen(f"{sidecar}/", timeout=10) as answer:
            page, policy = answer.read(), answer.headers["content-security-policy"]
        answers = {
            "/": ("text/html; charset=utf-8", page),
            "/report/events": ("text/event-stream", f"event: report\ndata: {json.dumps(told)}\n\n".encode()),
            "/report.json": ("application/json", json.dumps(told).encode()),
            "/history.json": ("application/json", b'{"candidates": [{}, {}]}'),
            "/distributions.json": ("application/json", b'{"candidates": []}'),
        }
        if not stream:
            del answers["/report/events"]
        if disagreements is not None:
            answers["/disagreements.json"] = ("application/json", json.dumps(disagreements).encode())

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                kind, body = answers.get(self.path.split("?")[0], (None, b""))
                self.send_response(200 if kind else 404)
                if kind:
                    self.send_header("content-type", kind)
                    self.send_header("content-security-policy", policy)
                self.end_headers()
                self.wfile.write(body)
                if kind == "text/event-stream":
                    self.wfile.flush()
                    closing.wait(120)

            def log_message(self, *_):
                """Say nothing."""

        self._closing = closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        """End it."""
        self._closing.set()
        self._server.shutdown()
