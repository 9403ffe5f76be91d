//! Sizes that only the data decide: every pass alone, and all together, leave each symbol with the node that declares it.

use egret_ir::{
    Attrs, Builder, DType, Dim, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp, text, verify,
};
use egret_opt::{Options, PASSES, optimize};
use egret_testkit::{Rng, compare};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors for the inputs of a graph whose symbols have these sizes; about a third of the elements are 0.
fn inputs(graph: &Graph, sizes: &BTreeMap<String, i64>, seed: u64) -> Vec<Value> {
    let mut rng = Rng::new(seed);
    let mut next = || rng.pick(&[0.0f32, 1.0, -2.0, 3.0, 0.0, 5.0]);
    let tensor = |&v: &ValueId| {
        let shape = graph.tensor_ty(v).substitute(sizes).const_dims().unwrap();
        let len = shape.iter().product();
        Tensor::new(&shape, (0..len).map(|_| next()).collect::<Vec<f32>>()).into()
    };
    graph.inputs().iter().map(tensor).collect()
}

/// Every pass by itself, then all of them; each with the proof written down and without.
fn choices() -> Vec<Options> {
    let alone = PASSES.iter().map(|p| Some(vec![p.name.to_owned()]));
    let all = alone.chain([None]);
    all.flat_map(|passes| {
        [false, true].map(|explain| Options {
            passes: passes.clone(),
            explain,
            check: true,
            ..Options::default()
        })
    })
    .collect()
}

/// That passes leave the results of a graph as they are, for each of these sizes.
fn hold(graph: &Graph, sizes: &[BTreeMap<String, i64>]) -> Result<(), String> {
    verify(graph).map_err(|e| format!("{graph}{}", e[0]))?;
    let shown = graph.to_string();
    let again = text::parse(&shown, &|_| None).map_err(|e| format!("{shown}{e}"))?;
    if again.to_string() != shown {
        return Err(format!("{shown}is read as\n{again}"));
    }
    let cases: Vec<(Vec<Value>, Vec<Value>)> = sizes
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let given = inputs(graph, s, i as u64);
            let out = interp::run(graph, &given).map_err(|e| format!("{shown}{e}"))?;
            Ok((given, out))
        })
        .collect::<Result<_, String>>()?;
    for options in choices() {
        let what = options.passes.as_ref().map_or("all passes".to_owned(), |p| p.join(", "));
        let (new, _) = optimize(graph.clone(), &options)
            .map_err(|e| format!("{shown}{what} (explain: {}): {e}", options.explain))?;
        verify(&new).map_err(|e| format!("{shown}after {what}\n{new}{}", e[0]))?;
        for (given, expected) in &cases {
            let got = interp::run(&new, given).map_err(|e| format!("{shown}after {what}\n{new}{e}"))?;
            if !got.iter().zip(expected).all(|(a, b)| same(a, b)) {
                return Err(format!("{shown}after {what}\n{new}gives other values"));
            }
        }
    }
    Ok(())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_tensor(), b.as_tensor()) {
        (Some(a), Some(b)) => compare::same(a, b).is_ok(),
        _ => false,
    }
}

fn sizes(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect()
}

#[test]
fn files_keep_their_results() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/files/symbols");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8);
    let drawn = [(2, 3), (3, 2), (1, 0), (0, 1), (4, 4)];
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let graph = text::parse(&text, &|_| None).unwrap();
        let broadcasts = graph.input_symbols().contains("a");
        let fits = |&&(p, q): &&(i64, i64)| !broadcasts || p == q || p == 1 || q == 1;
        let all: Vec<_> = drawn
            .iter()
            .filter(fits)
            .map(|&(p, q)| sizes(&[("a", p), ("b", q), ("n", p), ("m", q)]))
            .collect();
        if let Err(e) = hold(&graph, &all) {
            panic!("{}: {e}", path.display());
        }
    }
}

/// What one node is drawn from: which kind, and its operand.
type Gene = (u8, u8);

struct Draw {
    b: Builder,
    values: Vec<ValueId>,
}

impl Draw {
    fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.b.tensor_ty(v).shape.clone()
    }

    fn flat(&mut self, v: ValueId) -> Option<ValueId> {
        let count = self.shape(v).into_iter().fold(Dim::from(1i64), |a, d| a * d);
        self.node(Op::Reshape, attrs! { shape: vec![count] }, &[v])
    }

    fn node(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Option<ValueId> {
        self.b.emit(op, attrs, operands).ok()
    }

    fn scalar(&mut self, like: ValueId, value: i64) -> ValueId {
        self.b.constant(match self.b.tensor_ty(like).dtype {
            DType::I64 => Tensor::scalar(value),
            _ => Tensor::scalar(value as f32),
        })
    }

    fn gene(&mut self, (kind, operand): Gene) -> Option<()> {
        let x = self.values[self.values.len() - 1 - operand as usize % self.values.len()];
        let (shape, rank) = (self.shape(x), self.shape(x).len());
        let new = match kind % 14 {
            0 | 1 => self.node(Op::Nonzero, attrs! {}, &[x])?,
            2 => {
                let flat = self.flat(x)?;
                let zero = self.scalar(x, 0);
                let cond = self.node(Op::Less, attrs! {}, &[zero, flat])?;
                self.node(Op::Compress, attrs! { axis: 0i64 }, &[flat, cond])?
            }
            3 => {
                let a = attrs! { axis: 0i64, flat: 1i64, sorted: 1i64 };
                let all = self.b.emit_node(Op::Unique, a, &[Some(x)], vec![]).ok()?;
                self.values.extend(&all[1..]);
                all[0]
            }
            4 => {
                let once = self.node(Op::Neg, attrs! {}, &[x])?;
                self.node(Op::Neg, attrs! {}, &[once])?
            }
            5 => self.flat(x)?,
            6 => self.node(
                Op::Iota,
                attrs! { axis: 0i64, shape: vec![shape.last()?.clone()], to: DType::I64 },
                &[],
            )?,
            7 => {
                let starts = vec![Dim::from(0i64); rank];
                let mut sizes = shape.clone();
                *sizes.first_mut()? = shape[0].op(egret_ir::DimOp::Min, &Dim::from(1i64));
                self.node(
                    Op::Slice,
                    attrs! { starts: starts, sizes: sizes, steps: vec![1i64; rank] },
                    &[x],
                )?
            }
            8 => self.node(Op::Concat, attrs! { axis: 0i64 }, &[x, x])?,
            9 => {
                let to = if self.b.tensor_ty(x).dtype == DType::I64 { DType::F32 } else { DType::I64 };
                self.node(Op::Cast, attrs! { to: to, round: "nearest", saturate: 1i64 }, &[x])?
            }
            10 if rank == 2 => {
                let t = self.node(Op::Transpose, attrs! { perm: vec![1i64, 0] }, &[x])?;
                self.node(Op::Neg, attrs! {}, &[t])?
            }
            11 => {
                let one = self.scalar(x, 1);
                self.node(Op::Mul, attrs! {}, &[x, one])?
            }
            12 => {
                let two = self.scalar(x, 2);
                let all = self.node(Op::Broadcast, attrs! { shape: shape.clone() }, &[two])?;
                self.node(Op::Add, attrs! {}, &[all, x])?
            }
            _ => {
                // Only the size of x reaches what comes of this.
                let zero = self.scalar(x, 3);
                self.node(Op::Broadcast, attrs! { shape: shape.clone() }, &[zero])?
            }
        };
        self.values.push(new);
        Some(())
    }
}

/// A graph of several nodes whose sizes the data decide; most of what is not used is an output.
fn graph(genes: &[Gene]) -> Graph {
    let mut b = Builder::new("random");
    // Names that fresh symbols would like to have.
    let dims = |s: &str| vec![Dim::symbol(s), Dim::from(3i64)];
    let x = b.input("x", Type::tensor(DType::F32, dims("u1")));
    let z = b.input("z", Type::tensor(DType::F32, dims("n")));
    let mut draw = Draw { b, values: vec![x, z] };
    for &gene in genes {
        draw.gene(gene);
    }
    let Draw { mut b, values } = draw;
    let lists = b.graph.use_lists();
    let idle: Vec<ValueId> = values.into_iter().filter(|&v| lists.users(v).is_empty()).collect();
    let last = idle.len() - 1;
    // Of some only the size is used, if that.
    for (i, v) in idle.into_iter().enumerate().filter(|(i, _)| i % 3 != 0 || *i == last) {
        b.output(&format!("y{i}"), v);
    }
    b.graph.remove_dead();
    b.graph
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("EGRET_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
    ))]

    #[test]
    fn random_graphs_keep_their_results(
        genes in prop::collection::vec(any::<Gene>(), 1..12),
        p in 0i64..4,
        q in 0i64..4,
    ) {
        let graph = graph(&genes);
        let all = [sizes(&[("u1", p), ("n", q)]), sizes(&[("u1", q + 1), ("n", p)])];
        if let Err(e) = hold(&graph, &all) {
            return Err(TestCaseError::fail(e));
        }
    }
}
