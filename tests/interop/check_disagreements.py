"""Look at the log records of disagreements that an OpenTelemetry Collector received from shadow-sidecar.

usage: check_disagreements.py LOGS EXAMPLES REPORT...
LOGS is the collector's file, one OTLP JSON document a line; each REPORT is what one `understudy demo --json` wrote, all about
the models in EXAMPLES. Prints one line for each check, `ok NAME: ...` or `FAIL NAME: ...`; exits 1 when one failed.
"""

import json
import sys
from pathlib import Path

EVENT = "shadow.disagreement"
# What redacted inputs say where there is no category to name.
NO_CATEGORY = {"missing", "unseen"}


def plain(value):
    """The value of an OTLP AnyValue: text, number, or a dictionary of them."""
    (kind, content), *rest = value.items()
    assert not rest, f"one value of several kinds: {value}"
    if kind == "kvlistValue":
        return attributes(content.get("values", []))
    if kind == "arrayValue":
        return [plain(each) for each in content.get("values", [])]
    # JSON has no integers of 64 bits: they are texts.
    return int(content) if kind == "intValue" else content


def attributes(entries):
    """Attributes as a dictionary."""
    return {entry["key"]: plain(entry["value"]) for entry in entries}


def records(path):
    """Each log record with the attributes of its resource."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            for part in json.loads(line).get("resourceLogs", []):
                resource = attributes(part.get("resource", {}).get("attributes", []))
                for scope in part["scopeLogs"]:
                    yield from ((resource, record) for record in scope["logRecords"])


def check_records(found, reports, _categories):
    """There are some, each once, and not more than there were disagreements."""
    disagreed = sum(report["agreement"]["compared"] - report["agreement"]["agreed"] for report in reports)
    assert found, f"no log record has the event name {EVENT}, though {disagreed} rows disagree"
    numbers = [
        (resource["service.instance.id"], told["shadow.epoch"], told["shadow.number"]) for resource, _, told, _ in found
    ]
    assert len(set(numbers)) == len(numbers), f"{len(numbers)} records, but {len(set(numbers))} different numbers"
    assert len(found) <= disagreed, f"{len(found)} records of {disagreed} rows that disagree"
    return f"{len(found)} records of {disagreed} rows that disagree"


def check_origin(found, reports, _categories):
    """A record says which process, which models and when."""
    for resource, record, told, _ in found:
        assert resource.get("service.name") == "shadow-sidecar", f"service.name is {resource.get('service.name')!r}"
        assert resource.get("service.instance.id"), "service.instance.id is missing"
        candidate = told["shadow.candidate"], told["shadow.candidate.version"]
        said = [reports[0]["report"]["epoch"]["candidate"][part] for part in ("name", "version")]
        assert list(candidate) == said, f"the candidate is {candidate}, the report says {said}"
        assert int(record["timeUnixNano"]) > 0, "no time"
    return f"{candidate[0]} {candidate[1]}"


def check_flips(found, _reports, _categories):
    """Both labels, of which one is the primary's, and the scores that say so."""
    flips = {}
    for _, _, told, _ in found:
        assert told["shadow.kind"] == "flip", f"the kind is {told['shadow.kind']}"
        labels = told["shadow.primary.label"], told["shadow.candidate.label"]
        assert labels[0] != labels[1], f"both have {labels[0]}"
        scores = told["shadow.primary.score"], told["shadow.candidate.score"]
        assert (scores[0] > 0.5) != (scores[1] > 0.5), f"scores {scores} are on the same side of one half"
        flips[labels] = flips.get(labels, 0) + 1
    return ", ".join(f"{count} from {primary} to {candidate}" for (primary, candidate), count in flips.items())


def check_redacted(found, _reports, categories):
    """The inputs: features of the schema, and no text that is not one of its categories."""
    for _, _, _, body in found:
        assert body, "a record without inputs"
        for name, value in body.items():
            assert name in categories, f"{name!r} is no feature"
            known = categories[name]
            assert not known or value in known | NO_CATEGORY, f"{name} is {value!r}, which the schema does not have"
    return f"{len(found[0][3])} features each, as {', '.join(f'{k}={v}' for k, v in list(found[0][3].items())[:3])}"


def main():
    """Runs every check, also after one has failed."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    logs, examples, *reports = (Path(argument) for argument in sys.argv[1:])
    try:
        reports = [json.loads(report.read_text(encoding="utf-8")) for report in reports]
        schema = json.loads((examples / "models/adult/1/schema.json").read_text(encoding="utf-8"))
        found = [
            (resource, record, attributes(record.get("attributes", [])), plain(record["body"]))
            for resource, record in (records(logs) if logs.exists() else [])
            if record.get("eventName") == EVENT
        ]
    except (OSError, LookupError, ValueError) as error:
        print(f"FAIL disagreements-files: {type(error).__name__}: {error}")
        sys.exit(1)
    categories = {feature["name"]: set(feature.get("categories", [])) for feature in schema["features"]}
    failed = False
    for check in (check_records, check_origin, check_flips, check_redacted):
        name = check.__name__.replace("check_", "disagreements-")
        try:
            print(f"ok {name}: {check(found, reports, categories)}")
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            failed = True
            print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}")
            if not found:
                break
    sys.exit(failed)


if __name__ == "__main__":
    main()
