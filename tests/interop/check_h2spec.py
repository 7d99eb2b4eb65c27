"""Compare what h2spec says with the failures that are known and explained.

usage: check_h2spec.py KNOWN REPORT.xml...
KNOWN has a line for each: SECTION | TITLE | REASON. What fails in some of the reports only is chance: frames of the
server may overtake those that h2spec waits for. Prints `ok NAME: ...` or `FAIL NAME: ...`; exits 1 when a case fails
that is not known.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def known(path):
    """The reason of each known failure, by section and title."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    fields = [[field.strip() for field in line.split("|", 2)] for line in lines]
    return {(section, title): reason for section, title, reason in fields}


def read(report):
    """How many cases there are, and section and title of those that failed."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    bad = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return len(cases), {(case.get("package"), case.get("classname")) for case in bad}


def main():
    """Prints a line for each failure, and one for all cases together."""
    reasons = known(Path(sys.argv[1]))
    reports = [read(report) for report in sys.argv[2:]]
    cases, failures = min(count for count, _ in reports), set.intersection(*(failed for _, failed in reports))
    # Of 146 cases; a server that does not answer at all has none.
    if cases < 140:
        print(f"FAIL h2spec: the report has {cases} cases")
        return 1
    for section, title in sorted(failures & reasons.keys()):
        print(f"ok h2spec-known: {section}, {title}: {reasons[section, title]}")
    new = sorted(failures - reasons.keys())
    for section, title in new:
        print(f"FAIL h2spec: {section}, {title}: a failure that is not known")
    if not new:
        print(f"ok h2spec: {cases} cases, {len(failures)} known failures, none new")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
