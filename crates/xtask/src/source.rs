//! The Rust files of the repository, and what of them counts as code.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file.
pub struct Source {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// The crate it belongs to, and its path in that crate's `src`; `None` for tests, benches and build scripts.
    pub fn in_crate(&self) -> Option<(&str, &str)> {
        let rest = self.path.strip_prefix("crates/")?;
        let (name, rest) = rest.split_once('/')?;
        Some((name, rest.strip_prefix("src/")?))
    }

    /// The text without comments, string and character literals: what it refers to.
    pub fn code(&self) -> String {
        without_comments(&self.text)
    }
}

/// Every Rust file below `root`, in order of path; `target` and hidden folders are left out.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn read(root: &Path) -> Result<Vec<Source>, String> {
    let mut out = vec![];
    let mut work: Vec<PathBuf> = ["crates", "tests", "benches"].iter().map(|d| root.join(d)).collect();
    while let Some(dir) = work.pop() {
        let at = |e: std::io::Error| format!("{}: {e}", dir.display());
        for entry in fs::read_dir(&dir).map_err(at)? {
            let path = entry.map_err(at)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                work.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                out.push(Source { path, text });
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

fn without_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text[i..];
        if rest.starts_with("//") {
            i += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            i += rest.find("*/").map_or(rest.len(), |n| n + 2);
        } else if let Some((hashes, raw)) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            i += raw.find(&end).map_or(rest.len(), |n| rest.len() - raw.len() + n + end.len());
        } else if let Some(n) = char_literal(rest) {
            i += n;
        } else if bytes[i] == b'"' {
            i += 1;
            while i < bytes.len() && bytes[i] != b'"' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            i += 1;
        } else {
            let c = rest.chars().next().unwrap_or(' ');
            out.push(c);
            i += c.len_utf8();
        }
        while i < bytes.len() && !text.is_char_boundary(i) {
            i += 1;
        }
    }
    out
}

/// How many `#` a raw string has, and what follows its opening quote.
fn raw_string(text: &str) -> Option<(usize, &str)> {
    let rest = text.strip_prefix('r')?;
    let raw = rest.trim_start_matches('#');
    Some((rest.len() - raw.len(), raw.strip_prefix('"')?))
}

/// The length of a character literal; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    if let Some(escape) = rest.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return Some(escape[first..].find('\'')? + first + 3);
    }
    let c = rest.chars().next()?;
    rest[c.len_utf8()..].starts_with('\'').then_some(c.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::without_comments;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "use a; // use b;\nlet s = \"use \\\" c\"; /* d */ let q = '\"'; e(r#\"f \" g\"#)";
        assert_eq!(without_comments(text), "use a; \nlet s = ;  let q = ; e()");
        let text = "f<'a>('{', '\\'', '\\\\', '\\u{7d}', b'}', 'é', r\"\\\", r##\"a\"# {\"##) }";
        assert_eq!(without_comments(text), "f<'a>(, , , , b, , , ) }");
    }
}
