//! How results are told in lines: values, and threads.

use egret::compare;
use egret::ir::{DType, Tensor, Value};

/// How many threads there are.
pub fn threads_line(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// A value in one line.
pub fn summary(value: &Value) -> String {
    match value {
        Value::Sequence(s) => format!("a sequence of {}", s.len()),
        Value::Optional(None) => "nothing".into(),
        Value::Optional(Some(v)) => summary(v),
        Value::Tensor(t) => format!("{}{}", t.ty(), elements(t)),
    }
}

fn elements(t: &Tensor) -> String {
    const SHOWN: usize = 10;
    let dots = if t.len() > SHOWN { " ..." } else { "" };
    if t.dtype() == DType::String {
        let list: Vec<String> = t.strings().iter().take(SHOWN).map(|s| format!("{s:?}")).collect();
        return format!(" = {}{dots}", list.join(" "));
    }
    let Ok(values) = compare::to_f64(t) else { return String::new() };
    // Integers to the last digit, which a float does not hold.
    let whole = |b: &[u8]| match (t.dtype(), <[u8; 8]>::try_from(b)) {
        (DType::I64, Ok(b)) => Some(i64::from_le_bytes(b).to_string()),
        (DType::U64, Ok(b)) => Some(u64::from_le_bytes(b).to_string()),
        _ => None,
    };
    let bytes = t.bytes().chunks_exact(t.dtype().size().max(1));
    let both = values.iter().zip(bytes).take(SHOWN);
    let list: Vec<String> = both.map(|(v, b)| whole(b).unwrap_or_else(|| short(*v))).collect();
    let mut out = format!(" = {}{dots}", list.join(" "));
    if t.len() > SHOWN && !values.iter().any(|v| v.is_nan()) {
        let (lo, hi) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        out += &format!("; min {} max {} mean {}", short(lo), short(hi), short(mean));
    }
    out
}

fn short(v: f64) -> String {
    if v == v.trunc() && v.abs() < 1e15 { format!("{v}") } else { format!("{v:.6}") }
}
