//! Operations on strings.

use super::support::*;
use crate::{Attrs, DType, Op, Tensor, Value};

/// Evaluate an operation on strings.
pub(super) fn eval(op: Op, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let x = strings(operands, 0)?;
    match op {
        Op::StringConcat => {
            let b = strings(operands, 1)?;
            let shape = broadcast_shape(&[x.shape(), b.shape()])?;
            count(&shape, 8)?;
            let (i, j) = (broadcast_indices(x.shape(), &shape), broadcast_indices(b.shape(), &shape));
            let joined =
                i.iter().zip(&j).map(|(&i, &j)| format!("{}{}", x.strings()[i], b.strings()[j])).collect();
            Ok(vec![Tensor::from_strings(&shape, joined)])
        }
        Op::StringNormalize => Ok(vec![normalize(x, attrs)?]),
        Op::StringSplit => split(x, attrs),
        Op::RegexFullMatch => {
            let pattern = attrs.str("pattern");
            // The engine has the syntax and the leftmost, linear-time matching of RE2.
            let regex = regex::Regex::new(&format!(r"\A(?:{pattern})\z"))
                .map_err(|e| error(format!("the pattern {pattern:?}: {e}")))?;
            Ok(vec![Tensor::from_bools(
                x.shape(),
                &x.strings().iter().map(|s| regex.is_match(s)).collect::<Vec<_>>(),
            )])
        }
        _ => fail(format!("{op} is no operation on strings")),
    }
}

fn strings(operands: &[Option<Value>], i: usize) -> Res<&Tensor> {
    let t = tensor(operands, i)?;
    if t.dtype() == DType::String { Ok(t) } else { fail(format!("operand {i} is {}, no strings", t.ty())) }
}

fn normalize(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let lead = match x.shape() {
        [_] => vec![],
        [1, _] => vec![1],
        _ => return fail(format!("{}: one axis is needed, or a first axis of 1", x.ty())),
    };
    let sensitive = attrs.flag("case_sensitive");
    let folded = |s: &str| if sensitive { s.to_owned() } else { s.to_lowercase() };
    let stops: Vec<String> = attrs.strings("stopwords").iter().map(|s| folded(s)).collect();
    let change: fn(&str) -> String = match attrs.str("case").to_ascii_lowercase().as_str() {
        "lower" => str::to_lowercase,
        "upper" => str::to_uppercase,
        "none" => str::to_owned,
        other => return fail(format!("case change `{other}`")),
    };
    let mut out: Vec<String> =
        x.strings().iter().filter(|s| !stops.contains(&folded(s))).map(|s| change(s)).collect();
    if out.is_empty() {
        out.push(String::new());
    }
    let mut shape = lead;
    shape.push(out.len());
    Ok(Tensor::from_strings(&shape, out))
}

fn split(x: &Tensor, attrs: &Attrs) -> Res<Vec<Tensor>> {
    let delimiter = attrs.str("delimiter");
    // At most so many splits; a negative number is no bound.
    let most = usize::try_from(attrs.int("maxsplit")).unwrap_or(usize::MAX);
    let whitespace = attrs.flag("whitespace") || delimiter.is_empty();
    let parts: Vec<Vec<&str>> = x
        .strings()
        .iter()
        .map(|s| {
            if whitespace {
                split_whitespace(s, most)
            } else {
                s.splitn(most.saturating_add(1), delimiter).collect()
            }
        })
        .collect();
    let width = parts.iter().map(Vec::len).max().unwrap_or(0);
    let mut shape = x.shape().to_vec();
    let counts = Tensor::new(&shape, parts.iter().map(|p| p.len() as i64).collect());
    shape.push(width);
    count(&shape, 8)?;
    let padded = parts
        .iter()
        .flat_map(|p| p.iter().copied().chain(std::iter::repeat("")).take(width))
        .map(str::to_owned)
        .collect();
    Ok(vec![Tensor::from_strings(&shape, padded), counts])
}

/// Words between runs of whitespace; after `most` splits the rest stays whole.
fn split_whitespace(s: &str, most: usize) -> Vec<&str> {
    let (mut out, mut rest) = (vec![], s.trim());
    while !rest.is_empty() {
        match rest.find(char::is_whitespace).filter(|_| out.len() < most) {
            Some(end) => {
                out.push(&rest[..end]);
                rest = rest[end..].trim_start();
            }
            None => {
                out.push(rest);
                rest = "";
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs;

    fn of(v: &[&str]) -> Option<Value> {
        Some(Tensor::from_strings(&[v.len()], v.iter().map(|s| s.to_string()).collect()).into())
    }

    #[test]
    fn words() {
        let a = attrs! { delimiter: "", maxsplit: 1, whitespace: 1 };
        let s = eval(Op::StringSplit, &a, &[of(&[" a b  c", "", "d"])]).unwrap();
        assert_eq!(
            (s[0].shape(), s[0].strings()),
            (&[3, 2][..], &["a", "b  c", "", "", "d", ""].map(String::from)[..])
        );
        assert_eq!(s[1].data::<i64>(), [2, 0, 1]);
        let a = attrs! { delimiter: ",", maxsplit: -1, whitespace: 0 };
        assert_eq!(eval(Op::StringSplit, &a, &[of(&["a,,b"])]).unwrap()[0].strings(), ["a", "", "b"]);
        let a = attrs! { case: "upper", case_sensitive: 0, stopwords: vec!["The".to_string()] };
        assert_eq!(eval(Op::StringNormalize, &a, &[of(&["the", "end"])]).unwrap()[0].strings(), ["END"]);
        assert_eq!(eval(Op::StringNormalize, &a, &[of(&["the"])]).unwrap()[0].strings(), [""]);
        assert_eq!(
            eval(Op::StringConcat, &attrs! {}, &[of(&["a", "b"]), of(&["c"])]).unwrap()[0].strings(),
            ["ac", "bc"]
        );
    }

    #[test]
    fn patterns() {
        let m = eval(Op::RegexFullMatch, &attrs! { pattern: "a|ab" }, &[of(&["a", "ab", "abc"])]).unwrap();
        assert_eq!(m[0].bytes(), [1, 1, 0]);
        assert!(eval(Op::RegexFullMatch, &attrs! { pattern: "(" }, &[of(&[])]).is_err());
    }
}
