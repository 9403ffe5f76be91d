//! What the HTML pages about models share: one style, a way to fill a shell, and text that cannot leave its place. A page loads nothing and
//! needs no server; equal parts give equal bytes.

/// The style with which every page begins.
pub const STYLE: &str = include_str!("style.css");

/// The style of pages that are read from top to bottom: sections, tiles, tables, charts. It stands behind [`STYLE`].
pub const SHEET: &str = include_str!("sheet.css");

/// The longest name, in characters, that is shown whole.
const LONGEST: usize = 160;

/// A shell with its parts, in the order in which they stand in it: each takes the place of `<!--NAME-->`, and what is put in is not looked
/// into.
pub fn filled(shell: &str, parts: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = shell;
    for (name, part) in parts {
        let mark = format!("<!--{name}-->");
        let (before, after) = rest.split_once(&mark).unwrap_or((rest, ""));
        out.push_str(before);
        out.push_str(part);
        rest = after;
    }
    out + rest
}

/// Text in HTML, between tags or in an attribute within double quotes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text of a model, short and in HTML: of what is longer, both ends and how long it is.
pub fn text(text: &str) -> String {
    let count = text.chars().count();
    if count <= LONGEST {
        return escape(text);
    }
    let half = LONGEST / 2;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(count - half).collect();
    format!("{} … {} <span class=\"quiet\">({count} characters)</span>", escape(&start), escape(&end))
}

/// A count with its thousands apart: 17,220.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// JSON inside a `script` element: nothing in it may look like markup, or be a line end to JavaScript only.
pub fn embed(data: &serde_json::Value) -> String {
    data.to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_looked_into() {
        let shell = "a <!--X--> b <!--Y--> c";
        assert_eq!(filled(shell, &[("X", "<!--Y-->"), ("Y", "y")]), "a <!--Y--> b y c");
        assert_eq!(escape("<b a=\"&amp;\">"), "&lt;b a=&quot;&amp;amp;&quot;&gt;");
    }

    #[test]
    fn numbers_and_names_are_written_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let long = "é<".repeat(1000);
        let short = text(&long);
        assert!(
            short.len() < 1000 && short.contains("(2000 characters)") && !short.contains("é<é"),
            "{short}"
        );
        assert_eq!(text("<i>"), "&lt;i&gt;");
    }
}
