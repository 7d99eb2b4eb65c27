//! The largest evidence along the way of the exchanges, in the order in which they came: not in that in which the candidate was done
//! with them, and not at the moments at which somebody looked. So it is the same for everybody who saw the same exchanges, now or in
//! a replay.
//!
//! What is compared waits for what came before it and is still under way, which takes the candidate's time for an exchange at most.
//! Every exchange is a look, but few must be worked out: agreement in all rows makes the evidence for "agreement > gate" larger and the
//! other smaller, so between two exchanges that do not agree only the last value of the one and the first of the other can be the
//! largest; and an exchange can't add more than the likelihood ratio that profits most from it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::shares::Shares;
use crate::stats::agreement::{log_e_above, log_e_below};
use crate::verdict::Gates;

/// Exchanges that wait for an earlier one. A candidate that hangs holds up no more than these: then what it hangs on is passed
/// over, and comes later than it came.
const MOST: usize = 1 << 16;

/// The evidence about one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Trail {
    gates: Gates,
    /// The largest so far, as natural logarithms: for "agreement > gate" and for "agreement < abort".
    pub(super) above: f64,
    pub(super) below: f64,
    /// The exchanges that were walked past: how many, and the sum of their shares.
    n: u64,
    shares: Shares,
    /// What no evidence can have got beyond without being worked out. Only ever saves work.
    #[serde(skip, default = "unknown")]
    at_most: (f64, f64),
    /// The number of the first exchange in `waiting`.
    first: u64,
    waiting: VecDeque<Step>,
}

fn unknown() -> (f64, f64) {
    (f64::INFINITY, f64::INFINITY)
}

/// What became of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// It is with the candidate.
    UnderWay,
    /// It says nothing about agreement.
    Nothing,
    /// So many of its rows agreed, of so many; one at least.
    Compared(u64, u64),
}

impl Trail {
    /// What comes after `n` exchanges whose shares sum to `shares`.
    pub(super) fn new(gates: &Gates, n: u64, shares: Shares) -> Self {
        let mut trail = Self {
            gates: *gates,
            above: f64::NEG_INFINITY,
            below: f64::NEG_INFINITY,
            n,
            shares,
            at_most: unknown(),
            first: 0,
            waiting: VecDeque::new(),
        };
        trail.look();
        trail
    }

    /// Whether it is about the same question.
    pub(super) fn answers(&self, gates: &Gates) -> bool {
        self.gates.same_question(gates)
    }

    /// An exchange has come: its number.
    pub(super) fn begin(&mut self) -> u64 {
        let number = self.first + self.waiting.len() as u64;
        self.waiting.push_back(Step::UnderWay);
        if self.waiting.len() > MOST {
            self.walk(true);
        }
        number
    }

    /// It has ended.
    pub(super) fn end(&mut self, number: u64, step: Step) {
        let waiting = number.checked_sub(self.first).and_then(|index| self.waiting.get_mut(index as usize));
        match waiting {
            Some(waiting) => {
                *waiting = step;
                self.walk(false);
            }
            // It was passed over.
            None => self.take(step),
        }
    }

    /// Whatever is under way will not come back.
    pub(super) fn end_all(&mut self) {
        while !self.waiting.is_empty() {
            self.walk(true);
        }
    }

    /// Whether it can have come from a tally with so many observations whose shares sum to `shares`.
    pub(super) fn holds(&self, observations: u64, shares: Shares) -> bool {
        let waiting = self.waiting.iter().filter(|step| matches!(step, Step::Compared(..))).count() as u64;
        self.n.checked_add(waiting) == Some(observations) && self.shares <= shares && self.waiting.len() <= MOST + 1
    }

    /// As far as all has ended; past the first, too, where `anyhow`.
    fn walk(&mut self, anyhow: bool) {
        let mut anyhow = anyhow;
        while let Some(step) = self.waiting.front().copied().filter(|step| anyhow || *step != Step::UnderWay) {
            anyhow = false;
            self.waiting.pop_front();
            self.first += 1;
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        let Step::Compared(agreed, rows) = step else { return };
        let complete = agreed == rows;
        if !complete {
            self.look();
        }
        self.n += 1;
        self.shares.record(agreed, rows);
        // The best likelihood ratio is that of "always" against the gate, and of "never" against abort.
        let (gate, abort) = (self.gates.gate, self.gates.abort());
        let share = super::share(agreed, rows);
        self.at_most.0 -= share * gate.ln();
        self.at_most.1 -= (1.0 - share) * (1.0 - abort).ln();
        if !complete {
            self.look();
        }
    }

    /// Works out what can be larger than before.
    fn look(&mut self) {
        let Gates { gate, prior, .. } = self.gates;
        let (n, s) = (self.n, self.shares.sum());
        // Rounding must not make it smaller than it is; and what is not a number may be anything.
        let slack = |at_most: f64| at_most + 1e-6 * (1.0 + at_most.abs());
        let beyond = |at_most: f64, largest: f64| !at_most.is_finite() || slack(at_most) > largest;
        if beyond(self.at_most.0, self.above) {
            self.at_most.0 = log_e_above(n, s, gate, prior);
            self.above = self.above.max(self.at_most.0);
        }
        if beyond(self.at_most.1, self.below) {
            self.at_most.1 = log_e_below(n, s, self.gates.abort(), prior);
            self.below = self.below.max(self.at_most.1);
        }
    }

    /// The largest evidence up to here, as (above, below).
    pub(super) fn largest(&self) -> (f64, f64) {
        let mut now = self.clone_without_waiting();
        now.look();
        (now.above, now.below)
    }

    fn clone_without_waiting(&self) -> Self {
        Self { waiting: VecDeque::new(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each row of exchange `i` agrees, in an order without a pattern that anybody would look for.
    fn exchange(i: u64, rate: u64) -> (u64, u64) {
        let rows = 1 + i * 7 % 3;
        let agreed = (0..rows).filter(|row| (i * 3 + row) * 2_654_435_761 % 100 < rate).count() as u64;
        (agreed, rows)
    }

    fn trail(gates: &Gates) -> Trail {
        Trail::new(gates, 0, Shares::default())
    }

    #[test]
    fn it_is_the_largest_of_a_look_at_every_exchange() {
        for (gate, abort, rate) in [(0.9, None, 97), (0.9, Some(0.8), 85), (0.9, None, 40), (0.5, None, 50)] {
            let gates = Gates { gate, abort, ..Gates::default() };
            let mut trail = trail(&gates);
            let (mut above, mut below) = trail.largest();
            let (mut n, mut shares) = (0, Shares::default());
            for i in 0..3_000 {
                // It gets worse in the middle, so that the largest of the one is behind and that of the other ahead.
                let (agreed, rows) = exchange(i, if (1_000..1_500).contains(&i) { rate / 2 } else { rate });
                let number = trail.begin();
                trail.end(number, Step::Compared(agreed, rows));
                (n, shares) = (n + 1, {
                    shares.record(agreed, rows);
                    shares
                });
                above = above.max(log_e_above(n, shares.sum(), gates.gate, gates.prior));
                below = below.max(log_e_below(n, shares.sum(), gates.abort(), gates.prior));
                assert_eq!(trail.largest(), (above, below), "gate {gate}, exchange {i}");
            }
        }
    }

    #[test]
    fn the_order_in_which_exchanges_end_does_not_matter() {
        let gates = Gates { gate: 0.9, ..Gates::default() };
        let mut orderly = trail(&gates);
        for i in 0..500 {
            let (agreed, rows) = exchange(i, 90);
            let number = orderly.begin();
            orderly.end(number, if i % 7 == 0 { Step::Nothing } else { Step::Compared(agreed, rows) });
        }
        let mut late = trail(&gates);
        let mut under_way = Vec::new();
        for i in 0..500_u64 {
            under_way.push((late.begin(), i));
            // Any of those that are under way.
            while under_way.len() > 20 || (i == 499 && !under_way.is_empty()) {
                let (number, i) = under_way.swap_remove(i as usize * 31 % under_way.len());
                let (agreed, rows) = exchange(i, 90);
                late.end(number, if i % 7 == 0 { Step::Nothing } else { Step::Compared(agreed, rows) });
            }
        }
        assert_eq!(late.largest(), orderly.largest());
        assert!(late.waiting.is_empty());
    }

    #[test]
    fn what_hangs_holds_up_a_bounded_number() {
        let gates = Gates { gate: 0.9, ..Gates::default() };
        let mut trail = trail(&gates);
        let hanging = trail.begin();
        for _ in 0..MOST {
            let number = trail.begin();
            trail.end(number, Step::Compared(1, 1));
        }
        assert_eq!((trail.n, trail.waiting.len()), (MOST as u64, 0));
        trail.end(hanging, Step::Compared(0, 1));
        assert_eq!(trail.n, MOST as u64 + 1);
        let lost = trail.begin();
        let compared = trail.begin();
        trail.end(compared, Step::Compared(1, 1));
        assert_eq!(trail.n, MOST as u64 + 1, "it waits");
        trail.end_all();
        assert_eq!((trail.n, trail.waiting.len()), (MOST as u64 + 2, 0), "{lost}");
    }
}
