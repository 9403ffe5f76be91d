//! Compiles the shim with MPI's own compiler, and links what that links.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-env-changed=MPICC");
    if env::var_os("CARGO_FEATURE_MPI").is_none() {
        return;
    }
    let mpicc = env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    // Open MPI and MPICH both say with it which command they are.
    let shown = Command::new(&mpicc).arg("-show").output();
    let shown = match shown {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).into_owned(),
        _ => panic!(
            "the feature `mpi` needs MPI's compiler, and `{mpicc} -show` does not run: install one (Debian: apt-get install libopenmpi-dev openmpi-bin), or say where it is by MPICC"
        ),
    };
    cc::Build::new().compiler(&mpicc).file("src/shim.c").warnings(true).compile("egret_mpi_shim");
    for word in shown.split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        } else if let Some(library) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
    }
}
