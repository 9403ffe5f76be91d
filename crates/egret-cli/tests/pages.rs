//! `docs/COMMANDS.md`: what every command's `--help` says, held against the command. `BLESS=1` writes it anew.

mod kit;

use std::path::Path;

const HEAD: &str = "\
# Commands

What `egret help` and `egret help COMMAND` say. Generated: `cargo xtask pages` writes it anew.
";

/// The names under `Commands:` of `egret help`, in its order.
fn commands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

fn page() -> String {
    let help = kit::works(&["help"]);
    let names = commands(&help);
    assert!(names.contains(&"compile"), "no list of commands in:\n{help}");
    let mut page = format!("{HEAD}\n```text\n{}\n```\n", help.trim_end());
    for name in names {
        let said = kit::works(&["help", name]);
        page += &format!("\n## egret {name}\n\n```text\n{}\n```\n", said.trim_end());
    }
    page
}

#[test]
fn the_page_of_commands_is_what_help_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/COMMANDS.md");
    let fresh = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &fresh).expect("docs/COMMANDS.md");
    }
    let page = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(page == fresh, "docs/COMMANDS.md is behind `egret help`: cargo xtask pages writes it anew");
}
