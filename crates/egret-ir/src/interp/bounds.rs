//! Bounds of a run, by counts and sizes and never by time; and how far a run is.

use super::support::{MAX_BYTES, Res};
use super::{EvalError, Fault};
use crate::{DimEnv, Type, ValueId};
use egret_float::Denormals;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a run may take, and who looks on.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Bytes of memory: a value that needs more is refused before it is computed.
    pub bytes: Option<u64>,
    /// Iterations of all `loop` nodes together.
    pub trips: Option<u64>,
    /// Where to say how far the run is.
    pub progress: Option<Arc<Progress>>,
}

/// How far a run is, for another thread to read.
#[derive(Debug, Default)]
pub struct Progress {
    /// Nodes of the graph that are done, regions counted as part of their node.
    pub done: AtomicUsize,
    /// All of them.
    pub nodes: AtomicUsize,
    /// Iterations of loops so far.
    pub trips: AtomicU64,
}

/// What a run has taken of its bounds.
pub(super) struct Meter<'a> {
    bounds: &'a Bounds,
    trips: Cell<u64>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(bounds: &'a Bounds) -> Meter<'a> {
        Meter { bounds, trips: Cell::new(0) }
    }
}

/// What is around a graph or an operation that runs.
#[derive(Copy, Clone)]
pub(super) struct Around<'a> {
    /// The symbols that are visible.
    pub env: &'a DimEnv,
    pub meter: &'a Meter<'a>,
    /// Whether it is part of a node, not the whole graph.
    pub inner: bool,
    /// What becomes of subnormal numbers.
    pub denormals: Denormals,
}

impl Around<'_> {
    /// Another iteration of a loop begins.
    pub fn trip(&self) -> Res<()> {
        let bounds = self.meter.bounds;
        let before = self.meter.trips.get();
        if let Some(most) = bounds.trips.filter(|&most| before >= most) {
            let message = format!("loops ran {most} times, and this one has not ended");
            return Err(EvalError { at: String::new(), message, fault: Fault::Trips });
        }
        self.meter.trips.set(before + 1);
        if let Some(p) = &bounds.progress {
            p.trips.store(before + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A node begins, so many being done.
    pub fn at_node(&self, done: usize, nodes: usize) {
        if let (Some(p), false) = (&self.meter.bounds.progress, self.inner) {
            p.done.store(done, Ordering::Relaxed);
            p.nodes.store(nodes, Ordering::Relaxed);
        }
    }

    /// Refuse a value that memory cannot hold, before anything is allocated for it; sizes that are not known yet are left to
    /// the operation.
    pub fn room_for(&self, name: &str, id: ValueId, ty: &Type) -> Res<()> {
        let Some(t) = ty.as_tensor() else { return Ok(()) };
        let dims: Option<Vec<i64>> = t.shape.iter().map(|d| d.eval(self.env)).collect();
        let Some(dims) = dims.filter(|d| !d.contains(&0)) else { return Ok(()) };
        if let Some(below) = dims.iter().find(|d| **d < 0) {
            let what = if name.is_empty() { id.to_string() } else { format!("`{name}`") };
            let message = format!("the value {what} ({t}) would have a dim of {below}");
            return Err(EvalError { at: String::new(), message, fault: Fault::Model });
        }
        let bytes = dims
            .iter()
            .try_fold(t.dtype.size().max(1) as u64, |a, &d| a.checked_mul(u64::try_from(d).ok()?));
        let (most, whose) = match self.meter.bounds.bytes {
            Some(b) if b < MAX_BYTES as u64 => (b, "this process can have"),
            _ => (MAX_BYTES as u64, "the interpreter takes for one value"),
        };
        if bytes.is_some_and(|b| b <= most) {
            return Ok(());
        }
        let what = if name.is_empty() { id.to_string() } else { format!("`{name}`") };
        let message = format!(
            "not enough memory: the value {what} ({}) needs {}, more than the {} that {whose}",
            t.substitute(self.env),
            bytes.map_or_else(|| "more than 16 EiB".to_owned(), size_text),
            size_text(most),
        );
        Err(EvalError { at: String::new(), message, fault: Fault::Memory })
    }
}

/// A number of bytes as text, e.g. `1.5 GiB`: three digits at most, so that a limit is not a different number every day.
pub fn size_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 10.0 && value.fract() > 0.0 { 1 } else { 0 };
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::run_with;
    use crate::{Graph, Tensor, Value, text};

    fn run_within(graph: &Graph, inputs: &[Value], bounds: &Bounds) -> Res<Vec<Value>> {
        run_with(graph, inputs, Denormals::Keep, bounds)
    }

    /// A value that no memory holds is refused by name before it is computed, wherever it is.
    #[test]
    fn huge_values_are_refused() {
        let graph =
            text::parse("graph @g(%0: f32[a, 1], %1: f32[1, b]) -> (%2) { %2 = add(%0, %1) }", &|_| None)
                .unwrap();
        let x = |shape: &[usize]| Tensor::new(shape, vec![1f32; shape.iter().product()]).into();
        let inputs = [x(&[1 << 14, 1]), x(&[1, 1 << 20])];
        let e = run_within(&graph, &inputs, &Bounds::default()).unwrap_err();
        assert_eq!(e.fault, Fault::Memory);
        let said = "not enough memory: the value %2 (f32[16384, 1048576]) needs 64 GiB, more than the 8 GiB that the \
                    interpreter takes for one value";
        assert!(e.message == said && !e.at.is_empty(), "{e}");
        let bounds = Bounds { bytes: Some(1 << 10), ..Bounds::default() };
        let e = run_within(&graph, &[x(&[32, 1]), x(&[1, 32])], &bounds).unwrap_err();
        assert!(e.message.ends_with("needs 4 KiB, more than the 1 KiB that this process can have"), "{e}");
        assert!(run_within(&graph, &[x(&[16, 1]), x(&[1, 16])], &bounds).is_ok());
    }

    /// A loop that never ends is given up after the trips that it may run.
    #[test]
    fn endless_loops_are_given_up() {
        let graph = text::parse(
            "graph @g(%0: f32[2]) -> (%4) { %2 = const bool[] [true] \
             %4 = loop(_, %2, %0) {carried = 1, has_cond = 1, has_trip_count = 0} : f32[2] \
             body graph @body(%0: i64[], %1: bool[], %2: f32[2]) -> (%1, %3) { %3 = neg(%2) } }",
            &|_| None,
        )
        .unwrap();
        let x = Tensor::new(&[2], vec![1f32; 2]).into();
        let progress = Arc::new(Progress::default());
        let bounds = Bounds { trips: Some(7), progress: Some(progress.clone()), ..Bounds::default() };
        let e = run_within(&graph, &[x], &bounds).unwrap_err();
        assert_eq!((e.fault, progress.trips.load(Ordering::Relaxed)), (Fault::Trips, 7), "{e}");
        assert!(e.message.contains("loops ran 7 times"), "{e}");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(["4 B", "1.5 KiB", "23 GiB"], [4, 1536, 23 << 30].map(size_text));
    }
}
