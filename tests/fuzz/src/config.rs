//! An `egret.toml` is read, or refused with a message that names the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if let Err(e) = egret_gate::Config::parse("egret.toml", source) {
        assert!(e.to_string().starts_with("egret.toml"), "{e}");
    }
});
