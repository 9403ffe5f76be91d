//! Tasks of Egret's developers: `cargo xtask tidy` holds what no compiler holds, `cargo xtask pages` writes generated pages.
#![forbid(unsafe_code)]

mod borders;
mod files;
mod modules;
mod paths;
mod source;

use std::path::Path;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask tidy     borders of crates, circles of modules, headers and lengths of files, conflicts left in pages
       cargo xtask pages    write what is generated anew: docs/OPERATORS.md, docs/COMMANDS.md, the tables in docs/EXPORT.md and ir-spec/spec.md";

/// The tests that hold generated pages, and write them with `BLESS=1`: what is on a page is known where it is tested.
const PAGES: &[(&str, &str)] = &[
    ("egret-ir", "spec"),
    ("egret-export", "page"),
    ("egret-cli", "pages"),
    ("egret-workspace", "operators"),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
        ["pages"] => pages(),
        _ => {
            eprintln!("usage: {USAGE}");
            ExitCode::from(1)
        }
    }
}

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/xtask lies two folders deep")
}

/// Run the tests that hold pages, so that they write them.
fn pages() -> ExitCode {
    for (package, test) in PAGES {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let args = ["test", "--quiet", "--package", package, "--test", test];
        match Command::new(cargo).args(args).env("BLESS", "1").current_dir(root()).status() {
            Ok(status) if status.success() => {}
            Ok(_) => return ExitCode::from(1),
            Err(e) => {
                eprintln!("pages: cargo does not start: {e}");
                return ExitCode::from(1);
            }
        }
    }
    ExitCode::SUCCESS
}

fn tidy() -> ExitCode {
    let sources = match source::read(root()) {
        Ok(sources) => sources,
        Err(e) => {
            eprintln!("tidy: {e}");
            return ExitCode::from(1);
        }
    };
    let pages = match files::pages(root()) {
        Ok(pages) => pages,
        Err(e) => {
            eprintln!("tidy: {e}");
            return ExitCode::from(1);
        }
    };
    let mut faults = files::check(&sources);
    faults.extend(pages.iter().flat_map(|(path, text)| files::markers(path, text)));
    faults.extend(modules::check(&sources));
    faults.extend(borders::check(root(), &sources));
    faults.sort();
    faults.iter().for_each(|f| println!("{f}"));
    println!("tidy: {} files, {} faults", sources.len(), faults.len());
    ExitCode::from(u8::from(!faults.is_empty()))
}
