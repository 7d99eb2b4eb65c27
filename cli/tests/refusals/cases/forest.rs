//! The arrays of a forest.

use serde_json::{Value, json};

use super::Cases;
use super::package::{flips, truncations};
use crate::package::Package;
use crate::tensors::{Tensors, file};

/// The first inner node with two leaves below, or the first inner node whose left child is one.
fn inner_of_leaves(tensors: &mut Tensors) -> usize {
    let nodes = tensors.header["left"]["shape"][0].as_u64().unwrap() as usize;
    let end = i64::from_le_bytes(tensors.array("offsets")[8..16].try_into().unwrap()) as usize;
    let is_leaf = |tensors: &mut Tensors, node: usize| tensors.i32("left", node) < 0;
    (0..end.min(nodes))
        .find(|&node| {
            let (left, right) = (tensors.i32("left", node), tensors.i32("right", node));
            left > 0 && is_leaf(tensors, left as usize) && is_leaf(tensors, right as usize)
        })
        .unwrap()
}

/// Sets one element of an array of the first tree.
fn set(
    cases: &mut Cases,
    number: u8,
    what: &'static str,
    name: &'static str,
    index: usize,
    value: i32,
    reason: &'static str,
) {
    cases.refused(number, what, reason, move |p| p.tensors(|tensors| tensors.set(name, index, value.to_le_bytes())));
}

/// A forest of one chain.
fn chain(package: &Package, nodes: usize) {
    let all = 2 * nodes + 1;
    let ints = |item: &dyn Fn(usize) -> i32| (0..all).flat_map(|node| item(node).to_le_bytes()).collect::<Vec<u8>>();
    // Inner nodes are even numbers: the leaf on the left is next, the rest of the chain after that.
    let inner = |node: usize| node.is_multiple_of(2) && node + 1 < all;
    let (left, right) =
        (ints(&|n| if inner(n) { n as i32 + 1 } else { -1 }), ints(&|n| if inner(n) { n as i32 + 2 } else { -1 }));
    let (zeros, halves) = (ints(&|_| 0), vec![0_u8; all * 8]);
    package.tensors(|tensors| {
        let shape = [all as u64];
        tensors.put("left", "I32", &shape, &left);
        tensors.put("right", "I32", &shape, &right);
        tensors.put("feature", "I32", &shape, &zeros);
        tensors.put("threshold", "F64", &shape, &halves);
        tensors.put("value", "F64", &[all as u64, 1], &halves);
        let offsets: Vec<u8> = [0_i64, all as i64].iter().flat_map(|offset| offset.to_le_bytes()).collect();
        tensors.put("offsets", "I64", &[2], &offsets);
        for name in ["missing_left", "category", "sets"] {
            tensors.remove(name);
        }
    });
    // Every leaf is 0: the answer is the start's, for every row.
    package.node(|node| {
        node["start"] = json!([0]);
        node["link"] = json!("sigmoid");
    });
    let golden = String::from_utf8(package.read("golden.jsonl")).unwrap();
    let lines: Vec<String> = golden
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line["nodes"]["node"] = json!([0.5]);
            line["label"] = json!(0);
            line.to_string()
        })
        .collect();
    package.put("golden.jsonl", lines.join("\n"));
}

/// A header of one's own over the good data.
pub(crate) fn header(package: &Package, change: impl FnOnce(&mut String)) {
    package.bytes(|bytes| {
        let tensors = Tensors::read(bytes);
        let mut header = Value::Object(tensors.header.clone()).to_string();
        change(&mut header);
        *bytes = file(&header, &tensors.data);
    });
}

/// What a safetensors file can get wrong, whatever its arrays are for; `name`: one of them.
pub(crate) fn container(c: &mut Cases, name: &'static str, reason: &'static str) {
    c.refused(21, "a header 10,000 deep", reason, |p| {
        p.bytes(|bytes| *bytes = file(&format!("{{\"x\":{}", "[".repeat(10_000)), &[]));
    });
    c.refused(22, "a name twice in the header", reason, move |p| {
        header(p, |text| {
            let tensors: Value = serde_json::from_str(text).unwrap();
            *text = format!("{{\"{name}\":{},{}", tensors[name], &text[1..]);
        });
    });
    c.refused(22, "1e999 in the header", reason, |p| {
        header(p, |text| *text = text.replacen("\"shape\":[", "\"shape\":[1e999,", 1));
    });
    c.refused(26, "header of 2^63 bytes", reason, |p| {
        p.bytes(|bytes| bytes[..8].copy_from_slice(&(1_u64 << 63).to_le_bytes()));
    });
    c.refused(26, "header of 2^64 - 1 bytes", reason, |p| {
        p.bytes(|bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()));
    });
    c.refused(26, "header longer than the file", reason, |p| {
        p.bytes(|bytes| {
            let length = bytes.len() as u64;
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        });
    });
    c.refused(26, "header of 2 MiB, of spaces", reason, |p| header(p, |text| *text += &" ".repeat(2 << 20)));
    c.refused(26, "header of 2 MiB, of arrays", reason, |p| {
        header(p, |text| {
            let entry = |index| format!("\"x{index}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}},");
            *text = format!("{{{}{}", (0..40_000).map(entry).collect::<String>(), &text[1..]);
        });
    });
    c.refused(26, "an empty file", reason, |p| p.bytes(Vec::clear));
    c.refused(27, "arrays that overlap", reason, |p| {
        p.tensors(|tensors| {
            let other =
                tensors.header.iter().find(|(_, entry)| entry["data_offsets"][0] == 0).map(|(key, _)| key.clone());
            tensors.header.insert("copy".to_owned(), tensors.header[&other.unwrap()].clone());
        });
    });
    c.refused(27, "a gap before the first array", reason, |p| {
        p.tensors(|tensors| {
            for entry in tensors.header.values_mut() {
                for end in entry["data_offsets"].as_array_mut().unwrap() {
                    *end = json!(end.as_u64().unwrap() + 8);
                }
            }
            tensors.data.splice(..0, [0; 8]);
        });
    });
    c.refused(27, "an end before the start", reason, move |p| {
        p.tensors(|tensors| tensors.header[name]["data_offsets"].as_array_mut().unwrap().reverse());
    });
    c.refused(28, "a shape's product overflows", reason, move |p| {
        p.tensors(|tensors| tensors.header[name]["shape"] = json!([1_u64 << 33, 1_u64 << 33]));
    });
    c.refused(28, "a shape of 2^63", reason, move |p| {
        p.tensors(|tensors| tensors.header[name]["shape"] = json!([i64::MAX, 2, 2]));
    });
    c.refused(14, "a shape larger than the file", reason, move |p| {
        p.tensors(|tensors| tensors.header[name]["shape"] = json!([1_000_000_000]));
    });
    c.refused(29, "bytes after the last array", reason, |p| p.bytes(|bytes| bytes.extend([0; 8])));
    c.refused(15, "an array missing", reason, move |p| p.tensors(|tensors| tensors.remove(name)));
    c.refused(15, "an array of another type", reason, move |p| {
        p.tensors(|tensors| {
            let content = tensors.array(name).to_vec();
            tensors.put(name, "U8", &[content.len() as u64], &content);
        });
    });
    c.refused(30, "a pickle instead of arrays", reason, |p| {
        p.bytes(|bytes| {
            *bytes = b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.".to_vec();
        });
    });
    c.refused(39, "cut at each 64th, hash right", "0 of 64 packages may serve", |p| truncations(p, &p.model_file()));
    c.either(40, "200 bits, hash right", "of 200 packages may serve", |p| flips(p, &p.model_file(), 200));
}

pub(crate) fn cases() -> Cases {
    let mut cases = Cases::new("forest");
    let c = &mut cases;
    set(c, 1, "child index = self", "left", 0, 0, "child of node 0: expected a node after 0");
    c.refused(2, "child < own id", "expected a node after", |p| {
        p.tensors(|tensors| {
            let node = inner_of_leaves(tensors);
            tensors.set("left", node, 0_i32.to_le_bytes());
        });
    });
    set(c, 3, "child >= n", "left", 0, 1_000, "child of node 0: expected a node after 0");
    set(c, 3, "child 2^31 - 1", "right", 0, i32::MAX, "child of node 0: expected a node after 0");
    set(c, 4, "negative child", "left", 0, -2, "child of node 0: expected a node after 0");
    set(c, 4, "one child only", "left", 0, -1, "child of node 0: expected a node after 0");
    c.refused(5, "two parents for a node", "a child without another parent", |p| {
        p.tensors(|tensors| {
            let node = inner_of_leaves(tensors);
            let left = tensors.i32("left", node);
            tensors.set("right", node, left.to_le_bytes());
        });
    });
    c.refused(6, "unreachable nodes", "expected a parent before it", |p| {
        p.tensors(|tensors| {
            let node = inner_of_leaves(tensors);
            for name in ["left", "right"] {
                tensors.set(name, node, (-1_i32).to_le_bytes());
            }
        });
    });
    c.refused(7, "depth 100,000", "depth: expected at most 512, got 513", |p| chain(p, 100_000));
    c.refused(7, "depth 513", "depth: expected at most 512, got 513", |p| chain(p, 513));
    c.accepted(7, "depth 512", |p| chain(p, 512));
    set(c, 8, "feature >= n", "feature", 0, 4, "feature of node 0: expected 0 to 3");
    set(c, 8, "feature -1", "feature", 0, -1, "feature of node 0: expected 0 to 3");
    c.refused(9, "threshold NaN", "expected a number, got nan", |p| {
        p.tensors(|tensors| {
            let nodes = tensors.header["left"]["shape"][0].as_u64().unwrap() as usize;
            for node in 0..nodes {
                tensors.set("threshold", node, f64::NAN.to_le_bytes());
                tensors.set("category", node, (-1_i32).to_le_bytes());
            }
        });
    });
    c.either(10, "thresholds Inf: other answers, or these", "", |p| {
        p.tensors(|tensors| tensors.set("threshold", 0, f64::INFINITY.to_le_bytes()));
    });
    for (what, value) in [("leaf NaN", f64::NAN), ("leaf Inf", f64::INFINITY)] {
        c.refused(11, what, "expected finite numbers", move |p| {
            p.tensors(|tensors| {
                let nodes = tensors.header["left"]["shape"][0].as_u64().unwrap() as usize;
                let leaf = (0..nodes).find(|&node| tensors.i32("left", node) < 0).unwrap();
                tensors.set("value", leaf, value.to_le_bytes());
            });
        });
    }
    for (what, last) in [("2^31 nodes", 1_i64 << 31), ("offsets past the nodes", 1_000), ("offset 2^63 - 1", i64::MAX)]
    {
        c.refused(12, what, "ascending numbers from 0 to", move |p| {
            p.tensors(|tensors| {
                let count = tensors.header["offsets"]["shape"][0].as_u64().unwrap() as usize;
                tensors.set("offsets", count - 1, last.to_le_bytes());
            });
        });
    }
    c.refused(12, "a tree of no nodes", "ascending numbers from 0 to", |p| {
        p.tensors(|tensors| tensors.set("offsets", 1, 0_i64.to_le_bytes()));
    });
    c.refused(13, "2^20 + 1 trees", "for 1 to 1048576 trees", |p| {
        p.tensors(|tensors| tensors.put("offsets", "I64", &[(1 << 20) + 2], &vec![0; 8 * ((1 << 20) + 2)]));
    });
    for name in ["right", "feature", "threshold", "missing_left", "category"] {
        c.refused(15, "an array one short", "shape: expected [", move |p| {
            p.tensors(|tensors| {
                let dtype = tensors.header[name]["dtype"].as_str().unwrap().to_owned();
                let nodes = tensors.header["left"]["shape"][0].as_u64().unwrap();
                let content = tensors.array(name);
                let content = content[content.len() / nodes as usize..].to_vec();
                tensors.put(name, &dtype, &[nodes - 1], &content);
            });
        });
    }
    set(c, 16, "a set past the sets", "category", 0, 1_000, "category of node 0: expected -1, or the number of one of");
    set(c, 16, "a set -2", "category", 0, -2, "category of node 0: expected -1, or the number of one of");
    c.refused(17, "output index >= outputs", "output: of tree 0: expected 0 to", |p| {
        p.tensors(|tensors| {
            let trees = tensors.header["offsets"]["shape"][0].as_u64().unwrap() - 1;
            tensors.put("output", "I32", &[trees], &1_i32.to_le_bytes().repeat(trees as usize));
        });
    });
    c.refused(18, "0 outputs", "start: length: expected 1 to", |p| p.node(|node| node["start"] = json!([])));
    c.refused(18, "2^20 outputs", "expected a list of at most 65536 elements", |p| {
        p.node(|node| node["start"] = json!(vec![0; 1 << 20]));
    });
    c.refused(19, "start NaN", "expected finite numbers", |p| p.node(|node| node["start"] = json!(["nan"])));
    c.refused(20, "link unknown", "unknown variant `magic`", |p| p.node(|node| node["link"] = json!("magic")));
    c.refused(20, "input unknown", "unknown variant `half`", |p| p.node(|node| node["input"] = json!("half")));
    container(c, "threshold", "arrays.safetensors");
    cases
}
