//! Rows of a product cut into tiles: evenly, so that at most two tile sizes occur, and over several
//! spatial rows where one is shorter than a tile.

use egret_loop::{KernelBuilder, V};

/// A repetition, with the stride of every stream (stream 1 is the right operand, which a tile has but one
/// of).
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// How many.
    pub extent: i64,
    /// Elements from one to the next.
    pub strides: Vec<i64>,
}

/// Writes one tile: each stream's index of the first row, and the rows' offsets.
pub type Emit<'a> = &'a mut dyn FnMut(&mut KernelBuilder, &[V], &[Vec<i64>]);

/// The stream that must not vary within a tile.
const FIXED: usize = 1;

/// A cut of rows into tiles.
#[derive(Clone, Debug)]
pub struct Tiling {
    /// Loops around, outermost first.
    outer: Vec<Level>,
    /// Loops within those around, and where there are none, within the tiles: of groups, which have right operands of their own and stand beside one another in
    /// each row. So blocks are rows with all of their groups, as those of other kernels are.
    groups: Vec<Level>,
    /// The level that is cut.
    cut: Level,
    /// Rows of one step of `cut`.
    unit: Level,
    /// Tiles along `cut`.
    tiles: i64,
}

impl Tiling {
    /// Tiles of at most `most` rows. Levels are outermost first and have one stride per stream.
    pub fn new(levels: &[Level], most: i64) -> Tiling {
        let mut merged = merged(levels);
        let one = Level { extent: 1, strides: vec![0; levels.first().map_or(0, |l| l.strides.len())] };
        if merged.last().is_none_or(|l| l.strides[FIXED] != 0) {
            merged.push(one.clone());
        }
        let mut cut = merged.pop().unwrap_or_else(|| one.clone());
        let mut unit = one;
        if cut.extent * 2 <= most && merged.last().is_some_and(|l| l.strides[FIXED] == 0) {
            unit = cut;
            cut = merged.pop().unwrap_or_else(|| unit.clone());
        }
        let steps = (most / unit.extent).max(1);
        let tiles = (cut.extent + steps - 1) / steps;
        let beside = |l: &Level| {
            let [left, rows] = [l.strides[0].abs(), cut.strides[0].abs()];
            l.strides[FIXED] != 0 && left != 0 && left < rows
        };
        let (groups, outer) = merged.into_iter().partition(beside);
        Tiling { outer, groups, cut, unit, tiles }
    }

    /// Levels, of which the first has several turns, as a single one, where what is outside repeats what is inside at equal distances.
    pub fn one_level(levels: &[Level]) -> Option<Level> {
        let mut merged = merged(levels);
        if merged.len() == 1 { merged.pop() } else { None }
    }

    /// All rows.
    pub fn rows(&self) -> i64 {
        self.around() * self.cut.extent * self.unit.extent
    }

    /// How many tiles.
    pub fn tiles(&self) -> i64 {
        self.around() * self.tiles
    }

    fn around(&self) -> i64 {
        self.outer.iter().chain(&self.groups).map(|l| l.extent).product()
    }

    /// Extents and strides of a stream: all places of rows in it.
    pub fn axes(&self, stream: usize) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.outer
            .iter()
            .chain(&self.groups)
            .chain([&self.cut, &self.unit])
            .map(move |l| (l.extent, l.strides[stream]))
    }

    /// The number of blocks of about `target` rows.
    pub fn blocks(&self, target: i64) -> i64 {
        let n = self.pieces();
        let rows = self.rows() / n;
        let each = (target / rows.max(1)).clamp(1, n);
        (n + each - 1) / each
    }

    /// What blocks are made of: turns of the outer loops, or tiles, each with all groups.
    fn pieces(&self) -> i64 {
        self.around() * if self.outer.is_empty() { self.tiles } else { 1 }
    }

    /// The bases of a turn of some levels, by its number; and the number of the turn of what is around them, where that is `within` something.
    fn turn(k: &mut KernelBuilder, levels: &[Level], bases: &[V], at: V, within: bool) -> (Vec<V>, V) {
        let mut left = at;
        let mut terms: Vec<Vec<(V, i64)>> = bases.iter().map(|&b| vec![(b, 1)]).collect();
        for (i, level) in levels.iter().enumerate().rev() {
            let index = if i == 0 && !within {
                left
            } else {
                let n = k.int(level.extent);
                let index = k.rem(left, n);
                left = k.div(left, n);
                index
            };
            terms.iter_mut().zip(&level.strides).for_each(|(t, &stride)| t.push((index, stride)));
        }
        (terms.iter().map(|t| k.affine(t, 0)).collect(), left)
    }

    /// The tiles of one block of `blocks`. `tile` gets each stream's index of the tile's first row, and the
    /// rows' offsets.
    pub fn emit(&self, k: &mut KernelBuilder, block: V, blocks: i64, bases: &[V], tile: Emit) {
        let n = self.pieces();
        let each = (n + blocks - 1) / blocks;
        let begin = k.affine(&[(block, each)], 0);
        let mut end = k.affine(&[(block, each)], each);
        if n % each != 0 {
            let all = k.int(n);
            end = k.min(end, all);
        }
        if self.outer.is_empty() {
            // Blocks are ranges of tiles, of which the first ones are one step longer.
            let longer = self.cut.extent % self.tiles * self.around();
            if blocks == 1 && self.groups.is_empty() {
                return self.all_tiles(k, bases, tile);
            }
            let mut one = |k: &mut KernelBuilder, at: V, long: bool| match &self.groups[..] {
                [] => self.tile(k, bases, at, long, tile),
                groups => {
                    let (bases, t) = Tiling::turn(k, groups, bases, at, true);
                    self.tile(k, &bases, t, long, tile);
                }
            };
            if longer > 0 {
                let most = k.int(longer);
                let stop = k.min(end, most);
                k.for_values(begin, stop, 1, |k, t| one(k, t, true));
            }
            let least = k.int(longer);
            let start = if longer > 0 { k.max(begin, least) } else { begin };
            return k.for_values(start, end, 1, |k, t| one(k, t, false));
        }
        k.for_values(begin, end, 1, |k, at| {
            let levels: Vec<Level> = self.outer.iter().chain(&self.groups).cloned().collect();
            let (bases, _) = Tiling::turn(k, &levels, bases, at, false);
            self.all_tiles(k, &bases, tile);
        });
    }

    fn all_tiles(&self, k: &mut KernelBuilder, bases: &[V], tile: Emit) {
        let longer = self.cut.extent % self.tiles;
        k.for_range(0, longer, 1, |k, t| self.tile(k, bases, t, true, tile));
        k.for_range(longer, self.tiles, 1, |k, t| self.tile(k, bases, t, false, tile));
    }

    /// Tile `t` of the cut level; the first ones (`longer`) have one step more.
    fn tile(&self, k: &mut KernelBuilder, bases: &[V], t: V, longer: bool, tile: Emit) {
        let steps = self.cut.extent / self.tiles + i64::from(longer);
        let before = if longer { 0 } else { self.cut.extent % self.tiles };
        let at: Vec<V> = bases
            .iter()
            .zip(&self.cut.strides)
            .map(|(&base, &stride)| k.affine(&[(base, 1), (t, steps * stride)], before * stride))
            .collect();
        let offsets: Vec<Vec<i64>> = self
            .cut
            .strides
            .iter()
            .zip(&self.unit.strides)
            .map(|(&c, &u)| {
                (0..steps).flat_map(|i| (0..self.unit.extent).map(move |j| i * c + j * u)).collect()
            })
            .collect();
        tile(k, &at, &offsets);
    }
}

/// Levels without those of one turn, and as one where the outer one goes on where the inner one ends.
fn merged(levels: &[Level]) -> Vec<Level> {
    let mut merged: Vec<Level> = vec![];
    for level in levels.iter().filter(|l| l.extent != 1) {
        match merged.last_mut() {
            Some(o) if o.strides.iter().zip(&level.strides).all(|(o, i)| *o == level.extent * i) => {
                *o = Level { extent: o.extent * level.extent, strides: level.strides.clone() };
            }
            _ => merged.push(level.clone()),
        }
    }
    merged
}
