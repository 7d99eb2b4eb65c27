//! The bodies of the fuzz targets. `model/tests/it/mutated.rs` runs the same on a stable toolchain.

#[path = "../../model/tests/it/mutated/body.rs"]
mod body;
#[path = "../../tests/requests/body.rs"]
mod request;

use std::cell::RefCell;
use std::collections::HashMap;

use body::{Files, TARGETS, Target};

/// Puts the bytes in the place of the target's file and loads the package.
pub fn run(name: &str, bytes: &[u8]) {
    thread_local! {
        static PACKAGES: RefCell<HashMap<&'static str, Files>> = RefCell::new(HashMap::new());
    }
    let target: Target = *TARGETS.iter().find(|target| target.name == name).expect("a target of the list");
    PACKAGES.with_borrow_mut(|packages| {
        let good = packages.entry(target.name).or_insert_with(|| body::read(target.package));
        body::load(target, good, bytes);
    });
}

/// Predicts the bytes, as doubles, with every good package.
pub fn predict(bytes: &[u8]) {
    thread_local! {
        static MODELS: Vec<model::Model> = {
            let names = ["lightgbm", "xgboost-json", "catboost", "forest", "mlp", "linear"];
            names.iter().filter_map(|name| model::Model::from_files(body::read(name)).ok()).collect()
        };
    }
    let values: Vec<f64> = bytes.chunks(8).map(body::number).collect();
    MODELS.with(|models| models.iter().for_each(|model| body::predict(model, &values)));
}

/// Answers the bytes as a `ModelInferRequest` and as a `PredictRequest` to the example's model.
pub fn infer(bytes: &[u8]) {
    thread_local! {
        static ADULT: request::Subject = {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/adult/1");
            request::Subject::new(model::Model::load(path.as_ref()).expect("the example"))
        };
    }
    ADULT.with(|adult| {
        adult.infer(bytes);
        adult.predict(bytes);
    });
}
