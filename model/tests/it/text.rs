//! LightGBM text that is wrong in one place: refused, and said where.

use model::Batch;
use model::lightgbm::Booster;

/// Three leaves: a numeric node over a categorical one.
const TREE: &str = "num_leaves=3
num_cat=1
split_feature=0 1
split_gain=1 1
threshold=0.5 0
decision_type=2 1
left_child=1 -1
right_child=-2 -3
leaf_value=1 2 4
leaf_weight=1 1 1
leaf_count=1 1 1
internal_value=0 0
internal_weight=0 0
internal_count=2 2
cat_boundaries=0 2
cat_threshold=5 1
is_linear=0
shrinkage=1
";

/// A model of such trees, with sizes that are right.
fn model(header: &str, trees: &[String]) -> String {
    let sections: Vec<String> = trees.iter().enumerate().map(|(i, tree)| format!("Tree={i}\n{tree}\n\n")).collect();
    let sizes: Vec<String> = sections.iter().map(|section| section.len().to_string()).collect();
    format!("{header}tree_sizes={}\n\n{}end of trees\n", sizes.join(" "), sections.concat())
}

const HEADER: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\n\
    objective=regression\nfeature_names=a b\nfeature_infos=[0:1] 0:1\n";

fn with_tree(from: &str, to: &str) -> String {
    assert!(TREE.contains(from), "{from}");
    model(HEADER, &[TREE.replacen(from, to, 1)])
}

fn with_header(from: &str, to: &str) -> String {
    assert!(HEADER.contains(from), "{from}");
    model(&HEADER.replacen(from, to, 1), &[TREE.to_owned()])
}

#[track_caller]
fn refused(text: &str, reason: &str) {
    let error = Booster::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

fn predict(text: &str, rows: &[[f64; 2]]) -> Vec<f64> {
    let mut batch = Batch::new(2);
    for row in rows {
        batch.push_row().copy_from_slice(row);
    }
    let mut out = Vec::new();
    Booster::parse(text.as_bytes()).unwrap().predict(&batch, &mut out).unwrap();
    out
}

#[test]
fn a_good_tree_is_walked() {
    let rows = [[0.5, 0.0], [0.5, 1.0], [0.5, 2.9], [0.5, 32.0], [0.5, 64.0], [0.5, -1.0], [0.5, f64::NAN], [0.6, 0.0]];
    assert_eq!(predict(&with_tree("1 2 4", "1 2 4"), &rows), [1.0, 4.0, 1.0, 1.0, 4.0, 4.0, 4.0, 2.0]);
}

#[test]
fn infinite_thresholds_are_taken() {
    let rows = [[1e308, 0.0], [f64::INFINITY, 0.0], [f64::NEG_INFINITY, 0.0]];
    assert_eq!(predict(&with_tree("threshold=0.5 0", "threshold=inf 0"), &rows), [1.0, 1.0, 1.0]);
    assert_eq!(predict(&with_tree("threshold=0.5 0", "threshold=-inf 0"), &rows), [2.0, 2.0, 1.0]);
}

#[test]
fn version_3_is_read() {
    assert_eq!(predict(&with_header("version=v4", "version=v3"), &[[0.5, 0.0]]), [1.0]);
}

#[test]
fn structure_is_checked() {
    refused(&with_tree("left_child=1 -1", "left_child=0 -1"), "child of node 0"); // M1: itself
    refused(&with_tree("left_child=1 -1", "left_child=1 0"), "child of node 1"); // M2: a cycle
    refused(&with_tree("left_child=1 -1", "left_child=2 -1"), "child of node 0"); // M3: past the end
    refused(&with_tree("left_child=1 -1", "left_child=1 -4"), "child of node 1"); // M4: no such leaf
    refused(&with_tree("left_child=1 -1", "left_child=1 -2147483648"), "child of node 1");
    refused(&with_tree("right_child=-2 -3", "right_child=1 -3"), "without another parent"); // M5
    refused(&with_tree("left_child=1 -1", "left_child=-1 -1"), "without another parent"); // M6: node 1 is an island
    refused(&with_tree("split_feature=0 1", "split_feature=0 2"), "split_feature: expected below 2"); // M8
    refused(&with_tree("split_feature=0 1", "split_feature=-1 1"), "split_feature: expected numbers in range");
    refused(&with_tree("threshold=0.5 0", "threshold=nan 0"), "threshold: expected a number"); // M9
    refused(&with_tree("leaf_value=1 2 4", "leaf_value=1 nan 4"), "leaf_value: expected finite"); // M11
    refused(&with_tree("leaf_value=1 2 4", "leaf_value=1 inf 4"), "leaf_value: expected finite");
    refused(&with_tree("leaf_value=1 2 4", "leaf_value=1 1e999 4"), "leaf_value: expected finite");
    refused(&with_tree("num_leaves=3", "num_leaves=2147483648"), "leaf_value: expected 2147483648"); // M12, M14
    refused(&with_tree("num_leaves=3", "num_leaves=0"), "at least 1");
    refused(&with_tree("threshold=0.5 0", "threshold=0.5"), "threshold: expected 2 numbers, got 1"); // M15
    refused(&with_tree("decision_type=2 1", "decision_type=2 1 1"), "decision_type: expected 2 numbers, got 3");
    refused(&with_tree("decision_type=2 1", "decision_type=14 1"), "decision_type: expected 0 to 11");
    refused(&with_tree("decision_type=2 1", "decision_type=-1 1"), "decision_type: expected 0 to 11");
    refused(&with_tree("cat_boundaries=0 2", "cat_boundaries=0 3"), "cat_boundaries: expected increasing"); // M16
    refused(&with_tree("cat_boundaries=0 2", "cat_boundaries=2 0"), "cat_boundaries: expected increasing");
    refused(&with_tree("num_cat=1", "num_cat=18446744073709551615"), "cat_boundaries");
    refused(&with_tree("threshold=0.5 0", "threshold=0.5 1"), "a whole number below 1 (num_cat)");
    refused(&with_tree("threshold=0.5 0", "threshold=0.5 1e300"), "a whole number below 1 (num_cat)");
    refused(&with_tree("threshold=0.5 0", "threshold=0.5 nan"), "a whole number below 1 (num_cat)");
    refused(&with_tree("is_linear=0", "is_linear=1"), "linear trees are not supported");
    refused(&with_tree("shrinkage=1", "shrink=1"), "key: expected a key of LightGBM's format");
    refused(&with_tree("shrinkage=1", "num_cat=1"), "num_cat: expected it once");
    refused(&with_tree("num_cat=1\n", ""), "num_cat: expected a value, got nothing");
}

#[test]
fn header_is_checked() {
    refused(&with_header("tree\n", "forest\n"), "first line");
    refused(&with_header("version=v4", "version=v5"), "version: expected v3 or v4, got \"v5\"");
    refused(&with_header("num_class=1", "num_class=2"), "num_class"); // M17
    refused(
        &with_header("num_class=1\nnum_tree_per_iteration=1", "num_class=0\nnum_tree_per_iteration=0"),
        "num_class",
    );
    let many = "num_class=1048576\nnum_tree_per_iteration=1048576";
    let custom = with_header("objective=regression\n", "").replacen("num_class=1\nnum_tree_per_iteration=1", many, 1);
    refused(&custom, "number of trees"); // M18
    refused(&with_header("max_feature_idx=1", "max_feature_idx=18446744073709551615"), "feature_names");
    refused(&with_header("feature_names=a b", "feature_names=a"), "feature_names: expected 2");
    refused(&with_header("objective=regression", "objective=magic"), "objective"); // M20
    refused(&with_header("objective=regression", "objective=binary sigmoid:0"), "sigmoid");
    refused(&with_header("objective=regression", "objective=binary sigmoid:-1"), "sigmoid");
    refused(&with_header("objective=regression", "objective=multiclass num_class:3"), "num_class:1");
    refused(&with_header("label_index=0", "surprise=0"), "key");
    let model = model(HEADER, &[TREE.to_owned(), TREE.to_owned()]);
    refused(&model.replacen("tree_sizes=", "tree_sizes=1 ", 1), "size");
    refused(&model.replace("Tree=1", "Tree=7"), "line");
    refused(&model.replace("end of trees\n", ""), "line");
    refused("", "first line");
}

#[test]
fn depth_is_capped() {
    let chain = |nodes: usize| {
        let list = |item: &dyn Fn(usize) -> String| (0..nodes).map(item).collect::<Vec<_>>().join(" ");
        let zeros = list(&|_| "0".to_owned());
        let left = list(&|i| format!("-{}", i + 1));
        let right = list(&|i| if i + 1 < nodes { (i + 1).to_string() } else { format!("-{}", nodes + 1) });
        let tree = format!(
            "num_leaves={}\nnum_cat=0\nsplit_feature={zeros}\nthreshold={zeros}\ndecision_type={zeros}\n\
             left_child={left}\nright_child={right}\nleaf_value={zeros} 7\nshrinkage=1\n",
            nodes + 1
        );
        model(HEADER, &[tree])
    };
    assert_eq!(predict(&chain(512), &[[1.0, 0.0]]), [7.0]); // M7
    refused(&chain(513), "depth: expected at most 512, got 513");
    refused(&chain(100_000), "depth: expected at most 512");
}
