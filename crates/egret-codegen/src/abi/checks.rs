//! What `run` holds the caller's tensors to, before anything is computed.

use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module};
use egret_runtime::abi::{self, Code};
use std::mem::{offset_of, size_of};

use crate::abi::sizes::resolve;
use crate::abi::tables::limit;
use crate::abi::writer::Writer;
use crate::error::{Result, broken};
use crate::output::Output;

/// `fn(tensors, ports, limits, n, first_index, memories) -> code`: checks tensors and notes where their data is. Where there are sizes,
/// their values come last.
pub(super) fn check<M: Module>(out: &mut Output<'_, M>, sized: bool) -> Result<FuncId> {
    let signature = out.signature(6 + usize::from(sized), true);
    out.function(&out.symbol("check"), Linkage::Local, signature, |b, _| {
        let mut w = Writer::new(b);
        let (&[tensors, ports, limits, n, first, memories], sizes) = w.params.split_at(6) else {
            return Err(broken("a check without six parameters"));
        };
        let sizes = sizes.first().copied();
        w.for_n(n, |w, i| {
            let tensor = w.entry(tensors, i, size_of::<abi::Tensor>() as i64);
            let port = w.entry(ports, i, size_of::<abi::Port>() as i64);
            let limits = w.entry(limits, i, limit::SIZE);
            let index = w.b.ins().iadd(first, i);
            let have = w.field(types::I32, tensor, offset_of!(abi::Tensor, dtype));
            let want = w.field(types::I32, port, offset_of!(abi::Port, dtype));
            let differs = w.b.ins().icmp(IntCC::NotEqual, have, want);
            w.fail_at(differs, Code::Dtype, index, None);
            let have = w.field(types::I32, tensor, offset_of!(abi::Tensor, rank));
            let rank = w.field(types::I32, port, offset_of!(abi::Port, rank));
            let differs = w.b.ins().icmp(IntCC::NotEqual, have, rank);
            w.fail_at(differs, Code::Rank, index, None);
            let has_dims = w.is(IntCC::NotEqual, rank, 0);
            w.when(has_dims, |w| {
                let dims = w.field(types::I64, tensor, offset_of!(abi::Tensor, dims));
                let null = w.is(IntCC::Equal, dims, 0);
                w.fail_at(null, Code::Null, index, None);
                let wanted = w.field(types::I64, port, offset_of!(abi::Port, dims));
                let rank = w.b.ins().uextend(types::I64, rank);
                w.for_n(rank, |w, axis| {
                    let (have, want) = (w.entry(dims, axis, 8), w.entry(wanted, axis, 8));
                    let (have, want) = (w.word(have, 0), w.word(want, 0));
                    let want = resolve(w, want, sizes);
                    let differs = w.b.ins().icmp(IntCC::NotEqual, have, want);
                    w.fail_at(differs, Code::Dim, index, Some(axis));
                });
            });
            let data = w.field(types::I64, tensor, offset_of!(abi::Tensor, data));
            let bytes = w.word(limits, limit::BYTES);
            let bytes = resolve(w, bytes, sizes);
            let some = w.is(IntCC::NotEqual, bytes, 0);
            w.when(some, |w| {
                let null = w.is(IntCC::Equal, data, 0);
                w.fail_at(null, Code::Null, index, None);
                let mask = w.word(limits, limit::ALIGN_MASK);
                let low = w.b.ins().band(data, mask);
                let misaligned = w.is(IntCC::NotEqual, low, 0);
                w.fail_at(misaligned, Code::Align, index, None);
                let bound = w.word(limits, limit::BOUND);
                let is_bound = w.is(IntCC::NotEqual, bound, 0);
                w.when(is_bound, |w| {
                    w.for_n(bytes, |w, at| {
                        let (have, want) = (w.entry(data, at, 1), w.entry(bound, at, 1));
                        let (have, want) = (w.field(types::I8, have, 0), w.field(types::I8, want, 0));
                        let differs = w.b.ins().icmp(IntCC::NotEqual, have, want);
                        w.fail_at(differs, Code::BoundValue, index, None);
                    });
                });
            });
            let memory = w.entry(memories, i, 8);
            w.put(data, memory, 0);
        });
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// `fn(memories, limits) -> code`, with the sizes as above: refuses what is written (outputs, then the arena) if it shares a byte with anything else.
///
/// Every pair is compared: a nanosecond each, of which a model has about ten. Overlap is the one mistake that a caller can
/// make here whose only sign is wrong numbers.
pub(super) fn overlap<M: Module>(out: &mut Output<'_, M>, sized: bool) -> Result<FuncId> {
    let signature = out.signature(2 + usize::from(sized), true);
    let (n_in, n_out) = (out.program.inputs.len() as i64, out.program.outputs.len() as i64);
    out.function(&out.symbol("overlap"), Linkage::Local, signature, |b, _| {
        let mut w = Writer::new(b);
        let (memories, limits, sizes) = (w.params[0], w.params[1], w.params.get(2).copied());
        // Where memory `i` begins and ends, and whether it has any bytes: without, it meets nothing.
        let range = |w: &mut Writer<'_, '_>, i: Value| {
            let (memory, limit) = (w.entry(memories, i, 8), w.entry(limits, i, limit::SIZE));
            let (begin, bytes) = (w.word(memory, 0), w.word(limit, limit::BYTES));
            let bytes = resolve(w, bytes, sizes);
            let end = w.b.ins().iadd(begin, bytes);
            let some = w.is(IntCC::NotEqual, bytes, 0);
            (begin, end, some)
        };
        let written = w.int(n_out + 1);
        w.for_n(written, |w, i| {
            let i = w.add(i, n_in);
            let (begin, end, some) = range(w, i);
            w.when(some, |w| {
                let all = w.int(n_in + n_out + 2);
                w.for_n(all, |w, j| {
                    let (other_begin, other_end, other_some) = range(w, j);
                    let before = w.b.ins().icmp(IntCC::UnsignedLessThan, begin, other_end);
                    let after = w.b.ins().icmp(IntCC::UnsignedLessThan, other_begin, end);
                    let another = w.b.ins().icmp(IntCC::NotEqual, i, j);
                    let both = w.b.ins().band(before, after);
                    let both = w.b.ins().band(both, other_some);
                    let both = w.b.ins().band(both, another);
                    w.fail_at(both, Code::Overlap, i, None);
                });
            });
        });
        w.ret(0);
        w.finish();
        Ok(())
    })
}
