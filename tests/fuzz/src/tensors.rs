//! Files of tensors, `.pb`, `.npy` and `.npz`, are read or refused with a message. The first byte says which of them the others are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The file that the readers of paths read.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("egret-fuzz-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 3 == 0 {
        if let Err(e) = egret_onnx::data::read_tensor_pb(bytes) {
            assert!(!e.to_string().is_empty());
        }
        return;
    }
    std::fs::write(&*FILE, bytes).expect("a file for temporary use");
    let read = match kind % 3 {
        1 => egret::npz::read_npy(&FILE).map(drop),
        _ => egret::npz::read_npz(&FILE).map(drop),
    };
    if let Err(e) = read {
        assert!(!e.to_string().is_empty());
    }
});
