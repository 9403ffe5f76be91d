//! Text of tokens as they come: a character whose bytes are of several tokens waits for all of them, and what may become a text that ends
//! all waits until it has or has not.

use egret::Result;

/// Text that grows by tokens.
pub struct Stream<'a> {
    decode: &'a dyn Fn(&[i64]) -> Result<String>,
    tokens: Vec<i64>,
    /// Tokens before this one change the text of later ones no more.
    from: usize,
    /// The text of tokens before this one is given or held.
    read: usize,
    stops: &'a [String],
    /// Text in which a stop may begin.
    held: String,
    /// Text that is given.
    text: String,
    ended: bool,
}

impl<'a> Stream<'a> {
    /// Behind a prompt, until one of some texts comes, none of which is empty.
    pub fn new(
        prompt: &[i64],
        stops: &'a [String],
        decode: &'a dyn Fn(&[i64]) -> Result<String>,
    ) -> Stream<'a> {
        let (tokens, read) = (prompt.to_vec(), prompt.len());
        Stream {
            decode,
            tokens,
            from: 0,
            read,
            stops,
            held: String::new(),
            text: String::new(),
            ended: false,
        }
    }

    /// The text that a token completes.
    ///
    /// # Errors
    /// What `decode` fails by.
    pub fn push(&mut self, token: i64) -> Result<String> {
        self.tokens.push(token);
        let piece = self.piece()?;
        // Bytes of a character that is not complete are such a sign at the end.
        if self.ended || piece.is_empty() || piece.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        (self.from, self.read) = (self.read, self.tokens.len());
        self.held += &piece;
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        self.ended = first.is_some();
        Ok(self.give(first.unwrap_or_else(|| self.held.len() - self.begun())))
    }

    /// The text that waited for more.
    ///
    /// # Errors
    /// What `decode` fails by.
    pub fn finish(&mut self) -> Result<String> {
        if self.ended {
            return Ok(String::new());
        }
        self.held += &self.piece()?;
        (self.from, self.read) = (self.read, self.tokens.len());
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        Ok(self.give(first.unwrap_or(self.held.len())))
    }

    /// Whether a text that ends all has come.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// All that was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text behind that of tokens before `read`.
    fn piece(&self) -> Result<String> {
        let before = (self.decode)(&self.tokens[self.from..self.read])?;
        let after = (self.decode)(&self.tokens[self.from..])?;
        // A prompt may end within a character, whose text changes.
        let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b);
        let same: usize = same.map(|(c, _)| c.len_utf8()).sum();
        Ok(after[same..].to_owned())
    }

    /// How many bytes at the end of what is held are the beginning of a stop.
    fn begun(&self) -> usize {
        let begins = |stop: &String| {
            let lengths = stop.char_indices().map(|(i, _)| i).rev();
            lengths.into_iter().find(|&n| self.held.ends_with(&stop[..n])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }

    fn give(&mut self, bytes: usize) -> String {
        let rest = self.held.split_off(bytes);
        let given = std::mem::replace(&mut self.held, rest);
        self.text += &given;
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are bytes; a space in front of all is left out, as some decoders do.
    fn bytes(tokens: &[i64]) -> Result<String> {
        let bytes: Vec<u8> = tokens.iter().map(|&t| t as u8).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.strip_prefix(' ').map(str::to_owned).unwrap_or(text))
    }

    fn pieces(prompt: &str, text: &[u8], stops: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let prompt: Vec<i64> = prompt.bytes().map(i64::from).collect();
        let mut stream = Stream::new(&prompt, &stops, &bytes);
        let mut out = vec![];
        for &byte in text {
            out.push(stream.push(i64::from(byte)).expect("text"));
            if stream.ended() {
                break;
            }
        }
        out.push(stream.finish().expect("text"));
        assert_eq!(stream.text(), out.concat());
        out.retain(|piece| !piece.is_empty());
        (out, stream.ended())
    }

    #[test]
    fn characters_come_whole() {
        let text = "a é€😀 b";
        let (out, ended) = pieces("x", text.as_bytes(), &[]);
        assert_eq!(out, ["a", " ", "é", "€", "😀", " ", "b"]);
        assert!(!ended);
        // A space is left out at the beginning of the text alone, and a prompt is before it.
        assert_eq!(pieces("x", b" y", &[]).0.concat(), " y");
        assert_eq!(pieces("", b" y", &[]).0.concat(), "y");
        // What is never completed comes at the end; what is wrong within, when it is known to be.
        assert_eq!(pieces("x", &[0xf0, 0x9f], &[]).0, ["\u{fffd}"]);
        assert_eq!(pieces("x", &[b'a', 0xc3, b'b', b'c'], &[]).0, ["a", "\u{fffd}b", "c"]);
    }

    #[test]
    fn stops_are_not_given() {
        let of = |text: &str, stops: &[&str]| {
            let (out, ended) = pieces("", text.as_bytes(), stops);
            (out.concat(), ended)
        };
        assert_eq!(of("one\ntwo", &["\n"]), ("one".to_owned(), true));
        assert_eq!(of("one two", &["\n"]), ("one two".to_owned(), false));
        assert_eq!(of("aababac", &["abac"]), ("aab".to_owned(), true));
        assert_eq!(of("aaba", &["abac"]), ("aaba".to_owned(), false));
        assert_eq!(of("xabc", &["abc", "b"]), ("xa".to_owned(), true));
        assert_eq!(of("zé€", &["é€"]), ("z".to_owned(), true));
        // What may be the beginning of a stop waits, and no longer.
        assert_eq!(pieces("", b"xaby", &["abc"]).0, ["x", "aby"]);
    }
}
