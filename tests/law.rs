//! The law of one oracle: the kernels of all families compute what Loop IR's interpreter computes, bit for bit, in vectors of 16, 32 and
//! 64 bytes, on special values too, with denormals flushed and kept; and their code is within its target's features.
//!
//! The graphs are those of `tests/files/lower`, where every operation with a kernel is lowered, and the same graphs of every
//! other element type that they can have.

use cranelift_object::object::{self, Object, ObjectSection, ObjectSymbol, read::elf::ElfFile64};
use egret::ir::{DType, Denormals, Graph, Tensor, Value, text, verify};
use egret::{Engine, ErrorKind, Executable, Options, source};
use egret_codegen::{Arch, Feature, ISAS, Target};
use egret_loop::interp::InterpError;
use egret_workspace::emulated::{AARCH64, Emulated, Emulator, RISCV64};
use egret_workspace::files::graphs_of;
use egret_workspace::law::{arithmetic, interpreted, isas, same};
use egret_workspace::special::SPECIAL;
use egret_workspace::wasm::{Refused, Wasm};
use std::collections::BTreeMap;

#[path = "../crates/egret-codegen/tests/common/read_back.rs"]
#[allow(dead_code, reason = "tests of the code generator decode what has no constants behind it")]
mod read_back;

/// What inputs are made of.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Draw {
    /// Floats in [-1, 1), integers 0 and 1.
    Plain,
    /// Special floats, integers 0 and 1.
    SpecialFloats,
    /// Special numbers of every type. As indices, most are out of range.
    Special,
}

/// The inputs of a graph; nothing where they are those of another draw.
fn inputs(graph: &Graph, draw: Draw) -> Option<Vec<Value>> {
    let plain = source::made_up(graph, 1).expect("inputs");
    let special = |v: &Value| match draw {
        Draw::Plain => false,
        Draw::SpecialFloats => v.as_tensor().is_some_and(|t| t.dtype().is_float()),
        Draw::Special => v.as_tensor().is_some_and(|t| t.dtype() != DType::Bool),
    };
    let floats = plain.iter().filter(|v| v.as_tensor().is_some_and(|t| t.dtype().is_float())).count();
    let specials = plain.iter().filter(|v| special(v)).count();
    // A count of rounds is not to be the largest number.
    let rounds = text::print(graph).contains("= loop(");
    let another = match draw {
        Draw::Plain => false,
        Draw::SpecialFloats => floats == 0,
        Draw::Special => specials == floats || rounds,
    };
    let inputs = plain.iter().enumerate().map(|(n, v)| match v.as_tensor() {
        Some(t) if special(v) => {
            // The inputs of one graph do not go along with one another.
            let numbers = (0..t.len())
                .map(|i| SPECIAL[(i * (2 * n + 1) + 7 * n + i / SPECIAL.len()) % SPECIAL.len()]);
            Tensor::from_f64s(t.dtype(), t.shape(), numbers.collect()).into()
        }
        _ => v.clone(),
    });
    (!another).then(|| inputs.collect())
}

/// How often a graph was run, and how often both engines refused to.
#[derive(Default, Debug)]
struct Runs {
    run: usize,
    /// For a number in the data that was out of range.
    refused: usize,
}

/// What came of a graph that keeps the law.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Held {
    /// It runs.
    Runs,
    /// There is no kernel for it, of such elements.
    Refused,
}

/// Holds a graph to the law, or gives what breaks it.
fn hold(what: &str, graph: &Graph, options: &Options, runs: &mut Runs) -> Result<Held, String> {
    let what =
        format!("{what} on {}, wide {}, denormals {}", options.target, options.wide, options.denormals());
    let program = egret::pipeline::lower(graph.clone(), options, &BTreeMap::new());
    let program = match program {
        Ok(lowered) => lowered.program,
        Err(e) if e.kind == ErrorKind::Unsupported => return Ok(Held::Refused),
        Err(e) => return Err(format!("{what}: {e}")),
    };
    let code = Executable::new(graph.clone(), Engine::Jit, options, &BTreeMap::new());
    let code = code.map_err(|e| format!("{what}: {e}"))?;
    for draw in [Draw::Plain, Draw::SpecialFloats, Draw::Special] {
        let Some(inputs) = inputs(graph, draw) else { continue };
        let want = interpreted(&program, &inputs, arithmetic(&options.target, options.denormals()));
        runs.run += 1;
        match (want, code.run(&inputs)) {
            (Ok(want), Ok(have)) => {
                assert_eq!(want.len(), have.len(), "{what}");
                for (i, (want, have)) in want.iter().zip(&have).enumerate() {
                    let have = have.as_tensor().expect("a tensor");
                    same(have.dtype(), options.denormals(), want, have.bytes())
                        .map_err(|e| format!("{what}, {draw:?}: output {i}: {e}"))?;
                }
            }
            (Err(InterpError::OutOfRange(..)), Err(_)) => runs.refused += 1,
            (Err(want), _) => return Err(format!("{what}, {draw:?}: {want}")),
            (Ok(_), Err(have)) => return Err(format!("{what}, {draw:?}: compiled code refuses: {have}")),
        }
    }
    Ok(Held::Runs)
}

fn parse(given: &str) -> Graph {
    text::parse(given, &|_| None).expect("a graph that another test lowers")
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} graphs break the law:\n{}", faults.len(), faults.join("\n"));
}

/// On every instruction set that this machine runs, in wide vectors and in those of Cranelift.
#[test]
fn lowered_files_run_as_loop_ir_says() {
    let (mut runs, mut faults) = (Runs::default(), vec![]);
    for (name, given) in graphs_of("lower") {
        let graph = parse(&given);
        for isa in isas() {
            for wide in [false, true]
                .into_iter()
                .filter(|wide| !wide || isa.vector_bytes > egret_loop::BASE_VECTOR_BYTES)
            {
                for denormals in Denormals::ALL {
                    let options = Options {
                        target: isa.name.into(),
                        wide,
                        threads: 1,
                        denormals: Some(denormals),
                        ..Options::default()
                    };
                    match hold(&format!("{name}:\n{given}"), &graph, &options, &mut runs) {
                        Ok(Held::Runs) => {}
                        Ok(Held::Refused) => faults.push(format!("{name} has no kernel:\n{given}")),
                        Err(e) => faults.push(e),
                    }
                }
            }
        }
    }
    assert_none(&faults);
    assert!(runs.refused * 5 < runs.run, "{runs:?}");
}

/// Holds the module of a graph to the law, or gives what breaks it.
fn hold_module(what: &str, graph: &Graph, runs: &mut Runs) -> Result<Held, String> {
    let options = Options { target: "wasm32".into(), threads: 1, ..Options::default() };
    let program = match egret::pipeline::lower(graph.clone(), &options, &BTreeMap::new()) {
        Ok(lowered) => lowered.program,
        Err(e) if e.kind == ErrorKind::Unsupported => return Ok(Held::Refused),
        Err(e) => return Err(format!("{what}: {e}")),
    };
    let module = egret::pipeline::wasm_module(&program).map_err(|e| format!("{what}: {e}"))?;
    let mut instance = Wasm::new(&module, &program.name);
    if instance.info.get("free").is_some() {
        // Only data decides dims here.
        instance.plan(&[]).map_err(|e| format!("{what}: {e:?}"))?;
    }
    for draw in [Draw::Plain, Draw::SpecialFloats, Draw::Special] {
        let Some(inputs) = inputs(graph, draw) else { continue };
        let want = interpreted(&program, &inputs, arithmetic(&options.target, options.denormals()));
        let bytes: Vec<&[u8]> = inputs.iter().map(|v| v.as_tensor().expect("a tensor").bytes()).collect();
        runs.run += 1;
        match (want, instance.run(&bytes)) {
            (Ok(want), Ok(have)) => {
                assert_eq!(want.len(), have.len(), "{what}");
                for (i, (want, have)) in want.iter().zip(&have).enumerate() {
                    let dtype = graph.value(graph.outputs()[i]).ty.as_tensor().expect("a tensor").dtype;
                    same(dtype, options.denormals(), want, have)
                        .map_err(|e| format!("{what}, {draw:?}: output {i}: {e}"))?;
                }
            }
            (Err(InterpError::OutOfRange(_, bad)), Err(Refused::OutOfRange(have))) => {
                assert_eq!(have, [bad.value, bad.low, bad.high], "{what}");
                runs.refused += 1;
            }
            (Err(want), _) => return Err(format!("{what}, {draw:?}: {want}")),
            (Ok(_), Err(have)) => return Err(format!("{what}, {draw:?}: the module refuses: {have:?}")),
        }
    }
    Ok(Held::Runs)
}

/// The graphs of fixed dims as WebAssembly, of f32 and of every other element type that they can have.
#[test]
fn modules_of_webassembly_run_as_loop_ir_says() {
    let (mut runs, mut faults, mut held) = (Runs::default(), vec![], 0);
    for (name, given) in graphs_of("lower") {
        let others = DTYPES.iter().filter_map(|(dtype, _)| Some((dtype.name(), of_dtype(&given, *dtype)?)));
        for (dtype, graph) in [("f32", parse(&given))].into_iter().chain(others) {
            match hold_module(&format!("{name} of {dtype}:\n{given}"), &graph, &mut runs) {
                Ok(Held::Runs) => held += 1,
                Ok(Held::Refused) => {}
                Err(e) => faults.push(e),
            }
        }
    }
    assert_none(&faults);
    assert!(held > 500 && runs.refused * 5 < runs.run, "{held} graphs, {runs:?}");
}

/// A case for an emulator: what it is, the type of each output, and what is to come of it.
struct Wanted {
    what: String,
    dtypes: Vec<DType>,
    denormals: Denormals,
    outputs: Result<Vec<Vec<u8>>, [i64; 3]>,
}

/// Adds the cases of a graph of fixed dims to those for an emulator, or gives what breaks the law already. How many graphs it was.
fn emulate(
    what: &str,
    graph: &Graph,
    options: &Options,
    programs: &mut Emulated,
    wanted: &mut Vec<Wanted>,
) -> Result<usize, String> {
    let program = match egret::pipeline::lower(graph.clone(), options, &BTreeMap::new()) {
        Ok(lowered) => lowered.program,
        Err(e) if e.kind == ErrorKind::Unsupported => return Ok(0),
        Err(e) => return Err(format!("{what}: {e}")),
    };
    if !Emulated::takes(&program) {
        return Ok(0);
    }
    let denormals = options.denormals();
    programs.program(&program, denormals);
    for draw in [Draw::Plain, Draw::SpecialFloats, Draw::Special] {
        let Some(inputs) = inputs(graph, draw) else { continue };
        let what = format!("{what} on {}, denormals {denormals}, {draw:?}", options.target);
        let outputs = match interpreted(&program, &inputs, arithmetic(&options.target, denormals)) {
            Ok(outputs) => Ok(outputs),
            Err(InterpError::OutOfRange(_, bad)) => Err([bad.value, bad.low, bad.high]),
            Err(e) => return Err(format!("{what}: {e}")),
        };
        let bytes: Vec<&[u8]> = inputs.iter().map(|v| v.as_tensor().expect("a tensor").bytes()).collect();
        programs.case(&bytes);
        let dtype = |v: &egret::ir::ValueId| graph.value(*v).ty.as_tensor().expect("a tensor").dtype;
        let dtypes = graph.outputs().iter().map(dtype).collect();
        wanted.push(Wanted { what, dtypes, denormals, outputs });
    }
    Ok(1)
}

/// The graphs of fixed dims on an architecture that an emulator runs, of f32 and of every other element type that they can have.
fn hold_emulated(on: &'static Emulator) {
    if !on.is_there("the law") {
        return;
    }
    let (mut programs, mut wanted) = (Emulated::new(on), vec![]);
    let (mut faults, mut graphs) = (vec![], 0);
    for (n, (name, given)) in graphs_of("lower").iter().enumerate() {
        let others = DTYPES.iter().filter_map(|(dtype, _)| Some((dtype.name(), of_dtype(given, *dtype)?)));
        for (d, (dtype, graph)) in [("f32", parse(given))].into_iter().chain(others).enumerate() {
            let mut options = Options { target: on.target.into(), threads: 1, ..Options::default() };
            if !options.keeps_denormals() {
                options.denormals = Some(Denormals::ALL[(n + d) % Denormals::ALL.len()]);
            }
            let what = format!("{name} of {dtype}:\n{given}");
            match emulate(&what, &graph, &options, &mut programs, &mut wanted) {
                Ok(count) => graphs += count,
                Err(e) => faults.push(e),
            }
        }
    }
    let came = programs.run().expect("the tools are there");
    assert_eq!(came.len(), wanted.len());
    let mut refused = 0;
    for (came, wanted) in came.iter().zip(&wanted) {
        let what = &wanted.what;
        match (&wanted.outputs, came) {
            (Ok(want), Ok(have)) => {
                assert_eq!(want.len(), have.len(), "{what}");
                for (i, ((want, have), dtype)) in want.iter().zip(have).zip(&wanted.dtypes).enumerate() {
                    if let Err(e) = same(*dtype, wanted.denormals, want, have) {
                        faults.push(format!("{what}: output {i}: {e}"));
                    }
                }
            }
            (Err(want), Err(have)) if want == have => refused += 1,
            (want, have) => faults.push(format!("{what}: {have:?} instead of {want:?}")),
        }
    }
    eprintln!("{graphs} graphs and {} cases on {}, {refused} refused", wanted.len(), on.target);
    assert_none(&faults);
    assert!(graphs > 500 && refused * 5 < wanted.len(), "{graphs} graphs, {refused} cases refused");
}

#[test]
fn kernels_of_aarch64_run_as_loop_ir_says() {
    hold_emulated(&AARCH64);
}

#[test]
fn kernels_of_riscv64_run_as_loop_ir_says() {
    hold_emulated(&RISCV64);
}

/// A graph of other elements than f32; nothing where it has no f32, or where an operation does not take such elements.
fn of_dtype(given: &str, dtype: DType) -> Option<Graph> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut of = String::new();
    let mut rest = given;
    while let Some(at) = rest.find("f32") {
        let apart = !rest[..at].ends_with(is_word) && !rest[at + 3..].starts_with(is_word);
        of.push_str(&rest[..at]);
        of.push_str(if apart { dtype.name() } else { "f32" });
        rest = &rest[at + 3..];
    }
    of.push_str(rest);
    let graph = text::parse(&of, &|_| None).ok().filter(|g| of != given && verify(g).is_ok())?;
    Some(graph)
}

/// The element types beside f32, and how many of the graphs have a form of each at least.
const DTYPES: [(DType, usize); 12] = [
    (DType::F64, 90),
    (DType::F16, 90),
    (DType::BF16, 90),
    (DType::I8, 40),
    (DType::I16, 40),
    (DType::I32, 40),
    (DType::I64, 40),
    (DType::U8, 40),
    (DType::U16, 40),
    (DType::U32, 40),
    (DType::U64, 40),
    (DType::Bool, 15),
];

/// In vectors of 16, 32 and 64 bytes.
#[test]
fn kernels_of_all_element_types_run_as_loop_ir_says() {
    let names: Vec<&str> = isas().iter().map(|isa| isa.name).collect();
    let ways = [("x86-64-v2", false), ("x86-64-v3", true), ("x86-64-v4", false), ("x86-64-v4", true)];
    let mut ways: Vec<(&str, bool)> = ways.into_iter().filter(|(name, _)| names.contains(name)).collect();
    if ways.is_empty() {
        ways = names.iter().map(|name| (*name, true)).collect();
    }
    let (mut runs, mut faults) = (Runs::default(), vec![]);
    for (dtype, least) in DTYPES {
        let mut graphs = 0;
        for (n, (name, given)) in graphs_of("lower").iter().enumerate() {
            let Some(graph) = of_dtype(given, dtype) else { continue };
            let mut holds = 0;
            for (w, (target, wide)) in ways.iter().enumerate() {
                // Kernels of a few are flushed here and kept there.
                let denormals = Denormals::ALL[(n + w) % Denormals::ALL.len()];
                let options = Options {
                    target: (*target).into(),
                    wide: *wide,
                    threads: 1,
                    denormals: Some(denormals),
                    ..Options::default()
                };
                match hold(&format!("{name} of {dtype}:\n{given}"), &graph, &options, &mut runs) {
                    Ok(Held::Runs) => holds += 1,
                    Ok(Held::Refused) => {}
                    Err(e) => faults.push(e),
                }
            }
            graphs += usize::from(holds > 0);
        }
        assert!(graphs >= least, "{graphs} graphs of {dtype}");
    }
    assert_none(&faults);
    assert!(runs.refused * 5 < runs.run, "{runs:?}");
}

/// Every function of the graphs' artifacts, whoever encoded it, is instructions that its target has, on whatever machine this is. What
/// runs before the artifact has asked for them has those of every x86-64.
#[test]
fn every_function_is_within_the_targets_features() {
    for isa in ISAS.iter().filter(|isa| isa.arch == Arch::X86_64) {
        let (mut kernels, mut leaves) = (0, 0);
        for (name, given) in graphs_of("lower") {
            let options = Options { target: isa.name.into(), threads: 1, ..Options::default() };
            let program = egret::pipeline::lower(parse(&given), &options, &BTreeMap::new());
            let program =
                program.unwrap_or_else(|e| panic!("{name} for {}: {e}\n{given}", isa.name)).program;
            let code = egret_codegen::Options::new(Target::parse(isa.name).expect("a target"));
            let object = egret_codegen::object(&program, &code).expect("an object");
            let object = ElfFile64::<object::Endianness>::parse(&object[..]).expect("ELF");
            for symbol in object.symbols().filter(|s| s.kind() == object::SymbolKind::Text) {
                let section = object.section_by_index(symbol.section_index().expect("a section"));
                let text = section.and_then(|s| s.data()).expect("code");
                let code = read_back::reached(&text[symbol.address() as usize..]);
                let what = symbol.name().expect("a name").strip_prefix(&program.name).expect("a prefix");
                match what {
                    // Asks the operating system too, behind the questions of `abi::cpu`'s own test.
                    "_cpu" => continue,
                    "_plan" | "_shape" | "_bind" | "_sizes" | "_check" => {
                        read_back::only_features(&code, &[])
                    }
                    _ => read_back::only_features(&code, isa.features),
                }
                kernels += usize::from(what.starts_with("_k"));
                leaves += usize::from(what.starts_with("_leaf"));
            }
        }
        assert!(kernels > 100 && leaves > 10, "{kernels} kernels and {leaves} leaves for {}", isa.name);
    }
}

/// A law that nothing can break proves nothing.
#[test]
fn one_bit_breaks_the_law() {
    let (keep, flush) = (Denormals::Keep, Denormals::Flush);
    let f32s = |a: u32, b: u32, denormals| same(DType::F32, denormals, &a.to_le_bytes(), &b.to_le_bytes());
    let one = 1f32.to_bits();
    for denormals in [keep, flush] {
        assert!(f32s(one, one + 1, denormals).is_err() && f32s(0, 1 << 31, denormals).is_err());
        assert!(f32s(0x7fc0_0000, 0xffc0_0001, denormals).is_ok(), "which NaN is not said");
        assert!(f32s(0x7fc0_0000, 0x7f80_0000, denormals).is_err());
    }
    assert!(f32s(0, 1, keep).is_err() && f32s(0, 1, flush).is_ok() && f32s(1 << 31, 1, flush).is_err());
    assert!(same(DType::F16, keep, &[0, 0x7c], &[1, 0x7c]).is_err(), "an infinity and a NaN");
    assert!(same(DType::BF16, keep, &[0x80, 0x7f], &[0x81, 0x7f]).is_err());
    assert!(
        same(DType::I8, keep, &[1, 2], &[1, 3]).is_err() && same(DType::I8, keep, &[1], &[1, 1]).is_err()
    );
}
