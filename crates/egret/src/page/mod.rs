//! What the HTML pages about models share: one frame and style, and text that cannot leave its place. A page loads nothing and needs no server;
//! equal parts give equal bytes.

/// What is around every page.
const FRAME: &str = include_str!("frame.html");

/// The style with which every page begins.
const STYLE: &str = include_str!("style.css");

/// The style of pages that are read from top to bottom ([`sheet`]): sections, tiles, tables, charts.
pub const SHEET: &str = include_str!("sheet.css");

/// A page, in the frame that all have.
#[derive(Copy, Clone, Debug)]
pub struct Page<'p> {
    /// What it is about, as text: the name of a model.
    pub title: &'p str,
    /// Its own style, behind that of all.
    pub style: &'p str,
    /// What it shows, as HTML.
    pub body: &'p str,
    /// Whether it shows pictures, which stand in it as `data:`.
    pub pictures: bool,
    /// Data, and the script that reads them (`#data`); a page without runs nothing.
    pub script: Option<(&'p serde_json::Value, &'p str)>,
}

impl Page<'_> {
    /// The whole page. What it may do is what it needs.
    pub fn html(&self) -> String {
        let pictures = if self.pictures { " img-src data:;" } else { "" };
        let (runs, script) = match self.script {
            None => ("", String::new()),
            Some((data, script)) => (
                "; script-src 'unsafe-inline'",
                format!(
                    "\n<script type=\"application/json\" id=\"data\">{}</script>\n<script>\n\"use strict\";\n{script}\n</script>",
                    embed(data)
                ),
            ),
        };
        filled(
            FRAME,
            &[
                ("POLICY", &format!("default-src 'none';{pictures} style-src 'unsafe-inline'{runs}")),
                ("TITLE", &escape(self.title)),
                ("STYLE", &[STYLE, self.style].concat()),
                ("BODY", &[self.body.trim_end_matches('\n'), &script].concat()),
            ],
        )
    }
}

/// The body of a page that is read from top to bottom, in the style [`SHEET`]: its title as text; as HTML, in a word, what was done, and what is
/// under the head.
pub fn sheet(title: &str, what: &str, body: &str) -> String {
    format!(
        "<header class=\"top\">\n  <div class=\"brand\"><span class=\"mark\" aria-hidden=\"true\"></span><h1>{}</h1>\
         <span class=\"quiet\">{what}</span></div>\n</header>\n<main class=\"sheet\">\n{body}\n</main>",
        text(title)
    )
}

/// The longest name, in characters, that is shown whole.
const LONGEST: usize = 160;

/// A shell with its parts, in the order in which they stand in it: each takes the place of `<!--NAME-->`, and what is put in is not looked
/// into.
fn filled(shell: &str, parts: &[(&str, &str)]) -> String {
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
fn embed(data: &serde_json::Value) -> String {
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
    fn a_page_may_do_what_it_needs_and_no_more() {
        let data = serde_json::json!({ "x": "</script>" });
        let still = Page { title: "<m>", style: "i {}", body: "b\n", pictures: false, script: None };
        let html = still.html();
        assert!(
            html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\"")
                && !html.contains("<script")
        );
        assert!(
            html.contains("<title>&lt;m&gt; · Egret</title>")
                && html.ends_with("<body>\nb\n</body>\n</html>\n")
        );
        let html = Page { pictures: true, script: Some((&data, "run()")), ..still }.html();
        assert!(
            html.contains("'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"")
        );
        assert!(
            html.contains("b\n<script type") && html.contains("{\"x\":\"\\u003c/script\\u003e\"}"),
            "{html}"
        );
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
