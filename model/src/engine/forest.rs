//! What the fast engines are built from: trees over numbered conditions, conditions over small whole numbers.
//!
//! A model asks few distinct questions: 300 trees of 63 leaves hold 18,600 nodes, but only about 1,400 different
//! conditions over about 1,400 distinguishable values. So a row is first turned into one *code* for each used column
//! (see [`codes`](super::codes)), once, with the source library's own comparisons in its own precision; after that
//! every node is an exact test of a small integer, and no engine can disagree with the library about a double.

use std::collections::{BTreeMap, HashMap};

use super::codes::{Categories, Codes, Numeric, Slot};
use super::ensemble::Precision;

/// Codes of a slot, at most: they are 16 bits.
const MAX_CODES: usize = u16::MAX as usize;
/// Values that a categorical column may know.
const MAX_CATEGORIES: usize = 1 << 22;
/// Steps that telling apart a column's categories may take.
const MAX_STEPS: usize = 1 << 27;

/// Trees that add up to some outputs: tree `i` adds to output `i % outputs`, in order.
#[derive(Debug)]
pub(crate) struct Forest {
    /// Turns a row into codes.
    pub(crate) codes: Codes,
    /// Distinct conditions, sorted by slot, then by rank or by number of the set.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) trees: Vec<Tree>,
    pub(crate) outputs: usize,
    /// What each output's sum begins with, `[outputs]`.
    start: Vec<f64>,
    /// The precision of the sums.
    pub(crate) sum: Precision,
}

impl Forest {
    /// Appends what the margins of some rows begin with, `[rows, outputs]`, and gives it.
    pub(crate) fn begin<'a>(&self, rows: usize, out: &'a mut Vec<f64>) -> &'a mut [f64] {
        let first = out.len();
        if let [start] = self.start[..] {
            out.resize(first + rows, start);
        } else {
            out.reserve(rows * self.outputs);
            for _ in 0..rows {
                out.extend(&self.start);
            }
        }
        &mut out[first..]
    }
}

/// One tree. Children come after their parent; leaves are numbered from left to right.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Values, at least one.
    pub(crate) leaves: Vec<f64>,
}

/// An inner node: the leaves `first..middle` are below its left child, `middle..end` below its right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Number of the condition: where it holds, right.
    pub(crate) condition: u32,
    pub(crate) left: Child,
    pub(crate) right: Child,
    pub(crate) first: u32,
    pub(crate) middle: u32,
    pub(crate) end: u32,
}

/// Where a node leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Node(u32),
    Leaf(u32),
}

/// A question about a row, asked of the code of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) slot: usize,
    pub(crate) test: Test,
}

/// When a row goes right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// A value whose rank is greater; zero and NaN as told.
    Above { rank: u16, zero: bool, nan: bool },
    /// A category whose bit is not set.
    Outside { set: Box<[u64]> },
}

impl Condition {
    /// Whether a row with this code in the condition's slot goes right.
    pub(crate) fn right(&self, slot: &Slot, code: u16) -> bool {
        match &self.test {
            Test::Above { zero, .. } if Some(code) == slot.zero => *zero,
            Test::Above { nan, .. } if Some(code) == slot.nan => *nan,
            Test::Above { rank, .. } => code > *rank,
            Test::Outside { set } => set[usize::from(code) / 64] >> (code % 64) & 1 == 0,
        }
    }
}

impl Tree {
    /// Levels below the root: 0 for a single leaf.
    pub(crate) fn depth(&self) -> usize {
        let mut depths = vec![0; self.nodes.len()];
        let mut deepest = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            let below = depths[index] + 1;
            deepest = deepest.max(below);
            for child in [node.left, node.right] {
                if let Child::Node(child) = child {
                    depths[child as usize] = below;
                }
            }
        }
        deepest
    }

    /// Renumbers the leaves from left to right and finds what is below each node.
    fn new(nodes: &[(u32, Child, Child)], leaves: &[f64]) -> Self {
        let mut counts = vec![0_u32; nodes.len()];
        for (index, (_, left, right)) in nodes.iter().enumerate().rev() {
            let below = |child: Child| match child {
                Child::Node(node) => counts[node as usize],
                Child::Leaf(_) => 1,
            };
            counts[index] = below(*left) + below(*right);
        }
        let mut firsts = vec![0_u32; nodes.len()];
        let mut tree = Self { nodes: Vec::with_capacity(nodes.len()), leaves: leaves.to_vec() };
        for (index, &(condition, left, right)) in nodes.iter().enumerate() {
            let first = firsts[index];
            let mut place = |child: Child, first: u32| match child {
                Child::Node(node) => {
                    firsts[node as usize] = first;
                    (child, counts[node as usize])
                }
                Child::Leaf(leaf) => {
                    tree.leaves[first as usize] = leaves[leaf as usize];
                    (Child::Leaf(first), 1)
                }
            };
            let (left, below) = place(left, first);
            let (right, _) = place(right, first + below);
            let (middle, end) = (first + below, first + counts[index]);
            tree.nodes.push(Node { condition, left, right, first, middle, end });
        }
        tree
    }
}

/// Collects the questions and trees of a model, and makes a [`Forest`] of them.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    known: HashMap<Question, u32>,
    questions: Vec<Question>,
    trees: Vec<Tree>,
}

/// A question in the source library's terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Question {
    /// Right if the value is above the threshold; zero and NaN as told. Doubles as bits.
    Above { position: usize, tiny: u64, threshold: u64, zero: bool, nan: bool },
    /// Right unless the value, truncated toward zero, is a set bit.
    Outside { position: usize, words: Box<[u32]> },
}

impl Builder {
    /// Goes right if the value at `position` of the row is greater than the threshold (not NaN). Values within `tiny` of
    /// zero go right if `zero`, NaN if `nan`. `tiny` is the same wherever the position is asked about; if it is negative,
    /// only zero is zero, and `zero` says how it compares.
    pub(crate) fn above(&mut self, position: usize, tiny: f64, threshold: f64, zero: bool, nan: bool) -> u32 {
        // -0.0 and 0.0 are one threshold.
        let threshold = (threshold + 0.0).to_bits();
        self.ask(Question::Above { position, tiny: tiny.to_bits(), threshold, zero, nan })
    }

    /// Goes right unless the value at `position`, truncated toward zero, is the number of a set bit. Negative values (from
    /// -1.0 down), values too large for any bit, and NaN go right.
    pub(crate) fn outside(&mut self, position: usize, words: &[u32]) -> u32 {
        let used = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        self.ask(Question::Outside { position, words: words[..used].into() })
    }

    fn ask(&mut self, question: Question) -> u32 {
        let next = self.questions.len() as u32;
        *self.known.entry(question).or_insert_with_key(|question| {
            self.questions.push(question.clone());
            next
        })
    }

    /// Adds a tree: for each node its question and children (all after it; the first node is the root), and the values of
    /// the leaves, at least one. Every node and leaf has one parent.
    pub(crate) fn tree(&mut self, nodes: &[(u32, Child, Child)], leaves: &[f64]) {
        self.trees.push(Tree::new(nodes, leaves));
    }

    /// The forest, or nothing when a column is too rich for 16-bit codes. `start`: what each output's sum begins with.
    /// `sum`: the precision of the sums. `input`: the precision to which a row's values are rounded first.
    pub(crate) fn finish(self, start: &[f64], sum: Precision, input: Precision) -> Option<Forest> {
        let mut codes = Codes::new(input);
        let mut conditions: Vec<(Condition, u32)> = Vec::with_capacity(self.questions.len());
        let mut columns: BTreeMap<(usize, bool), Vec<u32>> = BTreeMap::new();
        for (index, question) in self.questions.iter().enumerate() {
            let key = match question {
                Question::Above { position, .. } => (*position, false),
                Question::Outside { position, .. } => (*position, true),
            };
            columns.entry(key).or_default().push(index as u32);
        }
        for ((position, category), asked) in columns {
            let asked = asked.into_iter().map(|index| (index, &self.questions[index as usize])).collect::<Vec<_>>();
            if category {
                category_column(position, &asked, &mut codes, &mut conditions)?;
            } else {
                numeric_column(position, &asked, &mut codes, &mut conditions)?;
            }
        }
        conditions.sort_by_key(|(condition, _)| match condition.test {
            Test::Above { rank, .. } => (condition.slot, rank),
            Test::Outside { .. } => (condition.slot, 0),
        });
        let mut number = vec![0; self.questions.len()];
        for (new, (_, old)) in conditions.iter().enumerate() {
            number[*old as usize] = new as u32;
        }
        let mut trees = self.trees;
        for node in trees.iter_mut().flat_map(|tree| &mut tree.nodes) {
            node.condition = number[node.condition as usize];
        }
        let conditions = conditions.into_iter().map(|(condition, _)| condition).collect();
        Some(Forest { codes, conditions, trees, outputs: start.len(), start: start.to_vec(), sum })
    }
}

fn numeric_column(
    position: usize,
    asked: &[(u32, &Question)],
    codes: &mut Codes,
    conditions: &mut Vec<(Condition, u32)>,
) -> Option<()> {
    let mut tiny_bits = 0;
    let mut thresholds = Vec::with_capacity(asked.len());
    for (_, question) in asked {
        if let Question::Above { threshold, tiny, .. } = question {
            thresholds.push(f64::from_bits(*threshold));
            tiny_bits = *tiny;
        }
    }
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    // Ranks 0 to the number of thresholds, zero, NaN.
    if thresholds.len() + 3 > MAX_CODES {
        return None;
    }
    let rank_of = |threshold: f64| thresholds.partition_point(|other| *other < threshold) as u16;
    let rank_of_zero = rank_of(0.0);
    let mut tests = Vec::with_capacity(asked.len());
    // Zero and NaN need codes of their own only where some node treats them unlike the number 0.0.
    let (mut zero_differs, mut nan_differs) = (false, false);
    for (index, question) in asked {
        if let Question::Above { threshold, zero, nan, .. } = question {
            let rank = rank_of(f64::from_bits(*threshold));
            zero_differs |= *zero != (rank_of_zero > rank);
            nan_differs |= *nan != *zero;
            tests.push((Test::Above { rank, zero: *zero, nan: *nan }, *index));
        }
    }
    let slot = codes.slots.len();
    let after = thresholds.len() as u16 + 1;
    let zero = zero_differs.then_some(after);
    let nan = nan_differs.then_some(after + u16::from(zero_differs));
    let size = usize::from(after) + usize::from(zero_differs) + usize::from(nan_differs);
    let zero_code = zero.unwrap_or(rank_of_zero);
    codes.slots.push(Slot { size, zero, nan });
    codes.numeric.push(Numeric::new(
        slot,
        position,
        f64::from_bits(tiny_bits),
        thresholds,
        zero_code,
        nan.unwrap_or(zero_code),
    ));
    conditions.extend(tests.into_iter().map(|(test, index)| (Condition { slot, test }, index)));
    Some(())
}

fn category_column(
    position: usize,
    asked: &[(u32, &Question)],
    codes: &mut Codes,
    conditions: &mut Vec<(Condition, u32)>,
) -> Option<()> {
    let mut sets = Vec::with_capacity(asked.len());
    for (index, question) in asked {
        if let Question::Outside { words, .. } = question {
            sets.push((*index, &**words));
        }
    }
    let values = sets.iter().map(|(_, words)| words.len() * 32).max().unwrap_or(0);
    if values > MAX_CATEGORIES || values.saturating_mul(sets.len()) > MAX_STEPS {
        return None;
    }
    // Categories that no set tells apart share a code; what is outside of every set is one of them.
    let mut map = vec![0_u16; values + 1];
    let mut size = 1_usize;
    let has = |words: &[u32], value: usize| words.get(value / 32).is_some_and(|word| word >> (value % 32) & 1 == 1);
    for (_, words) in &sets {
        let mut split: HashMap<u16, u16> = HashMap::new();
        // Which codes stay: those of values outside of the set; members move to a new code.
        for value in (0..values).filter(|value| has(words, *value)) {
            let before = map[value];
            if let Some(&moved) = split.get(&before) {
                map[value] = moved;
            } else {
                if size == MAX_CODES {
                    return None;
                }
                split.insert(before, size as u16);
                map[value] = size as u16;
                size += 1;
            }
        }
        // A code whose values all moved is free: renumber, so that codes stay dense.
        let mut dense = vec![u16::MAX; size];
        let mut used = 0_u16;
        for code in &mut map {
            let entry = &mut dense[usize::from(*code)];
            if *entry == u16::MAX {
                *entry = used;
                used = used.checked_add(1)?;
            }
            *code = *entry;
        }
        size = usize::from(used);
    }
    let slot = codes.slots.len();
    codes.slots.push(Slot { size, zero: None, nan: None });
    for (index, words) in sets {
        let mut set = vec![0_u64; size.div_ceil(64)];
        for (value, code) in map.iter().enumerate().filter(|(value, _)| has(words, *value)) {
            debug_assert!(value < values);
            set[usize::from(*code) / 64] |= 1 << (code % 64);
        }
        conditions.push((Condition { slot, test: Test::Outside { set: set.into() } }, index));
    }
    codes.categories.push(Categories::new(slot, position, map));
    Some(())
}
