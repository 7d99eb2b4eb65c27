use super::*;

const SCHEMA: &str = r#"{"features": [
    {"name": "age", "kind": "int", "required": false},
    {"name": "sex", "kind": "text", "required": false, "categories": ["Female", "Male"]},
    {"name": "married", "kind": "bool", "required": false},
    {"name": "a:b", "kind": "float", "required": false}
]}"#;

fn declared(texts: &[&str]) -> Vec<Declaration> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn slicer(texts: &[&str]) -> Result<Slicer, Vec<String>> {
    Slicer::new(&Schema::parse(SCHEMA.as_bytes()).unwrap(), &declared(texts))
}

#[test]
fn rows_fall_into_one_slice_of_each_feature() {
    let slicer = slicer(&["age:30,65", "sex", "married"]).unwrap();
    let expected = [
        "age<30",
        "30<=age<65",
        "age>=65",
        "age=missing",
        "sex=Female",
        "sex=Male",
        "sex=missing",
        "sex=other",
        "married=false",
        "married=true",
        "married=missing",
        "married=other",
    ];
    assert_eq!(slicer.names(), expected);
    let mut batch = Batch::new(4);
    for row in [[29.9, 0.0, 1.0, 0.0], [30.0, 1.0, 0.0, 0.0], [65.0, -1.0, 7.0, 0.0], [f64::NAN; 4]] {
        batch.push_row().copy_from_slice(&row);
    }
    let mut slices = Vec::new();
    slicer.assign(&batch, &mut slices);
    let names: Vec<&str> = slices.iter().map(|&slice| expected[usize::from(slice)]).collect();
    let rows = [
        ["age<30", "sex=Female", "married=true"],
        ["30<=age<65", "sex=Male", "married=false"],
        ["age>=65", "sex=other", "married=other"],
        ["age=missing", "sex=missing", "married=missing"],
    ];
    assert_eq!(names, rows.concat());
}

#[test]
fn wrong_declarations_are_named_all_at_once() {
    let problems = slicer(&["height", "age", "sex:1,2", "married", "married", "a:b:0.5"]).unwrap_err();
    let expected = [
        "slices: \"height\" is no feature of the model",
        "slices: \"age\" is of kind int and needs edges: feature:edge,edge,...",
        "slices: \"sex\" is of kind text and takes no edges",
        "slices: \"married\" is declared twice",
    ];
    assert_eq!(problems, expected);
    for text in ["", ":1", "age:2,1", "age:1,1", "age:x", "age:", "age:1,NaN"] {
        assert!(text.parse::<Declaration>().is_err(), "{text}");
    }
    assert!(slicer(&[]).unwrap().is_empty());
    let edges: Vec<String> = (0..63).map(|edge| edge.to_string()).collect();
    assert!(slicer(&[&format!("age:{}", edges.join(","))]).is_err());
}

/// However many categories there are, the slices are bounded, and no row is lost.
#[test]
fn categories_beyond_the_bound_share_a_slice() {
    let categories: Vec<String> = (0..100).map(|i| format!("\"c{i}\"")).collect();
    let feature = |name: &str| {
        format!(
            r#"{{"name": "{name}", "kind": "category", "required": false, "categories": [{}]}}"#,
            categories.join(",")
        )
    };
    let schema = format!(r#"{{"features": [{}, {}]}}"#, feature("x"), feature("y"));
    let schema = Schema::parse(schema.as_bytes()).unwrap();
    let slicer = Slicer::new(&schema, &declared(&["x", "y"])).unwrap();
    assert_eq!(slicer.names().len(), MAX_SLICES);
    let mut batch = Batch::new(2);
    for code in 0..100 {
        batch.push_row().fill(f64::from(code));
    }
    let mut slices = Vec::new();
    slicer.assign(&batch, &mut slices);
    let of =
        |row: usize| [slices[2 * row], slices[2 * row + 1]].map(|slice| slicer.names()[usize::from(slice)].as_str());
    assert_eq!(of(0), ["x=c0", "y=other"]);
    assert_eq!(of(59), ["x=c59", "y=other"]);
    assert_eq!(of(99), ["x=other", "y=other"]);
}
