//! Constant offsets up to the end of 32 bits, behind which lanes of a vector are.

mod common;

use common::*;
use egret_codegen::{Options, Target, object};
use egret_loop::*;

#[test]
fn lanes_behind_the_last_displacement_have_addresses() {
    let end = i64::from(i32::MAX);
    for (elem, lanes) in [(Elem::F32, 4), (Elem::I16, 8), (Elem::U8, 16), (Elem::Bool, 4), (Elem::Bool, 8)]
    {
        let mut k = KernelBuilder::new("far", 1);
        let size = elem.size() as i64;
        let len = (end / size) as usize + 64;
        let (x, y) = (k.param(elem, len, Access::Read), k.param(elem, len, Access::Write));
        for before in 0..24 / size {
            let at = k.int(end / size - before);
            let all = k.load_lanes(x, at, lanes);
            k.store(y, at, all);
            if elem != Elem::Bool {
                let some = k.load_first(x, at, lanes, lanes - 1);
                k.store_first(y, at, some, lanes - 1);
            }
        }
        let program = program(k.finish(), &[Storage::Input(0), Storage::Output(0)], 0, vec![]);
        for target in ["v2", "v3", "v4"] {
            let options = Options::new(Target::parse(target).unwrap());
            object(&program, &options).unwrap_or_else(|e| panic!("{elem}x{lanes} for {target}: {e}"));
        }
    }
}
