//! A text becomes a point in time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970 of a date or a date with a time in ISO 8601; UTC unless the text has an offset. A double holds
/// today's nanoseconds to 256, which is what a model reads of them.
pub(super) fn nanoseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let stamp = match text.parse::<Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    Some(stamp.as_nanosecond() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_read() {
        for (text, expected) in [
            ("1970-01-01", 0.0),
            ("2024-02-29", 1_709_164_800e9),
            ("2024-02-29 00:00:01", 1_709_164_801e9),
            ("2024-02-29T00:00:00.5", 1_709_164_800.5e9),
            ("2024-02-29T01:00:00+01:00", 1_709_164_800e9),
            ("2024-02-29T00:00:00Z", 1_709_164_800e9),
            ("1900-01-01", -2_208_988_800e9),
        ] {
            assert_eq!(nanoseconds(text), Some(expected), "{text}");
        }
        for text in ["", "yesterday", "2024-13-01", "2023-02-29", "29/02/2024", "1"] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
