//! The system's C compiler, for what needs a linker: shared libraries and executables.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The triple of code for another architecture than this machine's, and Debian's name of a C compiler for it.
pub type Cross = (String, &'static str);

/// The C compiler: the environment variable `CC`, else `cc`.
pub fn compiler() -> String {
    std::env::var("CC").ok().filter(|c| !c.trim().is_empty()).unwrap_or_else(|| "cc".into())
}

/// The first line of what the C compiler says about its version, if there is one.
pub fn version() -> Option<String> {
    let out = command().ok()?.arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).lines().next()?.to_owned();
    out.status.success().then_some(text)
}

/// The file of the C compiler, if it is found where the system looks.
pub fn file() -> Option<PathBuf> {
    let cc = compiler();
    let program = Path::new(cc.split_whitespace().next()?);
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn command() -> Result<Command> {
    // `CC` may hold arguments too, as in `CC="zig cc"`.
    let cc = compiler();
    let mut words = cc.split_whitespace();
    let mut command =
        Command::new(words.next().ok_or_else(|| Error::user("the environment variable CC is empty"))?);
    command.args(words);
    Ok(command)
}

/// Run it. `cross`: where the code is for another architecture.
fn run(mut command: Command, what: &str, cross: Option<Cross>) -> Result<()> {
    let out = command.output().map_err(|e| {
        Error::user(format!(
            "{what} needs a C compiler, but `{}` cannot be run ({e}); install one, or set CC to it",
            compiler()
        ))
    })?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if let Some((triple, cc)) = cross {
        // What this machine's own linker says of foreign code is of no use.
        let said = if compiler() != "cc" { format!("; it said:\n{said}") } else { String::new() };
        return Err(Error::user(format!(
            "`{}` failed to make {what} for {triple} ({}): set CC to a cross compiler, e.g. CC={cc}{said}",
            compiler(),
            out.status
        )));
    }
    let said = if said.is_empty() { " and said nothing".into() } else { format!(":\n{said}") };
    Err(Error::user(format!("`{}` failed to make {what} ({}){said}", compiler(), out.status)))
}

/// Link object files into a shared library.
pub fn shared(objects: &[PathBuf], library: &Path, cross: Option<Cross>) -> Result<()> {
    let mut c = command()?;
    // A build id or a path would differ between two compilations of the same model.
    c.args(["-shared", "-nostartfiles", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-o"])
        .arg(library)
        .args(objects);
    run(c, "a shared library", cross)
}

/// Compile a C main and link it with an archive. Run in the archive's folder, so that no path gets into the executable.
pub fn executable(dir: &Path, main: &str, archive: &str, out: &str, cross: Option<Cross>) -> Result<()> {
    let mut c = command()?;
    c.current_dir(dir).args(["-std=c99", "-O2", "-Wl,--build-id=none", "-o", out, main, archive, "-lm"]);
    run(c, "an executable", cross)
}
