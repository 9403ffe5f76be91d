//! Tasks of Egret's developers: `cargo xtask tidy` holds what no compiler holds.
#![forbid(unsafe_code)]

mod borders;
mod files;
mod modules;
mod source;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str =
    "cargo xtask tidy    borders of crates, circles of modules, headers and lengths of files";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
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

fn tidy() -> ExitCode {
    let sources = match source::read(root()) {
        Ok(sources) => sources,
        Err(e) => {
            eprintln!("tidy: {e}");
            return ExitCode::from(1);
        }
    };
    let mut faults = files::check(&sources);
    faults.extend(modules::check(&sources));
    faults.extend(borders::check(root(), &sources));
    faults.sort();
    faults.iter().for_each(|f| println!("{f}"));
    println!("tidy: {} files, {} faults", sources.len(), faults.len());
    ExitCode::from(u8::from(!faults.is_empty()))
}
