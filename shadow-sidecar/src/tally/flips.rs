//! Which classes turn into which.

/// Classes with a counter of their own; the rest share one, so that memory stays below 34 kB.
pub const MAX_CLASSES: usize = 64;

/// Classes beyond those of which at least both frequencies are counted: 64 kB. With more there is no kappa.
const MOST_BEYOND: usize = 4096;

/// The name of the shared counter, and of labels that a model should not know.
const OTHER: &str = "other";

/// Rows by the primary's class and the candidate's class.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Flips {
    /// Those with a counter of their own.
    classes: Vec<String>,
    /// Row-major, primary by candidate, `classes.len() + 1` each way: the last one is for all others.
    counts: Vec<u64>,
    /// How many classes there are. Differs between tallies that must not be added up.
    total: usize,
    #[serde(default, skip_serializing_if = "Beyond::is_empty")]
    beyond: Beyond,
}

/// What kappa takes of the classes that share a counter: how often each model says each of them, and how often both the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
struct Beyond {
    primary: Vec<u64>,
    candidate: Vec<u64>,
    same: u64,
}

impl Beyond {
    fn is_empty(&self) -> bool {
        self.primary.is_empty()
    }

    /// By the places among these classes; none of those that have a counter of their own, and of unknown ones.
    fn record(&mut self, primary: Option<usize>, candidate: Option<usize>) {
        for (counts, place) in [(&mut self.primary, primary), (&mut self.candidate, candidate)] {
            if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                *count += 1;
            }
        }
        self.same += u64::from(primary.is_some() && primary == candidate);
    }

    fn merge(&mut self, other: &Self) {
        let frequencies = self.primary.iter_mut().zip(&other.primary);
        for (mine, theirs) in frequencies.chain(self.candidate.iter_mut().zip(&other.candidate)) {
            *mine = mine.saturating_add(*theirs);
        }
        self.same = self.same.saturating_add(other.same);
    }
}

/// Rows in which the primary's class is one and the candidate's another, or the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip<'a> {
    /// The primary's class.
    pub primary: &'a str,
    /// The candidate's class.
    pub candidate: &'a str,
    /// Rows.
    pub count: u64,
}

impl Flips {
    pub(super) fn new(classes: &[String]) -> Self {
        let own: Vec<String> = classes.iter().take(MAX_CLASSES).cloned().collect();
        let side = own.len() + 1;
        // Without classes there is nothing to count.
        let counts = if own.is_empty() { Vec::new() } else { vec![0; side * side] };
        let beyond = classes.len().saturating_sub(MAX_CLASSES);
        let frequencies = if beyond > MOST_BEYOND { Vec::new() } else { vec![0; beyond] };
        let beyond = Beyond { primary: frequencies.clone(), candidate: frequencies, same: 0 };
        Self { classes: own, counts, total: classes.len(), beyond }
    }

    /// Whether there are classes: it is a classification.
    pub fn are_counted(&self) -> bool {
        !self.classes.is_empty()
    }

    /// Every pair of classes that has occurred, in the order of the classes; equal pairs, too.
    pub fn iter(&self) -> impl Iterator<Item = Flip<'_>> {
        let side = self.side();
        let pairs = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        pairs.map(move |(index, &count)| Flip {
            primary: self.name(index / side),
            candidate: self.name(index % side),
            count,
        })
    }

    /// Cohen's kappa: the agreement beyond what the classes' frequencies alone would give, as a share of the most that it
    /// could be; 1 is complete, 0 is chance. None without rows, when both models always answer one and the same class, and where there
    /// are so many classes that not all are counted. An unknown class never agrees.
    pub fn kappa(&self) -> Option<f64> {
        let side = self.side();
        let Beyond { primary: own, candidate: other, same: same_beyond } = &self.beyond;
        if own.len() != self.total.saturating_sub(MAX_CLASSES) {
            return None;
        }
        let (mut primary, mut candidate) = (vec![0u64; side], vec![0u64; side]);
        let (mut total, mut same) = (0u64, *same_beyond);
        for (index, &count) in self.counts.iter().enumerate() {
            let (from, to) = (index / side, index % side);
            primary[from] = primary[from].saturating_add(count);
            candidate[to] = candidate[to].saturating_add(count);
            total = total.saturating_add(count);
            if from == to && from < self.classes.len() {
                same = same.saturating_add(count);
            }
        }
        let all = total as f64;
        let chance: f64 = primary
            .iter()
            .zip(&candidate)
            .take(self.classes.len())
            .chain(own.iter().zip(other))
            .map(|(&from, &to)| (from as f64 / all) * (to as f64 / all))
            .sum();
        (total > 0 && chance < 1.0).then(|| (same as f64 / all - chance) / (1.0 - chance))
    }

    pub(super) fn record(&mut self, primary: Option<u32>, candidate: Option<u32>) {
        let index = self.index(primary) * self.side() + self.index(candidate);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        if !self.beyond.is_empty() {
            let place = |class: Option<u32>| (class? as usize).checked_sub(MAX_CLASSES);
            self.beyond.record(place(primary), place(candidate));
        }
    }

    /// False, and nothing added, when the classes differ.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        if self.classes != other.classes || self.total != other.total {
            return false;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        if self.beyond.primary.len() == other.beyond.primary.len() {
            self.beyond.merge(&other.beyond);
        } else {
            // One was written before they were counted, so that not all would be.
            self.beyond = Beyond::default();
        }
        true
    }

    pub(super) fn has_shape(&self) -> bool {
        let Beyond { primary, candidate, .. } = &self.beyond;
        let beyond = [0, self.total.saturating_sub(MAX_CLASSES)];
        if primary.len() != candidate.len() || !beyond.contains(&primary.len()) {
            return false;
        }
        let counters = if self.classes.is_empty() { 0 } else { self.side() * self.side() };
        self.classes.len() == self.total.min(MAX_CLASSES) && self.counts.len() == counters
    }

    fn side(&self) -> usize {
        self.classes.len() + 1
    }

    fn index(&self, class: Option<u32>) -> usize {
        class.map_or(self.classes.len(), |class| (class as usize).min(self.classes.len()))
    }

    fn name(&self, index: usize) -> &str {
        self.classes.get(index).map_or(OTHER, String::as_str)
    }
}
