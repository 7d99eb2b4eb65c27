//! Figures in sentences.

use std::time::Duration;

/// "99.2 %": at most two decimals. What is not complete never reads as 100 %, what is not nothing never as 0 %.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    match short {
        "100" if share < 1.0 => "over 99.99 %".to_owned(),
        "0" | "" if share > 0.0 => "under 0.01 %".to_owned(),
        _ => format!("{short} %"),
    }
}

/// "12,345"
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "log e 12.3 of 3.0 needed". What is not enough never reads as enough.
pub(super) fn log_e(got: f64, needed: f64) -> String {
    let got = if got < needed { (got * 10.0).floor() / 10.0 } else { got };
    format!("log e {got:.1} of {needed:.1} needed")
}

/// "45 s", "12 min", "1 h 5 min": rounded down.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well_and_do_not_mislead() {
        let percents = [0.992, 0.98, 1.0, 0.999_999, 0.0, 0.000_001, 0.999_5, 0.1];
        let expected = ["99.2 %", "98 %", "100 %", "over 99.99 %", "0 %", "under 0.01 %", "99.95 %", "10 %"];
        assert_eq!(percents.map(percent), expected);
        assert_eq!([0, 999, 1000, 12_345, 1_234_567].map(count), ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(log_e(12.34, 2.9957), "log e 12.3 of 3.0 needed");
        assert_eq!(log_e(2.97, 2.9957), "log e 2.9 of 3.0 needed");
        let durations = [0, 59, 60, 3599, 3600, 3900, 90_000].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(durations, ["0 s", "59 s", "1 min", "59 min", "1 h", "1 h 5 min", "25 h"]);
    }
}
