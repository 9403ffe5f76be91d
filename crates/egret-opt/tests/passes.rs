//! Every pass keeps what a graph computes, and does what it is for.

use egret_ir::{Attr, Builder, DType, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp};
use egret_opt::{Options, PASSES, optimize};
use egret_testkit::compare::{self, Tolerance};

fn ramp(shape: &[usize], scale: f32) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::new(shape, (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * scale).collect::<Vec<f32>>())
}

fn fixed(dims: &[i64]) -> Type {
    Type::tensor(DType::F32, dims.iter().map(|&d| d.into()).collect::<Vec<_>>())
}

fn conv(b: &mut Builder, x: ValueId, o: usize, c: usize) -> ValueId {
    let w = b.constant(ramp(&[o, c, 3, 3], 0.01));
    let attrs = attrs! { strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![1i64; 4], groups: 1i64, layout: "channels_first" };
    b.emit(Op::Conv, attrs, &[x, w]).unwrap()
}

/// conv, a BatchNorm taken apart, relu, conv, global mean: what exporters write.
fn network() -> Graph {
    let mut b = Builder::new("network");
    let x = b.input("x", fixed(&[2, 3, 8, 8]));
    let y = conv(&mut b, x, 4, 3);
    let c = |b: &mut Builder, s| b.constant(ramp(&[4, 1, 1], s));
    let (mean, factor, shift) = (c(&mut b, 0.1), c(&mut b, 0.02), c(&mut b, 0.3));
    let y = b.emit(Op::Sub, attrs!(), &[y, mean]).unwrap();
    let y = b.emit(Op::Mul, attrs!(), &[y, factor]).unwrap();
    let y = b.emit(Op::Add, attrs!(), &[y, shift]).unwrap();
    let zero = b.constant(Tensor::scalar(0f32));
    let y = b.emit(Op::Max, attrs!(), &[zero, y]).unwrap();
    let y = conv(&mut b, y, 5, 4);
    let y = b.emit(Op::Reduce, attrs! { kind: "sum", axes: vec![2i64, 3], keepdims: true }, &[y]).unwrap();
    let y =
        b.emit(Op::Reshape, attrs! { shape: Attr::Dims(vec![2i64.into(), 5i64.into()]) }, &[y]).unwrap();
    b.output("y", y);
    b.graph
}

fn check_same(before: &Graph, after: &Graph) {
    let input = Value::from(ramp(&[2, 3, 8, 8], 0.05));
    let a = interp::run(before, std::slice::from_ref(&input)).unwrap();
    let b = interp::run(after, &[input]).unwrap();
    let (a, b) = (a[0].as_tensor().unwrap(), b[0].as_tensor().unwrap());
    compare::assert_near(a, b, Tolerance { relative: 1e-4, least: 1.0 }, "after");
}

#[test]
fn every_pass_keeps_the_result() {
    for pass in PASSES {
        let options = Options { passes: Some(vec![pass.name.into()]), ..Options::default() };
        let (after, _) = optimize(network(), &options).unwrap();
        check_same(&network(), &after);
    }
}

#[test]
fn a_batch_norm_becomes_a_bias_and_transposes_leave_the_middle() {
    let (after, reports) = optimize(network(), &Options::default()).unwrap();
    check_same(&network(), &after);
    let count = |op| after.node_ids().iter().filter(|&&n| after.node(n).op == op).count();
    assert_eq!((count(Op::Conv), count(Op::Mul), count(Op::Sub), count(Op::Add)), (2, 0, 0, 1));
    // Only the input is transposed; the weights' order does not change and [2, 1, 1, 5] is read as [2, 5].
    assert_eq!(count(Op::Transpose), 1);
    assert_eq!(reports.len(), PASSES.len());
}

#[test]
fn unknown_passes_are_named() {
    let options = Options { passes: Some(vec!["magic".into()]), ..Options::default() };
    assert!(optimize(network(), &options).unwrap_err().to_string().contains("`magic`"));
}
