//! Law: contraction tiles compute what the interpreter computes, on random shapes, strides and epilogues.

mod common;

use common::*;
use egret_codegen::{ISAS, Options, Refusal, Target, refusals};
use egret_loop::*;
use egret_machine::Machine;
use egret_testkit::{Rng, parallel};

struct Case {
    program: Program,
    inputs: Vec<Vec<u8>>,
}

/// A random straight-line epilogue with a bias per column, a factor per row and a tensor of the result's shape.
fn epilogue(
    rng: &mut Rng,
    products: Products,
    (residual_elem, out_elem): (Elem, Elem),
    rows: &[i64],
    bias: Place,
    factor: Place,
    residual: Place,
) -> Epilogue {
    let mut e = EpilogueBuilder::new(products);
    let mut x = e.sum();
    if products.sum() == Elem::I32 {
        x = e.convert(Elem::F32, x);
    }
    for _ in 0..rng.below(5) {
        let n = rows.len();
        x = match rng.below(7) {
            // Rounded to f16.
            6 => {
                let half = e.convert(Elem::F16, x);
                e.convert(Elem::F32, half)
            }
            0 => {
                let b = e.operand(
                    Elem::F32,
                    EpilogueOperand { place: bias.clone(), rows: vec![0; n], col_stride: 1 },
                );
                e.binary(BinOp::Add, x, b)
            }
            1 => {
                let f = e.operand(
                    Elem::F32,
                    EpilogueOperand { place: factor.clone(), rows: (0..n as i64).collect(), col_stride: 0 },
                );
                e.binary(BinOp::Mul, x, f)
            }
            2 => {
                let r = e.operand(
                    residual_elem,
                    EpilogueOperand { place: residual.clone(), rows: rows.to_vec(), col_stride: 1 },
                );
                let r = if residual_elem == Elem::F32 { r } else { e.convert(Elem::F32, r) };
                e.fma(r, x, r)
            }
            3 => {
                let zero = e.num(x, 0.0);
                e.binary(BinOp::SelMax, x, zero)
            }
            4 => {
                let zero = e.num(x, 0.0);
                let slope = e.num(x, 0.1);
                let less = e.compare(Cmp::Lt, x, zero);
                let scaled = e.binary(BinOp::Mul, x, slope);
                e.select(less, scaled, x)
            }
            _ => {
                let i = e.convert(Elem::I32, x);
                let two = e.num(i, 2.0);
                let i = e.binary(BinOp::Shl, i, two);
                let f = e.convert(Elem::F32, i);
                let bits = e.bitcast(Elem::I32, f);
                e.bitcast(Elem::F32, bits)
            }
        };
    }
    match out_elem {
        Elem::F32 => {}
        _ if rng.chance(50) => x = e.convert(out_elem, x),
        // Wrapped rather than saturated.
        _ => {
            let whole = e.convert(Elem::I32, x);
            x = e.convert(out_elem, whole);
        }
    }
    e.finish(x)
}

/// Masks of columns that there are for a task.
const MASKS: i64 = 12;

/// A random tile; with `special`, among operands that are not finite, not normal, at the extremes or zeros of either sign.
fn case(seed: u64, special: bool) -> Case {
    let mut rng = Rng::new(seed);
    let tasks = rng.range(1, 3);
    let (mut rows, mut cols) = (
        rng.pick(&[1, 2, 3, 4, 6, 7, 8, 14]),
        rng.pick(&[1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 24, 31, 32, 48]),
    );
    // Every third is one of the tiles that lowering takes.
    if seed.is_multiple_of(3) {
        let tiles: Vec<(usize, usize)> =
            ISAS.iter().flat_map(|i| Machine::of(i.name).unwrap().tiles.clone()).collect();
        (rows, cols) = rng.pick(&tiles);
    }
    // And of those of bytes some are as tall as tile registers take.
    if seed % 12 == 9 && rng.chance(60) {
        (rows, cols) = (32, 32);
    }
    // And every seventh has weights that are mostly zero.
    let sparse = seed % 7 == 6 && seed % 4 != 1;
    if sparse {
        // As tall as those of AVX2 are, or of AVX-512.
        (rows, cols) = (rng.pick(&[rows.min(31), 14, 28]), rng.pick(&[cols.min(16), 4, 8, 16]));
    }
    let n_axes = rng.range(1, 3);
    let extents: Vec<i64> = (0..n_axes).map(|_| rng.pick(&[1, 2, 3, 4, 5, 8, 9, 17])).collect();
    let steps: i64 = extents.iter().product();
    // b: one row of columns per step, sometimes with a gap; a: rows with steps that overlap or not.
    let b_gap = cols as i64 + rng.pick(&[0, 0, 3]);
    let transposed = rng.chance(30);
    let (mut a_stride, mut b_stride) = (if transposed { rows as i64 } else { 1 }, b_gap);
    let mut axes = vec![];
    for extent in extents.iter().rev() {
        axes.insert(0, Axis { extent: *extent, a_stride, b_stride });
        a_stride *= if rng.chance(70) { *extent } else { 1 };
        b_stride *= extent;
    }
    // Every fourth multiplies bytes: steps, rows and columns are four elements apart.
    let products = match seed % 4 {
        1 => Products::Bytes,
        // Weights that are mostly zero may be quads of bytes.
        2 if sparse => Products::Quads,
        _ => Products::Floats,
    };
    let depth = products.depth();
    for axis in &mut axes {
        (axis.a_stride, axis.b_stride) = (depth * axis.a_stride, depth * axis.b_stride);
    }
    let mut reach: i64 = axes.iter().map(|x| (x.extent - 1) * x.a_stride).sum::<i64>() + depth;
    let mut row_stride = if transposed { 1 } else { rng.pick(&[reach, 1, 2]) };
    let mut a_rows: Vec<i64> = (0..rows as i64).map(|r| r * row_stride).collect();
    let mut nonzeros: Option<Nonzeros> = None;
    let has_masks = sparse && rng.chance(50);
    if sparse {
        let all = u32::MAX >> (32 - rows);
        let one = |b: i64| NonzeroStep {
            b: b * b_gap,
            rows: (rng.below(1 << 32) & rng.below(1 << 32)) as u32 & all,
            mask: (has_masks && rng.chance(70)).then(|| rng.below(MASKS as usize) as u8),
        };
        let some: Vec<NonzeroStep> = (0..steps.min(40)).map(one).filter(|s| s.rows != 0).collect();
        let n = Nonzeros { steps: some, runs: rng.below(20) as u32, second: None, masks: None };
        (reach, row_stride) = (n.products().max(1) as i64, 0);
        (nonzeros, axes) = (Some(n), vec![]);
        a_rows.fill(0);
    }
    let out_stride = cols as i64 + rng.pick(&[0, 1]);
    let out_rows: Vec<i64> = (0..rows as i64).map(|r| r * out_stride).collect();
    let a_task = reach + (rows as i64 - 1) * row_stride;
    let out_task = out_stride * rows as i64;
    let sizes = [
        a_task * tasks,
        steps * b_gap * depth,
        cols as i64,
        rows as i64,
        out_task * tasks,
        MASKS * tasks,
        steps * b_gap * depth,
    ];

    let mut k = KernelBuilder::new("tile", tasks);
    let elem = |i: usize| match (products, i) {
        (Products::Bytes, 0) => Elem::U8,
        (Products::Bytes, 1) => Elem::I8,
        (Products::Quads, 0 | 1 | 6) => Elem::I32,
        (_, 4) if seed % 5 == 2 => Elem::U8,
        (_, 4) if seed % 5 == 3 => Elem::I8,
        (_, 5) => Elem::I32,
        _ => Elem::F32,
    };
    let params: Vec<Param> =
        (0..sizes.len()).map(|i| k.param(elem(i), sizes[i] as usize, Access::Read)).collect();
    let out_elem = rng.pick(&[Elem::F32, Elem::F32, Elem::U8, Elem::I8]);
    let out = k.param(out_elem, (out_task * tasks) as usize, Access::Write);
    let task = k.task();
    let zero = k.int(0);
    let a_base = k.affine(&[(task, a_task)], 0);
    let out_base = k.affine(&[(task, out_task)], 0);
    let masks_base = k.affine(&[(task, MASKS)], 0);
    let place = |p: Param, base: V| Place { param: p, base };
    if let Some(n) = nonzeros.as_mut() {
        n.masks = has_masks.then(|| place(params[5], masks_base));
        // It is as large as the first one: the same from another row on would not be told from it.
        let from = rng.below(n.steps.len() + 1);
        n.second = rng.chance(50).then(|| Second { b: place(params[6], zero), from });
    }
    let epilogue = epilogue(
        &mut rng,
        products,
        (elem(4), out_elem),
        &out_rows,
        place(params[2], zero),
        place(params[3], zero),
        place(params[4], out_base),
    );
    let (a, b, out) = (place(params[0], a_base), place(params[1], zero), place(out, out_base));
    // What a tile does not write between its rows must stay; the interpreter's junk is the harness's junk.
    let block = rng.range(1, 40);
    let sets = if sparse { 1 } else { rng.pick(&Tile::SETS) };
    k.tile(Tile { nonzeros, cols, axes, block, sets, a, a_rows, b, out, out_rows, epilogue });
    let storages: Vec<Storage> = (0..7).map(Storage::Input).chain([Storage::Output(0)]).collect();
    // Tiny numbers are frequent: their products vanish, and leave a sign.
    let mut number = || match rng.below(if special { 24 } else { 1 }) {
        0 | 6.. => rng.signed(),
        1 => 0.0,
        2 => -0.0,
        3 | 4 => rng.signed() * 1e-30,
        _ => rng.pick(&[f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX, f32::MIN, 1e-45, -1e-40]),
    };
    // Or all are tiny, so that nothing hides their signs.
    let scale = if special && seed.is_multiple_of(4) { 1e-30 } else { 1.0 };
    let mut floats = |n: i64| (0..n).flat_map(|_| (number() * scale).to_le_bytes()).collect::<Vec<u8>>();
    let mut inputs: Vec<Vec<u8>> = sizes.iter().map(|&n| floats(n)).collect();
    for i in (0..inputs.len()).filter(|i| elem(*i).size() == 1) {
        let extremes = [0, 127, 128, 255];
        let mut byte = || if rng.chance(30) { rng.pick(&extremes) } else { rng.below(256) as u8 };
        inputs[i] = (0..sizes[i]).map(|_| byte()).collect();
    }
    for i in (0..inputs.len()).filter(|i| elem(*i) == Elem::I32) {
        let bytes = inputs[i].len();
        let mut byte = || if rng.chance(30) { rng.pick(&[0, 127, 128, 255]) } else { rng.below(256) as u8 };
        inputs[i] = (0..bytes).map(|_| byte()).collect();
    }
    inputs[5] = (0..sizes[5]).flat_map(|_| (rng.below(1 << 32) as u32).to_le_bytes()).collect();
    Case { program: program(k.finish(), &storages, 0, vec![]), inputs }
}

/// Every way of compiling that this machine can run.
fn ways() -> Vec<(String, Options)> {
    let native = Target::native().unwrap();
    let mut out = vec![];
    for isa in ISAS.iter().filter(|i| i.arch == native.arch() && i.features.iter().all(|f| native.has(*f)))
    {
        for wide in [false, true] {
            let options = Options { wide, ..Options::new(Target::parse(isa.name).unwrap()) };
            out.push((format!("{}, wide {wide}", isa.name), options));
        }
    }
    out
}

#[test]
fn tiles_are_exact_on_every_target() {
    let ways = ways();
    let cases = [false, true].into_iter().flat_map(|special| (0..160).map(move |seed| (seed, special)));
    parallel::each(cases, |(seed, special)| {
        let Case { program, inputs } = case(seed, special);
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for (way, options) in &ways {
            assert_law(&program, &inputs, options, &format!("seed {seed}, special {special}, {way}"));
        }
    });
}

/// What the encoder of wide tiles has no form for is said, and compiled in 128-bit vectors.
#[test]
fn refused_tiles_are_reported_and_right() {
    let mut k = KernelBuilder::new("to_u32", 1);
    let [a, b] = [6, 48].map(|n| k.param(Elem::F32, n, Access::Read));
    let out = k.param(Elem::F32, 32, Access::Write);
    let zero = k.int(0);
    let mut e = EpilogueBuilder::new(Products::Floats);
    let acc = e.sum();
    let n = e.convert(Elem::U32, acc);
    let result = e.convert(Elem::F32, n);
    let place = |param| Place { param, base: zero };
    let tile = |epilogue| Tile {
        nonzeros: None,
        cols: 16,
        axes: vec![Axis { extent: 3, a_stride: 1, b_stride: 16 }],
        block: 3,
        sets: 1,
        a: place(a),
        a_rows: vec![0, 3],
        b: place(b),
        out: place(out),
        out_rows: vec![0, 16],
        epilogue,
    };
    // A reason is given once, and only for the tile that has it.
    k.tile(tile(Epilogue::identity()));
    let refused = e.finish(result);
    k.tile(tile(refused.clone()));
    k.tile(tile(refused));
    let program =
        program(k.finish(), &[Storage::Input(0), Storage::Input(1), Storage::Output(0)], 0, vec![]);
    let options = Options::new(Target::parse("v3").unwrap());
    let reasons = |options: &Options| refusals(&program, options).unwrap();
    let reason = "its epilogue computes with u32".to_owned();
    assert_eq!(reasons(&options), [Refusal { kernel: KernelId(0), reason }]);
    assert_eq!(reasons(&Options { wide: false, ..options }), []);
    assert_eq!(reasons(&Options::new(Target::parse("v2").unwrap())), []);
    let bytes = |n: i16| (0..n).flat_map(|i| (f32::from(i) * 0.25).to_le_bytes()).collect::<Vec<u8>>();
    assert_law(&program, &[&bytes(6), &bytes(48)], &Options::native().unwrap(), "a refused tile");
}

/// Code for another architecture cannot run here; it must compile.
#[test]
fn tiles_compile_for_arm_and_risc_v() {
    for target in ["aarch64", "riscv64"] {
        let options =
            Options { denormals: Denormals::Keep, ..Options::new(Target::parse(target).unwrap()) };
        for seed in 0..60 {
            egret_codegen::object(&case(seed, false).program, &options)
                .unwrap_or_else(|e| panic!("seed {seed} for {target}: {e}"));
        }
    }
}
