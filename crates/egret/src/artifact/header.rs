//! `<m>.h`: the C ABI, the model's symbols, and a typed call.

use super::dims::{Code, Language, dims, dims_by};
use super::manifest::hex;
use super::names::{argument, c_type, comment, dim_name, elements, is_free};
use egret_loop::{Denormals, Program};
use std::fmt::Write as _;

/// The C ABI, the same in every header.
const ABI: &str = include_str!("../templates/egret_abi.h");

/// The header of a model (C99, also C++).
///
/// The include guard is the model's own: of two models that are called alike the second is refused by the C compiler and not
/// left out.
pub fn header(program: &Program, embedded: bool, denormals: Denormals, model_hash: &[u8; 32]) -> String {
    let m = &program.name;
    let body = body(program, embedded, denormals);
    let mut hasher = blake3::Hasher::new();
    hasher.update(model_hash).update(body.as_bytes());
    let unique = hex(&hasher.finalize().as_bytes()[..8]);
    let guard = format!("EGRET_MODEL_{m}_{unique}_H");
    format!(
        "/* {m}: a model compiled by Egret. */\n#ifndef {guard}\n#define {guard}\n\n{ABI}\n{body}\n#endif\n"
    )
}

/// What is between the guards, behind the part that every header has.
fn body(program: &Program, embedded: bool, denormals: Denormals) -> String {
    let m = &program.name;
    let upper = m.to_uppercase();
    let mut out = String::new();
    out.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    for (what, ports) in [("input", &program.inputs), ("output", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            let bound = if p.bound.is_some() {
                " (must have the value it was bound to at compile time)"
            } else {
                ""
            };
            let _ = writeln!(
                out,
                "/* {what} {i}: {} {}[{}]{bound} */",
                comment(&p.name),
                c_type(p.onnx_dtype),
                comment(&dims(program, p))
            );
        }
    }
    let weights = if embedded {
        "data = NULL, len = 0: the weights are embedded"
    } else {
        "data: the whole .weights file, 64-byte aligned; its length and the model it belongs to are checked, not each byte: the manifest has its BLAKE3, and `egret run` holds the file against it"
    };
    let subnormal = match denormals {
        Denormals::Flush => "subnormal floats are flushed to zero",
        Denormals::Keep => "subnormal floats are kept",
    };
    let mut elements = String::new();
    for (what, ports) in [("IN", &program.inputs), ("OUT", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            if let Some(n) = super::names::elements(p) {
                let _ = writeln!(elements, "#define {upper}_{what}{i}_ELEMENTS {n}");
            }
        }
    }
    let (free, needed) = if program.symbols.is_empty() {
        ("none: ndims is 0".to_owned(), format!("{upper}_ARENA_BYTES bytes"))
    } else {
        let names: Vec<String> = program.symbols.iter().map(|s| comment(&s.name)).collect();
        (format!("in this order: {}", names.join(", ")), format!("as many bytes as {m}_plan says"))
    };
    let arena = match program.symbols.is_empty() {
        true => format!("#define {upper}_ARENA_BYTES {}\n", program.arena_bytes),
        false => format!("#define {upper}_N_DIMS {}\n", program.symbols.len()),
    };
    let _ = write!(
        out,
        "\n#define {upper}_N_INPUTS {}\n#define {upper}_N_OUTPUTS {}\n{arena}{elements}\n\
         extern const egret_info {m}_info;\n\
         /* Arena bytes for values of the free dims, {free}. */\n\
         int32_t {m}_plan(const int64_t *dims, size_t ndims, egret_plan *out);\n\
         /* The dims of an output, for such values. */\n\
         int32_t {m}_shape(const int64_t *dims, size_t ndims, uint64_t output, int64_t *to);\n\
         /* Checks the CPU and the weights. {weights}. */\n\
         int32_t {m}_bind(egret_weights *w, const void *data, size_t len);\n\
         /* Runs the model; {subnormal}. arena: {needed}, 64-byte aligned, one for each run at a time. env may be NULL. */\n\
         int32_t {m}_run(const egret_weights *w, const egret_tensor *in, egret_tensor *out, void *arena, size_t arena_len, const egret_env *env);\n\n",
        program.inputs.len(),
        program.outputs.len(),
    );
    typed_call(&mut out, program, &upper);
    out.push_str("#ifdef __cplusplus\n}\n#endif\n");
    out
}

fn typed_call(out: &mut String, program: &Program, upper: &str) {
    let m = &program.name;
    let mut parameters = vec!["const egret_weights *w".to_owned()];
    let mut body = String::new();
    for (what, constant, ports) in [("in", "const ", &program.inputs), ("out", "", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            parameters.push(format!("{constant}{} *{}", c_type(p.onnx_dtype), argument(what, i, p)));
            if p.found.is_some() {
                parameters.push(format!("int64_t *{}_dims", argument(what, i, p)));
            }
        }
        // C has no empty arrays.
        let _ = writeln!(body, "    egret_tensor {what}[{}];", ports.len().max(1));
    }
    let symbol = |i: usize| dim_name(program, i);
    for (what, ports) in [("in", &program.inputs), ("out", &program.outputs)] {
        for (i, p) in ports.iter().enumerate().filter(|(_, p)| is_free(p) && p.found.is_none()) {
            let _ = writeln!(body, "    int64_t dims_of_{what}{i}[{}];", p.dims.len());
        }
    }
    // Unsigned numbers wrap where a caller's would overflow; the run then refuses them.
    let unsigned = |i: usize| format!("(uint64_t){}", symbol(i));
    let code = Code::new(program, Language::C, &unsigned);
    let free = program.inputs.iter().chain(&program.outputs).filter(|p| is_free(p));
    for (name, value) in code.locals(free) {
        let _ = writeln!(body, "    const uint64_t {name} = {value};");
    }
    for (what, table, ports) in [("in", "inputs", &program.inputs), ("out", "outputs", &program.outputs)] {
        for (i, p) in ports.iter().enumerate() {
            let name = argument(what, i, p);
            let data = if what == "in" { format!("(void *)(uintptr_t){name}") } else { name.clone() };
            let mut shape = format!("{m}_info.{table}[{i}].dims");
            if is_free(p) {
                shape = match p.found {
                    Some(_) => format!("{name}_dims"),
                    None => format!("dims_of_{what}{i}"),
                };
                for (axis, dim) in code.dims(p).iter().enumerate() {
                    let _ = writeln!(body, "    {shape}[{axis}] = (int64_t){dim};");
                }
            }
            let _ = writeln!(
                body,
                "    {what}[{i}].data = {data};\n    {what}[{i}].dims = {shape};\n    {what}[{i}].rank = {}u;\n    {what}[{i}].dtype = {}u;",
                p.dims.len(),
                p.onnx_dtype
            );
        }
    }
    parameters.extend((0..program.symbols.len()).map(|i| format!("int64_t {}", symbol(i))));
    parameters.push("void *arena".into());
    let arena_len = if program.symbols.is_empty() {
        format!("{upper}_ARENA_BYTES")
    } else {
        parameters.push("size_t arena_len".into());
        "arena_len".to_owned()
    };
    parameters.push("const egret_env *env".into());
    let count = |p| elements(p).map_or_else(|| dims_by(program, p, &symbol).join(" * "), |n| n.to_string());
    let decided = program.outputs.iter().any(|p| p.found.is_some());
    let told = if decided { " The arguments called _dims are filled: what data has decided." } else { "" };
    let sizes: Vec<String> = program.inputs.iter().chain(&program.outputs).map(count).collect();
    let _ = write!(
        out,
        "/* {m}_run with typed arguments; elements, in order: {}.{told} */\nstatic inline int32_t {m}_call({}) {{\n{body}    return {m}_run(w, in, out, arena, {arena_len}, env);\n}}\n\n",
        sizes.join(", "),
        parameters.join(", ")
    );
}
