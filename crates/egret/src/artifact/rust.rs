//! `<m>.rs`: the model as a Rust module without dependencies.

use super::names::{comment, dims, elements, rust_type, snake_argument};
use egret_loop::Program;
use std::fmt::Write as _;

/// The C ABI in Rust, the same in every module.
const ABI: &str = include_str!("../templates/abi.rs.txt");

/// The Rust module of a model: include it with `mod <m>;` or `include!`, link `lib<m>.a`.
pub fn rust_module(program: &Program, embedded: bool) -> String {
    let m = &program.name;
    let mut out =
        format!("//! `{m}`: a model compiled by Egret. Link the static library `{m}`.\n\n{ABI}\n");
    for (what, ports) in [("Input", &program.inputs), ("Output", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            let _ = writeln!(
                out,
                "// {what} {i}: {} {}[{}]",
                comment(&p.name),
                rust_type(p.onnx_dtype),
                dims(p)
            );
        }
    }
    let _ = write!(
        out,
        "\n/// Bytes of the arena that a run needs.\npub const ARENA_BYTES: usize = {};\n\n\
         unsafe extern \"C\" {{\n    fn {m}_bind(w: *mut RawWeights, data: *const core::ffi::c_void, len: usize) -> i32;\n    \
         fn {m}_run(w: *const RawWeights, input: *const RawTensor, out: *mut RawTensor, arena: *mut core::ffi::c_void, arena_len: usize, env: *const core::ffi::c_void) -> i32;\n}}\n\n",
        program.arena_bytes
    );
    let (parameter, data) = if embedded {
        ("", "core::ptr::null(), 0")
    } else {
        ("weights: &'static Aligned", "weights.bytes().as_ptr().cast(), weights.bytes().len()")
    };
    let _ = write!(
        out,
        "/// The model with its weights bound; threads may share it.\npub struct Model(RawWeights);\n\n\
         // SAFETY: the weights are constant data that nobody writes.\nunsafe impl Send for Model {{}}\n// SAFETY: as above.\nunsafe impl Sync for Model {{}}\n\n\
         impl Model {{\n    /// Check CPU and weights.\n    pub fn bind({parameter}) -> Result<Model, Error> {{\n        let mut w = RawWeights {{ data: core::ptr::null(), len: 0, check: 0 }};\n        \
         // SAFETY: `w` is writable, and the weights are as the C ABI asks.\n        check(unsafe {{ {m}_bind(&mut w, {data}) }})?;\n        Ok(Model(w))\n    }}\n\n"
    );
    let mut parameters = String::new();
    let mut inputs = vec![];
    let mut outputs = vec![];
    for (what, reference, ports) in [("in", "&", &program.inputs), ("out", "&mut ", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            let name = snake_argument(what, i, p);
            let _ =
                write!(parameters, ", {name}: {reference}[{}; {}]", rust_type(p.onnx_dtype), elements(p));
            let pointer = if what == "in" {
                format!("{name}.as_ptr().cast_mut().cast()")
            } else {
                format!("{name}.as_mut_ptr().cast()")
            };
            // Dims live in statics of their own.
            let list = format!(
                "{{\n            static DIMS: [i64; {}] = [{}];\n            RawTensor {{ data: {pointer}, dims: DIMS.as_ptr(), rank: {}, dtype: {} }}\n        }}",
                p.dims.len(),
                dims(p),
                p.dims.len(),
                p.onnx_dtype
            );
            if what == "in" { inputs.push(list) } else { outputs.push(list) }
        }
    }
    let _ = write!(
        out,
        "    /// Run on one thread; every run at a time needs an arena of its own.\n    #[allow(clippy::too_many_arguments)]\n    pub fn run(&self, arena: &mut Arena{parameters}) -> Result<(), Error> {{\n        \
         let input: [RawTensor; {}] = [{}];\n        let mut out: [RawTensor; {}] = [{}];\n        \
         // SAFETY: the array types give every tensor its size; the arena is aligned and as large as the model asks.\n        \
         check(unsafe {{ {m}_run(&self.0, input.as_ptr(), out.as_mut_ptr(), arena.0.as_mut_ptr().cast(), ARENA_BYTES, core::ptr::null()) }}).map_err(|e| arena.explain(e))\n    }}\n}}\n",
        inputs.len(),
        inputs.join(", "),
        outputs.len(),
        outputs.join(", "),
    );
    out
}
