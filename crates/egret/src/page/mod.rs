//! What the HTML pages about models share: one style, a way to fill a shell, and text that cannot leave its place. A page loads nothing and
//! needs no server; equal parts give equal bytes.

/// The style with which every page begins.
pub const STYLE: &str = include_str!("style.css");

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_looked_into() {
        let shell = "a <!--X--> b <!--Y--> c";
        assert_eq!(filled(shell, &[("X", "<!--Y-->"), ("Y", "y")]), "a <!--Y--> b y c");
        assert_eq!(escape("<b a=\"&amp;\">"), "&lt;b a=&quot;&amp;amp;&quot;&gt;");
    }
}
