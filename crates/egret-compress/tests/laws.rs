//! Laws of pruning, on models made by hand and on the digit networks.

mod kit;

use egret::compare::{Tolerance, compare};
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options, npz};
use egret_compress::{Pattern, Reason, Request, Scope, Verdict, prune};
use kit::{File, Stored, all, fixture, int, model, node, numbers, tensor};
use onnx_protobuf::AttributeProto;
use onnx_protobuf::attribute_proto::AttributeType;
use std::path::Path;

fn dense(stored: Stored, dims: &[i64]) -> File {
    let mut nodes = vec![node("MatMul", "product", &["x", "w"], "y")];
    if dims.len() > 2 {
        nodes = vec![node("Conv", "product", &["x", "w"], "y")];
    }
    File::of(&model(nodes, vec![tensor("w", dims, stored)], &[1, 12], "y"))
}

#[test]
fn as_many_zeros_as_asked_the_smallest_first_and_the_rest_untouched() {
    for stored in [Stored::Raw, Stored::Floats, Stored::Halves, Stored::RawHalves] {
        let file = dense(stored, &[12, 8]);
        let original = std::fs::read(file.path()).expect("a file");
        for part in [0.0, 0.1, 0.5, 0.77, 0.99] {
            let pruned = file.prune(&all(&format!("sparse:{part}"))).expect("it works");
            let (old, new) = (numbers(&original, 0), numbers(&pruned.model, 0));
            let zeros = (part * 96.0_f64).round() as usize;
            assert_eq!(new.iter().filter(|v| **v == 0.0).count(), zeros, "{stored:?} {part}");
            assert_eq!((pruned.report.zeros(), pruned.report.weights()), (zeros, 96));
            let kept = old.iter().zip(&new).filter(|(_, n)| **n != 0.0);
            let least = kept.inspect(|(o, n)| assert_eq!(o.to_bits(), n.to_bits())).map(|(o, _)| o.abs());
            let least = least.fold(f32::INFINITY, f32::min);
            let most =
                old.iter().zip(&new).filter(|(_, n)| **n == 0.0).map(|(o, _)| o.abs()).fold(0.0, f32::max);
            assert!(most <= least, "{most} went before {least}");
            assert_eq!(pruned.model.len(), original.len());
        }
        let nothing = file.prune(&all("sparse:0")).expect("it works");
        assert!(nothing.model == original, "{stored:?}: bytes changed without any zero");
    }
}

#[test]
fn untouched_bytes_stay_whatever_wrote_them() {
    for name in ["simple_cnn", "parallel_cnn", "attention_model", "fusion_cnn"] {
        let path = fixture(&format!("models/{name}.onnx"));
        let pruned = prune(&path, &all("sparse:0")).expect("it works");
        assert!(pruned.model == std::fs::read(&path).expect("a file"), "{name}");
    }
}

#[test]
fn groups_hold_along_the_reduction_axis_whatever_the_layout() {
    // Rows and reduction of a weight [12, 8], as each node reads it.
    let perm = |list: &[i64]| AttributeProto {
        name: "perm".into(),
        ints: list.to_vec(),
        type_: AttributeType::INTS.into(),
        ..AttributeProto::default()
    };
    let plain = |op: &str, inputs: &[&str]| vec![node(op, "product", inputs, "y")];
    let mut transposed = plain("Gemm", &["x", "w"]);
    transposed[0].attribute.push(int("transB", 1));
    let mut turned = vec![node("Transpose", "turn", &["w"], "wt")];
    turned[0].attribute.push(perm(&[1, 0]));
    turned.extend(plain("MatMul", &["x", "wt"]));
    for (what, nodes, along_rows) in [
        ("matmul", plain("MatMul", &["x", "w"]), true),
        ("left", plain("MatMul", &["w", "x"]), false),
        ("gemm", plain("Gemm", &["x", "w"]), true),
        ("transB", transposed, false),
        ("through Transpose", turned, false),
    ] {
        let file = File::of(&model(nodes, vec![tensor("w", &[12, 8], Stored::Raw)], &[1, 12], "y"));
        for (keep, of) in [(2, 4), (1, 4), (3, 5)] {
            let pruned = file.prune(&all(&format!("{keep}:{of}"))).expect("it works");
            let w = numbers(&pruned.model, 0);
            let line = |i: usize| -> Vec<f32> {
                if along_rows {
                    w.iter().skip(i).step_by(8).copied().collect()
                } else {
                    w[i * 8..][..8].to_vec()
                }
            };
            for i in 0..if along_rows { 8 } else { 12 } {
                for group in line(i).chunks(of) {
                    let kept = group.iter().filter(|v| **v != 0.0).count();
                    assert_eq!(kept, keep.min(group.len()), "{what} {keep}:{of}: {group:?}");
                }
            }
        }
    }
}

#[test]
fn groups_of_a_convolution_run_along_its_channels() {
    let pruned = dense(Stored::Raw, &[2, 6, 1, 3]).prune(&all("2:4")).expect("it works");
    let w = numbers(&pruned.model, 0);
    for (row, position) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let line: Vec<bool> = (0..6).map(|c| w[row * 18 + c * 3 + position] != 0.0).collect();
        let kept = |part: &[bool]| part.iter().filter(|k| **k).count();
        assert_eq!((kept(&line[..4]), kept(&line[4..])), (2, 2), "{row} {position}");
    }
}

/// Half of a layer that is less than one block would be all of it.
#[test]
fn blocks_larger_than_a_layer_leave_it_alone() {
    for pattern in ["block:100x1:0.5", "block:1x100:0.5"] {
        let pruned = dense(Stored::Raw, &[12, 8]).prune(&all(pattern));
        let text = match pruned {
            Ok(pruned) => format!("{:?}", pruned.report),
            Err(e) => e.to_string(),
        };
        assert!(text.contains("blocks need"), "{text}");
    }
}

#[test]
fn blocks_are_zero_as_a_whole() {
    // Outputs of a MatMul are its last axis: blocks of 4 outputs.
    let pruned = dense(Stored::Raw, &[12, 8]).prune(&all("block:4x1:0.5")).expect("it works");
    let w = numbers(&pruned.model, 0);
    let zeros: Vec<usize> = w.chunks(4).map(|b| b.iter().filter(|v| **v == 0.0).count()).collect();
    assert!(zeros.iter().all(|z| [0, 4].contains(z)), "{zeros:?}");
    assert_eq!(zeros.iter().filter(|z| **z == 4).count(), 12);
}

#[test]
fn pruning_twice_is_pruning_once() {
    for pattern in ["sparse:0.6", "2:4", "block:4x1:0.3", "block:2x3:0.5"] {
        for scope in [None, Some(Scope::Row), Some(Scope::Global)] {
            let request = Request { scope, ..all(pattern) };
            let once = match prune(&fixture("models/simple_cnn.onnx"), &request) {
                Ok(once) => once,
                Err(e) => {
                    assert!(scope.is_some() && !pattern.starts_with("sparse"), "{e}");
                    continue;
                }
            };
            let twice = File::new(&once.model).prune(&request).expect("it works");
            assert!(once.model == twice.model, "{pattern} {scope:?}");
        }
    }
}

#[test]
fn global_zeros_are_the_smallest_of_all_layers() {
    let request = Request { scope: Some(Scope::Global), ..all("sparse:0.5") };
    let pruned = prune(&fixture("models/simple_cnn.onnx"), &request).expect("it works");
    assert_eq!((pruned.report.zeros(), pruned.report.weights()), (10_875, 21_750));
    let parts: Vec<f64> = pruned
        .report
        .entries
        .iter()
        .filter_map(|e| e.weight.as_ref())
        .map(|w| w.2 as f64 / w.1 as f64)
        .collect();
    assert!(parts.iter().any(|p| (p - 0.5).abs() > 0.05), "{parts:?}");
}

#[test]
fn every_contraction_has_a_verdict() {
    let nodes = vec![
        node("MatMul", "a", &["x", "w"], "h"),
        node("MatMul", "b", &["h", "shared"], "i"),
        node("MatMul", "c", &["i", "shared"], "j"),
        node("MatMul", "d", &["j", "i"], "k"),
        node("Einsum", "e", &["k", "w2"], "l"),
        node("MatMul", "f", &["l", "w2"], "m"),
        node("MatMul", "g", &["m", "w3"], "n"),
        node("DequantizeLinear", "", &["q", "s"], "wq"),
        node("MatMul", "h", &["n", "wq"], "o"),
        node("MatMul", "i", &["o", "w4"], "y"),
    ];
    let names = ["w", "shared", "w2", "w3", "w4", "q", "s"];
    let weights = names.map(|n| tensor(n, &[8, 8], Stored::Raw)).to_vec();
    let file = File::of(&model(nodes, weights, &[8, 8], "y"));
    let report = file.prune(&Request::new(Pattern::Unstructured(0.5))).expect("it works").report;
    let verdicts: Vec<(String, Option<Reason>)> = report
        .entries
        .iter()
        .map(|e| match e.verdict {
            Verdict::Left { reason, .. } => (e.name.clone(), Some(reason)),
            _ => (e.name.clone(), None),
        })
        .collect();
    let want = [
        ("a", Some(Reason::End)),
        ("b", Some(Reason::Shared)),
        ("c", Some(Reason::Shared)),
        ("d", Some(Reason::NoConstant)),
        ("e", Some(Reason::NotDone)),
        ("f", Some(Reason::Shared)),
        ("g", None),
        ("h", Some(Reason::Integer)),
        ("i", Some(Reason::End)),
    ];
    assert_eq!(verdicts, want.map(|(n, r)| (n.to_owned(), r)));
}

/// A table that an input picks rows from is no constant, nor is what is made of the rows.
#[test]
fn what_comes_from_a_table_depends_on_the_input() {
    let turn = |name: &str, x: &str, y: &str| node("Mul", name, &[x, "table"], y);
    let nodes = vec![
        node("Gather", "rows", &["table", "x"], "h"),
        turn("scaled", "h", "i"),
        node("MatMul", "first", &["i", "w"], "j"),
        node("MatMul", "middle", &["j", "v"], "k"),
        node("MatMul", "last", &["k", "u"], "y"),
    ];
    let weights = ["table", "w", "v", "u"].map(|n| tensor(n, &[8, 8], Stored::Raw)).to_vec();
    let report =
        File::of(&model(nodes, weights, &[8], "y")).prune(&all("sparse:0.5")).expect("it works").report;
    assert_eq!(report.pruned(), 3);
}

/// Logits of a digit network, and how many of the first committed digits it gets right; it takes one at a time.
fn digits(model: &Path, engine: Engine, count: usize) -> (usize, Vec<Value>) {
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let labels = npz::read_npy(&fixture("digits/labels.npy")).expect("labels").to_i64s().expect("integers");
    let graph = egret::source::graph(model, &Default::default()).expect("a graph");
    let run = Executable::new(graph, engine, &Options::default(), &Default::default()).expect("code");
    let best =
        |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("classes") as i64;
    let (mut right, mut logits) = (0, vec![]);
    for (image, label) in images.data::<f32>().chunks(28 * 28).zip(labels).take(count) {
        let image = Value::from(Tensor::new(&[1, 1, 28, 28], image.to_vec()));
        let out = run.run(&[image]).expect("a run").remove(0);
        right += usize::from(best(out.as_tensor().expect("a tensor").data()) == label);
        logits.push(out);
    }
    (right, logits)
}

#[test]
fn half_of_the_weights_keep_the_digits() {
    let path = fixture("models/simple_cnn.onnx");
    let pruned = prune(&path, &all("sparse:0.5")).expect("it works");
    let file = File::new(&pruned.model);
    let (dense, _) = digits(&path, Engine::Jit, 1000);
    let (sparse, compiled) = digits(&file.path(), Engine::Jit, 1000);
    assert!(sparse as f64 >= 0.975 * dense as f64 && dense > 970, "{dense} before, {sparse} now");
    let (_, reference) = digits(&file.path(), Engine::Interp, 20);
    for (want, got) in reference.iter().zip(&compiled) {
        compare(want, got, Tolerance { rtol: 1e-4, atol: 1e-3 })
            .expect("compiled code is as the interpreter");
    }
}

#[test]
fn a_request_that_does_not_fit_is_refused_in_one_message() {
    let path = fixture("models/simple_cnn.onnx");
    let refused = |request: &Request, parts: &[&str]| {
        let message = prune(&path, request).map(|_| ()).expect_err("refused").to_string();
        for part in parts {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
    };
    for (pattern, part) in [
        ("sparse:1", "no sparsity"),
        ("sparse:-0.1", "no sparsity"),
        ("sparse:nan", "no sparsity"),
        ("sparse:half", "no sparsity"),
        ("4:4", "from 1 to M-1"),
        ("0:4", "from 1 to M-1"),
        ("block:0x1", "no pattern"),
        ("dense", "no pattern"),
    ] {
        let message = pattern.parse::<Pattern>().expect_err("refused").to_string();
        assert!(message.contains(part), "{pattern}: {message}");
    }
    let half = Pattern::Unstructured(0.5);
    let own = |name: &str| Request { layers: vec![(name.to_owned(), half)], ..Request::new(half) };
    refused(&own("/conv9/Conv"), &["--layer /conv9/Conv", "near it: /conv"]);
    refused(&Request { skip: vec!["fc".into()], ..Request::new(half) }, &["--skip fc", "no contraction"]);
    let every = ["/conv1/Conv", "/conv2/Conv", "fc1.weight", "fc2.weight"].map(String::from).to_vec();
    refused(&Request { skip: every, ..all("sparse:0.5") }, &["no prunable layer", "skipped"]);
    let only = dense(Stored::Raw, &[12, 8]).prune(&Request::new(half)).map(|_| ()).expect_err("refused");
    assert!(only.to_string().contains("--all prunes"), "{only}");
}
