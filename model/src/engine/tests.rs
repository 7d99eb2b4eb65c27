//! Every engine that takes a model is held against the reference engine, to the bit, on every tier of this processor.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::blocks::Blocks;
use super::ensemble::{Child, Ensemble, Missing, Node, Precision, Split, Tree};
use super::levels::Levels;
use super::reference::Reference;
use super::simd::Tier;
use super::steps::Steps;
use super::tables::Tables;
use super::walk::Walk;
use super::{Engine, Fastest};
use crate::Batch;
use crate::lightgbm::ensemble;

/// Around the blocks of every engine.
const SIZES: [usize; 16] = [0, 1, 2, 7, 31, 63, 64, 65, 127, 128, 129, 256, 257, 511, 513, 1000];

/// The engines that take an ensemble, with their names.
fn engines(ensemble: &Ensemble, positions: &[usize]) -> Vec<(String, Box<dyn Engine>)> {
    let forest = Arc::new(ensemble.forest(positions).unwrap());
    let mut engines: Vec<(String, Box<dyn Engine>)> = Vec::new();
    engines.extend(Walk::new(&forest).map(|walk| ("walk".to_owned(), Box::new(walk) as Box<dyn Engine>)));
    engines.extend(Levels::new(&forest).map(|levels| ("levels".to_owned(), Box::new(levels) as Box<dyn Engine>)));
    for tier in Tier::all() {
        if let Some(tables) = Tables::new(&forest, tier) {
            engines.push((format!("tables {tier:?}"), Box::new(tables)));
        }
        if let Some(steps) = Steps::new(&forest, tier) {
            engines.push((format!("steps {tier:?}"), Box::new(steps)));
        }
        if let Some(blocks) = Blocks::new(&forest, tier) {
            engines.push((format!("blocks {tier:?}"), Box::new(blocks)));
        }
    }
    engines.extend(Fastest::new(&forest).map(|engine| ("fastest".to_owned(), Box::new(engine) as Box<dyn Engine>)));
    engines
}

/// Compares all engines on the first rows of a batch, for each size. Gives the engines' names.
fn hold(what: &str, ensemble: Ensemble, batch: &Batch, sizes: &[usize]) -> Vec<String> {
    let positions: Vec<usize> = (0..batch.width()).collect();
    let engines = engines(&ensemble, &positions);
    let outputs = ensemble.outputs();
    let reference = Reference::new(ensemble, positions);
    let mut expected = Vec::new();
    reference.margins(batch.view(0..batch.rows()).unwrap(), &mut expected);
    for (name, engine) in &engines {
        for &size in sizes.iter().filter(|size| **size <= batch.rows()) {
            // Appended after what is there, from any row on.
            let start = if size % 2 == 1 { batch.rows() - size } else { 0 };
            let mut got = vec![7.0];
            engine.margins(batch.view(start..start + size).unwrap(), &mut got);
            assert_eq!(got.len(), 1 + size * outputs, "{what}, {name}, {size} rows");
            for (index, (got, expected)) in got[1..].iter().zip(&expected[start * outputs..]).enumerate() {
                let same = got.to_bits() == expected.to_bits();
                let row = start + index / outputs;
                assert!(same, "{what}, {name}, {size} rows, row {row}: {expected:?} {got:?} {:?}", batch.row(row));
            }
        }
    }
    engines.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn fixtures() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut tested = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let csv = path.with_extension("csv");
        if path.extension().is_none_or(|extension| extension != "txt") || !csv.exists() {
            continue;
        }
        let text = fs::read(&path).unwrap();
        let (model, columns) = ensemble(&text).unwrap();
        let mut batch = Batch::new(columns);
        for line in fs::read_to_string(csv).unwrap().lines() {
            let bits = |word| f64::from_bits(u64::from_str_radix(word, 16).unwrap());
            for (value, word) in batch.push_row().iter_mut().zip(line.split(',')) {
                *value = bits(word);
            }
        }
        let mut random = Random(7);
        let pools = pools(&model, columns);
        while batch.rows() < 1000 {
            random.row(&pools, batch.push_row());
        }
        let names = hold(path.to_str().unwrap(), model, &batch, &SIZES);
        assert!(names.len() >= 2 + 3 * Tier::all().len(), "{names:?}");
        tested += 1;
    }
    assert!(tested >= 29, "only {tested} fixtures");
}

#[test]
fn fixtures_of_xgboost() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/xgboost");
    let mut tested = 0;
    for path in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "ubj") || !path.with_extension("csv").exists() {
            continue;
        }
        let (model, columns) = crate::xgboost::ensemble(&fs::read(&path).unwrap()).unwrap();
        let mut random = Random(7);
        let pools = pools(&model, columns);
        let mut batch = Batch::new(columns);
        for _ in 0..600 {
            random.row(&pools, batch.push_row());
        }
        let names = hold(path.to_str().unwrap(), model, &batch, &[1, 2, 7, 65, 513]);
        assert!(names.len() >= 2 + 3 * Tier::all().len(), "{names:?}");
        tested += 1;
    }
    assert!(tested >= 19, "only {tested} fixtures");
}

/// Models and 10,000 rows of the workspace next door: `UNDERSTUDY_SHARED=../../shared cargo test -p model`.
#[test]
fn big_models() {
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED") else {
        eprintln!("skipped: UNDERSTUDY_SHARED does not name the directory with trees/lgb_*.txt");
        return;
    };
    let trees = Path::new(&shared).join("trees");
    for (name, rows, width) in [
        ("lgb_cat_1000x31", "rows_cat_10000x13.f64", 13),
        ("lgb_cat_300x63", "rows_cat_10000x13.f64", 13),
        ("lgb_num_300x63", "rows_cat_10000x13.f64", 13),
        ("lgb_syn_500x63", "rows_syn_10000x28.f64", 28),
        ("xgb_syn_500d6", "rows_syn_10000x28.f64", 28),
    ] {
        let model = match fs::read(trees.join(format!("{name}.txt"))) {
            Ok(text) => ensemble(&text).unwrap().0,
            Err(_) => crate::xgboost::ensemble(&fs::read(trees.join(format!("{name}.ubj"))).unwrap()).unwrap().0,
        };
        let mut batch = Batch::new(width);
        for row in fs::read(trees.join(rows)).unwrap().chunks_exact(8 * width) {
            for (value, bytes) in batch.push_row().iter_mut().zip(row.chunks_exact(8)) {
                *value = f64::from_le_bytes(bytes.try_into().unwrap());
            }
        }
        let names = hold(name, model, &batch, &[10_000, 1000, 65]);
        eprintln!("{name}: 10000 rows equal to the bit: {names:?}");
    }
}

#[test]
fn a_column_too_rich_for_a_code_is_left_to_the_reference() {
    let leaf =
        |node: i32, last: i32| if node < last { Child::Node(node as u32 + 1) } else { Child::Leaf(last as u32 + 1) };
    let chain = |start: i32, count: i32| {
        let nodes = (0..count)
            .map(|node| Node {
                column: 0,
                split: Split::Numeric {
                    threshold: f64::from(start + node),
                    missing: Missing::NaN,
                    default_left: node % 2 == 0,
                },
                left: Child::Leaf(node as u32),
                right: leaf(node, count - 1),
            })
            .collect();
        Tree::new(nodes, (0..=count).map(f64::from).collect())
    };
    let trees = |count: i32| Ensemble::new((0..count).map(|tree| chain(tree * 500, 500)).collect(), 1);
    assert!(trees(131).forest(&[0]).is_some());
    assert!(trees(132).forest(&[0]).is_none());
    let mut batch = Batch::new(1);
    for value in (-1..65_600).step_by(997) {
        batch.push_row()[0] = f64::from(value);
        batch.push_row()[0] = f64::from(value).next_up();
    }
    batch.push_row();
    let names = hold("rich", trees(131), &batch, &[1, 65, 130]);
    assert_eq!(names, ["walk", "fastest"]);
    let mut set = vec![0; 1 << 17];
    set.fill(0x5555_5555);
    let node = Node {
        column: 0,
        split: Split::Category { words: set[..1 << 16].into() },
        left: Child::Leaf(0),
        right: Child::Leaf(1),
    };
    let model = Ensemble::new(vec![Tree::new(vec![node], vec![1.0, 2.0])], 1);
    for value in [0.0, 1.0, 2.0, 2_097_150.0, 2_097_151.0, 2_097_152.0, 2_097_154.0, 1e300] {
        batch.push_row()[0] = value;
    }
    assert!(hold("many categories", model, &batch, &[9, 140]).len() > 2);
}

/// Every width of a mask and every stride of leaves, on every tier; small enough for an emulator of processors that are
/// not at hand (Bochs has AVX-512).
#[test]
fn tiers() {
    let mut random = Random(11);
    for (leaves, outputs, sum) in [(2, 1), (16, 1), (17, 1), (33, 2), (64, 1), (70, 3), (256, 1)]
        .into_iter()
        .flat_map(|(leaves, outputs)| [(leaves, outputs, Precision::Double), (leaves, outputs, Precision::Single)])
    {
        let (model, columns) = random.forest(leaves, 18, outputs);
        let model = Ensemble { sum, ..model };
        let pools = pools(&model, columns);
        let mut batch = Batch::new(columns);
        for _ in 0..530 {
            random.row(&pools, batch.push_row());
        }
        let names = hold("tiers", model, &batch, &[1, 530]);
        eprintln!("{leaves} leaves, {outputs} outputs: {names:?}");
    }
}

#[test]
fn trees_are_dealt_out_to_the_outputs_in_their_order() {
    let tree = |value: f64| Tree::new(Vec::new(), vec![value]);
    let trees = [(1, tree(1.0)), (0, tree(2.0)), (1, tree(3.0)), (1, tree(4.0))];
    let dealt = Ensemble::deal(trees, 2);
    let values: Vec<f64> = dealt.iter().map(|tree| tree.leaves()[0]).collect();
    assert_eq!(values, [2.0, 1.0, 0.0, 3.0, 0.0, 4.0]);
    assert!(values[2].is_sign_negative() && values[4].is_sign_negative());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn random_forests(seed: u64, leaves in 0..LEAVES.len(), trees in 1..60_usize, outputs in 1..5_usize) {
        let mut random = Random(seed);
        let (model, columns) = random.forest(LEAVES[leaves], trees, outputs);
        let pools = pools(&model, columns);
        let mut batch = Batch::new(columns);
        for _ in 0..520 {
            random.row(&pools, batch.push_row());
        }
        let first = SIZES[random.below(10)];
        hold("random", model, &batch, &[first, 513]);
    }
}

/// Most leaves of a random forest's trees: around the widths of the masks, and beyond.
const LEAVES: [usize; 12] = [1, 2, 15, 16, 17, 32, 33, 64, 65, 129, 200, 300];

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn forest(&mut self, leaves: usize, trees: usize, outputs: usize) -> (Ensemble, usize) {
        let columns = 1 + self.below(9);
        // A column asks for numbers, for categories, or (which no library writes) for both.
        let kinds: Vec<usize> = (0..columns).map(|_| self.below(5)).collect();
        let spread = self.pick(&[3, 20, 120, 700]);
        // As LightGBM, XGBoost, CatBoost and scikit-learn have it, and what none of them has.
        let (sum, input) = (self.precision(), self.precision());
        let tiny = self.pick(&[-1.0, 0.0, f64::from(1e-35_f32)]);
        let trees = (0..trees * outputs).map(|_| self.tree(leaves, &kinds, spread, tiny, sum)).collect();
        let start = (0..outputs).map(|_| sum.round(self.pick(&[0.0, 0.0, -0.0, 0.3, -7.1]))).collect();
        (Ensemble { trees, start, sum, input, tiny }, columns)
    }

    fn precision(&mut self) -> Precision {
        self.pick(&[Precision::Single, Precision::Double])
    }

    fn tree(&mut self, most: usize, kinds: &[usize], spread: usize, tiny: f64, sum: Precision) -> Tree {
        let count = 1 + self.below(most);
        let mut children: Vec<(Child, Child)> = Vec::new();
        // As LightGBM grows: split a leaf; the old number stays left.
        let mut owners: Vec<Option<(usize, bool)>> = vec![None];
        while owners.len() < count {
            let leaf = self.below(owners.len());
            let node = children.len();
            if let Some((parent, right)) = owners[leaf] {
                let (left_child, right_child) = &mut children[parent];
                *(if right { right_child } else { left_child }) = Child::Node(node as u32);
            }
            children.push((Child::Leaf(leaf as u32), Child::Leaf(owners.len() as u32)));
            owners[leaf] = Some((node, false));
            owners.push(Some((node, true)));
        }
        let nodes = children
            .into_iter()
            .map(|(left, right)| {
                let column = self.below(kinds.len());
                let category = match kinds[column] {
                    0 => self.below(2) == 0,
                    1 | 2 => true,
                    _ => false,
                };
                Node { column: column as u32, split: self.split(category, spread, tiny), left, right }
            })
            .collect();
        let mut leaf = || if self.below(20) == 0 { -0.0 } else { sum.round(self.unit() - 0.5) };
        let leaves = (0..count).map(|_| leaf()).collect();
        Tree::new(nodes, leaves)
    }

    fn split(&mut self, category: bool, spread: usize, tiny: f64) -> Split {
        if category {
            let words = self.pick(&[1, 1, 2, 3, 5]);
            let density = self.unit();
            let word =
                |random: &mut Self| (0..32).fold(0, |word, bit| word | u32::from(random.unit() < density) << bit);
            return Split::Category { words: (0..words).map(|_| word(self)).collect() };
        }
        let threshold = match self.below(12) {
            0 => self.pick(&[0.0, -0.0, 5e-324, 1e-35, -1e-35, 1.000_000_018_002_509_5e-35, 1e-34]),
            1 => self.pick(&[f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN]),
            _ => (self.below(spread) as f64 - spread as f64 / 2.0) * 0.37,
        };
        let zero = if tiny < 0.0 { Missing::NaN } else { Missing::Zero };
        let missing = self.pick(&[Missing::Nothing, zero, Missing::NaN, Missing::NaN]);
        Split::Numeric { threshold, missing, default_left: self.below(2) == 0 }
    }

    fn row(&mut self, pools: &[Vec<f64>], row: &mut [f64]) {
        for (value, pool) in row.iter_mut().zip(pools) {
            *value = match self.below(4) {
                0 => self.pick(&SPECIAL),
                1 => self.below(170) as f64 + self.pick(&[0.0, 0.0, 0.5, -0.999]),
                _ if pool.is_empty() => self.unit(),
                _ => {
                    let threshold = self.pick(pool);
                    self.pick(&[threshold, threshold, threshold.next_up(), threshold.next_down(), threshold + 0.1])
                }
            };
        }
    }
}

const SPECIAL: [f64; 24] = [
    0.0,
    -0.0,
    f64::NAN,
    f64::NAN,
    f64::NAN,
    -f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    1e-35,
    -1e-35,
    1.000_000_018_002_509_5e-35,
    -1.000_000_018_002_51e-35,
    1.1e-35,
    -1.0,
    -0.999,
    -1.5,
    2_147_483_647.0,
    2_147_483_648.0,
    1e300,
];

/// For each column the thresholds that nodes compare it with.
fn pools(model: &Ensemble, columns: usize) -> Vec<Vec<f64>> {
    let mut pools = vec![Vec::new(); columns];
    for node in model.trees().iter().flat_map(Tree::nodes) {
        if let Split::Numeric { threshold, .. } = node.split {
            pools[node.column as usize].push(threshold);
        }
    }
    pools
}
