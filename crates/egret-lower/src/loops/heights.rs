//! Code for every value of a small number that only a run knows.

use egret_loop::{Cmp, KernelBuilder, V};

/// Writes `body` for each number from `low` to `high`, of which the one runs that a value is; the value is one of them.
pub fn of_height(
    k: &mut KernelBuilder,
    value: V,
    (low, high): (i64, i64),
    body: &mut dyn FnMut(&mut KernelBuilder, i64),
) {
    if low == high {
        return body(k, low);
    }
    let middle = (low + high) / 2;
    let bound = k.int(middle);
    let lower = k.compare(Cmp::Le, value, bound);
    let body = std::cell::RefCell::new(body);
    k.if_(
        lower,
        |k| of_height(k, value, (low, middle), &mut **body.borrow_mut()),
        |k| of_height(k, value, (middle + 1, high), &mut **body.borrow_mut()),
    );
}
