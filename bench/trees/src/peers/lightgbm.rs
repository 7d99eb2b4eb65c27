//! LightGBM through its C API: `SingleRowFast` for one row, `PredictForMat` for more.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

use super::{function, load};
use crate::Outcome;
use crate::engine::Engine;

const FLOAT64: c_int = 1;
const RAW_SCORE: c_int = 1;
const PARAMETERS: &CStr = c"num_threads=1";

type Create = unsafe extern "C" fn(*const c_char, *mut c_int, *mut *mut c_void) -> c_int;
type FastInit =
    unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int, c_int, i32, *const c_char, *mut *mut c_void) -> c_int;
type Fast = unsafe extern "C" fn(*mut c_void, *const c_void, *mut i64, *mut f64) -> c_int;
type Matrix = unsafe extern "C" fn(
    *mut c_void,
    *const c_void,
    c_int,
    i32,
    i32,
    c_int,
    c_int,
    c_int,
    c_int,
    *const c_char,
    *mut i64,
    *mut f64,
) -> c_int;

pub struct LightGbm {
    name: String,
    columns: usize,
    booster: *mut c_void,
    configuration: *mut c_void,
    fast: Fast,
    matrix: Matrix,
}

impl LightGbm {
    pub fn new(name: &str, library: &Path, model: &Path, columns: usize) -> Outcome<Self> {
        let library = load(library)?;
        let create: Create = function(library, "LGBM_BoosterCreateFromModelfile")?;
        let init: FastInit = function(library, "LGBM_BoosterPredictForMatSingleRowFastInit")?;
        let (mut booster, mut iterations, mut configuration) = (std::ptr::null_mut(), 0, std::ptr::null_mut());
        let path = CString::new(model.to_str().ok_or("path is not UTF-8")?)?;
        // SAFETY: as LightGBM's c_api.h says; every pointer outlives its call.
        let codes = unsafe {
            [
                create(path.as_ptr(), &raw mut iterations, &raw mut booster),
                init(booster, RAW_SCORE, 0, -1, FLOAT64, columns as i32, PARAMETERS.as_ptr(), &raw mut configuration),
            ]
        };
        if codes != [0, 0] {
            return Err(format!("LightGBM answered {codes:?}").into());
        }
        let (fast, matrix) = (
            function(library, "LGBM_BoosterPredictForMatSingleRowFast")?,
            function(library, "LGBM_BoosterPredictForMat")?,
        );
        Ok(Self { name: name.to_owned(), columns, booster, configuration, fast, matrix })
    }
}

impl Engine for LightGbm {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        let (count, first) = (rows.len() / self.columns, out.len());
        out.resize(first + count, 0.0);
        let (values, answers) = (rows.as_ptr().cast(), out[first..].as_mut_ptr());
        let mut length = 0;
        // SAFETY: `rows` holds `count` rows of `columns` doubles, `answers` has room for `count`.
        let code = unsafe {
            if count == 1 {
                (self.fast)(self.configuration, values, &raw mut length, answers)
            } else {
                (self.matrix)(
                    self.booster,
                    values,
                    FLOAT64,
                    count as i32,
                    self.columns as i32,
                    1,
                    RAW_SCORE,
                    0,
                    -1,
                    PARAMETERS.as_ptr(),
                    &raw mut length,
                    answers,
                )
            }
        };
        if code != 0 || length != count as i64 { Err(format!("LightGBM answered {code}").into()) } else { Ok(()) }
    }
}
