//! The state of one epoch: what was offered and what became of it, how often the models agreed, and by how much they
//! differed.
//!
//! Every exchange that begins gets a [`Ticket`], and a ticket ends in exactly one of [`Tally::compared`],
//! [`Tally::dropped`] and [`Tally::failed`]. Hence at every moment, for exchanges and for rows:
//! offered = compared + sum(dropped) + sum(failed) + in flight.

mod conservation;
mod flips;
mod measures;
mod noise;
mod outcomes;
mod pace;
mod scores;
mod shares;
mod slices;
mod trail;

pub use conservation::{Conservation, DropReason, End};
pub use flips::{Flip, Flips, MAX_CLASSES};
pub use measures::Measures;
pub use noise::Noise;
pub use outcomes::Outcomes;
pub use pace::Pace;
pub use scores::{Distances, MAX_LEVELS, Scores};
pub use slices::{Slice, Slices};

use std::time::Duration;

use crate::compare::RowOutcome;
use crate::stats::agreement::{log_e_above, log_e_below};
use crate::stats::spread::Spread;
use crate::stats::{
    bernstein::{AGREEMENT_V_OPT, Bernstein},
    histogram::Histogram,
    moments::Moments,
};
use crate::verdict::Gates;
use shares::{Shares, share};
use trail::{Step, Trail};

/// All counters of one epoch. They add up across replicas.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    epoch: u64,
    /// Why nothing more is counted, once nothing is.
    #[serde(skip)]
    closed: Option<DropReason>,
    exchanges: Conservation,
    rows: Conservation,
    agreed: u64,
    observations: u64,
    shares: Shares,
    drift: Bernstein,
    nonfinite: u64,
    spread: Spread,
    stale: u64,
    flips: Flips,
    scores: Scores,
    slices: Slices,
    noise: Noise,
    latency_ratio: f64,
    slower: u64,
    pace: Pace,
    primary_latency: Histogram,
    candidate_latency: Histogram,
    evidence: Option<Evidence>,
    /// Absent where nobody has said what is to be proven, and in sums of replicas, whose exchanges have no order.
    #[serde(default)]
    trail: Option<Trail>,
}

/// One exchange on its way to the candidate. It can't be copied, so it can't be counted twice; it must be handed back,
/// or the exchange stays in flight for ever.
#[derive(Debug)]
#[must_use = "hand it back: Tally::compared, dropped or failed"]
pub struct Ticket {
    epoch: u64,
    rows: u64,
    /// On the trail, where there is one; else how many began before.
    number: u64,
}

impl Ticket {
    /// The epoch in which the exchange began.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The rows it was begun with.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// How long one exchange took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// The primary, as the tap tells it.
    pub primary: u64,
    /// The candidate, as measured here.
    pub candidate: u64,
}

/// The largest evidence seen at any look, as natural logarithms; and what it was evidence about.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    gates: Gates,
    /// For "agreement > gate".
    pub above: f64,
    /// For "agreement < abort".
    pub below: f64,
}

impl Tally {
    /// An empty tally. `classes` are those of the comparator, empty when it is not a classification.
    pub fn new(epoch: u64, classes: &[String]) -> Self {
        Self {
            epoch,
            closed: None,
            exchanges: Conservation::default(),
            rows: Conservation::default(),
            agreed: 0,
            observations: 0,
            shares: Shares::default(),
            // Agreement, until shown otherwise.
            drift: Bernstein::new(1.0),
            nonfinite: 0,
            spread: Spread::default(),
            stale: 0,
            flips: Flips::new(classes),
            scores: Scores::new(&Measures::default()),
            slices: Slices::default(),
            noise: Noise::default(),
            latency_ratio: Measures::default().latency_ratio,
            slower: 0,
            pace: Pace::default(),
            primary_latency: Histogram::default(),
            candidate_latency: Histogram::default(),
            evidence: None,
            trail: None,
        }
    }

    /// The same, keeping the largest evidence about these gates of all exchanges to come, in the order in which they begin. What was
    /// kept about the same question stays. None may be in flight.
    #[must_use]
    pub fn judging(mut self, gates: &Gates) -> Self {
        if self.trail.as_ref().is_none_or(|trail| !trail.answers(gates)) {
            self.trail = Some(Trail::new(gates, self.observations, self.shares));
        }
        self
    }

    /// The same, measuring this.
    #[must_use]
    pub fn measuring(self, measures: &Measures) -> Self {
        Self {
            scores: Scores::new(measures),
            slices: Slices::new(&measures.slices),
            latency_ratio: measures.latency_ratio,
            ..self
        }
    }

    /// An exchange is offered and goes to the candidate. After [`Self::close`] it is dropped at once.
    pub fn begin(&mut self, rows: u64) -> Ticket {
        if let Some(reason) = self.closed {
            self.lost(reason, 1, rows);
        } else {
            self.exchanges.begin(1);
            self.rows.begin(rows);
        }
        let open = self.trail.as_mut().filter(|_| self.closed.is_none());
        let number = open.map_or(self.exchanges.offered(), Trail::begin);
        Ticket { epoch: self.epoch, rows, number }
    }

    /// The candidate answered and the answers were compared, row by row. Should there not be one outcome for each row,
    /// the exchange is dropped as incomparable. An exchange without rows is compared, but is no observation.
    pub fn compared<'a>(&mut self, ticket: Ticket, outcomes: impl Into<Outcomes<'a>>, latency: Latency) {
        let Outcomes { rows: outcomes, again, levels, slices } = outcomes.into();
        if outcomes.len() as u64 != ticket.rows {
            return self.dropped(ticket, DropReason::Incomparable);
        }
        let agreed = outcomes.iter().filter(|outcome| outcome.agreed).count() as u64;
        let rows = outcomes.len() as u64;
        let number = ticket.number;
        let step = if rows == 0 { Step::Nothing } else { Step::Compared(agreed, rows) };
        if !self.settle(ticket, End::Compared, step) {
            return;
        }
        self.agreed += agreed;
        if !outcomes.is_empty() {
            self.observations += 1;
            self.shares.record(agreed, outcomes.len() as u64);
            self.drift.record(share(agreed, outcomes.len() as u64));
        }
        for outcome in outcomes {
            self.nonfinite += u64::from(outcome.nonfinite);
            outcome.delta.into_iter().for_each(|delta| self.spread.record(delta));
            self.flips.record(outcome.primary_class, outcome.candidate_class);
        }
        self.scores.record(number, outcomes, levels);
        self.slices.record(outcomes.iter().map(|outcome| outcome.agreed), slices);
        if let Some(again) = again {
            self.noise.record(again, Some(outcomes));
        }
        self.slower += u64::from(latency.candidate as f64 > self.latency_ratio * latency.primary as f64);
        self.primary_latency.record(latency.primary);
        self.candidate_latency.record(latency.candidate);
    }

    /// The primary answered a request twice, and the candidate's answer to it is not known: for the noise floor alone.
    /// Where it is known the pair goes to [`Self::compared`] by [`Outcomes::with_noise`], so that the two are compared
    /// on the same requests. An ended epoch counts nothing.
    pub fn noise(&mut self, again: &[RowOutcome]) {
        if self.closed.is_none() {
            self.noise.record(again, None);
        }
    }

    /// The exchange was lost on the way.
    pub fn dropped(&mut self, ticket: Ticket, reason: DropReason) {
        self.settle(ticket, End::Dropped(reason), Step::Nothing);
    }

    /// The candidate answered with an error: a gRPC code. OK and codes that don't exist count as UNKNOWN.
    pub fn failed(&mut self, ticket: Ticket, code: u32) {
        self.settle(ticket, End::Failed(code), Step::Nothing);
    }

    /// Exchanges that were lost before they arrived here, such as the server counted: offered and dropped at once. Where
    /// the rows are not known they count as one each, lest they escape the worst case.
    pub fn lost(&mut self, reason: DropReason, exchanges: u64, rows: u64) {
        self.exchanges.lost(reason, exchanges);
        self.rows.lost(reason, rows.max(exchanges));
    }

    /// Ends the epoch: what is in flight counts as dropped, and what comes back later is only counted as stale.
    pub fn close(&mut self, reason: DropReason) {
        self.closed.get_or_insert(reason);
        self.drop_in_flight(reason);
    }

    fn drop_in_flight(&mut self, reason: DropReason) {
        self.exchanges.drop_in_flight(reason);
        self.rows.drop_in_flight(reason);
        if let Some(trail) = &mut self.trail {
            trail.end_all();
        }
    }

    /// The same counts in a process that goes on with the epoch: what was in flight is lost. None when they do not add up.
    #[must_use]
    pub fn resumed(mut self) -> Option<Self> {
        if !self.holds() {
            return None;
        }
        self.closed = None;
        self.drop_in_flight(DropReason::Shutdown);
        Some(self)
    }

    /// Keeps the largest evidence so far, where [`Self::judging`] does not: more looks cost nothing and lose nothing. Evidence about
    /// other gates is forgotten, because it says nothing about these.
    pub fn look(&mut self, gates: &Gates) {
        self.evidence = Some(self.evidence(gates));
    }

    /// The larger of what was seen at earlier looks, and now. With [`Self::judging`] every exchange that has ended was a look, and now
    /// is as far as all that came before has ended, too.
    pub fn evidence(&self, gates: &Gates) -> Evidence {
        let now = match self.trail.as_ref().filter(|trail| trail.answers(gates)) {
            Some(trail) => {
                let (above, below) = trail.largest();
                Evidence { gates: *gates, above, below }
            }
            None => {
                let (n, s) = (self.observations(), self.shares());
                Evidence {
                    gates: *gates,
                    above: log_e_above(n, s, gates.gate, gates.prior),
                    below: log_e_below(n, s, gates.abort(), gates.prior),
                }
            }
        };
        match self.evidence.filter(|earlier| earlier.gates.same_question(gates)) {
            Some(earlier) => {
                Evidence { above: now.above.max(earlier.above), below: now.below.max(earlier.below), ..now }
            }
            None => now,
        }
    }

    /// Evidence that was gathered earlier from a part of what is counted here, exchange by exchange, stays.
    pub fn after(&mut self, earlier: Evidence) {
        self.evidence = Some(earlier);
    }

    /// Adds another replica's counters of the same pair of versions under the same comparator; the result is as if one
    /// had counted all. Refused (false) when the classes, or what is measured, differ.
    ///
    /// The largest evidence is not taken over: the maximum over replicas is not evidence, it would multiply alpha by
    /// their number. Look again after merging.
    #[must_use = "false: nothing was added"]
    pub fn merge(&mut self, other: &Self) -> bool {
        let same = self.scores.same_kind(&other.scores)
            && self.slices.same_kind(&other.slices)
            && self.latency_ratio == other.latency_ratio;
        if !same || !self.flips.merge(&other.flips) {
            return false;
        }
        self.exchanges.merge(&other.exchanges);
        self.rows.merge(&other.rows);
        self.agreed = self.agreed.saturating_add(other.agreed);
        self.observations = self.observations.saturating_add(other.observations);
        self.shares.merge(other.shares);
        self.nonfinite = self.nonfinite.saturating_add(other.nonfinite);
        self.spread.merge(&other.spread);
        self.stale = self.stale.saturating_add(other.stale);
        self.drift.merge(&other.drift);
        self.scores.merge(&other.scores);
        self.slices.merge(&other.slices);
        self.slower = self.slower.saturating_add(other.slower);
        self.noise.merge(&other.noise);
        self.pace.merge(&other.pace);
        self.primary_latency.merge(&other.primary_latency);
        self.candidate_latency.merge(&other.candidate_latency);
        (self.evidence, self.trail) = (None, None);
        true
    }

    /// Whether nothing was lost from sight, and nothing counted twice; and every part has the size that it must have, which
    /// a tally that was read from elsewhere need not.
    pub fn holds(&self) -> bool {
        self.exchanges.holds()
            && self.rows.holds()
            && self.agreed <= self.rows.compared()
            && self.observations <= self.exchanges.compared().min(self.rows.compared())
            && self.shares() <= self.observations as f64
            && self.trail.as_ref().is_none_or(|trail| trail.holds(self.observations, self.shares))
            && self.has_shape()
    }

    fn has_shape(&self) -> bool {
        let exchanges = self.exchanges.compared();
        self.flips.has_shape()
            && self.scores.has_shape(self.rows.compared())
            && self.slices.has_shape()
            && self.noise.shares() <= self.noise.observations() as f64
            && self.spread.has_shape()
            && self.primary_latency.has_shape(exchanges)
            && self.candidate_latency.has_shape(exchanges)
            && self.slower <= exchanges
    }

    /// The number of the epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Requests.
    pub fn exchanges(&self) -> &Conservation {
        &self.exchanges
    }

    /// Rows in them.
    pub fn rows(&self) -> &Conservation {
        &self.rows
    }

    /// Rows that agreed, of `rows().compared()`.
    pub fn agreed(&self) -> u64 {
        self.agreed
    }

    /// Compared exchanges with at least one row: what the evidence counts (n).
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// The sum over the observations of the share of rows that agreed (s), in [0, `observations()`]. Equal to
    /// `agreed()` when each has one row.
    pub fn shares(&self) -> f64 {
        self.shares.sum()
    }

    /// Rows that did not agree because a score was NaN or infinite.
    pub fn nonfinite(&self) -> u64 {
        self.nonfinite
    }

    /// How the differences of scores are spread, candidate minus primary.
    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// Exchanges that came back after their epoch had ended; they are counted nowhere else.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Classification: the primary's class by the candidate's.
    pub fn flips(&self) -> &Flips {
        &self.flips
    }

    /// Differences of scores, candidate minus primary.
    pub fn delta(&self) -> &Moments {
        self.scores.delta()
    }

    /// All that is known of the differences of scores.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// Agreement in predeclared segments of rows.
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The shares once more, for the bounds that hold when the agreement drifts: one-sided at level 1 - alpha, as
    /// (lower, upper).
    pub fn drifting(&self, alpha: f64) -> (f64, f64) {
        (self.drift.lower(alpha, AGREEMENT_V_OPT), self.drift.upper(alpha, AGREEMENT_V_OPT))
    }

    /// The sum of the squared differences between each share and the mean of those before it (V of the bounds that hold
    /// when the agreement drifts).
    pub fn variance(&self) -> f64 {
        self.drift.variance()
    }

    /// Compared exchanges in which the candidate took more than [`Self::latency_ratio`] times what the primary took.
    pub fn slower(&self) -> u64 {
        self.slower
    }

    /// From what ratio on an exchange counts as slower.
    pub fn latency_ratio(&self) -> f64 {
        self.latency_ratio
    }

    /// Notes how far the comparisons have come, `elapsed` into the epoch. Call it at every tick.
    pub fn mark(&mut self, elapsed: Duration) {
        self.pace.mark(elapsed, self.exchanges.compared());
    }

    /// The time in which exchanges were compared: what a rehearsal has seen of the usual mix. A pause counts as a minute at most.
    pub fn busy(&self) -> Duration {
        self.pace.busy()
    }

    /// Exchanges compared in a second, over the last minute. None before that can be told.
    pub fn per_second(&self) -> Option<f64> {
        self.pace.per_second()
    }

    /// The primary against itself.
    pub fn noise_floor(&self) -> &Noise {
        &self.noise
    }

    /// Of compared exchanges.
    pub fn primary_latency(&self) -> &Histogram {
        &self.primary_latency
    }

    /// Of compared exchanges.
    pub fn candidate_latency(&self) -> &Histogram {
        &self.candidate_latency
    }

    /// False when the ticket belongs to another epoch, or to one that was closed.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket ends here")]
    fn settle(&mut self, ticket: Ticket, end: End, step: Step) -> bool {
        let Ticket { epoch, rows, number } = ticket;
        let ours = epoch == self.epoch
            && self.closed.is_none()
            && self.exchanges.in_flight() > 0
            && self.rows.in_flight() >= rows;
        if ours {
            self.exchanges.settle(end, 1);
            self.rows.settle(end, rows);
            if let Some(trail) = &mut self.trail {
                trail.end(number, step);
            }
        } else {
            self.stale += 1;
        }
        ours
    }
}

#[cfg(test)]
mod tests;
