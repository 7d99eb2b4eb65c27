//! In which declared slices the models differ.

use understudy::v1::Slice;

use super::{NAME, WIDTH, named};
use crate::{
    output::Paint,
    words::{cut, percent, shown},
};

/// Columns of a slice's name.
const SLICE: usize = 24;

/// As many of those that are proven to differ most as fit into one line, in red those that are proven to differ too much;
/// nothing without slices.
pub(super) fn line(slices: &[Slice], paint: Paint) -> Option<String> {
    let mut texts = Vec::new();
    let mut room = WIDTH - NAME;
    for slice in slices {
        let Some(rate) = slice.rate else { continue };
        let name = cut(&shown(&slice.name), SLICE);
        let text = format!("{name} {} (≤ {})", percent(rate), percent(slice.upper));
        let Some(left) = room.checked_sub(text.chars().count() + 3) else { break };
        room = left;
        texts.push(if slice.discovered { paint.red(text) } else { text });
    }
    (!texts.is_empty()).then(|| named("Slices", &texts.join("   "), paint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_has_the_worst() {
        let slice = |name: &str, rate, upper| Slice { name: name.into(), rate, upper, ..Slice::default() };
        let mut slices = vec![
            slice("occupation=Handlers-cleaners", Some(0.5), 0.75),
            slice("age<30", Some(0.975), 0.99),
            slice("sex=Male", Some(1.0), 1.0),
            slice("empty", None, 1.0),
        ];
        let expected = "Slices      occupation=Handlers-cle… 50.00 % (≤ 75.00 %)   age<30 97.50 % (≤ 99.00 %)";
        assert_eq!(line(&slices, Paint { colour: false }).as_deref(), Some(expected));
        slices.drain(..3);
        assert_eq!(line(&slices, Paint { colour: false }), None);
    }
}
