//! Files that Egret writes or people write beside a model: stats, recipes, tables of machines, tolerances. Each is read, or refused with a
//! message. The first byte says which of them the others are. Of stats the target adds the hash at the end, which would hide all else.
//!
//! The manifest of a compiled model is not among them: Egret writes it, and reads its name alone.
#![no_main]

use egret_compress::{Method, Recipe, Request};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Whose stats those are that name it.
const MODEL: &[u8] = include_bytes!("../../../fixtures/models/simple_cnn.onnx");

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary use").keep();
    std::fs::write(folder.join("model.onnx"), MODEL).expect("a file for temporary use");
    folder
});

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.join(name);
    std::fs::write(&path, bytes).expect("a file for temporary use");
    path
}

/// Pruning, which takes stats of a model.
fn stats(bytes: &[u8]) -> egret::Result<()> {
    let file = [bytes, blake3::hash(bytes).as_bytes()].concat();
    let mut request = Request::new("sparse:0.5".parse()?);
    request.method = "wanda".parse::<Method>()?;
    request.all = true;
    request.stats = vec![write("stats", &file)];
    egret_compress::prune(&FOLDER.join("model.onnx"), &request).map(drop)
}

/// What a recipe says is kept by writing it.
fn recipe(bytes: &[u8]) -> egret::Result<()> {
    let recipe = Recipe::read(&write("recipe", bytes))?;
    let again = Recipe::read(&write("recipe", recipe.text().as_bytes()))?;
    assert_eq!(again.text(), recipe.text());
    Ok(())
}

/// What the table of a machine says is kept by writing it.
fn machine(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let machine = egret_machine::Machine::parse("m", "m.toml", text).map_err(|e| e.to_string())?;
    let again =
        egret_machine::Machine::parse("m", "m.toml", &machine.to_toml()).expect("what is written is read");
    assert_eq!(again.to_toml(), machine.to_toml());
    Ok(())
}

fn tolerance(bytes: &[u8]) -> egret::Result<()> {
    write("tolerance.json", bytes);
    egret::cases::Case { name: "fuzz".into(), dir: FOLDER.clone() }.tolerance().map(drop)
}

/// What is written behind `--input x=`.
fn input(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    egret::inputs::Given::named(text).map(drop)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let read = match kind % 5 {
        0 => stats(bytes).map_err(|e| e.to_string()),
        1 => recipe(bytes).map_err(|e| e.to_string()),
        2 => machine(bytes),
        3 => tolerance(bytes).map_err(|e| e.to_string()),
        _ => input(bytes),
    };
    if let Err(e) = read {
        assert!(!e.is_empty());
    }
});
