//! Every engine is held against the plain one, to the bit, on random forests.

use proptest::prelude::*;

use super::{Node, SET_WORDS, Split, Test, Trees, Way, build};
use crate::Batch;
use crate::engine::ensemble::Precision;

/// A small generator: proptest chooses the seed, which makes a failure repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }

    fn number(&mut self) -> f64 {
        match self.below(8) {
            0 => self.pick(&SPECIAL),
            1 => self.unit() - 0.5,
            2 => f64::from_bits(self.next() << 24 | self.next()),
            _ => (self.below(41) as f64 - 20.0) * 0.1,
        }
    }
}

const SPECIAL: [f64; 20] = [
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN,
    5e-324,
    -5e-324,
    1e-46,
    -1e-46,
    1.401_298_464_324_817e-45,
    f32::MAX as f64,
    3.402_823_567_797_336_6e38,
    -3.402_823_567_797_336_6e38,
    0.1,
    0.1_f32 as f64,
    -1.0,
    255.0,
    256.0,
    16_777_217.0,
];

/// What a forest is made of.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    trees: usize,
    leaves: usize,
    width: usize,
    outputs: usize,
    columns: usize,
    precision: Precision,
    /// Distinct rows of leaf values, at most.
    rows: usize,
    chain: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (1..30_usize, prop_oneof![1..4_usize, 1..40_usize, 1..400_usize], 1..5_usize, 1..4_usize, 1..9_usize);
    let kinds = (any::<bool>(), any::<bool>(), any::<bool>(), prop_oneof![Just(3), Just(10_000)]);
    (any::<u64>(), sizes, kinds).prop_map(|(seed, (trees, leaves, width, outputs, columns), kinds)| {
        let (single, vector, chain, rows) = kinds;
        let (width, outputs) = if vector { (width, width) } else { (1, outputs) };
        let precision = if single { Precision::Single } else { Precision::Double };
        Plan { seed, trees, leaves, width, outputs, columns, precision, rows, chain }
    })
}

fn trees(plan: &Plan) -> Trees {
    let random = &mut Random(plan.seed);
    let mut trees = Trees {
        offsets: vec![0],
        nodes: Vec::new(),
        values: Vec::new(),
        width: plan.width,
        outputs: Vec::new(),
        start: (0..plan.outputs).map(|_| random.number().clamp(-1e3, 1e3)).collect(),
        sets: (0..3).map(|_| std::array::from_fn::<u32, SET_WORDS, _>(|_| random.next() as u32)).collect(),
        precision: plan.precision,
    };
    let rows = plan.rows.min(1 + plan.trees * plan.leaves);
    trees.values = (0..rows * plan.width).map(|_| random.unit() - 0.3).collect();
    for _ in 0..plan.trees {
        let leaves = 1 + random.below(plan.leaves);
        let mut nodes = vec![Node::Leaf { row: 0 }];
        for _ in 1..leaves {
            let open: Vec<usize> = (0..nodes.len()).filter(|node| matches!(nodes[*node], Node::Leaf { .. })).collect();
            let node = if plan.chain { nodes.len() - 1 } else { random.pick(&open) };
            let position = random.below(plan.columns);
            // The first column holds categories.
            let test = if position == 0 && random.below(2) == 0 {
                Test::Within(random.below(3) as u32)
            } else {
                Test::AtMost(random.number() + 0.0)
            };
            let (left, right) = (nodes.len() as u32, nodes.len() as u32 + 1);
            let test = match test {
                Test::AtMost(threshold) if threshold.is_nan() => Test::AtMost(0.5),
                test => test,
            };
            let missing_left = random.below(2) == 0;
            nodes[node] = Node::Split(Split { position: position as u32, test, missing_left, left, right });
            nodes.extend([Node::Leaf { row: 0 }; 2]);
        }
        for node in &mut nodes {
            if let Node::Leaf { row } = node {
                *row = random.below(rows) as u32;
            }
        }
        trees.nodes.extend(nodes);
        trees.offsets.push(trees.nodes.len() as u32);
        trees.outputs.push(random.below(plan.outputs - plan.width + 1) as u32);
    }
    trees
}

/// Rows around the forest's own thresholds.
fn rows(plan: &Plan, count: usize) -> Batch {
    let random = &mut Random(plan.seed ^ 0x5eed);
    let thresholds: Vec<f64> = trees(plan)
        .nodes
        .iter()
        .filter_map(|node| match node {
            Node::Split(Split { test: Test::AtMost(threshold), .. }) => Some(*threshold),
            _ => None,
        })
        .collect();
    let mut batch = Batch::new(plan.columns);
    for _ in 0..count {
        for value in batch.push_row() {
            *value = match random.below(6) {
                0 => f64::NAN,
                1 => random.number(),
                2 => random.below(260) as f64 - 2.0,
                3 => random.unit(),
                _ if thresholds.is_empty() => random.number(),
                _ => {
                    let near = random.pick(&thresholds);
                    let single = near as f32;
                    let (up, down) = (f64::from(single.next_up()), f64::from(single.next_down()));
                    random.pick(&[near, near.next_up(), near.next_down(), f64::from(single), up, down])
                }
            };
        }
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_way_gives_the_same_bits(plan in plan()) {
        let batch = rows(&plan, 90);
        let reference = build(trees(&plan), Way::Reference).unwrap();
        let mut expected = Vec::new();
        reference.margins(batch.view(0..90).unwrap(), &mut expected);
        for way in [Way::Fastest, Way::Compact, Way::Wide, Way::Shallow] {
            let Some(engine) = build(trees(&plan), way) else {
                prop_assert!(way != Way::Fastest && way != Way::Wide, "{:?} must take every small forest", way);
                continue;
            };
            for size in [0, 1, 2, 23, 24, 25, 64, 90] {
                // Appended after what is there, from any row on.
                let start = (90 - size) / 2;
                let mut got = vec![7.0];
                engine.margins(batch.view(start..start + size).unwrap(), &mut got);
                let expected = &expected[start * plan.outputs..(start + size) * plan.outputs];
                prop_assert_eq!(got.len(), 1 + expected.len());
                for (index, (got, expected)) in got[1..].iter().zip(expected).enumerate() {
                    prop_assert_eq!(got.to_bits(), expected.to_bits(), "{:?}, {} rows, number {}", way, size, index);
                }
            }
        }
    }
}

#[test]
fn many_rows_and_many_lanes() {
    let plan = |columns| Plan {
        seed: 7,
        trees: 20,
        leaves: 3000,
        width: 1,
        outputs: 1,
        columns,
        precision: Precision::Single,
        rows: 1 << 20,
        chain: false,
    };
    // Blocks are of at most 1,024 rows; 1,500 columns need more lanes than ten bits number.
    for (plan, count) in [(plan(5), 2500), (plan(1500), 600)] {
        let batch = rows(&plan, count);
        let mut expected = Vec::new();
        build(trees(&plan), Way::Reference).unwrap().margins(batch.view(0..count).unwrap(), &mut expected);
        let mut got = Vec::new();
        build(trees(&plan), Way::Wide).unwrap().margins(batch.view(0..count).unwrap(), &mut got);
        assert!(got == expected);
    }
}
