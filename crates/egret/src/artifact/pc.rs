//! `<m>.pc`: the model as a package of pkg-config, in the folder in which it is found.

use egret_loop::Program;

/// The package file; it names no folder but its own, so that the files can be moved together.
pub fn package(program: &Program) -> String {
    let m = &program.name;
    format!(
        "Name: {m}\nDescription: A model compiled by Egret\nVersion: {}\nCflags: -I${{pcfiledir}}\nLibs: -L${{pcfiledir}} -l{m}\n",
        env!("CARGO_PKG_VERSION")
    )
}
