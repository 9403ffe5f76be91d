//! Numbers, texts and lists of them as a user writes them: as in JSON, and `nan`, `inf` and `-inf`, which JSON has no words for.

use serde_json::Value as Json;
use std::fmt;

/// A number, a text, or a list of such.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// In brackets.
    List(Vec<Literal>),
    /// A number, a text, `true` or `false`.
    One(Json),
    /// NaN or an infinity.
    Special(f64),
}

/// How deep lists may stand in each other.
const DEPTH: usize = 128;

impl Literal {
    /// Reads one; `None` where the text begins no list and is neither a number nor a text.
    ///
    /// # Errors
    /// A list that does not end, or with something else in it.
    pub fn read(text: &str) -> Result<Option<Literal>, String> {
        let text = text.trim();
        if !text.starts_with('[') {
            return Ok(leaf(text));
        }
        let mut rest = text;
        let read = list(&mut rest, 0).and_then(|read| {
            if rest.trim().is_empty() { Ok(read) } else { Err("more follows it".to_owned()) }
        });
        read.map(Some).map_err(|e| format!("`{text}` is no list: {e}"))
    }

    /// As a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Literal::One(json) => json.as_f64(),
            Literal::Special(v) => Some(*v),
            Literal::List(_) => None,
        }
    }

    /// As JSON, where that has a word for it.
    pub fn as_json(&self) -> Option<&Json> {
        match self {
            Literal::One(json) => Some(json),
            _ => None,
        }
    }
}

/// What is no list.
fn leaf(text: &str) -> Option<Literal> {
    Some(match text.to_ascii_lowercase().as_str() {
        "nan" => Literal::Special(f64::NAN),
        "inf" | "+inf" => Literal::Special(f64::INFINITY),
        "-inf" => Literal::Special(f64::NEG_INFINITY),
        _ => match serde_json::from_str(text) {
            Ok(json @ (Json::Bool(_) | Json::Number(_) | Json::String(_))) => Literal::One(json),
            _ => return None,
        },
    })
}

/// A list that the text begins with; the text behind it is left.
fn list(rest: &mut &str, depth: usize) -> Result<Literal, String> {
    if depth == DEPTH {
        return Err(format!("more than {DEPTH} lists in each other"));
    }
    let mut items = vec![];
    *rest = rest[1..].trim_start();
    if let Some(behind) = rest.strip_prefix(']') {
        *rest = behind;
        return Ok(Literal::List(items));
    }
    loop {
        *rest = rest.trim_start();
        if rest.starts_with('[') {
            items.push(list(rest, depth + 1)?);
        } else {
            let (word, behind) = rest.split_at(end(rest));
            let word = word.trim_end();
            items.push(leaf(word).ok_or_else(|| match word {
                "" => "a number is missing in it, or its end".to_owned(),
                _ => format!("`{word}` is neither a number that f64 holds, true, false, nan, inf or -inf nor a \"text\""),
            })?);
            *rest = behind;
        }
        *rest = rest.trim_start();
        let next = rest.chars().next();
        *rest = rest.get(1..).unwrap_or_default();
        match next {
            Some(',') => {}
            Some(']') => return Ok(Literal::List(items)),
            None => return Err("it does not end".to_owned()),
            Some(other) => return Err(format!("`{other}` stands where a comma or its end belongs")),
        }
    }
}

/// Where the number, word or text ends that this begins with.
fn end(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |(_, c): &(usize, char)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' | ']' | '[' if !quoted => return true,
            _ => {}
        }
        false
    };
    text.char_indices().find(ends).map_or(text.len(), |(at, _)| at)
}

impl fmt::Display for Literal {
    /// As [`Literal::read`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::One(json) => write!(f, "{json}"),
            Literal::Special(v) if v.is_nan() => f.write_str("nan"),
            Literal::Special(v) => write!(f, "{v}"),
            Literal::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in
            ["3", "-1.5", "true", "nan", "-inf", "[]", "[[]]", "[[nan,inf],[-inf,1]]", r#"["a,\"]b","é"]"#]
        {
            let read = Literal::read(text).expect("a list").expect("a literal");
            assert_eq!(read.to_string(), text);
        }
        let any_case = Literal::read(" [ NaN , +Inf,\t-INF ] ").expect("a list").expect("a literal");
        assert_eq!(any_case.to_string(), "[nan,inf,-inf]");
        assert_eq!(Literal::read("x.npy"), Ok(None));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, part) in [
            ("[1, 2", "does not end"),
            ("[1, 2]]", "more follows"),
            ("[1,,2]", "missing"),
            ("[1,]", "missing"),
            ("[", "missing"),
            ("[a]", "`a` is neither"),
            ("[-nan]", "`-nan` is neither"),
            ("[1e400]", "`1e400` is neither a number that f64 holds"),
            ("[{}]", "`{}` is neither"),
            ("[1[2]]", "`[` stands where a comma"),
            ("[\"a]", "`\"a]` is neither"),
        ] {
            let e = Literal::read(text).expect_err(text);
            assert!(e.contains(part), "{text}: {e}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(Literal::read(&deep).expect_err("too deep").contains("128 lists in each other"));
    }
}
