//! `<m>.rs`: the model as a Rust module without dependencies.

use super::dims::{Code, Language, dims};
use super::names::{comment, dim_name, elements, is_free, rust_type, snake_argument};
use egret_loop::Program;
use egret_loop::conditions::Conditions;
use egret_runtime::abi::Info;
use std::fmt::Write as _;
use std::mem::offset_of;

/// The C ABI in Rust, the same in every module.
const ABI: &str = include_str!("../templates/abi.rs.txt");

/// What models with free dims have beside.
const FREE: &str = include_str!("../templates/free_dims.rs.txt");

/// What models have beside whose slices have no constant length.
const HOLDS: &str = include_str!("../templates/holds.rs.txt");

/// The Rust module of a model: include it with `mod <m>;` or `include!`, link `lib<m>.a`.
pub fn rust_module(program: &Program, embedded: bool) -> String {
    let m = &program.name;
    let abi = ABI.replace("INFO_ISA", &offset_of!(Info, isa).to_string());
    let mut out = format!(
        "//! `{m}`: a model compiled by Egret. Link the static library `{m}`. Where this file lies elsewhere than the crate's sources:\n\
                 //! `#[path = \"DIR/{m}.rs\"] mod {m};`. The crate is of edition 2021 or newer.\n\n{abi}\n"
    );
    for (what, ports) in [("Input", &program.inputs), ("Output", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            let _ = writeln!(
                out,
                "// {what} {i}: {} {}[{}]",
                comment(&p.name),
                rust_type(p.onnx_dtype),
                comment(&dims(program, p))
            );
        }
    }
    let _ =
        writeln!(out, "\n/// What the free dims have to be, by number.\nconst CONDITIONS: &[&str] = &[");
    for condition in Conditions::of(program).texts {
        let _ = writeln!(out, "    {condition:?},");
    }
    out.push_str("];\n");
    let free = !program.symbols.is_empty();
    let plan = if free {
        format!("    fn {m}_plan(dims: *const i64, ndims: usize, out: *mut RawPlan) -> i32;\n")
    } else {
        String::new()
    };
    let least = if free { " at least: it grows with the free dims" } else { "" };
    let _ = write!(
        out,
        "\n/// Bytes of the arena that a run needs{least}.\n#[allow(clippy::unreadable_literal)]\npub const ARENA_BYTES: usize = {};\n\n\
         unsafe extern \"C\" {{\n{plan}    fn {m}_bind(w: *mut RawWeights, data: *const core::ffi::c_void, len: usize) -> i32;\n    \
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
         impl Model {{\n    /// Check CPU and weights.\n    ///\n    /// # Errors\n    /// The CPU lacks an instruction set; the weights are those of another model.\n    pub fn bind({parameter}) -> Result<Model, Error> {{\n        let mut w = RawWeights {{ data: core::ptr::null(), len: 0, check: 0, info: core::ptr::null() }};\n        \
         // SAFETY: `w` is writable, and the weights are as the C ABI asks.\n        check(unsafe {{ {m}_bind(&raw mut w, {data}) }})?;\n        Ok(Model(w))\n    }}\n\n    \
         /// The instruction set that runs: of several levels the highest that this CPU has.\n    \
         #[allow(dead_code)]\n    #[must_use]\n    \
         pub fn isa(&self) -> &'static str {{\n        \
         // SAFETY: binding named it: constant data of the model, text that ends with a zero.\n        \
         unsafe {{ core::ffi::CStr::from_ptr((*self.0.info).isa) }}.to_str().unwrap_or_default()\n    }}\n\n"
    );
    let mut parameters = String::new();
    let mut shapes = String::new();
    let symbol = |s: usize| format!("values[{s}]");
    let code = Code::new(program, Language::Rust, &symbol);
    for (name, value) in code.locals(program.inputs.iter().chain(&program.outputs).filter(|p| is_free(p))) {
        let _ = writeln!(shapes, "        let {name}: i64 = {value};");
    }
    let mut inputs = vec![];
    let mut outputs = vec![];
    for (what, reference, ports) in [("in", "&", &program.inputs), ("out", "&mut ", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            let name = snake_argument(what, i, p);
            let count = elements(p).map_or_else(String::new, |n| format!("; {n}"));
            let _ = write!(parameters, ", {name}: {reference}[{}{count}]", rust_type(p.onnx_dtype));
            if p.found.is_some() {
                let _ = write!(parameters, ", {name}_dims: &mut [i64; {}]", p.dims.len());
            }
            let pointer = if what == "in" {
                format!("{name}.as_ptr().cast_mut().cast()")
            } else {
                format!("{name}.as_mut_ptr().cast()")
            };
            if elements(p).is_none() {
                let index = if what == "in" { i } else { program.inputs.len() + i };
                let shape = code.dims(p).join(", ");
                let _ = write!(
                    shapes,
                    "        let dims_of_{what}{i}: [i64; {}] = [{shape}];\n        holds(&dims_of_{what}{i}, {name}.len(), {index})?;\n",
                    p.dims.len()
                );
                let mut dims = format!("dims_of_{what}{i}.as_ptr()");
                if p.found.is_some() {
                    let _ = writeln!(shapes, "        *{name}_dims = dims_of_{what}{i};");
                    dims = format!("{name}_dims.as_mut_ptr()");
                }
                let list = format!(
                    "RawTensor {{ data: {pointer}, dims: {dims}, rank: {}, dtype: {} }}",
                    p.dims.len(),
                    p.onnx_dtype
                );
                if what == "in" {
                    inputs.push(list)
                } else {
                    outputs.push(list)
                }
                continue;
            }
            // Dims live in statics of their own.
            let list = format!(
                "{{\n            static DIMS: [i64; {}] = [{}];\n            RawTensor {{ data: {pointer}, dims: DIMS.as_ptr(), rank: {}, dtype: {} }}\n        }}",
                p.dims.len(),
                dims(program, p),
                p.dims.len(),
                p.onnx_dtype
            );
            if what == "in" { inputs.push(list) } else { outputs.push(list) }
        }
    }
    let decided = program.outputs.iter().any(|p| p.found.is_some());
    let told = match decided {
        true => {
            " The arguments called `_dims` are filled with what data has decided: the elements of such an output are the first of its slice."
        }
        false => "",
    };
    let (taken, needed) = if free {
        shapes.insert_str(0, &format!("        let values = dims.values();\n        // SAFETY: as many values as the model has free dims.\n        let bytes = arena.fit(&values, |values, plan| unsafe {{ {m}_plan(values.as_ptr(), values.len(), plan) }})?;\n"));
        (", dims: Dims", "bytes")
    } else {
        ("", "ARENA_BYTES")
    };
    let _ = write!(
        out,
        "    /// Run on one thread; every run at a time needs an arena of its own.{told}\n    ///\n    /// # Errors\n    /// Sizes that do not fit; what data asks for outside its range.\n    \
         #[allow(clippy::too_many_arguments, clippy::too_many_lines, clippy::similar_names, clippy::unreadable_literal)]\n    pub fn run(&self, arena: &mut Arena{taken}{parameters}) -> Result<(), Error> {{\n{shapes}        \
         let input: [RawTensor; {}] = [{}];\n        let mut out: [RawTensor; {}] = [{}];\n        \
         // SAFETY: the array types give every tensor its size; the arena is aligned and as large as the model asks.\n        \
         check(unsafe {{ {m}_run(&raw const self.0, input.as_ptr(), out.as_mut_ptr(), arena.0.as_mut_ptr().cast(), {needed}, core::ptr::null()) }}).map_err(|e| arena.explain(e))\n    }}\n}}\n",
        inputs.len(),
        inputs.join(", "),
        outputs.len(),
        outputs.join(", "),
    );
    if free {
        out.push_str(&free_dims(program));
    }
    if program.inputs.iter().chain(&program.outputs).any(|p| elements(p).is_none()) {
        out.push_str(HOLDS);
    }
    out
}

/// The free dims of a model as a struct, and what an arena does with them.
fn free_dims(program: &Program) -> String {
    let mut fields = String::new();
    let mut values = vec![];
    for (i, symbol) in program.symbols.iter().enumerate() {
        let name = dim_name(program, i);
        let _ = writeln!(fields, "    /// `{}`\n    pub {name}: usize,", comment(&symbol.name));
        values.push(format!("i64::try_from(self.{name}).unwrap_or(-1)"));
    }
    FREE.replace("FIELDS", fields.trim_end())
        .replace("COUNT", &values.len().to_string())
        .replace("VALUES", &values.join(", "))
}
