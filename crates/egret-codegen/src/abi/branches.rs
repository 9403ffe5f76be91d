//! Branches of a program, each on whatever thread: their calls in order, all tasks of one before the next.

use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module};

use crate::abi::chunks::{self, work};
use crate::abi::failure;
use crate::abi::float::FloatState;
use crate::abi::sizes::resolve;
use crate::abi::tables::{Tables, arg, call};
use crate::abi::writer::Writer;
use crate::error::Result;
use crate::output::Output;

/// What a branch is given: the addresses that arguments count from, the values of sizes or NULL, and at which calls each branch begins, and the last one
/// ends.
pub(super) mod section {
    pub const MEMORIES: i32 = 0;
    pub const VALUES: i32 = 8;
    pub const BOUNDS: i32 = 16;
    /// Bytes.
    pub const SIZE: usize = 24;
}

/// The addresses of a call's arguments, as far as they are those of its first run.
pub(super) fn arguments(
    w: &mut Writer<'_, '_>,
    entry: Value,
    args: Value,
    memories: Value,
    values: Option<Value>,
) {
    let size = if values.is_some() { arg::SIZED } else { arg::SIZE };
    let (n, list) = (w.word(entry, call::ARGS), w.word(entry, call::ARG_LIST));
    w.for_n(n, |w, j| {
        let item = w.entry(list, j, size);
        let (memory, offset) = (w.word(item, arg::MEMORY), w.word(item, arg::OFFSET));
        let memory = w.entry(memories, memory, 8);
        let base = w.word(memory, 0);
        let mut pointer = w.b.ins().iadd(base, offset);
        if let Some(values) = values {
            let more = w.word(item, arg::MORE);
            let more = w.entry(values, more, 8);
            let more = w.word(more, 0);
            pointer = w.b.ins().iadd(pointer, more);
        }
        let to = w.entry(args, j, 8);
        w.put(pointer, to, 0);
    });
}

/// `fn(section, i)`: the calls of branch `i`, on whatever thread; `runs` does some tasks of one that may repeat. None of them can fail.
pub(super) fn branch<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    float: &FloatState,
    runs: Option<FuncId>,
) -> Result<FuncId> {
    let (signature, kernel) = (out.signature(2, false), out.signature(3, false));
    let can_fail = failure::is_possible(out.program)?;
    let body =
        out.function(&out.symbol("branch_body"), Linkage::Local, signature.clone(), |b, module| {
            let mut w = Writer::new(b);
            let (section, i) = (w.params[0], w.params[1]);
            let memories = w.word(section, section::MEMORIES);
            let values = runs.is_some().then(|| w.word(section, section::VALUES));
            let bounds = w.word(section, section::BOUNDS);
            let bound = w.entry(bounds, i, 8);
            let (begin, end) = (w.word(bound, 0), w.word(bound, 8));
            let work = w.slot(work::ARGS as usize + 8 * tables.max_args);
            let args = w.add(work, i64::from(work::ARGS));
            if can_fail {
                failure::clear(w.b, args);
            }
            let calls = w.address(module, tables.tables, tables.calls);
            let size = if runs.is_some() { call::SIZED } else { call::SIZE };
            let kernel = w.b.import_signature(kernel);
            let runs = runs.map(|id| module.declare_func_in_func(id, w.b.func));
            let count = w.b.ins().isub(end, begin);
            w.for_n(count, |w, k| {
                let number = w.b.ins().iadd(begin, k);
                let entry = w.entry(calls, number, size);
                let tasks = w.word(entry, call::TASKS);
                let tasks = resolve(w, tasks, values);
                let times = runs.map(|runs| {
                    let times = w.word(entry, call::RUNS);
                    (runs, resolve(w, times, values))
                });
                let some = w.is(IntCC::NotEqual, tasks, 0);
                w.when(some, |w| {
                    arguments(w, entry, args, memories, values);
                    chunks::alone(w, kernel, entry, (work, args), tasks, times);
                });
            });
            w.b.ins().return_(&[]);
            w.finish();
            Ok(())
        })?;
    float.around(out, "branch", Linkage::Local, signature, body)
}
