"""Compare what an OpenTelemetry Collector received from sidecars with what they report themselves.

usage: check_collector.py METRICS REPORT...
METRICS is the collector's file, one OTLP JSON document a line; each REPORT is what an `understudy demo --json` wrote.
Prints one line for each check, `ok NAME: ...` or `FAIL NAME: ...`; exits 1 when one failed.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

CUMULATIVE = 2


@dataclass
class Point:
    """A data point with all that says what it belongs to."""

    metric: dict
    kind: str
    resource: dict
    values: dict

    def stream(self):
        """What makes it the successor of an earlier point: the instance and the attributes."""
        attributes = tuple(sorted(plain(self.values).items()))
        return self.resource.get("service.instance.id"), attributes

    def time(self):
        """Nanoseconds since the epoch."""
        return int(self.values["timeUnixNano"])


def plain(entity):
    """Attributes as a dictionary of text."""
    return {entry["key"]: str(next(iter(entry["value"].values()), "")) for entry in entity.get("attributes", [])}


def points(path):
    """Every data point in the collector's file, by name of its metric."""
    found = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            for part in json.loads(line).get("resourceMetrics", []):
                resource = plain(part.get("resource", {}))
                for metric in (metric for scope in part["scopeMetrics"] for metric in scope["metrics"]):
                    kind = next(key for key in metric if isinstance(metric[key], dict) and "dataPoints" in metric[key])
                    for values in metric[kind]["dataPoints"]:
                        found.setdefault(metric["name"], []).append(Point(metric, kind, resource, values))
    return found


def need(found, name):
    """The points of a metric that has to be there."""
    assert name in found, f"the collector received no {name}; it has {', '.join(sorted(found)) or 'nothing'}"
    return found[name]


def total(found, name):
    """The last value of each stream of a cumulative, monotonic, integer sum, added up; and how many streams."""
    last = {}
    for point in need(found, name):
        assert point.kind == "sum", f"{name} is a {point.kind}, not a sum"
        assert point.metric["sum"].get("isMonotonic"), f"{name} is not monotonic"
        temporality = point.metric["sum"].get("aggregationTemporality")
        assert temporality == CUMULATIVE, f"{name} has temporality {temporality}, not cumulative"
        assert "asInt" in point.values, f"{name} is not an integer: {point.values}"
        before = last.get(point.stream())
        if before is None or point.time() >= before.time():
            last[point.stream()] = point
    return sum(int(point.values["asInt"]) for point in last.values()), len(last)


def check_sums(found, reports):
    """Compared and agreed are what the reports say together: the last value of each instance, added up."""
    seen = {}
    for name in ("compared", "agreed"):
        seen[name], streams = total(found, f"shadow.{name}")
        said = sum(int(report["agreement"][name]) for report in reports)
        assert seen[name] == said, f"shadow.{name} is {seen[name]} over {streams} streams, the reports say {said}"
    assert seen["compared"] > 0, "nothing was compared"
    return f"shadow.compared {seen['compared']}, shadow.agreed {seen['agreed']}, as in {len(reports)} reports together"


def check_pool(found, reports):
    """What bounds are computed from adds up over instances: n exactly, s up to rounding."""
    observations, streams = total(found, "shadow.observations")
    assert streams == len(reports), f"{streams} streams of {len(reports)} sidecars"
    said = sum(int(report["agreement"]["observations"]) for report in reports)
    assert observations == said, f"shadow.observations is {observations}, the reports say {said}"
    last = {}
    for point in need(found, "shadow.shares"):
        before = last.get(point.stream())
        if before is None or point.time() >= before.time():
            last[point.stream()] = point
    shares = sum(float(point.values["asDouble"]) for point in last.values())
    expected = sum(float(report["agreement"]["shares"]) for report in reports)
    assert abs(shares - expected) <= 1e-9 * expected, f"shadow.shares is {shares}, the reports say {expected}"
    return f"n = {observations} and s = {shares:.3f} over {streams} instances"


def check_complete(found, reports):
    """Every row that was sent was compared."""
    compared, sent = total(found, "shadow.compared")[0], sum(int(report["sent_rows"]) for report in reports)
    assert compared == sent, f"{sent} rows were sent, {compared} compared"
    return f"{sent} rows sent, {compared} compared"


def check_resource(found, reports):
    """The resource says which process each one is."""
    instances = set()
    for point in need(found, "shadow.compared") + need(found, "shadow.agreed"):
        name = point.resource.get("service.name")
        assert name == "shadow-sidecar", f"service.name is {name!r}"
        assert point.resource.get("service.instance.id"), "service.instance.id is missing"
        instances.add(point.resource["service.instance.id"])
    assert len(instances) == len(reports), f"{len(reports)} sidecars, but instances {sorted(instances)}"
    return ", ".join(f"{key}={value}" for key, value in sorted(point.resource.items()))


def check_latency(found, _reports):
    """Latencies come as exponential histograms in seconds."""
    count = 0
    for point in need(found, "shadow.latency"):
        assert point.kind == "exponentialHistogram", f"shadow.latency is a {point.kind}"
        assert point.metric.get("unit") == "s", f"the unit is {point.metric.get('unit')!r}"
        temporality = point.metric[point.kind].get("aggregationTemporality")
        assert temporality == CUMULATIVE, f"temporality {temporality}, not cumulative"
        count = max(count, int(point.values.get("count", 0)))
    assert count > 0, "no latency was recorded"
    return f"exponential histogram in s, {count} values in the largest stream"


def main():
    """Runs every check, also after one has failed."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        found = points(Path(sys.argv[1]))
        reports = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[2:]]
    except (OSError, ValueError) as error:
        print(f"FAIL collector-files: {error}")
        sys.exit(1)
    failed = False
    for check in (check_sums, check_pool, check_complete, check_resource, check_latency):
        name = check.__name__.replace("check_", "collector-")
        try:
            print(f"ok {name}: {check(found, reports)}")
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            failed = True
            print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
