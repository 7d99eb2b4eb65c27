//! XGBoost through its C API: in place on a dense array, and by a DMatrix made for each call.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

use super::{function, load};
use crate::Outcome;
use crate::engine::Engine;

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(*const Handle, u64, *mut Handle) -> c_int;
type Load = unsafe extern "C" fn(Handle, *const c_char) -> c_int;
type Set = unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> c_int;
type Dense = unsafe extern "C" fn(
    Handle,
    *const c_char,
    *const c_char,
    Handle,
    *mut *const u64,
    *mut u64,
    *mut *const f32,
) -> c_int;
type FromMatrix = unsafe extern "C" fn(*const f32, u64, u64, f32, *mut Handle) -> c_int;
type Free = unsafe extern "C" fn(Handle) -> c_int;
type Predict = unsafe extern "C" fn(Handle, Handle, *const c_char, *mut *const u64, *mut u64, *mut *const f32) -> c_int;

/// Raw margins, all trees.
const IN_PLACE: &CStr = c"{\"type\": 1, \"training\": false, \"iteration_begin\": 0, \"iteration_end\": 0, \"strict_shape\": false, \"cache_id\": 0, \"missing\": NaN}";
const BY_MATRIX: &CStr =
    c"{\"type\": 1, \"training\": false, \"iteration_begin\": 0, \"iteration_end\": 0, \"strict_shape\": false}";

fn booster(library: &'static libloading::Library, model: &Path) -> Outcome<Handle> {
    let create: Create = function(library, "XGBoosterCreate")?;
    let read: Load = function(library, "XGBoosterLoadModel")?;
    let set: Set = function(library, "XGBoosterSetParam")?;
    let path = CString::new(model.to_str().ok_or("path is not UTF-8")?)?;
    let mut booster = std::ptr::null_mut();
    // SAFETY: as XGBoost's c_api.h says; every pointer outlives its call.
    let codes = unsafe {
        [
            create(std::ptr::null(), 0, &raw mut booster),
            read(booster, path.as_ptr()),
            set(booster, c"nthread".as_ptr(), c"1".as_ptr()),
        ]
    };
    if codes == [0, 0, 0] { Ok(booster) } else { Err(format!("XGBoost answered {codes:?}").into()) }
}

/// Takes the answers from XGBoost's own memory.
fn take(code: c_int, answers: *const f32, count: usize, out: &mut Vec<f64>) -> Outcome<()> {
    if code != 0 {
        return Err(format!("XGBoost answered {code}").into());
    }
    // SAFETY: XGBoost keeps `count` numbers there until its next call.
    out.extend(unsafe { std::slice::from_raw_parts(answers, count) }.iter().map(|&answer| f64::from(answer)));
    Ok(())
}

/// `XGBoosterPredictFromDense`.
pub struct InPlace {
    name: String,
    columns: usize,
    booster: Handle,
    dense: Dense,
    floats: Vec<f32>,
    /// The description of `floats`, and of how many rows.
    array: (CString, usize),
}

impl InPlace {
    pub fn new(name: &str, library: &Path, model: &Path, columns: usize) -> Outcome<Self> {
        let library = load(library)?;
        let (booster, dense) = (booster(library, model)?, function(library, "XGBoosterPredictFromDense")?);
        Ok(Self { name: name.to_owned(), columns, booster, dense, floats: Vec::new(), array: (c"".to_owned(), 0) })
    }
}

impl Engine for InPlace {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        let (count, before) = (rows.len() / self.columns, self.floats.as_ptr());
        self.floats.clear();
        self.floats.extend(rows.iter().map(|&value| value as f32));
        if self.array.1 != count || self.floats.as_ptr() != before {
            let (address, columns) = (self.floats.as_ptr() as usize, self.columns);
            let text = format!(
                "{{\"data\": [{address}, true], \"shape\": [{count}, {columns}], \"typestr\": \"<f4\", \"version\": 3}}"
            );
            self.array = (CString::new(text)?, count);
        }
        let (mut shape, mut dimensions, mut answers) = (std::ptr::null(), 0, std::ptr::null());
        // SAFETY: the array describes `floats`, which lives on.
        let code = unsafe {
            (self.dense)(
                self.booster,
                self.array.0.as_ptr(),
                IN_PLACE.as_ptr(),
                std::ptr::null_mut(),
                &raw mut shape,
                &raw mut dimensions,
                &raw mut answers,
            )
        };
        take(code, answers, count, out)
    }
}

/// `XGDMatrixCreateFromMat` and `XGBoosterPredictFromDMatrix`.
pub struct DMatrix {
    name: String,
    columns: usize,
    booster: Handle,
    create: FromMatrix,
    predict: Predict,
    free: Free,
    floats: Vec<f32>,
}

impl DMatrix {
    pub fn new(name: &str, library: &Path, model: &Path, columns: usize) -> Outcome<Self> {
        let library = load(library)?;
        Ok(Self {
            name: name.to_owned(),
            columns,
            booster: booster(library, model)?,
            create: function(library, "XGDMatrixCreateFromMat")?,
            predict: function(library, "XGBoosterPredictFromDMatrix")?,
            free: function(library, "XGDMatrixFree")?,
            floats: Vec::new(),
        })
    }
}

impl Engine for DMatrix {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        let count = rows.len() / self.columns;
        self.floats.clear();
        self.floats.extend(rows.iter().map(|&value| value as f32));
        let mut matrix = std::ptr::null_mut();
        let (mut shape, mut dimensions, mut answers) = (std::ptr::null(), 0, std::ptr::null());
        // SAFETY: XGBoost copies the floats; the matrix is freed after its answers were taken.
        unsafe {
            let made =
                (self.create)(self.floats.as_ptr(), count as u64, self.columns as u64, f32::NAN, &raw mut matrix);
            if made != 0 {
                return Err(format!("XGBoost answered {made}").into());
            }
            let code = (self.predict)(
                self.booster,
                matrix,
                BY_MATRIX.as_ptr(),
                &raw mut shape,
                &raw mut dimensions,
                &raw mut answers,
            );
            let taken = take(code, answers, count, out);
            (self.free)(matrix);
            taken
        }
    }
}
