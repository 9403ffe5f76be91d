//! `<m>.hpp`: the model as a class of C++17 on top of `<m>.h`.

use super::manifest::hex;
use super::names::{argument, c_type, comment, dims, elements};
use egret_loop::{Port, Program};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What the headers of all models share.
const SHARED: &str = include_str!("../templates/egret.hpp");

/// Words that name neither a class nor a field: keywords of C++ up to C++20, macros of its library and of systems, and what
/// the class of a model has already.
const TAKEN: &str = "alignas alignof and and_eq asm assert auto bitand bitor bool break case catch char char16_t char32_t \
    char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype \
    default delete do double dynamic_cast else enum EOF errno explicit export extern false float for friend goto if inline int \
    linux long mutable namespace new noexcept not not_eq nullptr NULL operator or or_eq private protected public register \
    reinterpret_cast requires return short signed sizeof static static_assert static_cast stderr stdin stdout struct switch \
    template this thread_local throw true try typedef typeid typename union unix unsigned using virtual void volatile wchar_t \
    while xor xor_eq \
    Arena Error Failure Inputs Outputs Span arena detail egret env error error_ info inputs length outputs run std try_run \
    weights weights_ int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t";

/// The C++ header of a model.
pub fn header(program: &Program, embedded: bool, model_hash: &[u8; 32]) -> String {
    let m = &program.name;
    let body = class(program, embedded);
    let mut hasher = blake3::Hasher::new();
    hasher.update(model_hash).update(body.as_bytes());
    // As in the C header: a second model of the same name is refused, not left out.
    let guard = format!("EGRET_MODEL_{m}_{}_HPP", hex(&hasher.finalize().as_bytes()[..8]));
    format!(
        "// {m}: a model compiled by Egret, for C++17.\n#ifndef {guard}\n#define {guard}\n\n#include \"{m}.h\"\n\n{SHARED}\n{body}\n#endif\n"
    )
}

/// Whether C++ has no other use for a name.
fn free(name: &str) -> bool {
    !TAKEN.split_whitespace().any(|w| w == name)
}

/// Names of fields: the model's own where they are free and apart, else with kind and number before them.
fn fields(kind: &str, ports: &[Port]) -> Vec<String> {
    let mut used = BTreeSet::new();
    let mut out = vec![];
    for (i, port) in ports.iter().enumerate() {
        let mut name = crate::options::identifier(&port.name);
        let family = |name: &str| [name.to_owned(), format!("{name}_elements"), format!("{name}_dims")];
        if !free(&name) || family(&name).iter().any(|n| used.contains(n)) {
            name = argument(kind, i, port);
        }
        while family(&name).iter().any(|n| used.contains(n)) {
            name.push('_');
        }
        used.extend(family(&name));
        out.push(name);
    }
    out
}

/// `struct Inputs` or `struct Outputs`.
fn ports(out: &mut String, program: &Program, what: &str, constant: &str, names: &[String]) {
    let ports = if what == "Inputs" { &program.inputs } else { &program.outputs };
    let _ = writeln!(out, "    struct {what} {{");
    for (port, name) in ports.iter().zip(names) {
        // Models with free dims are refused before.
        let (ty, n) = (c_type(port.onnx_dtype), elements(port).unwrap_or_default());
        let (rank, dims) = (port.dims.len(), dims(program, port));
        let bound =
            if port.bound.is_some() { "; must have the value it was bound to at compile time" } else { "" };
        // A comment that ends with a backslash would go on in the next line.
        let said = comment(&port.name).replace('\\', "/");
        let _ = write!(
            out,
            "        /// {said}: {ty}[{dims}]{bound}\n        Span<{constant}{ty}, {n}> {name}{{}};\n        \
             static constexpr std::size_t {name}_elements = {n};\n        \
             static constexpr std::array<std::int64_t, {rank}> {name}_dims{{{dims}}};\n",
        );
    }
    out.push_str("    };\n");
}

/// The class of a model.
fn class(program: &Program, embedded: bool) -> String {
    let m = &program.name;
    let class = if free(m) { m.clone() } else { format!("{m}_") };
    let (inputs, outputs) = (fields("in", &program.inputs), fields("out", &program.outputs));
    let mut out = format!(
        "namespace egret::models {{\n\n/// The model `{m}` with its weights bound; threads may share it, each with an arena of its own.\nclass {class} {{\npublic:\n"
    );
    ports(&mut out, program, "Inputs", "const ", &inputs);
    ports(&mut out, program, "Outputs", "", &outputs);
    bind(&mut out, program, &class, embedded);
    try_run(&mut out, m, &inputs, &outputs);
    out.push_str(
        "#ifndef EGRET_NO_EXCEPTIONS\n    /// As try_run, and throws a Failure.\n    \
         void run(Arena &arena, const Inputs &inputs, const Outputs &outputs, const egret_env *env = nullptr) const {\n        \
         const Error error = try_run(arena, inputs, outputs, env);\n        if (error) throw Failure(info(), error);\n    }\n\
         #endif\n\nprivate:\n    egret_weights weights_{};\n    Error error_;\n};\n\n} // namespace egret::models\n",
    );
    out
}

/// Constructors, and what can be asked of the bound model.
fn bind(out: &mut String, program: &Program, class: &str, embedded: bool) {
    let m = &program.name;
    let (explicit, parameters, comma, arguments, data) = if embedded {
        ("", "", "", "", "nullptr, 0")
    } else {
        ("explicit ", "const void *weights, std::size_t length", ", ", "weights, length", "weights, length")
    };
    let about = if embedded {
        ""
    } else {
        "    /// `weights`: the whole .weights file in memory, 64-byte aligned, for as long as the model is used.\n"
    };
    let _ = write!(
        out,
        "    using Arena = ::egret::Arena<{}>;\n\n\
         #ifndef EGRET_NO_EXCEPTIONS\n    /// Checks the CPU and the weights, and throws a Failure.\n{about}    \
         {explicit}{class}({parameters}) : {class}(std::nothrow{comma}{arguments}) {{\n        \
         if (error_) throw Failure(info(), error_);\n    }}\n\
         #endif\n    /// Checks the CPU and the weights; see error().\n    \
         explicit {class}(std::nothrow_t{comma}{parameters}) noexcept : error_({m}_bind(&weights_, {data})) {{}}\n\n    \
         /// What stood in the way of binding; no run works then.\n    Error error() const noexcept {{ return error_; }}\n    \
         /// Names, shapes, kernels, hashes.\n    static const egret_info &info() noexcept {{ return {m}_info; }}\n\n",
        program.arena_bytes,
    );
}

/// The call, by spans whose sizes are checked.
fn try_run(out: &mut String, m: &str, inputs: &[String], outputs: &[String]) {
    out.push_str(
        "    /// Runs the model. `env` gives it threads or a profiler.\n    \
         Error try_run(Arena &arena, const Inputs &inputs, const Outputs &outputs, const egret_env *env = nullptr) const noexcept {\n        \
         if (error_) return error_;\n        if (!arena) return Error(-EGRET_E_ARENA);\n",
    );
    let all = inputs.iter().map(|n| ("inputs", n)).chain(outputs.iter().map(|n| ("outputs", n)));
    for (i, (table, name)) in all.enumerate() {
        let _ = writeln!(
            out,
            "        if ({table}.{name}.size() != {table}.{name}.extent) return Error(-(EGRET_E_DIM | {i} << 8));"
        );
    }
    for (array, table, names) in [("in", "inputs", inputs), ("out", "outputs", outputs)] {
        let tensors: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(i, name)| format!("detail::tensor({table}.{name}, {m}_info.{table}[{i}])"))
            .collect();
        // C++ has no empty arrays.
        let (unused, list) = match names.is_empty() {
            true => (format!("        (void){table};\n"), "egret_tensor{}".to_owned()),
            false => (String::new(), tensors.join(", ")),
        };
        let _ = writeln!(out, "{unused}        egret_tensor {array}[] = {{{list}}};");
    }
    let _ = writeln!(
        out,
        "        return Error({m}_run(&weights_, in, out, arena.data(), Arena::size(), env));\n    }}"
    );
}
