//! Products by weights quantised in blocks, of drawn shapes: every engine against the interpreter, and no floats among the weights.

use egret::ir::rng::Rng;
use egret::ir::{CodeLayout, DType, Graph, Value, interp, text};
use egret::{Engine, Executable, Options, compare, pipeline, source};
use std::collections::BTreeMap;

/// What one product is drawn as.
#[derive(Clone, Debug)]
struct Drawn {
    /// Batch and rows of the left operand.
    left: [usize; 2],
    k: usize,
    n: usize,
    layout: CodeLayout,
    block: usize,
    codes: DType,
    zeros: Zeros,
    /// Adds a bias and takes the maximum with 0.
    epilogue: bool,
}

#[derive(Clone, Debug)]
enum Zeros {
    None,
    One,
    Codes,
    Floats,
}

fn draw(rng: &mut Rng) -> Drawn {
    let mut below = |n: u64| (rng.bits() % n) as usize;
    let block = [16, 32, 64, 128, 256][below(5)];
    let layout = [CodeLayout::Blocks, CodeLayout::Rows, CodeLayout::Columns][below(3)];
    Drawn {
        layout,
        left: [1 + below(2), [1, 2, 7, 16, 40, 300][below(6)]],
        k: 1 + below(900),
        n: [1, 17, 48, 64, 100, 200, 333, 400][below(8)],
        block,
        codes: match layout {
            CodeLayout::Blocks => {
                [DType::U4, DType::I4, DType::U8, DType::I8, DType::U2, DType::I2][below(6)]
            }
            _ => [DType::U8, DType::I8][below(2)],
        },
        zeros: [Zeros::None, Zeros::One, Zeros::Codes, Zeros::Floats][below(4)].clone(),
        epilogue: below(2) == 0,
    }
}

/// Codes over the whole range of their type, as text.
fn codes(rng: &mut Rng, d: &Drawn, dims: &[usize]) -> String {
    let (low, count) = match d.codes {
        DType::U2 => (0, 4),
        DType::I2 => (-2, 4),
        DType::U4 => (0, 16),
        DType::I4 => (-8, 16),
        DType::U8 => (0, 256),
        _ => (-128, 256),
    };
    let all: Vec<String> = (0..dims.iter().product())
        .map(|_: usize| (low + (rng.bits() % count) as i64).to_string())
        .collect();
    format!("const {}{dims:?} [{}]", d.codes, all.join(", "))
}

/// As text: a builder would fold small constants. `left` are the batch and the rows of the left operand.
fn graph(d: &Drawn, rng: &mut Rng, left: [&str; 2]) -> Graph {
    let (&Drawn { k, n, block, .. }, [batch, m]) = (d, left);
    let blocks = k.div_ceil(block);
    let padded = blocks * block;
    let (whole, parts) = match d.layout {
        CodeLayout::Blocks => (vec![n, blocks, block], vec![n, blocks, 1]),
        CodeLayout::Rows => (vec![k, n], vec![1, n]),
        CodeLayout::Columns => (vec![n, k], vec![n, 1]),
    };
    let each: usize = parts.iter().product();
    let code = codes(rng, d, &whole);
    let zero = codes(rng, d, &parts);
    let (whole, parts) = (format!("f32{whole:?}"), format!("f32{parts:?}"));
    let cast = "{round = \"nearest\", saturate = 1, to = f32}";
    let zeros = match d.zeros {
        Zeros::None => String::new(),
        Zeros::One => "%20 = const f32[] [1.0]\n".into(),
        Zeros::Codes => {
            format!("%21 = {zero}\n%20 = cast(%21) {cast} : {parts}\n")
        }
        Zeros::Floats => {
            let all: Vec<String> = (0..each).map(|_| format!("{}.0", rng.bits() % 2)).collect();
            format!("%20 = const {parts} [{}]\n", all.join(", "))
        }
    };
    let centred = match d.zeros {
        Zeros::None => 2,
        _ => 3,
    };
    let sub = if centred == 3 { format!("%3 = sub(%2, %20) : {whole}\n") } else { String::new() };
    let reshape = format!("%6 = reshape(%5) {{shape = [{n}, {padded}]}} : f32[{n}, {padded}]\n");
    let slice =
        format!("%7 = slice(%6) {{sizes = [{n}, {k}], starts = [0, 0], steps = [1, 1]}} : f32[{n}, {k}]\n");
    let turn = |from: usize| format!("%8 = transpose(%{from}) {{perm = [1, 0]}} : f32[{k}, {n}]\n");
    let (moves, w) = match d.layout {
        CodeLayout::Blocks if padded == k => (reshape + &turn(6), 8),
        CodeLayout::Blocks => (reshape + &slice + &turn(7), 8),
        CodeLayout::Rows => (String::new(), 5),
        CodeLayout::Columns => (turn(5), 8),
    };
    let result = format!("f32[{batch}, {m}, {n}]");
    let (epilogue, y) = if d.epilogue {
        let add = format!("%10 = const f32[{n}] random(4)\n%11 = add(%9, %10) : {result}\n");
        (format!("{add}%12 = const f32[] [0.0]\n%13 = max(%11, %12) : {result}\n"), 13)
    } else {
        (String::new(), 9)
    };
    let text = format!(
        "graph @product(%0 \"x\": f32[{batch}, {m}, {k}]) -> (%{y} \"y\") {{\n\
         %1 = {code}\n%2 = cast(%1) {cast} : {whole}\n{zeros}{sub}\
         %4 = const {parts} random(3)\n%5 = mul(%{centred}, %4) : {whole}\n\
         {moves}%9 = matmul(%0, %{w}) : {result}\n{epilogue}}}\n"
    );
    let graph = text::parse(&text, &|_| None).unwrap_or_else(|e| panic!("{d:?}: {e}\n{text}"));
    egret::ir::verify(&graph).unwrap_or_else(|e| panic!("{d:?}: {e:?}\n{text}"));
    graph
}

/// Relative to the largest sum.
fn tolerance(want: &Value) -> compare::Tolerance {
    let Value::Tensor(t) = want else { panic!("{want:?}") };
    let scale = t.data::<f32>().iter().fold(0f32, |m, x| m.max(x.abs()));
    compare::Tolerance { rtol: 1e-5, atol: 2e-6 * f64::from(scale) }
}

/// One compilation for all numbers of rows: a tile of every height, several blocks of rows, and none.
#[test]
fn rows_may_be_free() {
    let mut rng = Rng::new(23);
    for i in 0..24 {
        let drawn = draw(&mut rng);
        let left = [["N", "M"], ["1", "N"], ["N", "1"], ["N", "3"], ["2", "N"]][i % 5];
        let graph = graph(&drawn, &mut rng, left);
        let wide = i % 3 != 0;
        let options = Options { wide, threads: 1 + i % 2, ..Options::default() };
        let executable = Executable::new(graph.clone(), Engine::Jit, &options, &BTreeMap::new())
            .unwrap_or_else(|e| panic!("{drawn:?}: {e}"));
        let rows = [0, 1, 2, 3, 5, 7, 8, 9, 11, 13, 14, 15, 27, 29, 64, 225, 460];
        for n in rows.into_iter().filter(|n| (n + i as i64) % 3 != 0 || *n > 200) {
            let mut fixed = graph.clone();
            fixed.bind_dims(&[("N".to_owned(), n), ("M".to_owned(), 1 + n % 3)].into());
            let inputs = source::made_up(&fixed, 2).expect("inputs");
            let want = interp::run(&fixed, &inputs).expect("the interpreter");
            let got = executable.run(&inputs).unwrap_or_else(|e| panic!("{drawn:?}: {e}"));
            compare::compare(&want[0], &got[0], tolerance(&want[0]))
                .unwrap_or_else(|e| panic!("{drawn:?}, {left:?} for {n}, wide {wide}: {e}"));
        }
    }
}

#[test]
fn engines_agree() {
    let mut rng = Rng::new(17);
    let mut packed = [0; 3];
    for _ in 0..120 {
        let drawn = draw(&mut rng);
        let left = drawn.left.map(|n| n.to_string());
        let graph = graph(&drawn, &mut rng, left.each_ref().map(String::as_str));
        let inputs = source::made_up(&graph, 2).expect("inputs");
        let want = interp::run(&graph, &inputs).expect("the interpreter");
        let tolerance = tolerance(&want[0]);
        for (engine, wide, threads) in [
            (Engine::Jit, true, 1),
            (Engine::Jit, true, 3),
            (Engine::Jit, false, 1),
            (Engine::JitNoOpt, true, 1),
        ] {
            let options = Options { wide, threads, ..Options::default() };
            let got = Executable::new(graph.clone(), engine, &options, &BTreeMap::new())
                .and_then(|e| e.run(&inputs))
                .unwrap_or_else(|e| panic!("{drawn:?}: {e}"));
            compare::compare(&want[0], &got[0], tolerance)
                .unwrap_or_else(|e| panic!("{drawn:?}, {}, wide {wide}: {e}", engine.name()));
        }
        let lowered = pipeline::lower(graph, &Options::default(), &BTreeMap::new()).expect("a program");
        let kernels: Vec<&str> = lowered.program.kernels.iter().map(|k| k.name.as_str()).collect();
        // Smaller ones are folded whenever a node is made, or by the pass that folds.
        let least = if drawn.layout == CodeLayout::Blocks { 1 << 14 } else { 1 << 17 };
        if drawn.n * drawn.k > least {
            assert!(kernels.iter().all(|k| k.starts_with("matmul_blockwise")), "{drawn:?}: {kernels:?}");
            packed[drawn.layout as usize] += 1;
        }
    }
    assert!(packed.iter().all(|n| *n >= 4), "{packed:?} products read codes");
}
