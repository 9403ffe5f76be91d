//! Integers of fewer than 32 bits: the same bits as another type are another number.

mod common;

use common::*;
use egret_codegen::Options;
use egret_loop::*;

#[test]
fn bits_of_bytes_and_halves_are_numbers_of_their_type() {
    for (from, to) in
        [(Elem::I8, Elem::U8), (Elem::U8, Elem::I8), (Elem::I16, Elem::U16), (Elem::U16, Elem::I16)]
    {
        let mut k = KernelBuilder::new("bits", 1);
        let x = k.param(from, 8, Access::Read);
        let [wide, float, less] = [Elem::I64, Elem::F32, Elem::Bool].map(|e| k.param(e, 8, Access::Write));
        k.for_n(8, |k, i| {
            let v = k.load(x, i);
            let v = k.bitcast(to, v);
            let n = k.convert(Elem::I64, v);
            k.store(wide, i, n);
            let f = k.convert(Elem::F32, v);
            k.store(float, i, f);
            let three = k.const_bits(Ty::scalar(to), 3);
            let below = k.compare(Cmp::Lt, v, three);
            k.store(less, i, below);
        });
        let storages = [Storage::Input(0), Storage::Output(0), Storage::Output(1), Storage::Output(2)];
        let program = program(k.finish(), &storages, 0, vec![]);
        let input: Vec<u8> = (0..8 * from.size()).map(|i| [0xff, 0x80, 1, 0, 0x7f][i % 5]).collect();
        assert_law(&program, &[&input], &Options::native().unwrap(), &format!("{from} as {to}"));
    }
}
