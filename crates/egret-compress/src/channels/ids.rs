//! Index classes: every index along an axis of a constant has an id, and ids that stand or go together are one class.

/// The id of one index along an axis.
pub type Id = u32;

/// Ids, united into classes. A class that must stay knows why.
#[derive(Default)]
pub struct Ids {
    parent: Vec<Id>,
    fixed: Vec<Option<String>>,
}

impl Ids {
    /// So many new ids, each a class by itself.
    pub fn fresh(&mut self, count: usize) -> Vec<Id> {
        let from = self.parent.len();
        self.parent.extend((from..from + count).map(|i| i as Id));
        self.fixed.resize(from + count, None);
        self.parent[from..].to_vec()
    }

    /// The class of an id: its least id.
    pub fn class(&self, id: Id) -> Id {
        let mut at = id;
        while self.parent[at as usize] != at {
            at = self.parent[at as usize];
        }
        at
    }

    /// Make two classes one.
    pub fn unite(&mut self, a: Id, b: Id) {
        let (a, b) = (self.class(a), self.class(b));
        let (low, high) = (a.min(b), a.max(b));
        if low != high {
            self.parent[high as usize] = low;
            let reason = self.fixed[high as usize].take();
            let slot = &mut self.fixed[low as usize];
            *slot = slot.take().or(reason);
        }
    }

    /// Unite position by position.
    pub fn unite_all(&mut self, a: &[Id], b: &[Id]) {
        a.iter().zip(b).for_each(|(&a, &b)| self.unite(a, b));
    }

    /// Classes that must stay; the first reason counts.
    pub fn fix(&mut self, ids: &[Id], why: &str) {
        for &id in ids {
            let class = self.class(id) as usize;
            self.fixed[class].get_or_insert_with(|| why.to_owned());
        }
    }

    /// Why the class of an id must stay, if it must.
    pub fn why(&self, id: Id) -> Option<&str> {
        self.fixed[self.class(id) as usize].as_deref()
    }
}
