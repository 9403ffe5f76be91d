//! `<m>.hpp`: the model as a class of C++17 on top of `<m>.h`.

use super::dims::{Code, Language, dims};
use super::manifest::hex;
use super::names::{argument, c_type, comment, dim_name, elements, is_free};
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
    Arena Dims Error Failure Inputs Outputs Span arena bound detail dims egret env error error_ info inputs length outputs run std try_run \
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

/// Text that can stand in a comment up to the end of a line, which one that ends with a backslash would go on behind.
fn line(text: &str) -> String {
    comment(&text.replace('\\', "/"))
}

/// `struct Inputs` or `struct Outputs`.
fn ports(out: &mut String, program: &Program, what: &str, constant: &str, names: &[String]) {
    let ports = if what == "Inputs" { &program.inputs } else { &program.outputs };
    let _ = writeln!(out, "    struct {what} {{");
    for (port, name) in ports.iter().zip(names) {
        let (ty, rank, dims) = (c_type(port.onnx_dtype), port.dims.len(), dims(program, port));
        let bound =
            if port.bound.is_some() { "; must have the value it was bound to at compile time" } else { "" };
        let said = line(&port.name);
        let Some(n) = elements(port) else {
            let dims = line(&dims);
            let _ = write!(
                out,
                "        /// {said}: {ty}[{dims}]\n        Span<{constant}{ty}, any_size> {name}{{}};\n"
            );
            if port.found.is_some() {
                let _ = write!(
                    out,
                    "        /// {rank} numbers that a run fills: the dims that data has decided; the elements are the first of {name}.\n        \
                     std::int64_t *{name}_dims = nullptr;\n"
                );
            }
            continue;
        };
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
    try_run(&mut out, program, &inputs, &outputs);
    let (taken, passed) =
        if program.symbols.is_empty() { ("", "") } else { ("const Dims &dims, ", "dims, ") };
    let _ = write!(
        out,
        "#ifndef EGRET_NO_EXCEPTIONS\n    /// As try_run, and throws a Failure.\n    \
         void run(Arena &arena, {taken}const Inputs &inputs, const Outputs &outputs, const egret_env *env = nullptr) const {{\n        \
         const Error error = try_run(arena, {passed}inputs, outputs, env);\n        if (error) throw Failure(bound(), error);\n    }}\n\
         #endif\n\nprivate:\n    egret_weights weights_{{}};\n    Error error_;\n}};\n\n}} // namespace egret::models\n",
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
    let arena = match program.symbols.is_empty() {
        true => format!("    using Arena = ::egret::Arena<{}>;\n\n", program.arena_bytes),
        false => free_dims(program),
    };
    let _ = write!(
        out,
        "{arena}\
         #ifndef EGRET_NO_EXCEPTIONS\n    /// Checks the CPU and the weights, and throws a Failure.\n{about}    \
         {explicit}{class}({parameters}) : {class}(std::nothrow{comma}{arguments}) {{\n        \
         if (error_) throw Failure(info(), error_);\n    }}\n\
         #endif\n    /// Checks the CPU and the weights; see error().\n    \
         explicit {class}(std::nothrow_t{comma}{parameters}) noexcept : error_({m}_bind(&weights_, {data})) {{}}\n\n    \
         /// What stood in the way of binding; no run works then.\n    Error error() const noexcept {{ return error_; }}\n    \
         /// Names, shapes, kernels, hashes.\n    static const egret_info &info() noexcept {{ return {m}_info; }}\n    \
         /// What runs; of a model with several levels of an instruction set the highest that the CPU has.\n    \
         const egret_info &bound() const noexcept {{ return weights_.info == nullptr ? info() : *weights_.info; }}\n\n",
    );
}

/// What a model with free dims has beside.
fn free_dims(program: &Program) -> String {
    let mut out =
        "    using Arena = ::egret::GrowingArena;\n\n    /// Values of the free dims.\n    struct Dims {\n"
            .to_owned();
    for (i, symbol) in program.symbols.iter().enumerate() {
        let said = line(&symbol.name);
        let _ = writeln!(out, "        /// {said}\n        std::int64_t {} = 0;", dim_name(program, i));
    }
    out.push_str("    };\n\n");
    out
}

/// The call, by spans whose sizes are checked.
fn try_run(out: &mut String, program: &Program, inputs: &[String], outputs: &[String]) {
    let (m, free) = (&program.name, !program.symbols.is_empty());
    let taken = if free { "const Dims &dims, " } else { "" };
    let _ = write!(
        out,
        "    /// Runs the model. `env` gives it threads or a profiler.\n    \
         Error try_run(Arena &arena, {taken}const Inputs &inputs, const Outputs &outputs, const egret_env *env = nullptr) const noexcept {{\n        \
         if (error_) return error_;\n",
    );
    let arena_len = if free { "arena.size()" } else { "Arena::size()" };
    if free {
        let values: Vec<String> =
            (0..program.symbols.len()).map(|i| format!("dims.{}", dim_name(program, i))).collect();
        let _ = write!(
            out,
            "        const std::int64_t values_of[] = {{{}}};\n        egret_plan needed{{}};\n        \
             if (const std::int32_t e = {m}_plan(values_of, {}, &needed)) return Error(e);\n        \
             if (!arena.reserve(needed.arena_bytes)) return Error(-EGRET_E_ARENA);\n",
            values.join(", "),
            values.len(),
        );
    } else {
        out.push_str("        if (!arena) return Error(-EGRET_E_ARENA);\n");
    }
    let ports = program.inputs.iter().chain(&program.outputs);
    let symbol = |s: usize| format!("values_of[{s}]");
    let code = Code::new(program, Language::C, &symbol);
    for (name, value) in code.locals(ports.clone().filter(|p| is_free(p))) {
        let _ = writeln!(out, "        const std::int64_t {name} = {value};");
    }
    let all = inputs.iter().map(|n| ("inputs", n)).chain(outputs.iter().map(|n| ("outputs", n)));
    for (i, ((table, name), port)) in all.zip(ports).enumerate() {
        if is_free(port) {
            let spelt = code.dims(port).join(", ");
            let _ = write!(
                out,
                "        const std::int64_t dims_of{i}[] = {{{spelt}}};\n        \
                 if (!detail::holds({table}.{name}, dims_of{i})) return Error(-(EGRET_E_DIM | {i} << 8));\n"
            );
            if port.found.is_some() {
                let _ = write!(
                    out,
                    "        if ({table}.{name}_dims == nullptr) return Error(-(EGRET_E_NULL | {i} << 8));\n        \
                     for (std::size_t axis = 0; axis < {}; axis++) {table}.{name}_dims[axis] = dims_of{i}[axis];\n",
                    port.dims.len()
                );
            }
            continue;
        }
        let _ = writeln!(
            out,
            "        if ({table}.{name}.size() != {table}.{name}.extent) return Error(-(EGRET_E_DIM | {i} << 8));"
        );
    }
    let kinds = [("in", "inputs", inputs, &program.inputs), ("out", "outputs", outputs, &program.outputs)];
    for (array, table, names, ports) in kinds {
        let before = if array == "in" { 0 } else { inputs.len() };
        let tensor = |(i, (name, port)): (usize, (&String, &Port))| {
            let dims = match (is_free(port), &port.found) {
                (_, Some(_)) => format!("{table}.{name}_dims"),
                (true, None) => format!("dims_of{}", before + i),
                (false, None) => format!("{m}_info.{table}[{i}].dims"),
            };
            format!("detail::tensor({table}.{name}, {m}_info.{table}[{i}], {dims})")
        };
        let tensors: Vec<String> = names.iter().zip(ports).enumerate().map(tensor).collect();
        // C++ has no empty arrays.
        let (unused, list) = match names.is_empty() {
            true => (format!("        (void){table};\n"), "egret_tensor{}".to_owned()),
            false => (String::new(), tensors.join(", ")),
        };
        let _ = writeln!(out, "{unused}        egret_tensor {array}[] = {{{list}}};");
    }
    let _ = writeln!(
        out,
        "        return Error({m}_run(&weights_, in, out, arena.data(), {arena_len}, env));\n    }}"
    );
}
