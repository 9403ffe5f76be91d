//! Names of C and Rust for what ONNX calls by any string.

use egret_loop::{Port, Program};

/// The C type of an element, `None` for those that C99 has no type for (they are passed as their bits).
pub fn c_type(onnx_dtype: i32) -> &'static str {
    match onnx_dtype {
        1 => "float",
        11 => "double",
        3 => "int8_t",
        5 => "int16_t",
        6 => "int32_t",
        7 => "int64_t",
        4 | 10 | 16 => "uint16_t",
        12 => "uint32_t",
        13 => "uint64_t",
        _ => "uint8_t",
    }
}

/// The Rust type of an element.
pub fn rust_type(onnx_dtype: i32) -> &'static str {
    match c_type(onnx_dtype) {
        "float" => "f32",
        "double" => "f64",
        "int8_t" => "i8",
        "int16_t" => "i16",
        "int32_t" => "i32",
        "int64_t" => "i64",
        "uint16_t" => "u16",
        "uint32_t" => "u32",
        "uint64_t" => "u64",
        _ => "u8",
    }
}

/// Argument names: `in0_image`, `out0_logits`; the number keeps them apart and off keywords.
pub fn argument(kind: &str, i: usize, port: &Port) -> String {
    format!("{kind}{i}_{}", crate::options::identifier(&port.name))
}

/// The same name as Rust likes it: no capitals, no two underscores in a row.
pub fn snake_argument(kind: &str, i: usize, port: &Port) -> String {
    let mut out = format!("{kind}{i}_");
    let mut before = '_';
    for c in crate::options::identifier(&port.name).chars() {
        let joint = c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if joint || (c == '_' && !out.ends_with('_')) {
            out.push('_');
        }
        if c != '_' {
            out.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    out.trim_end_matches('_').to_owned()
}

/// Number of elements, where no dim is free and data decides none.
pub fn elements(port: &Port) -> Option<i64> {
    Some(port.const_dims()?.iter().product())
}

/// Whether a port has free dims, or some that data decides.
pub fn is_free(port: &Port) -> bool {
    port.const_dims().is_none()
}

/// The name of a free dim: `dim0_batch`.
pub fn dim_name(program: &Program, i: usize) -> String {
    let name = crate::options::identifier(&program.symbols[i].name).to_lowercase();
    format!("dim{i}_{}", name.trim_matches('_'))
}

/// Text that can stand in a comment of C or Rust: it neither ends it nor begins another, of which compilers warn.
pub fn comment(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.replace("*/", "* /").replace("/*", "/ *")
}
