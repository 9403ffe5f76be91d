//! Weights that code cannot reach are refused before they are packed, which takes long.

use egret_codegen::{CodegenError, Options, Target, front_into, object_into};
use egret_loop::{Program, Weights};

#[test]
fn weights_that_are_too_far_are_refused_before_they_are_packed() {
    let mut weights = Weights::default();
    weights.push_later((1 << 30) + 1, |_| panic!("packed"));
    let program = Program { name: "m".into(), weights, ..Program::default() };
    let options = Options::new(Target::parse("x86-64-v2").unwrap());
    let refused = [
        object_into(&program, &options, std::io::sink()).expect_err("refused"),
        front_into(&program, &[options], std::io::sink()).expect_err("refused"),
    ];
    for e in refused {
        let CodegenError::Unsupported(why) = &e else { panic!("{e}") };
        assert!(why.contains("larger than 1 GiB") && why.contains("--weights file"), "{why}");
    }
}
