//! Programs of one model for several levels of an instruction set as one artifact: each level is an object of its own
//! ([`crate::level_object`]), and a front ([`crate::front_into`]) has what callers see, and the weights of all levels.

use egret_loop::conditions::Conditions;
use egret_loop::{Port, Program, Storage, Weights, sizes};
use egret_runtime::abi::ALIGN;
use std::collections::HashMap;
use std::mem::take;

use crate::abi::tables::hash;
use crate::error::{CodegenError, Result, broken};

/// The parts of an artifact.
pub struct Levels {
    /// What callers see: the ports, their sizes and conditions, the weights of all levels, the arena that is enough for any. It has no calls.
    pub front: Program,
    /// The levels, in the order in which they were given. Of their weights they know the length alone.
    pub levels: Vec<Program>,
}

/// Make programs of one model the levels of an artifact. Constants that are packed alike for several of them are kept once.
///
/// # Errors
/// Programs that differ in what callers see of them.
pub fn join(mut programs: Vec<Program>) -> Result<Levels> {
    for i in 1..programs.len() {
        if let Some(what) = difference(&programs[0], &programs[i]) {
            return Err(CodegenError::Unsupported(format!(
                "the levels of an instruction set differ in {what}, so that they cannot be one artifact; compile one for each"
            )));
        }
        programs[i].earlier = Conditions::of(&programs[i - 1]).texts;
    }
    let weights = share(&mut programs)?;
    let last = programs.last().ok_or_else(|| broken("an artifact without levels"))?;
    let front = Program {
        name: last.name.clone(),
        inputs: last.inputs.clone(),
        outputs: last.outputs.clone(),
        symbols: last.symbols.clone(),
        lengths: last.lengths.clone(),
        sizes: last.sizes.clone(),
        needed: last.needed.clone(),
        buffers: last.buffers.clone(),
        arena_bytes: programs.iter().map(|p| p.arena_bytes).max().unwrap_or(0),
        weights,
        earlier: Conditions::of(last).texts,
        ..Program::default()
    };
    Ok(Levels { front, levels: programs })
}

/// What two programs differ in as callers see them.
fn difference(a: &Program, b: &Program) -> Option<String> {
    let lengths = |p: &Program| p.lengths.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    if a.name != b.name || a.symbols != b.symbols {
        return Some("their free dims".into());
    }
    if lengths(a) != lengths(b) {
        return Some("the dims that data decides".into());
    }
    let (of_a, of_b) = (a.inputs.iter().chain(&a.outputs), b.inputs.iter().chain(&b.outputs));
    if (a.inputs.len(), a.outputs.len()) != (b.inputs.len(), b.outputs.len()) {
        return Some("the number of their inputs and outputs".into());
    }
    let seen = |program: &Program, port: &Port| {
        let symbol = |i: usize| program.symbols[i].name.clone();
        let dims = port.dims.iter().map(|d| sizes::expression(&program.sizes, *d, &symbol));
        (port.name.clone(), port.onnx_dtype, port.bound.clone(), dims.collect::<Vec<_>>())
    };
    let mut pairs = of_a.zip(of_b);
    pairs.find(|(p, q)| seen(a, p) != seen(b, q)).map(|(p, _)| format!("`{}`", p.name))
}

/// Put the weights of all programs into one; theirs are as long, and of zeros.
fn share(programs: &mut [Program]) -> Result<Weights> {
    let mut shared = Weights::default();
    // Asked, never gone through: its order does not matter.
    let mut places: HashMap<(usize, [u8; 32]), usize> = HashMap::new();
    for program in &mut *programs {
        let own = take(&mut program.weights);
        for buffer in &mut program.buffers {
            let Storage::Weights(at) = buffer.storage else { continue };
            let len = buffer.len * buffer.elem.size();
            let part = own.cut(at, len).ok_or_else(|| broken("a constant that is not in the weights"))?;
            let place = *places.entry((len, hash(&part))).or_insert_with(|| {
                let at = shared.append(part);
                shared.align(ALIGN);
                at
            });
            buffer.storage = Storage::Weights(place);
        }
    }
    for program in programs {
        program.weights = Weights::unknown(shared.len());
    }
    Ok(shared)
}
