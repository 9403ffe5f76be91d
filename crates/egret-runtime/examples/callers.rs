//! Run a compiled model from several threads at once that share one pool, and hold each run to the bits of one thread:
//!
//! ```sh
//! egret compile net.onnx --emit so --out-dir out
//! cargo run -p egret-runtime --example callers -- out/libnet.so net 3 1000
//! ```
//!
//! The numbers are callers and runs of each. Inputs are of f32, and their dims fixed.

use egret_runtime::{AlignedBytes, BorrowedEnv, CallError, Input, Model, Pool, Port, load};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Room for a tensor.
fn room(port: &Port) -> Result<AlignedBytes, Failed> {
    let bytes = port.bytes().ok_or("a dim is free: compile it with --dim")?;
    AlignedBytes::zeroed(bytes).ok_or_else(|| "not enough memory".into())
}

/// Numbers from -1 to 1.
fn input(port: &Port) -> Result<AlignedBytes, Failed> {
    if port.dtype != 1 {
        return Err(format!("the input {} is not of f32", port.name).into());
    }
    let mut bytes = room(port)?;
    for (i, word) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *word = ((i * 37 % 101) as f32 / 50.0 - 1.0).to_ne_bytes();
    }
    Ok(bytes)
}

/// The outputs of a run on new memory.
fn run(model: &Model, inputs: &[AlignedBytes], env: BorrowedEnv<'_>) -> Result<Vec<AlignedBytes>, Failed> {
    let given: Vec<Input<'_>> = inputs
        .iter()
        .zip(model.inputs())
        .map(|(bytes, port)| Input { bytes, dtype: port.dtype, dims: &port.dims })
        .collect();
    let mut outputs = model.outputs().iter().map(room).collect::<Result<Vec<_>, _>>()?;
    model.run(&given, &mut outputs, &mut model.new_arena()?, env).map_err(|e: CallError| e.to_string())?;
    Ok(outputs)
}

fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [library, name, callers, runs] = &args[..] else {
        return Err("usage: callers LIBRARY NAME CALLERS RUNS".into());
    };
    let (callers, runs): (usize, usize) = (callers.parse()?, runs.parse()?);
    // SAFETY: the library is one that Egret wrote, as the usage says.
    let model = unsafe { load(library.as_ref(), name, None) }.map_err(|e| e.to_string())?;
    let inputs = model.inputs().iter().map(input).collect::<Result<Vec<_>, _>>()?;
    let expected = run(&model, &inputs, BorrowedEnv::default())?;
    let pool = Pool::new(usize::MAX);
    let call = || -> Result<(), Failed> {
        for k in 0..runs {
            let outputs = run(&model, &inputs, pool.env())?;
            if outputs.iter().zip(&expected).any(|(a, b)| a[..] != b[..]) {
                return Err(format!("run {k} differs from that on one thread").into());
            }
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..callers).map(|_| s.spawn(call)).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| "a caller panicked")?)
    })?;
    println!(
        "{callers} callers, {runs} runs each, {} threads in the pool: the bits of one thread",
        pool.threads()
    );
    Ok(())
}
