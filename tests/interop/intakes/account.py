"""What a report has to satisfy, whatever the peers are, and how it reads in one line."""


def sums(counts, what):
    """offered = compared + dropped by reason + failed by code + in flight."""
    parts = counts["compared"] + sum(counts["dropped"].values()) + sum(counts["failed"].values()) + counts["in_flight"]
    assert counts["offered"] == parts, f"of {counts['offered']} {what} offered {parts} are accounted for: {counts}"


def intake(said, requests):
    """requests = denied + looped + sampled_out + matched + unmatched of the mirror's side + waiting_mirror."""
    unmatched = sum(half["count"] for half in said["unmatched"] if half["side"] == "mirror")
    names = ("denied", "looped", "sampled_out", "matched", "waiting_mirror")
    parts = unmatched + sum(said[name] for name in names)
    assert said["requests"] == parts, f"of {said['requests']} requests {parts} are accounted for: {said}"
    assert said["requests"] == requests, f"{requests} requests were sent, the sidecar got {said['requests']}: {said}"


def settled(report, requests):
    """Whether everything that was sent has come to its end."""
    exchanges, waiting = report["exchanges"], report["intake"]
    halves = waiting["waiting_mirror"] + waiting["waiting_tap"]
    return exchanges["offered"] >= requests and exchanges["in_flight"] == 0 and halves == 0


def conservation(report, requests):
    """Nothing is lost without being counted, and as much was offered as was sent."""
    sums(report["exchanges"], "exchanges")
    sums(report["rows"], "rows")
    offered = report["exchanges"]["offered"]
    assert offered == requests, f"{requests} requests were sent, {offered} exchanges offered: {report['exchanges']}"
    if report["intake"]["kind"] != "tap":
        intake(report["intake"], requests)


def comparison(report, requests, agreed):
    """Each exchange was compared, and rows agree as often as LightGBM says they do."""
    compared, said = report["exchanges"]["compared"], report["agreement"]
    assert compared == requests, f"{compared} of {requests} were compared: {report['exchanges']}"
    assert said["compared"] == requests, f"{said['compared']} rows of {requests} were compared"
    assert said["agreed"] == agreed, f"{said['agreed']} rows agree; LightGBM says that {agreed} do"
    assert said["lower"] <= said["rate"] <= said["upper"], f"{said['rate']} is not in its bounds: {said}"
    flips = {True: 0, False: 0}
    for flip in report["flips"]:
        flips[flip["primary"] == flip["candidate"]] += flip["count"]
    assert flips == {True: agreed, False: requests - agreed}, f"the flips say {flips}, the agreement {said}"


def decision(report, good, decided):
    """A good candidate is never rejected, a bad one never promoted; with enough requests both are `decided`."""
    verdict, right = report["verdict"], "promote" if good else "reject"
    allowed = {right} if decided else {right, "undecided"}
    reasons = "; ".join(report["reasons"])[:300]
    assert verdict in allowed, f"the verdict is {verdict}, expected {' or '.join(sorted(allowed))}: {reasons}"


def noise(report):
    """A primary that was asked again: LightGBM always agrees with itself."""
    said, repeated = report["noise"], report["intake"]["repeated"]
    assert said and said["compared"] > 0, f"there is no noise floor: {said}"
    assert said["agreed"] == said["compared"] == repeated, f"of {repeated} asked twice, the noise floor has {said}"
    executed, requests = report["intake"]["executed"], report["intake"]["requests"]
    assert executed == requests, f"{requests} requests were mirrored, the primary was asked {executed} times"


def count(losses):
    """A sum, and what it is made of."""
    total = sum(losses.values())
    return f"{total} {losses}" if total else "0"


def line(report):
    """The figures of a rehearsal."""
    exchanges, said = report["exchanges"], report["agreement"]
    text = (
        f"offered {exchanges['offered']} = compared {exchanges['compared']} + dropped {count(exchanges['dropped'])}"
        f" + failed {count(exchanges['failed'])} + in flight {exchanges['in_flight']};"
        f" coverage {exchanges['coverage']:.4f};"
        f" agreement {said['rate']:.4f} in [{said['lower']:.4f}, {said['upper']:.4f}]; {report['verdict']}"
    )
    if report["noise"]:
        text += f"; the primary agrees with itself on {report['noise']['agreed']} of {report['noise']['compared']}"
    worst = [part for part in report["slices"] if part["discovered"]]
    if worst:
        least = min(worst, key=lambda part: part["rate"])
        text += f"; differs most on {least['name']}: {least['rate']:.4f} of {least['compared']}"
    return text
