//! Permutations of axes between channels-first and channels-last order.

/// Channels-first axes in channels-last order.
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

/// Where a channels-first axis stands in channels-last order.
pub(crate) fn place(axis: i64, rank: usize) -> i64 {
    match axis {
        0 => 0,
        1 => rank as i64 - 1,
        a => a - 1,
    }
}

/// The way back from channels-last order.
pub(crate) fn to_first(rank: usize) -> Vec<i64> {
    (0..rank as i64).map(|i| place(i, rank)).collect()
}
