//! `egret gate --propose`.

use super::Args;
use crate::common::{note, progress, write_or_print};
use egret::{Error, Options, Result, name_for, pipeline, source};
use egret_gate::{Proposal, Settings, propose};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Propose budgets for models: `given`, what the options say of how they are compiled.
pub fn run(args: &Args, given: &Settings) -> Result<()> {
    if let Some(path) = &args.output {
        if path.symlink_metadata().is_ok_and(|m| m.is_file() || m.is_symlink()) {
            return Err(Error::user(format!(
                "{} is there already, and what it asks would be lost; name another file, or remove it",
                path.display()
            )));
        }
        egret::files::writable(path)?;
    }
    let folder = match (&args.output, args.models.first()) {
        (Some(file), _) | (None, Some(file)) => real(folder(file))?,
        (None, None) => return Err(Error::internal("a model is required")),
    };
    let mut seen = BTreeSet::new();
    let mut proposals = vec![];
    for model in &args.models {
        if model.is_dir() {
            return Err(Error::user(format!(
                "{} is the folder of a test case, whose inputs no egret.toml holds; give the model file, and its dims with --dim",
                model.display()
            )));
        }
        let path = path_from(&folder, &real(&source::locate(model)?.0)?)?;
        if !seen.insert(path.clone()) {
            return Err(Error::user(format!("{} is given twice", model.display())));
        }
        proposals.push(progress("compiling", || one(args, given, model, path, &folder))?);
    }
    write_or_print(args.output.as_deref(), propose(&proposals).as_bytes())
}

/// What one model takes. A target is named, so that the figures are the same on every machine.
fn one(args: &Args, given: &Settings, model: &Path, path: String, folder: &Path) -> Result<Proposal> {
    let mut settings = args.config.find(model)?.map_or_else(Settings::default, |f| f.rules.settings);
    settings.overlay(given);
    let (mut request, mut options) = (args.given.request(model)?, Options::default());
    if settings.target.as_deref().is_none_or(|target| target == "native") {
        let level = pipeline::target_level(&options)?;
        note(format_args!("note: {}: figures are for {level}, which this machine has", model.display()));
        settings.target = Some(level.to_owned());
    }
    settings.apply(&mut request, &mut options)?;
    if let Ok((name, _)) = name_for(model) {
        options.name = name;
    }
    for machine in settings.files() {
        settings.target = Some(path_from(folder, &real(&machine)?)?);
    }
    Proposal::of(path, settings, &request, &options)
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::io("read", path, &e))
}

/// The path of a file from a folder, both without links.
fn path_from(folder: &Path, file: &Path) -> Result<String> {
    let shared = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    let parts = up.chain(file.components().skip(shared)).map(|c| c.as_os_str().to_str());
    let parts: Option<Vec<&str>> = parts.collect();
    let parts = parts.ok_or_else(|| {
        Error::user(format!("{}: an egret.toml is text, which this path is not", file.display()))
    })?;
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::path_from;
    use std::path::Path;

    #[test]
    fn paths_are_from_the_folder_of_the_file() {
        let of = |folder: &str, file: &str| path_from(Path::new(folder), Path::new(file)).unwrap();
        assert_eq!(of("/a/b", "/a/b/m.onnx"), "m.onnx");
        assert_eq!(of("/a/b", "/a/b/c/m.onnx"), "c/m.onnx");
        assert_eq!(of("/a/b", "/a/c/m.onnx"), "../c/m.onnx");
        assert_eq!(of("/", "/m.onnx"), "m.onnx");
    }
}
