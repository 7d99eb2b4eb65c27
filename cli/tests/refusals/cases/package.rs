//! The package itself: manifest, files, schema, graph, profile and golden rows. The good package is LightGBM's.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::Cases;
use crate::package::{Package, copy, files};

const PICKLE: &[u8] = b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.";
/// The first file of a zip, as far as anyone needs to know it is one.
const ZIP: &[u8] = b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x00\x00!\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00data.pkl";
const NPY: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";

const NOWHERE: &str = "neither a package, nor a model, nor a repository";
const NO_DIRECTORY: &str = "can't be read: Not a directory";
/// Of what is longer than the format has it, the rest is not read.
const LONG: &str = "expected a list of at most 65536 elements";

/// A repository of copies, each with one change, at `beside("all")`.
fn repository(package: &mut Package, count: usize, change: impl Fn(&Path, usize)) {
    let root = package.beside("all");
    for index in 0..count {
        let at = root.join(format!("changed-{index}"));
        copy(&package.path(), &at);
        change(&at, index);
    }
    package.target = Some(root);
}

/// A repository whose packages hold one file in other bytes, with hashes that fit.
pub(crate) fn spoiled_files(package: &mut Package, file: &str, count: usize, change: impl Fn(&mut Vec<u8>, usize)) {
    let good = package.read(file);
    let root = package.beside("all");
    for index in 0..count {
        let mut bytes = good.clone();
        change(&mut bytes, index);
        package.put(file, &bytes);
        copy(&package.path(), &root.join(format!("changed-{index}")));
    }
    package.put(file, good);
    package.target = Some(root);
}

/// Cuts a file, which is hashed after that, at each 64th of its length.
pub(crate) fn truncations(package: &mut Package, file: &str) {
    spoiled_files(package, file, 64, |bytes, part| bytes.truncate(bytes.len() * part / 64));
}

/// Flips one bit in a file, which is hashed after that, at places all over it.
pub(crate) fn flips(package: &mut Package, file: &str, count: usize) {
    spoiled_files(package, file, count, |bytes, index| {
        let bit = (index * bytes.len() / count) * 8 + index % 8;
        bytes[bit / 8] ^= 1 << (bit % 8);
    });
}

fn archive(package: &mut Package, name: &str, script: &str) {
    let script = format!("import io, os, sys, tarfile, zipfile\nos.chdir(sys.argv[1])\nname = sys.argv[2]\n{script}");
    let beside = package.beside("");
    let made = Command::new("python3").args(["-c", &script]).arg(beside).arg(name).status();
    // Where there is no Python, an archive's first bytes have to do.
    if !made.is_ok_and(|status| status.success()) {
        fs::write(package.beside(name), ZIP).unwrap();
    }
    package.target = Some(package.beside(name));
}

fn path_case(cases: &mut Cases, what: &'static str, path: &'static str) {
    cases.refused(34, what, "files: path: expected", move |p| {
        p.edit("manifest.json", |manifest| {
            let entry = json!({"path": path, "size": 1, "sha256": "0".repeat(64)});
            manifest["files"].as_array_mut().unwrap().push(entry);
        });
    });
}

/// A chain of features, of which each golden row gives few.
fn wide(package: &Package, features: usize, rows: usize) {
    package.edit("schema.json", |schema| {
        let list = schema["features"].as_array_mut().unwrap();
        list.extend((0..features).map(|index| json!({"name": format!("x{index}"), "kind": "float"})));
    });
    package.edit("reference.json", |reference| {
        let profile = reference["features"]["a"].clone();
        for index in 0..features {
            reference["features"][format!("x{index}")] = profile.clone();
        }
    });
    repeat_golden(package, rows);
}

/// The golden rows again and again, up to a number of them.
fn repeat_golden(package: &Package, rows: usize) {
    let golden = String::from_utf8(package.read("golden.jsonl")).unwrap();
    let lines: Vec<&str> = golden.lines().cycle().take(rows).collect();
    package.put("golden.jsonl", lines.join("\n"));
}

/// Nodes beside the good one, all of which the golden rows hold.
fn with_nodes(package: &Package, nodes: usize, node: impl Fn(usize) -> Value) {
    package.edit("graph.json", |graph| graph["nodes"].as_array_mut().unwrap().extend((0..nodes).map(&node)));
    let golden = String::from_utf8(package.read("golden.jsonl")).unwrap();
    let lines: Vec<String> = golden
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let output = line["nodes"]["node"].clone();
            // The mean in single precision, which is that of one number.
            let single = json!([f64::from(output[0].as_f64().unwrap() as f32)]);
            for index in 0..nodes {
                line["nodes"][format!("n{index}")] = single.clone();
            }
            line.to_string()
        })
        .collect();
    package.put("golden.jsonl", lines.join("\n"));
}

fn json_cases(c: &mut Cases) {
    c.refused(21, "10,000 deep: manifest.json", "manifest.json: not as the package format has it", |p| {
        p.write("manifest.json", "[".repeat(10_000));
    });
    for file in ["schema.json", "graph.json", "reference.json", "golden.jsonl"] {
        c.refused(21, "10,000 deep", "not as the package format has it", move |p| {
            let deep = "[".repeat(10_000) + &"]".repeat(10_000);
            match file {
                "golden.jsonl" => p.put(
                    file,
                    format!("{{\"row\":{deep},\"nodes\":{{}}}}").replace("\"row\":", "\"row\":{\"a\":") + "}",
                ),
                "schema.json" => p.put(
                    file,
                    format!("{{\"features\":[{{\"name\":\"a\",\"kind\":\"category\",\"categories\":{deep}}}]}}"),
                ),
                "graph.json" => p.put(file, format!("{{\"nodes\":{deep},\"output\":\"node\"}}")),
                _ => p.put(file, format!("{{\"rows\":1,\"features\":{{\"a\":{deep}}}}}")),
            }
        });
    }
    c.refused(22, "1e999 in schema.json", "number out of range", |p| {
        p.replace("schema.json", "\"kind\": \"float\"", "\"kind\": \"float\", \"bounds\": [0, 1e999]");
    });
    c.refused(22, "1e999 in golden.jsonl", "number out of range", |p| {
        p.replace("golden.jsonl", "\"node\":[", "\"node\":[1e999,");
    });
    c.refused(22, "a key twice: manifest.json", "duplicate field `name`", |p| {
        p.replace("manifest.json", "\"name\":", "\"name\": \"x\", \"name\":");
    });
    c.refused(22, "a key twice: schema.json", "duplicate field `kind`", |p| {
        p.replace("schema.json", "\"kind\":", "\"kind\": \"int\", \"kind\":");
    });
    c.refused(22, "a key twice: graph.json", "duplicate field `output`", |p| {
        p.replace("graph.json", "\"output\":", "\"output\": \"x\", \"output\":");
    });
    c.refused(22, "a key twice: a node", "duplicate field `model`", |p| {
        p.replace("graph.json", "\"model\":", "\"model\": \"x\", \"model\":");
    });
    c.refused(22, "a key twice: reference.json", "duplicate key", |p| {
        p.replace("reference.json", "\"a\":", "\"b\": {\"missing_share\": 0}, \"a\":");
    });
    c.refused(22, "a key twice: golden.jsonl", "duplicate key", |p| {
        p.replace("golden.jsonl", "\"a\":", "\"a\":1,\"a\":");
    });
    for file in ["manifest.json", "schema.json", "graph.json", "reference.json", "golden.jsonl"] {
        c.refused(22, "bytes after the end", "trailing characters", move |p| {
            let mut bytes = p.read(file);
            while bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            bytes.extend(b" {}");
            if file == "manifest.json" { p.write(file, bytes) } else { p.put(file, bytes) }
        });
    }
}

fn file_cases(c: &mut Cases) {
    c.refused(30, "a pickle beside the model", "nodes/node/extra.pkl: not listed in manifest.json", |p| {
        p.write("nodes/node/extra.pkl", PICKLE);
    });
    for (what, content) in [("a pickle", PICKLE), ("a zip with data.pkl", ZIP), ("an .npy of objects", NPY)] {
        c.refused(30, what, "not a usable LightGBM model", move |p| p.put("nodes/node/model.txt", content));
        c.refused(30, what, "graph.json: not as the package format has it", move |p| p.put("graph.json", content));
        c.refused(30, what, NO_DIRECTORY, move |p| {
            fs::write(p.beside("model.pkl"), content).unwrap();
            p.target = Some(p.beside("model.pkl"));
        });
    }
    c.refused(31, "hash of other bytes", "requirements.txt: sha256: expected ", |p| {
        let mut bytes = p.read("requirements.txt");
        bytes[0] ^= 1;
        p.write("requirements.txt", bytes);
    });
    for file in
        ["schema.json", "graph.json", "reference.json", "golden.jsonl", "requirements.txt", "nodes/node/model.txt"]
    {
        c.refused(32, "a file missing", ": missing", move |p| fs::remove_file(p.file(file)).unwrap());
    }
    c.refused(32, "no manifest.json", NOWHERE, |p| fs::remove_file(p.file("manifest.json")).unwrap());
    c.refused(32, "the node's file not listed", "nodes/node/other.txt: missing", |p| {
        p.node(|node| node["model"] = json!("nodes/node/other.txt"));
    });
    c.refused(33, "a file more", "notes.txt: not listed in manifest.json", |p| p.write("notes.txt", "x"));
    c.refused(33, "a twin of another case", "Schema.json: not listed in manifest.json", |p| {
        p.write("Schema.json", "{}");
    });
    c.refused(33, "10,001 files", "at most 10000 entries", |p| {
        for index in 0..10_001 {
            fs::write(p.file(&format!("x{index}")), "").unwrap();
        }
    });
    c.refused(33, "20 directories deep", "at most 16 deep", |p| p.write(&("d/".repeat(20) + "x"), "x"));
    path_case(c, "../x", "../x");
    path_case(c, "/x", "/etc/passwd");
    path_case(c, "a\\..\\b", "a\\..\\b");
    path_case(c, "C:x", "C:x");
    path_case(c, "NUL", "a\0b");
    path_case(c, "a composed letter", "caf\u{e9}");
    path_case(c, "its decomposed twin", "cafe\u{301}");
    path_case(c, "a/../../b", "a/../../b");
    c.refused(34, "a twin of another case, listed", "a path that no other path equals, whatever the case", |p| {
        p.edit("manifest.json", |manifest| {
            let entry = json!({"path": "SCHEMA.JSON", "size": 1, "sha256": "0".repeat(64)});
            manifest["files"].as_array_mut().unwrap().push(entry);
        });
    });
    c.refused(34, "the node's file outside of its directory", "nodes/node/../../schema.json: missing", |p| {
        p.node(|node| node["model"] = json!("nodes/node/../../schema.json"));
    });
    c.refused(35, "a symbolic link", "golden.jsonl: expected a regular file, got a symbolic link", |p| {
        fs::rename(p.file("golden.jsonl"), p.beside("golden")).unwrap();
        symlink(p.beside("golden"), p.file("golden.jsonl")).unwrap();
    });
    c.refused(35, "a symbolic link: a directory", "nodes: expected a regular file, got a symbolic link", |p| {
        fs::rename(p.file("nodes"), p.beside("nodes")).unwrap();
        symlink(p.beside("nodes"), p.file("nodes")).unwrap();
    });
    c.refused(
        35,
        "a symbolic link: manifest.json",
        "manifest.json: expected a regular file, got a symbolic link",
        |p| {
            fs::rename(p.file("manifest.json"), p.beside("manifest")).unwrap();
            symlink(p.beside("manifest"), p.file("manifest.json")).unwrap();
        },
    );
    c.accepted(35, "a hard link: a regular file of those bytes", |p| {
        fs::hard_link(p.file("golden.jsonl"), p.beside("golden")).unwrap();
    });
    for file in ["golden.jsonl", "manifest.json"] {
        c.refused(35, "a fifo", "expected a regular file, got a pipe, socket or device", move |p| {
            fs::remove_file(p.file(file)).unwrap();
            assert!(Command::new("mkfifo").arg(p.file(file)).status().unwrap().success());
        });
    }
    c.refused(35, "a device", "expected a regular file, got a symbolic link", |p| {
        fs::remove_file(p.file("golden.jsonl")).unwrap();
        // Making a device takes root; a link to one does not.
        symlink("/dev/zero", p.file("golden.jsonl")).unwrap();
    });
    c.refused(35, "a sparse file of 1 TiB", "golden.jsonl: expected at most 67108864 bytes, got 1099511627776", |p| {
        fs::File::options().write(true).open(p.file("golden.jsonl")).unwrap().set_len(1 << 40).unwrap();
        p.size = Some(0);
    });
    c.refused(35, "a sparse file of 1 TiB: the model", "all files: expected at most 2147483648 bytes", |p| {
        fs::File::options().write(true).open(p.file("nodes/node/model.txt")).unwrap().set_len(1 << 40).unwrap();
        p.edit("manifest.json", |manifest| {
            for file in manifest["files"].as_array_mut().unwrap() {
                if file["path"] == "nodes/node/model.txt" {
                    file["size"] = json!(1_u64 << 40);
                }
            }
        });
        p.size = Some(0);
    });
    c.refused(35, "manifest.json of 1 TiB", "manifest.json: expected at most 8388608 bytes", |p| {
        fs::File::options().write(true).open(p.file("manifest.json")).unwrap().set_len(1 << 40).unwrap();
        p.size = Some(0);
    });
    let zip = "with zipfile.ZipFile(name, 'w') as z:\n    ";
    c.refused(36, "a zip with ../", NO_DIRECTORY, move |p| {
        archive(p, "x.zip", &format!("{zip}z.writestr('../x', 'x')"));
    });
    c.refused(36, "a zip with /x and a name twice", NO_DIRECTORY, move |p| {
        archive(p, "x.zip", &format!("{zip}z.writestr('/x', 'x'); z.writestr('/x', 'y')"));
    });
    c.refused(36, "a zip of 1 GiB of zeros", NO_DIRECTORY, move |p| {
        archive(p, "x.zip", "with zipfile.ZipFile(name, 'w', 8) as z, z.open('manifest.json', 'w') as f:\n    for i in range(64): f.write(bytes(1 << 20))");
    });
    c.refused(36, "a zip in place of the model", "expected UTF-8", |p| {
        p.put("nodes/node/model.txt", [ZIP, b"\xff\xff"].concat());
    });
    c.refused(37, "a tar: link, then a file through it", NO_DIRECTORY, |p| {
        archive(p, "x.tar", "t = tarfile.open(name, 'w')\ni = tarfile.TarInfo('d'); i.type = tarfile.SYMTYPE; i.linkname = '/tmp'; t.addfile(i)\ni = tarfile.TarInfo('d/x'); i.size = 1; t.addfile(i, io.BytesIO(b'x')); t.close()");
    });
    c.refused(37, "a tar of 100,000 empty files", NO_DIRECTORY, |p| {
        archive(
            p,
            "x.tar",
            "t = tarfile.open(name, 'w')\nfor i in range(100000): t.addfile(tarfile.TarInfo(f'x{i}'))\nt.close()",
        );
    });
    c.either(38, "the model changed while it is read", "", |p| {
        let (file, good) = (p.file("nodes/node/model.txt"), p.read("nodes/node/model.txt"));
        let mut bad = good.clone();
        let at = bad.windows(11).position(|window| window == b"leaf_value=").unwrap() + 13;
        bad[at] = if bad[at] == b'1' { b'2' } else { b'1' };
        // It goes on for as long as a check takes; each write is of the whole file at once.
        thread::spawn(move || {
            let started = Instant::now();
            for content in [&bad, &good].into_iter().cycle() {
                let Ok(mut open) = fs::File::options().write(true).open(&file) else { break };
                if started.elapsed() > Duration::from_secs(5) || std::io::Write::write_all(&mut open, content).is_err()
                {
                    break;
                }
            }
        });
    });
}

fn sweep_cases(c: &mut Cases) {
    for file in ["schema.json", "graph.json", "reference.json", "golden.jsonl"] {
        c.refused(39, "cut at each 64th, hash right", "0 of 64 packages may serve", move |p| truncations(p, file));
    }
    // What comes after the trees is for people: LightGBM itself does not read it to predict.
    c.refused(39, "cut at each 64th of the trees", "0 of 64 packages may serve", |p| {
        let text = String::from_utf8(p.read("nodes/node/model.txt")).unwrap();
        let end = text.find("end of trees").unwrap();
        spoiled_files(p, "nodes/node/model.txt", 64, |bytes, part| bytes.truncate(end * part / 64));
    });
    c.refused(39, "cut at each 64th, hash as it was", "0 of 64 packages may serve", |p| {
        repository(p, 64, |at, part| {
            let path = at.join("nodes/node/model.txt");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() * part / 64]).unwrap();
        });
    });
    c.refused(39, "manifest.json cut at each 64th", "0 of 64 packages may serve", |p| {
        repository(p, 64, |at, part| {
            let path = at.join("manifest.json");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() * part / 64]).unwrap();
        });
    });
    c.refused(40, "1,000 bits, hash as it was", "0 of 1000 packages may serve", |p| {
        repository(p, 1_000, |at, index| {
            let mut all = files(at);
            all.retain(|file| file != "manifest.json");
            let path = at.join(&all[index % all.len()]);
            let mut bytes = fs::read(&path).unwrap();
            let bit = index * 7919 % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, bytes).unwrap();
        });
    });
    for file in ["schema.json", "graph.json", "reference.json", "golden.jsonl", "nodes/node/model.txt"] {
        c.either(40, "200 bits, hash right", "of 200 packages may serve", move |p| flips(p, file, 200));
    }
}

fn large_cases(c: &mut Cases) {
    c.refused(13, "10^6 columns", LONG, |p| {
        p.node(|node| {
            let column = |index| json!({"name": format!("x{index}"), "from": "a"});
            node["columns"] = Value::Array((0..200_000).map(column).collect());
        });
    });
    c.accepted(13, "60,000 columns and 2,000 golden rows", |p| {
        p.node(|node| {
            let column = |index| json!({"name": format!("x{index}"), "from": "a"});
            node["columns"] = Value::Array((0..60_000).map(column).collect());
        });
        repeat_golden(p, 2_000);
    });
    c.refused(13, "10,000 features in 1,600 short golden rows", "golden.jsonl: values", |p| wide(p, 10_000, 1_600));
    c.accepted(13, "10,000 nodes", |p| {
        with_nodes(p, 10_000, |index| json!({"name": format!("n{index}"), "type": "bag", "inputs": ["node"]}));
    });
    c.refused(18, "a node of 1,000^8 numbers", "numbers", |p| {
        p.edit("graph.json", |graph| {
            let nodes = graph["nodes"].as_array_mut().unwrap();
            for index in 0..8 {
                let input = if index == 0 { "node".to_owned() } else { format!("n{}", index - 1) };
                nodes.push(json!({"name": format!("n{index}"), "type": "concat", "inputs": vec![input; 1_000]}));
            }
        });
    });
    c.refused(13, "a million names", LONG, |p| p.node(|node| node["features"] = json!(vec!["a"; 1_000_000])));
    c.refused(13, "a million inputs", LONG, |p| {
        p.edit("graph.json", |graph| {
            graph["nodes"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "bag", "type": "bag", "inputs": vec!["node"; 1_000_000]}));
        });
        p.replace("golden.jsonl", "\"node\":", "\"nobody\":[1],\"node\":");
    });
    c.refused(13, "a million operations", LONG, |p| {
        p.node(|node| node["output_ops"] = json!(vec!["float"; 900_000]));
    });
    c.accepted(13, "200,000 categories", |p| {
        p.edit("schema.json", |schema| schema["features"][3]["categories"] = json!((0..200_000).collect::<Vec<_>>()));
        p.edit("reference.json", |reference| reference["features"]["d"]["counts"] = json!(vec![1; 200_000]));
    });
    c.accepted(13, "a manifest of 50,000 metrics", |p| {
        p.edit("manifest.json", |manifest| {
            manifest["metrics"] =
                (0..50_000).map(|index| (format!("m{index}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
        });
    });
    c.refused(18, "2^20 classes", LONG, |p| {
        p.edit("manifest.json", |manifest| {
            manifest["task"] = json!("multiclass");
            manifest["classes"] = json!((0..1 << 20).collect::<Vec<_>>());
            manifest.as_object_mut().unwrap().remove("positive_class");
        });
    });
    c.refused(18, "0 classes", "classes: expected two", |p| {
        p.edit("manifest.json", |manifest| manifest["classes"] = json!([]));
    });
}

pub(crate) fn cases() -> Cases {
    let mut cases = Cases::new("lightgbm");
    let c = &mut cases;
    json_cases(c);
    for kind in ["onnx", "pickle", "python", "tensorflow"] {
        c.refused(25, "a node that would need another library", "unknown variant", move |p| {
            p.node(|node| node["type"] = json!(kind));
        });
    }
    c.refused(24, "a node that names data outside", "unknown field `external_data`", |p| {
        p.node(|node| node["external_data"] = json!("../../etc/passwd"));
    });
    for path in ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "s3://bucket/x"] {
        c.refused(24, "a model outside of the package", "expected a path inside nodes/node/", move |p| {
            p.node(|node| node["model"] = json!(path));
        });
    }
    file_cases(c);
    sweep_cases(c);
    large_cases(c);
    c.refused(42, "a directory of another version", "the directories say otherwise", |p| {
        let at = p.beside("models/tiny/7");
        copy(&p.path(), &at);
        p.target = Some(p.beside("models"));
    });
    for source in ["file:///etc", "s3://other-host/models", "..%252f..%252fetc", "http://169.254.169.254/latest"] {
        c.refused(43, "a source that is no directory", "can't be read", move |p| p.target = Some(source.into()));
    }
    cases
}
