//! Rows from the command line, a file or standard input.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context as _, bail};
use serde_json::Value as Json;
use understudy::v1::{NullValue, Row, Value, value::Kind};

/// Rows from INPUT: inline JSON, `-`, a .csv file or a file of JSON.
///
/// # Errors
/// It can't be read, or it is no table of plain values; says where.
pub(crate) fn read(input: &str) -> anyhow::Result<Vec<Row>> {
    if input == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        return json(&text).context("standard input");
    }
    if input.trim_start().starts_with(['{', '[']) {
        return json(input);
    }
    let path = Path::new(input);
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return csv_file(path);
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    json(&text).with_context(|| path.display().to_string())
}

/// Rows of a CSV file with a header.
///
/// # Errors
/// As [`read`].
pub(crate) fn csv_file(path: &Path) -> anyhow::Result<Vec<Row>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    csv(file).with_context(|| path.display().to_string())
}

fn csv(source: impl Read) -> anyhow::Result<Vec<Row>> {
    let mut reader = csv::Reader::from_reader(source);
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            bail!("column {name:?} is there twice");
        }
    }
    reader
        .records()
        .map(|record| {
            let cells = record?;
            let values = names.iter().zip(&cells).map(|(name, text)| (name.clone(), cell(text)));
            Ok(Row { values: values.collect() })
        })
        .collect()
}

/// What a cell most likely means; CSV has no types. Empty is null, what reads as a number is one. Codes with leading
/// zeros stay text: as numbers they would be other codes. So do `nan` and `inf`.
fn cell(text: &str) -> Value {
    let digits = text.trim_start_matches(['+', '-']);
    let code = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let kind = if text.is_empty() {
        Kind::Null(NullValue::Unspecified.into())
    } else if code {
        Kind::Text(text.to_owned())
    } else if let Ok(integer) = text.parse() {
        Kind::Integer(integer)
    } else {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Kind::Number(number),
            _ => Kind::Text(text.to_owned()),
        }
    };
    Value { kind: Some(kind) }
}

/// Objects one after the other, or lists of them: one parser for inline JSON, files and JSON lines.
fn json(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
        match document.context("no JSON")? {
            Json::Array(items) => {
                for item in items {
                    let row = object(item).with_context(|| format!("row {}", rows.len()))?;
                    rows.push(row);
                }
            }
            single => rows.push(object(single).with_context(|| format!("row {}", rows.len()))?),
        }
    }
    Ok(rows)
}

fn object(document: Json) -> anyhow::Result<Row> {
    let Json::Object(members) = document else {
        bail!("expected an object, got {}", kind_of(&document));
    };
    let values = members.into_iter().map(|(name, value)| {
        let kind = match value {
            Json::Null => Kind::Null(NullValue::Unspecified.into()),
            Json::Bool(boolean) => Kind::Boolean(boolean),
            Json::String(text) => Kind::Text(text),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Kind::Integer(integer),
                (None, Some(number)) => Kind::Number(number),
                (None, None) => bail!("feature {name:?}: {number} is no 64-bit number"),
            },
            other => {
                bail!("feature {name:?}: expected a number, a text, true, false or null, got {}", kind_of(&other))
            }
        };
        Ok((name, Value { kind: Some(kind) }))
    });
    Ok(Row { values: values.collect::<anyhow::Result<_>>()? })
}

fn kind_of(document: &Json) -> &'static str {
    match document {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(row: &Row, name: &str) -> Kind {
        row.values[name].kind.clone().expect("a kind")
    }

    #[test]
    fn cells_become_what_they_most_likely_mean() {
        let text = |text: &str| Kind::Text(text.into());
        for (cell_text, expected) in [
            ("", Kind::Null(0)),
            ("39", Kind::Integer(39)),
            ("-7", Kind::Integer(-7)),
            ("0", Kind::Integer(0)),
            ("9223372036854775807", Kind::Integer(i64::MAX)),
            ("9223372036854775808", Kind::Number(9_223_372_036_854_775_808.0)),
            ("0.1", Kind::Number(0.1)),
            ("-0.5", Kind::Number(-0.5)),
            ("1e3", Kind::Number(1000.0)),
            ("1e999", text("1e999")),
            ("nan", text("nan")),
            ("Infinity", text("Infinity")),
            ("02134", text("02134")),
            ("true", text("true")),
            (" 39", text(" 39")),
            ("Bachelors", text("Bachelors")),
        ] {
            assert_eq!(cell(cell_text).kind, Some(expected), "{cell_text:?}");
        }
    }

    #[test]
    fn a_table_needs_a_sound_header_and_rows_of_one_length() {
        let rows = csv("age,job\n39,\"a,b\"\n,x\n".as_bytes()).expect("a table");
        assert_eq!(rows.len(), 2);
        assert_eq!(kind(&rows[0], "job"), Kind::Text("a,b".into()));
        assert_eq!(kind(&rows[1], "age"), Kind::Null(0));
        assert!(csv("a,a\n1,2\n".as_bytes()).expect_err("twice").to_string().contains("\"a\" is there twice"));
        assert!(csv("a,b\n1\n".as_bytes()).expect_err("short").to_string().contains("line: 2"));
    }

    #[test]
    fn objects_lists_and_lines_are_all_rows() {
        for text in [r#"{"a": 1} {"a": 2.0}"#, r#"[{"a": 1}, {"a": 2.0}]"#, "{\"a\": 1}\n{\"a\": 2.0}\n"] {
            let rows = json(text).expect("rows");
            assert_eq!(rows.len(), 2, "{text}");
            assert_eq!(kind(&rows[0], "a"), Kind::Integer(1));
            assert_eq!(kind(&rows[1], "a"), Kind::Number(2.0));
        }
        let row = &json(r#"{"n": null, "t": "x", "b": true, "u": 18446744073709551615}"#).expect("a row")[0];
        assert_eq!(kind(row, "n"), Kind::Null(0));
        assert_eq!(kind(row, "b"), Kind::Boolean(true));
        assert_eq!(kind(row, "u"), Kind::Number(18_446_744_073_709_551_615.0));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_row() {
        let wrong = |text: &str| format!("{:#}", json(text).expect_err("wrong"));
        assert_eq!(
            wrong(r#"[{"a": 1}, {"a": [1]}]"#),
            r#"row 1: feature "a": expected a number, a text, true, false or null, got a list"#
        );
        assert_eq!(wrong("[3]"), "row 0: expected an object, got a number");
        assert!(wrong(r#"{"a": }"#).starts_with("no JSON: expected value at line 1 column 7"));
    }
}
