"""Points in time: from the text of a `datetime` feature to nanoseconds since 1970, UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d\d:?\d\d)?\Z", re.ASCII
)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def nanoseconds(text: str) -> int | None:
    """Nanoseconds since 1970 of a date or time of ISO 8601, without an offset in UTC; None when it is none.

    What is finer than a nanosecond is no time of this format.
    """
    match = TEXT.match(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError:
        return None
    seconds = (moment.replace(tzinfo=timezone.utc) - EPOCH) // timedelta(seconds=1)
    if offset and offset != "Z":
        minutes = int(offset[1:3]) * 60 + int(offset[-2:])
        seconds -= 60 * (minutes if offset[0] == "+" else -minutes)
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))


def text(value: int) -> str:
    """The shortest text of nanoseconds since 1970."""
    moment = EPOCH + timedelta(seconds=value // 10**9)
    fraction = f"{value % 10**9:09}".rstrip("0")
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"
