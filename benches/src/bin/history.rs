//! `cargo bench-history [FILE.json]`: append a measurement (the form is that of `egret_benches::history::measured`) to
//! `benches/history/ratios.csv` under the present commit, and write the table anew.

use egret_benches::history;
use std::error::Error;
use std::path::Path;
use std::process::Command;

/// The commit that was measured; changes that are not committed would be measured under a wrong name.
fn commit(root: &Path) -> Result<String, Box<dyn Error>> {
    let git = |args: &[&str]| -> Result<String, Box<dyn Error>> {
        let out = Command::new("git").args(args).current_dir(root).output()?;
        if !out.status.success() {
            return Err(format!("git {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr)).into());
        }
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    };
    if !git(&["status", "--porcelain", "--", "crates", "ir-spec", "Cargo.lock"])?.is_empty() {
        return Err("there are changes that are not committed: commit them, build and measure again".into());
    }
    git(&["rev-parse", "--short", "HEAD"])
}

/// What the machine calls its CPU.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("benches/history/ratios.csv");
    let mut rows = history::parse(&std::fs::read_to_string(&file)?)?;
    if let Some(measured) = std::env::args_os().nth(1) {
        let json = serde_json::from_str(&std::fs::read_to_string(measured)?)?;
        history::add(&mut rows, history::measured(&json, &commit(&root)?, &cpu())?);
        std::fs::write(&file, history::print(&rows))?;
    }
    std::fs::write(root.join("benches/history/README.md"), history::table(&rows))?;
    Ok(())
}
