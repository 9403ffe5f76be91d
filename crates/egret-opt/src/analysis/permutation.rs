//! Permutations of axes between channels-first and channels-last order.

/// The permutation from channels-first to channels-last, e.g. `[0, 2, 3, 1]`.
pub(crate) fn to_last(rank: usize) -> Vec<i64> {
    let rank = rank as i64;
    (0..rank)
        .map(|i| {
            if i == 0 {
                0
            } else if i == rank - 1 {
                1
            } else {
                i + 1
            }
        })
        .collect()
}

/// The channels-last position of a channels-first axis: axis 1 becomes the last one.
pub(crate) fn place(axis: i64, rank: usize) -> i64 {
    match axis {
        0 => 0,
        1 => rank as i64 - 1,
        a => a - 1,
    }
}

/// The permutation from channels-last to channels-first, e.g. `[0, 3, 1, 2]`.
pub(crate) fn to_first(rank: usize) -> Vec<i64> {
    (0..rank as i64).map(|i| place(i, rank)).collect()
}
