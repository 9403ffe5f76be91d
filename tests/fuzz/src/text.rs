//! A text is a graph, which is printed and read again as the same text, or is refused with a message.
#![no_main]

use egret_ir::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    match text::parse(source, &|_| None) {
        Ok(graph) => {
            // What is read need not have the types that it says.
            if egret_ir::verify(&graph).is_ok() {
                let (printed, constants) = (text::print(&graph), text::constants(&graph));
                let resolve = |hash: &str| constants.get(hash).cloned();
                let again = text::parse(&printed, &resolve).unwrap_or_else(|e| panic!("{e}\n{printed}"));
                assert_eq!(text::print(&again), printed);
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
});
