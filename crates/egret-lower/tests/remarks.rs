//! What lowering says about its kernels: what each computes, and why a neighbour is not part of it.

use egret_ir::{Builder, DType, Op, Tensor, Type, ValueId, attrs};
use egret_lower::{LowerOptions, lower, lower_traced};
use egret_trace::{Kind, Trace};

fn conv(b: &mut Builder, name: &str, x: ValueId) -> ValueId {
    b.set_sources([format!("Conv:{name}")].into());
    let w = b.constant(Tensor::new(&[8, 8, 1, 1], vec![0.5f32; 64]));
    let attrs = attrs! {
        strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![0i64; 4], groups: 1, layout: "channels_last"
    };
    b.emit(Op::Conv, attrs, &[x, w]).unwrap()
}

#[test]
fn a_result_used_twice_keeps_its_kernel_and_the_trace_says_so() {
    let mut b = Builder::new("twice");
    let dims: Vec<egret_ir::Dim> = [1i64, 4, 4, 8].map(Into::into).to_vec();
    let x = b.input("x", Type::tensor(DType::F32, dims));
    let y = conv(&mut b, "conv1", x);
    b.set_sources(["Relu:relu1".to_owned()].into());
    let zero = b.constant(Tensor::scalar(0f32));
    let relu = b.emit(Op::Max, attrs!(), &[y, zero]).unwrap();
    let z = conv(&mut b, "conv2", relu);
    b.set_sources(["Add:add3".to_owned()].into());
    let sum = b.emit(Op::Add, attrs!(), &[z, y]).unwrap();
    b.output("out", sum);
    let options = LowerOptions::default();
    let mut trace = Trace::new();
    let program = lower_traced(&b.graph, &options, Some(&mut trace)).unwrap().program;
    assert_eq!(program, lower(&b.graph, &options).unwrap(), "a trace changes nothing");
    let kernels: Vec<(String, Vec<String>)> = trace
        .events
        .iter()
        .filter_map(|e| match &e.kind {
            Some(Kind::Choice(c)) if c.what == "kernel" => Some((c.chosen.clone(), c.sources.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(kernels.len(), program.calls.len());
    assert_eq!(kernels[2].1, ["Add:add3", "Conv:conv2"]);
    let missed: Vec<&str> = trace
        .events
        .iter()
        .filter_map(|e| match &e.kind {
            Some(Kind::Missed(m)) if m.rule == "share-kernel" => Some(m.reason.as_str()),
            _ => None,
        })
        .collect();
    let wanted = "the result of conv (Conv:conv1) is used 2 times, by max (Relu:relu1), add (Add:add3): it stays a kernel of its own";
    assert!(missed.contains(&wanted), "{missed:#?}");
}
