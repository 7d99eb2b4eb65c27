//! What is done to a good package, by the numbers that the test's table has, and what has to come of it.

pub(crate) mod catboost;
pub(crate) mod forest;
pub(crate) mod lightgbm;
pub(crate) mod network;
pub(crate) mod package;
pub(crate) mod xgboost;

use crate::package::Package;

/// What has to come of a check.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    /// Exit code 1, and this text.
    Refused(&'static str),
    /// Exit code 0.
    Accepted,
    /// Exit code 0 or 1, and this text: how many of the packages in a repository may serve.
    Either(&'static str),
}

pub(crate) struct Case {
    /// M1 to M43.
    pub(crate) number: u8,
    /// The good package.
    pub(crate) kind: &'static str,
    pub(crate) what: &'static str,
    pub(crate) expect: Expect,
    pub(crate) spoil: Box<dyn Fn(&mut Package)>,
}

/// The cases of one kind of package.
pub(crate) struct Cases {
    kind: &'static str,
    pub(crate) all: Vec<Case>,
}

impl Cases {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, all: Vec::new() }
    }

    fn add(&mut self, number: u8, what: &'static str, expect: Expect, spoil: impl Fn(&mut Package) + 'static) {
        self.all.push(Case { number, kind: self.kind, what, expect, spoil: Box::new(spoil) });
    }

    pub(crate) fn refused(
        &mut self,
        number: u8,
        what: &'static str,
        reason: &'static str,
        spoil: impl Fn(&mut Package) + 'static,
    ) {
        self.add(number, what, Expect::Refused(reason), spoil);
    }

    pub(crate) fn accepted(&mut self, number: u8, what: &'static str, spoil: impl Fn(&mut Package) + 'static) {
        self.add(number, what, Expect::Accepted, spoil);
    }

    pub(crate) fn either(
        &mut self,
        number: u8,
        what: &'static str,
        words: &'static str,
        spoil: impl Fn(&mut Package) + 'static,
    ) {
        self.add(number, what, Expect::Either(words), spoil);
    }
}

/// Where a case has nothing to spoil, and why: number, kind, reason.
pub(crate) const NOT_APPLICABLE: [(u8, &str, &str); 15] = [
    (1, "catboost", "a tree is a list of splits and a table of leaves: there are no children (M1 to M6)"),
    (10, "xgboost", "JSON has no infinities; a threshold is finite in UBJSON that XGBoost writes"),
    (19, "lightgbm", "the text has no start: it is in the first trees' leaves"),
    (21, "lightgbm", "the text has no levels"),
    (23, "others", "UBJSON is XGBoost's only"),
    (24, "onnx", "there is no such node; what stands for it here is a path in graph.json"),
    (25, "onnx", "there is no such node, so there are no operators of its own"),
    (26, "trees", "safetensors hold forests and networks only (M26 to M29)"),
    (30, "all", "nothing reads pickles, joblib or .npy: they are files of a wrong form like others"),
    (36, "all", "nothing unpacks: a zip is no directory, and as a model's file it is no model"),
    (37, "all", "nothing unpacks: a tar is no directory"),
    (41, "all", "a model is loaded when the server starts and stays: there is no reload to compare inputs with"),
    (42, "all", "versions are named by the configuration: none replaces another while the server runs"),
    (43, "all", "the only source is a directory; nothing is fetched"),
    (38, "others", "every loader gets the bytes that were hashed"),
];
