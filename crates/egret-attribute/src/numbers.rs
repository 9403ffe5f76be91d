//! Elements of values: as f64, and by name.

use egret::ir::Value;
use egret::{Error, Result, compare};

/// The elements of a value that is a tensor of numbers.
pub(crate) fn to_f64(value: &Value) -> Result<Vec<f64>> {
    let tensor = value.as_tensor().ok_or_else(|| Error::internal("a list where a tensor was expected"))?;
    compare::to_f64(tensor).map_err(Error::internal)
}

/// `image[0,3]`; of a scalar its name alone.
pub(crate) fn spelt(name: &str, index: &[usize]) -> String {
    if index.is_empty() {
        return name.to_owned();
    }
    let list: Vec<String> = index.iter().map(ToString::to_string).collect();
    format!("{name}[{}]", list.join(","))
}

/// A number in five digits.
pub fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let digits = (4 - a.log10().floor() as i32).clamp(0, 7) as usize;
            format!("{v:.digits$}")
        }
        _ => format!("{v:.4e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret::compare::unravel;

    #[test]
    fn elements_are_named_by_their_index() {
        assert_eq!(spelt("x", &unravel(7, &[2, 3, 2])), "x[1,0,1]");
        assert_eq!(spelt("x", &unravel(0, &[])), "x");
    }
}
