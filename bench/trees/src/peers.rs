//! The peers: their libraries are loaded at run time, from where they were installed or compiled.
//!
//! Nothing is unloaded: a library's threads and globals live as long as the process.

mod catboost;
mod lightgbm;
mod lleaves;
mod onnxruntime;
mod python;
mod tl2cgen;
mod xgboost;

use std::path::Path;

use libloading::Library;

use crate::Outcome;
use crate::case::{Case, Peer};
use crate::engine::Engine;
pub use python::Process;

/// The engine of a peer.
pub fn engine(case: &Case, peer: &Peer, process: &Process) -> Outcome<Box<dyn Engine>> {
    let library = || peer.library.as_deref().ok_or("no library");
    let model = || peer.model.as_deref().ok_or("no model");
    Ok(match peer.kind.as_deref().unwrap_or_default() {
        "lightgbm" => Box::new(lightgbm::LightGbm::new(&peer.name, library()?, model()?, case.columns)?),
        "lleaves" => Box::new(lleaves::Lleaves::new(&peer.name, library()?, case.columns)?),
        "tl2cgen" if peer.entry.as_deref() == Some("f32") => {
            Box::new(tl2cgen::Tl2cgen::<f32>::new(&peer.name, library()?, case.columns)?)
        }
        "tl2cgen" => Box::new(tl2cgen::Tl2cgen::<f64>::new(&peer.name, library()?, case.columns)?),
        "xgboost" => Box::new(xgboost::InPlace::new(&peer.name, library()?, model()?, case.columns)?),
        "xgboost_dmatrix" => Box::new(xgboost::DMatrix::new(&peer.name, library()?, model()?, case.columns)?),
        "catboost_cpp" => Box::new(catboost::Exported::new(&peer.name, library()?, case.columns)?),
        "onnxruntime" => {
            Box::new(onnxruntime::OnnxRuntime::new(&peer.name, library()?, model()?, case.columns, case.library)?)
        }
        "python" => Box::new(process.peer(case, peer)?),
        other => return Err(format!("unknown kind of peer: {other:?}").into()),
    })
}

/// A loaded library, for the rest of the process.
fn load(path: &Path) -> Outcome<&'static Library> {
    // SAFETY: the libraries are the peers', installed or compiled by our own script.
    let library = unsafe { Library::new(path) }.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Box::leak(Box::new(library)))
}

/// A function of a library. The caller gives its true type.
fn function<F: Copy>(library: &'static Library, name: &str) -> Outcome<F> {
    // SAFETY: the types are those of the libraries' headers.
    let symbol = unsafe { library.get::<F>(name.as_bytes()) }.map_err(|error| format!("{name}: {error}"))?;
    Ok(*symbol)
}
