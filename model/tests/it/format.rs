//! Each file of the format, wrong in one place: refused, and said why.

use serde_json::{Value, json};

use crate::fixture::Package;

/// A change of a JSON file, and the reason that the refusal has to give.
type Case = (Box<dyn FnOnce(&mut Value)>, &'static str);

#[track_caller]
fn refused(package: &Package, reason: &str) {
    let error = package.load().unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn manifests_are_checked() {
    let package = Package::new("binary_categories");
    let good = package.read("manifest.json");
    let cases: [(&str, Value, &str); 20] = [
        ("format", json!("other"), "format: expected \"understudy-package\", got \"other\""),
        ("format_version", json!(2), "format_version: expected 1, got \"2\""),
        ("name", json!("../x"), "name: expected"),
        ("name", json!("x".repeat(129)), "name: expected"),
        ("version", json!("01"), "version: expected"),
        ("version", json!("0"), "version: expected"),
        ("version", json!("9223372036854775808"), "version: expected"),
        ("version", json!("+1"), "version: expected"),
        ("task", json!("ranking"), "unknown variant"),
        ("classes", json!(["class 0"]), "classes: expected two, got 1"),
        ("classes", json!(["class 1", "class 1"]), "classes: expected each once"),
        ("positive_class", json!("class 0"), "positive_class: expected \"class 1\" (classes[1]), got \"class 0\""),
        ("positive_class", Value::Null, "positive_class: expected \"class 1\""),
        ("decision_threshold", json!(1.5), "decision_threshold: expected a number in [0, 1]"),
        ("quantile_levels", json!([0.5]), "quantile_levels: expected none"),
        ("exported_at", json!("yesterday"), "exported_at: expected a time"),
        ("exported_at", json!("2026-11-22T10:00:00"), "exported_at: expected a time"),
        ("metrics", json!({"a": "x"}), "expected a number"),
        ("surprise", json!(1), "unknown field `surprise`"),
        ("files", json!([]), "files: expected schema.json among them"),
    ];
    for (key, value, reason) in cases {
        package.write("manifest.json", &good);
        package.edit("manifest.json", |manifest| manifest[key] = value);
        refused(&package, "manifest.json: ");
        refused(&package, reason);
    }
    package.write("manifest.json", &good);
    package.replace("manifest.json", "{\"format\":", "{\"name\":\"a\",\"format\":");
    refused(&package, "duplicate field `name`"); // M22
    package.write("manifest.json", &good);
    package.replace("manifest.json", "{\"lightgbm\":", "{\"lightgbm\":\"1\",\"lightgbm\":");
    refused(&package, "duplicate key \"lightgbm\"");
    package.write("manifest.json", [good.as_slice(), b"{}"].concat());
    refused(&package, "trailing characters");
    package.write("manifest.json", "[".repeat(10_000));
    refused(&package, "manifest.json: not as the package format has it"); // M21
}

#[test]
fn schemas_are_checked() {
    let package = Package::new("regression");
    let good = package.read("schema.json");
    let feature = |key: &'static str, value: Value| move |schema: &mut Value| schema["features"][0][key] = value;
    let cases: [Case; 17] = [
        (Box::new(feature("name", json!("c1"))), "features: expected each name once"),
        (Box::new(feature("name", json!(""))), "1 to 256 bytes"),
        (Box::new(feature("kind", json!("date"))), "unknown variant `date`"),
        (Box::new(feature("categories", json!([1]))), "feature \"c0\", categories"),
        (Box::new(feature("bounds", json!([2, 1]))), "feature \"c0\", bounds"),
        (Box::new(feature("fill", json!("x"))), "feature \"c0\", fill"),
        (Box::new(feature("surprise", json!(1))), "unknown field `surprise`"),
        (Box::new(|schema| schema["features"][4]["categories"] = json!([1, 1.0])), "code 1 again"),
        (Box::new(|schema| schema["features"][4]["fill"] = json!(99)), "feature \"c4\", fill"),
        (Box::new(|schema| schema["features"][4]["bounds"] = json!([1, 2])), "feature \"c4\", bounds"),
        (Box::new(|schema| schema["features"] = json!([])), "features: expected at least one"),
        (Box::new(|schema| schema["limits"] = json!({"max_rows": 0})), "limits.max_rows"),
        (Box::new(|schema| schema["policy"] = json!("lenient")), "unknown variant `lenient`"),
        (Box::new(|schema| schema["suspicious"] = json!("wonder")), "unknown variant `wonder`"),
        (Box::new(|schema| schema["suspicious_z_score"] = json!(0)), "suspicious_z_score: expected a number greater"),
        (Box::new(|schema| schema["reject_non_finite"] = json!("yes")), "expected a boolean"),
        (
            Box::new(|schema| {
                schema["features"][0]["required"] = json!(true);
                schema["features"][0]["fill"] = json!(1);
            }),
            "nothing where a value is required",
        ),
    ];
    for (change, reason) in cases {
        package.write("schema.json", &good);
        package.edit("schema.json", change);
        refused(&package, "schema.json: ");
        refused(&package, reason);
    }
    package.write("schema.json", &good);
    package.replace("schema.json", "\"kind\":\"float\"", "\"kind\":\"float\",\"bounds\":[0,1e999]");
    refused(&package, "number out of range"); // M22
}

#[test]
fn graphs_are_checked() {
    let package = Package::new("regression");
    let good = package.read("graph.json");
    let node = |key: &'static str, value: Value| move |graph: &mut Value| graph["nodes"][0][key] = value;
    let cases: [Case; 10] = [
        (Box::new(node("type", json!("onnx"))), "unknown variant `onnx`"), // M25
        (Box::new(node("name", json!("a/b"))), "a node's name"),
        (Box::new(node("model", json!("schema.json"))), "a path inside nodes/trees/"),
        (Box::new(node("model", json!("nodes/trees/other.txt"))), "nodes/trees/other.txt: missing"),
        (Box::new(node("features", json!(["c0"]))), "expected 1 columns (features of the node), got 7 columns"),
        (Box::new(node("features", json!(["nobody"]))), "a feature of schema.json"),
        (Box::new(node("surprise", json!(1))), "unknown field `surprise`"),
        (Box::new(|graph| graph["output"] = json!("nobody")), "output: expected the name of a node"),
        (Box::new(|graph| graph["nodes"] = json!([])), "output: expected the name of a node"),
        (
            Box::new(|graph| {
                let node = graph["nodes"][0].clone();
                graph["nodes"].as_array_mut().unwrap().push(node);
            }),
            "each name once",
        ),
    ];
    for (change, reason) in cases {
        package.write("graph.json", &good);
        package.edit("graph.json", change);
        refused(&package, reason);
    }
    let package = Package::new("multiclass");
    package.edit("manifest.json", |manifest| manifest["classes"] = json!([1, 2]));
    refused(&package, "graph.json: output trees: expected 2 numbers for task multiclass, got 3");
    let package = Package::new("binary_categories");
    package.replace("nodes/trees/model.txt", "objective=binary sigmoid:1", "objective=regression");
    refused(&package, "one that gives probabilities for task binary");
}

#[test]
fn profiles_and_golden_rows_are_checked() {
    let package = Package::new("binary_categories");
    let good = package.read("reference.json");
    let cases: [Case; 6] = [
        (Box::new(|profile| profile["rows"] = json!(0)), "rows: expected at least 1"),
        (Box::new(|profile| profile["features"]["nobody"] = profile["features"]["c0"].clone()), "features: expected"),
        (Box::new(|profile| profile["features"]["c4"]["counts"] = json!([1])), "counts: expected 12, got 1"),
        (Box::new(|profile| profile["features"]["c0"]["counts"] = json!([1])), "expected missing_share, mean"),
        (Box::new(|profile| profile["features"]["c0"]["missing_share"] = json!(1.5)), "a share in [0, 1]"),
        (Box::new(|profile| profile["score"]["quantiles"]["levels"] = json!([0, 1])), "as many values as levels"),
    ];
    for (change, reason) in cases {
        package.write("reference.json", &good);
        package.edit("reference.json", change);
        refused(&package, "reference.json: ");
        refused(&package, reason);
    }
    package.write("reference.json", &good);
    let golden = String::from_utf8(package.read("golden.jsonl")).unwrap();
    let few: Vec<&str> = golden.lines().take(49).collect();
    for (text, reason) in [
        (few.join("\n"), "golden.jsonl: rows: expected at least 50, got 49"),
        (golden.replacen("\"c0\":", "\"nobody\":", 1), "row 1, row: expected features of schema.json"),
        (golden.replacen("\"trees\":", "\"nobody\":", 1), "row 1, nodes: expected nodes of graph.json"),
        (golden.replacen("\"trees\":[", "\"trees\":[1,", 1), "row 1, node trees: expected 1 numbers, got 2"),
        (golden.replacen("\"nodes\":{", "\"nodes\":{\"trees\":[1],", 1), "duplicate key \"trees\""),
        (golden.replacen("\"label\":\"class ", "\"label\":\"kind ", 1), "row 1, label: expected one of the classes"),
        (golden.replacen("\"c0\":", "\"c0\":\"x\",\"c00\":", 1), "expected a number, got text \"x\""),
        (format!("\n{golden}"), "golden.jsonl: row 1"),
    ] {
        package.write("golden.jsonl", text);
        package.list();
        refused(&package, reason);
    }
}

/// What a few bytes of JSON could become in memory, or on the processor, is bounded.
#[test]
fn lists_are_bounded() {
    let package = Package::new("regression");
    let good = package.read("graph.json");
    let long = "invalid length 65537, expected a list of at most 65536 elements";
    let node = |key: &'static str, value: Value| move |graph: &mut Value| graph["nodes"][0][key] = value;
    let bag = |inputs: usize| json!({"name": "bag", "type": "bag", "inputs": vec!["trees"; inputs]});
    let cases: [Case; 5] = [
        (Box::new(node("features", json!(vec!["c0"; 65_537]))), long),
        (Box::new(node("output_ops", json!(vec!["float"; 65_537]))), long),
        (
            Box::new(node("columns", json!(vec![json!({"name": "x", "from": "c0", "ops": vec!["float"; 65_537]})]))),
            long,
        ),
        (Box::new(|graph| graph["columns"] = json!(vec![json!({"name": "x", "from": "c0"}); 65_537])), long),
        (Box::new(move |graph| graph["nodes"].as_array_mut().unwrap().push(bag(65_537))), long),
    ];
    for (change, reason) in cases {
        package.write("graph.json", &good);
        package.edit("graph.json", change);
        refused(&package, reason);
    }
    package.write("graph.json", &good);
    package.edit("graph.json", |graph| {
        let nodes = graph["nodes"].as_array_mut().unwrap();
        nodes.push(json!({"name": "a", "type": "concat", "inputs": vec!["trees"; 300]}));
        nodes.push(json!({"name": "b", "type": "concat", "inputs": vec!["a"; 300]}));
    });
    refused(&package, "node b, inputs: expected nodes of at most 65536 numbers together, got 90000");
}

/// Values that a row does not name take room, too.
#[test]
fn golden_values_are_bounded() {
    let package = Package::new("regression");
    let feature = |index: usize| json!({"name": format!("x{index}"), "kind": "bool"});
    package.edit("schema.json", |schema| schema["features"].as_array_mut().unwrap().extend((0..12_000).map(feature)));
    package.edit("reference.json", |reference| {
        for index in 0..12_000 {
            reference["features"][format!("x{index}")] = json!({"missing_share": 1, "counts": [0, 0]});
        }
    });
    let load = |rows: usize| {
        package.write("golden.jsonl", vec!["{\"row\":{},\"nodes\":{\"trees\":[0]}}"; rows].join("\n"));
        package.list();
        package.load().map(drop)
    };
    assert_eq!(load(80), Ok(()));
    let error = load(100).unwrap_err();
    assert!(error.contains("golden.jsonl: values: expected at most 1051") && error.contains("2^20"), "{error}");
}
