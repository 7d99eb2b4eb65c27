//! Where the nodes of a tree lie.
//!
//! The two children of a node are neighbours, a *pair*. A walk visits one node of each pair on its way, so that the cache
//! lines it touches are fewest where pairs that are visited one after another share a line. How often a pair is visited is
//! not in the file, but the number of leaves below is a good guess. So each line is filled, from one pair on, with those
//! pairs below it that have the most leaves; what is left begins further lines, the heaviest next.

use super::{Node, Split};

/// The slot of each node of a tree, and the number of slots. The root has slot 0 and a pair of its own; children come after
/// their parent. `line`: slots of a cache line, even; the tree begins with a line.
pub(super) fn slots(tree: &[Node], line: usize) -> (Vec<u32>, usize) {
    let mut leaves = vec![1_u32; tree.len()];
    for (index, node) in tree.iter().enumerate().rev() {
        if let Node::Split(Split { left, right, .. }) = node {
            leaves[index] = leaves[*left as usize] + leaves[*right as usize];
        }
    }
    let mut slots = vec![0_u32; tree.len()];
    let mut next = 2;
    // Inner nodes whose children have no slots yet: of the line that is being filled, and of all lines before.
    let mut near: Vec<u32> = Vec::new();
    let mut far: Vec<u32> = vec![0];
    while let Some(start) = far.pop() {
        near.push(start);
        loop {
            let heaviest = (0..near.len()).max_by_key(|index| leaves[near[*index] as usize]);
            let Some(heaviest) = heaviest else { break };
            let Node::Split(split) = &tree[near.swap_remove(heaviest) as usize] else { continue };
            (slots[split.left as usize], slots[split.right as usize]) = (next as u32, next as u32 + 1);
            next += 2;
            let inner = |child: &u32| matches!(tree[*child as usize], Node::Split(_));
            near.extend([split.left, split.right].into_iter().filter(inner));
            if next % line == 0 {
                break;
            }
        }
        near.sort_unstable_by_key(|node| leaves[*node as usize]);
        far.append(&mut near);
    }
    (slots, next)
}
