//! Bars of characters.

use understudy::v1::Agreement;

use crate::{output::Paint, words::percent};

/// Columns of the agreement's bar.
const SPAN: usize = 58;
/// Where its left end may be: it moves in steps, so that the picture is still most of the time.
const LEFT: [f64; 8] = [0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0];

/// A bar that is filled by a share of `width` columns, in eighths of a column.
pub(crate) fn progress(share: f64, width: usize) -> String {
    // NaN becomes 0.
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64) as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    let empty = width - eighths.div_ceil(8);
    ["█".repeat(eighths / 8).as_str(), part, "░".repeat(empty).as_str()].concat()
}

/// The confidence interval between two ends, with the estimate and the gate.
pub(super) fn interval(agreement: &Agreement, rate: f64, paint: Paint) -> String {
    let Agreement { lower, upper, gate, .. } = *agreement;
    let lowest = lower.min(gate);
    let left = LEFT.into_iter().find(|left| lowest > left + 0.05 * (1.0 - left)).unwrap_or(0.0);
    let column = |share: f64| ((share - left) / (1.0 - left) * (SPAN - 1) as f64).round().max(0.0) as usize;
    let (from, to, here, gate_at) = (column(lower), column(upper), column(rate), column(gate));
    let inside = |text: String| match () {
        () if lower > gate => paint.green(text),
        () if upper < gate => paint.red(text),
        () => paint.yellow(text),
    };
    // Runs of equal columns, so that colours are set once for each.
    let mut bar = String::new();
    let mut at = 0;
    while at < SPAN {
        let kind = |at: usize| match at {
            _ if at == here => '●',
            _ if at == gate_at => '┃',
            _ if (from..=to).contains(&at) => '━',
            _ => '─',
        };
        let end = (at..SPAN).find(|next| kind(*next) != kind(at)).unwrap_or(SPAN);
        let run: String = std::iter::repeat_n(kind(at), end - at).collect();
        bar += &match kind(at) {
            '┃' => paint.cyan(run),
            '─' => paint.dim(run),
            _ => inside(run),
        };
        at = end;
    }
    format!("{:>9} ├{bar}┤ {}", percent(left), percent(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_in_eighths() {
        let bars = [0.0, 0.5, 0.55, 1.0, 2.0, -1.0, f64::NAN].map(|share| progress(share, 4));
        assert_eq!(bars, ["░░░░", "██░░", "██▏░", "████", "████", "░░░░", "░░░░"]);
    }

    #[test]
    fn the_interval_stands_where_it_belongs() {
        let bar = |lower, rate, upper, gate| {
            let agreement = Agreement { lower, upper, gate, ..Agreement::default() };
            interval(&agreement, rate, Paint { colour: false })
        };
        assert_eq!(
            bar(0.98, 0.99, 0.995, 0.96),
            "  95.00 % ├───────────┃──────────────────────━━━━━━━━━━━━●━━━━━──────┤ 100.00 %"
        );
        // Nothing known yet, and a gate out of sight of nothing.
        assert_eq!(bar(0.0, 0.5, 1.0, 0.99).chars().filter(|c| *c == '━').count(), SPAN - 2);
        assert!(bar(1.0, 1.0, 1.0, 0.9995).contains('●'));
    }
}
