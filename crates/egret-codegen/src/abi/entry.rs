//! The functions of the C ABI: `plan`, `bind` and `run`.

use cranelift::codegen::ir::{StackSlotData, StackSlotKind};
use cranelift::prelude::*;
use cranelift_module::{DataId, FuncId, Linkage, Module};
use egret_runtime::abi::{self, Code};
use std::mem::{offset_of, size_of};

use crate::abi::failure;
use crate::abi::float::FloatState;
use crate::abi::flow;
use crate::abi::tables::{Tables, arg, call, limit};
use crate::error::{Result, broken};
use crate::output::Output;

/// Chunks of a kernel per thread, so that a slow thread does not hold up the others.
const CHUNKS_PER_THREAD: i64 = 4;
/// Chunks where the number of threads is unknown.
const CHUNKS: i64 = 16;

/// What [`trampoline`] is given: the kernel, its tasks, the number of chunks, and the kernel's arguments behind their
/// [`failure`] record.
mod work {
    pub const KERNEL: i32 = 0;
    pub const TASKS: i32 = 8;
    pub const CHUNKS: i32 = 16;
    pub const ARGS: i32 = 24 + crate::record::BYTES;
}

/// A function under construction, with the few phrases that these need.
struct Writer<'f, 'b> {
    b: &'f mut FunctionBuilder<'b>,
    params: Vec<Value>,
}

impl<'f, 'b> Writer<'f, 'b> {
    fn new(b: &'f mut FunctionBuilder<'b>) -> Writer<'f, 'b> {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params = b.block_params(entry).to_vec();
        Writer { b, params }
    }

    /// Nothing is known of an address: most are in structs of foreign callers.
    fn flags() -> MemFlagsData {
        MemFlagsData::new()
    }

    fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(types::I64, value)
    }

    fn word(&mut self, base: Value, offset: i32) -> Value {
        self.b.ins().load(types::I64, Self::flags(), base, offset)
    }

    /// A field of a caller's struct.
    fn field(&mut self, ty: Type, base: Value, offset: usize) -> Value {
        self.b.ins().load(ty, Self::flags(), base, offset as i32)
    }

    fn put(&mut self, value: Value, base: Value, offset: usize) {
        self.b.ins().store(Self::flags(), value, base, offset as i32);
    }

    fn add(&mut self, x: Value, offset: i64) -> Value {
        self.b.ins().iadd_imm_s(x, offset)
    }

    fn is(&mut self, cc: IntCC, x: Value, y: i64) -> Value {
        self.b.ins().icmp_imm_s(cc, x, y)
    }

    fn ret(&mut self, code: i32) {
        let code = self.b.ins().iconst(types::I32, i64::from(code as u32));
        self.b.ins().return_(&[code]);
    }

    /// Go on only where a condition does not hold.
    fn stop_if(&mut self, condition: Value, stop: impl FnOnce(&mut Self)) {
        let (yes, no) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.set_cold_block(yes);
        self.b.switch_to_block(yes);
        stop(self);
        self.b.switch_to_block(no);
    }

    fn fail_if(&mut self, condition: Value, code: Code, index: usize) {
        self.stop_if(condition, |w| w.ret(code.value(index as u32, 0)));
    }

    /// Return an error whose index is known at run time only.
    fn fail_at(&mut self, condition: Value, code: Code, index: Value, axis: Option<Value>) {
        self.stop_if(condition, |w| {
            let index = w.b.ins().band_imm_u(index, 0xfff);
            let mut bits = w.b.ins().ishl_imm_u(index, 8);
            if let Some(axis) = axis {
                let axis = w.b.ins().band_imm_u(axis, 0xff);
                let axis = w.b.ins().ishl_imm_u(axis, 20);
                bits = w.b.ins().bor(bits, axis);
            }
            let bits = w.b.ins().bor_imm_u(bits, i64::from(code as u32));
            let value = w.b.ins().ineg(bits);
            let value = w.b.ins().ireduce(types::I32, value);
            w.b.ins().return_(&[value]);
        });
    }

    fn when(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        let (yes, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], after, &[]);
        self.b.switch_to_block(yes);
        then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    fn when_else(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self),
        otherwise: impl FnOnce(&mut Self),
    ) {
        let (yes, no, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(no);
        otherwise(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    /// `for i in 0..n`
    fn for_n(&mut self, n: Value, body: impl FnOnce(&mut Self, Value)) {
        let (top, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(top, types::I64);
        let zero = self.int(0);
        self.b.ins().jump(top, &[zero.into()]);
        self.b.switch_to_block(top);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, n);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        body(self, i);
        let next = self.add(i, 1);
        self.b.ins().jump(top, &[next.into()]);
        self.b.switch_to_block(after);
    }

    fn slot(&mut self, bytes: usize) -> Value {
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(
            StackSlotKind::ExplicitSlot,
            bytes.max(8) as u32,
            3,
        ));
        self.b.ins().stack_addr(types::I64, slot, 0)
    }

    /// `base + i * size`
    fn entry(&mut self, base: Value, i: Value, size: i64) -> Value {
        let offset = self.b.ins().imul_imm_s(i, size);
        self.b.ins().iadd(base, offset)
    }

    fn address<M: Module>(&mut self, module: &mut M, data: DataId, offset: i64) -> Value {
        let global = module.declare_data_in_func(data, self.b.func);
        let base = self.b.ins().symbol_value(types::I64, global);
        if offset == 0 { base } else { self.add(base, offset) }
    }

    fn finish(self) {
        self.b.seal_all_blocks();
    }
}

/// `<m>_plan`.
pub(crate) fn plan<M: Module>(out: &mut Output<'_, M>, tables: &Tables) -> Result<FuncId> {
    let program = out.program;
    let signature = out.signature(3, true);
    out.function(&out.symbol("plan"), Linkage::Export, signature, |b, module| {
        let mut w = Writer::new(b);
        let (ndims, to) = (w.params[1], w.params[2]);
        let wrong = w.is(IntCC::NotEqual, ndims, 0);
        w.fail_if(wrong, Code::Dims, 0);
        let null = w.is(IntCC::Equal, to, 0);
        w.fail_if(null, Code::Null, 0);
        let bytes = w.int(program.arena_bytes as i64);
        w.put(bytes, to, offset_of!(abi::Plan, arena_bytes));
        let outputs =
            w.address(module, tables.tables, (program.inputs.len() * size_of::<abi::Port>()) as i64);
        w.put(outputs, to, offset_of!(abi::Plan, outputs));
        let n = w.b.ins().iconst(types::I32, program.outputs.len() as i64);
        w.put(n, to, offset_of!(abi::Plan, n_outputs));
        let zero = w.b.ins().iconst(types::I32, 0);
        w.put(zero, to, offset_of!(abi::Plan, reserved));
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// `<m>_bind`.
pub(crate) fn bind<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    cpu: Option<FuncId>,
    weights: Option<DataId>,
) -> Result<FuncId> {
    let len = out.program.weights.len();
    let header = abi::weights_header(len as u64, &tables.weights_hash);
    let check = tables.weights_check;
    let signature = out.signature(3, true);
    out.function(&out.symbol("bind"), Linkage::Export, signature, |b, module| {
        let mut w = Writer::new(b);
        let (to, data, given) = (w.params[0], w.params[1], w.params[2]);
        let null = w.is(IntCC::Equal, to, 0);
        w.fail_if(null, Code::Null, 0);
        if let Some(cpu) = cpu {
            let cpu = module.declare_func_in_func(cpu, w.b.func);
            let call = w.b.ins().call(cpu, &[]);
            let good = w.b.inst_results(call)[0];
            let missing = w.is(IntCC::Equal, good, 0);
            w.fail_if(missing, Code::Cpu, 0);
        }
        let payload = w.b.declare_var(types::I64);
        let none = w.is(IntCC::Equal, data, 0);
        let symbol = weights.map(|id| w.address(module, id, 0));
        w.when_else(
            none,
            |w| match symbol {
                Some(symbol) => w.b.def_var(payload, symbol),
                None if len == 0 => w.b.def_var(payload, data),
                None => {
                    w.ret(Code::Weights.value(0, 0));
                    // What follows is never reached; it still needs a block and a value.
                    let dead = w.b.create_block();
                    w.b.switch_to_block(dead);
                    w.b.def_var(payload, data);
                }
            },
            |w| {
                let low = w.b.ins().band_imm_u(data, abi::ALIGN as i64 - 1);
                let misaligned = w.is(IntCC::NotEqual, low, 0);
                w.fail_if(misaligned, Code::Align, 0);
                let whole = w.int((abi::WEIGHTS_HEADER + len) as i64);
                let short = w.b.ins().icmp(IntCC::UnsignedLessThan, given, whole);
                w.fail_if(short, Code::Weights, 0);
                // Magic, length and hash; the rest of the header is for later versions.
                for (i, word) in header.chunks_exact(8).take(6).enumerate() {
                    let want = w.int(i64::from_le_bytes(word.try_into().unwrap_or([0; 8])));
                    let have = w.word(data, 8 * i as i32);
                    let differs = w.b.ins().icmp(IntCC::NotEqual, have, want);
                    w.fail_if(differs, Code::Weights, 0);
                }
                let start = w.add(data, abi::WEIGHTS_HEADER as i64);
                w.b.def_var(payload, start);
            },
        );
        let payload = w.b.use_var(payload);
        w.put(payload, to, offset_of!(abi::Weights, data));
        let len = w.int(len as i64);
        w.put(len, to, offset_of!(abi::Weights, len));
        let check = w.int(check as i64);
        w.put(check, to, offset_of!(abi::Weights, check));
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// `fn(tensors, ports, limits, n, first_index, memories) -> code`: checks tensors and notes where their data is.
fn check<M: Module>(out: &mut Output<'_, M>) -> Result<FuncId> {
    let signature = out.signature(6, true);
    out.function(&out.symbol("check"), Linkage::Local, signature, |b, _| {
        let mut w = Writer::new(b);
        let &[tensors, ports, limits, n, first, memories] = w.params.as_slice() else {
            return Err(broken("a check without six parameters"));
        };
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
                    let differs = w.b.ins().icmp(IntCC::NotEqual, have, want);
                    w.fail_at(differs, Code::Dim, index, Some(axis));
                });
            });
            let data = w.field(types::I64, tensor, offset_of!(abi::Tensor, data));
            let bytes = w.word(limits, limit::BYTES);
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

/// `fn(memories, limits) -> code`: refuses what is written (outputs, then the arena) if it shares a byte with anything else.
///
/// Every pair is compared: a nanosecond each, of which a model has about ten. Overlap is the one mistake that a caller can
/// make here whose only sign is wrong numbers.
fn overlap<M: Module>(out: &mut Output<'_, M>) -> Result<FuncId> {
    let signature = out.signature(2, true);
    let (n_in, n_out) = (out.program.inputs.len() as i64, out.program.outputs.len() as i64);
    out.function(&out.symbol("overlap"), Linkage::Local, signature, |b, _| {
        let mut w = Writer::new(b);
        let (memories, limits) = (w.params[0], w.params[1]);
        // Where memory `i` begins and ends, and whether it has any bytes: without, it meets nothing.
        let range = |w: &mut Writer<'_, '_>, i: Value| {
            let (memory, limit) = (w.entry(memories, i, 8), w.entry(limits, i, limit::SIZE));
            let (begin, bytes) = (w.word(memory, 0), w.word(limit, limit::BYTES));
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

/// `fn(work, i)`: chunk `i` of a kernel, on whatever thread.
fn trampoline<M: Module>(out: &mut Output<'_, M>, float: &FloatState) -> Result<FuncId> {
    let (signature, kernel) = (out.signature(2, false), out.signature(3, false));
    let body = out.function(&out.symbol("chunk_body"), Linkage::Local, signature.clone(), |b, _| {
        let mut w = Writer::new(b);
        let (work, i) = (w.params[0], w.params[1]);
        let (tasks, chunks) = (w.word(work, work::TASKS), w.word(work, work::CHUNKS));
        let next = w.add(i, 1);
        let [begin, end] = [i, next].map(|i| {
            let at = w.b.ins().imul(tasks, i);
            // The number of chunks is never 0; unsigned division has no other trap.
            w.b.ins().udiv(at, chunks)
        });
        let function = w.word(work, work::KERNEL);
        let args = w.add(work, i64::from(work::ARGS));
        let kernel = w.b.import_signature(kernel);
        w.b.ins().call_indirect(kernel, function, &[args, begin, end]);
        w.b.ins().return_(&[]);
        w.finish();
        Ok(())
    })?;
    float.around(out, "chunk", Linkage::Local, signature, body)
}

/// `<m>_run`.
pub(crate) fn run<M: Module>(out: &mut Output<'_, M>, tables: &Tables) -> Result<FuncId> {
    let program = out.program;
    let float = FloatState::define(out)?;
    let (check, overlap, trampoline) = (check(out)?, overlap(out)?, trampoline(out, &float)?);
    let (kernel, profile, parallel) =
        (out.signature(3, false), profile_signature(out), out.signature(4, false));
    let signature = out.signature(6, true);
    let (n_in, n_out) = (program.inputs.len(), program.outputs.len());
    let can_fail = failure::is_possible(program)?;
    let body = out.function(&out.symbol("run_body"), Linkage::Local, signature.clone(), |b, module| {
        let mut w = Writer::new(b);
        let &[weights, inputs, outputs, arena, arena_len, env] = w.params.as_slice() else {
            return Err(broken("a run function without six parameters"));
        };
        let null = w.is(IntCC::Equal, weights, 0);
        w.fail_if(null, Code::Unbound, 0);
        let have = w.field(types::I64, weights, offset_of!(abi::Weights, check));
        let want = w.int(tables.weights_check as i64);
        let unbound = w.b.ins().icmp(IntCC::NotEqual, have, want);
        w.fail_if(unbound, Code::Unbound, 0);
        if program.arena_bytes > 0 {
            let small =
                w.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, arena_len, program.arena_bytes as i64);
            w.fail_if(small, Code::Arena, 0);
            let null = w.is(IntCC::Equal, arena, 0);
            w.fail_if(null, Code::Arena, 0);
            let low = w.b.ins().band_imm_u(arena, abi::ALIGN as i64 - 1);
            let misaligned = w.is(IntCC::NotEqual, low, 0);
            w.fail_if(misaligned, Code::Align, 0);
        }
        let memories = w.slot(8 * (n_in + n_out + 2));
        let check = module.declare_func_in_func(check, w.b.func);
        for (tensors, first, n) in [(inputs, 0, n_in), (outputs, n_in, n_out)] {
            if n == 0 {
                continue;
            }
            let null = w.is(IntCC::Equal, tensors, 0);
            w.fail_if(null, Code::Null, first);
            let ports = w.address(module, tables.tables, (first * size_of::<abi::Port>()) as i64);
            let limits = w.address(module, tables.tables, tables.limits + first as i64 * limit::SIZE);
            let (n, index, to) = (w.int(n as i64), w.int(first as i64), w.add(memories, 8 * first as i64));
            let call = w.b.ins().call(check, &[tensors, ports, limits, n, index, to]);
            let code = w.b.inst_results(call)[0];
            w.stop_if(code, |w| {
                w.b.ins().return_(&[code]);
            });
        }
        w.put(arena, memories, 8 * (n_in + n_out));
        let payload = w.field(types::I64, weights, offset_of!(abi::Weights, data));
        w.put(payload, memories, 8 * (n_in + n_out + 1));
        let overlap = module.declare_func_in_func(overlap, w.b.func);
        let limits = w.address(module, tables.tables, tables.limits);
        let call = w.b.ins().call(overlap, &[memories, limits]);
        let code = w.b.inst_results(call)[0];
        w.stop_if(code, |w| {
            w.b.ins().return_(&[code]);
        });

        // Without an environment all of its fields are 0.
        let fields = w.slot(size_of::<abi::Env>());
        let zero = w.int(0);
        for offset in (0..size_of::<abi::Env>()).step_by(8) {
            w.put(zero, fields, offset);
        }
        let given = w.is(IntCC::NotEqual, env, 0);
        let env = w.b.ins().select(given, env, fields);
        let run_parallel = w.field(types::I64, env, offset_of!(abi::Env, parallel));
        let on_profile = w.field(types::I64, env, offset_of!(abi::Env, profile));
        let threads = w.b.ins().uload32(Writer::flags(), env, offset_of!(abi::Env, threads) as i32);
        let alone = w.is(IntCC::Equal, threads, 1);
        let run_parallel = w.b.ins().select(alone, zero, run_parallel);
        let unknown = w.is(IntCC::Equal, threads, 0);
        let most = w.b.ins().imul_imm_s(threads, CHUNKS_PER_THREAD);
        let default = w.int(CHUNKS);
        let most = w.b.ins().select(unknown, default, most);

        let work = w.slot(work::ARGS as usize + 8 * tables.max_args);
        let args = w.add(work, i64::from(work::ARGS));
        let calls = w.address(module, tables.tables, tables.calls);
        let n_calls = w.int(program.calls.len() as i64);
        let (kernel, profile, parallel) =
            (w.b.import_signature(kernel), w.b.import_signature(profile), w.b.import_signature(parallel));
        let trampoline = module.declare_func_in_func(trampoline, w.b.func);
        if can_fail {
            failure::clear(w.b, args);
        }
        let run_call = |w: &mut Writer<'_, '_>, i: Value| {
            let entry = w.entry(calls, i, call::SIZE);
            let report = |w: &mut Writer<'_, '_>, phase: i64| {
                let wanted = w.is(IntCC::NotEqual, on_profile, 0);
                w.when(wanted, |w| {
                    let ctx = w.field(types::I64, env, offset_of!(abi::Env, profile_ctx));
                    let (number, phase) =
                        (w.b.ins().ireduce(types::I32, i), w.b.ins().iconst(types::I32, phase));
                    w.b.ins().call_indirect(profile, on_profile, &[ctx, number, phase]);
                });
            };
            report(w, 0);
            let (n, list) = (w.word(entry, call::ARGS), w.word(entry, call::ARG_LIST));
            w.for_n(n, |w, j| {
                let item = w.entry(list, j, arg::SIZE);
                let (memory, offset) = (w.word(item, arg::MEMORY), w.word(item, arg::OFFSET));
                let memory = w.entry(memories, memory, 8);
                let base = w.word(memory, 0);
                let pointer = w.b.ins().iadd(base, offset);
                let to = w.entry(args, j, 8);
                w.put(pointer, to, 0);
            });
            let (function, tasks) = (w.word(entry, call::KERNEL), w.word(entry, call::TASKS));
            let many = w.is(IntCC::SignedGreaterThan, tasks, 1);
            let can = w.is(IntCC::NotEqual, run_parallel, 0);
            let both = w.b.ins().band(many, can);
            w.when_else(
                both,
                |w| {
                    w.put(function, work, work::KERNEL as usize);
                    w.put(tasks, work, work::TASKS as usize);
                    let chunks = w.b.ins().smin(tasks, most);
                    w.put(chunks, work, work::CHUNKS as usize);
                    let ctx = w.field(types::I64, env, offset_of!(abi::Env, ctx));
                    let body = w.b.ins().func_addr(types::I64, trampoline);
                    w.b.ins().call_indirect(parallel, run_parallel, &[ctx, body, work, chunks]);
                },
                |w| {
                    w.b.ins().call_indirect(kernel, function, &[args, zero, tasks]);
                },
            );
            report(w, 1);
            if can_fail {
                failure::stop(w.b, args, arena, i, |b| {
                    b.ins().call_indirect(kernel, function, &[args, zero, tasks]);
                });
            }
        };
        match tables.steps {
            (_, 0) => w.for_n(n_calls, run_call),
            (at, words) => {
                let table = w.address(module, tables.tables, at);
                flow::walk(w.b, table, words, memories, |b, i| {
                    run_call(&mut Writer { b, params: vec![] }, i)
                });
            }
        }
        w.ret(0);
        w.finish();
        Ok(())
    })?;
    float.around(out, "run", Linkage::Export, signature, body)
}

fn profile_signature<M: Module>(out: &Output<'_, M>) -> Signature {
    let mut signature = out.signature(1, false);
    // Extended, as some callees (64-bit ARM's on macOS) take for granted.
    signature.params.extend([AbiParam::new(types::I32).uext(); 2]);
    signature
}
