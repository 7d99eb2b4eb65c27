"""Rehearse behind each intake of the sidecar, with real peers, and hold the reports against what LightGBM itself says.

usage: rehearse.py tap|mirror|proxy|all --binaries DIR --examples DIR --requests N [--nginx FILE] [--envoy FILE]
                   [--traefik FILE] [--mlserver VENV] [--triton VENV]
A peer that is not named is skipped. Everything runs on 127.0.0.1. Prints one line for each rehearsal, `ok NAME: ...` or
`FAIL NAME: ...`; exits 1 when one failed.
"""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from processes import Ours
from scenes import SCENES
from stage import Stage
from traffic import Traffic

INTAKES = ("tap", "mirror", "proxy")
PEERS = ("nginx", "envoy", "traefik", "mlserver", "triton")


def play(scene, peers, ours, traffic, requests):
    """Whether everything was as it should be; prints what was seen."""
    missing = [peer for peer in scene.needs if peer not in peers]
    if missing:
        print(f"skipped: {scene.name}: needs {' and '.join(missing)}", flush=True)
        return True
    with ExitStack() as stack:
        stage = Stage(scene.name, stack, peers, ours, traffic, requests)
        try:
            scene.play(stage)
        except Exception as error:  # whatever went wrong, the other rehearsals still take place
            stage.fail(scene.name, error)
    return not stage.failed


def main():
    """Plays every scene behind the intakes that were asked for."""
    # So that a time-out of the caller's ends the processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("intake", choices=(*INTAKES, "all"))
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--examples", type=Path, required=True)
    parser.add_argument("--requests", type=int, required=True)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", type=Path)
    arguments = parser.parse_args()
    peers = {peer: path for peer in PEERS if (path := getattr(arguments, peer))}
    traffic = Traffic(arguments.examples)
    passed = True
    with tempfile.TemporaryDirectory() as directory:
        ours = Ours(arguments.binaries, arguments.examples, directory)
        for scene in SCENES:
            if arguments.intake in (scene.intake, "all"):
                passed &= play(scene, peers, ours, traffic, arguments.requests)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
