//! What an operator is imported as where the IR has a primitive for it: that, not pieces that a pass has to find again.

mod build;

use build::*;
use egret_ir::{Graph, Op, Tensor, Value, interp, verify};
use egret_onnx::{ImportOptions, import_bytes};
use onnx_protobuf::{AttributeProto, Message, ValueInfoProto};

const FLOAT: i32 = 1;
const BOOL: i32 = 9;
const F16: i32 = 10;

/// A model of one node; an operand is its element type and dims.
fn one_node(
    domain: &str,
    op: &str,
    operands: &[(i32, &[&str])],
    outputs: usize,
    attrs: Vec<AttributeProto>,
) -> Graph {
    let inputs: Vec<_> =
        operands.iter().enumerate().map(|(i, (ty, dims))| value(&format!("x{i}"), *ty, dims)).collect();
    let outputs: Vec<_> =
        (0..outputs).map(|i| ValueInfoProto { name: format!("y{i}"), ..Default::default() }).collect();
    let mut n = node(op, &[], &[], attrs);
    n.input = inputs.iter().map(|v| v.name.clone()).collect();
    n.output = outputs.iter().map(|v| v.name.clone()).collect();
    n.domain = domain.into();
    let mut m = model(graph(inputs, outputs, vec![n]));
    m.opset_import = vec![opset("", 24), opset("com.microsoft", 1)];
    let bytes = m.write_to_bytes().expect("serialises");
    let graph = import_bytes(&bytes, None, &ImportOptions::default()).expect("imports");
    verify(&graph).expect("verifies");
    graph
}

/// The operations of a graph, sorted by name; those that only arrange are left out.
fn ops(graph: &Graph) -> Vec<&'static str> {
    let arranges = [Op::Reshape, Op::Transpose, Op::Concat, Op::Slice, Op::Cast];
    let mut ops: Vec<_> = graph.node_ids().iter().map(|&n| graph.node(n).op).collect();
    ops.retain(|op| !arranges.contains(op));
    let mut names: Vec<_> = ops.iter().map(|op| op.name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn an_activation_is_one_node() {
    for (domain, op, attrs, want) in [
        ("", "Gelu", vec![], "gelu"),
        ("", "Gelu", vec![string("approximate", "tanh")], "gelu"),
        ("com.microsoft", "FastGelu", vec![], "gelu"),
        ("", "HardSwish", vec![], "hard_swish"),
        ("", "Swish", vec![], "silu"),
    ] {
        for ty in [FLOAT, F16] {
            let graph = one_node(domain, op, &[(ty, &["n", "4"])], 1, attrs.clone());
            assert_eq!(graph.node_count(), 1, "{op}");
            assert_eq!(ops(&graph), [want], "{op}");
        }
    }
    let slow = one_node("", "Swish", &[(FLOAT, &["n"])], 1, vec![float("alpha", 2.0)]);
    assert_eq!(ops(&slow), ["mul", "mul", "sigmoid"]);
}

#[test]
fn norms_and_rotations_have_one_primitive() {
    let rms = one_node("", "RMSNormalization", &[(F16, &["n", "8"]), (F16, &["8"])], 1, vec![]);
    assert_eq!(ops(&rms), ["mul", "rms_norm"]);
    let x: &[&str] = &["b", "2", "l", "8"];
    for interleaved in [0, 1] {
        let whole: &[&str] = &["b", "l", "4"];
        let operands = [(FLOAT, x), (FLOAT, whole), (FLOAT, whole)];
        let graph = one_node("", "RotaryEmbedding", &operands, 1, vec![int("interleaved", interleaved)]);
        assert_eq!(ops(&graph), ["rotary"]);
        let part: &[&str] = &["b", "l", "2"];
        let operands = [(FLOAT, x), (FLOAT, part), (FLOAT, part)];
        let attrs = vec![int("interleaved", interleaved), int("rotary_embedding_dim", 4)];
        assert_eq!(ops(&one_node("", "RotaryEmbedding", &operands, 1, attrs)), ["rotary"]);
    }
}

#[test]
fn attention_is_the_primitive_where_its_attributes_allow() {
    let q: &[&str] = &["1", "4", "3", "2"];
    let k: &[&str] = &["1", "2", "5", "2"];
    let by_head: &[&str] = &["4", "3", "5"];
    let attention = |mask: Option<i32>, outputs: usize, attrs: Vec<AttributeProto>| {
        let mut operands = vec![(FLOAT, q), (FLOAT, k), (FLOAT, k)];
        operands.extend(mask.map(|ty| (ty, by_head)));
        ops(&one_node("", "Attention", &operands, outputs, attrs))
    };
    let has = |ops: &[&str], op: &str| ops.contains(&op);
    // Two query heads share a head of the keys: no copies.
    assert_eq!(attention(None, 1, vec![]), ["attention"]);
    for whole in [attention(Some(BOOL), 1, vec![]), attention(Some(FLOAT), 1, vec![])] {
        assert!(
            has(&whole, "attention") && !has(&whole, "softmax") && !has(&whole, "broadcast"),
            "{whole:?}"
        );
    }
    assert!(has(&attention(None, 1, vec![int("is_causal", 1)]), "attention"));
    for pieces in [
        attention(None, 1, vec![float("softcap", 2.0)]),
        attention(None, 4, vec![]),
        attention(None, 1, vec![int("softmax_precision", 11)]),
        attention(Some(FLOAT), 1, vec![int("is_causal", 1)]),
    ] {
        assert!(has(&pieces, "softmax") && !has(&pieces, "attention"), "{pieces:?}");
    }
}

#[test]
fn queries_without_keys_are_zero_and_others_keep_their_nan() {
    // Queries 0 and 1 see both keys, query 2 none; query 1 is NaN.
    let dims: &[&str] = &["1", "1", "3", "1"];
    let keys: &[&str] = &["1", "1", "2", "1"];
    for ty in [BOOL, FLOAT] {
        let operands = [(FLOAT, dims), (FLOAT, keys), (FLOAT, keys), (ty, &["3", "2"][..])];
        let graph = one_node("", "Attention", &operands, 1, vec![]);
        assert!(ops(&graph).contains(&"attention"));
        let mask = if ty == BOOL {
            Tensor::from_bools(&[3, 2], &[true, true, true, true, false, false])
        } else {
            let none = f32::NEG_INFINITY;
            Tensor::new(&[3, 2], vec![0.0, 0.0, 0.0, 0.0, none, none])
        };
        let inputs: Vec<Value> = vec![
            Tensor::new(&[1, 1, 3, 1], vec![0.0, f32::NAN, 1.0]).into(),
            Tensor::new(&[1, 1, 2, 1], vec![1f32, 2.0]).into(),
            Tensor::new(&[1, 1, 2, 1], vec![4f32, 8.0]).into(),
            mask.into(),
        ];
        let out = interp::run(&graph, &inputs).expect("runs");
        let y = out[0].as_tensor().expect("a tensor").data::<f32>().to_vec();
        assert_eq!((y[0], y[1].is_nan(), y[2]), (6.0, true, 0.0));
    }
}
