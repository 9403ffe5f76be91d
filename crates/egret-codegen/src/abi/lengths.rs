//! Lengths: dims that data decides. A call finds them; the sizes that are made of them are computed behind it, and the dims of outputs are
//! written when the run ends.

use cranelift::codegen::ir::FuncRef;
use cranelift::prelude::*;
use cranelift_module::{FuncId, Module};
use egret_loop::{Extent, Program};
use egret_runtime::abi::{self, Code};
use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

use crate::abi::sizes::NOT_FOUND;
use crate::abi::tables::Tables;
use crate::abi::writer::Writer;

/// What a run knows its sizes by.
pub(super) struct Known {
    /// The values of the symbols.
    pub symbols: Value,
    /// Those of the lengths.
    pub lengths: Value,
    /// Those of the sizes.
    pub values: Value,
    /// The function that computes the sizes.
    pub sizes: FuncId,
}

/// The lengths of a program before any is found.
pub(super) fn none(w: &mut Writer<'_, '_>, program: &Program) -> Value {
    if program.lengths.is_empty() {
        return w.int(0);
    }
    let (lengths, not_found) = (w.slot(8 * program.lengths.len()), w.int(NOT_FOUND));
    for i in 0..program.lengths.len() {
        w.put(not_found, lengths, 8 * i);
    }
    lengths
}

/// A length of a call.
struct Length {
    /// Its number.
    number: usize,
    /// The memory that it is written to, and the byte there.
    memory: i64,
    offset: Value,
    /// The most that it can be.
    most: Value,
}

/// What is done behind the calls that find lengths.
pub(super) struct Found {
    by_call: BTreeMap<usize, Vec<Length>>,
    sizes: FuncRef,
    symbols: Value,
    lengths: Value,
    values: Value,
}

impl Found {
    /// Nothing for a program without lengths.
    pub fn of<M: Module>(
        program: &Program,
        tables: &Tables,
        known: &Known,
        module: &mut M,
        w: &mut Writer<'_, '_>,
    ) -> Option<Found> {
        let mut by_call: BTreeMap<usize, Vec<Length>> = BTreeMap::new();
        for ((number, length), (spot, most)) in program.lengths.iter().enumerate().zip(&tables.lengths) {
            // Where it is, is known when the run begins, whatever lengths there are.
            let mut offset = w.int(spot.offset);
            if let Some(size) = spot.more {
                let more = w.word(known.values, 8 * size.0 as i32);
                offset = w.b.ins().iadd(offset, more);
            }
            let most = w.int(*most);
            let most = super::sizes::resolve(w, most, Some(known.values));
            let memory = spot.memory;
            by_call.entry(length.call).or_default().push(Length { number, memory, offset, most });
        }
        let sizes = (!by_call.is_empty()).then(|| module.declare_func_in_func(known.sizes, w.b.func))?;
        let Known { symbols, lengths, values, .. } = *known;
        Some(Found { by_call, sizes, symbols, lengths, values })
    }

    /// Behind call `i`: notes what it has found, and computes the sizes anew.
    pub fn behind(&self, w: &mut Writer<'_, '_>, i: Value, memories: Value) {
        for (call, found) in &self.by_call {
            let is_it = w.is(IntCC::Equal, i, *call as i64);
            w.when(is_it, |w| {
                for length in found {
                    let base = w.word(memories, 8 * length.memory as i32);
                    let at = w.b.ins().iadd(base, length.offset);
                    let count = w.word(at, 0);
                    // A kernel that finds more than there can be is wrong; what follows has no room for it.
                    let beyond = w.b.ins().icmp(IntCC::UnsignedGreaterThan, count, length.most);
                    w.fail_if(beyond, Code::Sizes, 0);
                    w.put(count, self.lengths, 8 * length.number);
                }
                let call = w.b.ins().call(self.sizes, &[self.symbols, self.lengths, self.values]);
                let code = w.b.inst_results(call)[0];
                w.stop_if(code, |w| {
                    w.b.ins().return_(&[code]);
                });
            });
        }
    }
}

/// At the end of a run: writes the dims of outputs that data has decided.
pub(super) fn tell(w: &mut Writer<'_, '_>, program: &Program, outputs: Value, values: Value) {
    for (i, port) in program.outputs.iter().enumerate() {
        let Some(found) = &port.found else { continue };
        let dims = (i * size_of::<abi::Tensor>() + offset_of!(abi::Tensor, dims)) as i32;
        let dims = w.word(outputs, dims);
        for (axis, dim) in found.iter().enumerate() {
            let dim = match dim {
                Extent::Const(c) => w.int(*c),
                Extent::Size(s) => w.word(values, 8 * s.0 as i32),
            };
            w.put(dim, dims, 8 * axis);
        }
    }
}
