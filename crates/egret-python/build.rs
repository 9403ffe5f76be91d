//! What the linker must be told: the symbols of Python come from the interpreter that loads the module.

fn main() {
    // Linkers of other systems leave undefined symbols of a shared library as they are.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        println!("cargo::rustc-cdylib-link-arg=-undefined");
        println!("cargo::rustc-cdylib-link-arg=dynamic_lookup");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
