//! An artifact of several levels of an instruction set: each gives what the model means, and the bits of the target alone.
#![cfg(target_arch = "x86_64")]

use egret::artifact::{Emit, Request, WeightsPlace, compile};
use egret::source::{self, Prepared};
use egret::{Native, Options};
use egret_ir::interp::Bounds;
use egret_ir::{Denormals, Value};
use egret_runtime::{AlignedBytes, BorrowedEnv, Input, Model, load};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MODELS: [&str; 4] = ["attention_model", "fusion_cnn", "parallel_cnn", "simple_cnn"];

/// Levels of which the last may be more than this machine has.
const LEVELS: &str = "x86-64-v2,x86-64-v3,x86-64-v4";

/// Those of them that this machine has.
fn here() -> Vec<&'static str> {
    let mut levels = vec!["x86-64-v2"];
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        levels.push("x86-64-v3");
        if ["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"].iter().all(|name| has(name)) {
            levels.push("x86-64-v4");
        }
    }
    levels
}

fn has(feature: &str) -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == feature)
}

fn file(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/models/{model}.onnx"))
}

fn request(model: &str, out: &Path, target: &str, emit: &[Emit], weights: WeightsPlace) -> Request {
    let mut options = Options { name: "m".into(), threads: 1, ..Options::default() };
    options.set_target(target).unwrap();
    Request {
        source: source::Request { model: file(model), ..source::Request::default() },
        out_dir: out.to_owned(),
        options,
        emit: emit.to_vec(),
        read: vec![],
        settings: vec![],
        weights,
        report: None,
        keep_times: false,
    }
}

/// The bytes of the outputs.
fn run(model: &Model, inputs: &[Value]) -> Vec<Vec<u8>> {
    let tensors: Vec<_> = inputs.iter().map(|v| v.as_tensor().unwrap()).collect();
    let dims: Vec<Vec<i64>> =
        tensors.iter().map(|t| t.shape().iter().map(|&d| d as i64).collect()).collect();
    let ins: Vec<_> = tensors
        .iter()
        .zip(&dims)
        .map(|(t, dims)| Input { bytes: t.bytes(), dtype: t.dtype().abi_code(), dims })
        .collect();
    let needs = model.needs(&dims.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let room = |(port, dims): (&egret_runtime::Port, &Vec<i64>)| {
        AlignedBytes::zeroed(port.bytes_with(dims).unwrap()).unwrap()
    };
    let mut outputs: Vec<_> = model.outputs().iter().zip(&needs.outputs).map(room).collect();
    let mut arena = model.arena_of(needs.arena_bytes).unwrap();
    model.run(&ins, &mut outputs, &mut arena, BorrowedEnv::default()).unwrap();
    outputs.iter().map(|o| o.to_vec()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn each_level_gives_what_the_model_means_and_the_bits_of_its_target() {
    let here = here();
    for name in MODELS {
        for weights in [WeightsPlace::Embed, WeightsPlace::File] {
            let dir = tempfile::tempdir().unwrap();
            compile(&request(name, dir.path(), LEVELS, &[Emit::So], weights)).unwrap();
            let beside = dir.path().join("m.weights");
            let beside = (weights == WeightsPlace::File).then_some(beside.as_path());
            // SAFETY: just written by Egret.
            let mut model = unsafe { load(&dir.path().join("libm.so"), "m", beside) }.unwrap();
            assert_eq!(model.isa(), *here.last().unwrap());
            // A free batch has the one artifact run at several.
            for batch in [1, 5, 2] {
                let source = source::Request {
                    model: file(name),
                    random: Some(7),
                    default_dim: Some(batch),
                    ..source::Request::default()
                };
                let Prepared { graph, inputs, .. } = source.prepare().unwrap();
                let want = egret::interpret(&graph, &inputs, Denormals::Flush, Bounds::default()).unwrap();
                // SAFETY: as above.
                model = unsafe { load(&dir.path().join("libm.so"), "m", beside) }.unwrap();
                for level in here.iter().rev() {
                    model.lower_to(level).unwrap();
                    assert_eq!(model.isa(), *level);
                    let got = run(&model, &inputs);
                    for (got, want) in got.iter().zip(&want) {
                        let want = floats(want.as_tensor().unwrap().bytes());
                        let got = floats(got);
                        assert_eq!(got.len(), want.len());
                        for (got, want) in got.iter().zip(&want) {
                            assert!(
                                (got - want).abs() <= 1e-4 * want.abs().max(1.0),
                                "{name} {level}: {got} {want}"
                            );
                        }
                    }
                    let open = source::graph(&file(name), &Default::default()).unwrap();
                    let mut options = Options { threads: 1, ..Options::default() };
                    options.set_target(level).unwrap();
                    let alone = Native::jit(open, &options, &BTreeMap::new()).unwrap();
                    assert_eq!(alone.model().isa(), *level);
                    assert_eq!(got, run(alone.model(), &inputs), "{name} {level} at batch {batch}");
                    assert_eq!(model.kernels(), alone.model().kernels());
                }
                let e = model.lower_to("x86-64-v4").unwrap_err().to_string();
                assert!(e.contains("no level x86-64-v4 to go down to; there are x86-64-v2"), "{e}");
            }
        }
    }
}

/// Files by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .filter(|(name, _)| !name.ends_with(".d"))
        .collect()
}

#[test]
fn the_same_bytes_whatever_the_threads() {
    let all = [Emit::Lib, Emit::Header, Emit::Hpp, Emit::Rs, Emit::Obj, Emit::So, Emit::Exe, Emit::Sbom];
    let made = [1, 2, 1].map(|threads| {
        let dir = tempfile::tempdir().unwrap();
        let mut request = request("fusion_cnn", dir.path(), LEVELS, &all, WeightsPlace::Embed);
        request.options.threads = threads;
        compile(&request).unwrap();
        files(dir.path())
    });
    for object in ["m.o", "m_x86_64_v2.o", "m_x86_64_v3.o", "m_x86_64_v4.o"] {
        assert!(made[0].contains_key(object), "{object}");
    }
    assert!(made[0] == made[1] && made[0] == made[2]);
}

/// What levels pack alike is kept once, and an arena is enough for each.
#[test]
fn weights_are_shared_and_arenas_are_the_most() {
    let made = |name: &str, target: &str| {
        let dir = tempfile::tempdir().unwrap();
        let done = compile(&request(name, dir.path(), target, &[Emit::Obj], WeightsPlace::Embed)).unwrap();
        (done.weights_bytes, done.arena_bytes)
    };
    for name in ["simple_cnn", "attention_model"] {
        let (v3, v4) = (made(name, "x86-64-v3"), made(name, "x86-64-v4"));
        let both = made(name, "x86-64-v3,x86-64-v4");
        assert_eq!(both.1, v3.1.max(v4.1), "{name}");
        assert!(both.0 >= v3.0.max(v4.0) && both.0 <= v3.0 + v4.0, "{name}: {both:?} of {v3:?} and {v4:?}");
        // Floats are multiplied alike with and without dot products of bytes.
        assert_eq!(made(name, "x86-64-v4,x86-64-v4-vnni").0, v4.0, "{name}");
    }
}
