//! Tests of inference: rules with symbols, and hostile nodes.

use super::*;
use crate::{Attr, AttrInfo, AttrKind, attrs};

fn ty(dtype: DType, dims: &[&str]) -> Type {
    Type::tensor(
        dtype,
        dims.iter()
            .map(|d| d.parse().map(Dim::constant).unwrap_or_else(|_| Dim::symbol(d)))
            .collect::<Vec<_>>(),
    )
}

fn f32s(dims: &[&str]) -> Type {
    ty(DType::F32, dims)
}

fn infer_one(op: Op, attrs: Attrs, operands: &[&Type]) -> Result<String, String> {
    let operands: Vec<_> = operands.iter().map(|t| Some(*t)).collect();
    infer(op, &attrs, &operands, &[]).map(|r| r.iter().map(Type::to_string).collect::<Vec<_>>().join(", "))
}

#[test]
fn symbols_broadcast() {
    let add = |a: &[&str], b: &[&str]| infer_one(Op::Add, attrs! {}, &[&f32s(a), &f32s(b)]);
    assert_eq!(add(&["n", "4"], &["4"]).unwrap(), "f32[n, 4]");
    assert_eq!(add(&["n", "1"], &["1", "m"]).unwrap(), "f32[n, m]");
    assert_eq!(add(&["n"], &["3"]).unwrap(), "f32[3]");
    assert_eq!(add(&["n"], &["m"]).unwrap(), "f32[broadcast(m, n)]");
    assert!(add(&["2"], &["3"]).is_err());
    assert!(
        infer_one(Op::Add, attrs! {}, &[&f32s(&[]), &ty(DType::I64, &[])])
            .unwrap_err()
            .contains("different element types")
    );
}

#[test]
fn convolutions_and_pools() {
    let attrs = |pads: Vec<i64>, strides: Vec<i64>| {
        attrs! { strides: strides, dilations: vec![1i64, 1], pads: pads, groups: 1i64, layout: "channels_first" }
    };
    let (x, w) = (f32s(&["n", "3", "h", "28"]), f32s(&["8", "3", "5", "5"]));
    let conv = |p, s| infer_one(Op::Conv, attrs(p, s), &[&x, &w]);
    assert_eq!(conv(vec![2, 2, 2, 2], vec![1, 1]).unwrap(), "f32[n, 8, h, 28]");
    assert_eq!(conv(vec![0; 4], vec![2, 2]).unwrap(), "f32[n, 8, floordiv(h + 1, 2) - 2, 12]");
    assert!(conv(vec![0; 4], vec![0, 2]).is_err());
    assert!(conv(vec![0; 3], vec![1, 1]).is_err());
    assert!(conv(vec![i64::MAX; 4], vec![1, 1]).is_err());
}

#[test]
fn reshape_counts_elements() {
    let shape = |d: &[&str]| match f32s(d) {
        Type::Tensor(t) => attrs! { shape: t.shape },
        _ => unreachable!(),
    };
    let reshape = |from: &[&str], to: &[&str]| infer_one(Op::Reshape, shape(to), &[&f32s(from)]);
    assert_eq!(reshape(&["n", "4"], &["4", "n"]).unwrap(), "f32[4, n]");
    assert!(reshape(&["2", "3"], &["7"]).is_err());
    assert!(reshape(&["2", "3"], &["-6"]).is_err());
    assert!(
        infer_one(Op::Broadcast, attrs! { shape: vec![Dim::from(1i64 << 62); 3] }, &[&f32s(&[])]).is_err()
    );
}

#[test]
fn attributes_are_held_against_the_table() {
    let x = f32s(&["2", "3"]);
    let softmax = |a: Attrs| infer_one(Op::Softmax, a, &[&x]);
    assert!(softmax(attrs! { axis: 1i64 }).is_ok());
    assert!(softmax(attrs! {}).unwrap_err().contains("missing"));
    assert!(softmax(attrs! { axis: "1" }).unwrap_err().contains("kind"));
    assert!(softmax(attrs! { axis: 2i64 }).is_err());
    assert!(softmax(attrs! { axis: 1i64, more: 2i64 }).unwrap_err().contains("no attribute"));
    assert!(infer_one(Op::Transpose, attrs! { perm: vec![0i64, 0] }, &[&x]).is_err());
}

#[test]
fn attention_and_rotary_broadcast() {
    let f16 = ty(DType::F16, &["4", "n"]);
    let attend = |q: &[&str], k: &[&str], v: &[&str], mask: Option<&Type>| {
        let (q, k, v) = (f32s(q), f32s(k), f32s(v));
        infer(
            Op::Attention,
            &attrs! { scale: 0.5, fill: 0.0, safe: 0i64 },
            &[Some(&q), Some(&k), Some(&v), mask],
            &[],
        )
        .map(|r| r[0].to_string())
    };
    let grouped: [&[&str]; 3] = [&["b", "4", "s", "64"], &["b", "1", "t", "64"], &["b", "1", "t", "32"]];
    let with = |mask: Option<Type>| attend(grouped[0], grouped[1], grouped[2], mask.as_ref());
    assert_eq!(with(None).unwrap(), "f32[b, 4, s, 32]");
    assert_eq!(with(Some(f32s(&["s", "t"]))).unwrap(), "f32[b, 4, s, 32]");
    assert!(with(Some(f32s(&["5", "1", "1", "t"]))).is_ok());
    assert!(with(Some(f32s(&["b", "5", "s", "t"]))).unwrap_err().contains("does not broadcast"));
    assert!(with(Some(f32s(&["1", "b", "4", "s", "t"]))).is_err());
    assert!(with(Some(f16)).unwrap_err().contains("element type must be f32"));
    assert_eq!(with(Some(ty(DType::Bool, &["s", "t"]))).unwrap(), "f32[b, 4, s, 32]");
    assert!(with(Some(ty(DType::Bool, &["5", "s", "t"]))).is_err());
    assert!(attend(&["2", "8"], &["3", "7"], &["3", "4"], None).is_err());
    assert!(attend(&["2", "8"], &["3", "8"], &["2", "4"], None).is_err());
    assert!(attend(&["8"], &["3", "8"], &["3", "4"], None).is_err());
    let rotary = |x: &[&str], cos: &[&str]| {
        infer_one(Op::Rotary, attrs! { interleaved: 0i64 }, &[&f32s(x), &f32s(cos), &f32s(cos)])
    };
    assert_eq!(rotary(&["b", "h", "s", "64"], &["s", "64"]).unwrap(), "f32[b, h, s, 64]");
    assert!(rotary(&["s", "63"], &["63"]).unwrap_err().contains("even"));
    assert!(rotary(&["4", "64"], &["2", "4", "64"]).is_err());
    assert!(rotary(&[], &[]).is_err());
    assert!(infer_one(Op::Gelu, attrs! { approximate: "fast" }, &[&f32s(&["n"])]).is_err());
}

/// Every operation with every attribute at odd values, over odd operands: an answer, never a panic.
#[test]
fn nothing_panics() {
    let odd = |kind: AttrKind, seed: usize| -> Attr {
        let ints = [0i64, 1, -1, 2, i64::MAX, i64::MIN];
        let n = ints[seed % ints.len()];
        match kind {
            AttrKind::Int | AttrKind::Flag => Attr::Int(n),
            AttrKind::Float => Attr::Float([0.0, f64::NAN, -1.0][seed % 3]),
            AttrKind::String => Attr::String(["", "a b"][seed % 2].into()),
            AttrKind::Word(words) => {
                Attr::String(words.get(seed % (words.len() + 1)).copied().unwrap_or("").into())
            }
            AttrKind::DType => Attr::DType(DType::ALL[seed % 24]),
            AttrKind::Dim => Attr::Dim(Dim::constant(n)),
            AttrKind::Dims => Attr::Dims(vec![Dim::constant(n); seed % 4]),
            AttrKind::Ints => Attr::Ints(vec![n; seed % 5]),
            AttrKind::Floats => Attr::Floats(vec![1.0; seed % 4]),
            AttrKind::Strings => Attr::Strings(vec!["Relu".into(); seed % 4]),
            AttrKind::Tensor => Attr::Tensor(crate::Tensor::new(&[2], vec![1i64, 2])),
            AttrKind::Symbols => Attr::Symbols(vec![]),
            AttrKind::Type => Attr::Type(Type::tensor(DType::F32, vec![])),
        }
    };
    let sequence = Type::Sequence(Box::new(crate::SeqType { dtype: DType::F32, shape: None }));
    let shapes: [&[&str]; 6] =
        [&[], &["0"], &["2", "n"], &["9223372036854775807", "2"], &["1", "2", "3"], &["n", "4", "0", "5"]];
    for op in Op::all() {
        let row = op.info();
        for seed in 0..600usize {
            let mut a = Attrs::default();
            for (i, AttrInfo { name, kind }) in row.attrs.iter().enumerate() {
                a.0.insert(name, odd(*kind, seed * (i + 1) + i));
            }
            let types: Vec<Type> = (0..row.operands.len())
                .map(|i| match (seed + i) % 7 {
                    6 => sequence.clone(),
                    k => ty(
                        [DType::F32, DType::I64, DType::Bool][(seed / 7 + i / 2) % 3],
                        shapes[(k + seed / 5 * i) % 6],
                    ),
                })
                .collect();
            let operands: Vec<_> =
                types.iter().enumerate().map(|(i, t)| (seed % 11 != i + 5).then_some(t)).collect();
            let regions = vec![Graph::new("r"); row.regions.len()];
            let _ = infer(op, &a, &operands, &regions);
        }
    }
}

#[test]
fn dims_that_a_body_changes_are_unknown() {
    let mut body = crate::Builder::new("body");
    body.input("i", ty(DType::I64, &[]));
    let cond = body.input("c", ty(DType::Bool, &[]));
    let grown = body.input("grown", f32s(&["k", "m"]));
    let kept = body.input("kept", f32s(&["m"]));
    let next = body.emit(Op::Concat, attrs! { axis: 0i64 }, &[grown, grown]).unwrap();
    body.output("cond", cond);
    body.output("grown", next);
    body.output("kept", kept);
    body.output("scanned", kept);
    let operands = [ty(DType::I64, &[]), ty(DType::Bool, &[]), f32s(&["1", "7"]), f32s(&["7"])];
    let mut a = attrs! { carried: 2i64, has_trip_count: 1i64, has_cond: 0i64 };
    let refs: Vec<_> = operands.iter().map(Some).collect();
    let regions = std::slice::from_ref(&body.graph);
    let shown = |types: Vec<Type>| types.iter().map(Type::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown(infer_open(Op::Loop, &a, &refs, regions).unwrap()),
        ["f32[_, 7]", "f32[7]", "f32[_, 7]"]
    );
    let names = |names: &[&str]| -> Vec<Option<String>> {
        names.iter().map(|n| Some((*n).to_owned()).filter(|n| n != "_")).collect()
    };
    a.0.insert(DECLARED, names(&["rows"]).into());
    let error = infer(Op::Loop, &a, &refs, regions).unwrap_err();
    assert!(error.contains("dim 0 of result 2") && error.contains("`dims = [_, _, _, u0]`"), "{error}");
    a.0.insert(DECLARED, names(&["rows", "_", "_", "rounds"]).into());
    let out = infer(Op::Loop, &a, &refs, regions).unwrap();
    assert_eq!(shown(out), ["f32[rows, 7]", "f32[7]", "f32[rounds, 7]"]);
    a.0.insert(DECLARED, names(&["a", "b", "c", "d", "e", "f"]).into());
    assert!(infer(Op::Loop, &a, &refs, regions).unwrap_err().contains("6 entries"));
}
