//! Which classes turned into which.

use std::collections::BTreeSet;

use understudy::v1::Flip;

use super::named;
use crate::{
    output::Paint,
    words::{count, cut, shown},
};

/// With more classes than this the largest flips are listed instead of a matrix.
const MATRIX: usize = 3;
/// Flips in the list.
const LISTED: usize = 4;
/// Columns of a class.
const CLASS: usize = 14;

/// A small matrix or a short list; nothing without classes.
pub(super) fn lines(flips: &[Flip], paint: Paint) -> Vec<String> {
    // In the order of the sidecar, which is that of the classes.
    let mut seen = BTreeSet::new();
    let mut classes: Vec<&str> = flips.iter().map(|flip| flip.primary.as_str()).collect();
    classes.extend(flips.iter().map(|flip| flip.candidate.as_str()));
    classes.retain(|class| seen.insert(*class));
    if classes.is_empty() {
        return Vec::new();
    }
    if classes.len() <= MATRIX { matrix(flips, &classes, paint) } else { list(flips, paint) }
}

fn matrix(flips: &[Flip], classes: &[&str], paint: Paint) -> Vec<String> {
    let name = |class: &str| cut(&shown(class), CLASS - 2);
    let head = classes.iter().map(|class| format!("{:>CLASS$}", name(class))).collect::<Vec<_>>().concat();
    let corner = paint.dim("primary ↓ candidate →");
    let mut lines = vec![named("Flips", &format!("{corner}{head}"), paint)];
    lines.extend(classes.iter().map(|primary| {
        let cells: String = classes
            .iter()
            .map(|candidate| {
                let cell = flips.iter().filter(|flip| flip.primary == *primary && flip.candidate == *candidate);
                let n: u64 = cell.map(|flip| flip.count).sum();
                let text = format!("{:>CLASS$}", count(n));
                if primary != candidate && n > 0 { paint.yellow(text) } else { text }
            })
            .collect();
        named("", &format!("{:>21}{cells}", name(primary)), paint)
    }));
    lines
}

fn list(flips: &[Flip], paint: Paint) -> Vec<String> {
    let mut changed: Vec<&Flip> = flips.iter().filter(|flip| flip.primary != flip.candidate).collect();
    changed.sort_by_key(|flip| std::cmp::Reverse(flip.count));
    let total: u64 = changed.iter().map(|flip| flip.count).sum();
    let head = format!("{} rows changed class; the most frequent changes:", count(total));
    let mut lines = vec![named("Flips", &head, paint)];
    lines.extend(changed.into_iter().take(LISTED).map(|flip| {
        let classes = format!("{} → {}", cut(&shown(&flip.primary), 24), cut(&shown(&flip.candidate), 24));
        named("", &format!("{:>9}   {classes}", paint.yellow(count(flip.count))), paint)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_classes_become_a_list_of_the_largest() {
        let flip = |primary: usize, candidate: usize, count| Flip {
            primary: format!("class-{primary}"),
            candidate: format!("class-{candidate}"),
            count,
        };
        let flips = [flip(0, 0, 900), flip(1, 1, 50), flip(2, 3, 7), flip(1, 0, 30)];
        let expected = "\
Flips       37 rows changed class; the most frequent changes:
                   30   class-1 → class-0
                    7   class-2 → class-3";
        assert_eq!(lines(&flips, Paint { colour: false }).join("\n"), expected);
    }

    #[test]
    fn without_classes_there_is_nothing_to_show() {
        assert!(lines(&[], Paint { colour: false }).is_empty());
    }
}
