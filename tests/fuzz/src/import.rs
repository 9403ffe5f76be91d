//! The bytes of an ONNX file are a graph that verifies, or are refused with a message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match egret_onnx::import_bytes(bytes, None, &egret_onnx::ImportOptions::default()) {
        Ok(graph) => {
            if let Err(errors) = egret_ir::verify(&graph) {
                panic!("an imported graph does not verify: {}", errors[0]);
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
});
