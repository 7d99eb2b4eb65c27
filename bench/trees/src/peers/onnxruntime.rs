//! ONNX Runtime through its C API, one thread, sequential.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;

use ort_sys::{
    ONNXTensorElementDataType, OrtAllocatorType, OrtApi, OrtApiBase, OrtEnv, OrtLoggingLevel, OrtMemType,
    OrtMemoryInfo, OrtSession, OrtStatusPtr, OrtValue,
};

use super::{function, load};
use crate::Outcome;
use crate::case::Library;
use crate::engine::Engine;

/// As old as can be: what is called here has been there since version 1.
const API: u32 = 17;

pub struct OnnxRuntime {
    name: String,
    columns: usize,
    api: &'static OrtApi,
    session: *mut OrtSession,
    memory: *mut OrtMemoryInfo,
    floats: Vec<f32>,
    probabilities: bool,
}

impl OnnxRuntime {
    pub fn new(name: &str, library: &Path, model: &Path, columns: usize, kind: Library) -> Outcome<Self> {
        let base: unsafe extern "system" fn() -> *const OrtApiBase = function(load(library)?, "OrtGetApiBase")?;
        let path = CString::new(model.to_str().ok_or("path is not UTF-8")?)?;
        let (mut environment, mut options) = (std::ptr::null_mut::<OrtEnv>(), std::ptr::null_mut());
        let (mut session, mut memory) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: as ONNX Runtime's C API says; every pointer outlives its call.
        let api = unsafe {
            let api = ((*base()).GetApi)(API).as_ref().ok_or("this ONNX Runtime is too old")?;
            let level = OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR;
            check(api, (api.CreateEnv)(level, c"bench".as_ptr(), &raw mut environment))?;
            check(api, (api.CreateSessionOptions)(&raw mut options))?;
            check(api, (api.SetIntraOpNumThreads)(options, 1))?;
            check(api, (api.SetInterOpNumThreads)(options, 1))?;
            check(api, (api.CreateSession)(environment, path.as_ptr(), options, &raw mut session))?;
            let (allocator, kind) = (OrtAllocatorType::OrtArenaAllocator, OrtMemType::OrtMemTypeDefault);
            check(api, (api.CreateCpuMemoryInfo)(allocator, kind, &raw mut memory))?;
            api
        };
        // What the trainers' margins are for the library: a forest's are probabilities already.
        let probabilities = kind != Library::Forest;
        Ok(Self { name: name.to_owned(), columns, api, session, memory, floats: Vec::new(), probabilities })
    }
}

/// The error of a status, if it is one.
fn check(api: &OrtApi, status: OrtStatusPtr) -> Outcome<()> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: a status that is not null has a message until it is released.
    let text = unsafe {
        let text = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api.ReleaseStatus)(status.0);
        text
    };
    Err(format!("ONNX Runtime: {text}").into())
}

impl Engine for OnnxRuntime {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        let count = rows.len() / self.columns;
        self.floats.clear();
        self.floats.extend(rows.iter().map(|&value| value as f32));
        let (shape, api) = ([count as i64, self.columns as i64], self.api);
        let inputs = [c"rows".as_ptr()];
        let outputs = [c"probabilities".as_ptr()];
        let (mut input, mut answer) = (std::ptr::null_mut::<OrtValue>(), std::ptr::null_mut::<OrtValue>());
        let mut answers = std::ptr::null_mut::<c_void>();
        // SAFETY: the tensor borrows `floats`, which outlives it; the answer is `[count, 2]` floats.
        unsafe {
            check(
                api,
                (api.CreateTensorWithDataAsOrtValue)(
                    self.memory,
                    self.floats.as_mut_ptr().cast(),
                    self.floats.len() * size_of::<f32>(),
                    shape.as_ptr(),
                    shape.len(),
                    ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                    &raw mut input,
                ),
            )?;
            let values = [input.cast_const()];
            let ran = (api.Run)(
                self.session,
                std::ptr::null(),
                inputs.as_ptr(),
                values.as_ptr(),
                1,
                outputs.as_ptr(),
                1,
                &raw mut answer,
            );
            (api.ReleaseValue)(input);
            check(api, ran)?;
            check(api, (api.GetTensorMutableData)(answer, &raw mut answers))?;
            let pairs = std::slice::from_raw_parts(answers.cast::<[f32; 2]>(), count);
            out.extend(pairs.iter().map(|pair| f64::from(pair[1])));
            (api.ReleaseValue)(answer);
        }
        Ok(())
    }

    fn probabilities(&self) -> bool {
        self.probabilities
    }
}
