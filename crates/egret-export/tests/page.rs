//! `docs/EXPORT.md`: the table of operations, held against the code. `cargo xtask pages` writes it anew.

use std::fmt::Write;

const BEGIN: &str = "<!-- table: cargo xtask pages -->\n";

#[test]
fn the_page_has_every_operation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/EXPORT.md");
    let page = std::fs::read_to_string(path).expect("docs/EXPORT.md");
    let (text, have) = page.split_once(BEGIN).expect("the place of the table");
    let mut table = String::from("\n| operation | ONNX |\n|---|---|\n");
    for (op, onnx) in egret_export::spellings() {
        writeln!(table, "| `{op}` | {onnx} |").expect("a string takes it");
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{text}{BEGIN}{table}")).expect("docs/EXPORT.md can be written");
    } else {
        assert!(have == table, "docs/EXPORT.md is not what the code says (cargo xtask pages writes it)");
    }
}
