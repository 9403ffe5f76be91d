//! Law: compiled kernels compute what the interpreter computes, on random kernels of all types.

mod common;
#[path = "common/crowded.rs"]
mod crowded;

use common::random::{ELEMS, random_program};
use common::*;
use crowded::{CROWDED, crowded};
use egret_codegen::{Options, Target};
use egret_loop::*;

#[test]
fn random_kernels() {
    let targets = ["native", "v3", "v2"].map(|name| Options::new(Target::parse(name).unwrap()));
    for bytes in [16, 32, 64] {
        for seed in 0..150 {
            let (program, inputs) = random_program(seed, bytes, &ELEMS);
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            assert_law(
                &program,
                &inputs,
                &targets[(seed % 3) as usize],
                &format!("{bytes} bytes, seed {seed}"),
            );
        }
    }
}

/// The law: a kernel in narrower vectors computes what it did, bit for bit, in any rounding of multiply-adds.
#[test]
fn random_kernels_in_narrower_vectors() {
    let mut split = 0;
    for bytes in [32, 64] {
        for seed in 0..150 {
            let (program, inputs) = random_program(seed, bytes, &ELEMS);
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            for to in [16, 32] {
                let what = format!("{bytes} bytes in {to}, seed {seed}");
                let kernel =
                    narrow::narrow(&program.kernels[0], to).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(kernel.vector_bytes() <= to, "{what}: {} bytes", kernel.vector_bytes());
                split += usize::from(kernel != program.kernels[0]);
                let narrow = Program { kernels: vec![kernel], ..program.clone() };
                assert_text(&narrow, &what);
                for mul_add in [interp::MulAdd::Fused, interp::MulAdd::Apart] {
                    let arithmetic = interp::Arithmetic { mul_add, ..interp::Arithmetic::IEEE };
                    let run = |p| {
                        interp::run_with(p, &inputs, arithmetic).unwrap_or_else(|e| panic!("{what}: {e}"))
                    };
                    assert_eq!(run(&narrow), run(&program), "{what}");
                }
            }
        }
    }
    assert!(split > 150, "{split} kernels with wide vectors");
}

/// What the encoder of kernels has forms for comes up often enough to hold it to the law: among words, and among elements of all
/// sizes, which are converted into one another.
#[test]
fn random_kernels_that_are_encoded() {
    const WORDS: [Elem; 7] = [Elem::Bool, Elem::F32, Elem::F64, Elem::I32, Elem::I64, Elem::U32, Elem::U64];
    let native = Options::native().unwrap().target.isa(true);
    for (target, bytes) in [("v4", 64), ("v3", 32)] {
        let options = Options::new(Target::parse(target).unwrap());
        let isa = options.target.isa(true);
        let runs = isa.arch == native.arch && isa.features.iter().all(|f| native.features.contains(f));
        for elems in [&WORDS[..], &ELEMS] {
            let (mut encoded, mut statements) = (0, [0; 4]);
            for seed in 0..500 {
                let (program, inputs) = random_program(seed, bytes, elems);
                let wide = program.kernels[0].vector_bytes() > BASE_VECTOR_BYTES;
                if !wide || !egret_codegen::refusals(&program, &options).unwrap().is_empty() {
                    continue;
                }
                encoded += 1;
                let printed = text::print(&program);
                for (count, word) in statements.iter_mut().zip(["while {", "if v", "check v", "tile"]) {
                    *count += usize::from(printed.lines().any(|l| l.trim_start().starts_with(word)));
                }
                if runs {
                    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
                    let what = format!("{target}, {} types, seed {seed}", elems.len());
                    assert_law(&program, &inputs, &options, &what);
                }
            }
            let least = if target == "v4" { 150 } else { 60 };
            assert!(encoded > least, "{encoded} kernels of 500 were encoded for {target}");
            assert!(
                statements.iter().all(|n| *n > 10),
                "{target}: {statements:?} while, if, check, tile of {encoded}"
            );
        }
    }
}

/// What does not fit in registers comes back as it was.
#[test]
fn more_values_than_registers() {
    let native = Target::native().unwrap();
    for (target, lanes) in [("v4", 16), ("v4", 8), ("v3", 8), ("v2", 4), ("native", 4)] {
        let target = Target::parse(target).unwrap();
        let isa = target.isa(true);
        if isa.arch != native.arch() || !isa.features.iter().all(|f| native.has(*f)) {
            continue;
        }
        let storages = [Storage::Input(0), Storage::Output(0)];
        let program = program(crowded(lanes), &storages, OutOfRange::BYTES, vec![]);
        let options = Options::new(target);
        assert!(egret_codegen::refusals(&program, &options).unwrap().is_empty(), "{lanes} lanes");
        // Small enough that products of 360 of them are numbers.
        let mut rng = egret_testkit::Rng::new(u64::from(lanes));
        let x: Vec<u8> = (0..3 * CROWDED).flat_map(|_| (rng.signed() * 0.02).to_le_bytes()).collect();
        assert_law(&program, &[&x], &options, &format!("{lanes} lanes of {}", isa.name));
    }
}

#[test]
fn loops_locals_and_branches() {
    // Collatz steps of every input, as a while loop with a branch in it.
    let mut k = KernelBuilder::new("collatz", 4);
    let x = k.param(Elem::I64, 8, Access::Read);
    let y = k.param(Elem::I64, 8, Access::Write);
    let task = k.task();
    k.for_n(2, |k, i| {
        let at = k.affine(&[(task, 2), (i, 1)], 0);
        let start = k.load(x, at);
        let (n, zero) = (k.local(start), k.int(0));
        let steps = k.local(zero);
        k.while_(
            |k| {
                let (n, one) = (k.get(n), k.int(1));
                k.compare(Cmp::Gt, n, one)
            },
            |k| {
                let now = k.get(n);
                let two = k.int(2);
                let odd = k.rem(now, two);
                let zero = k.int(0);
                let even = k.compare(Cmp::Eq, odd, zero);
                k.if_(
                    even,
                    |k| {
                        let half = k.div(now, two);
                        k.set(n, half);
                    },
                    |k| {
                        let next = k.affine(&[(now, 3)], 1);
                        k.set(n, next);
                    },
                );
                let count = k.get(steps);
                let count = k.affine(&[(count, 1)], 1);
                k.set(steps, count);
            },
        );
        let count = k.get(steps);
        k.store(y, at, count);
    });
    let program = program(k.finish(), &[Storage::Input(0), Storage::Output(0)], 0, vec![]);
    let input: Vec<u8> = [1i64, 2, 3, 7, 27, 97, 871, 6171].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_law(&program, &[&input], &Options::native().unwrap(), "collatz");
}

/// Code for another architecture cannot run here; it must compile, without functions from outside.
#[test]
fn random_kernels_compile_for_arm_and_risc_v() {
    for target in ["aarch64", "riscv64"] {
        let options =
            Options { denormals: Denormals::Keep, ..Options::new(Target::parse(target).unwrap()) };
        for seed in 0..150 {
            let (program, _) = random_program(seed, [16, 32, 64][seed as usize % 3], &ELEMS);
            let bytes = egret_codegen::object(&program, &options)
                .unwrap_or_else(|e| panic!("seed {seed} for {target}: {e}"));
            assert_eq!(bytes, egret_codegen::object(&program, &options).unwrap());
            for outside in ["fma", "floor", "ceil", "trunc", "nearbyint"] {
                let name: Vec<u8> = [0].iter().chain(outside.as_bytes()).copied().collect();
                assert!(!bytes.windows(name.len()).any(|w| w == name), "seed {seed} calls {outside}");
            }
        }
    }
}
