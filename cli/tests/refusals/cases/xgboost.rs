//! XGBoost's JSON and UBJSON.

use serde_json::{Value, json};

use super::Cases;
use super::package::{flips, truncations};
use crate::package::Package;

fn booster(model: &mut Value) -> &mut Value {
    &mut model["learner"]["gradient_booster"]["model"]
}

fn tree(model: &mut Value) -> &mut Value {
    &mut booster(model)["trees"][0]
}

/// Puts something in the first tree.
fn put(
    cases: &mut Cases,
    number: u8,
    what: &'static str,
    key: &'static str,
    index: usize,
    value: Value,
    reason: &'static str,
) {
    cases.refused(number, what, reason, move |p| p.model(|model| tree(model)[key][index] = value.clone()));
}

/// A tree that goes down on the right, with leaves of 0.
fn chain(model: &mut Value, nodes: usize) {
    let all = 2 * nodes + 1;
    let inner = |node: usize| node.is_multiple_of(2) && node + 1 < all;
    let list = |item: &dyn Fn(usize) -> i64| (0..all).map(item).collect::<Vec<_>>();
    let parents = list(&|node| if node == 0 { i64::from(i32::MAX) } else { (node as i64 - 1) / 2 * 2 });
    let zeros = vec![0; all];
    let mut added = tree(model).clone();
    added["left_children"] = json!(list(&|node| if inner(node) { node as i64 + 1 } else { -1 }));
    added["right_children"] = json!(list(&|node| if inner(node) { node as i64 + 2 } else { -1 }));
    added["parents"] = json!(parents);
    for key in ["split_indices", "default_left", "split_type"] {
        added[key] = json!(zeros);
    }
    for key in ["base_weights", "loss_changes", "split_conditions", "sum_hessian"] {
        added[key] = json!(vec![0.0; all]);
    }
    added["tree_param"]["num_nodes"] = json!(all.to_string());
    add(model, added, 1);
}

/// Puts trees after the good ones.
fn add(model: &mut Value, tree: Value, times: usize) {
    let booster = booster(model);
    let first = booster["trees"].as_array().unwrap().len();
    for index in first..first + times {
        let mut tree = tree.clone();
        tree["id"] = json!(index);
        booster["trees"].as_array_mut().unwrap().push(tree);
        booster["tree_info"].as_array_mut().unwrap().push(json!(0));
        booster["iteration_indptr"].as_array_mut().unwrap().push(json!(index + 1));
    }
    booster["gbtree_model_param"]["num_trees"] = json!((first + times).to_string());
}

fn stump(model: &mut Value) -> Value {
    let mut added = tree(model).clone();
    added["left_children"] = json!([-1]);
    added["right_children"] = json!([-1]);
    added["parents"] = json!([i32::MAX]);
    for key in ["split_indices", "default_left", "split_type"] {
        added[key] = json!([0]);
    }
    for key in ["base_weights", "loss_changes", "split_conditions", "sum_hessian"] {
        added[key] = json!([0.0]);
    }
    added["tree_param"]["num_nodes"] = json!("1");
    added
}

/// Exchanges bytes, whatever they mean.
fn exchange(package: &Package, from: &[u8], to: &[u8]) {
    package.bytes(|bytes| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes.splice(at..at + from.len(), to.iter().copied());
    });
}

fn ubjson(c: &mut Cases) {
    let trees = b"trees[#L\0\0\0\0\0\0\0\x04";
    let weights = b"base_weights[$d#L";
    let lengths: [(&str, i64); 4] = [("-1", -1), ("2^62", 1 << 62), ("2^63 - 1", i64::MAX), ("10^9", 1_000_000_000)];
    for (what, length) in lengths {
        let claimed = length.to_be_bytes();
        let label: &'static str = match what {
            "-1" => "array of -1 elements",
            "2^62" => "array of 2^62 elements",
            "2^63 - 1" => "array of 2^63 - 1 elements",
            _ => "array of 10^9 elements",
        };
        c.refused(23, label, "nodes/node/model.ubj", move |p| {
            exchange(p, trees, &[b"trees[#L", &claimed[..]].concat());
        });
        c.refused(23, label, "nodes/node/model.ubj", move |p| {
            let file = p.read(&p.model_file());
            let at = file.windows(weights.len()).position(|window| window == weights).unwrap() + weights.len();
            p.bytes(|bytes| bytes[at..at + 8].copy_from_slice(&claimed));
        });
        c.refused(23, "a key of that length", "nodes/node/model.ubj", move |p| {
            p.bytes(|bytes| bytes[2..10].copy_from_slice(&claimed));
        });
        c.refused(23, "a string of that length", "nodes/node/model.ubj", move |p| {
            exchange(p, b"num_treesSL\0\0\0\0\0\0\0\x01", &[b"num_treesSL", &claimed[..]].concat());
        });
    }
    // Elements without a byte each: 10^9 of them in a few bytes.
    for (what, kind) in [
        ("10^9 nulls", b'Z'),
        ("10^9 no-operations", b'N'),
        ("10^9 trues", b'T'),
        ("10^9 arrays", b'['),
        ("10^9 objects", b'{'),
    ] {
        c.refused(23, what, "nodes/node/model.ubj", move |p| {
            let array = [&b"feature_names[$"[..], &[kind], b"#L", &1_000_000_000_i64.to_be_bytes()].concat();
            exchange(p, b"feature_names[#L\0\0\0\0\0\0\0\0", &array);
        });
    }
    c.refused(21, "10,000 deep", "nodes/node/model.ubj", |p| {
        exchange(
            p,
            b"feature_names[#L\0\0\0\0\0\0\0\0",
            &[&b"feature_names"[..], &b"[#L\0\0\0\0\0\0\0\x01".repeat(10_000)].concat(),
        );
    });
    c.refused(21, "10,000 objects deep", "nodes/node/model.ubj", |p| {
        p.bytes(|bytes| *bytes = b"{L\0\0\0\0\0\0\0\x01a".repeat(10_000));
    });
    c.refused(22, "a key twice", "nodes/node/model.ubj", |p| {
        exchange(
            p,
            b"L\0\0\0\0\0\0\0\x09tree_info",
            b"L\0\0\0\0\0\0\0\x09tree_info[#L\0\0\0\0\0\0\0\0L\0\0\0\0\0\0\0\x09tree_info",
        );
    });
}

fn text(c: &mut Cases) {
    c.refused(21, "10,000 deep", "nodes/node/model.json", |p| {
        p.replace(
            "nodes/node/model.json",
            "\"tree_info\":[",
            &format!("\"tree_info\":[{}{},", "[".repeat(10_000), "]".repeat(10_000)),
        );
    });
    c.accepted(21, "10,000 deep in what is skipped", |p| {
        p.replace(
            "nodes/node/model.json",
            "\"feature_names\":[]",
            &format!("\"feature_names\":{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        );
    });
    c.refused(22, "1e999", "nodes/node/model.json", |p| {
        p.replace("nodes/node/model.json", "\"split_conditions\":[", "\"split_conditions\":[1e999,");
    });
    c.refused(22, "a key twice", "nodes/node/model.json", |p| {
        p.replace("nodes/node/model.json", "\"tree_info\":", "\"tree_info\":[0],\"tree_info\":");
    });
    c.refused(9, "threshold null", "nodes/node/model.json", |p| {
        p.model(|model| tree(model)["split_conditions"][0] = Value::Null);
    });
}

pub(crate) fn cases(kind: &'static str) -> Cases {
    let mut cases = Cases::new(kind);
    let c = &mut cases;
    let file = if kind == "xgboost-json" { "nodes/node/model.json" } else { "nodes/node/model.ubj" };
    c.accepted(7, "depth 512", |p| p.model(|model| chain(model, 512)));
    c.refused(7, "depth 513", "depth", |p| p.model(|model| chain(model, 513)));
    c.refused(7, "depth 100,000", "depth", |p| p.model(|model| chain(model, 100_000)));
    put(c, 1, "child index = self", "left_children", 0, json!(0), file);
    put(c, 2, "child < own id", "right_children", 1, json!(0), file);
    put(c, 3, "child >= n", "left_children", 0, json!(1_000), file);
    put(c, 3, "child 2^31 - 1", "left_children", 0, json!(i32::MAX), file);
    put(c, 3, "child 2^40", "left_children", 0, json!(1_u64 << 40), file);
    put(c, 4, "child -2", "left_children", 0, json!(-2), file);
    put(c, 4, "one child only", "left_children", 0, json!(-1), file);
    c.refused(5, "two parents for a node", file, |p| {
        p.model(|model| {
            let right = tree(model)["right_children"][0].clone();
            tree(model)["left_children"][0] = right;
        });
    });
    c.refused(6, "unreachable nodes", file, |p| {
        p.model(|model| {
            for key in ["left_children", "right_children"] {
                tree(model)[key][1] = json!(-1);
            }
        });
    });
    put(c, 8, "feature >= n", "split_indices", 0, json!(3), file);
    put(c, 8, "feature -1", "split_indices", 0, json!(-1), file);
    c.refused(8, "fewer features in the node", "", |p| p.node(|node| node["features"] = json!(["a", "b"])));
    put(c, 9, "threshold NaN", "split_conditions", 0, json!("nan"), file);
    c.refused(11, "leaf NaN", file, |p| {
        p.model(|model| {
            let leaf =
                tree(model)["left_children"].as_array().unwrap().iter().position(|child| *child == json!(-1)).unwrap();
            tree(model)["split_conditions"][leaf] = json!("nan");
        });
    });
    c.refused(11, "leaf Inf", file, move |p| {
        p.model(|model| {
            let leaf =
                tree(model)["left_children"].as_array().unwrap().iter().position(|child| *child == json!(-1)).unwrap();
            tree(model)["split_conditions"][leaf] = if kind == "xgboost-json" { json!(1e300) } else { json!("inf") };
        });
    });
    for (number, what, nodes) in [
        (12, "2^31 nodes", "2147483648"),
        (14, "more nodes than bytes", "1000000000"),
        (12, "-1 nodes", "-1"),
        (12, "0 nodes", "0"),
    ] {
        c.refused(number, what, file, move |p| p.model(|model| tree(model)["tree_param"]["num_nodes"] = json!(nodes)));
    }
    for count in ["10000000", "-1", "3", "99999999999999999999"] {
        c.refused(13, "another number of trees than there are", file, move |p| {
            p.model(|model| booster(model)["gbtree_model_param"]["num_trees"] = json!(count));
        });
    }
    c.accepted(13, "20,000 more trees of one leaf", |p| {
        p.model(|model| {
            let stump = stump(model);
            add(model, stump, 20_000);
        });
    });
    for key in ["left_children", "right_children", "split_indices", "split_conditions", "default_left"] {
        c.refused(15, "an array one short", file, move |p| {
            p.model(|model| {
                tree(model)[key].as_array_mut().unwrap().pop();
            });
        });
    }
    c.refused(15, "an array missing", file, |p| {
        p.model(|model| {
            tree(model).as_object_mut().unwrap().remove("split_indices");
        });
    });
    c.refused(16, "a categorical split", file, |p| {
        p.model(|model| {
            let tree = tree(model);
            tree["split_type"][0] = json!(1);
            tree["categories_nodes"] = json!([0]);
            tree["categories_segments"] = json!([1_000_000]);
            tree["categories_sizes"] = json!([9]);
            tree["categories"] = json!([1]);
        });
    });
    c.refused(17, "class index >= number of classes", file, |p| {
        p.model(|model| booster(model)["tree_info"][0] = json!(1));
    });
    c.refused(17, "class index -1", file, |p| p.model(|model| booster(model)["tree_info"][0] = json!(-1)));
    for (what, count) in [("2^20 classes", "1048576"), ("-1 classes", "-1"), ("2^63 classes", "9223372036854775808")] {
        c.refused(18, what, "", move |p| {
            p.model(|model| model["learner"]["learner_model_param"]["num_class"] = json!(count));
        });
    }
    for score in ["nan", "[nan]", "inf", "x", "", "[1E0,2E0]"] {
        c.refused(19, "base_score that is no number", file, move |p| {
            p.model(|model| model["learner"]["learner_model_param"]["base_score"] = json!(score));
        });
    }
    c.refused(20, "objective unknown", file, |p| {
        p.model(|model| model["learner"]["objective"]["name"] = json!("binary:magic"));
    });
    c.refused(20, "booster dart", file, |p| {
        p.model(|model| model["learner"]["gradient_booster"]["name"] = json!("dart"));
    });
    c.refused(22, "bytes after the end", file, |p| p.bytes(|bytes| bytes.extend(b"{}")));
    for (what, bytes) in [
        ("a pickle", &b"\x80\x04\x95\x1a\x00"[..]),
        ("a pickle behind a brace", b"{\x80\x04\x95\x1a\x00"),
        ("nothing", b""),
        ("a brace", b"{"),
    ] {
        c.refused(30, what, file, move |p| p.bytes(|model| *model = bytes.to_vec()));
    }
    c.refused(39, "cut at each 64th, hash right", "0 of 64 packages may serve", |p| truncations(p, &p.model_file()));
    c.either(40, "200 bits, hash right", "of 200 packages may serve", |p| flips(p, &p.model_file(), 200));
    if kind == "xgboost-json" {
        text(c);
    } else {
        ubjson(c);
    }
    cases
}
