//! Objects of several levels of an instruction set: what is called before a level is chosen runs on the lowest.

mod common;

use common::*;
use cranelift_object::object::{File, Object, ObjectSection, ObjectSymbol, SymbolKind};
use egret_codegen::{Options, Target, front_into, level_object, levels};
use egret_loop::*;
use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction};
use std::collections::BTreeMap;

/// `y[n] = x[n] + x[n]`, where `n` is a product: sizes are multiplied, and too large ones refused.
fn sized() -> Program {
    let mut k = KernelBuilder::new("twice", 1);
    let (x, y) = (k.param(Elem::F32, 1, Access::Read), k.param(Elem::F32, 1, Access::Write));
    let task = k.task();
    let v = k.load(x, task);
    let v = k.add(v, v);
    k.store(y, task, v);
    let s = SizeId;
    let free = |name: &str| Port {
        dims: vec![Extent::Size(s(0)), Extent::Size(s(1))],
        ..port(name, Elem::F32, 0)
    };
    let all = |storage| Buffer { times: Some(s(2)), ..Buffer::new(Elem::F32, 1, storage) };
    let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
    Program {
        name: "m".into(),
        inputs: vec![free("x")],
        outputs: vec![free("y")],
        symbols: (0..2).map(|axis| Symbol { name: format!("n{axis}"), input: 0, axis }).collect(),
        sizes: vec![Size::Symbol(0), Size::Symbol(1), Size::Op(SizeOp::Mul, s(0), s(1))],
        buffers: vec![all(Storage::Input(0)), all(Storage::Output(0))],
        kernels: vec![k.finish()],
        calls: vec![Call {
            repeat: Some(Repeat { first: 0.into(), runs: s(2), step: 1 }),
            ..Call::new(KernelId(0), vec![arg(0), arg(1)])
        }],
        ..Program::default()
    }
}

/// The functions of an object, by name.
fn functions(object: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = File::parse(object).unwrap();
    let texts = file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0);
    texts
        .map(|symbol| {
            let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
            let bytes = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
            (symbol.name().unwrap().to_owned(), bytes.to_vec())
        })
        .collect()
}

/// What x86-64-v2 lacks, in code: instructions of AVX and later, and those of general registers that came with them.
fn beyond_v2(code: &[u8]) -> Vec<Instruction> {
    let decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let lacks = |i: &Instruction| {
        let later = ["BMI1", "BMI2", "LZCNT", "MOVBE", "FMA", "F16C"];
        i.encoding() != EncodingKind::Legacy
            || i.cpuid_features().iter().any(|f| later.contains(&format!("{f:?}").as_str()))
    };
    // Constants are behind code.
    decoder.into_iter().take_while(|i| !i.is_invalid()).filter(lacks).collect()
}

#[test]
fn what_runs_before_a_level_is_chosen_runs_on_the_lowest() {
    let names = ["x86-64-v2", "x86-64-v3", "x86-64-v4"];
    let options = names.map(|name| Options::new(Target::parse(name).unwrap()));
    let levels::Levels { front, levels } = levels::join(names.map(|_| sized()).into()).unwrap();
    let mut object = vec![];
    let hash = front_into(&front, &options, &mut object).unwrap().unwrap();
    let mut objects = vec![object];
    for (program, of) in levels.iter().zip(&options) {
        objects.push(level_object(program, of, &options[0].target, hash).unwrap());
    }
    let asked = |name: &str| ["_plan", "_sizes", "_shape", "_bind"].iter().any(|end| name.ends_with(end));
    let mut found = 0;
    for object in &objects {
        for (name, code) in functions(object).iter().filter(|(name, _)| asked(name)) {
            let beyond = beyond_v2(code);
            assert!(
                beyond.is_empty(),
                "{name}: {:?}",
                beyond.iter().map(Instruction::mnemonic).collect::<Vec<_>>()
            );
            found += 1;
        }
    }
    // Those of the front are four, and each level has two.
    assert_eq!(found, 4 + 2 * names.len());
    // A check that sees nothing would see nothing here either.
    let kernel = functions(&objects[2]).into_iter().find(|(name, _)| name.ends_with("k0_twice")).unwrap();
    assert!(!beyond_v2(&kernel.1).is_empty(), "{}", kernel.0);
}

/// As the symbols of a level are global where a static library is linked.
#[test]
fn symbols_of_a_level_are_those_of_no_other_model() {
    let options = Options::new(Target::parse("x86-64-v3").unwrap());
    let object = level_object(&sized(), &options, &options.target, [0; 32]).unwrap();
    let file = File::parse(&*object).unwrap();
    let global = file.symbols().filter(|s| s.is_global() && s.is_definition());
    let global: Vec<_> = global.map(|s| s.name().unwrap()).collect();
    assert!(global.contains(&"m.x86_64_v3_run"), "{global:?}");
    assert!(global.iter().all(|name| name.starts_with("m.x86_64_v3_")), "{global:?}");
}
