//! Reshapes by shapes that sizes make: where a run has a value, it is the one that ONNX has for these sizes.

mod build;

use build::*;
use egret_ir::rng::Rng;
use egret_ir::{Tensor, Value, interp, verify};
use egret_onnx::{ImportOptions, import_in_memory};
use onnx_protobuf::ModelProto;

/// A dim of x, or an element of the shape that it is given.
#[derive(Copy, Clone, Debug)]
enum Size {
    Number(i64),
    N,
    M,
    Both,
    /// One less than n: -1 where n is 0.
    Less,
}

impl Size {
    fn at(self, n: i64, m: i64) -> i64 {
        match self {
            Size::Number(v) => v,
            Size::N => n,
            Size::M => m,
            Size::Both => n * m,
            Size::Less => n - 1,
        }
    }

    /// As a dim of an input.
    fn dim(self) -> String {
        match self {
            Size::Number(v) => v.to_string(),
            Size::N => "N".into(),
            Size::M => "M".into(),
            Size::Both | Size::Less => unreachable!("no dim of an input"),
        }
    }

    /// The name of a vector of it.
    fn name(self) -> String {
        match self {
            Size::Number(v) => format!("c{v}"),
            Size::N => "n".into(),
            Size::M => "m".into(),
            Size::Both => "both".into(),
            Size::Less => "less".into(),
        }
    }
}

/// As the operator's definition says. Nothing where it has no result.
fn reshaped(x: &[i64], target: &[i64], allow_zero: bool) -> Option<Vec<i64>> {
    let mut to = vec![];
    for (i, &d) in target.iter().enumerate() {
        to.push(if d == 0 && !allow_zero { *x.get(i)? } else { d });
    }
    let count: i64 = x.iter().product();
    let open: Vec<usize> = (0..to.len()).filter(|&i| to[i] == -1).collect();
    if let [at] = open[..] {
        let others: i64 = to.iter().filter(|&&d| d != -1).product();
        to[at] = (others != 0 && count % others == 0).then(|| count / others)?;
    }
    (open.len() < 2 && to.iter().product::<i64>() == count).then_some(to)
}

/// x, whose dims are `from`, reshaped to `to`; y has the dims n and m.
fn reshaping(from: &[Size], to: &[Size], allow_zero: bool) -> ModelProto {
    let side =
        |name: &str, i: i64| node("Shape", &["y"], &[name], vec![int("start", i), int("end", i + 1)]);
    let dims: Vec<String> = from.iter().map(|s| s.dim()).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    let parts: Vec<String> = to.iter().map(|s| s.name()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let zero = if allow_zero { vec![int("allowzero", 1)] } else { vec![] };
    let nodes = vec![
        side("n", 0),
        side("m", 1),
        node("Mul", &["n", "m"], &["both"], vec![]),
        node("Sub", &["n", "c1"], &["less"], vec![]),
        node("Concat", &parts, &["to"], vec![int("axis", 0)]),
        node("Reshape", &["x", "to"], &["z"], zero),
    ];
    let mut g =
        graph(vec![value("x", 1, &dims), value("y", 1, &["N", "M"])], vec![value("z", 1, &[])], nodes);
    g.output[0].type_ = None.into();
    g.initializer = (-1..5).map(|v| ints(&format!("c{v}"), &[1], &[v])).collect();
    model(g)
}

#[test]
fn a_dim_of_0_is_what_it_is_in_onnx() {
    let mut rng = Rng::new(3);
    let (mut right, mut refused, mut empty, mut models) = (0, 0, 0, 0);
    for round in 0..6000 {
        let own = [Size::N, Size::M, Size::Number(1), Size::Number(2), Size::Number(3), Size::Number(4)];
        let from: Vec<Size> = (0..2 + round % 2).map(|_| rng.pick(&own)).collect();
        let made = [Size::Both, Size::Both, Size::Less];
        let new = [&own[..], &made, &[Size::Number(0)], &[Size::Number(-1); 2]].concat();
        let to: Vec<Size> = (0..1 + round % 4).map(|_| rng.pick(&new)).collect();
        let allow_zero = round % 5 == 0;
        let Ok(graph) = import_in_memory(&reshaping(&from, &to, allow_zero), &ImportOptions::default())
        else {
            continue;
        };
        if verify(&graph).is_err() {
            continue;
        }
        models += 1;
        for (n, m) in (0..4).flat_map(|n| (0..4).map(move |m| (n, m))) {
            let at = |sizes: &[Size]| sizes.iter().map(|s| s.at(n, m)).collect::<Vec<i64>>();
            let (x, target) = (at(&from), at(&to));
            let zeros = |dims: &[i64]| -> Value {
                let dims: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
                Tensor::new(&dims, vec![0f32; dims.iter().product()]).into()
            };
            let want = reshaped(&x, &target, allow_zero);
            let got = interp::run(&graph, &[zeros(&x), zeros(&[n, m])]).ok();
            let got = got.map(|out| out[0].as_tensor().expect("a tensor").shape().to_vec());
            let got = got.map(|dims| dims.into_iter().map(|d| d as i64).collect::<Vec<_>>());
            let what = format!("{x:?} ({from:?}) to {target:?} ({to:?}), allowzero {allow_zero}\n{graph}");
            match (want, got) {
                (Some(want), Some(got)) => {
                    assert_eq!(got, want, "{what}");
                    right += 1;
                    empty += usize::from(x.contains(&0));
                }
                // A run that has a result is refused only where something is 0 or -1 at these sizes and not at others: the dim would be another one.
                (Some(_), None) => {
                    let is_open = to.iter().zip(&target).any(|(s, &d)| matches!(s, Size::Less) && d == -1);
                    assert!(is_open || target.contains(&0) && !allow_zero, "{what}");
                    refused += 1;
                }
                // Where ONNX has no result, a run may have that which other sizes lead to: of nothing.
                (None, Some(got)) => assert!(got.contains(&0), "{got:?}: {what}"),
                (None, None) => {}
            }
        }
    }
    assert!(
        models > 1000 && right > 3000 && empty > 1000 && refused > 100,
        "{models} models, {right} right, {empty} of them of nothing, {refused} refused"
    );
}
