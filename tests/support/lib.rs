//! Shared helpers of the workspace tests: where fixtures are, the conformance archive unpacked, the graphs of file tests, random
//! graphs without control flow and with it, special numbers, compiled models run between unmapped pages, those with free dims at many
//! sizes and those in which data decides dims on many data, the law that
//! holds compiled code to Loop IR's interpreter, code for other architectures run by emulators, and WebAssembly modules.

pub mod emulated;
#[cfg(unix)]
pub mod faults;
pub mod files;
pub mod flow;
#[cfg(unix)]
pub mod free;
#[cfg(unix)]
pub mod guarded;
pub mod law;
#[cfg(unix)]
pub mod lengths;
pub mod random;
pub mod special;
pub mod wasm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A committed fixture.
pub fn fixture(path: &str) -> PathBuf {
    root().join("fixtures").join(path)
}

/// The ONNX conformance cases, unpacked once into `scratch` (a test's `CARGO_TARGET_TMPDIR`).
///
/// Several test programs may ask at the same time: each unpacks beside and the first rename wins.
pub fn conformance(scratch: &str) -> PathBuf {
    // One thread of this program unpacks, the others wait for it.
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    UNPACKED.get_or_init(|| unpack(scratch)).clone()
}

fn unpack(scratch: &str) -> PathBuf {
    unpack_into("conformance/onnx-1.23.2.tar.zst", &Path::new(scratch).join("conformance-1.23.2"), "node")
}

/// The cases of classical machine learning (`fixtures/gen/classical.py`), unpacked once into `scratch` as those of [`conformance`] are.
pub fn classical(scratch: &str) -> PathBuf {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    UNPACKED.get_or_init(|| recorded(scratch, "classical")).clone()
}

/// The cases of com.microsoft (`fixtures/gen/microsoft.py`), likewise.
pub fn microsoft(scratch: &str) -> PathBuf {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    UNPACKED.get_or_init(|| recorded(scratch, "microsoft")).clone()
}

/// A suite that was recorded from ONNX Runtime.
fn recorded(scratch: &str, suite: &str) -> PathBuf {
    let name = format!("{suite}-ort-1.32.0");
    unpack_into(&format!("conformance/{name}.tar.zst"), &Path::new(scratch).join(&name), suite)
}

/// Unpack an archive that holds a folder `has`, unless it is there.
fn unpack_into(archive: &str, target: &Path, has: &str) -> PathBuf {
    if target.join(has).is_dir() {
        return target.to_owned();
    }
    let beside = target.with_extension(std::process::id().to_string());
    let file = fs::File::open(fixture(archive)).expect("the committed archive");
    let decoder = ruzstd::decoding::StreamingDecoder::new(file).expect("a zstd archive");
    tar::Archive::new(decoder).unpack(&beside).expect("room for the cases");
    if fs::rename(&beside, target).is_err() {
        fs::remove_dir_all(&beside).expect("our own folder");
    }
    target.to_owned()
}
