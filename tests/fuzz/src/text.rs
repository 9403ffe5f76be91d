//! A text is a graph, which is printed and read again as the same text, or is refused with a message.
#![no_main]

use egret_ir::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    match text::parse(source, &|_| None) {
        Ok(graph) => {
            // What is read need not have the types that it says.
            if egret_ir::verify(&graph).is_ok() {
                let printed = text::print(&graph);
                let again = text::parse(&printed, &|_| None).unwrap_or_else(|e| panic!("{e}\n{printed}"));
                assert_eq!(text::print(&again), printed);
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
});
