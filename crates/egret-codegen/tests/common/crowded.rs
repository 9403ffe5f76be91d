//! A kernel that holds more than there are registers.

use egret_loop::*;

/// Elements of its buffers.
pub const CROWDED: usize = 96;

/// `sum += sum * v + x` of 36 values at once, ten times, of three elements each from `x` to `y`; it checks a number, and loops while
/// something holds.
pub fn crowded(lanes: u8) -> Kernel {
    let tasks = 2;
    let mut k = KernelBuilder::new("crowded", tasks).with_vector_bytes(4 * usize::from(lanes));
    let from = k.param(Elem::F32, 3 * CROWDED, Access::Read);
    let to = k.param(Elem::F32, CROWDED, Access::Write);
    let task = k.task();
    let part = CROWDED as i64 / tasks;
    k.for_range(0, part, lanes.into(), |k, i| {
        let [x, y, z] = [0, 1, 2].map(|n| {
            let at = k.affine(&[(task, part), (i, 1)], n * CROWDED as i64);
            k.load_lanes(from, at, lanes)
        });
        let many: Vec<V> = (0..36)
            .map(|i| {
                let c = k.num(x, f64::from(i));
                k.fma(x, c, y)
            })
            .collect();
        let sum = k.local(z);
        let zero = k.int(0);
        let count = k.local(zero);
        k.while_(
            |k| {
                let (n, ten) = (k.get(count), k.int(10));
                k.compare(Cmp::Lt, n, ten)
            },
            |k| {
                for &v in &many {
                    let old = k.get(sum);
                    let new = k.fma(old, v, x);
                    k.set(sum, new);
                }
                let n = k.get(count);
                k.check(n, 0, 20);
                let n = k.affine(&[(n, 1)], 1);
                k.set(count, n);
            },
        );
        let (at, sum) = (k.affine(&[(task, part), (i, 1)], 0), k.get(sum));
        k.store(to, at, sum);
    });
    k.finish()
}
