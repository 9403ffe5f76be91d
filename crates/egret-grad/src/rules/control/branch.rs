//! Branches: the reverse is the same choice between what each branch's values say backward.

use super::super::Call;
use super::{node, reads, region, seed, seeded, with_inputs};
use crate::emit::{Emit, Refusal};
use crate::inline::copy_into;
use egret_ir::{Graph, Op, ValueId, attrs};

/// A branch backward that is not finished: it takes the captures and the gradients of results.
struct Backward {
    r: Emit,
    /// Of the captures that are asked for: the value, and its gradient, if the branch gives it any.
    gradients: Vec<(ValueId, Option<ValueId>)>,
}

impl Backward {
    fn of(call: &Call, body: &Graph, captures: &[usize], results: &[usize]) -> Result<Backward, Refusal> {
        let mut r = region(call.e, &format!("{} reversed", body.name));
        r.b.reserve_symbols(body);
        let map = body.inputs().iter().map(|&v| (v, r.b.input("", body.ty(v).clone()))).collect();
        let seeds: Vec<ValueId> = results.iter().map(|&i| seed(&mut r, body, body.outputs()[i])).collect();
        let map = copy_into(&mut r.b.graph, body, map, body.outputs())?;
        let forward = r.b.graph.clone();
        let of = results.iter().map(|&i| map[&body.outputs()[i]]);
        let begin = seeded(&mut r, of.zip(seeds))?;
        let wrt: Vec<ValueId> = captures.iter().map(|&i| map[&body.inputs()[i]]).collect();
        let gradients = (call.within.pulled_back)(&mut r, &forward, begin, &wrt)?;
        Ok(Backward { r, gradients: wrt.into_iter().zip(gradients).collect() })
    }

    /// The region that gives those gradients that either branch has: zeros where this one has none.
    fn finish(mut self, either: &[bool]) -> Result<Graph, Refusal> {
        for ((capture, gradient), _) in self.gradients.into_iter().zip(either).filter(|(_, e)| **e) {
            let ty = self.r.ty(capture);
            let gradient = match gradient {
                Some(gradient) => self.r.cast(gradient, ty.dtype)?,
                None => self.r.zeros(ty.dtype, ty.shape)?,
            };
            self.r.b.output("", gradient);
        }
        self.r.b.graph.remove_dead();
        Ok(self.r.b.graph)
    }
}

/// `if`. Its captures are operands 1 and on.
pub fn branch(call: &mut Call) -> Result<(), Refusal> {
    let captures: Vec<usize> = (0..call.arity() - 1).filter(|&i| call.wants(1 + i)).collect();
    let results: Vec<usize> = (0..call.results()).filter(|&i| call.gradient(i).is_some()).collect();
    let (then, other) = (&call.regions[0], &call.regions[1]);
    let then = Backward::of(call, then, &captures, &results)?;
    let other = Backward::of(call, other, &captures, &results)?;
    let of_both = then.gradients.iter().zip(&other.gradients);
    let either: Vec<bool> = of_both.map(|((_, a), (_, b))| a.is_some() || b.is_some()).collect();
    if !either.contains(&true) {
        return Ok(());
    }
    let (then, other) = (then.finish(&either)?, other.finish(&either)?);
    // Both take what either reads.
    let read: Vec<bool> =
        reads(&then, &[])?.into_iter().zip(reads(&other, &[])?).map(|(a, b)| a || b).collect();
    let regions = vec![with_inputs(&then, &read)?, with_inputs(&other, &read)?];
    let given = (1..call.arity()).map(|i| call.x(i));
    let given = given.chain(results.iter().filter_map(|&i| call.gradient(i)));
    let given = given.zip(&read).filter(|(_, read)| **read).map(|(v, _)| v);
    let operands: Vec<ValueId> = [call.x(0)].into_iter().chain(given).collect();
    let gradients = node(call.e, Op::If, attrs! {}, &operands, regions)?;
    let reached = captures.iter().zip(&either).filter(|(_, e)| **e).map(|(&i, _)| 1 + i);
    for (i, gradient) in reached.zip(gradients) {
        // Where each branch says a dim in its own way it is the capture's all the same.
        let shape = call.ty(i).shape;
        let gradient = call.e.reshape(gradient, shape)?;
        call.give(i, gradient)?;
    }
    Ok(())
}
