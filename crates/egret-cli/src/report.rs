//! `--report` of the commands that make a smaller copy of a model: the page about it.

use egret::{Error, Result, files};
use egret_compress::{About, Found, page};
use std::path::{Path, PathBuf};

/// Where the page about a compression goes.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// Write the report as one HTML page too, which needs no network: every layer, the largest first, what was done and why not more
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

impl ReportArgs {
    /// That the page takes the place of nothing that is read for it, nor of what else is written.
    ///
    /// # Errors
    /// It does, or it cannot be written.
    pub fn check(&self, model: &Path, samples: &[&[PathBuf]], written: &[&Path]) -> Result<()> {
        let Some(report) = &self.report else { return Ok(()) };
        let read = read_for(model, samples);
        files::apart(report, read.iter().map(PathBuf::as_path))?;
        alone(report, written)
    }

    /// Write the page, where one is asked for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write<'a>(
        &self,
        action: &str,
        model: &Path,
        again: Option<String>,
        found: impl Into<Found<'a>>,
    ) -> Result<()> {
        let Some(report) = &self.report else { return Ok(()) };
        let about = About { title: title(model), action: action.to_owned(), command: command(), again };
        files::write(report, page(&about, found).as_bytes())
    }
}

/// That a page can be written, and is nothing else that is written.
///
/// # Errors
/// It is, or it cannot be.
pub fn alone(report: &Path, written: &[&Path]) -> Result<()> {
    if let Some(other) = written.iter().find(|w| files::place(w) == files::place(report)) {
        return Err(Error::user(format!(
            "--report {} is what is written to {} too; name another file",
            report.display(),
            other.display()
        )));
    }
    is_page(report)?;
    files::writable(report)
}

/// That a page is called as one; what is no file, as `/dev/stdout`, is called as it is.
///
/// # Errors
/// Its name ends otherwise.
pub fn is_page(report: &Path) -> Result<()> {
    let ends =
        report.extension().is_some_and(|e| e.eq_ignore_ascii_case("html") || e.eq_ignore_ascii_case("htm"));
    let special = std::fs::metadata(report).is_ok_and(|m| !m.is_file());
    match ends || special {
        true => Ok(()),
        false => Err(Error::user(format!(
            "--report {}: the report is a page of HTML; name a file that ends with .html",
            report.display()
        ))),
    }
}

/// What a page about a model is called: as its file.
pub fn title(model: &Path) -> String {
    model.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned())
}

/// What a command reads: a model, samples and stats; of a folder every file is one of samples.
pub fn read_for(model: &Path, samples: &[&[PathBuf]]) -> Vec<PathBuf> {
    let mut read = vec![model.to_owned()];
    read.extend(samples_in(samples));
    read
}

fn samples_in(samples: &[&[PathBuf]]) -> Vec<PathBuf> {
    let mut read = vec![];
    for path in samples.iter().copied().flatten() {
        read.extend(std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()));
        read.push(path.clone());
    }
    read
}

/// That a model is not written over samples or stats. It may take the place of the model that was read.
///
/// # Errors
/// As of [`files::apart`].
pub fn apart_from_samples(output: &Path, samples: &[&[PathBuf]]) -> Result<()> {
    files::apart(output, samples_in(samples).iter().map(PathBuf::as_path))
}

/// The command line of this process, for a shell.
pub fn command() -> String {
    let given = std::env::args_os().skip(1).map(|a| quoted(&a.to_string_lossy()));
    std::iter::once("egret".to_owned()).chain(given).collect::<Vec<_>>().join(" ")
}

/// A word of a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,%+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_stay_words() {
        assert_eq!(quoted("sparse:0.97,w8"), "sparse:0.97,w8");
        assert_eq!(["", "a b", "it's", "$x"].map(quoted), ["''", "'a b'", "'it'\\''s'", "'$x'"]);
    }
}
