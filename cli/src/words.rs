//! Figures and foreign text as people read them.

/// "12,345"
pub(crate) fn count(n: u64) -> String {
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

/// "99.10 %". What is not complete never reads as 100 %, what is not nothing never as 0 %.
pub(crate) fn percent(share: f64) -> String {
    match format!("{:.2}", share * 100.0).as_str() {
        "100.00" if share < 1.0 => ">99.99 %".to_owned(),
        "0.00" if share > 0.0 => "<0.01 %".to_owned(),
        text => format!("{text} %"),
    }
}

/// Three digits and a unit: "31.2 µs", "1.24 ms", "2.30 s".
pub(crate) fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 0.999_5e-3 => (s * 1e6, "µs"),
        s if s < 0.999_5 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A time to wait, roughly: "45 s", "12 min", "3 h", "5 d".
pub(crate) fn rough(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 99.5 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 47.5 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86400.0),
    }
}

/// "3.0". What is not enough never reads as enough.
pub(crate) fn evidence(got: f64, needed: f64) -> String {
    let got = if got < needed { (got * 10.0).floor() / 10.0 } else { got };
    // Adding zero: never "-0.0".
    format!("{:.1}", got + 0.0)
}

/// A difference of scores, among which `largest` is the largest: four decimals where that says something.
pub(crate) fn score(value: f64, largest: f64) -> String {
    if largest == 0.0 || (1e-3..1e6).contains(&largest.abs()) {
        // Adding zero after rounding: never "-0.0000".
        format!("{:.4}", (value * 1e4).round() / 1e4 + 0.0)
    } else {
        format!("{value:.1e}")
    }
}

/// Text from another process: nothing in it can move the cursor.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `width` characters, the last one "…" when some are missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// `text` in lines of at most `width` characters, broken between words where possible.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let (mut line, mut word) = (lines.pop().unwrap_or_default(), word.to_owned());
        // A unit stays with its number, at the price of two columns.
        if !line.is_empty() && word != "%" && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.chars().count() > width.max(1) {
            let rest = word.chars().skip(width.max(1)).collect();
            lines.push(word.chars().take(width.max(1)).collect());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well_and_do_not_mislead() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let percents = [0.991, 1.0, 0.999_999, 0.0, 0.000_001, 0.1];
        assert_eq!(percents.map(percent), ["99.10 %", "100.00 %", ">99.99 %", "0.00 %", "<0.01 %", "10.00 %"]);
        let times = [0.0, 31.2e-6, 0.000_999_6, 0.001_24, 0.25, 2.3, 61.0];
        assert_eq!(times.map(seconds), ["0.00 µs", "31.2 µs", "1.00 ms", "1.24 ms", "250 ms", "2.30 s", "61.0 s"]);
        let waits = [0.0, 45.2, 99.6, 720.0, 10_800.0, 432_000.0].map(rough);
        assert_eq!(waits, ["0 s", "45 s", "2 min", "12 min", "3 h", "5 d"]);
        assert_eq!(evidence(2.97, 2.9957), "2.9");
        assert_eq!(evidence(-0.01, 2.9957), "-0.1");
        assert_eq!(evidence(-0.0, 2.9957), "0.0");
        assert_eq!([0.0123, -0.5, 1e-9, -1e-9].map(|x| score(x, 0.5)), ["0.0123", "-0.5000", "0.0000", "0.0000"]);
        assert_eq!([0.0, 2e-7, -1e-9].map(|x| score(x, 2e-7)), ["0.0e0", "2.0e-7", "-1.0e-9"]);
        assert_eq!(score(0.0, 0.0), "0.0000");
    }

    #[test]
    fn foreign_text_can_not_move_the_cursor() {
        assert_eq!(shown("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }

    #[test]
    fn long_text_is_cut_and_wrapped() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("at most 0.1 % and", 11), ["at most 0.1 %", "and"]);
        assert_eq!(wrap("", 7), [""]);
    }
}
