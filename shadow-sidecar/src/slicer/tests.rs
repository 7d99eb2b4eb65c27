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
    assert_eq!(
        slicer(&["sex=Male,X,Y", "age=1"]).unwrap_err().len(),
        2,
        "an unknown value, and a number without edges"
    );
    for text in ["", ":1", "age:2,1", "age:1,1", "age:x", "age:", "age:1,NaN", "=a", "sex=", "sex=a,", "sex=a,a"] {
        assert!(text.parse::<Declaration>().is_err(), "{text}");
    }
    assert!(slicer(&[]).unwrap().is_empty());
    let edges: Vec<String> = (0..63).map(|edge| edge.to_string()).collect();
    assert!(slicer(&[&format!("age:{}", edges.join(","))]).is_err());
}

#[test]
fn values_that_are_listed_have_slices_and_others_share_one() {
    let slicer = slicer(&["sex=Male", "married=true"]).unwrap();
    let names = ["sex=Male", "sex=missing", "sex=other", "married=true", "married=missing", "married=other"];
    assert_eq!(slicer.names(), names);
    let mut batch = Batch::new(4);
    for row in [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 7.0, 0.0], [f64::NAN; 4]] {
        batch.push_row().copy_from_slice(&row);
    }
    let mut slices = Vec::new();
    slicer.assign(&batch, &mut slices);
    assert_eq!(slices, [2, 5, 0, 3, 2, 5, 1, 4]);
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

/// Both ways of asking end in the same slices, whatever type a number travels as.
#[test]
fn requests_are_sliced_as_they_came() {
    use understudy::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
    use understudy::v1::{Row, Value, value};

    let schema = Schema::parse(SCHEMA.as_bytes()).unwrap();
    let slicing = Slicing::new(schema, &declared(&["age:30,65", "sex"])).unwrap();
    let expected = ["age<30", "sex=Female", "30<=age<65", "sex=other", "age=missing", "sex=Male"];
    let names = |slices: &[u16]| -> Vec<String> {
        slices.iter().map(|&slice| slicing.slicer().names()[usize::from(slice)].clone()).collect()
    };
    let text = |text: &str| Some(value::Kind::Text(text.into()));
    let row = |age: Option<value::Kind>, sex: Option<value::Kind>| Row {
        values: [("age".to_owned(), Value { kind: age }), ("sex".to_owned(), Value { kind: sex })].into(),
    };
    let rows = [
        row(Some(value::Kind::Integer(29)), text("Female")),
        row(Some(value::Kind::Number(30.0)), text("unheard of")),
        row(None, text("Male")),
    ];
    let mut slices = Vec::new();
    slicing.of_rows(&rows, &mut slices);
    assert_eq!(names(&slices), expected);

    let input = |name: &str, datatype: &str, shape: &[i64]| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    };
    let texts: Vec<u8> = ["Female", "unheard of", "Male"]
        .iter()
        .flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat())
        .collect();
    let ages: Vec<u8> = [29f32, 30.0, f32::NAN].iter().flat_map(|age| age.to_le_bytes()).collect();
    let mut request = ModelInferRequest {
        inputs: vec![input("sex", "BYTES", &[3, 1]), input("age", "FP32", &[3])],
        raw_input_contents: vec![texts.into(), ages.into()],
        ..ModelInferRequest::default()
    };
    slicing.of_tensors(&request, 3, &mut slices);
    assert_eq!(names(&slices), expected);
    // Fewer rows than elements, more rows than elements: never more slices than rows, and no panic.
    slicing.of_tensors(&request, 1, &mut slices);
    assert_eq!(names(&slices), expected[..2]);
    slicing.of_tensors(&request, 4, &mut slices);
    assert_eq!(names(&slices)[6..], ["age=missing", "sex=missing"]);

    let matrix = [29.0, 0.0, 1.0, 0.5, 30.0, 7.0, 0.0, 0.5, f64::NAN, 1.0, 1.0, 0.5];
    request.inputs = vec![input("input", "FP64", &[3, 4])];
    request.raw_input_contents = vec![matrix.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()];
    slicing.of_tensors(&request, 3, &mut slices);
    assert_eq!(names(&slices), expected);
}

/// A server that is not ours says what its inputs are called and nothing else.
#[test]
fn without_a_schema_inputs_are_sliced_by_their_names() {
    use understudy::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
    use understudy::v1::{Row, Value, value};

    let slicing = Slicing::by_name(&declared(&["age:30,65", "region=1,2", "sex=Female,Male"])).unwrap();
    let input = |name: &str, datatype: &str, shape: &[i64]| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    };
    let texts = |all: &[&str]| -> Vec<u8> {
        all.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()).collect()
    };
    let request = ModelInferRequest {
        // As wide as what is declared, and yet none of it.
        inputs: vec![
            input("all", "FP64", &[3, 3]),
            input("sex", "BYTES", &[3]),
            input("age", "INT32", &[3, 1]),
            input("region", "INT64", &[3]),
        ],
        raw_input_contents: vec![
            vec![0; 72].into(),
            texts(&["Male", "unheard of", ""]).into(),
            [29_i32, 30, 65].map(i32::to_le_bytes).concat().into(),
            [1_i64, 2, 3].map(i64::to_le_bytes).concat().into(),
        ],
        ..ModelInferRequest::default()
    };
    let expected = [
        ["age<30", "region=1", "sex=Male"],
        ["30<=age<65", "region=2", "sex=other"],
        ["age>=65", "region=other", "sex=missing"],
    ];
    let mut slices = Vec::new();
    slicing.of_tensors(&request, 3, &mut slices);
    let names: Vec<&str> = slices.iter().map(|&slice| slicing.slicer().names()[usize::from(slice)].as_str()).collect();
    assert_eq!(names, expected.concat());

    let kinds = [value::Kind::Integer(29), value::Kind::Integer(1), value::Kind::Text("Male".into())];
    let values =
        ["age", "region", "sex"].map(str::to_owned).into_iter().zip(kinds.map(|kind| Value { kind: Some(kind) }));
    slicing.of_rows(&[Row { values: values.collect() }], &mut slices);
    assert_eq!(slices[..2], [0, 4], "{:?}", slicing.slicer().names());

    let problems = Slicing::by_name(&declared(&["sex", "age:30", "region"])).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("sex=value,value,..."), "{problems:?}");
}
