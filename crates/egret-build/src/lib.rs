//! Compile ONNX models from a Cargo build script.
