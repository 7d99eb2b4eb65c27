//! Compiles `proto/` with protox (no protoc needed) into Rust types, services and the descriptor set that reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = [
    "inference/grpc_service.proto",
    "understudy/v1/prediction.proto",
    "understudy/v1/tap.proto",
    "understudy/v1/shadow.proto",
    "understudy/v1/feedback.proto",
    "understudy/v1/drift.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let files = compiler.file_descriptor_set();

    // Reflection has no use for comments; leaving them out makes the binary smaller.
    let mut described = files.clone();
    for file in &mut described.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), described.encode_to_vec())?;

    tonic_prost_build::configure()
        // Slices of the received buffer instead of copies.
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        .bytes(".inference.InferTensorContents.bytes_contents")
        .bytes(".understudy.v1.Exchange")
        .bytes(".understudy.v1.ModelDescription")
        // Maps that people read come in a stable order.
        .btree_map(".understudy.v1")
        // Services and methods whose time has not come answer UNIMPLEMENTED.
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
