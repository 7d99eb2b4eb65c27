//! CatBoost's JSON.

use serde_json::{Value, json};

use super::Cases;
use super::package::{flips, truncations};

const FILE: &str = "nodes/node/model.json";

fn tree(model: &mut Value) -> &mut Value {
    &mut model["oblivious_trees"][0]
}

/// The first split of a kind.
fn split<'a>(model: &'a mut Value, kind: &str) -> &'a mut Value {
    let trees = model["oblivious_trees"].as_array_mut().unwrap();
    let mut splits = trees.iter_mut().flat_map(|tree| tree["splits"].as_array_mut().unwrap());
    splits.find(|split| split["split_type"] == kind).unwrap()
}

/// The table of the category's counts.
fn table(model: &mut Value) -> &mut Value {
    model["ctr_data"].as_object_mut().unwrap().values_mut().next().unwrap()
}

fn model(
    cases: &mut Cases,
    number: u8,
    what: &'static str,
    reason: &'static str,
    change: impl Fn(&mut Value) + 'static,
) {
    cases.refused(number, what, reason, move |p| p.model(|value| change(value)));
}

pub(crate) fn cases() -> Cases {
    let mut cases = Cases::new("catboost");
    let c = &mut cases;
    model(c, 8, "split past the features' borders", FILE, |m| {
        split(m, "FloatFeature")["split_index"] = json!(1_000_000);
    });
    model(c, 8, "split -1", FILE, |m| split(m, "FloatFeature")["split_index"] = json!(-1));
    model(c, 8, "flat index past the features", "", |m| {
        m["features_info"]["float_features"][0]["flat_feature_index"] = json!(1_000);
    });
    model(c, 8, "flat index 2^40", "", |m| {
        m["features_info"]["float_features"][0]["flat_feature_index"] = json!(1_u64 << 40);
    });
    model(c, 8, "flat index of two features", "", |m| {
        m["features_info"]["float_features"][0]["flat_feature_index"] = json!(1);
    });
    c.refused(8, "fewer features in the node", "", |p| p.node(|node| node["features"] = json!(["a", "b", "c"])));
    for border in ["nan", "x"] {
        model(c, 9, "border that is no number", FILE, move |m| {
            m["features_info"]["float_features"][0]["borders"][0] = json!(border);
        });
    }
    model(c, 9, "border null", FILE, |m| m["features_info"]["float_features"][0]["borders"][0] = Value::Null);
    model(c, 11, "leaf NaN", FILE, |m| tree(m)["leaf_values"][0] = json!("nan"));
    model(c, 11, "leaf null", FILE, |m| tree(m)["leaf_values"][0] = Value::Null);
    model(c, 7, "depth 40: 2^40 leaves", FILE, |m| {
        let split = tree(m)["splits"][0].clone();
        tree(m)["splits"] = json!(vec![split; 40]);
    });
    model(c, 7, "depth 64: the shift overflows", FILE, |m| {
        let split = tree(m)["splits"][0].clone();
        tree(m)["splits"] = json!(vec![split; 64]);
    });
    model(c, 7, "depth 100,000", FILE, |m| {
        let split = tree(m)["splits"][0].clone();
        tree(m)["splits"] = json!(vec![split; 100_000]);
    });
    c.accepted(13, "20,000 more trees of one leaf", |p| {
        p.model(|m| {
            let tree = json!({"leaf_values": [0], "leaf_weights": [0], "splits": []});
            m["oblivious_trees"].as_array_mut().unwrap().extend(vec![tree; 20_000]);
        });
    });
    model(c, 15, "a leaf less", FILE, |m| {
        tree(m)["leaf_values"].as_array_mut().unwrap().pop();
    });
    model(c, 15, "no leaves", FILE, |m| tree(m)["leaf_values"] = json!([]));
    model(c, 15, "a list missing", FILE, |m| {
        tree(m).as_object_mut().unwrap().remove("leaf_values");
    });
    model(c, 16, "a table of another stride", FILE, |m| table(m)["hash_stride"] = json!(4));
    model(c, 16, "a table of stride 0", FILE, |m| table(m)["hash_stride"] = json!(0));
    model(c, 16, "a table of stride 2^62", FILE, |m| table(m)["hash_stride"] = json!(1_u64 << 62));
    model(c, 16, "a table one short", FILE, |m| {
        table(m)["hash_map"].as_array_mut().unwrap().pop();
    });
    model(c, 16, "a hash that is no number", FILE, |m| table(m)["hash_map"][3] = json!("x"));
    model(c, 16, "a hash past 64 bits", FILE, |m| table(m)["hash_map"][3] = json!("18446744073709551616"));
    model(c, 16, "a hash twice", FILE, |m| {
        let hash = table(m)["hash_map"][3].clone();
        table(m)["hash_map"][6] = hash;
    });
    model(c, 16, "no table", FILE, |m| m["ctr_data"] = json!({}));
    model(c, 16, "a split past the splits", FILE, |m| split(m, "OnlineCtr")["split_index"] = json!(1_000_000));
    c.refused(16, "hashes of fewer codes", "", |p| {
        p.node(|node| {
            node["hashes"]["d"]["codes"].as_array_mut().unwrap().pop();
        });
    });
    c.refused(16, "no hashes", "", |p| p.node(|node| node["hashes"] = json!({})));
    c.refused(16, "a hash of 2^32", "", |p| p.node(|node| node["hashes"]["d"]["codes"][0] = json!(1_u64 << 32)));
    model(c, 18, "2^20 leaves for each", FILE, |m| m["scale_and_bias"] = json!([1, vec![0; 1 << 20]]));
    c.accepted(18, "no bias: 0", |p| p.model(|m| m["scale_and_bias"] = json!([1, []])));
    model(c, 19, "bias NaN", FILE, |m| m["scale_and_bias"] = json!([1, ["nan"]]));
    model(c, 19, "scale null", FILE, |m| m["scale_and_bias"] = json!([null, [0]]));
    model(c, 20, "objective unknown", FILE, |m| {
        let text = m["model_info"]["params"].to_string();
        let changed = text.replace("Logloss", "Magic");
        assert!(text != changed);
        m["model_info"]["params"] = serde_json::from_str(&changed).unwrap();
    });
    model(c, 20, "text features", FILE, |m| m["features_info"]["text_features"] = json!([{"feature_index": 0}]));
    c.refused(21, "10,000 deep", FILE, |p| {
        p.model(|m| m["scale_and_bias"] = json!("deep"));
        p.replace(FILE, "\"deep\"", &("[".repeat(10_000) + &"]".repeat(10_000)));
    });
    c.refused(22, "1e999", FILE, |p| p.replace(FILE, "\"leaf_values\": [", "\"leaf_values\": [1e999,"));
    c.refused(22, "1e999, one for one", FILE, |p| {
        p.model(|m| tree(m)["leaf_values"][0] = json!("large"));
        p.replace(FILE, "\"large\"", "1e999");
    });
    c.refused(22, "a key twice", FILE, |p| {
        p.replace(FILE, "\"scale_and_bias\":", "\"scale_and_bias\":[2,[9]],\"scale_and_bias\":");
    });
    c.refused(22, "bytes after the end", FILE, |p| p.bytes(|bytes| bytes.extend(b"{}")));
    for (what, bytes) in
        [("a pickle", &b"\x80\x04\x95\x1a\x00"[..]), ("a .cbm", b"CBM1\x10\x00\x00\x00"), ("nothing", b"")]
    {
        c.refused(30, what, FILE, move |p| p.bytes(|model| *model = bytes.to_vec()));
    }
    c.refused(39, "cut at each 64th, hash right", "0 of 64 packages may serve", |p| truncations(p, &p.model_file()));
    c.either(40, "200 bits, hash right", "of 200 packages may serve", |p| flips(p, &p.model_file(), 200));
    cases
}
