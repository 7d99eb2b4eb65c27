//! `examples/adult`: rows, and what LightGBM itself says about them. Nothing here uses the product's own code for
//! schemas or packages: it is what the product is compared with.

use std::{collections::BTreeMap, fs, ops::Range, sync::LazyLock};

use serde_json::Value as Json;
use understudy::v1::{PredictRequest, Row, Value, value::Kind};

use crate::examples;

/// The classes, in the order of the probabilities.
pub const CLASSES: [&str; 2] = ["<=50K", ">50K"];

/// Rows with their answers.
#[derive(Debug)]
pub struct Table {
    /// The columns, in the order of the schema.
    pub features: Vec<Feature>,
    /// Cells as they are in the file; empty is missing.
    pub rows: Vec<Vec<String>>,
    /// P(>50K) by LightGBM, by the column of the answers.
    pub answers: BTreeMap<String, Vec<f64>>,
}

/// A column of the schema.
#[derive(Debug)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// In the order of the codes; absent for numbers.
    pub categories: Option<Vec<String>>,
    /// What a missing category becomes.
    pub fill: Option<String>,
    /// Least and greatest number.
    pub bounds: Option<(f64, f64)>,
}

impl Feature {
    /// The code of a cell as the model sees it: NaN for missing, -1 for a category that is not in the schema.
    pub fn code(&self, cell: &str) -> f64 {
        let Some(categories) = &self.categories else {
            return if cell.is_empty() { f64::NAN } else { cell.parse().expect("a number") };
        };
        let cell = match (&self.fill, cell) {
            (None, "") => return f64::NAN,
            (Some(fill), "") => fill,
            _ => cell,
        };
        categories.iter().position(|category| category == cell).map_or(-1.0, |code| code as f64)
    }
}

/// The first 4,000 rows of the test set: nothing in them is out of bounds or unknown.
pub fn test_set() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read("rows.csv", "answers.csv"));
    &TABLE
}

/// 500 rows with unknown categories, missing values, fractional integers and numbers out of bounds.
pub fn stress_set() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read("stress_rows.csv", "stress_answers.csv"));
    &TABLE
}

impl Table {
    fn read(rows: &str, answers: &str) -> Self {
        let (names, rows) = csv_file(rows);
        let features = schema();
        assert!(names.iter().eq(features.iter().map(|feature| &feature.name)), "columns in the order of the schema");
        let (columns, lines) = csv_file(answers);
        assert_eq!(lines.len(), rows.len());
        let column = |i: usize| lines.iter().map(|line| line[i].parse().expect("a number")).collect();
        let answers = columns.iter().enumerate().map(|(i, name)| (name.clone(), column(i))).collect();
        Self { features, rows, answers }
    }

    /// P(>50K) of `examples/models/adult` by LightGBM.
    pub fn primary(&self) -> &[f64] {
        &self.answers["adult"]
    }

    /// How many of `rows` get the same label by the answers of `candidate` as by the primary's.
    pub fn agreed(&self, candidate: &str, rows: Range<usize>) -> u64 {
        let pairs = self.primary()[rows.clone()].iter().zip(&self.answers[candidate][rows]);
        pairs.filter(|(primary, candidate)| label(**primary) == label(**candidate)).count() as u64
    }

    /// Rows of named, typed values. A missing value is left out.
    pub fn named(&self, rows: Range<usize>) -> Vec<Row> {
        self.rows[rows].iter().map(|cells| self.named_row(cells)).collect()
    }

    fn named_row(&self, cells: &[String]) -> Row {
        let kind = |feature: &Feature, cell: &String| match &feature.categories {
            Some(_) => Kind::Text(cell.clone()),
            None => cell.parse().map_or_else(|_| Kind::Number(cell.parse().expect("a number")), Kind::Integer),
        };
        let sent = self.features.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        Row {
            values: sent
                .map(|(feature, cell)| (feature.name.clone(), Value { kind: Some(kind(feature, cell)) }))
                .collect(),
        }
    }

    /// A request for `rows`, to the only model there is.
    pub fn predict(&self, rows: Range<usize>) -> PredictRequest {
        PredictRequest { rows: self.named(rows), ..PredictRequest::default() }
    }
}

/// The label that goes with P(>50K) at the threshold of the package.
pub fn label(probability: f64) -> &'static str {
    CLASSES[usize::from(probability > 0.5)]
}

fn csv_file(name: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let path = examples().join("adult").join(name);
    let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let owned = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
    let header = owned(reader.headers().expect("a header"));
    (header, reader.records().map(|record| owned(&record.expect("a record"))).collect())
}

fn schema() -> Vec<Feature> {
    let text = fs::read(examples().join("models/adult/1/schema.json")).expect("the example's schema");
    let schema: Json = serde_json::from_slice(&text).expect("JSON");
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let feature = |feature: &Json| Feature {
        name: text(&feature["name"]).expect("a name"),
        categories: feature["categories"].as_array().map(|list| list.iter().filter_map(text).collect()),
        fill: text(&feature["fill"]),
        bounds: feature["bounds"][0].as_f64().zip(feature["bounds"][1].as_f64()),
    };
    schema["features"].as_array().expect("features").iter().map(feature).collect()
}

/// A row that the model refuses: its age is no number.
pub fn refused() -> PredictRequest {
    let mut request = test_set().predict(0..1);
    let text = Value { kind: Some(Kind::Text("no number".into())) };
    request.rows[0].values.insert("age".into(), text);
    request
}
