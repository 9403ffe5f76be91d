//! A file of rewrite rules is read, or refused with a message that names the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if let Err(e) = egret_opt::rules::parse(source, "fuzz.rules", "canonicalize", &[]) {
        assert!(e.to_string().contains("fuzz.rules"), "{e}");
    }
});
