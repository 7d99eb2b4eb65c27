//! Our engines.

use model::forest::{Forest, Precision, Spec};
use model::{Batch, Link, catboost, lightgbm, xgboost};

use crate::Outcome;
use crate::case::{Case, Library};
use crate::engine::Engine;

/// The engine of a booster: its margins, behind a name.
macro_rules! ours {
    ($name:expr, $case:expr, $booster:expr) => {{
        let booster = $booster;
        let about = booster.engine();
        let margins = move |batch: &Batch, out: &mut Vec<f64>| Ok(booster.margins(batch, out)?);
        Ours::new($name, about, $case.columns, margins)
    }};
}

/// Our engine for a case as a server would use it; with `ways` also every single way of evaluation.
pub fn engines(case: &Case, ways: bool) -> Outcome<Vec<Box<dyn Engine>>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    let bytes = std::fs::read(&case.model)?;
    match case.library {
        Library::LightGbm => {
            use lightgbm::{Booster, Way};
            engines.push(ours!("ours", case, Booster::parse(&bytes)?));
            let each = [Way::Tables, Way::Steps, Way::Walk, Way::Blocks, Way::Reference];
            for way in each.into_iter().filter(|_| ways) {
                let Some(booster) = Booster::parse_in(&bytes, way)? else { continue };
                engines.push(ours!(&format!("ours: {way:?}"), case, booster));
            }
        }
        Library::XGBoost => {
            use xgboost::{Booster, Way};
            engines.push(ours!("ours", case, Booster::parse(&bytes)?));
            let each = [Way::Tables, Way::Steps, Way::Walk, Way::Blocks, Way::Reference];
            for way in each.into_iter().filter(|_| ways) {
                let Some(booster) = Booster::parse_in(&bytes, way)? else { continue };
                engines.push(ours!(&format!("ours: {way:?}"), case, booster));
            }
        }
        Library::CatBoost => {
            use catboost::{Booster, Way};
            engines.push(ours!("ours", case, Booster::parse(&bytes, &[])?));
            for way in [Way::Rows, Way::Blocks, Way::Walk, Way::Reference].into_iter().filter(|_| ways) {
                let Some(booster) = Booster::parse_in(&bytes, &[], way)? else { continue };
                engines.push(ours!(&format!("ours: {way:?}"), case, booster));
            }
        }
        Library::Forest => {
            let arrays = std::fs::read(case.arrays.as_ref().ok_or("no arrays")?)?;
            let spec = Spec { input: Precision::Single, start: vec![0.0], average: true, link: Link::Identity };
            let positions: Vec<usize> = (0..case.columns).collect();
            let forest = Forest::load(&arrays, spec, &positions)?;
            let about = forest.engine();
            let predict = move |batch: &Batch, out: &mut Vec<f64>| Ok(forest.predict(batch, out)?);
            engines.push(Ours::new("ours", about, case.columns, predict));
        }
    }
    Ok(engines)
}

/// A model behind a batch that is filled anew for every call.
struct Ours<F> {
    name: String,
    about: String,
    batch: Batch,
    margins: F,
}

impl<F: FnMut(&Batch, &mut Vec<f64>) -> Outcome<()> + 'static> Ours<F> {
    fn new(name: &str, about: String, columns: usize, margins: F) -> Box<dyn Engine> {
        Box::new(Self { name: name.to_owned(), about, batch: Batch::new(columns), margins })
    }
}

impl<F: FnMut(&Batch, &mut Vec<f64>) -> Outcome<()>> Engine for Ours<F> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn describe(&self) -> String {
        self.about.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        self.batch.clear();
        for row in rows.chunks_exact(self.batch.width()) {
            self.batch.push_row().copy_from_slice(row);
        }
        (self.margins)(&self.batch, out)
    }
}
