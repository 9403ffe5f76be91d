//! SHAP values of random ensembles of decision trees against the definition: every subset of the features, run by the reference interpreter.

use egret::inputs::{Given, Inputs};
use egret::ir::rng::Rng;
use egret::ir::{
    Attrs, Builder, DType, Graph, Op, Tensor, TensorType, Type, Value, ValueId, attrs, interp, text,
};
use egret::{Engine, Error, Options, npz, source};
use egret_attribute::{Baseline, Checks, Choices, Explanation, Method, Request, explain};
use egret_testkit::trees::{Ensemble, number};
use std::path::Path;

/// A feature's value: a number, or missing.
fn value(rng: &mut Rng) -> f64 {
    if rng.below(5) == 0 { f64::NAN } else { number(rng) }
}

/// Trees of all tests.
fn grown(rng: &mut Rng, count: usize, features: usize, targets: usize) -> Ensemble {
    let mut trees = Ensemble::default();
    for _ in 0..count {
        let (root, _) = trees.grow(rng, 5, &[0, 1, 2, 3, 4, 5, 6], features, targets);
        trees.roots.push(root as i64);
    }
    trees
}

fn rows(shape: &[usize]) -> Type {
    Type::Tensor(TensorType { dtype: DType::F64, shape: shape.iter().map(|&d| d.into()).collect() })
}

/// A graph with inputs of these widths.
struct Model {
    builder: Builder,
    inputs: Vec<ValueId>,
}

impl Model {
    fn new(count: usize, widths: &[usize]) -> Model {
        let mut builder = Builder::new("trees");
        let input = |(i, &w): (usize, &usize)| builder.input(&format!("x{i}"), rows(&[count, w]));
        let inputs = widths.iter().enumerate().map(input).collect();
        Model { builder, inputs }
    }

    fn op(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> ValueId {
        self.builder.emit(op, attrs, operands).unwrap_or_else(|e| panic!("{op}: {e}"))
    }

    fn constant(&mut self, shape: &[usize], values: &[f64]) -> ValueId {
        self.builder.constant(Tensor::new(shape, values.to_vec()))
    }

    fn done(mut self, y: ValueId) -> Graph {
        self.builder.output("y", y);
        self.builder.graph
    }
}

/// Rows by input.
type Tables = Vec<Vec<Vec<f64>>>;

fn table(rng: &mut Rng, count: usize, widths: &[usize]) -> Tables {
    let mut row = |w: usize| (0..w).map(|_| value(rng)).collect::<Vec<_>>();
    widths.iter().map(|&w| (0..count).map(|_| row(w)).collect()).collect()
}

fn tensor(rows: &[Vec<f64>]) -> Tensor {
    Tensor::new(&[rows.len(), rows[0].len()], rows.concat())
}

/// Explain a graph; rows and background as files.
fn run(graph: &Graph, x: &Tables, background: &Tables, request: &Request) -> Result<Explanation, Error> {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("model.egret");
    std::fs::write(&model, graph.to_string()).expect("a file");
    let constants = text::constants(graph);
    std::fs::create_dir(dir.path().join("constants")).expect("a folder");
    for (hash, tensor) in constants {
        let file = dir.path().join("constants").join(format!("{hash}.npy"));
        npz::write(&file, &[(hash, tensor)]).expect("a file");
    }
    let write = |name: &str, tables: &Tables| -> Vec<(String, Given)> {
        let one = |(i, rows): (usize, &Vec<Vec<f64>>)| {
            let file = dir.path().join(format!("{name}{i}.npy"));
            npz::write(&file, &[(format!("x{i}"), tensor(rows))]).expect("a file");
            (format!("x{i}"), Given::File(file))
        };
        tables.iter().enumerate().map(one).collect()
    };
    let inputs = Inputs { named: write("x", x), ..Inputs::default() };
    let rows = Inputs { named: write("b", background), ..Inputs::default() };
    let request = Request { baseline: Baseline { rows, ..Baseline::default() }, ..request.clone() };
    explain(&source::Request { model, inputs, ..source::Request::default() }, &request)
}

fn request(target: &str) -> Request {
    Request {
        target: Some(target.into()),
        method: Method::new("tree-shap", &Choices { background: true, ..Choices::default() })
            .expect("tree-shap"),
        wrt: vec![],
        baseline: Baseline::default(),
        checks: Checks::default(),
        engine: Engine::Interp,
        options: Options { threads: 2, ..Options::default() },
    }
}

/// What the interpreter says about one row: target `class`.
fn score(graph: &Graph, count: usize, row: &[Vec<f64>], class: usize) -> f64 {
    let inputs: Vec<Value> = row.iter().map(|r| tensor(&vec![r.clone(); count]).into()).collect();
    let out = interp::run(graph, &inputs).expect("it runs");
    out[0].as_tensor().expect("scores").data::<f64>()[class]
}

/// Shapley values by their definition. `graph` gives margins.
fn by_subsets(graph: &Graph, x: &Tables, background: &Tables, r: usize, class: usize) -> (Vec<f64>, f64) {
    let count = x[0].len();
    let widths: Vec<usize> = x.iter().map(|t| t[0].len()).collect();
    let players: usize = widths.iter().sum();
    let worth: Vec<f64> = (0..1usize << players)
        .map(|set| {
            let mean = |b: usize| {
                let mut player = 0;
                let mut row = vec![];
                for (own, other) in x.iter().zip(background) {
                    let take =
                        |i: usize| if set >> (player + i) & 1 == 1 { own[r][i] } else { other[b][i] };
                    row.push((0..own[r].len()).map(take).collect());
                    player += own[r].len();
                }
                score(graph, count, &row, class)
            };
            (0..background[0].len()).map(mean).sum::<f64>() / background[0].len() as f64
        })
        .collect();
    let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
    let shapley = |i: usize| -> f64 {
        let without = (0..1usize << players).filter(|s| s >> i & 1 == 0);
        let one = |s: usize| {
            let size = s.count_ones() as usize;
            factorial(size) * factorial(players - size - 1) / factorial(players)
                * (worth[s | 1 << i] - worth[s])
        };
        without.map(one).sum()
    };
    ((0..players).map(shapley).collect(), worth[0])
}

/// The same graph without post transforms.
fn margins(graph: &Graph) -> Graph {
    let mut plain = graph.clone();
    for n in graph.node_ids() {
        if graph.node(n).op == Op::TreeEnsemble {
            plain.node_mut(n).attrs.0.insert("post_transform", 0i64.into());
        }
    }
    plain
}

/// The values of a target of every row are those of the definition, and complete.
#[track_caller]
fn holds(graph: &Graph, x: &Tables, background: &Tables, class: usize, engine: Engine) {
    let found = run(graph, x, background, &Request { engine, ..request(&format!("y[{class}]")) });
    let found = found.unwrap_or_else(|e| panic!("{e}\n{graph}"));
    let plain = margins(graph);
    let (mut sum, mut size) = (0.0, 1.0);
    for r in 0..x[0].len() {
        let (want, expected) = by_subsets(&plain, x, background, r, class);
        let got: Vec<f64> = found
            .maps
            .iter()
            .flat_map(|m| m.values[r * m.shape[1]..(r + 1) * m.shape[1]].to_vec())
            .collect();
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-12, "row {r}: {got}, not {want}\n{graph}");
            size += want.abs();
        }
        sum += expected;
    }
    let c = found.completeness.expect("a completeness error");
    assert!((c.baseline - sum).abs() < 1e-11 && c.error() < 1e-12 * size, "{c:?} beside {sum}\n{graph}");
}

#[test]
fn values_are_those_of_the_definition() {
    let mut seen = 0;
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let (features, targets) = (rng.below(5) + 1, rng.below(3) + 1);
        let (count, others) = (rng.below(3) + 1, rng.below(4) + 1);
        let grow = rng.below(4) + 1;
        let trees = grown(&mut rng, grow, features, targets);
        let mut model = Model::new(count, &[features]);
        let attrs = trees.attrs(DType::F64, targets, rng.below(2) as i64, rng.below(4) as i64);
        let x0 = model.inputs[0];
        let y = model.op(Op::TreeEnsemble, attrs, &[x0]);
        let graph = model.done(y);
        let (x, background) = (table(&mut rng, count, &[features]), table(&mut rng, others, &[features]));
        let class = rng.below(targets);
        let engine = if seed < 8 { Engine::Jit } else { Engine::Interp };
        holds(&graph, &x, &background, class, engine);
        let found = run(&graph, &x, &background, &request(&format!("y[{class}]"))).expect("values");
        seen += usize::from(found.maps[0].values.iter().filter(|v| **v != 0.0).count() > 2);
    }
    assert!(seen > 20, "only {seen} games of 60 have three players that count");
}

#[test]
fn what_works_on_single_columns_may_stand_before_the_trees() {
    for seed in 0..12 {
        let mut rng = Rng::new(1000 + seed);
        let (widths, count) = ([2, 3], 2);
        let mut model = Model::new(count, &widths);
        let inputs = model.inputs.clone();
        // Missing values of the first input are replaced, the second is scaled; a column is asked about twice, so that a player has two.
        let missing = model.op(Op::IsNan, Attrs::default(), &inputs[..1]);
        let mean = model.constant(&[1, 2], &[0.5, -1.0]);
        let filled = model.op(Op::Where, Attrs::default(), &[missing, mean, inputs[0]]);
        let scale = model.constant(&[3], &[2.0, -1.0, 0.5]);
        let scaled = model.op(Op::Mul, Attrs::default(), &[inputs[1], scale]);
        let all = model.op(Op::Concat, attrs! { axis: 1 }, &[filled, scaled]);
        let chosen = model.builder.constant(Tensor::new(&[6], vec![4i64, 0, 1, 2, -5, 3]));
        let features = model.op(Op::Gather, attrs! { axis: 1 }, &[all, chosen]);
        // Two ensembles, weighed and with a base value.
        let (one, two) = (grown(&mut rng, 3, 6, 2), grown(&mut rng, 2, 5, 2));
        let one = model.op(Op::TreeEnsemble, one.attrs(DType::F64, 2, 1, 0), &[features]);
        let two = model.op(Op::TreeEnsemble, two.attrs(DType::F64, 2, 0, 0), &[all]);
        let weights = model.constant(&[2], &[0.25, -2.0]);
        let one = model.op(Op::Mul, Attrs::default(), &[one, weights]);
        let both = model.op(Op::Sub, Attrs::default(), &[one, two]);
        let base = model.constant(&[1, 2], &[10.0, 20.0]);
        let y = model.op(Op::Add, Attrs::default(), &[base, both]);
        let graph = model.done(y);
        let (x, background) = (table(&mut rng, count, &widths), table(&mut rng, 3, &widths));
        let found = run(&graph, &x, &background, &request("y[1]")).expect("values");
        let c = found.completeness.clone().expect("a completeness error");
        assert!(c.error() < 1e-12, "{c:?}\n{graph}");
        let mut expected = 0.0;
        for r in 0..count {
            let (want, without) = by_subsets(&graph, &x, &background, r, 1);
            expected += without;
            let got: Vec<f64> = found
                .maps
                .iter()
                .flat_map(|m| m.values[r * m.shape[1]..(r + 1) * m.shape[1]].to_vec())
                .collect();
            got.iter()
                .zip(&want)
                .for_each(|(g, w)| assert!((g - w).abs() < 1e-12, "{got:?}, not {want:?}"));
        }
        assert!((c.baseline - expected).abs() < 1e-12, "{c:?} beside {expected}");
        // Inputs that do not count stay as they are.
        let only = Request { wrt: vec!["x1".into()], ..request("y[1]") };
        let mut fixed = background.clone();
        for r in 0..count {
            fixed[0] = vec![x[0][r].clone(); 3];
            let (want, _) = by_subsets(&graph, &x, &fixed, r, 1);
            let found = run(&graph, &x, &background, &only).expect("values");
            assert_eq!(found.maps.len(), 1);
            let got = &found.maps[0].values[r * 3..(r + 1) * 3];
            got.iter()
                .zip(&want[2..])
                .for_each(|(g, w)| assert!((g - w).abs() < 1e-12, "{got:?}, not {want:?}"));
        }
    }
}

#[test]
fn values_are_those_of_the_package_shap() {
    // Recorded by fixtures/gen/tree_shap.py. The trees end in the logistic function; margins are explained.
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    let recorded = npz::read_npz(&fixture("shap/digit_trees.npz")).expect("the values");
    let values = recorded["values"].data::<f64>();
    let expected = recorded["expected"].data::<f64>()[0];
    let digits = fixture("digits/images.npy").display().to_string();
    for (k, &sample) in recorded["samples"].data::<i64>().iter().enumerate() {
        let source = source::Request {
            model: fixture("models/digit_trees.onnx"),
            inputs: Inputs {
                named: vec![Given::named(&format!("image={digits}")).expect("a file")],
                sample: Some(sample as usize),
                ..Inputs::default()
            },
            ..source::Request::default()
        };
        let rows = Inputs { files: vec![fixture("shap/background.npz")], ..Inputs::default() };
        let baseline = Baseline { rows, ..Baseline::default() };
        let request = Request { engine: Engine::Jit, baseline, ..request("nine") };
        let found = explain(&source, &request).expect("values");
        let c = found.completeness.expect("a completeness error");
        assert!((c.baseline - expected).abs() < 1e-7 && c.error() < 1e-5, "digit {sample}: {c:?}");
        let own = &found.maps[0];
        assert_eq!(own.shape, [1, 1, 28, 28]);
        let largest = own.values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        assert!(largest > 0.1, "digit {sample}: {largest}");
        for (got, want) in own.values.iter().zip(&values[k * 784..(k + 1) * 784]) {
            assert!((got - want).abs() < 1e-7, "digit {sample}: {got}, not {want}");
        }
    }
}

/// A chain of as many tests as features: one more leaf at each.
fn chain(features: usize, inner: f64, last: f64) -> Graph {
    let mut trees = Ensemble { roots: vec![0], ..Ensemble::default() };
    for i in 0..features {
        trees.feature.push(i as i64);
        trees.mode.push(2);
        trees.split.push(0.5);
        trees.missing.push(0);
        let on = if i + 1 < features { (i + 1, false) } else { (features, true) };
        trees.next.push([on, (i, true)]);
        trees.target.push(0);
        trees.weight.push(inner);
    }
    trees.target.push(0);
    trees.weight.push(last);
    let mut model = Model::new(1, &[features]);
    let x0 = model.inputs[0];
    let y = model.op(Op::TreeEnsemble, trees.attrs(DType::F64, 1, 1, 0), &[x0]);
    model.done(y)
}

#[test]
fn deep_trees_keep_their_precision() {
    // 1 if all features are there: each has the same share, whether the leaf at the end says so or the others do.
    let n = 2000;
    for (inner, last) in [(0.0, 1.0), (-1.0, 0.0)] {
        let graph = chain(n, inner, last);
        let found = run(&graph, &vec![vec![vec![1.0; n]]], &vec![vec![vec![0.0; n]]], &request("y[0]"));
        let values = found.expect("values").maps.remove(0).values;
        for v in values {
            assert!((v * n as f64 - 1.0).abs() < 1e-9, "{v}, not 1/{n}");
        }
    }
}

#[test]
fn values_are_the_same_bits_for_any_number_of_threads() {
    let mut rng = Rng::new(5);
    let trees = grown(&mut rng, 20, 6, 2);
    let mut model = Model::new(3, &[6]);
    let x0 = model.inputs[0];
    let y = model.op(Op::TreeEnsemble, trees.attrs(DType::F64, 2, 1, 0), &[x0]);
    let graph = model.done(y);
    let (x, background) = (table(&mut rng, 3, &[6]), table(&mut rng, 50, &[6]));
    let with = |threads: usize| {
        let options = Options { threads, ..Options::default() };
        let found = run(&graph, &x, &background, &Request { options, ..request("y[1]") }).expect("values");
        found.maps[0].values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(with(1), with(5));
}

#[test]
fn what_is_no_sum_of_trees_is_refused() {
    let mut rng = Rng::new(9);
    let trees = grown(&mut rng, 3, 2, 2);
    let (x, background) = (table(&mut rng, 2, &[2]), table(&mut rng, 3, &[2]));
    let refused = |make: &dyn Fn(&mut Model) -> ValueId, background: &Tables, part: &str| {
        let mut model = Model::new(2, &[2]);
        let y = make(&mut model);
        let graph = model.done(y);
        let e = run(&graph, &x, background, &request("y[0]")).expect_err("a refusal").to_string();
        assert!(e.contains(part), "no `{part}` in {e}");
    };
    let grown = |m: &mut Model, aggregate, post| {
        let x0 = m.inputs[0];
        m.op(Op::TreeEnsemble, trees.attrs(DType::F64, 2, aggregate, post), &[x0])
    };
    let plain = |m: &mut Model| grown(m, 1, 0);
    refused(&|m| grown(m, 2, 0), &background, "takes the smallest of its trees");
    refused(&|m| grown(m, 3, 0), &background, "takes the largest of its trees");
    let squared = |m: &mut Model| {
        let y = plain(m);
        m.op(Op::Mul, Attrs::default(), &[y, y])
    };
    refused(&squared, &background, "mul is not linear; name such a sum by --target (");
    let after = |m: &mut Model| {
        let y = grown(m, 1, 2);
        m.op(Op::Neg, Attrs::default(), &[y])
    };
    refused(&after, &background, "ends in the logistic function");
    let unlike = |m: &mut Model| {
        let base = m.constant(&[2, 1], &[1.0, 2.0]);
        let y = plain(m);
        m.op(Op::Add, Attrs::default(), &[y, base])
    };
    refused(&unlike, &background, "add does not treat all rows alike");
    let sigmoid = |m: &mut Model| {
        let y = plain(m);
        m.op(Op::Sigmoid, Attrs::default(), &[y])
    };
    refused(&sigmoid, &background, "it is made by");
    let none = |m: &mut Model| {
        let x0 = m.inputs[0];
        m.op(Op::Tanh, Attrs::default(), &[x0])
    };
    refused(&none, &background, "the model has none; --method integrated-gradients");
    let mixed = |m: &mut Model| {
        let weights = m.constant(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let x0 = m.inputs[0];
        let z = m.op(Op::Matmul, Attrs::default(), &[x0, weights]);
        m.op(Op::TreeEnsemble, trees.attrs(DType::F64, 2, 1, 0), &[z])
    };
    refused(&mixed, &background, "no columns of inputs: they are made by");
    let rowwise = |m: &mut Model| {
        let by = m.constant(&[2, 1], &[1.0, 2.0]);
        let x0 = m.inputs[0];
        let z = m.op(Op::Mul, Attrs::default(), &[x0, by]);
        m.op(Op::TreeEnsemble, trees.attrs(DType::F64, 2, 1, 0), &[z])
    };
    refused(&rowwise, &background, "does not treat all rows alike");
    refused(&plain, &vec![], "give some of the data by --background rows.npy");
    refused(
        &plain,
        &vec![vec![vec![1.0; 3]]],
        "`x0` is f64[1, 3], but it needs rows as those of the input, [2, 2]",
    );
}
