//! The functions of the C ABI: `plan`, `shape`, `bind` and `run`.

use cranelift::prelude::*;
use cranelift_module::{DataId, FuncId, Linkage, Module};
use egret_loop::Program;
use egret_loop::conditions::Conditions;
use egret_runtime::abi::{self, Code};
use std::mem::{offset_of, size_of};

use crate::abi::branches::{self, arguments, section};
use crate::abi::checks::{check, overlap};
use crate::abi::chunks::{self, work};
use crate::abi::failure;
use crate::abi::float::FloatState;
use crate::abi::flow;
use crate::abi::lengths;
use crate::abi::levels::planned;
use crate::abi::sizes::{Sizes, resolve};
use crate::abi::tables::{Tables, call, limit};
use crate::abi::writer::Writer;
use crate::error::{Result, broken};
use crate::output::Output;

/// Chunks of a kernel per thread, so that a slow thread does not hold up the others.
const CHUNKS_PER_THREAD: i64 = 4;
/// Chunks where the number of threads is unknown.
const CHUNKS: i64 = 16;

/// `<m>_plan`.
pub(crate) fn plan<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    sizes: Option<FuncId>,
) -> Result<FuncId> {
    let program = out.program;
    let signature = out.foreign(out.signature(3, true));
    out.function(&out.symbol("plan"), out.linkage, signature, |b, module| {
        let mut w = Writer::new(b);
        let (dims, ndims, to) = (w.params[0], w.params[1], w.params[2]);
        let lengths = lengths::none(&mut w, program);
        let values = values_of(&mut w, module, program, tables, sizes, (dims, ndims), lengths)?;
        let null = w.is(IntCC::Equal, to, 0);
        w.fail_if(null, Code::Null, 0);
        let bytes = w.int(tables.arena);
        let bytes = resolve(&mut w, bytes, values);
        planned(&mut w, module, tables, bytes, (program.inputs.len(), program.outputs.len()), to);
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// The values of the sizes, given as many dims as there are symbols, and what lengths are found, if there are any sizes.
fn values_of<M: Module>(
    w: &mut Writer<'_, '_>,
    module: &mut M,
    program: &Program,
    tables: &Tables,
    sizes: Option<FuncId>,
    (dims, ndims): (Value, Value),
    lengths: Value,
) -> Result<Option<Value>> {
    let wrong = w.is(IntCC::NotEqual, ndims, program.symbols.len() as i64);
    w.fail_if(wrong, Code::Dims, 0);
    let Some((sizes, count)) = sizes.zip(tables.sizes.as_ref().map(Sizes::len)) else { return Ok(None) };
    if !program.symbols.is_empty() {
        let null = w.is(IntCC::Equal, dims, 0);
        w.fail_if(null, Code::Null, 0);
    }
    // A zero before them is what is added to places that no size moves.
    let values = w.slot(8 * (1 + count));
    let none = w.int(0);
    w.put(none, values, 0);
    let values = w.add(values, 8);
    let sizes = module.declare_func_in_func(sizes, w.b.func);
    let call = w.b.ins().call(sizes, &[dims, lengths, values]);
    let code = w.b.inst_results(call)[0];
    w.stop_if(code, |w| {
        w.b.ins().return_(&[code]);
    });
    Ok(Some(values))
}

/// `<m>_shape`: the dims of an output.
pub(crate) fn shape<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    sizes: Option<FuncId>,
) -> Result<FuncId> {
    let program = out.program;
    let signature = out.foreign(out.signature(4, true));
    out.function(&out.symbol("shape"), out.linkage, signature, |b, module| {
        let mut w = Writer::new(b);
        let &[dims, ndims, output, to] = w.params.as_slice() else {
            return Err(broken("a shape function without four parameters"));
        };
        let lengths = lengths::none(&mut w, program);
        let values = values_of(&mut w, module, program, tables, sizes, (dims, ndims), lengths)?;
        let (n_in, n_out) = (program.inputs.len(), program.outputs.len());
        let wrong = w.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, output, n_out as i64);
        w.fail_if(wrong, Code::Dims, 0);
        let null = w.is(IntCC::Equal, to, 0);
        w.fail_if(null, Code::Null, 0);
        let ports = w.address(module, tables.tables, (n_in * size_of::<abi::Port>()) as i64);
        let port = w.entry(ports, output, size_of::<abi::Port>() as i64);
        let rank = w.b.ins().uload32(Writer::flags(), port, offset_of!(abi::Port, rank) as i32);
        let dims = w.field(types::I64, port, offset_of!(abi::Port, dims));
        w.for_n(rank, |w, axis| {
            let (from, to) = (w.entry(dims, axis, 8), w.entry(to, axis, 8));
            let word = w.word(from, 0);
            let dim = resolve(w, word, values);
            w.put(dim, to, 0);
        });
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// What can be bound.
pub(crate) struct Level {
    /// The function that asks the CPU whether it has what the code needs; none where every CPU of the architecture has.
    pub cpu: Option<FuncId>,
    /// Its description.
    pub info: DataId,
}

/// `<m>_bind`: of the levels, lowest first, it takes the highest that the CPU has.
pub(crate) fn bind<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    levels: &[Level],
    weights: Option<DataId>,
) -> Result<FuncId> {
    let len = out.program.weights.len();
    let header = abi::weights_header(len as u64, &tables.weights_hash);
    let check = tables.weights_check;
    let signature = out.foreign(out.signature(3, true));
    out.function(&out.symbol("bind"), out.linkage, signature, |b, module| {
        let mut w = Writer::new(b);
        let (to, data, given) = (w.params[0], w.params[1], w.params[2]);
        let null = w.is(IntCC::Equal, to, 0);
        w.fail_if(null, Code::Null, 0);
        let mut chosen = w.int(0);
        for level in levels {
            let info = w.address(module, level.info, 0);
            chosen = match level.cpu {
                Some(cpu) => {
                    let cpu = module.declare_func_in_func(cpu, w.b.func);
                    let call = w.b.ins().call(cpu, &[]);
                    let good = w.b.inst_results(call)[0];
                    w.b.ins().select(good, info, chosen)
                }
                None => info,
            };
        }
        let none = w.is(IntCC::Equal, chosen, 0);
        w.fail_if(none, Code::Cpu, 0);
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
        w.put(chosen, to, offset_of!(abi::Weights, info));
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// `<m>_run`.
pub(crate) fn run<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    sizes: Option<FuncId>,
) -> Result<FuncId> {
    let program = out.program;
    let float = FloatState::define(out)?;
    let sized = sizes.is_some();
    let (check, overlap) = (check(out, sized)?, overlap(out, sized)?);
    let (kernel, profile, parallel) =
        (out.signature(3, false), profile_signature(out), out.foreign(out.signature(4, false)));
    let signature = out.signature(6, true);
    let (n_in, n_out) = (program.inputs.len(), program.outputs.len());
    let can_fail = failure::is_possible(program)?;
    let conditions = Conditions::of(program);
    let runs = if sized { Some(chunks::runs(out, tables, can_fail)?) } else { None };
    let trampoline = chunks::trampoline(out, &float, runs)?;
    let branch = match program.branches.is_empty() {
        true => None,
        false => Some(branches::branch(out, tables, &float, runs)?),
    };
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
        let mut known = None;
        if let Some(sizes) = sizes {
            let ((symbols, n), lengths) =
                (symbols(&mut w, program, inputs), lengths::none(&mut w, program));
            let values = values_of(&mut w, module, program, tables, Some(sizes), (symbols, n), lengths)?;
            known = values.map(|values| lengths::Known { symbols, lengths, values, sizes });
        }
        let values = known.as_ref().map(|k| k.values);
        if tables.arena != 0 {
            let needed = w.int(tables.arena);
            let needed = resolve(&mut w, needed, values);
            let small = w.b.ins().icmp(IntCC::UnsignedLessThan, arena_len, needed);
            w.fail_if(small, Code::Arena, 0);
            // Of no bytes it may be nowhere.
            let null = w.is(IntCC::Equal, arena, 0);
            let some = w.is(IntCC::NotEqual, needed, 0);
            let missing = w.b.ins().band(null, some);
            w.fail_if(missing, Code::Arena, 0);
            let low = w.b.ins().band_imm_u(arena, abi::ALIGN as i64 - 1);
            let misaligned = w.is(IntCC::NotEqual, low, 0);
            w.fail_if(misaligned, Code::Align, 0);
        }
        let memories = w.slot(8 * (n_in + n_out + 3));
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
            let mut args = vec![tensors, ports, limits, n, index, to];
            args.extend(values);
            let call = w.b.ins().call(check, &args);
            let code = w.b.inst_results(call)[0];
            w.stop_if(code, |w| {
                w.b.ins().return_(&[code]);
            });
        }
        w.put(arena, memories, 8 * (n_in + n_out));
        let payload = w.field(types::I64, weights, offset_of!(abi::Weights, data));
        w.put(payload, memories, 8 * (n_in + n_out + 1));
        if let Some(values) = values {
            w.put(values, memories, 8 * (n_in + n_out + 2));
        }
        let overlap = module.declare_func_in_func(overlap, w.b.func);
        let limits = w.address(module, tables.tables, tables.limits);
        let mut args = vec![memories, limits];
        args.extend(values);
        let call = w.b.ins().call(overlap, &args);
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
        let runs = runs.map(|id| module.declare_func_in_func(id, w.b.func));
        let call_size = if sized { call::SIZED } else { call::SIZE };
        if can_fail {
            failure::clear(w.b, args);
        }
        let found = match &known {
            Some(known) => lengths::Found::of(program, tables, known, module, &mut w),
            None => None,
        };
        let run_call = |w: &mut Writer<'_, '_>, i: Value| {
            let entry = w.entry(calls, i, call_size);
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
            let tasks = w.word(entry, call::TASKS);
            let tasks = resolve(w, tasks, values);
            let work_of = |w: &mut Writer<'_, '_>, times: Option<Value>| {
                arguments(w, entry, args, memories, values);
                let all = times.map_or(tasks, |times| w.b.ins().imul(tasks, times));
                // All of its tasks, on this thread.
                let alone = |b: &mut FunctionBuilder<'_>| {
                    let mut w = Writer { b, params: vec![] };
                    chunks::alone(&mut w, kernel, entry, (work, args), tasks, runs.zip(times));
                };
                let alone_at_most = w.word(entry, call::ALONE);
                let many = w.b.ins().icmp(IntCC::SignedGreaterThan, all, alone_at_most);
                let can = w.is(IntCC::NotEqual, run_parallel, 0);
                let both = w.b.ins().band(many, can);
                w.when_else(
                    both,
                    |w| {
                        chunks::describe(w, entry, work, tasks);
                        w.put(all, work, work::TASKS as usize);
                        let chunks = w.b.ins().smin(all, most);
                        w.put(chunks, work, work::CHUNKS as usize);
                        let ctx = w.field(types::I64, env, offset_of!(abi::Env, ctx));
                        let body = w.b.ins().func_addr(types::I64, trampoline);
                        w.b.ins().call_indirect(parallel, run_parallel, &[ctx, body, work, chunks]);
                    },
                    |w| {
                        alone(w.b);
                    },
                );
                if can_fail {
                    failure::stop(w.b, args, arena, i, &conditions, |b| {
                        alone(b);
                    });
                }
            };
            if sized {
                // Of some sizes nothing is to be done: of one unit no blocks of 8.
                let times = w.word(entry, call::RUNS);
                let times = resolve(w, times, values);
                let (tasks, runs) = (w.is(IntCC::NotEqual, tasks, 0), w.is(IntCC::NotEqual, times, 0));
                let some = w.b.ins().band(tasks, runs);
                w.when(some, |w| work_of(w, Some(times)));
            } else {
                work_of(w, None);
            }
            report(w, 1);
            if let Some(found) = &found {
                found.behind(w, i, memories);
            }
        };
        match tables.steps {
            (_, 0) => w.for_n(n_calls, run_call),
            (at, words) => {
                let table = w.address(module, tables.tables, at);
                let bounds = w.address(module, tables.tables, tables.branches);
                let branch = branch.map(|id| module.declare_func_in_func(id, w.b.func));
                let section = branch.map(|_| w.slot(section::SIZE));
                // Branches run at the same time where there are threads for them and nobody wants to know of each kernel.
                let fork = branch.zip(section).map(|(branch, section)| {
                    move |b: &mut FunctionBuilder<'_>, [count, at]: [Value; 2]| {
                        let mut w = Writer { b, params: vec![] };
                        let at = w.entry(bounds, at, 8);
                        let (least, most) = (w.word(at, 0), w.word(at, 8));
                        let (parallel_is, unwatched) =
                            (w.is(IntCC::NotEqual, run_parallel, 0), w.is(IntCC::Equal, on_profile, 0));
                        let enough = w.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, threads, least);
                        let few = w.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, threads, most);
                        let can = [unwatched, enough, few]
                            .into_iter()
                            .fold(parallel_is, |a, b| w.b.ins().band(a, b));
                        w.when(can, |w| {
                            w.put(memories, section, section::MEMORIES as usize);
                            if let Some(values) = values {
                                w.put(values, section, section::VALUES as usize);
                            }
                            let first = w.add(at, 16);
                            w.put(first, section, section::BOUNDS as usize);
                            let ctx = w.field(types::I64, env, offset_of!(abi::Env, ctx));
                            let body = w.b.ins().func_addr(types::I64, branch);
                            w.b.ins().call_indirect(parallel, run_parallel, &[ctx, body, section, count]);
                        });
                        can
                    }
                });
                let call = |b: &mut FunctionBuilder<'_>, i| run_call(&mut Writer { b, params: vec![] }, i);
                flow::walk(w.b, table, words, memories, call, fork);
            }
        }
        if let Some(values) = values {
            lengths::tell(&mut w, program, outputs, values);
        }
        w.ret(0);
        w.finish();
        Ok(())
    })?;
    float.around(out, "run", out.linkage, signature, body)
}

/// The symbols' values, read off the inputs, and how many there are.
fn symbols(w: &mut Writer<'_, '_>, program: &Program, inputs: Value) -> (Value, Value) {
    let (to, n) = (w.slot(8 * program.symbols.len()), w.int(program.symbols.len() as i64));
    for (i, symbol) in program.symbols.iter().enumerate() {
        if i == 0 {
            let null = w.is(IntCC::Equal, inputs, 0);
            w.fail_if(null, Code::Null, 0);
        }
        let tensor = w.add(inputs, (symbol.input * size_of::<abi::Tensor>()) as i64);
        let rank = w.field(types::I32, tensor, offset_of!(abi::Tensor, rank));
        let other = w.is(IntCC::NotEqual, rank, program.inputs[symbol.input].dims.len() as i64);
        w.fail_if(other, Code::Rank, symbol.input);
        let dims = w.field(types::I64, tensor, offset_of!(abi::Tensor, dims));
        let null = w.is(IntCC::Equal, dims, 0);
        w.fail_if(null, Code::Null, symbol.input);
        let dim = w.word(dims, 8 * symbol.axis as i32);
        let negative = w.is(IntCC::SignedLessThan, dim, 0);
        w.stop_if(negative, |w| w.ret(Code::Dim.value(symbol.input as u32, symbol.axis as u32)));
        w.put(dim, to, 8 * i);
    }
    (to, n)
}

fn profile_signature<M: Module>(out: &Output<'_, M>) -> Signature {
    let mut signature = out.foreign(out.signature(1, false));
    // Extended, as some callees (64-bit ARM's on macOS) take for granted.
    signature.params.extend([AbiParam::new(types::I32).uext(); 2]);
    signature
}
