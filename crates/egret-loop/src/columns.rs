//! How a contraction tile is cut for registers of 128 bits, by engines that have no others.

/// One vector (or scalar) of columns.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Column {
    /// First column.
    pub offset: i64,
    /// 4 or 1.
    pub lanes: u8,
    /// First lane that is stored: the last vector of a tile overlaps the one before it if the columns are no multiple of 4.
    pub first: u8,
}

/// The columns of a tile, in vectors of four where there are so many.
pub fn columns(cols: usize) -> Vec<Column> {
    if cols < 4 {
        return (0..cols as i64).map(|offset| Column { offset, lanes: 1, first: 0 }).collect();
    }
    let mut all: Vec<_> =
        (0..cols as i64 / 4).map(|i| Column { offset: 4 * i, lanes: 4, first: 0 }).collect();
    if !cols.is_multiple_of(4) {
        all.push(Column { offset: cols as i64 - 4, lanes: 4, first: 4 - (cols % 4) as u8 });
    }
    all
}

/// Rows and columns (in vectors) of the blocks that a tile is cut into.
///
/// A sum can be added to every four cycles and two additions start per cycle, so eight sums keep the units busy. Measured: all
/// blocks of up to eight sums take the same time per step (4x2 runs at 88 % of the peak), while larger ones, which would read a
/// and b less often, are slower: Cranelift has only the form of multiply-add that overwrites a factor, and the copies it
/// makes for that overflow 16 registers. One row or one column of ten still fits.
///
/// Every set of sums needs as many registers again.
pub fn block_shape(rows: usize, columns: usize, registers: usize, sets: usize) -> (usize, usize) {
    let most = (registers / 2 / sets).max(1);
    let mut best = (usize::MAX, 0, 1, 1);
    for w in 1..=columns.min(most + 2) {
        for h in 1..=rows.min(most + 2) {
            let sums = h * w;
            if sums > most && (h.min(w) > 1 || sums > most + 2) {
                break;
            }
            let blocks = rows.div_ceil(h) * columns.div_ceil(w);
            let cost = (blocks * sums.max(8), h + w, h, w);
            best = best.min(cost);
        }
    }
    (best.2, best.3)
}

/// Cut into pieces of at most `most`, as even as possible.
pub fn pieces<T>(all: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    let n = all.len().div_ceil(most).max(1);
    (0..n).map(move |i| &all[all.len() * i / n..all.len() * (i + 1) / n])
}
