//! How the outputs of a server of the Open Inference Protocol are to be understood: by configuration, else by the names that
//! understudy-server gives them, else by what they are, where that leaves no doubt.

use understudy::{inference::model_metadata_response::TensorMetadata, v1::Task};

/// The name of understudy-server's label output.
const LABEL: &str = "label";
/// The names of its outputs with numbers; a model has one of them.
const SCORES: [&str; 3] = ["probabilities", "value", "quantiles"];

/// What is configured about one side's outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// The output with each row's class: text, or an integer.
    pub label: Option<String>,
    /// The output with each row's probabilities, value or quantiles; of a tensor one or several, separated by commas.
    pub scores: Option<String>,
    /// In the order of the probabilities, and of integer labels.
    pub classes: Vec<String>,
    /// How a class follows from scores where there is no label.
    pub decision: Option<Decision>,
}

/// How a class follows from scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// The first of the largest.
    Argmax,
    /// Binary: the positive class when its probability is greater than this.
    Threshold(f64),
}

/// How one side's answers are read: names of outputs, and classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    label: Option<String>,
    /// Absent: whichever of understudy-server's own there is.
    scores: Option<String>,
    /// Neither was configured or guessed: both are called as understudy-server calls them.
    foreign: bool,
    classes: Vec<String>,
    /// Every class is called like an integer: then an integer label is a name and no index.
    numbered: bool,
    decision: Option<Decision>,
    /// The outputs of which all elements are compared, in this order; empty: there are labels or scores.
    tensors: Vec<String>,
}

impl Reading {
    /// Outputs called as understudy-server calls them.
    pub fn own(classes: &[String]) -> Self {
        Self::of(None, None, false, classes, None)
    }

    fn of(
        label: Option<String>,
        scores: Option<String>,
        foreign: bool,
        classes: &[String],
        decision: Option<Decision>,
    ) -> Self {
        let numbered = classes.iter().all(|class| class.parse::<i64>().is_ok());
        Self { label, scores, foreign, classes: classes.to_vec(), numbered, decision, tensors: Vec::new() }
    }

    /// How the outputs that a server describes are read; `described` is empty when it describes none. `side` is `primary` or
    /// `candidate`: the beginning of the settings' names.
    ///
    /// # Errors
    /// A configured output that does not exist, or outputs that could be one thing or another: with their names, and the
    /// settings that decide.
    pub fn resolve(
        side: &str,
        configured: &Outputs,
        described: &[TensorMetadata],
        task: Task,
        classes: &[String],
    ) -> Result<Self, String> {
        let Outputs { label, scores, decision, .. } = configured;
        let has = |name: &str| described.iter().any(|output| output.name == name);
        if task == Task::Tensor {
            return Self::of_tensors(side, configured, described);
        }
        if label.is_some() || scores.is_some() {
            for (setting, name) in [("label", label), ("scores", scores)] {
                if let Some(name) = name.as_deref().filter(|name| !described.is_empty() && !has(name)) {
                    return Err(format!("{side}-{setting}-output is {name:?}, outputs are {}", list(described)));
                }
            }
            return Ok(Self::of(label.clone(), scores.clone(), true, classes, *decision));
        }
        if described.is_empty() || has(LABEL) || SCORES.into_iter().any(has) {
            return Ok(Self::of(None, None, false, classes, *decision));
        }
        let floats: Vec<_> = described.iter().filter(|output| is_float(&output.datatype)).collect();
        let others: Vec<_> = described.iter().filter(|output| !is_float(&output.datatype)).collect();
        let name = |output: &&TensorMetadata| Some(output.name.clone());
        let (label, scores) = match (task, floats.as_slice(), others.as_slice()) {
            (Task::Binary | Task::Multiclass, [scores], []) | (Task::Regression | Task::Quantile, [scores], _) => {
                (None, name(scores))
            }
            (Task::Binary | Task::Multiclass, [], [label]) => (name(label), None),
            (Task::Binary | Task::Multiclass, [scores], [label]) => (name(label), name(scores)),
            _ => {
                return Err(format!(
                    "{side}-label-output and {side}-scores-output must say which of the outputs are label and scores: {}",
                    list(described)
                ));
            }
        };
        Ok(Self::of(label, scores, true, classes, *decision))
    }

    fn of_tensors(side: &str, configured: &Outputs, described: &[TensorMetadata]) -> Result<Self, String> {
        if configured.label.is_some() {
            return Err(format!("{side}-label-output: a tensor has no label; {side}-scores-output names it"));
        }
        let tensors: Vec<String> = match (&configured.scores, described) {
            (Some(names), _) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            (None, [only]) => vec![only.name.clone()],
            (None, _) => {
                return Err(format!(
                    "{side}-scores-output must say which of the outputs are compared: {}",
                    list(described)
                ));
            }
        };
        let known = |name: &String| described.is_empty() || described.iter().any(|output| output.name == *name);
        if let Some(unknown) = tensors.iter().find(|name| !known(name)) {
            return Err(format!("{side}-scores-output is {unknown:?}, outputs are {}", list(described)));
        }
        Ok(Self { tensors, ..Self::of(None, None, true, &[], None) })
    }

    /// The outputs of which all elements are compared.
    pub(super) fn tensors(&self) -> &[String] {
        &self.tensors
    }

    pub(super) fn is_label(&self, output: &str) -> bool {
        if self.foreign { self.label.as_deref() == Some(output) } else { output == LABEL }
    }

    pub(super) fn is_scores(&self, output: &str) -> bool {
        if self.foreign { self.scores.as_deref() == Some(output) } else { SCORES.contains(&output) }
    }

    /// A binary model's: then a single column is the probability of the second class.
    pub(super) fn is_binary(&self) -> bool {
        self.classes.len() == 2
    }

    /// The class that an integer label means: its name where all classes are called like integers, else its index.
    pub(super) fn class_of(&self, integer: i64) -> Option<u32> {
        if self.numbered {
            let called = |class: &String| class.parse() == Ok(integer);
            return self.classes.iter().position(called).map(|index| index as u32);
        }
        u32::try_from(integer).ok().filter(|index| (*index as usize) < self.classes.len())
    }

    /// How a class follows from a row of scores, if that is configured.
    pub(super) fn decision(&self) -> Option<Decision> {
        self.decision.filter(|_| !self.classes.is_empty())
    }
}

impl Decision {
    /// The class that follows from one row of scores; none from a row with NaN in it.
    pub(super) fn class(self, row: &[f64]) -> Option<u32> {
        if row.iter().any(|score| score.is_nan()) {
            return None;
        }
        match self {
            Self::Threshold(threshold) => row.get(1).map(|score| u32::from(*score > threshold)),
            Self::Argmax => {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter().position(|score| *score == largest).map(|index| index as u32)
            }
        }
    }
}

/// What a primary predicts whose server does not say so: by its configured classes, by understudy-server's names of outputs.
///
/// # Errors
/// The setting that must say it.
pub fn task(configured: &Outputs, described: &[TensorMetadata]) -> Result<Task, String> {
    let find = |name: &str| described.iter().find(|output| output.name == name);
    let columns = |output: &TensorMetadata| output.shape.get(1).copied().unwrap_or(1);
    match (configured.classes.len(), find("probabilities").map(columns)) {
        (2, _) | (0, Some(2)) => Ok(Task::Binary),
        (3.., _) | (0, Some(3..)) => Ok(Task::Multiclass),
        _ if find("value").is_some() => Ok(Task::Regression),
        _ if find("quantiles").is_some() => Ok(Task::Quantile),
        _ => Err(format!(
            "primary-task must say what the primary predicts (and primary-classes, if it is a classification); its outputs are {}",
            list(described)
        )),
    }
}

/// A type of floating-point numbers.
pub(super) fn is_float(datatype: &str) -> bool {
    matches!(datatype, "FP16" | "BF16" | "FP32" | "FP64")
}

fn list(outputs: &[TensorMetadata]) -> String {
    if outputs.is_empty() {
        return "not described".into();
    }
    let each = |output: &TensorMetadata| {
        format!("'{}' {} {:?}", output.name.escape_debug(), output.datatype.escape_debug(), output.shape)
    };
    outputs.iter().map(each).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(list: &[(&str, &str)]) -> Vec<TensorMetadata> {
        let output = |&(name, datatype): &(&str, &str)| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![-1, 1],
        };
        list.iter().map(output).collect()
    }

    fn reads(task: Task, list: &[(&str, &str)]) -> Result<(Option<String>, Option<String>), String> {
        Reading::resolve("primary", &Outputs::default(), &outputs(list), task, &[]).map(|it| (it.label, it.scores))
    }

    #[test]
    fn outputs_are_guessed_only_where_there_is_no_doubt() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(reads(Task::Binary, &[("p", "FP32")]), Ok((None, some("p"))));
        assert_eq!(reads(Task::Binary, &[("p", "FP32"), ("c", "INT64")]), Ok((some("c"), some("p"))));
        assert_eq!(reads(Task::Multiclass, &[("c", "BYTES")]), Ok((some("c"), None)));
        assert_eq!(reads(Task::Regression, &[("y", "FP64"), ("id", "BYTES")]), Ok((None, some("y"))));
        for (task, list) in [
            (Task::Binary, &[("a", "FP32"), ("b", "FP32")][..]),
            (Task::Binary, &[("a", "INT64"), ("b", "BYTES")]),
            (Task::Regression, &[("a", "FP32"), ("b", "FP32")]),
            (Task::Quantile, &[("a", "INT64")]),
        ] {
            let error = reads(task, list).expect_err("ambiguous");
            let named = list.iter().all(|(name, _)| error.contains(&format!("'{name}'")));
            assert!(
                named && error.contains("primary-label-output") && error.contains("primary-scores-output"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_configured_must_exist() {
        let configured = Outputs { scores: Some("q".into()), ..Outputs::default() };
        let error = Reading::resolve("candidate", &configured, &outputs(&[("p", "FP32")]), Task::Binary, &[]);
        let error = error.expect_err("no such output");
        assert!(
            error.contains("candidate-scores-output") && error.contains("\"q\"") && error.contains("'p'"),
            "{error}"
        );
    }

    #[test]
    fn integers_are_names_where_all_classes_are_integers() {
        let of = |names: &[&str]| Reading::own(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!([0, 1, 2].map(|n| of(&["1", "2"]).class_of(n)), [None, Some(0), Some(1)]);
        assert_eq!([-1, 0, 1, 2].map(|n| of(&["no", "yes"]).class_of(n)), [None, Some(0), Some(1), None]);
    }

    #[test]
    fn what_a_primary_predicts_is_asked_for_when_nothing_says_it() {
        let classes = |n: usize| Outputs { classes: vec!["x".into(); n], ..Outputs::default() };
        assert_eq!(task(&classes(2), &[]), Ok(Task::Binary));
        assert_eq!(task(&classes(4), &[]), Ok(Task::Multiclass));
        assert_eq!(task(&classes(0), &outputs(&[("value", "FP64")])), Ok(Task::Regression));
        let error = task(&classes(0), &outputs(&[("out", "FP32")])).expect_err("probability or value?");
        assert!(error.contains("primary-task") && error.contains("'out'"), "{error}");
    }
}
