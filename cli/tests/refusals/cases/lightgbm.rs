//! LightGBM's text.

use serde_json::{Value, json};

use super::Cases;
use crate::package::Package;

/// The good text with its tree sizes right again.
fn sized(text: &str) -> String {
    let (first, end) = (text.find("Tree=").unwrap(), text.find("end of trees").unwrap());
    let body = &text[first..end];
    let mut bounds: Vec<usize> = body.match_indices("Tree=").map(|(index, _)| index).collect();
    bounds.push(body.len());
    let sizes: Vec<String> = bounds.windows(2).map(|pair| (pair[1] - pair[0]).to_string()).collect();
    let start = text.find("tree_sizes=").unwrap();
    let rest = start + text[start..].find('\n').unwrap();
    format!("{}tree_sizes={}{}", &text[..start], sizes.join(" "), &text[rest..])
}

fn text(package: &Package) -> String {
    String::from_utf8(package.read(&package.model_file())).unwrap()
}

/// Changes the words of a key: in the header, or in the tree that is the first to have it (`tree`: from there on).
fn words(package: &Package, from: &str, key: &str, change: impl FnOnce(&mut Vec<String>)) {
    let text = text(package);
    let tree = text.find(from).unwrap();
    let start = tree + text[tree..].find(&format!("\n{key}=")).unwrap() + key.len() + 2;
    let end = start + text[start..].find('\n').unwrap();
    let mut words: Vec<String> = text[start..end].split(' ').map(ToOwned::to_owned).collect();
    change(&mut words);
    let changed = format!("{}{}{}", &text[..start], words.join(" "), &text[end..]);
    package.put(&package.model_file(), sized(&changed));
}

fn word(package: &Package, key: &str, index: usize, word: &str) {
    words(package, "Tree=0", key, |words| word.clone_into(&mut words[index]));
}

fn header(package: &Package, key: &str, value: &str) {
    words(package, "tree\n", key, |words| *words = vec![value.to_owned()]);
}

/// Puts trees after the good ones, each the text behind `Tree=`'s line; their leaves are 0, so that the answers stay.
fn add_trees(package: &Package, trees: impl Iterator<Item = String>) {
    let text = text(package);
    let (before, end) = text.split_at(text.find("end of trees").unwrap());
    let mut number = before.matches("Tree=").count();
    let mut changed = before.to_owned();
    for tree in trees {
        changed.push_str(&format!("Tree={number}\n{tree}\n\n"));
        number += 1;
    }
    package.put(&package.model_file(), sized(&(changed + end)));
}

/// A tree that goes down on the right, node by node, each with a leaf of 0 on its left.
fn chain(nodes: usize) -> String {
    let list = |item: &dyn Fn(usize) -> String| (0..nodes).map(item).collect::<Vec<_>>().join(" ");
    let zeros = list(&|_| "0".to_owned());
    let left = list(&|i| format!("-{}", i + 1));
    let right = list(&|i| if i + 1 < nodes { (i + 1).to_string() } else { format!("-{}", nodes + 1) });
    format!(
        "num_leaves={}\nnum_cat=0\nsplit_feature={zeros}\nthreshold={zeros}\ndecision_type={zeros}\nleft_child={left}\n\
         right_child={right}\nleaf_value={zeros} 0\nshrinkage=1\n",
        nodes + 1
    )
}

const STUMP: &str = "num_leaves=1\nnum_cat=0\nleaf_value=0\nshrinkage=1\n";

/// Trees that ask about categories: many sets of few words, after a few of many words that tell all values apart.
fn rich(bits: usize, small: usize) -> impl Iterator<Item = String> {
    let tree = |words: String, count: usize| {
        format!(
            "num_leaves=2\nnum_cat=1\nsplit_feature=3\nthreshold=0\ndecision_type=1\nleft_child=-1\nright_child=-2\n\
             leaf_value=0 0\ncat_boundaries=0 {count}\ncat_threshold={words}\nshrinkage=1\n"
        )
    };
    let large = (0..bits).map(move |bit| {
        let word = |word: usize| {
            let bits = (0..32).filter(|place| (word * 32 + place) >> bit & 1 == 1);
            bits.fold(0_u32, |word, place| word | 1 << place).to_string()
        };
        let count = (1 << bits) / 32;
        tree((0..count).map(word).collect::<Vec<_>>().join(" "), count)
    });
    large.chain((0..small).map(move |number| tree((number + 1).to_string(), 1)))
}

pub(crate) fn cases() -> Cases {
    let mut cases = Cases::new("lightgbm");
    let c = &mut cases;
    c.refused(1, "child index = self", "child of node 0: expected a node after 0", |p| word(p, "left_child", 0, "0"));
    c.refused(2, "child < own id", "child of node 1: expected a node after 1", |p| word(p, "right_child", 1, "0"));
    c.refused(3, "child >= n", "child of node 0: expected a node after 0 and below 5", |p| {
        word(p, "left_child", 0, "5");
    });
    c.refused(3, "child 2^31 - 1", "child of node 0", |p| word(p, "left_child", 0, "2147483647"));
    c.refused(4, "negative child is no leaf", "or one of 6 leaves, got -7", |p| word(p, "left_child", 1, "-7"));
    c.refused(4, "child -2^31", "child of node 1", |p| word(p, "left_child", 1, "-2147483648"));
    c.refused(5, "two parents for a node", "a child without another parent", |p| {
        words(p, "Tree=0", "left_child", |words| words[0] = "2".to_owned());
    });
    c.refused(5, "two parents for a leaf", "a child without another parent, got -1", |p| {
        words(p, "Tree=0", "right_child", |words| words[4] = "-1".to_owned());
    });
    c.refused(6, "unreachable node", "a child without another parent", |p| {
        words(p, "Tree=0", "left_child", |words| words[0] = "-6".to_owned());
    });
    c.refused(7, "depth 100,000", "depth: expected at most 512, got 513", |p| {
        add_trees(p, [chain(100_000)].into_iter());
    });
    c.refused(7, "depth 513", "depth: expected at most 512, got 513", |p| add_trees(p, [chain(513)].into_iter()));
    c.accepted(7, "depth 512", |p| add_trees(p, [chain(512)].into_iter()));
    c.refused(8, "feature >= n", "split_feature: expected below 4", |p| word(p, "split_feature", 0, "4"));
    c.refused(8, "feature -1", "split_feature: expected numbers in range", |p| word(p, "split_feature", 0, "-1"));
    c.refused(9, "threshold NaN", "threshold: expected a number, got nan", |p| word(p, "threshold", 1, "nan"));
    c.accepted(10, "threshold Inf and -Inf", |p| {
        let side = "split_feature=0 0\nthreshold=inf -inf\ndecision_type=2 2\nleft_child=1 -1\nright_child=-2 -3\n";
        let tree = format!("num_leaves=3\nnum_cat=0\n{side}leaf_value=0 0 0\nshrinkage=1\n");
        add_trees(p, [tree].into_iter());
    });
    c.refused(11, "leaf NaN", "leaf_value: expected finite numbers, got NaN", |p| word(p, "leaf_value", 0, "nan"));
    c.refused(11, "leaf Inf", "leaf_value: expected finite numbers, got inf", |p| word(p, "leaf_value", 0, "1e999"));
    c.refused(12, "2^31 leaves", "leaf_value: expected 2147483648", |p| word(p, "num_leaves", 0, "2147483648"));
    c.refused(12, "0 leaves", "leaf_value: expected 0", |p| word(p, "num_leaves", 0, "0"));
    c.refused(13, "10^7 trees, in the sizes", "number of trees: expected 10000000", |p| {
        let text = text(p);
        let (start, rest) = text.split_once("tree_sizes=").unwrap();
        let (sizes, rest) = rest.split_once('\n').unwrap();
        let more = 10_000_000 - sizes.split(' ').count();
        p.put(&p.model_file(), format!("{start}tree_sizes={sizes}{}\n{rest}", " 1".repeat(more)));
    });
    c.accepted(13, "100,000 more trees of one leaf", |p| add_trees(p, std::iter::repeat_n(STUMP.to_owned(), 100_000)));
    c.refused(14, "more nodes than bytes", "leaf_value: expected 1000000", |p| word(p, "num_leaves", 0, "1000000"));
    c.refused(14, "more categories than bytes", "cat_boundaries: expected", |p| {
        word(p, "num_cat", 0, "18446744073709551615");
    });
    for key in ["split_feature", "threshold", "decision_type", "left_child", "right_child"] {
        c.refused(15, "a list one short", "expected 5 numbers, got 4", move |p| {
            words(p, "Tree=0", key, |w| w.truncate(4));
        });
    }
    c.refused(15, "a leaf's value less", "leaf_value: expected 6 (num_leaves)", |p| {
        words(p, "Tree=0", "leaf_value", |w| w.truncate(5));
    });
    c.refused(16, "bit sets end past the words", "cat_boundaries: expected increasing numbers", |p| {
        words(p, "Tree=0", "cat_boundaries", |words| *words.last_mut().unwrap() = "9".to_owned());
    });
    c.refused(16, "number of a set past the sets", "threshold of a category: expected a whole number below", |p| {
        let tree = "num_leaves=2\nnum_cat=1\nsplit_feature=3\nthreshold=1\ndecision_type=1\nleft_child=-1\nright_child=-2\n\
            leaf_value=0 0\ncat_boundaries=0 1\ncat_threshold=5\nshrinkage=1\n";
        add_trees(p, [tree.to_owned()].into_iter());
    });
    c.accepted(16, "1,900 sets of 65,536 categories", |p| add_trees(p, rich(16, 1_900)));
    c.refused(17, "more classes than outputs", "num_class: expected 1", |p| header(p, "num_class", "2"));
    c.refused(17, "trees for a class that is not there", "number of trees: expected a multiple of 3", |p| {
        header(p, "objective", "multiclass num_class:3");
        header(p, "num_class", "3");
        header(p, "num_tree_per_iteration", "3");
    });
    for (count, reason) in
        [("0", "num_class: expected 0"), ("1048576", "number of trees: expected a multiple of 1048576")]
    {
        c.refused(18, if count == "0" { "0 classes" } else { "2^20 classes" }, reason, move |p| {
            header(p, "objective", "custom");
            header(p, "num_class", count);
            header(p, "num_tree_per_iteration", count);
        });
    }
    c.refused(20, "objective unknown", "objective: expected an objective that is known here", |p| {
        header(p, "objective", "magic");
    });
    c.refused(20, "objective of no probabilities", "one that gives probabilities", |p| {
        header(p, "objective", "custom");
    });
    c.refused(22, "a key twice", "num_cat: expected it once, got it twice", |p| word(p, "num_cat", 0, "0\nnum_cat=0"));
    c.refused(39, "trees cut away", "line: expected \"Tree=2\"", |p| {
        let text = text(p);
        p.put(&p.model_file(), &text[..text.find("Tree=2").unwrap()]);
    });
    c.refused(30, "LightGBM's pickle instead of text", "expected UTF-8", |p| {
        p.bytes(|bytes| *bytes = b"\x80\x04\x95\xff\x00.".to_vec());
    });
    c.refused(8, "features of the node: fewer", "expected 3 columns (features of the node)", |p| {
        p.node(|node| node["features"] = json!(["a", "b", "c"]));
    });
    c.refused(8, "features of the node: 100,000", "expected a list of at most 65536 elements", |p| {
        p.node(|node| node["features"] = Value::Array(vec![json!("a"); 100_000]));
    });
    cases
}
