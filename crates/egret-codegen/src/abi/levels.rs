//! The functions of an artifact that holds several levels of an instruction set, which go on in those of its levels.
//!
//! What is planned is enough for any level, so that `plan` asks no CPU: it is called before a model is bound too, and often. It calls the `plan` of
//! each level, on whatever CPU: all code but that of kernels is for the lowest level. Which level runs is chosen once, by `bind`, and is in the bound weights; `run` takes these to the level that they name.

use cranelift::prelude::*;
use cranelift_module::{DataId, FuncId, Linkage, Module};
use egret_runtime::abi::{self, Code};
use std::mem::{offset_of, size_of};

use crate::abi::tables::Tables;
use crate::abi::writer::Writer;
use crate::error::Result;
use crate::output::Output;

/// A function of each level.
fn functions<M: Module>(
    out: &mut Output<'_, M>,
    prefixes: &[String],
    name: &str,
    signature: &Signature,
) -> Result<Vec<FuncId>> {
    let mut ids = vec![];
    for prefix in prefixes {
        ids.push(out.module.declare_function(&format!("{prefix}_{name}"), Linkage::Import, signature)?);
    }
    Ok(ids)
}

/// `<m>_plan`: the most that any level needs.
pub(crate) fn plan<M: Module>(
    out: &mut Output<'_, M>,
    tables: &Tables,
    prefixes: &[String],
) -> Result<FuncId> {
    let (n_in, n_out) = (out.program.inputs.len(), out.program.outputs.len());
    let signature = out.foreign(out.signature(3, true));
    let levels = functions(out, prefixes, "plan", &signature)?;
    out.function(&out.symbol("plan"), out.linkage, signature, |b, module| {
        let mut w = Writer::new(b);
        let (dims, ndims, to) = (w.params[0], w.params[1], w.params[2]);
        let needed = w.slot(size_of::<abi::Plan>());
        let mut most = w.int(0);
        for level in levels {
            let level = module.declare_func_in_func(level, w.b.func);
            let call = w.b.ins().call(level, &[dims, ndims, needed]);
            let code = w.b.inst_results(call)[0];
            w.stop_if(code, |w| {
                w.b.ins().return_(&[code]);
            });
            let bytes = w.word(needed, offset_of!(abi::Plan, arena_bytes) as i32);
            most = w.b.ins().umax(most, bytes);
        }
        let null = w.is(IntCC::Equal, to, 0);
        w.fail_if(null, Code::Null, 0);
        planned(&mut w, module, tables, most, (n_in, n_out), to);
        w.ret(0);
        w.finish();
        Ok(())
    })
}

/// Fill in what is planned.
pub(crate) fn planned<M: Module>(
    w: &mut Writer<'_, '_>,
    module: &mut M,
    tables: &Tables,
    bytes: Value,
    (n_in, n_out): (usize, usize),
    to: Value,
) {
    w.put(bytes, to, offset_of!(abi::Plan, arena_bytes));
    let outputs = w.address(module, tables.tables, (n_in * size_of::<abi::Port>()) as i64);
    w.put(outputs, to, offset_of!(abi::Plan, outputs));
    let n = w.b.ins().iconst(types::I32, n_out as i64);
    w.put(n, to, offset_of!(abi::Plan, n_outputs));
    let zero = w.b.ins().iconst(types::I32, 0);
    w.put(zero, to, offset_of!(abi::Plan, reserved));
}

/// `<m>_run`: that of the level which the weights name.
pub(crate) fn run<M: Module>(
    out: &mut Output<'_, M>,
    prefixes: &[String],
    infos: &[DataId],
) -> Result<FuncId> {
    let signature = out.foreign(out.signature(6, true));
    let levels = functions(out, prefixes, "run", &signature)?;
    out.function(&out.symbol("run"), out.linkage, signature, |b, module| {
        let mut w = Writer::new(b);
        let weights = w.params[0];
        let null = w.is(IntCC::Equal, weights, 0);
        w.fail_if(null, Code::Unbound, 0);
        let bound = w.field(types::I64, weights, offset_of!(abi::Weights, info));
        for (level, info) in levels.into_iter().zip(infos) {
            let info = w.address(module, *info, 0);
            let is_it = w.b.ins().icmp(IntCC::Equal, bound, info);
            let level = module.declare_func_in_func(level, w.b.func);
            w.stop_if(is_it, |w| {
                let call = w.b.ins().call(level, &w.params);
                let code = w.b.inst_results(call)[0];
                w.b.ins().return_(&[code]);
            });
        }
        w.ret(Code::Unbound.value(0, 0));
        w.finish();
        Ok(())
    })
}
