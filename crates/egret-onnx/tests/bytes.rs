//! Weights that are bytes less a zero point: what is large stays a constant of bytes, so that passes find contractions of bytes.

mod build;

use build::*;
use egret_ir::{DType, Graph, Tensor, interp};
use egret_onnx::{ImportOptions, import_bytes};
use onnx_protobuf::{Message, TensorProto, ValueInfoProto};

const U8: i32 = 2;

/// More elements than are folded while a model is read.
const WIDTH: usize = 300;

fn weights(most: usize, dims: &[i64]) -> (Vec<u8>, TensorProto) {
    let count = dims.iter().product::<i64>() as usize;
    let bytes: Vec<u8> = (0..count).map(|i| (i * 37 % (most + 1)) as u8).collect();
    let proto = tensor("w", U8, dims, &bytes);
    (bytes, proto)
}

fn import(op: &str, x: &[&str], w: TensorProto, zero: TensorProto) -> Graph {
    let output = ValueInfoProto { name: "y".into(), ..Default::default() };
    let nodes = vec![node(op, &["x", "w", "xz", "wz"], &["y"], vec![])];
    let mut g = graph(vec![value("x", U8, x)], vec![output], nodes);
    g.initializer = vec![w, zero, tensor("xz", U8, &[], &[7])];
    import_bytes(&model(g).write_to_bytes().expect("serialises"), None, &ImportOptions::default())
        .expect("a model")
}

/// Whether the largest constant is of bytes with a sign.
fn is_bytes(graph: &Graph) -> bool {
    let constants = graph.value_ids().filter_map(|v| graph.as_const(v));
    constants.max_by_key(|t| t.len()).is_some_and(|t| t.dtype() == DType::I8)
}

#[test]
fn products_of_large_weights_around_a_zero_point() {
    let n = WIDTH;
    let x: Vec<u8> = (0..2 * n).map(|i| (i * 11 % 256) as u8).collect();
    for (most, zeros, bytes) in [(127, vec![51u8], true), (255, vec![128], true), (255, vec![100], false)]
        .into_iter()
        .chain([(127, (0..n).map(|i| (i % 128) as u8).collect(), true)])
    {
        let (w, proto) = weights(most, &[n as i64, n as i64]);
        let dims: &[i64] = if zeros.len() == 1 { &[] } else { &[WIDTH as i64] };
        let graph = import("MatMulInteger", &["2", "300"], proto, tensor("wz", U8, dims, &zeros));
        assert_eq!(is_bytes(&graph), bytes, "{most} {zeros:?}");
        let want: Vec<i32> = (0..2 * n)
            .map(|at| {
                let (i, j) = (at / n, at % n);
                let zero = i32::from(zeros[j % zeros.len()]);
                (0..n).map(|k| (i32::from(x[i * n + k]) - 7) * (i32::from(w[k * n + j]) - zero)).sum()
            })
            .collect();
        let got = interp::run(&graph, &[Tensor::new(&[2, n], x.clone()).into()]).expect("values");
        assert_eq!(got[0].as_tensor().expect("a tensor").data::<i32>(), want);
    }
}

#[test]
fn filters_have_zero_points_of_their_own() {
    let (w, proto) = weights(127, &[WIDTH as i64, 100, 3]);
    let zeros: Vec<u8> = (0..WIDTH).map(|i| (i % 128) as u8).collect();
    let graph = import("ConvInteger", &["1", "100", "3"], proto, tensor("wz", U8, &[WIDTH as i64], &zeros));
    assert!(is_bytes(&graph));
    let x: Vec<u8> = (0..300).map(|i| (i * 11 % 256) as u8).collect();
    let got = interp::run(&graph, &[Tensor::new(&[1, 100, 3], x.clone()).into()]).expect("values");
    let of = |f: usize| -> i32 {
        (0..300).map(|k| (i32::from(x[k]) - 7) * (i32::from(w[f * 300 + k]) - i32::from(zeros[f]))).sum()
    };
    assert_eq!(got[0].as_tensor().expect("a tensor").data::<i32>(), (0..WIDTH).map(of).collect::<Vec<_>>());
}
