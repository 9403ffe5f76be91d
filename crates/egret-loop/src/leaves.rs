//! The tiles of kernels, for engines that give each a function of its own.

use crate::{Elem, Kernel, Param, ParamInfo, Place, Stmt, Tile, V};

/// The tiles of a kernel, in the order in which they stand in its body.
pub fn tiles(kernel: &Kernel) -> Vec<&Tile> {
    fn visit<'k>(stmts: &'k [Stmt], found: &mut Vec<&'k Tile>) {
        for stmt in stmts {
            match stmt {
                Stmt::Tile(t) => found.push(t),
                Stmt::For { body, .. } => visit(body, found),
                Stmt::While { head, body, .. } => [head, body].into_iter().for_each(|b| visit(b, found)),
                Stmt::If { then, otherwise, .. } => {
                    [then, otherwise].into_iter().for_each(|b| visit(b, found))
                }
                Stmt::Let(..)
                | Stmt::Set(..)
                | Stmt::Store { .. }
                | Stmt::StoreFirst { .. }
                | Stmt::Check { .. } => {}
            }
        }
    }
    let mut found = vec![];
    visit(&kernel.body, &mut found);
    found
}

/// What the code of a tile depends on: the tile without its places, and their element types. Tiles of one key may share a function.
pub type LeafKey = (Tile, Vec<Option<Elem>>);

/// The key of a tile of a kernel with these parameters.
pub fn leaf_key(tile: &Tile, params: &[ParamInfo]) -> LeafKey {
    let mut tile = tile.clone();
    let elem = |p: &Place| params.get(p.param.0 as usize).map(|i| i.elem);
    let elems = tile.places().map(elem).collect();
    for place in tile.places_mut() {
        *place = Place { param: Param(0), base: V(0) };
    }
    (tile, elems)
}
