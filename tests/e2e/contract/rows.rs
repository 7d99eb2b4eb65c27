//! I for `Predict`: the same rules for rows of named, typed values.

use support::{
    adult::test_set,
    grpc::{Call, PREDICT},
};
use understudy::v1::{NullValue, Policy, PredictRequest, Value, value::Kind};

use super::Case;

/// Two good rows, then changed.
fn two(change: impl FnOnce(&mut PredictRequest)) -> Call {
    let mut request = PredictRequest { model: "adult".into(), ..test_set().predict(0..2) };
    change(&mut request);
    Call::new(PREDICT, &request)
}

/// Another value in the second row.
fn value(name: &str, kind: Kind) -> impl FnOnce(&mut PredictRequest) {
    let name = name.to_owned();
    move |request| drop(request.rows[1].values.insert(name, Value { kind: Some(kind) }))
}

fn strict(change: impl FnOnce(&mut PredictRequest)) -> Call {
    two(|request| {
        request.set_policy(Policy::Strict);
        change(request);
    })
}

fn text(text: &str) -> Kind {
    Kind::Text(text.into())
}

pub(super) fn cases() -> Vec<Case> {
    let null = || Kind::Null(NullValue::Unspecified.into());
    let model = |name: &str| two(|request| request.model = name.into());
    let version = |version: &str| two(|request| request.version = version.into());
    let own = |change: Box<dyn FnOnce(&mut PredictRequest)>| {
        two(|request| {
            request.model = "strict".into();
            change(request);
        })
    };
    let number = || value("capital_gain", Kind::Number(0.5));
    vec![
        Case::code("I0 good", two(|_| {}), 0, &[]),
        Case::code("I0 strict and good", strict(|_| {}), 0, &[]),
        Case::code("I1 unknown model", model("adlut"), 5, &["adlut"]),
        Case::code("I2 unknown version", version("5"), 5, &["adult", "5"]),
        Case::code("I3 version 01", version("01"), 3, &["version", "01"]),
        Case::code("I4 empty name, two models", model(""), 3, &["model name is empty"]),
        Case::code("I5 name ../x", model("../x"), 3, &["model name", "../x"]),
        Case::code("I8 no rows", two(|request| request.rows.clear()), 0, &[]),
        Case::code(
            "I9 required, absent",
            own(Box::new(|request| drop(request.rows[1].values.remove("age")))),
            3,
            &["row 1", "age", "nothing"],
        ),
        Case::code("I9 required, null", own(Box::new(value("age", null()))), 3, &["row 1", "age", "null"]),
        Case::code(
            "I9 required, NaN",
            own(Box::new(value("age", Kind::Number(f64::NAN)))),
            3,
            &["row 1", "age", "NaN"],
        ),
        Case::code("I10 unknown feature, strict", strict(value("shoe_size", text("44"))), 3, &["row 1", "shoe_size"]),
        Case::code("I10 unknown feature", two(value("shoe_size", text("44"))), 0, &[]),
        Case::code("I13 text for a number", two(value("age", text("abc"))), 3, &["row 1", "age", "abc"]),
        Case::code("I13 truth for a number", two(value("age", Kind::Boolean(true))), 3, &["row 1", "age", "true"]),
        Case::code("I13 number for a text", two(value("race", Kind::Integer(3))), 3, &["row 1", "race", "3"]),
        Case::code(
            "I28 infinity, strict",
            strict(value("age", Kind::Number(f64::INFINITY))),
            3,
            &["row 1", "age", "inf"],
        ),
        Case::code(
            "out of bounds, strict",
            strict(value("age", Kind::Integer(200))),
            3,
            &["row 1", "age", "90", "200"],
        ),
        Case::code("fraction, strict", strict(number()), 3, &["row 1", "capital_gain", "whole", "0.5"]),
        Case::code("fraction, the package is strict", own(Box::new(number())), 3, &["row 1", "capital_gain"]),
        Case::code(
            "fraction, the client asks a strict package for less",
            own(Box::new(|request| {
                request.set_policy(Policy::Autogluon);
                value("capital_gain", Kind::Number(0.5))(request);
            })),
            3,
            &["'autogluon'", "'strict'"],
        ),
        Case::code(
            "the client asks a strict package for repairs",
            own(Box::new(|request| request.set_policy(Policy::Sanitize))),
            3,
            &["'sanitize'", "'strict'"],
        ),
        Case::code(
            "I30 unseen category, strict",
            strict(value("race", text("Martian"))),
            3,
            &["row 1", "race", "Martian"],
        ),
        Case::code(
            "I31 long text, strict",
            strict(value("race", text(&"x".repeat(1001)))),
            3,
            &["row 1", "race", "1000"],
        ),
        Case::code(
            "I34 100 rows",
            Call::new(PREDICT, &PredictRequest { model: "adult".into(), ..test_set().predict(0..100) }),
            0,
            &[],
        ),
        Case::code(
            "I34 101 rows",
            Call::new(PREDICT, &PredictRequest { model: "adult".into(), ..test_set().predict(0..101) }),
            8,
            &["100", "101"],
        ),
        Case::code("I36 id of 256 bytes", two(|request| request.request_id = "x".repeat(256)), 0, &[]),
        Case::code("I36 id of 257 bytes", two(|request| request.request_id = "x".repeat(257)), 3, &["256", "257"]),
        Case::code(
            "control characters are escaped",
            two(value("age", text("\u{1b}[31m\r\n"))),
            3,
            &[r"\u{1b}[31m\r\n"],
        ),
        Case::code("policy from the future", two(|request| request.policy = 99), 3, &["policy 99"]),
    ]
}
