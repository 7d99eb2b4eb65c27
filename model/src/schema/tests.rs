//! The encoding rules, as a table.

use super::*;

const SCHEMA: &str = r#"{
    "features": [
        {"name": "age", "kind": "int", "bounds": [0, 100]},
        {"name": "rate", "kind": "float", "bounds": [null, 1.5]},
        {"name": "free", "kind": "float"},
        {"name": "count", "kind": "int"},
        {"name": "flag", "kind": "bool"},
        {"name": "job", "kind": "text", "categories": ["clerk", "sailor", "größe"]},
        {"name": "code", "kind": "category", "categories": [1, 2.5, "1", true]},
        {"name": "must", "kind": "float", "required": true},
        {"name": "filled", "kind": "category", "categories": ["a", "b"], "fill": "b"},
        {"name": "yes", "kind": "bool", "fill": true}
    ],
    "limits": {"max_text_bytes": 6}
}"#;

fn schema() -> Schema {
    Schema::parse(SCHEMA.as_bytes()).unwrap()
}

/// What came out, in short: the number, with the repair's kind; or `refused`.
fn outcome(feature: &str, value: Value<'_>, policy: Policy) -> String {
    let schema = schema();
    let feature = &schema.features()[schema.index_of(feature).unwrap()];
    short(feature.encode(value, policy, schema.limits()))
}

fn short(encoded: Result<(f64, Option<Repair>), Refusal>) -> String {
    match encoded {
        Ok((number, None)) => format!("{number:?}"),
        Ok((number, Some(repair))) => format!("{number:?} {}", repair.kind.as_str()),
        Err(_) => "refused".to_owned(),
    }
}

#[test]
fn table() {
    use Value::{Bool, Float, Int, Null, Text};
    let unseen = "-1.0 unknown_category";
    for (feature, value, strict, sanitize, autogluon) in [
        ("age", Int(7), "7.0", "7.0", "7.0"),
        ("age", Float(7.0), "7.0", "7.0", "7.0"),
        ("age", Float(7.5), "refused", "7.0 coerced", "7.5"),
        ("age", Float(-0.5), "refused", "0.0 coerced", "-0.5"),
        ("age", Int(101), "refused", "100.0 clamped", "101.0"),
        ("age", Float(100.5), "refused", "100.0 coerced", "100.5"),
        ("age", Float(101.5), "refused", "100.0 clamped", "101.5"),
        ("age", Int(-1), "refused", "0.0 clamped", "-1.0"),
        ("age", Float(f64::INFINITY), "refused", "100.0 clamped", "inf"),
        ("age", Float(f64::NAN), "NaN", "NaN", "NaN"),
        ("age", Null, "NaN", "NaN", "NaN"),
        ("age", Text("7"), "refused", "refused", "refused"),
        ("age", Bool(true), "refused", "refused", "1.0"),
        ("count", Float(f64::NEG_INFINITY), "refused", "-inf", "-inf"),
        ("count", Int(i64::MAX), "9.223372036854776e18", "9.223372036854776e18", "9.223372036854776e18"),
        ("rate", Int(1), "1.0", "1.0", "1.0"),
        ("rate", Float(1.5), "1.5", "1.5", "1.5"),
        ("rate", Float(1.6), "refused", "1.5 clamped", "1.6"),
        ("rate", Float(f64::INFINITY), "refused", "1.5 clamped", "inf"),
        ("rate", Float(f64::NEG_INFINITY), "-inf", "-inf", "-inf"),
        ("rate", Float(-0.0), "-0.0", "-0.0", "-0.0"),
        ("free", Float(f64::INFINITY), "inf", "inf", "inf"),
        ("free", Bool(false), "refused", "refused", "0.0"),
        ("flag", Bool(true), "1.0", "1.0", "1.0"),
        ("flag", Int(0), "0.0", "0.0", "0.0"),
        ("flag", Float(1.0), "1.0", "1.0", "1.0"),
        ("flag", Int(2), "refused", "refused", "2.0"),
        ("flag", Float(0.5), "refused", "refused", "0.5"),
        ("flag", Text("true"), "refused", "refused", "refused"),
        ("flag", Null, "NaN", "NaN", "NaN"),
        ("job", Text("sailor"), "1.0", "1.0", "1.0"),
        ("job", Text("pirate"), "refused", unseen, "-1.0"),
        ("job", Text("clerk!!"), "refused", unseen, "-1.0"),
        ("job", Text("sailors"), "refused", "1.0 truncated", "-1.0"),
        // The sixth byte is the second one of "ß": the cut falls before it, and "grö" is no category.
        ("job", Text("größe"), "refused", unseen, "2.0"),
        ("job", Int(1), "refused", "refused", "-1.0"),
        ("job", Bool(true), "refused", "refused", "-1.0"),
        ("job", Float(f64::NAN), "NaN", "NaN", "NaN"),
        ("code", Int(1), "0.0", "0.0", "0.0"),
        ("code", Float(1.0), "0.0", "0.0", "0.0"),
        ("code", Float(2.5), "1.0", "1.0", "1.0"),
        ("code", Text("1"), "2.0", "2.0", "2.0"),
        ("code", Bool(true), "3.0", "3.0", "3.0"),
        ("code", Bool(false), "refused", unseen, "-1.0"),
        ("code", Int(2), "refused", unseen, "-1.0"),
        ("code", Float(f64::INFINITY), "refused", unseen, "-1.0"),
        ("code", Text("2.5"), "refused", unseen, "-1.0"),
        ("must", Null, "refused", "refused", "refused"),
        ("must", Float(f64::NAN), "refused", "refused", "refused"),
        ("filled", Null, "1.0", "1.0", "1.0"),
        ("yes", Null, "1.0", "1.0", "1.0"),
    ] {
        let got = [Policy::Strict, Policy::Sanitize, Policy::Autogluon].map(|policy| outcome(feature, value, policy));
        assert_eq!(got, [strict, sanitize, autogluon], "{feature} {value}");
    }
}

#[test]
fn codes() {
    let schema = schema();
    let encode = |feature: &str, code, policy| {
        short(schema.features()[schema.index_of(feature).unwrap()].encode_code(code, policy))
    };
    let unseen = "-1.0 unknown_category";
    for (feature, code, strict, sanitize, autogluon) in [
        ("job", 0.0, "0.0", "0.0", "0.0"),
        ("job", -0.0, "0.0", "0.0", "0.0"),
        ("job", 2.0, "2.0", "2.0", "2.0"),
        ("job", 3.0, "refused", unseen, "-1.0"),
        ("job", -1.0, "refused", unseen, "-1.0"),
        ("job", -7.0, "refused", unseen, "-1.0"),
        ("job", 1e300, "refused", unseen, "-1.0"),
        ("job", 0.5, "refused", "refused", "refused"),
        ("job", f64::INFINITY, "refused", "refused", "refused"),
        ("job", f64::NAN, "NaN", "NaN", "NaN"),
        ("filled", f64::NAN, "1.0", "1.0", "1.0"),
        ("age", 101.0, "refused", "100.0 clamped", "101.0"),
        ("flag", 1.0, "1.0", "1.0", "1.0"),
    ] {
        let got = [Policy::Strict, Policy::Sanitize, Policy::Autogluon].map(|policy| encode(feature, code, policy));
        assert_eq!(got, [strict, sanitize, autogluon], "{feature} {code}");
    }
}

#[test]
fn nothing_sent() {
    let schema = schema();
    let missing = |feature: &str| schema.features()[schema.index_of(feature).unwrap()].encode_missing();
    assert_eq!(missing("filled"), Ok(1.0));
    assert!(missing("age").unwrap().is_nan());
    assert_eq!(missing("must").unwrap_err().to_string(), "expected a number, got nothing");
}

#[test]
fn messages_show_values_capped_and_escaped() {
    let schema = schema();
    let limits = Limits::default();
    let feature = |name: &str| &schema.features()[schema.index_of(name).unwrap()];
    let refusal = feature("age").encode(Value::Float(7.5), Policy::Strict, &limits).unwrap_err();
    assert_eq!(refusal.to_string(), "expected a whole number from 0.0 to 100.0, got number 7.5");
    let refusal = feature("age").encode(Value::Text("\x1b[31m\n"), Policy::Strict, &limits).unwrap_err();
    assert_eq!(refusal.got, r#"text "\u{1b}[31m\n""#);
    let long = "é".repeat(500);
    let refusal = feature("job").encode(Value::Text(&long), Policy::Strict, &limits).unwrap_err();
    assert_eq!(refusal.got, format!("text \"{}\"... (1000 bytes)", "é".repeat(64)));
    let (_, repair) = feature("age").encode(Value::Int(120), Policy::Sanitize, &limits).unwrap();
    assert_eq!(repair.unwrap().message(), "got 120, used 100.0");
    let (_, repair) = feature("job").encode(Value::Text("pirate\n"), Policy::Sanitize, &limits).unwrap();
    assert_eq!(repair.unwrap().message(), r#"got "pirate\n", which is not a known category, used as unseen"#);
    let (_, repair) = feature("job").encode(Value::Text("sailors"), Policy::Sanitize, schema.limits()).unwrap();
    let repair = repair.unwrap();
    assert_eq!(repair.message(), r#"got "sailors", used its first 6 bytes"#);
    assert_eq!(repair.cut(), None);
    // Cut, and unknown all the same: both are told.
    let (_, repair) = feature("job").encode(Value::Text("pirates"), Policy::Sanitize, schema.limits()).unwrap();
    let (repair, cut) = repair.map(|repair| (repair.clone(), repair.cut().unwrap())).unwrap();
    assert_eq!((repair.kind, cut.kind), (RepairKind::UnknownCategory, RepairKind::Truncated));
    assert_eq!(repair.message(), r#"got "pirates", which is not a known category, used as unseen"#);
    assert_eq!(cut.message(), r#"got "pirates", used its first 6 bytes"#);
}

#[test]
fn names_are_found_among_many() {
    let features: Vec<String> =
        (0..5_000).map(|index| format!(r#"{{"name": "feature {index}", "kind": "int"}}"#)).collect();
    let schema = Schema::parse(format!(r#"{{"features": [{}]}}"#, features.join(",")).as_bytes()).unwrap();
    for index in 0..5_000 {
        assert_eq!(schema.index_of(&format!("feature {index}")), Some(index));
    }
    assert_eq!(schema.index_of("feature 5000"), None);
    assert_eq!(schema.index_of("feature 1\0"), None);
}
