//! Laws of stats: they serve instead of the samples that they were made of, add up, and nothing else passes for them.

mod kit;

use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::{ErrorKind, npz};
use egret_compress::{
    Compressed, Goal, Learning, Learnt, Metric, Quantization, Request, Verdict, compress, learn, prune,
    quantize,
};
use kit::{File, all, model, node, numbers};
use onnx_protobuf::TensorProto;
use std::path::{Path, PathBuf};

const SAMPLES: usize = 24;

fn random(name: &str, dims: &[i64], seed: u64, from: f64) -> TensorProto {
    let (mut rng, count) = (Rng::new(seed), dims.iter().product::<i64>());
    let values = (0..count).map(|_| (from + rng.signed_f64() * 0.25) as f32);
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: values.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}

/// Two convolutions, the first with a batch normalisation behind it, and a product.
fn network(seed: u64, outputs: i64) -> File {
    let nodes = vec![
        node("Conv", "first", &["x", "w1"], "a"),
        node("BatchNormalization", "norm", &["a", "s", "m", "m", "v"], "b"),
        node("Relu", "relu1", &["b"], "c"),
        node("Conv", "second", &["c", "w2", "bias"], "d"),
        node("Relu", "relu2", &["d"], "e"),
        node("GlobalAveragePool", "pool", &["e"], "f"),
        node("Flatten", "flat", &["f"], "g"),
        node("MatMul", "last", &["g", "w3"], "y"),
    ];
    let weights = vec![
        random("w1", &[16, 2, 3, 3], seed, 0.0),
        random("s", &[16], seed + 1, 1.0),
        random("m", &[16], seed + 2, 0.0),
        random("v", &[16], seed + 3, 1.0),
        random("w2", &[32, 16, 3, 3], seed + 4, 0.0),
        random("bias", &[32], seed + 5, 0.0),
        random("w3", &[32, outputs], seed + 6, 0.0),
    ];
    File::of(&model(nodes, weights, &[1, 2, 8, 8], "y"))
}

/// A network, samples of it in one file and in two, and a folder for what is made.
struct Case {
    net: File,
    whole: PathBuf,
    halves: [PathBuf; 2],
}

impl Case {
    fn new() -> Case {
        let net = network(1, 48);
        let mut rng = Rng::new(40);
        let size = 2 * 64;
        let values: Vec<f32> = (0..SAMPLES * size)
            .map(|i| rng.signed_f64() as f32 * (1 + i / size) as f32 + if i % 7 == 0 { 1.0 } else { 0.0 })
            .collect();
        let save = |name: &str, values: &[f32]| {
            let path = net.0.path().join(name);
            let x = Tensor::new(&[values.len() / size, 2, 8, 8], values.to_vec());
            npz::write(&path, &[("x".into(), x)]).expect("a file");
            path
        };
        let (front, back) = values.split_at(9 * size);
        Case {
            whole: save("whole.npy", &values),
            halves: [save("front.npy", front), save("back.npy", back)],
            net,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.net.0.path().join(name)
    }

    fn learnt(&self, data: &[&Path], stats: &[&Path], ranges: bool, to: &str) -> (PathBuf, Learnt) {
        let owned = |list: &[&Path]| list.iter().map(|p| p.to_path_buf()).collect();
        let request = Learning { data: owned(data), stats: owned(stats), ranges };
        let out = self.at(to);
        let learnt = learn(&self.net.path(), &request, &out, &mut |_, _, _| {}).expect("stats");
        assert_eq!(learnt.bytes, std::fs::metadata(&out).expect("a file").len());
        (out, learnt)
    }

    fn int8(&self, data: &[PathBuf], stats: &[PathBuf]) -> egret::Result<Compressed> {
        let (data, stats) = (data.to_vec(), stats.to_vec());
        let to = "int8".parse().expect("a precision");
        quantize(&self.net.path(), &Quantization { data, stats, ..Quantization::new(to) })
    }

    fn pruned(&self, request: Request) -> egret::Result<Compressed> {
        prune(&self.net.path(), &request)
    }
}

/// The same zeros, and the same other numbers but for rounding.
fn alike(want: &[u8], got: &[u8]) {
    for at in 0..7 {
        let (want, got) = (numbers(want, at), numbers(got, at));
        assert_eq!(want.len(), got.len());
        for (w, g) in want.iter().zip(&got) {
            assert!((*w == 0.0) == (*g == 0.0) && (w - g).abs() <= 1e-5, "{w}, {g}");
        }
    }
}

fn wanda(skip: &[&str]) -> Request {
    let skip = skip.iter().map(|s| (*s).to_owned()).collect();
    Request { method: "wanda".parse().expect("a method"), skip, ..all("sparse:0.5") }
}

#[test]
fn stats_give_the_bytes_that_their_samples_give() {
    let case = Case::new();
    let (stats, learnt) = case.learnt(&[&case.whole], &[], false, "whole.stats");
    assert_eq!((learnt.samples, learnt.layers, learnt.folded), (SAMPLES as u64, 3, 1));
    assert!(learnt.ranges >= 3);
    let (data, stats) = (vec![case.whole.clone()], vec![stats]);
    // Ranges.
    let want = case.int8(&data, &[]).expect("a copy");
    let got = case.int8(&[], &stats).expect("a copy");
    assert!(got.report.what.contains("stats of 24 samples"), "{}", got.report.what);
    assert!(want.model == got.model && want.report.ranges == got.report.ranges);
    assert!(!got.report.ranges.is_empty());
    // A layer whose inputs are those of the original.
    for method in ["l1", "wanda"] {
        for skip in [["second", "last"], ["first", "last"], ["first", "second"]] {
            let one = || Request { method: method.parse().expect("a method"), ..wanda(&skip) };
            let want = case.pruned(Request { data: data.clone(), ..one() }).expect("a copy");
            let got = case.pruned(Request { stats: stats.clone(), ..one() }).expect("a copy");
            assert_eq!((want.report.pruned(), got.report.pruned()), (1, 1), "{method} {skip:?}");
            // Samples are run for one layer, stats were made of all: code for other taps may round otherwise.
            alike(&want.model, &got.model);
            assert!(skip.contains(&"first") || want.model == got.model, "{method}");
        }
    }
    // Amounts of all layers are shared by their moments; those behind the first make up for nothing that went before them.
    let global = || Request { scope: Some("global".parse().expect("a scope")), ..wanda(&[]) };
    let want = case.pruned(Request { data: data.clone(), ..global() }).expect("a copy").report;
    let got = case.pruned(Request { stats: stats.clone(), ..global() }).expect("a copy").report;
    assert_eq!((want.zeros(), want.pruned()), (got.zeros(), 3));
    assert_eq!(want.entries[0], got.entries[0]);
    // Errors of levels, of layers with batch normalisations folded.
    let goal = |stats: &[PathBuf], to: &str| Goal {
        to: to.parse().expect("levels"),
        data: data.clone(),
        stats: stats.to_vec(),
        eval: vec![case.halves[0].clone()],
        metric: Some(Metric::Mse),
        size: Some("40%".parse().expect("a size")),
        budget: None,
        speed: None,
        zeros: None,
        target: None,
        measure: false,
        skip: vec![],
    };
    for to in ["auto", "dense,int8,w4:32"] {
        let made = |stats: &[PathBuf]| {
            compress(&case.net.path(), &goal(stats, to), None, &mut |_, _, _| {}).expect("a copy")
        };
        let (want, got) = (made(&[]), made(&stats));
        assert!(want.made.model == got.made.model, "{to}");
        let tried =
            |o: &egret_compress::Outcome| format!("{:?}", o.joint.as_ref().expect("a search").tried);
        assert_eq!(tried(&want), tried(&got), "{to}");
    }
}

#[test]
fn parts_add_up_to_the_whole() {
    let case = Case::new();
    let [front, back] = [0, 1].map(|i| case.halves[i].as_path());
    let bytes = |path: &Path| std::fs::read(path).expect("a file");
    // Ranges are counts and extremes: to the last byte.
    let (whole, _) = case.learnt(&[&case.whole], &[], true, "whole.ranges");
    let (a, first) = case.learnt(&[front], &[], true, "a.ranges");
    let (b, second) = case.learnt(&[back], &[], true, "b.ranges");
    assert_eq!((first.samples, second.samples, first.layers), (9, 15, 0));
    let (merged, all) = case.learnt(&[], &[&a, &b], true, "ab.ranges");
    let (turned, _) = case.learnt(&[], &[&b, &a], true, "ba.ranges");
    let (grown, _) = case.learnt(&[back], &[&a], true, "grown.ranges");
    assert_eq!(all.samples, SAMPLES as u64);
    assert!([&merged, &turned, &grown].iter().all(|path| bytes(path) == bytes(&whole)));
    let want = case.int8(&[], std::slice::from_ref(&whole)).expect("a copy");
    // Samples alone give the same ranges, and put means right, too.
    assert_eq!(
        case.int8(std::slice::from_ref(&case.whole), &[]).expect("a copy").report.ranges,
        want.report.ranges
    );
    let want = want.model;
    for (data, stats) in
        [(vec![], vec![a.clone(), b.clone()]), (vec![], vec![merged]), (vec![back.to_owned()], vec![a])]
    {
        assert!(case.int8(&data, &stats).expect("a copy").model == want);
    }
    // Moments are sums: up to their rounding, and the order in which files are named does not matter.
    let (whole, _) = case.learnt(&[&case.whole], &[], false, "whole.stats");
    let (a, _) = case.learnt(&[front], &[], false, "a.stats");
    let (b, _) = case.learnt(&[back], &[], false, "b.stats");
    let (merged, _) = case.learnt(&[], &[&a, &b], false, "ab.stats");
    let (turned, _) = case.learnt(&[], &[&b, &a], false, "ba.stats");
    assert!(bytes(&merged) == bytes(&turned));
    assert_eq!(bytes(&merged).len(), bytes(&whole).len());
    let errors = |stats: Vec<PathBuf>| -> Vec<f64> {
        let made = case.pruned(Request { stats, ..wanda(&[]) }).expect("a copy");
        let error = |v: &Verdict| match v {
            Verdict::Pruned { output: Some(q), .. } => q.error,
            other => panic!("{other:?}"),
        };
        made.report.entries.iter().map(|e| error(&e.verdict)).collect()
    };
    let want = errors(vec![whole]);
    assert_eq!(want.len(), 3);
    for stats in [vec![a.clone(), b.clone()], vec![b, a], vec![merged]] {
        let got = errors(stats);
        assert!(want.iter().zip(&got).all(|(w, g)| (w - g).abs() < 1e-5 && *w > 0.0), "{want:?} {got:?}");
    }
}

#[test]
fn what_only_samples_tell_is_refused_by_name() {
    let case = Case::new();
    let (stats, _) = case.learnt(&[&case.whole], &[], false, "a.stats");
    let (ranges, _) = case.learnt(&[&case.whole], &[], true, "a.ranges");
    let refused = |made: egret::Result<Compressed>, parts: &[&str]| {
        let e = made.map(|_| ()).expect_err("no copy");
        assert_eq!(e.kind, ErrorKind::User, "{e}");
        assert!(parts.iter().all(|p| e.to_string().contains(p)), "{e}");
    };
    let with =
        |stats: &[&PathBuf]| Request { stats: stats.iter().map(|s| (*s).clone()).collect(), ..wanda(&[]) };
    let obc = "obc".parse().expect("a method");
    refused(case.pruned(Request { method: obc, ..with(&[&stats]) }), &["--method obc", "--data"]);
    let channels = Request { pattern: "channels:0.5".parse().expect("a pattern"), ..with(&[&stats]) };
    refused(case.pruned(channels), &["--to channels:0.5", "--data"]);
    refused(
        case.pruned(Request { data: vec![case.whole.clone()], ..with(&[&stats]) }),
        &["--data", "--stats"],
    );
    refused(case.pruned(with(&[&ranges])), &["ranges alone", "without --ranges"]);
    refused(case.pruned(with(&[&stats, &stats])), &["the same stats", "twice"]);
    let copy = case.at("copy.stats");
    std::fs::copy(&stats, &copy).expect("a copy");
    refused(case.pruned(with(&[&stats, &copy])), &["a.stats", "copy.stats", "twice"]);
    for to in ["w8", "w4:32"] {
        let request = Quantization {
            stats: vec![stats.clone()],
            ..Quantization::new(to.parse().expect("a precision"))
        };
        refused(quantize(&case.net.path(), &request), &[to, "--stats", "--data"]);
    }
    let goal = Goal {
        to: "auto".parse().expect("levels"),
        data: vec![],
        stats: vec![stats],
        eval: vec![],
        metric: None,
        size: Some("40%".parse().expect("a size")),
        budget: None,
        speed: None,
        zeros: None,
        target: None,
        measure: false,
        skip: vec![],
    };
    let e = compress(&case.net.path(), &goal, None, &mut |_, _, _| {}).map(|_| ()).expect_err("no copy");
    assert!(e.kind == ErrorKind::User && e.to_string().contains("--data"), "{e}");
    let none = learn(&case.net.path(), &Learning::default(), &case.at("none"), &mut |_, _, _| {});
    assert!(none.expect_err("nothing to learn from").to_string().contains("--data"));
    assert!(!case.at("none").exists());
}

#[test]
fn stats_of_another_model_are_refused_with_the_difference() {
    let case = Case::new();
    let (stats, _) = case.learnt(&[&case.whole], &[], true, "a.stats");
    let to =
        || Quantization { stats: vec![stats.clone()], ..Quantization::new("int8".parse().expect("int8")) };
    for (other, part) in
        [(network(1, 40), "48 outputs"), (network(2, 48), "the layers are the same, but other bytes")]
    {
        let e = quantize(&other.path(), &to()).map(|_| ()).expect_err("another model");
        let text = e.to_string();
        assert!(
            e.kind == ErrorKind::User && text.contains("another model") && text.contains(part),
            "{text}"
        );
    }
}

/// A file with the hash that its bytes have.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let hash = *blake3::hash(&body).as_bytes();
    body.extend(hash);
    body
}

#[test]
fn damaged_and_hostile_files_end_with_one_message() {
    let case = Case::new();
    let (stats, _) = case.learnt(&[&case.whole], &[], false, "a.stats");
    let good = std::fs::read(&stats).expect("a file");
    let bad = case.at("bad.stats");
    let tried = |bytes: &[u8]| {
        std::fs::write(&bad, bytes).expect("a file");
        let ranges = case.int8(&[], std::slice::from_ref(&bad)).map(|_| ());
        let moments = case.pruned(Request { stats: vec![bad.clone()], ..wanda(&[]) }).map(|_| ());
        [ranges, moments]
    };
    let refused = |bytes: &[u8], part: &str| {
        for made in tried(bytes) {
            let e = made.expect_err("no stats");
            let text = e.to_string();
            assert!(
                e.kind == ErrorKind::User && text.contains(part) && text.contains("bad.stats"),
                "{text}"
            );
        }
    };
    assert!(tried(&good).iter().all(Result::is_ok));
    for cut in [0, 3, 8, 11, 12, 40, 44, 60, good.len() / 2, good.len() - 32, good.len() - 1] {
        refused(&good[..cut], if cut < 8 { "no file that" } else { "damaged or was cut short" });
    }
    refused(&[&good[..], &[0]].concat(), "damaged");
    refused(b"not stats at all, but of some length, so that a head would fit", "no file that");
    for at in (12..good.len()).step_by(good.len() / 12) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        refused(&bytes, "damaged");
    }
    let mut later = good.clone();
    later[8] = 2;
    refused(&later, "version 2");
    // Whoever means harm knows how to hash: no length, number or count of the file is trusted.
    let body = &good[..good.len() - 32];
    let head = 12 + 32 + 8;
    refused(&sealed(body[..head].to_vec()), "damaged");
    for at in [head, head + 4, head + 8] {
        let mut bytes = body.to_vec();
        bytes[at..at + 4].fill(0xff);
        refused(&sealed(bytes), "damaged");
    }
    let mut rng = Rng::new(3);
    let starts: Vec<usize> = (0..body.len() - 16)
        .filter(|&i| {
            body[i] == 1 && (1..=3).contains(&body[i + 1]) && body[i + 2..i + 6].iter().all(|b| *b <= 2)
        })
        .collect();
    assert!(starts.len() >= 9);
    for _ in 0..150 {
        // In a record's head mostly.
        let at = match rng.below(3) {
            0 => rng.below(body.len()),
            _ => (starts[rng.below(starts.len())] + rng.below(60)).min(body.len() - 8),
        };
        let mut bytes = body.to_vec();
        let width = [1, 4, 8][rng.below(3)].min(body.len() - at);
        bytes[at..at + width].fill([0, 1, 0x7f, 0xff][rng.below(4)]);
        for made in tried(&sealed(bytes)) {
            if let Err(e) = made {
                assert_eq!(e.kind, ErrorKind::User, "{e}");
            }
        }
    }
}
