//! Trees of few leaves, one number each, are evaluated as those of other libraries.

use super::{Node, Split, Test, Trees};
use crate::engine::ensemble::{Child, Ensemble, Missing, Node as Inner, Precision, Split as Question, Tree};
use crate::engine::{self, Engine};

/// Leaves of a tree, at most: what the engines for many rows take.
const MAX_LEAVES: usize = 256;

/// The engine, unless a tree has too many leaves, a leaf several numbers or a node a set of categories: those treat
/// numbers that are no category's otherwise.
pub(super) fn fastest(trees: &Trees) -> Option<Box<dyn Engine>> {
    let inner = |node: &Node| !matches!(node, Node::Split(Split { test: Test::Within(_), .. }));
    let small = trees.offsets.windows(2).all(|pair| ((pair[1] - pair[0]) as usize) < 2 * MAX_LEAVES);
    if trees.width != 1 || !small || !trees.nodes.iter().all(inner) {
        return None;
    }
    let width = trees.nodes.iter().filter_map(|node| match node {
        Node::Split(split) => Some(split.position as usize + 1),
        Node::Leaf { .. } => None,
    });
    let positions = (0..width.max().unwrap_or(0)).collect();
    let each = (0..trees.len()).map(|index| (trees.outputs[index] as usize, tree(trees, trees.tree(index))));
    let outputs = trees.start.len();
    let ensemble = Ensemble {
        trees: Ensemble::deal(each, outputs),
        start: trees.start.clone(),
        sum: Precision::Double,
        input: trees.precision,
        tiny: -1.0,
    };
    Some(engine::fastest(ensemble, positions))
}

/// Inner nodes and leaves, each numbered by themselves.
fn tree(trees: &Trees, all: &[Node]) -> Tree {
    let mut numbers = Vec::with_capacity(all.len());
    let (mut inner, mut leaves) = (0, Vec::with_capacity(all.len() / 2 + 1));
    for node in all {
        match node {
            Node::Leaf { row } => {
                numbers.push(Child::Leaf(leaves.len() as u32));
                leaves.push(trees.values[*row as usize]);
            }
            Node::Split(_) => {
                numbers.push(Child::Node(inner));
                inner += 1;
            }
        }
    }
    let mut nodes = Vec::with_capacity(inner as usize);
    for node in all {
        let Node::Split(Split { position, test: Test::AtMost(threshold), missing_left, left, right }) = node else {
            continue;
        };
        let split = Question::Numeric { threshold: *threshold, missing: Missing::NaN, default_left: *missing_left };
        let (left, right) = (numbers[*left as usize], numbers[*right as usize]);
        nodes.push(Inner { column: *position, split, left, right });
    }
    Tree::new(nodes, leaves)
}
