//! A kernel's tasks in chunks, each on whatever thread; and the runs of a call that repeats.

use cranelift::codegen::ir::{FuncRef, SigRef};
use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module};

use crate::abi::failure;
use crate::abi::float::FloatState;
use crate::abi::tables::{Tables, arg, call};
use crate::abi::writer::Writer;
use crate::error::Result;
use crate::output::Output;
use crate::record;

/// What chunks are given: the kernel, its tasks in all, the number of chunks, and the kernel's arguments behind their
/// [`failure`] record. Where calls may repeat, also the tasks of one run, and the arguments in the table.
pub(super) mod work {
    pub const KERNEL: i32 = 0;
    pub const TASKS: i32 = 8;
    pub const CHUNKS: i32 = 16;
    pub const RUN_TASKS: i32 = 24;
    pub const N_ARGS: i32 = 32;
    pub const ARG_LIST: i32 = 40;
    pub const ARGS: i32 = 48 + crate::record::BYTES;
}

/// `fn(work, begin, end)`: some tasks of a call that may repeat, counted through all of its runs. It stops at a task that fails.
pub(super) fn runs<M: Module>(out: &mut Output<'_, M>, tables: &Tables, can_fail: bool) -> Result<FuncId> {
    let signature = out.signature(3, false);
    out.function(&out.symbol("runs"), Linkage::Local, signature.clone(), |b, _| {
        let mut w = Writer::new(b);
        let (work, begin, end) = (w.params[0], w.params[1], w.params[2]);
        let tasks = w.word(work, work::RUN_TASKS);
        let (n, list) = (w.word(work, work::N_ARGS), w.word(work, work::ARG_LIST));
        let kernel = w.word(work, work::KERNEL);
        let first = w.add(work, i64::from(work::ARGS));
        let own = w.slot(record::BYTES as usize + 8 * tables.max_args);
        let args = w.add(own, i64::from(record::BYTES));
        if can_fail {
            failure::clear(w.b, args);
        }
        let signature = w.b.import_signature(signature);
        let [top, inside, after] = std::array::from_fn(|_| w.b.create_block());
        let at = w.b.append_block_param(top, types::I64);
        w.b.ins().jump(top, &[begin.into()]);
        w.b.switch_to_block(top);
        let more = w.b.ins().icmp(IntCC::SignedLessThan, at, end);
        w.b.ins().brif(more, inside, &[], after, &[]);

        w.b.switch_to_block(inside);
        // There are no tasks at all where a run has none.
        let run = w.b.ins().udiv(at, tasks);
        let before = w.b.ins().imul(run, tasks);
        let task = w.b.ins().isub(at, before);
        let left = w.b.ins().isub(end, before);
        let until = w.b.ins().smin(left, tasks);
        w.for_n(n, |w, j| {
            let item = w.entry(list, j, arg::SIZED);
            let stride = w.word(item, arg::STRIDE);
            let further = w.b.ins().imul(run, stride);
            let (from, to) = (w.entry(first, j, 8), w.entry(args, j, 8));
            let base = w.word(from, 0);
            let pointer = w.b.ins().iadd(base, further);
            w.put(pointer, to, 0);
        });
        w.b.ins().call_indirect(signature, kernel, &[args, task, until]);
        let next = w.b.ins().iadd(before, until);
        if can_fail {
            let failed = w.word(args, record::FAILED);
            w.stop_if(failed, |w| {
                for offset in record::WORDS {
                    let word = w.word(args, offset);
                    w.b.ins().store(Writer::flags(), word, first, offset);
                }
                w.b.ins().return_(&[]);
            });
        }
        w.b.ins().jump(top, &[next.into()]);
        w.b.switch_to_block(after);
        w.b.ins().return_(&[]);
        w.finish();
        Ok(())
    })
}

/// All tasks of a call on this thread: those of one run, or of `times` by the function that does some of several. `work` has the arguments of the first run.
pub(super) fn alone(
    w: &mut Writer<'_, '_>,
    kernel: SigRef,
    entry: Value,
    (work, args): (Value, Value),
    tasks: Value,
    times: Option<(FuncRef, Value)>,
) {
    let function = w.word(entry, call::KERNEL);
    let zero = w.int(0);
    let Some((runs, times)) = times else {
        w.b.ins().call_indirect(kernel, function, &[args, zero, tasks]);
        return;
    };
    let all = w.b.ins().imul(tasks, times);
    let once = w.is(IntCC::Equal, times, 1);
    w.when_else(
        once,
        |w| {
            w.b.ins().call_indirect(kernel, function, &[args, zero, all]);
        },
        |w| {
            describe(w, entry, work, tasks);
            w.b.ins().call(runs, &[work, zero, all]);
        },
    );
}

/// Writes what a call is to `work`: the kernel, the tasks of one run, and where its arguments are listed.
pub(super) fn describe(w: &mut Writer<'_, '_>, entry: Value, work: Value, tasks: Value) {
    let [function, n, list] = [call::KERNEL, call::ARGS, call::ARG_LIST].map(|at| w.word(entry, at));
    for (value, at) in
        [(function, work::KERNEL), (tasks, work::RUN_TASKS), (n, work::N_ARGS), (list, work::ARG_LIST)]
    {
        w.put(value, work, at as usize);
    }
}

/// `fn(work, i)`: chunk `i` of a call, on whatever thread; `runs` does some tasks of one that may repeat.
pub(super) fn trampoline<M: Module>(
    out: &mut Output<'_, M>,
    float: &FloatState,
    runs: Option<FuncId>,
) -> Result<FuncId> {
    let (signature, kernel) = (out.signature(2, false), out.signature(3, false));
    let body =
        out.function(&out.symbol("chunk_body"), Linkage::Local, signature.clone(), |b, module| {
            let mut w = Writer::new(b);
            let (work, i) = (w.params[0], w.params[1]);
            let (tasks, chunks) = (w.word(work, work::TASKS), w.word(work, work::CHUNKS));
            let next = w.add(i, 1);
            let [begin, end] = [i, next].map(|i| {
                let at = w.b.ins().imul(tasks, i);
                // The number of chunks is never 0; unsigned division has no other trap.
                w.b.ins().udiv(at, chunks)
            });
            match runs {
                Some(runs) => {
                    let runs = module.declare_func_in_func(runs, w.b.func);
                    w.b.ins().call(runs, &[work, begin, end]);
                }
                None => {
                    let function = w.word(work, work::KERNEL);
                    let args = w.add(work, i64::from(work::ARGS));
                    let kernel = w.b.import_signature(kernel);
                    w.b.ins().call_indirect(kernel, function, &[args, begin, end]);
                }
            }
            w.b.ins().return_(&[]);
            w.finish();
            Ok(())
        })?;
    float.around(out, "chunk", Linkage::Local, signature, body)
}
