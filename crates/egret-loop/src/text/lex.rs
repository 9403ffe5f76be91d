//! Words, marks and quoted texts.

use super::ParseError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, a number or a keyword.
    Word(String),
    /// A quoted text.
    Quoted(String),
    /// One of `{}()[],;:=+*` or `..`.
    Mark(&'static str),
    /// The end of the text.
    End,
}

impl Token {
    /// As a message spells it.
    pub fn spelt(&self) -> String {
        match self {
            Token::Word(w) => format!("`{w}`"),
            Token::Quoted(q) => format!("{q:?}"),
            Token::Mark(m) => format!("`{m}`"),
            Token::End => "the end".into(),
        }
    }
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub token: Token,
    pub line: usize,
    pub column: usize,
}

const MARKS: [&str; 13] = ["..", "{", "}", "(", ")", "[", "]", ",", ";", ":", "=", "+", "*"];

/// The tokens of a text, [`Token::End`] last. `//` begins a comment.
pub(super) fn lex(text: &str) -> Result<Vec<Placed>, ParseError> {
    let mut out = vec![];
    let mut end = (1, 1);
    for (n, line) in text.lines().enumerate() {
        let mut at = 0;
        let column = |at: usize| line[..at].chars().count() + 1;
        while let Some(c) = line[at..].chars().next() {
            let rest = &line[at..];
            let (token, len) = if c.is_whitespace() {
                at += c.len_utf8();
                continue;
            } else if rest.starts_with("//") {
                break;
            } else if let Some(mark) = MARKS.iter().find(|m| rest.starts_with(**m)) {
                (Token::Mark(mark), mark.len())
            } else if c == '"' {
                quoted(rest).map_err(|message| ParseError { line: n + 1, column: column(at), message })?
            } else {
                let len = word(rest);
                if len == 0 {
                    let message = format!("no word begins with {c:?}");
                    return Err(ParseError { line: n + 1, column: column(at), message });
                }
                (Token::Word(rest[..len].to_owned()), len)
            };
            out.push(Placed { token, line: n + 1, column: column(at) });
            at += len;
        }
        end = (n + 1, column(line.len()));
    }
    out.push(Placed { token: Token::End, line: end.0, column: end.1 });
    Ok(out)
}

/// Bytes of the word at the beginning: `conv_1`, `-1.5e-10`.
fn word(text: &str) -> usize {
    let mut before = ' ';
    let mut chars = text.char_indices().peekable();
    let number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|n| n.1);
        let fits = match c {
            '_' => true,
            '-' => at == 0 || (number && before == 'e'),
            '.' => number && next.is_some_and(|n| n.is_ascii_digit()) && before != '.',
            _ => c.is_alphanumeric(),
        };
        if !fits {
            return at;
        }
        before = c;
    }
    text.len()
}

/// The quoted text at the beginning, with the escapes of Rust, and its bytes.
fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Quoted(value), at + 1)),
            '\\' => value.push(match chars.next().map(|c| c.1) {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('0') => '\0',
                Some(c @ ('"' | '\'' | '\\')) => c,
                Some('u') => {
                    let code: String = chars.by_ref().map(|c| c.1).take_while(|c| *c != '}').collect();
                    let code = code.strip_prefix('{').and_then(|c| u32::from_str_radix(c, 16).ok());
                    code.and_then(char::from_u32).ok_or("no character after `\\u`")?
                }
                _ => return Err("an unknown escape in a quoted text".into()),
            }),
            c => value.push(c),
        }
    }
    Err("a quoted text without end".into())
}
