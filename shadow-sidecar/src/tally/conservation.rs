//! What was offered, and what became of it.

use serde::{Deserialize as _, Deserializer, de::Error as _};

/// gRPC codes 0 to 16.
const CODES: usize = 17;

/// The gRPC code for what no other code fits.
const UNKNOWN: usize = 2;

/// Why something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The sidecar's own queue was full.
    QueueFull,
    /// The server's queue for this subscriber was full.
    ServerQueueFull,
    /// The primary itself answered with an error: there is nothing to compare with.
    PrimaryError,
    /// The exchange could not be decoded.
    Undecodable,
    /// The exchange was with a model or version that is not in this rehearsal.
    OtherModel,
    /// The two answers have nothing in common that could be compared.
    Incomparable,
    /// The epoch ended while it was in flight.
    Shutdown,
    /// Its other half did not come in time: the mirrored request was there, the primary's answer was not.
    Ttl,
    /// Too many halves were waiting.
    Evicted,
    /// Larger than what may be kept.
    Oversize,
    /// The intake had too much to do.
    Shed,
    /// No epoch could begin: see the report's first reason.
    NoEpoch,
    /// The candidate's server has answered as another version than the one that rehearses. Whether it would have agreed is not
    /// known, and the candidate has chosen what is not known.
    OtherVersion,
}

impl DropReason {
    /// All reasons, in the order of a report.
    pub const ALL: [Self; 13] = [
        Self::QueueFull,
        Self::ServerQueueFull,
        Self::PrimaryError,
        Self::Undecodable,
        Self::OtherModel,
        Self::Incomparable,
        Self::Shutdown,
        Self::Ttl,
        Self::Evicted,
        Self::Oversize,
        Self::Shed,
        Self::NoEpoch,
        Self::OtherVersion,
    ];

    /// The name in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ServerQueueFull => "server_queue_full",
            Self::PrimaryError => "primary_error",
            Self::Undecodable => "undecodable",
            Self::OtherModel => "other_model",
            Self::Incomparable => "incomparable",
            Self::Shutdown => "shutdown",
            Self::Ttl => "ttl",
            Self::Evicted => "evicted",
            Self::Oversize => "oversize",
            Self::Shed => "shed",
            Self::NoEpoch => "no_epoch",
            Self::OtherVersion => "other_version",
        }
    }

    /// Whether the candidate could have been compared: whether the loss may hide a disagreement.
    pub fn is_eligible(self) -> bool {
        // What came before there was an epoch is nothing that its candidate has missed.
        !matches!(self, Self::PrimaryError | Self::OtherModel | Self::NoEpoch)
    }
}

/// How an exchange can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both answers were there and were compared.
    Compared,
    /// It was lost.
    Dropped(DropReason),
    /// The candidate answered with this gRPC code.
    Failed(u32),
}

/// Counters of exchanges or of rows. Only a [`Tally`](super::Tally) changes them, and only so that
/// offered = compared + sum(dropped) + sum(failed) + in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Conservation {
    offered: u64,
    compared: u64,
    #[serde(deserialize_with = "by_reason")]
    dropped: [u64; DropReason::ALL.len()],
    failed: [u64; CODES],
    in_flight: u64,
}

/// Reasons are only ever added at the end: what was written before there were so many is read all the same.
fn by_reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; DropReason::ALL.len()], D::Error> {
    let written = Vec::<u64>::deserialize(deserializer)?;
    let mut counts = [0; DropReason::ALL.len()];
    let known = counts.get_mut(..written.len());
    known.ok_or_else(|| D::Error::invalid_length(written.len(), &"one for each reason"))?.copy_from_slice(&written);
    Ok(counts)
}

impl Conservation {
    /// Everything that was to be compared.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// What was compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// What was lost for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// What was lost, for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// What the candidate answered with errors: (gRPC code, count), without zeros.
    pub fn failed(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (0..).zip(self.failed).filter(|&(_, count)| count > 0)
    }

    /// What the candidate answered with any error.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// What has not ended yet.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// What has ended and could have been compared, had nothing been lost and nothing failed. Not in it: where the
    /// primary had no answer, and other models.
    pub fn eligible(&self) -> u64 {
        let without = |reason: &DropReason| !reason.is_eligible();
        let excluded: u64 = DropReason::ALL.into_iter().filter(without).map(|reason| self.dropped(reason)).sum();
        self.offered - self.in_flight - excluded
    }

    /// compared / eligible, in [0, 1]; None before anything eligible has ended.
    pub fn coverage(&self) -> Option<f64> {
        let eligible = self.eligible();
        (eligible > 0).then(|| self.compared as f64 / eligible as f64)
    }

    /// Whether the law of conservation holds.
    pub fn holds(&self) -> bool {
        // Counts that were read from elsewhere may be any.
        let ended = [self.compared, self.in_flight].into_iter().chain(self.dropped).chain(self.failed);
        u128::from(self.offered) == ended.map(u128::from).sum::<u128>()
    }

    /// `count` are offered and in flight. A sum beyond u64 is cut off where it enters, so that the law holds.
    pub(super) fn begin(&mut self, count: u64) {
        let count = count.min(self.room());
        self.offered += count;
        self.in_flight += count;
    }

    /// `count` of those in flight have ended.
    pub(super) fn settle(&mut self, end: End, count: u64) {
        let count = count.min(self.in_flight);
        self.in_flight -= count;
        *self.counter(end) += count;
    }

    /// `count` are offered and dropped at once.
    pub(super) fn lost(&mut self, reason: DropReason, count: u64) {
        let count = count.min(self.room());
        self.offered += count;
        *self.counter(End::Dropped(reason)) += count;
    }

    /// All that is in flight is lost.
    pub(super) fn drop_in_flight(&mut self, reason: DropReason) {
        self.settle(End::Dropped(reason), self.in_flight);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // Each part is at most `offered`: where that fits, all fit.
        if other.offered > self.room() {
            return;
        }
        self.offered += other.offered;
        self.compared += other.compared;
        self.in_flight += other.in_flight;
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
        for (mine, theirs) in self.failed.iter_mut().zip(other.failed) {
            *mine += theirs;
        }
    }

    fn counter(&mut self, end: End) -> &mut u64 {
        match end {
            End::Compared => &mut self.compared,
            End::Dropped(reason) => &mut self.dropped[reason as usize],
            End::Failed(code) => {
                let known = (1..CODES).contains(&(code as usize));
                &mut self.failed[if known { code as usize } else { UNKNOWN }]
            }
        }
    }

    fn room(&self) -> u64 {
        u64::MAX - self.offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_when_there_were_fewer_reasons_are_read() {
        let mut counts = Conservation::default();
        counts.lost(DropReason::Shed, 3);
        counts.begin(2);
        let written = |reasons: usize| {
            let dropped = &counts.dropped[..reasons.min(counts.dropped.len())];
            let dropped = dropped.iter().copied().chain(std::iter::repeat(0)).take(reasons).collect::<Vec<_>>();
            let (failed, offered) = (counts.failed, counts.offered);
            let text = serde_json::json!({"offered": offered, "compared": 0, "dropped": dropped, "failed": failed, "in_flight": 2});
            serde_json::from_value::<Conservation>(text)
        };
        assert_eq!(written(11).expect("before no_epoch"), counts);
        assert_eq!(written(12).expect("before other_version"), counts);
        assert_eq!(written(DropReason::ALL.len()).expect("now"), counts);
        assert!(written(DropReason::ALL.len() + 1).is_err(), "a reason that is not known here");
    }
}
