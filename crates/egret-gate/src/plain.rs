//! Names that a model has, made fit to be shown.

/// A text of a model on one line, for terminals, logs and XML: control characters, directions of writing, and what Unicode calls no
/// character become escapes.
pub fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        let hidden =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || hidden || matches!(c, '\u{fffe}' | '\u{ffff}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}
