//! Machines as data: what the optimiser and lowering know of the CPU that they work for.
//!
//! Each target has a file in `ir-spec/targets` ([`Machine::of`]), which says all or what differs from another target; a CPU family of the same instruction set may have another in
//! `ir-spec/targets/machines`, or a user one anywhere ([`Machine::parse`]), which changes some of its lines. What code may use
//! (features) and how it is encoded are the code generator's.

#![forbid(unsafe_code)]

mod cost;
mod file;

pub use cost::CostModel;
pub use file::MachineError;

use file::Kind;
use std::sync::LazyLock;

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// A machine. `ir-spec/targets/README.md` says what each number means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The name of its file.
    pub name: String,
    /// The instruction set that its code is of, a target.
    pub isa: String,
    /// Bytes of its widest vectors.
    pub vector_bytes: usize,
    /// Registers for such vectors.
    pub registers: usize,
    /// Registers that the mask of a narrower last vector takes.
    pub mask_registers: usize,
    /// Bytes of the widest vectors that kernels beside the leaf of contractions are written in.
    pub kernel_bytes: usize,
    /// Registers that hold whole tiles, of [`TILE_ROWS`] rows of a vector each.
    pub tile_registers: usize,
    /// Rows and columns of the contraction tiles that run at its best rate, of equally good ones the first is taken; one of them is a
    /// vector wide.
    pub tiles: Vec<(usize, usize)>,
    /// The same for products of bytes by many rows, where registers hold whole tiles of them; none where `tiles` serve them too.
    pub byte_tiles: Vec<(usize, usize)>,
    /// Vectors of sums that hide the latency of a multiply-add.
    pub sums: usize,
    /// Rows that a task works through before the next panel of columns.
    pub block_rows: i64,
    /// Loads of an element that cost what the load of a vector of the right operand does.
    pub vector_load: i64,
    /// Loads of an element that cost what a multiply-add does.
    pub loads_per_fma: i64,
    /// 1 where it multiplies two halves of a vector in the time of a whole one, else 0.
    pub half_vectors: usize,
    /// Bytes of the first-level data cache.
    pub l1_bytes: usize,
    /// Bytes of the second-level cache.
    pub l2_bytes: usize,
    /// Bytes that caches fetch and keep at once.
    pub line_bytes: usize,
    /// What nodes cost.
    pub costs: CostModel,
}

/// Rows of a tile register: those of AMX.
pub const TILE_ROWS: usize = 16;

static ALL: LazyLock<(Vec<Machine>, Vec<Machine>)> = LazyLock::new(|| {
    let read = |name: &str, text: &str, kind: Kind<'_>| {
        let file = format!("ir-spec/targets/{name}.toml");
        file::read(name, &file, text, kind)
            .unwrap_or_else(|e| panic!("a file of Egret's own is broken: {e}"))
    };
    let mut targets: Vec<Machine> = vec![];
    let mut left = TARGETS.to_vec();
    while !left.is_empty() {
        // A target behind the one that it changes. In a circle none is, and reading says so.
        let ready = |text: &str| file::base_of(text).is_none_or(|b| targets.iter().any(|t| t.name == b));
        let next = left.iter().position(|(_, text)| ready(text)).unwrap_or(0);
        let (name, text) = left.remove(next);
        let target = read(name, text, Kind::Target(&targets));
        targets.push(target);
    }
    let machines = MACHINES.iter().map(|(name, text)| read(name, text, Kind::Machine(&targets))).collect();
    (targets, machines)
});

impl Machine {
    /// The machine that code for a target is written for.
    pub fn of(target: &str) -> Option<&'static Machine> {
        ALL.0.iter().find(|m| m.name == target)
    }

    /// The machines that code for targets is written for: the files of `ir-spec/targets`, each behind the one that it changes.
    pub fn targets() -> &'static [Machine] {
        &ALL.0
    }

    /// The machines of `ir-spec/targets/machines`.
    pub fn families() -> &'static [Machine] {
        &ALL.1
    }

    /// A machine from the text of a file, which says what is different from its target; `file` is what errors call it.
    ///
    /// # Errors
    /// The first line that is wrong, and why.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Machine, MachineError> {
        file::read(name, file, text, Kind::Machine(&ALL.0))
    }

    /// The text of its file, without comments: its target, and all that a machine's file may say.
    pub fn to_toml(&self) -> String {
        file::write(self)
    }

    /// Floats in a vector.
    pub fn lanes(&self) -> usize {
        self.vector_bytes / 4
    }

    /// The partial sums per element, one of `choices`, that a tile should have: few sums do not hide the latency of a
    /// multiply-add, so that successive steps then sum into several sets. All fit in the registers.
    pub fn sets(&self, rows: usize, cols: usize, choices: &[usize]) -> usize {
        let vectors = cols.div_ceil(self.lanes());
        let mask = if cols.is_multiple_of(self.lanes()) { 0 } else { self.mask_registers };
        let hides = |s: &usize| rows * vectors * s >= self.sums;
        let enough = choices.iter().copied().find(hides).or(choices.last().copied()).unwrap_or(1);
        let fits = |s: &usize| *s <= enough && registers(rows, vectors, *s) + mask <= self.registers;
        choices.iter().copied().rfind(fits).unwrap_or(1)
    }

    /// Why a tile cannot be one of [`Machine::tiles`].
    pub fn refuses(&self, (rows, cols): (usize, usize)) -> Option<String> {
        let lanes = self.lanes();
        if rows == 0 || cols == 0 || !cols.is_multiple_of(lanes) {
            return Some(format!("its columns must be whole vectors, of {lanes} floats each"));
        }
        let vectors = cols / lanes;
        let taken = rows.saturating_mul(vectors).saturating_add(if rows == 1 { 1 } else { vectors });
        (taken > self.registers).then(|| {
            format!(
                "it holds {taken} vectors at once ({rows} x {vectors} sums and a row of the right operand), and {} has {} \
                 registers",
                self.isa, self.registers
            )
        })
    }

    /// Why a tile cannot be one of [`Machine::byte_tiles`]: its sums and a step of both operands must fit the registers that hold whole
    /// tiles. Without such registers it is a tile like others.
    pub fn refuses_bytes(&self, (rows, cols): (usize, usize)) -> Option<String> {
        if self.tile_registers == 0 {
            return self.refuses((rows, cols));
        }
        let lanes = self.lanes();
        if rows == 0 || cols == 0 || !cols.is_multiple_of(lanes) {
            return Some(format!("its columns must be whole vectors, of {lanes} sums each"));
        }
        let (down, across) = (rows.div_ceil(TILE_ROWS), cols / lanes);
        let taken = down.saturating_mul(across).saturating_add(down).saturating_add(across);
        (taken > self.tile_registers).then(|| {
            format!(
                "it holds {taken} tile registers at once ({down} x {across} of sums, {down} and {across} of the operands), and {} \
                 has {}",
                self.isa, self.tile_registers
            )
        })
    }
}

/// Rows of at least so many elements are read in vectors: of fewer, their sum takes longer than their products.
const LONG_ROW: i64 = 64;

/// Whether a product of floats by so many columns, over so many elements each, is computed as the sums of rows: by one column, whose
/// tile would be of scalars.
pub fn sums_rows(columns: i64, elements: i64) -> bool {
    columns == 1 && elements >= LONG_ROW
}

/// Registers of a tile of so many rows, vectors of columns and partial sums per element: its sums, a row of the right operand
/// (a single row multiplies it from memory; only a narrower last vector needs a register) and an element of the left one.
pub fn registers(rows: usize, vectors: usize, sets: usize) -> usize {
    rows * vectors * sets + if rows == 1 { 1 } else { vectors } + 1
}
