//! Tokens of rule files.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `add`, `fast-gelu`, `f32`
    Word(String),
    /// `?x`
    Var(String),
    /// `@f`
    OpVar(String),
    /// `3`
    Int(i64),
    /// `0.5`, `-0.0`, `inf`
    Float(f64),
    /// `"none"`
    Text(String),
    /// `(`, `=>`, `..`, ...
    Sign(&'static str),
}

const SIGNS: [&str; 18] =
    ["=>", "==", "!=", "<=", "..", "<", "(", ")", "[", "]", "{", "}", ",", "=", ":", "_", "~", "|"];

/// A line up to its comment: `#` outside a string.
pub(super) fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (i, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..i],
            _ => {}
        }
    }
    line
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The tokens of a rule, each with its end in the text.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, String> {
    let mut out = vec![];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, len) = token(rest, first)?;
        at += len;
        out.push((token, at));
    }
    Ok(out)
}

fn token(rest: &str, first: char) -> Result<(Token, usize), String> {
    let word_len = |from: usize| from + rest[from..].find(|c| !is_word(c)).unwrap_or(rest.len() - from);
    if first == '?' || first == '@' {
        let end = word_len(1);
        let name = rest[1..end].to_owned();
        if name.is_empty() {
            return Err(format!("a name is expected after `{first}`"));
        }
        return Ok((if first == '?' { Token::Var(name) } else { Token::OpVar(name) }, end));
    }
    if first == '"' {
        let end = rest[1..].find('"').ok_or("a string does not end")?;
        return Ok((Token::Text(rest[1..=end].to_owned()), end + 2));
    }
    let digits = rest.strip_prefix('-').unwrap_or(rest);
    if digits.starts_with(|c: char| c.is_ascii_digit())
        || digits.starts_with("inf") && !digits[3..].starts_with(is_word)
    {
        return number(rest);
    }
    // `_` alone is a sign; in front of letters it is part of a word.
    if first.is_ascii_alphabetic() || (first == '_' && rest[1..].starts_with(is_word)) {
        let end = word_len(0);
        return Ok((Token::Word(rest[..end].to_owned()), end));
    }
    match SIGNS.iter().find(|s| rest.starts_with(**s)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(format!("`{first}` is not part of any rule")),
    }
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let mut end = usize::from(bytes[0] == b'-');
    if rest[end..].starts_with("inf") {
        let value = if end == 1 { f64::NEG_INFINITY } else { f64::INFINITY };
        return Ok((Token::Float(value), end + 3));
    }
    let mut float = false;
    while end < bytes.len() {
        match bytes[end] {
            b'0'..=b'9' => {}
            b'.' if !float && bytes.get(end + 1) != Some(&b'.') => float = true,
            b'e' | b'E' => {
                float = true;
                if bytes.get(end + 1) == Some(&b'-') {
                    end += 1;
                }
            }
            _ => break,
        }
        end += 1;
    }
    let text = &rest[..end];
    let token = match float {
        true => text.parse().map(Token::Float).map_err(|_| ()),
        false => text.parse().map(Token::Int).map_err(|_| ()),
    };
    Ok((token.map_err(|()| format!("`{text}` is no number"))?, end))
}
