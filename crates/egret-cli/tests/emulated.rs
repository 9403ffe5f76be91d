//! Executables for other architectures, made with a cross compiler and run by an emulator, give what the reference interpreter gives. Where the tools are
//! not there, a line says so.

#![cfg(unix)]

mod kit;
#[path = "emulated/systems.rs"]
mod systems;

use kit::{model, path, temp, text, works};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A target, the C compiler that links for it, and what runs its programs: of RISC-V the CPU with the shortest vectors that code is for.
const EMULATORS: [(&str, &str, &[&str]); 2] = [
    ("aarch64", "aarch64-linux-gnu-gcc", &["qemu-aarch64"]),
    ("riscv64", "riscv64-linux-gnu-gcc", &["qemu-riscv64", "-cpu", "rv64,v=true,vlen=128"]),
];

/// The name and the shape of an input of f32.
type Input = (&'static str, &'static [usize]);

/// Models and their inputs.
const MODELS: [(&str, &[Input]); 5] = [
    ("simple_cnn", &[("image", &[1, 1, 28, 28])]),
    ("attention_model", &[("image", &[1, 1, 28, 28])]),
    ("fusion_cnn", &[("text", &[1, 1, 28, 28]), ("image", &[1, 1, 28, 28])]),
    ("parallel_cnn", &[("image", &[3, 1, 28, 28])]),
    ("recurrent", &[("x", &[6, 3, 4]), ("h0", &[2, 3, 5]), ("c0", &[2, 3, 5])]),
];

/// How far a float may be from the reference interpreter's, which sums in f64.
const NEAR: f32 = 2e-5;

/// A .npy file of such a shape, of numbers between -1 and 1.
fn npy(shape: &[usize], seed: u64) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
    let mut out = [&b"\x93NUMPY\x01\x00v\x00"[..], format!("{head:<117}\n").as_bytes()].concat();
    let mut state = seed;
    for _ in 0..shape.iter().product::<usize>() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend((((state >> 40) as f32) / 8_388_608.0 - 1.0).to_le_bytes());
    }
    out
}

/// The arrays of f32 in a .npz file, whose entries are stored as they are.
fn arrays(file: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(file).expect("a file of outputs");
    let number = |at: usize, len: usize| (0..len).rev().fold(0, |n, i| n << 8 | usize::from(bytes[at + i]));
    let (mut at, mut found) = (0, BTreeMap::new());
    while bytes[at..].starts_with(b"PK\x03\x04") {
        assert_eq!(number(at + 8, 2), 0, "an entry that is stored");
        let [size, name, extra] = [(18, 4), (26, 2), (28, 2)].map(|(from, len)| number(at + from, len));
        let array = at + 30 + name + extra;
        let data = array + 10 + number(array + 8, 2);
        let floats = bytes[data..array + size].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        found.insert(text(&bytes[at + 30..at + 30 + name]), floats.collect());
        at = array + size;
    }
    found
}

/// What a command prints that must succeed.
#[track_caller]
fn says(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn executables_for_other_architectures_are_right() {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    for (target, gcc, qemu) in EMULATORS {
        if let Some(tool) = [gcc, qemu[0]].into_iter().find(|tool| !there(tool)) {
            eprintln!("left out: executables for {target} ({tool} is not there)");
            continue;
        }
        for (name, inputs) in MODELS {
            let dir = temp();
            let mut compile = Command::new(env!("CARGO_BIN_EXE_egret"));
            compile.args(["compile", &model(name), "--target", target, "--emit", "exe", "--name", "net"]);
            says(compile.args(["--out-dir", &path(&dir, "")]).env("CC", format!("{gcc} -static")));
            let emulated = || {
                let mut c = Command::new(qemu[0]);
                c.args(&qemu[1..]).arg(dir.path().join("net"));
                c
            };
            let (mine, reference) = (dir.path().join("mine.npz"), dir.path().join("reference.npz"));
            let mut args = vec!["run".to_owned(), model(name), "--engine".into(), "interp".into()];
            let mut run = emulated();
            for (seed, (input, shape)) in inputs.iter().enumerate() {
                let file = path(&dir, &format!("{input}.npy"));
                std::fs::write(&file, npy(shape, seed as u64)).expect("a file");
                args.extend(["--input".into(), format!("{input}={file}")]);
                run.arg(format!("{input}={file}"));
            }
            args.extend(["-o".into(), reference.display().to_string()]);
            works(&args.iter().map(String::as_str).collect::<Vec<_>>());
            says(run.arg("--output").arg(&mine));
            let (mine, reference) = (arrays(&mine), arrays(&reference));
            assert!(!reference.is_empty() && mine.keys().eq(reference.keys()), "{name}: {mine:?}");
            for (output, want) in reference {
                let have = &mine[&output];
                assert!(!want.is_empty() && want.len() == have.len(), "{output} of {name}");
                for (want, have) in want.iter().zip(have) {
                    let near = (want - have).abs() <= NEAR * want.abs().max(1.0);
                    assert!(near, "{output} of {name} for {target}: {have} instead of {want}");
                }
            }
            if name == "simple_cnn" {
                let digits =
                    |file: &str| format!("{}/../../fixtures/digits/{file}.npy", env!("CARGO_MANIFEST_DIR"));
                let said = says(emulated().args([&digits("images"), "--labels", &digits("labels")]));
                assert!(said.contains("accuracy: 98"), "{target}: {said}");
            }
        }
    }
}
