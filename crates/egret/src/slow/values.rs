//! What the values of a kernel are: how each is made, which say where or how often, which come from buffers.

use egret_loop::{BinOp, Inst, Kernel, Local, Stmt, Tile, V};
use std::collections::{BTreeMap, BTreeSet};

/// The values of a kernel.
pub struct Values<'a> {
    /// How each is made; nothing for variables of loops.
    made: Vec<Option<&'a Inst>>,
    places: BTreeSet<V>,
    data: BTreeSet<V>,
}

impl<'a> Values<'a> {
    /// Of a kernel.
    pub fn of(kernel: &'a Kernel) -> Values<'a> {
        let n = kernel.types.len();
        let mut found = Found { made: vec![None; n], sets: BTreeMap::new(), places: vec![] };
        found.block(&kernel.body);
        let Found { made, sets, places: mut open } = found;
        let mut places = BTreeSet::new();
        while let Some(v) = open.pop() {
            if !places.insert(v) {
                continue;
            }
            match made.get(v.0 as usize).copied().flatten() {
                // What is compared, and what is read, is no place by that.
                Some(Inst::Compare(..) | Inst::Load(..) | Inst::LoadFirst(..)) | None => {}
                Some(Inst::Get(local)) => open.extend(sets.get(local).into_iter().flatten()),
                Some(inst) => inst.for_operands(|&v| open.push(v)),
            }
        }
        let data = from_buffers(&made, &sets);
        Values { made, places, data }
    }

    /// How a value is made; nothing for a variable of a loop.
    pub fn made(&self, v: V) -> Option<&'a Inst> {
        self.made.get(v.0 as usize).copied().flatten()
    }

    /// Whether it says where or how often, not what.
    pub fn is_place(&self, v: V) -> bool {
        self.places.contains(&v)
    }

    /// Whether it comes from the elements of buffers.
    pub fn is_data(&self, v: V) -> bool {
        self.data.contains(&v)
    }

    /// What is added to an index when a variable is one more; nothing where it is not a multiple of it.
    pub fn factor(&self, index: V, variable: V) -> Option<i64> {
        if index == variable {
            return Some(1);
        }
        match self.made(index) {
            Some(Inst::Affine(terms, _)) => terms
                .iter()
                .try_fold(0i64, |sum, (v, c)| sum.checked_add(self.factor(*v, variable)?.checked_mul(*c)?)),
            Some(Inst::Binary(BinOp::Add, a, b)) => {
                self.factor(*a, variable)?.checked_add(self.factor(*b, variable)?)
            }
            Some(Inst::Const(..)) | None => Some(0),
            Some(_) => None,
        }
    }
}

/// What one look at all statements finds.
struct Found<'a> {
    made: Vec<Option<&'a Inst>>,
    sets: BTreeMap<Local, Vec<V>>,
    /// Values that are indices, bounds, or held to a range.
    places: Vec<V>,
}

impl<'a> Found<'a> {
    fn block(&mut self, stmts: &'a [Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => {
                    if let Some(slot) = self.made.get_mut(v.0 as usize) {
                        *slot = Some(inst);
                    }
                    if let Inst::Load(_, index, _) | Inst::LoadFirst(_, index, ..) = inst {
                        self.places.push(*index);
                    }
                }
                Stmt::Set(local, v) => self.sets.entry(*local).or_default().push(*v),
                Stmt::Store { index, .. } | Stmt::StoreFirst { index, .. } => self.places.push(*index),
                Stmt::For { begin, end, body, .. } => {
                    self.places.extend([*begin, *end]);
                    self.block(body);
                }
                Stmt::While { head, body, .. } => {
                    self.block(head);
                    self.block(body);
                }
                Stmt::If { then, otherwise, .. } => {
                    self.block(then);
                    self.block(otherwise);
                }
                Stmt::Check { value, low, high } => {
                    self.places.extend([low.value(), high.value(), Some(*value)].into_iter().flatten());
                }
                Stmt::Tile(tile) => self.places.extend(Tile::places(tile).map(|p| p.base)),
            }
        }
    }
}

/// The values that come from elements of buffers, by whatever is computed of them.
fn from_buffers(made: &[Option<&Inst>], sets: &BTreeMap<Local, Vec<V>>) -> BTreeSet<V> {
    let (mut data, mut locals) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let before = (data.len(), locals.len());
        for (i, inst) in made.iter().enumerate() {
            let Some(inst) = inst else { continue };
            let mut is_data = match inst {
                Inst::Load(..) | Inst::LoadFirst(..) => true,
                Inst::Get(local) => locals.contains(local),
                _ => false,
            };
            inst.for_operands(|v| is_data |= data.contains(v));
            if is_data {
                data.insert(V(i as u32));
            }
        }
        for (local, values) in sets {
            if values.iter().any(|v| data.contains(v)) {
                locals.insert(*local);
            }
        }
        if before == (data.len(), locals.len()) {
            return data;
        }
    }
}
