//! Whether a program keeps the rules of Loop IR: what every engine relies on and none looks at again.
//!
//! A value is defined once, before it is used, and has the type that its instruction makes; a local is set on every way to where it is
//! read; loads and stores are of the parameter's element type and of what the kernel may read or write; what a tile names is there. Calls
//! give each kernel buffers as it wants them. Indices are numbers of the data and held to nothing here: the interpreter looks at each.
//!
//! What breaks a rule is a bug of whoever wrote the kernel; the message names the kernel and the statement.

mod branches;
mod inst;
mod kernel;

use crate::ir::*;
use crate::{flow, sized};

pub use kernel::kernel;

/// Holds a program to the rules of Loop IR.
///
/// # Errors
/// The first rule that is broken.
pub fn program(program: &Program) -> Result<(), BrokenRule> {
    sized::check(program)?;
    flow::steps(program)?;
    for (i, k) in program.kernels.iter().enumerate() {
        kernel(k).map_err(|e| BrokenRule(format!("k{i}, {}: {e}", k.name)))?;
    }
    for (i, b) in program.buffers.iter().enumerate() {
        buffer(program, b).map_err(|e| BrokenRule(format!("b{i}: {e}")))?;
    }
    for (i, c) in program.calls.iter().enumerate() {
        call(program, c).map_err(|e| BrokenRule(format!("call {i}: {e}")))?;
    }
    branches::check(program)?;
    Ok(())
}

fn broken<T>(message: impl Into<String>) -> Result<T, BrokenRule> {
    Err(BrokenRule(message.into()))
}

fn buffer(program: &Program, b: &Buffer) -> Result<(), BrokenRule> {
    let bytes = b.len.checked_mul(b.elem.size());
    let Some(bytes) = bytes else { return broken(format!("{} elements", b.len)) };
    // Where it has units, how many is known when a run begins.
    let least = if b.times.is_some() { 0 } else { bytes };
    let within = |what: &str, at: usize, all: usize| match at.is_multiple_of(64)
        && at.checked_add(least).is_some_and(|end| end <= all)
    {
        true => Ok(()),
        false => broken(format!("{least} bytes at {at} of the {all} bytes of the {what}")),
    };
    match b.storage {
        Storage::Input(i) if i >= program.inputs.len() => broken(format!("input {i}, which there is not")),
        Storage::Output(i) if i >= program.outputs.len() => {
            broken(format!("output {i}, which there is not"))
        }
        Storage::Arena(at) if program.arena_size.is_none() => within("arena", at, program.arena_bytes),
        Storage::Weights(at) => within("weights", at, program.weights.len()),
        Storage::Sizes if b.elem != Elem::I64 => broken(format!("sizes as {}", b.elem)),
        _ => Ok(()),
    }
}

fn call(program: &Program, call: &Call) -> Result<(), BrokenRule> {
    let Some(kernel) = program.kernels.get(call.kernel.0 as usize) else {
        return broken(format!("{}, which there is not", call.kernel));
    };
    if call.args.len() != kernel.params.len() {
        return broken(format!("{} arguments for {} parameters", call.args.len(), kernel.params.len()));
    }
    for (i, (arg, param)) in call.args.iter().zip(&kernel.params).enumerate() {
        let Some(buffer) = program.buffers.get(arg.buffer.0 as usize) else {
            return broken(format!("p{i} is {}, which there is not", arg.buffer));
        };
        // Bits may be read as another element type of that size.
        if buffer.elem.size() != param.elem.size() {
            return broken(format!("p{i}, of {}, is {}, of {}", param.elem, arg.buffer, buffer.elem));
        }
        let constant = matches!(buffer.storage, Storage::Input(_) | Storage::Weights(_) | Storage::Sizes);
        if constant && param.access != Access::Read {
            return broken(format!("p{i} writes {}, which is not to be written", arg.buffer));
        }
        let fits = match (buffer.times, param.len) {
            (Some(_), _) => true,
            (None, ParamInfo::OPEN) => arg.offset <= buffer.len,
            (None, len) => arg.offset.checked_add(len).is_some_and(|end| end <= buffer.len),
        };
        if !fits {
            return broken(format!(
                "p{i} is {} elements from {} on of {}, which has {}",
                param.len, arg.offset, arg.buffer, buffer.len
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
