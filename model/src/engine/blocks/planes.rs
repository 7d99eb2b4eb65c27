//! The numbers of a tree's leaves, as few symmetric differences.
//!
//! A leaf's bit is whether an odd number of operands is on the way from the root to it, itself included: an operand turns
//! the bit of all that is below. Along the leaves the numbers are a Gray code, so that neighbours differ in one bit, and the
//! operands of each bit are chosen such that there are as few as possible (Sankoff, 1975, for two states). With 63 leaves
//! that is about 70 operands, where unions of subtrees under numbers in binary take 111.

use crate::engine::forest::{Child, Tree};

/// Bits of a leaf's number, at most.
pub(super) const PLANES: usize = 8;

/// A tree, as places of a reach list: the inner nodes level by level, so that a node is written long before it is read,
/// then the leaves from left to right.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The tree's node at each place.
    pub(super) order: Vec<u32>,
    /// The places of its children.
    pub(super) places: Vec<[u16; 2]>,
    /// For each leaf its number, below the next power of two from the number of leaves on.
    pub(super) numbers: Vec<u8>,
    /// Operands of each bit.
    pub(super) planes: [Vec<u16>; PLANES],
}

impl Plan {
    /// Of a tree of at most 256 leaves.
    pub(super) fn new(tree: &Tree) -> Self {
        let mut plan = Self { numbers: numbers(tree), ..Self::default() };
        if tree.nodes.is_empty() {
            return plan;
        }
        plan.order.push(0);
        while let Some(index) = plan.order.get(plan.places.len()) {
            let node = &tree.nodes[*index as usize];
            let mut place = |child: Child| match child {
                Child::Leaf(leaf) => (tree.nodes.len() + leaf as usize) as u16,
                Child::Node(node) => {
                    plan.order.push(node);
                    (plan.order.len() - 1) as u16
                }
            };
            let places = [place(node.left), place(node.right)];
            plan.places.push(places);
        }
        for bit in 0..PLANES {
            plan.planes[bit] = plan.operands(bit);
        }
        plan
    }

    /// The fewest places that give the leaves' bit.
    fn operands(&self, bit: usize) -> Vec<u16> {
        let nodes = self.places.len();
        // For each place how many operands it takes below, if the bit has been turned so far, and if not.
        let mut costs = vec![[0_u16; 2]; nodes];
        let cost = |costs: &[[u16; 2]], place: u16, turned: usize| match costs.get(usize::from(place)) {
            Some(costs) => costs[turned],
            // The operand is the leaf itself.
            None => u16::from(usize::from(self.numbers[usize::from(place) - nodes] >> bit & 1) != turned),
        };
        // A child, and perhaps itself as an operand.
        let best = |costs: &[[u16; 2]], place: u16, turned: usize| {
            let stay = cost(costs, place, turned);
            // A leaf that is turned is counted already.
            if usize::from(place) < nodes { stay.min(cost(costs, place, 1 - turned) + 1) } else { stay }
        };
        for place in (0..nodes).rev() {
            let [left, right] = self.places[place];
            costs[place] = [0, 1].map(|turned| best(&costs, left, turned) + best(&costs, right, turned));
        }
        let mut operands = Vec::new();
        let mut open = vec![(0_u16, 0_usize)];
        while let Some((place, turned)) = open.pop() {
            let turn = if usize::from(place) < nodes {
                cost(&costs, place, turned) > cost(&costs, place, 1 - turned) + 1
            } else {
                cost(&costs, place, turned) > 0
            };
            if turn {
                operands.push(place);
            }
            if let Some(children) = self.places.get(usize::from(place)) {
                let turned = turned ^ usize::from(turn);
                open.extend(children.map(|child| (child, turned)));
            }
        }
        operands
    }
}

/// Numbers along the leaves, where the child with more leaves comes first: subtrees then begin at even numbers more often.
fn numbers(tree: &Tree) -> Vec<u8> {
    let mut numbers = vec![0; tree.leaves.len()];
    let mut starts = vec![0_usize; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate() {
        let (left, right) = ((node.middle - node.first) as usize, (node.end - node.middle) as usize);
        let start = starts[index];
        let (of_left, of_right) = if left < right { (start + right, start) } else { (start, start + left) };
        for (child, start) in [(node.left, of_left), (node.right, of_right)] {
            match child {
                Child::Node(child) => starts[child as usize] = start,
                Child::Leaf(leaf) => numbers[leaf as usize] = (start ^ start >> 1) as u8,
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::ensemble::Precision;
    use crate::engine::forest::Builder;

    /// A tree that grows leaf by leaf where the numbers tell.
    fn grown(choices: &[usize]) -> Tree {
        let mut nodes: Vec<(u32, Child, Child)> = Vec::new();
        let mut builder = Builder::default();
        let question = builder.above(0, -1.0, 0.5, false, false);
        for (leaf, choice) in (0..).zip(choices) {
            let new = Child::Leaf(leaf + 1);
            let node = nodes.len() as u32;
            if nodes.is_empty() {
                nodes.push((question, Child::Leaf(0), new));
                continue;
            }
            // The leaf that is split.
            let split = Child::Leaf((choice % (leaf as usize + 1)) as u32);
            for (_, left, right) in &mut nodes {
                for child in [left, right] {
                    if *child == split {
                        *child = Child::Node(node);
                    }
                }
            }
            nodes.push((question, split, new));
        }
        builder.tree(&nodes, &vec![0.0; choices.len() + 1]);
        let mut forest = builder.finish(&[0.0], Precision::Double, Precision::Double).unwrap();
        forest.trees.pop().unwrap()
    }

    /// The bits that the operands give to each leaf.
    fn found(plan: &Plan) -> Vec<u8> {
        let mut found = vec![0; plan.numbers.len()];
        let mut open = vec![(0_u16, 0_u8)];
        while let Some((place, mut number)) = open.pop() {
            for (bit, operands) in plan.planes.iter().enumerate() {
                number ^= u8::from(operands.contains(&place)) << bit;
            }
            match plan.places.get(usize::from(place)) {
                Some(children) => open.extend(children.map(|child| (child, number))),
                None => found[usize::from(place) - plan.places.len()] = number,
            }
        }
        found
    }

    proptest! {
        #[test]
        fn operands_give_distinct_numbers(choices in prop::collection::vec(any::<usize>(), 0..255)) {
            let tree = grown(&choices);
            let plan = Plan::new(&tree);
            prop_assert_eq!(found(&plan), plan.numbers.clone());
            let mut sorted = plan.numbers.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), tree.leaves.len());
            prop_assert!(plan.numbers.iter().all(|n| usize::from(*n) < tree.leaves.len().next_power_of_two()));
        }
    }

    #[test]
    fn a_complete_tree_takes_an_operand_for_each_node() {
        // Splits leaf 0, then 0 and 1, then 0 to 3, and so on.
        let choices: Vec<usize> = (1..64_usize).map(|new| new - (1 << new.ilog2())).collect();
        let plan = Plan::new(&grown(&choices));
        assert_eq!(plan.planes.iter().map(Vec::len).sum::<usize>(), 63);
    }
}
