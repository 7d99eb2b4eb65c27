"""Points in time: what a text means in nanoseconds since 1970."""

import pytest

from understudy_export.dates import nanoseconds, text

SECOND = 10**9


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", SECOND),
        ("1969-12-31T23:59:59.5Z", -SECOND // 2),
        ("2024-02-29 12:00:00.123456789", 1709208000 * SECOND + 123456789),
        ("2024-02-29T12:00:00+05:30", (1709208000 - 19800) * SECOND),
        ("2024-02-29T12:00:00-0100", (1709208000 + 3600) * SECOND),
        ("2023-02-29", None),
        ("2024-13-01", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_text_to_nanoseconds(written, expected):
    assert nanoseconds(written) == expected


@pytest.mark.parametrize("value", [0, 1, -1, 1709208000 * SECOND + 120, -5 * SECOND])
def test_there_and_back(value):
    assert nanoseconds(text(value)) == value
