//! I: `ModelInfer` requests that are well-formed and wrong.

use bytes::Bytes;
use support::{
    adult::test_set,
    grpc::{Call, MODEL_INFER},
    tensors::{RAW, Style, TYPED, ask, text_to_raw},
};
use understudy::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};

use super::Case;

/// Two good rows, then changed.
fn two(style: Style, change: impl FnOnce(&mut ModelInferRequest)) -> Call {
    let mut request = test_set().columns(0..2, style);
    change(&mut request);
    Call::new(MODEL_INFER, &request)
}

fn input<'a>(request: &'a mut ModelInferRequest, name: &str) -> &'a mut InferInputTensor {
    request.inputs.iter_mut().find(|input| input.name == name).unwrap()
}

fn raw<'a>(request: &'a mut ModelInferRequest, name: &str) -> &'a mut Bytes {
    let i = request.inputs.iter().position(|input| input.name == name).unwrap();
    &mut request.raw_input_contents[i]
}

fn contents<'a>(request: &'a mut ModelInferRequest, name: &str) -> &'a mut InferTensorContents {
    input(request, name).contents.as_mut().unwrap()
}

fn remove(request: &mut ModelInferRequest, name: &str) {
    let i = request.inputs.iter().position(|input| input.name == name).unwrap();
    request.inputs.remove(i);
    request.raw_input_contents.remove(i);
}

fn parameter(name: &str, choice: Option<ParameterChoice>) -> impl FnOnce(&mut ModelInferRequest) {
    let name = name.to_owned();
    move |request| drop(request.parameters.insert(name, InferParameter { parameter_choice: choice }))
}

fn shape(shape: &[i64]) -> impl FnOnce(&mut ModelInferRequest) {
    move |request| input(request, "age").shape = shape.to_vec()
}

fn datatype(name: &str, datatype: &str) -> impl FnOnce(&mut ModelInferRequest) {
    move |request| input(request, name).datatype = datatype.into()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(inputs());
    cases.extend(values());
    cases.extend(parameters_and_outputs());
    cases
}

fn names() -> Vec<Case> {
    let model = |name: &str| two(RAW, |request| request.model_name = name.into());
    let version = |version: &str| two(RAW, |request| request.model_version = version.into());
    let mut cases = vec![
        Case::code("I0 good", two(RAW, |_| {}), 0, &[]),
        Case::code("I0 good version", version("1"), 0, &[]),
        Case::code("I1 unknown model", model("adlut"), 5, &["adlut"]),
        Case::code("I2 unknown version", version("5"), 5, &["adult", "5"]),
        Case::code("I4 empty name", model(""), 3, &["model name is empty"]),
    ];
    for wrong in ["01", "-1", " 1", "1.0", "100000000000000000000"] {
        cases.push(Case::code(format!("I3 version {wrong:?}"), version(wrong), 3, &["version", wrong]));
    }
    let long = "x".repeat(300);
    for wrong in ["../x", "a/b", "%2e%2e", "a\0b", "\u{202e}tluda", &long] {
        let name = format!("I5 name {:?}", &wrong[..wrong.len().min(12)]);
        cases.push(Case::code(name, model(wrong), 3, &["model name"]));
    }
    cases
}

fn inputs() -> Vec<Case> {
    let matrix = |change: fn(&mut ModelInferRequest)| {
        let mut request = test_set().matrix(0..2, true);
        change(&mut request);
        Call::new(MODEL_INFER, &request)
    };
    let strict = |request: &mut ModelInferRequest| request.model_name = "strict".into();
    let none = |request: &mut ModelInferRequest| {
        request.inputs.clear();
        request.raw_input_contents.clear();
    };
    let without_age = two(RAW, |request| {
        strict(request);
        remove(request, "age");
    });
    let extra = |name: &'static str| {
        two(RAW, move |request| {
            let tensor = InferInputTensor { name: name.into(), ..request.inputs[0].clone() };
            request.inputs.push(tensor);
            request.raw_input_contents.push(request.raw_input_contents[0].clone());
        })
    };
    let one_more_row = two(TYPED, |request| {
        input(request, "race").shape = vec![3];
        contents(request, "race").bytes_contents.push("White".into());
    });
    let zero_rows = {
        let mut request = test_set().columns(0..0, RAW);
        request.inputs[0].datatype = "INT64".into();
        Call::new(MODEL_INFER, &request)
    };
    let huge_text = two(RAW, |request| {
        let names = request.inputs.iter().map(|input| input.name.clone()).collect::<Vec<_>>();
        names.iter().filter(|name| *name != "race").for_each(|name| remove(request, name));
        input(request, "race").shape = vec![1 << 40];
    });
    let rows = |rows: usize| Call::new(MODEL_INFER, &test_set().columns(0..rows, RAW));
    let many = |rows: usize| Call::new(MODEL_INFER, &test_set().matrix(0..rows, true));
    vec![
        Case::code("I8 no inputs", two(RAW, none), 3, &["missing required input"]),
        Case::code("I9 required input missing", without_age, 3, &["missing required input", "age"]),
        Case::code("I9 optional input missing", two(RAW, |request| remove(request, "age")), 0, &[]),
        Case::code("I10 unknown input", extra("shoe_size"), 3, &["shoe_size"]),
        Case::code("I10 unknown input, hostile", extra("\u{1b}[31m\u{202e}"), 3, &[r"\u{1b}[31m\u{202e}"]),
        Case::code("I11 input twice", extra("age"), 3, &["age", "twice"]),
        Case::code("I12 datatype FP99", two(RAW, datatype("age", "FP99")), 3, &["age", "FP99"]),
        Case::code("I12 datatype int64", two(RAW, datatype("age", "int64")), 3, &["age", "int64"]),
        Case::code("I12 datatype empty", two(RAW, datatype("age", "")), 3, &["age", "''"]),
        Case::code(
            "I13 UINT64 for text",
            two(RAW, |request| {
                datatype("race", "UINT64")(request);
                *raw(request, "race") = vec![0; 16].into();
            }),
            3,
            &["race", "UINT64", "BYTES"],
        ),
        Case::code(
            "I13 text for a number",
            two(RAW, |request| {
                datatype("age", "BYTES")(request);
                *raw(request, "age") = [text_to_raw(b"1"), text_to_raw(b"2")].concat().into();
            }),
            3,
            &["age", "BYTES", "INT64"],
        ),
        Case::code("I14 shape [] with two elements", two(RAW, shape(&[])), 3, &["age", "[]"]),
        Case::code(
            "I14 shape [] with one element",
            two(RAW, |request| {
                shape(&[])(request);
                *raw(request, "age") = vec![0; 8].into();
            }),
            3,
            &["age", "[]"],
        ),
        Case::code("I14 shape [1,2]", two(RAW, shape(&[1, 2])), 3, &["age", "[1, 2]"]),
        Case::code("I14 shape [2,1,1]", two(RAW, shape(&[2, 1, 1])), 3, &["age", "[2, 1, 1]"]),
        Case::code("I14 matrix of rank 1", matrix(|request| request.inputs[0].shape = vec![26]), 3, &["[26]", "13"]),
        Case::code("I14 matrix too wide", matrix(|request| request.inputs[0].shape = vec![1, 26]), 3, &["13", "26"]),
        Case::code("I15 zero rows", zero_rows, 0, &[]),
        Case::code("I16 shape [-1]", two(RAW, shape(&[-1])), 3, &["age", "-1"]),
        Case::code("I16 shape [i64::MIN]", two(RAW, shape(&[i64::MIN])), 3, &["age", "-9223372036854775808"]),
        Case::code("I17 shape [2^32,2^32]", two(RAW, shape(&[1 << 32, 1 << 32])), 3, &["age", "4294967296"]),
        Case::code("I17 shape [2^62] of 8 bytes", two(RAW, shape(&[1 << 62])), 3, &["age"]),
        Case::code("I18 shape [2^40]", two(RAW, shape(&[1 << 40])), 3, &["age", "1099511627776"]),
        Case::code(
            "I18 shape [2^40] of texts",
            two(RAW, |request| input(request, "race").shape = vec![1 << 40]),
            3,
            &["race", "1099511627776"],
        ),
        Case::code("I34 shape [2^40] of texts, alone", huge_text, 8, &["limit 100", "1099511627776"]),
        Case::code("I19 contents too short", two(TYPED, shape(&[3])), 3, &["age", "3", "2"]),
        Case::code("I20 raw too short", two(RAW, shape(&[3])), 3, &["age", "16 bytes"]),
        Case::code("I20 raw too long", two(RAW, shape(&[1])), 3, &["age", "16 bytes"]),
        Case::code("I20 rows differ", one_more_row, 3, &["race", "3", "2"]),
        Case::code(
            "I21 raw and contents",
            two(RAW, |request| {
                input(request, "age").contents = Some(InferTensorContents::default());
            }),
            3,
            &["age", "raw_input_contents"],
        ),
        Case::code(
            "I22 raw list too short",
            two(RAW, |request| drop(request.raw_input_contents.pop())),
            3,
            &["13", "12"],
        ),
        Case::code(
            "I22 raw list too long",
            two(RAW, |request| request.raw_input_contents.push(Bytes::new())),
            3,
            &["13", "14"],
        ),
        Case::code("I22 neither", two(RAW, |request| request.raw_input_contents.clear()), 3, &["age", "no data"]),
        Case::code("I34 100 rows", rows(100), 0, &[]),
        Case::code("I34 101 rows", rows(101), 8, &["100", "101"]),
        Case::code("I34 101 rows, a matrix", many(101), 8, &["100", "101"]),
    ]
}

fn values() -> Vec<Case> {
    let race = |bytes: Vec<u8>| two(RAW, |request| *raw(request, "race") = bytes.into());
    let white = || text_to_raw(b"White");
    let strict = |change: fn(&mut ModelInferRequest)| {
        two(RAW, |request| {
            request.model_name = "strict".into();
            change(request);
        })
    };
    vec![
        Case::code(
            "I23 integers for FP32",
            two(TYPED, |request| {
                datatype("age", "FP32")(request);
            }),
            3,
            &["age", "FP32"],
        ),
        Case::code(
            "I23 in its list and another",
            two(TYPED, |request| {
                contents(request, "age").int_contents.push(1);
            }),
            3,
            &["age"],
        ),
        Case::code("I24 FP16 not raw", two(TYPED, datatype("age", "FP16")), 3, &["age", "FP16", "raw"]),
        Case::code("I25 length past the end", race([white(), vec![6, 0, 0, 0, b'W']].concat()), 3, &["row 1", "race"]),
        Case::code("I25 length 2^32-1", race([white(), vec![255; 4]].concat()), 3, &["row 1", "race", "4294967295"]),
        Case::code("I25 half a length", race([white(), vec![5, 0]].concat()), 3, &["race", "2", "1"]),
        Case::code("I25 more than the shape", race([white(), white(), vec![0]].concat()), 3, &["race", "1 bytes"]),
        Case::code("I26 an element of 16 MiB", race(text_to_raw(&vec![b'x'; 16 << 20])), 8, &["1048576"]),
        Case::code(
            "I27 BOOL byte 2",
            strict(|request| {
                datatype("sex", "BOOL")(request);
                *raw(request, "sex") = vec![1, 2].into();
            }),
            3,
            &["row 1", "sex", "2"],
        ),
        Case::code(
            "I30 unseen category, strict",
            strict(|request| {
                *raw(request, "race") = [text_to_raw(b"White"), text_to_raw(b"Martian")].concat().into();
            }),
            3,
            &["row 1", "race", "Martian"],
        ),
        Case::code("I31 NUL in a text", race([white(), text_to_raw(b"a\0b")].concat()), 0, &[]),
        Case::code("I31 not UTF-8", race([white(), text_to_raw(b"\xed\xa0\x80")].concat()), 3, &["row 1", "race"]),
        Case::code("I31 1 MB", race([white(), text_to_raw(&vec![b'x'; 1_000_000])].concat()), 0, &[]),
        Case::code(
            "out of bounds, strict",
            strict(|request| {
                *raw(request, "age") = [25_i64.to_le_bytes(), 200_i64.to_le_bytes()].concat().into();
            }),
            3,
            &["row 1", "age", "17", "90", "200"],
        ),
    ]
}

fn parameters_and_outputs() -> Vec<Case> {
    let mut cases = vec![
        Case::code("I32 unknown output", two(RAW, |request| ask(request, &["colour"])), 3, &["colour"]),
        Case::code("I32 unknown output, hostile", two(RAW, |request| ask(request, &["a\r\nb"])), 3, &[r"a\r\nb"]),
        Case::code("I33 output twice", two(RAW, |request| ask(request, &["label", "label"])), 3, &["label", "twice"]),
        Case::code("I36 id of 256 bytes", two(RAW, |request| request.id = "x".repeat(256)), 0, &[]),
        Case::code("I36 id of 257 bytes", two(RAW, |request| request.id = "x".repeat(257)), 3, &["256", "257"]),
        Case::code("I36 id of control characters", two(RAW, |request| request.id = "\u{1b}[31m\n".into()), 0, &[]),
        Case::code("I37 parameter without value", two(RAW, parameter("colour", None)), 3, &["colour"]),
        Case::code(
            "I38 shared memory for an input",
            two(RAW, |request| {
                let region = ParameterChoice::StringParam("region".into());
                let region = InferParameter { parameter_choice: Some(region) };
                input(request, "age").parameters.insert("shared_memory_region".into(), region);
            }),
            3,
            &["age", "shared memory"],
        ),
    ];
    let policy = |policy: &str| two(RAW, parameter("policy", Some(ParameterChoice::StringParam(policy.into()))));
    let number = two(RAW, parameter("policy", Some(ParameterChoice::Int64Param(1))));
    cases.extend([
        Case::code("policy strict", policy("strict"), 0, &[]),
        Case::code("policy as it is", policy("sanitize"), 0, &[]),
        Case::code("policy laxer than the model's", policy("autogluon"), 3, &["'autogluon'", "'sanitize'"]),
        Case::code("policy that nobody knows", policy("STRICT\n"), 3, &["policy", r"STRICT\n"]),
        Case::code("policy as a number", number, 3, &["policy", "'strict'"]),
    ]);
    for name in ["shared_memory_region", "classification", "priority", "timeout", "sequence_id"] {
        let call = two(RAW, parameter(name, Some(ParameterChoice::Int64Param(1))));
        cases.push(Case::code(format!("I39 parameter {name}"), call, 3, &[name]));
    }
    cases
}
