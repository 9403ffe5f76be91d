//! Strings, and counts of their n-grams.

use super::convert::{from_floats, ints};
use super::support::*;
use crate::families::Text;
use crate::{Attrs, DType, Tensor, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Text, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let x = || strings(operands, 0);
    match op {
        Text::Tfidf => Ok(vec![tfidf(tensor(operands, 0)?, attrs)?]),
        Text::StringConcat => {
            let (x, b) = (x()?, strings(operands, 1)?);
            let shape = broadcast_shape(&[x.shape(), b.shape()])?;
            count(&shape, 8)?;
            let (i, j) = (broadcast_indices(x.shape(), &shape), broadcast_indices(b.shape(), &shape));
            let joined =
                i.iter().zip(&j).map(|(&i, &j)| format!("{}{}", x.strings()[i], b.strings()[j])).collect();
            Ok(vec![Tensor::from_strings(&shape, joined)])
        }
        Text::StringNormalize => Ok(vec![normalize(x()?, attrs)?]),
        Text::StringSplit => split(x()?, attrs),
        Text::RegexFullMatch => {
            let x = x()?;
            let pattern = attrs.str("pattern");
            // The engine has the syntax and the leftmost, linear-time matching of RE2.
            let regex = regex::Regex::new(&format!(r"\A(?:{pattern})\z"))
                .map_err(|e| error(format!("the pattern {pattern:?}: {e}")))?;
            Ok(vec![Tensor::from_bools(
                x.shape(),
                &x.strings().iter().map(|s| regex.is_match(s)).collect::<Vec<_>>(),
            )])
        }
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

/// A token: an integer or a string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Int(i64),
    Text(String),
}

/// What `tfidf` counts.
struct Vocabulary {
    grams: Grams,
    prefixes: BTreeSet<Vec<Token>>,
    /// Tokens of the shortest and of the longest n-gram.
    least: usize,
    most: usize,
    /// Counts of a row of the result.
    width: usize,
}

fn length(attrs: &Attrs, name: &str) -> Res<usize> {
    usize::try_from(attrs.int(name)).map_err(|_| error(format!("`{name}` is negative")))
}

fn vocabulary(attrs: &Attrs) -> Res<Vocabulary> {
    let (least, most) = (length(attrs, "min_gram")?, length(attrs, "max_gram")?);
    let indexes = attrs.ints("indexes");
    let width = usize::try_from(indexes.iter().copied().max().unwrap_or(-1).saturating_add(1)).unwrap_or(0);
    if indexes.iter().any(|&i| i < 0) || least == 0 || most < least {
        return fail(format!("n-grams of {least} to {most} with indexes {indexes:?}"));
    }
    let pool: Vec<Token> = if attrs.strings("pool_strings").is_empty() {
        attrs.ints("pool_ints").iter().map(|&v| Token::Int(v)).collect()
    } else {
        attrs.strings("pool_strings").iter().cloned().map(Token::Text).collect()
    };
    let (grams, prefixes) = grams(&pool, attrs.ints("counts"), least, most)?;
    Ok(Vocabulary { grams, prefixes, least, most, width })
}

/// The n-grams of whole numbers that a `tfidf` counts, each with the place of its count in a row of the result, and the counts of a
/// row. Those of strings, which no whole numbers match, are left out.
///
/// # Errors
/// Attributes that do not fit one another.
pub fn tfidf_grams(attrs: &Attrs) -> Res<(BTreeMap<Vec<i64>, usize>, usize)> {
    let Vocabulary { grams, width, .. } = vocabulary(attrs)?;
    let mut found = BTreeMap::new();
    for (gram, id) in grams {
        let token = |t: &Token| match t {
            Token::Int(v) => Some(*v),
            Token::Text(_) => None,
        };
        let Some(gram) = gram.iter().map(token).collect() else { continue };
        found.insert(gram, column(attrs, id)?);
    }
    Ok((found, width))
}

/// Where an n-gram is counted.
fn column(attrs: &Attrs, id: usize) -> Res<usize> {
    let at = attrs.ints("indexes").get(id).ok_or_else(|| error(format!("n-gram {id} has no index")))?;
    Ok(*at as usize)
}

fn tfidf(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let skip = length(attrs, "max_skip")?;
    let Vocabulary { grams, prefixes, least, most, width } = vocabulary(attrs)?;
    let tokens: Vec<Token> = match x.dtype() {
        DType::String => x.strings().iter().cloned().map(Token::Text).collect(),
        _ => ints(x)?.into_iter().map(Token::Int).collect(),
    };
    let (rows, columns, shape) = match *x.shape() {
        [] => (1, 1, vec![width]),
        [c] => (1, c, vec![width]),
        [b, c] => (b, c, vec![b, width]),
        _ => return fail(format!("{}: one or two axes are needed", x.ty())),
    };
    let mut found = vec![0f64; count(&shape, 8)?];
    for row in 0..rows {
        let line = &tokens[row * columns..(row + 1) * columns];
        // A skip beyond the row meets nothing more.
        for step in 1..=skip.min(columns) + 1 {
            // Single tokens do not depend on the skip: they count once.
            let from = if step > 1 { least.max(2) } else { least };
            for start in 0..columns {
                let mut gram = vec![];
                for token in line[start..].iter().step_by(step).take(most) {
                    gram.push(token.clone());
                    if gram.len() >= from
                        && let Some(&id) = grams.get(&gram)
                    {
                        found[row * width + column(attrs, id)?] += 1.0;
                    }
                    if !prefixes.contains(&gram) {
                        break;
                    }
                }
            }
        }
    }
    let weights = attrs.floats("weights");
    let weight = |i: usize| weights.get(i % width).copied().unwrap_or(1.0);
    for (i, f) in found.iter_mut().enumerate() {
        *f = match attrs.str("mode") {
            "TF" => *f,
            "IDF" => {
                if *f > 0.0 {
                    weight(i)
                } else {
                    0.0
                }
            }
            "TFIDF" => *f * weight(i),
            other => return fail(format!("weighting `{other}`")),
        };
    }
    Ok(from_floats(DType::F32, &shape, &found))
}

type Grams = BTreeMap<Vec<Token>, usize>;

/// The n-grams of the wanted lengths with their numbers, and everything that an n-gram begins with.
fn grams(pool: &[Token], counts: &[i64], least: usize, most: usize) -> Res<(Grams, BTreeSet<Vec<Token>>)> {
    let (mut all, mut prefixes) = (Grams::new(), BTreeSet::new());
    let mut id = 0;
    for (i, &start) in counts.iter().enumerate() {
        let size = i + 1;
        let end = counts.get(i + 1).map_or(pool.len() as i64, |&e| e);
        let part = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(s, e)| pool.get(s..e.max(s)));
        let part =
            part.ok_or_else(|| error(format!("n-gram counts {counts:?} of a pool of {}", pool.len())))?;
        for gram in part.chunks_exact(size) {
            if (least..=most).contains(&size) {
                all.insert(gram.to_vec(), id);
                prefixes.extend((1..size).map(|n| gram[..n].to_vec()));
            }
            id += 1;
        }
    }
    Ok((all, prefixes))
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
        let s = eval(Text::StringSplit, &a, &[of(&[" a b  c", "", "d"])]).unwrap();
        assert_eq!(
            (s[0].shape(), s[0].strings()),
            (&[3, 2][..], &["a", "b  c", "", "", "d", ""].map(String::from)[..])
        );
        assert_eq!(s[1].data::<i64>(), [2, 0, 1]);
        let a = attrs! { delimiter: ",", maxsplit: -1, whitespace: 0 };
        assert_eq!(eval(Text::StringSplit, &a, &[of(&["a,,b"])]).unwrap()[0].strings(), ["a", "", "b"]);
        let a = attrs! { case: "upper", case_sensitive: 0, stopwords: vec!["The".to_string()] };
        assert_eq!(eval(Text::StringNormalize, &a, &[of(&["the", "end"])]).unwrap()[0].strings(), ["END"]);
        assert_eq!(eval(Text::StringNormalize, &a, &[of(&["the"])]).unwrap()[0].strings(), [""]);
        assert_eq!(
            eval(Text::StringConcat, &attrs! {}, &[of(&["a", "b"]), of(&["c"])]).unwrap()[0].strings(),
            ["ac", "bc"]
        );
    }

    #[test]
    fn patterns() {
        let m =
            eval(Text::RegexFullMatch, &attrs! { pattern: "a|ab" }, &[of(&["a", "ab", "abc"])]).unwrap();
        assert_eq!(m[0].bytes(), [1, 1, 0]);
        assert!(eval(Text::RegexFullMatch, &attrs! { pattern: "(" }, &[of(&[])]).is_err());
    }

    #[test]
    fn counts_grams() {
        let a = |least: i64, most: i64, skip: i64| {
            attrs! {
                mode: "TF", min_gram: least, max_gram: most, max_skip: skip, counts: vec![0, 4], indexes: vec![0, 1, 2, 3, 4, 5, 6],
                pool_ints: vec![2, 3, 5, 4, 5, 6, 7, 8, 6, 7], pool_strings: Vec::<String>::new(), weights: Vec::<f64>::new(),
            }
        };
        let x: Value = Tensor::new(&[12], vec![1i32, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]).into();
        let t = |least, most, skip| {
            eval(Text::Tfidf, &a(least, most, skip), &[Some(x.clone())]).unwrap()[0].data::<f32>().to_vec()
        };
        assert_eq!(t(2, 2, 0), [0., 0., 0., 0., 1., 1., 1.]);
        assert_eq!(t(2, 2, 5), [0., 0., 0., 0., 1., 3., 1.]);
        assert_eq!(t(1, 2, 5), [0., 3., 1., 0., 1., 3., 1.]);
    }
}
