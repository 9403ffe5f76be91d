//! Damaged files: thousands of random mutations of a model must be imported or refused, without panic or hang.

mod build;

use egret_ir::verify;
use egret_onnx::{ImportOptions, import_bytes};
use egret_testkit::Rng;
use onnx_protobuf::Message;

fn mutate(original: &[u8], seed: u64) -> Vec<u8> {
    let mut r = Rng::new(seed);
    let mut bytes = original.to_vec();
    for _ in 0..=r.below(2) {
        let at = r.below(bytes.len());
        // Mostly changes that keep the lengths right, so that they reach beyond the protobuf reader.
        match r.below(12) {
            0..=4 => bytes[at] ^= 1 << r.below(8),
            5..=7 => bytes[at] = r.below(256) as u8,
            8 => bytes[at] = [0, 0x7f, 0x80, 0xff][r.below(4)],
            9 => bytes.truncate(at.max(1)),
            10 => {
                bytes.remove(at);
            }
            _ => {
                let end = (at + r.below(16)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = r.below(bytes.len());
                bytes.splice(to..to, copy);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

fn import_and_verify(bytes: &[u8]) -> bool {
    match import_bytes(bytes, None, &ImportOptions::default()) {
        Ok(graph) => {
            if let Err(errors) = verify(&graph) {
                panic!("an imported graph does not verify: {}", errors[0]);
            }
            true
        }
        Err(e) => {
            assert!(!e.to_string().is_empty());
            false
        }
    }
}

#[test]
fn mutations_are_imported_or_refused() {
    let original = build::everything().write_to_bytes().expect("serialises");
    assert!(import_and_verify(&original));
    let imported = (0..5000).filter(|&seed| import_and_verify(&mutate(&original, seed))).count();
    // Names of nodes and the like may change without harm: some must get through, or the mutations are too coarse.
    assert!(imported > 50, "only {imported} of 5000 mutations were imported");
}

/// As above, for every `model.onnx` of at most 4 MiB below the folder that `EGRET_MUTATE` names.
#[test]
#[ignore = "for longer runs by hand"]
fn mutations_of_models_in_a_folder() {
    let root = std::env::var("EGRET_MUTATE").expect("EGRET_MUTATE names a folder");
    let rounds: u64 = std::env::var("EGRET_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(20);
    let mut files: Vec<_> = std::fs::read_dir(root)
        .expect("a folder")
        .map(|e| e.expect("an entry").path().join("model.onnx"))
        .collect();
    files.sort();
    let (mut tried, mut imported) = (0, 0);
    for file in files {
        let Ok(original) = std::fs::read(&file) else { continue };
        if original.len() > 4 << 20 {
            continue;
        }
        for seed in 0..rounds {
            let bytes = mutate(&original, seed);
            let started = std::time::Instant::now();
            let outcome = std::panic::catch_unwind(|| import_and_verify(&bytes));
            let time = started.elapsed();
            tried += 1;
            imported += usize::from(matches!(outcome, Ok(true)));
            if outcome.is_err() || time.as_secs() > 2 {
                println!("{} seed {seed}: {outcome:?} after {time:?}", file.display());
            }
        }
    }
    println!("{imported} of {tried} mutations were imported");
}
