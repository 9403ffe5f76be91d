//! Laws of tables: constant matrices whose rows `Gather` takes.

mod kit;

use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::{Engine, Executable, Options, npz};
use egret_compress::{Compressed, Precision, Quantization, Reason, Verdict, quantize};
use kit::{File, floats, int, model, node};
use onnx_protobuf::{Message, ModelProto, NodeProto, TensorProto};
use std::path::Path;

const ROWS: i64 = 90;
const COLUMNS: i64 = 64;

fn to(precision: &str) -> Quantization {
    Quantization::new(precision.parse::<Precision>().expect("a precision"))
}

/// Rows of very different sizes.
fn table(name: &str, rows: i64) -> TensorProto {
    let mut rng = Rng::new(5);
    let value = |i: i64| rng.signed_f64() as f32 * 2f32.powi((i / COLUMNS % 9) as i32 - 4);
    let values = (0..rows * COLUMNS).map(value).collect();
    floats(name, &[rows, COLUMNS], values)
}

/// Indices of rows, from the input.
fn indices() -> NodeProto {
    let mut cast = node("Cast", "indices", &["x"], "i");
    cast.attribute.push(int("to", 7));
    cast
}

fn look(table: &str, y: &str, axis: i64) -> NodeProto {
    let mut out = node("Gather", y, &[table, "i"], y);
    out.attribute.push(int("axis", axis));
    out
}

fn run(path: &Path, x: &Tensor, engine: Engine) -> Vec<f32> {
    let graph = egret::source::graph(path, &Default::default()).expect("a graph");
    let run = Executable::new(graph, engine, &Options::default(), &Default::default()).expect("it runs");
    let out = run.run(&[x.clone().into()]).expect("a run").remove(0);
    out.as_tensor().expect("a tensor").data::<f32>().to_vec()
}

fn verdict<'a>(made: &'a Compressed, name: &str) -> &'a Verdict {
    &made.report.entries.iter().find(|e| e.name == name).expect("a verdict").verdict
}

/// Every number is off by half a step of its row at most, whichever node reads the row; indices may count from the end.
#[test]
fn rows_are_their_codes_times_their_scales() {
    let nodes = vec![
        indices(),
        look("t", "a", 0),
        node("Neg", "neg", &["i"], "back"),
        NodeProto { input: vec!["t".into(), "back".into()], ..look("t", "b", 0) },
        node("Add", "sum", &["a", "b"], "y"),
    ];
    let file = File::of(&model(nodes, vec![table("t", ROWS)], &[2, 3], "y"));
    let x = Tensor::new(&[2, 3], vec![1f32, 89.0, 7.0, 40.0, 12.0, 1.0]);
    for precision in ["w8", "w4:32"] {
        let made = quantize(&file.path(), &to(precision)).expect("it works");
        assert_eq!((made.report.tables(), made.report.quantised()), (1, 0));
        assert!(made.report.bytes < made.report.bytes_before * 3 / 10, "{}", made.report.bytes);
        let copy = File::new(&made.model);
        let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
        let scales = now.graph.initializer.iter().find(|t| t.name == "t_scale").expect("scales");
        let scales: Vec<f32> =
            scales.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(scales.len(), ROWS as usize);
        let [was, is] = [&file, &copy].map(|f| run(&f.path(), &x, Engine::Interp));
        assert_eq!(is, run(&copy.path(), &x, Engine::Jit));
        assert_ne!(was, is);
        for (k, (was, is)) in was.iter().zip(&is).enumerate() {
            let at = x.data::<f32>()[k / COLUMNS as usize] as usize;
            let step = scales[at] + scales[ROWS as usize - at];
            assert!((was - is).abs() <= step * 0.51, "{k}: {was} {is}");
        }
    }
}

/// A table with another reader, of other rows than of its first axis, too small or skipped keeps its bits, and the report says why.
#[test]
fn tables_that_stay_have_a_reason() {
    let product = || node("MatMul", "tied", &["a", "turned"], "y");
    let sum = |name: &str| node("Add", "sum", &[name, name], "y");
    let refused = |nodes: Vec<NodeProto>, rows: i64, skip: &[&str], want: Reason, precision: &str| {
        let mut all = vec![indices()];
        all.extend(nodes);
        // Something else to quantise.
        all.extend([node("Gather", "other", &["u", "i"], "o"), node("ReduceMax", "most", &["o"], "z")]);
        all.push(node("Add", "end", &["y", "z"], "out"));
        let tables = vec![table("t", rows), table("u", ROWS)];
        let file = File::of(&model(all, tables, &[2, 3], "out"));
        let skip = skip.iter().map(|s| (*s).to_owned()).collect();
        let made = quantize(&file.path(), &Quantization { skip, ..to(precision) }).expect("it works");
        let Verdict::Left { reason, .. } = verdict(&made, "a") else { panic!("it is quantised") };
        assert_eq!(*reason, want);
        assert!(matches!(verdict(&made, "other"), Verdict::Quantised { .. }));
        let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
        let kept = now.graph.initializer.iter().find(|t| t.name == "t").expect("the table");
        assert_eq!(*kept, table("t", rows));
    };
    let mut turn = node("Transpose", "turn", &["t"], "turned");
    turn.attribute.clear();
    refused(vec![look("t", "a", 0), turn, product()], ROWS, &[], Reason::Shared, "w8");
    refused(vec![look("t", "a", 1), sum("a")], ROWS, &[], Reason::Shared, "w8");
    refused(vec![look("t", "a", 0), sum("a")], 30, &[], Reason::TooSmall, "w8");
    refused(vec![look("t", "a", 0), sum("a")], ROWS, &["t"], Reason::Skipped, "w4:32");
    refused(vec![look("t", "a", 0), sum("a")], ROWS, &["a"], Reason::Skipped, "w8");
}

/// Bytes of activations behind a table have the ranges of its rows.
#[test]
fn layers_read_looked_up_rows_as_bytes() {
    let nodes = vec![indices(), look("t", "a", 0), node("MatMul", "layer", &["a", "w"], "y")];
    let square = TensorProto { name: "w".into(), ..table("w", COLUMNS) };
    let file = File::of(&model(nodes, vec![table("t", ROWS), square], &[1, 3], "y"));
    let data = file.0.path().join("x.npy");
    let samples: Vec<f32> = (0..60).map(|i| (i * 37 % ROWS) as f32).collect();
    npz::write(&data, &[("x".into(), Tensor::new(&[20, 3], samples))]).expect("a file");
    let made = quantize(&file.path(), &Quantization { data: vec![data], ..to("int8") }).expect("it works");
    assert!(matches!(verdict(&made, "a"), Verdict::Quantised { .. }), "{:?}", verdict(&made, "a"));
    // The largest rows: one range serves them all.
    let x = Tensor::new(&[1, 3], vec![8f32, 26.0, 53.0]);
    let [was, is] = [file.path(), File::new(&made.model).path()].map(|p| run(&p, &x, Engine::Interp));
    let square = |list: &[f32]| list.iter().map(|v| v * v).sum::<f32>();
    let lost: Vec<f32> = was.iter().zip(&is).map(|(a, b)| a - b).collect();
    assert!(square(&lost) < 1e-3 * square(&was), "{} of {}", square(&lost), square(&was));
}

/// Rows that are short, whole numbers, columns beside far larger ones, and a default that callers may override stay; the second axis from the last
/// is the first.
#[test]
fn tables_that_codes_would_spoil_stay() {
    let made = |t: TensorProto, axis: i64, listed: bool| {
        let nodes = vec![
            indices(),
            look("t", "a", axis),
            node("Gather", "other", &["u", "i"], "o"),
            node("ReduceMax", "most", &["o"], "z"),
            node("Add", "end", &["a", "z"], "y"),
        ];
        let mut model = model(nodes, vec![t.clone(), table("u", ROWS)], &[2, 3], "y");
        if listed {
            model.graph.mut_or_insert_default().input.push(kit::value("t", &t.dims));
        }
        let made = quantize(&File::of(&model).path(), &to("w8")).expect("it works");
        let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
        assert_eq!(now.graph.input.iter().any(|i| i.name == "t"), listed);
        match verdict(&made, "a") {
            Verdict::Left { reason, text } => Some((*reason, text.clone())),
            _ => None,
        }
    };
    let stays = |t: TensorProto, listed: bool, want: Reason, words: &str| {
        let (reason, text) = made(t, 0, listed).expect("it stays");
        assert_eq!(reason, want, "{text}");
        assert!(text.contains(words), "{text}");
    };
    let of = |width: i64, value: &dyn Fn(i64, i64) -> f32| {
        let values = (0..300 * width).map(|i| value(i / width, i % width)).collect();
        floats("t", &[300, width], values)
    };
    let wave = |r: i64, c: i64| ((r * 37 + c * 11) % 101) as f32 / 101.0;
    stays(of(31, &wave), false, Reason::TooSmall, "rows of 31");
    stays(of(32, &|r, c| (r * c) as f32), false, Reason::NotDone, "whole numbers");
    let outlier = |r: i64, c: i64| if c == 5 { 1000.0 } else { wave(r, c) };
    stays(of(32, &outlier), false, Reason::NotDone, "half of its variance");
    stays(of(32, &wave), true, Reason::Shared, "default");
    assert_eq!(made(of(32, &wave), -2, false), None);
    // A column that is the same everywhere has no variance to lose.
    assert_eq!(made(of(32, &|r, c| if c == 3 { 0.125 } else { wave(r, c) }), 0, false), None);
}

/// A name that nothing has is refused, with the tables that are called nearly so.
#[test]
fn tables_are_near_what_skip_misspells() {
    let nodes = vec![indices(), look("words", "y", 0)];
    let file = File::of(&model(nodes, vec![table("words", ROWS)], &[2, 3], "y"));
    let request = Quantization { skip: vec!["wordz".to_owned()], ..to("w8") };
    let refused = quantize(&file.path(), &request).err().expect("an error").to_string();
    assert!(refused.contains("no contraction or table is called so; near it: words"), "{refused}");
}
