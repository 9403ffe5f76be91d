//! Names of C and Rust for what ONNX calls by any string.

use egret_loop::{Extent, Port, Program, SizeOp, sizes};

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

/// Dims as people read them: `1, 28, 28`, `batch, 28 * seq`, or `at most 24, 3` where data decides.
pub fn dims(program: &Program, port: &Port) -> String {
    spelt_dims(program, port).join(", ")
}

/// Each dim as people read it.
pub fn spelt_dims(program: &Program, port: &Port) -> Vec<String> {
    let mut spelt = dims_by(program, port, &|i| program.symbols[i].name.clone(), &text_call);
    for (dim, found) in spelt.iter_mut().zip(port.found.iter().flatten()) {
        // What is made of lengths has no expression.
        if sizes::expression(&program.sizes, *found, &|_| String::new(), &text_call).is_none() {
            *dim = format!("at most {dim}");
        }
    }
    spelt
}

/// An operation on sizes as people read it: `min(N, 100)`.
pub fn text_call(op: SizeOp, a: &str, b: &str) -> String {
    format!("{}({a}, {b})", op.name())
}

/// An operation on sizes in C, C++: operands are spelt twice.
pub fn c_call(op: SizeOp, a: &str, b: &str) -> String {
    match op {
        SizeOp::CeilDiv => format!("(({a} + {b} - 1) / {b})"),
        SizeOp::Min => format!("({a} < {b} ? {a} : {b})"),
        SizeOp::Max => format!("({a} > {b} ? {a} : {b})"),
        _ => format!("({a} == 1 ? {b} : {a})"),
    }
}

/// The same in Rust.
pub fn rust_call(op: SizeOp, a: &str, b: &str) -> String {
    match op {
        SizeOp::CeilDiv => format!("(({a} + {b} - 1) / {b})"),
        SizeOp::Min => format!("i64::min({a}, {b})"),
        SizeOp::Max => format!("i64::max({a}, {b})"),
        _ => format!("(if {a} == 1 {{ {b} }} else {{ {a} }})"),
    }
}

/// Each dim as an expression, in which symbols are spelt by `symbol`, and what has no operator by `call`.
pub fn dims_by(
    program: &Program,
    port: &Port,
    symbol: &dyn Fn(usize) -> String,
    call: &dyn Fn(SizeOp, &str, &str) -> String,
) -> Vec<String> {
    // A port's dims are not made of lengths.
    let spelt =
        |d: &Extent| sizes::expression(&program.sizes, *d, symbol, call).unwrap_or_else(|| "?".into());
    port.dims.iter().map(spelt).collect()
}

/// The name of a free dim: `dim0_batch`.
pub fn dim_name(program: &Program, i: usize) -> String {
    let name = crate::options::identifier(&program.symbols[i].name).to_lowercase();
    format!("dim{i}_{}", name.trim_matches('_'))
}

/// Text that can stand in a comment of C or Rust.
pub fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().replace("*/", "* /")
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_loop::{Extent, Size, SizeId};

    #[test]
    fn dims_without_an_operator_are_spelt() {
        let s = SizeId;
        let program = Program {
            sizes: vec![
                Size::Symbol(0),
                Size::Const(100),
                Size::Op(SizeOp::Min, s(0), s(1)),
                Size::Op(SizeOp::Add, s(0), s(1)),
                Size::Op(SizeOp::CeilDiv, s(3), s(1)),
            ],
            ..Program::default()
        };
        let dims = [2, 4].map(|i| Extent::Size(s(i)));
        let port = Port {
            name: "y".into(),
            onnx_dtype: 1,
            dims: dims.to_vec(),
            found: None,
            elem_size: 4,
            bound: None,
        };
        let spelt =
            |call: &dyn Fn(SizeOp, &str, &str) -> String| dims_by(&program, &port, &|_| "n".into(), call);
        assert_eq!(spelt(&text_call), ["min(n, 100)", "ceildiv((n + 100), 100)"]);
        assert_eq!(spelt(&c_call), ["(n < 100 ? n : 100)", "(((n + 100) + 100 - 1) / 100)"]);
        assert_eq!(spelt(&rust_call), ["i64::min(n, 100)", "(((n + 100) + 100 - 1) / 100)"]);
    }
}
