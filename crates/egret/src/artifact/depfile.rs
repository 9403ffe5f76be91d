//! `<m>.d`: what the files of a compilation depend on, for Make and for what reads its rules (Ninja, CMake, Meson).

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The rule for files in a folder, in the order of their names: Ninja takes it for a command whose outputs are these, the first
/// first. Targets are spelt as the caller spells the folder, as Make knows them. Behind it every source
/// but the model is a target without sources, so that Make does not miss one that the model no longer has.
///
/// # Errors
/// A path with a line break, which no rule can name.
pub fn rule<'a>(
    sources: &[&PathBuf],
    dir: &Path,
    files: impl Iterator<Item = &'a String>,
) -> Result<Vec<u8>> {
    let broken = |p: &Path| p.as_os_str().as_encoded_bytes().iter().any(|b| [b'\n', b'\r'].contains(b));
    if let Some(path) = sources.iter().map(|p| p.as_path()).chain([dir]).find(|p| broken(p)) {
        return Err(Error::user(format!(
            "{path:?} has a line break in its name, which the rule for Make (M.d) cannot hold; rename it"
        )));
    }
    let targets: Vec<Vec<u8>> = files.map(|f| escaped(&dir.join(f))).collect();
    let sources: Vec<Vec<u8>> = sources.iter().map(|p| escaped(p)).collect();
    let mut out = [targets.join(&b' '), sources.join(&b' ')].join(&b": "[..]);
    out.push(b'\n');
    let mut named = vec![];
    for source in sources.iter().skip(1).filter(|s| **s != sources[0]) {
        if !named.contains(&source) {
            out.extend(b"\n");
            out.extend(source);
            out.extend(b":\n");
            named.push(source);
        }
    }
    Ok(out)
}

/// A path as Make reads it.
fn escaped(path: &Path) -> Vec<u8> {
    let mut out = vec![];
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'$' => out.push(b'$'),
            b' ' | b'#' => out.push(b'\\'),
            _ => {}
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::rule;
    use std::path::{Path, PathBuf};

    #[test]
    fn sources_that_may_go_are_targets_too() {
        let paths = ["a b/größe.onnx", "w#1.bin", "w#1.bin", "$x.rules"].map(PathBuf::from);
        let files = ["libm.a".to_owned(), "m.h".to_owned()];
        let text = rule(&paths.iter().collect::<Vec<_>>(), Path::new("out dir"), files.iter());
        assert_eq!(
            String::from_utf8(text.unwrap()).unwrap(),
            "out\\ dir/libm.a out\\ dir/m.h: a\\ b/größe.onnx w\\#1.bin w\\#1.bin $$x.rules\n\nw\\#1.bin:\n\n$$x.rules:\n"
        );
    }

    #[test]
    fn line_breaks_are_in_no_rule() {
        let (path, files) = (PathBuf::from("new\nline.onnx"), ["libm.a".to_owned()]);
        let refused = rule(&[&path], Path::new("out"), files.iter()).unwrap_err();
        assert!(refused.message.contains("\"new\\nline.onnx\" has a line break"), "{}", refused.message);
    }
}
