//! Predictions as a table for people and as JSON lines for programs.

use comfy_table::{Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use serde_json::{Value as Json, json};
use understudy::v1::{PredictResponse, Prediction, Warning, warning};

use crate::{
    output::Output,
    words::{count, shown},
};

/// One rule below the header: rows that are short need no more.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '));
/// Characters of a prediction id, from its end, where ids of one server differ.
const SHORT_ID: usize = 8;

/// One JSON object for each row; the first one is row `first`.
pub(super) fn json(response: &PredictResponse, first: usize) -> Vec<String> {
    response.predictions.iter().enumerate().map(|(i, prediction)| object(response, prediction, first + i)).collect()
}

fn object(response: &PredictResponse, prediction: &Prediction, row: usize) -> String {
    let mut object = json!({"row": row});
    if !prediction.label.is_empty() {
        object["label"] = json!(prediction.label);
        object["probabilities"] = json!(prediction.probabilities);
    }
    if let Some(value) = prediction.value {
        object["value"] = json!(value);
    }
    if !prediction.quantiles.is_empty() {
        let quantiles = prediction.quantiles.iter().map(|q| json!({"level": q.level, "value": q.value}));
        object["quantiles"] = quantiles.collect();
    }
    let warnings = prediction
        .warnings
        .iter()
        .map(|warning| json!({"kind": kind(warning), "feature": warning.feature, "message": warning.message}));
    object["warnings"] = Json::Array(warnings.collect());
    object["prediction_id"] = json!(prediction.prediction_id);
    object["model"] = json!(response.model);
    object["version"] = json!(response.version);
    object.to_string()
}

fn kind(warning: &Warning) -> String {
    match warning.kind() {
        warning::Kind::Unspecified => "unspecified".into(),
        known => known.as_str_name().to_ascii_lowercase(),
    }
}

/// All rows in one table, and who answered.
pub(super) fn table(responses: &[PredictResponse], output: Output) -> Vec<String> {
    let predictions = || responses.iter().flat_map(|response| &response.predictions);
    let classes = predictions().any(|prediction| !prediction.label.is_empty());
    let warned = predictions().any(|prediction| !prediction.warnings.is_empty());
    let levels: Vec<f64> =
        predictions().next().map(|first| first.quantiles.iter().map(|q| q.level).collect()).unwrap_or_default();

    let mut header = vec!["row".to_owned()];
    if classes {
        header.extend(["label".into(), "probability".into()]);
    } else if levels.is_empty() {
        header.push("value".into());
    }
    header.extend(levels.iter().map(|level| format!("q{level}")));
    if warned {
        header.push("warnings".into());
    }
    header.push("prediction id".into());

    let mut table = Table::new();
    table.load_style(STYLE);
    if output.terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(header);
    for (row, prediction) in predictions().enumerate() {
        let number = |value: Option<f64>| {
            Cell::new(value.map(|value| value.to_string()).unwrap_or_default()).set_alignment(CellAlignment::Right)
        };
        let mut cells = vec![Cell::new(row).set_alignment(CellAlignment::Right)];
        if classes {
            let probability = prediction.probabilities.get(&prediction.label);
            cells.push(Cell::new(shown(&prediction.label)));
            cells.push(Cell::new(probability.map(|p| format!("{p:.4}")).unwrap_or_default()));
        } else if levels.is_empty() {
            cells.push(number(prediction.value));
        }
        cells.extend(levels.iter().map(|level| {
            number(prediction.quantiles.iter().find(|quantile| quantile.level == *level).map(|q| q.value))
        }));
        if warned {
            let warnings: Vec<String> = prediction.warnings.iter().map(sentence).collect();
            cells.push(Cell::new(warnings.join("\n")));
        }
        let id = shown(&prediction.prediction_id);
        let hidden = id.chars().count().saturating_sub(SHORT_ID);
        cells.push(Cell::new(format!("…{}", id.chars().skip(hidden).collect::<String>())));
        table.add_row(cells);
    }
    let rows = predictions().count();
    let mut lines = Vec::new();
    if rows > 0 {
        lines.extend(table.lines().map(|line| line.trim_end().to_owned()));
    }
    if let Some(response) = responses.last() {
        let by = format!(
            "{} row{} by {} version {}",
            count(rows as u64),
            if rows == 1 { "" } else { "s" },
            shown(&response.model),
            shown(&response.version)
        );
        lines.push(output.paint.dim(by));
    }
    lines
}

fn sentence(warning: &Warning) -> String {
    if warning.feature.is_empty() {
        return shown(&warning.message);
    }
    shown(&format!("{} {}: {}", warning.feature, kind(warning), warning.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;

    const PLAIN: Output = Output { terminal: false, paint: Paint { colour: false } };

    fn binary() -> PredictResponse {
        let warning = Warning { kind: 1, feature: "age".into(), message: "got 200, used 90.0".into() };
        let prediction = |label: &str, p: f64, warnings| Prediction {
            prediction_id: "0123456789abcdef0123456789abcdef".into(),
            label: label.into(),
            probabilities: [("<=50K".into(), 1.0 - p), (">50K".into(), p)].into(),
            warnings,
            ..Prediction::default()
        };
        let predictions = vec![prediction("<=50K", 0.25, vec![]), prediction(">50K", 0.75, vec![warning])];
        PredictResponse { model: "adult".into(), version: "1".into(), predictions, ..PredictResponse::default() }
    }

    #[test]
    fn a_classification_has_label_and_probability() {
        let expected = "
 row   label   probability   warnings                          prediction id
─────────────────────────────────────────────────────────────────────────────
   0   <=50K   0.7500                                          …89abcdef
   1   >50K    0.7500        age clamped: got 200, used 90.0   …89abcdef
2 rows by adult version 1";
        assert_eq!(format!("\n{}", table(&[binary()], PLAIN).join("\n")), expected);
    }

    #[test]
    fn a_regression_has_values() {
        let prediction = Prediction { value: Some(2.5), prediction_id: "ab".into(), ..Prediction::default() };
        let response = PredictResponse { predictions: vec![prediction], ..PredictResponse::default() };
        let text = table(&[response], PLAIN).join("\n");
        assert!(text.contains("value") && text.contains("2.5") && !text.contains("label"), "{text}");
    }

    #[test]
    fn json_lines_have_everything() {
        let lines = json(&binary(), 100);
        let last: Json = serde_json::from_str(&lines[1]).expect("JSON");
        assert_eq!(
            last,
            json!({
                "row": 101, "label": ">50K", "probabilities": {"<=50K": 0.25, ">50K": 0.75},
                "warnings": [{"kind": "clamped", "feature": "age", "message": "got 200, used 90.0"}],
                "prediction_id": "0123456789abcdef0123456789abcdef", "model": "adult", "version": "1",
            })
        );
    }
}
