//! How fast contraction tiles run, by shape: `cargo run --release -p egret-codegen --example tile_rate`; with arguments
//! `14x32 9x48` only those, wide, at reductions of 64, 256 and 512 (`egret doctor --measure` has all that fit).
//!
//! One line per shape: GFLOP/s of the 128-bit code, compile time, and GFLOP/s of the wide leaf.

use egret_codegen::{Options, measure};
use egret_machine::Machine;

fn main() {
    let native = Options::native().expect("this machine");
    let machine = Machine::of(native.target.isa(true).name).expect("a file of ir-spec/targets");
    let shapes: Vec<String> = std::env::args().skip(1).collect();
    for shape in &shapes {
        let (rows, cols) = shape.split_once('x').expect("ROWSxCOLS");
        let [rows, cols] = [rows, cols].map(|n| n.parse().expect("a number"));
        let rates = measure::tile_rates((rows, cols), machine, &native).expect("a tile compiles");
        println!("{shape:>6}  {:.1} / {:.1} / {:.1}", rates[0], rates[1], rates[2]);
    }
    if !shapes.is_empty() {
        return;
    }
    println!("{:>5} {:>5} {:>5}  {:>8} {:>10} {:>8}", "rows", "cols", "k", "128-bit", "compile ms", "wide");
    for (rows, cols, k) in [
        (6, 8, 256),
        (6, 16, 256),
        (8, 16, 256),
        (8, 32, 256),
        (14, 32, 256),
        (4, 32, 256),
        (1, 32, 256),
        (1, 8, 256),
        (2, 16, 256),
        (12, 4, 256),
        (14, 31, 256),
        (7, 3, 256),
        (8, 16, 9),
        (8, 16, 27),
    ] {
        let work = rows * cols * k;
        let all = 40_000_000 / work * work;
        let time = |options: &Options| {
            measure::tile((rows, cols), k, all, machine, options).expect("a tile compiles")
        };
        let gflops = |t: measure::Time| 2.0 * all as f64 / t.seconds / 1e9;
        let narrow = time(&Options { wide: false, ..native.clone() });
        let (wide, ms) = (gflops(time(&native)), narrow.compile * 1e3);
        println!("{rows:>5} {cols:>5} {k:>5}  {:>8.1} {ms:>10.2} {wide:>8.1}", gflops(narrow));
    }
}
