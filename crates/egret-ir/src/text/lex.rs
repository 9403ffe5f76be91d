//! Text to tokens, each with its place.

use super::ParseError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `conv`, `f32`, `_`
    Word(String),
    /// `12`, `0.5`, `1e-5`, `0x7fc0`, without a sign
    Number(String),
    /// `"a\nb"`, unescaped
    Str(String),
    /// `%3`
    Value(u32),
    /// `#0f3a`
    Hash(String),
    /// A punctuation mark; `->` is one.
    Mark(&'static str),
    /// The end of the text.
    End,
}

impl Token {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Word(w) => format!("`{w}`"),
            Token::Number(n) => format!("`{n}`"),
            Token::Str(s) => format!("{s:?}"),
            Token::Value(v) => format!("`%{v}`"),
            Token::Hash(h) => format!("`#{h}`"),
            Token::Mark(m) => format!("`{m}`"),
            Token::End => "the end of the text".into(),
        }
    }
}

/// A token and where it starts (line and column, from 1).
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) line: usize,
    pub(super) column: usize,
}

const MARKS: [(char, &str); 15] = [
    ('(', "("),
    (')', ")"),
    ('{', "{"),
    ('}', "}"),
    ('[', "["),
    (']', "]"),
    ('<', "<"),
    ('>', ">"),
    (',', ","),
    (':', ":"),
    ('=', "="),
    ('+', "+"),
    ('-', "-"),
    ('*', "*"),
    ('@', "@"),
];

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    column: usize,
}

/// All tokens of `text`, the end included.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, ParseError> {
    let mut lexer = Lexer { rest: text.chars().peekable(), line: 1, column: 1 };
    let mut out = vec![];
    loop {
        lexer.skip_blank()?;
        let (line, column) = (lexer.line, lexer.column);
        let token = lexer.token()?;
        let end = token == Token::End;
        out.push(Placed { token, line, column });
        if end {
            return Ok(out);
        }
    }
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, column: self.column, message: message.into() })
    }

    fn take_while(&mut self, mut keep: impl FnMut(char) -> bool) -> String {
        let mut out = String::new();
        while let Some(&c) = self.rest.peek()
            && keep(c)
        {
            out.push(c);
            self.bump();
        }
        out
    }

    /// Skip whitespace and `//` comments.
    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest.peek() != Some(&'/') {
                return Ok(());
            }
            let mut ahead = self.rest.clone();
            ahead.next();
            if ahead.next() != Some('/') {
                return self.fail("expected `//`, which starts a comment");
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, ParseError> {
        let Some(&c) = self.rest.peek() else { return Ok(Token::End) };
        if c.is_ascii_alphabetic() || c == '_' {
            return Ok(Token::Word(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        if c.is_ascii_digit() {
            return Ok(Token::Number(self.number()));
        }
        match c {
            '"' => self.string().map(Token::Str),
            '%' => {
                self.bump();
                let digits = self.take_while(|c| c.is_ascii_digit());
                match digits.parse() {
                    Ok(n) => Ok(Token::Value(n)),
                    Err(_) => self.fail("expected the number of a value after `%`"),
                }
            }
            '#' => {
                self.bump();
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                if digits.is_empty() {
                    self.fail("expected the hex digits of a hash after `#`")
                } else {
                    Ok(Token::Hash(digits))
                }
            }
            _ => match MARKS.iter().find(|(m, _)| *m == c) {
                Some((_, mark)) => {
                    self.bump();
                    if c == '-' && self.rest.peek() == Some(&'>') {
                        self.bump();
                        return Ok(Token::Mark("->"));
                    }
                    Ok(Token::Mark(mark))
                }
                None => self.fail(format!("the character {c:?} means nothing here")),
            },
        }
    }

    fn number(&mut self) -> String {
        let mut previous = ' ';
        let mut hex = false;
        self.take_while(|c| {
            // The sign of an exponent belongs to the number.
            let sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !hex;
            hex |= c == 'x';
            previous = c;
            c.is_ascii_alphanumeric() || c == '.' || sign
        })
    }

    fn string(&mut self) -> Result<String, ParseError> {
        self.bump();
        let mut out = String::new();
        loop {
            match self.bump() {
                None | Some('\n') => return self.fail("expected `\"` at the end of a string"),
                Some('"') => return Ok(out),
                Some('\\') => match self.bump() {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('0') => out.push('\0'),
                    Some(c @ ('"' | '\\' | '\'')) => out.push(c),
                    Some('u') => {
                        if self.bump() != Some('{') {
                            return self.fail("expected `{` after `\\u`");
                        }
                        let digits = self.take_while(|c| c.is_ascii_hexdigit());
                        let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        match (c, self.bump()) {
                            (Some(c), Some('}')) => out.push(c),
                            _ => return self.fail("expected a Unicode scalar value in `\\u{..}`"),
                        }
                    }
                    _ => return self.fail("expected one of n, r, t, 0, u, \\, ', \" after `\\`"),
                },
                Some(c) => out.push(c),
            }
        }
    }
}
