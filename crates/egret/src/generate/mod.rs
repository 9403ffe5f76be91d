//! A language model that goes on with a text, token by token: from a model whose inputs are tokens and whose outputs are a score for each
//! token that may come next. What it keeps of the tokens before (a cache of keys and values, as exporters of decoders write it) grows where it
//! is (`caches`); a model without such a cache is run on all tokens again.

mod caches;
mod last;
mod mask;
mod roles;
mod step;

use self::caches::{Cache, Rows, append};
use self::roles::{Port, Role, mask_and_count, ports, roles};
use self::step::{Given, Made};
use crate::engine::Executable;
use crate::error::{Error, Result};
use egret_ir::rng::Rng;
use egret_ir::{Builder, DType, Dim, Graph, Tensor, TypeError, Value, ValueId};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How the next token is chosen from the scores.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The one with the highest score; of equal ones the first.
    Greedy,
    /// Drawn by the softmax of the scores.
    Sample {
        /// What scores are divided by: more than 0.
        temperature: f64,
        /// Of so many of the highest scores only; 0: of all.
        top_k: usize,
        /// Of the highest scores whose shares come to this part; 1: of all.
        top_p: f64,
        /// What the draws are made from.
        seed: u64,
    },
}

/// How long a text goes on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most tokens.
    pub count: usize,
    /// Tokens that end it; the one that does is the last.
    pub stop: Vec<i64>,
    /// How each is chosen.
    pub choice: Choice,
}

/// The input that says whether a step goes on from a cache, as exporters call it that put a decoder with and one without a cache into the branches
/// of one model.
pub const BRANCH: &str = "use_cache_branch";

/// A model that goes on with texts.
pub struct Decoder {
    /// What makes the first step, where that is another graph.
    first: Option<Box<Decoder>>,
    executable: Executable,
    inputs: Vec<(Port, Role)>,
    /// For each input, the value that is given for it, if one is.
    held: Vec<Option<Made>>,
    /// For each input, the axis along which the model gives new rows of it, if it is a cache that grows by rows.
    rows: Vec<Option<usize>>,
    /// The output of scores.
    scores: usize,
    /// How many tokens have a score, where the model's types say so.
    known: Option<usize>,
}

/// Adds nodes to a graph.
///
/// # Errors
/// A rule of types that is broken, which an unverified graph may cause.
fn build<T>(
    graph: &mut Graph,
    make: impl FnOnce(&mut Builder) -> std::result::Result<T, TypeError>,
) -> Result<T> {
    let mut b = Builder::from_graph(std::mem::replace(graph, Graph::new("")));
    let made = make(&mut b);
    *graph = b.graph;
    made.map_err(|e| Error::internal(e.to_string()))
}

/// Gives the nodes that use an input another value instead, which `make` adds.
///
/// # Errors
/// A rule of types that is broken, which an unverified graph may cause.
fn instead(
    graph: &mut Graph,
    input: ValueId,
    make: impl FnOnce(&mut Builder) -> std::result::Result<ValueId, TypeError>,
) -> Result<()> {
    let users = graph.users(input);
    let made = build(graph, make)?;
    for n in users {
        for i in 0..graph.node(n).operands.len() {
            if graph.node(n).operands[i] == Some(input) {
                graph.set_operand(n, i, made);
            }
        }
    }
    Ok(())
}

impl Decoder {
    /// A model, ready: `make` compiles its graph, for a batch of one text and with all other dims as they are. Inputs in `given` have
    /// the same value in all steps.
    ///
    /// # Errors
    /// A model that is no decoder; an input of which is not known what it is for, and that is not given; what `make` fails by.
    pub fn new(
        mut graph: Graph,
        given: &BTreeMap<String, Value>,
        make: impl FnOnce(Graph) -> Result<Executable>,
    ) -> Result<Decoder> {
        let (inputs, scores) = roles(&graph, given)?;
        // The first dim of everything is the batch.
        let first = inputs.iter().filter(|(port, _)| port.ty.shape.len() > 1);
        let batch: Vec<String> =
            first.filter_map(|(port, _)| Some(port.ty.shape[0].as_symbol()?.to_owned())).collect();
        graph.bind_dims(&batch.into_iter().map(|name| (name, 1)).collect());
        let mut rows = vec![None; inputs.len()];
        for (i, (_, role)) in inputs.iter().enumerate() {
            if let Role::Cache(output) = role {
                rows[i] = append(&mut graph, i, *output)?;
            }
        }
        if let Some((mask, count)) = mask_and_count(&inputs) {
            mask::ones(&mut graph, mask, &count)?;
        }
        let tokens = inputs.iter().find(|(_, role)| *role == Role::Tokens);
        if let Some(tokens) = tokens.and_then(|(port, _)| port.ty.shape.last()) {
            last::row(&mut graph, scores, tokens)?;
        }
        let [ports, _] = ports(&graph)?;
        let inputs: Vec<(Port, Role)> =
            ports.into_iter().zip(inputs).map(|(port, (_, role))| (port, role)).collect();
        let held = inputs.iter().map(|(port, _)| given.get(&port.name).map(|v| held(port, v)).transpose());
        let held = held.collect::<Result<_>>()?;
        let known = graph.tensor_ty(graph.outputs()[scores]).shape.last().and_then(Dim::as_const);
        let known = known.and_then(|n| usize::try_from(n).ok());
        Ok(Decoder { first: None, executable: make(graph)?, inputs, held, rows, scores, known })
    }

    /// The same, whose first step, from no cache, is made by another: the model where [`BRANCH`] is false, and this the one where it is true.
    #[must_use]
    pub fn begun_by(self, first: Decoder) -> Decoder {
        Decoder { first: Some(Box::new(first)), ..self }
    }

    /// How many tokens have a score, where the model's types say so.
    pub fn known(&self) -> Option<usize> {
        self.known
    }

    /// Goes on with a text; `each` gets every token when it is known, and says whether another one is wanted.
    ///
    /// # Errors
    /// A text without tokens; a token that the model does not know; what a run or `each` fails by; scores that are no numbers.
    pub fn generate(
        &self,
        text: &[i64],
        settings: &Settings,
        each: &mut dyn FnMut(i64) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<i64>> {
        if text.is_empty() {
            return Err(Error::user("no tokens to go on with; give at least one, e.g. --tokens 1"));
        }
        if let Some(token) = text.iter().chain(&settings.stop).find(|t| **t < 0) {
            return Err(Error::user(format!("the token {token}: tokens are whole numbers, 0 or more")));
        }
        self.known.map_or(Ok(()), |known| fits(text, settings, known))?;
        let mut rng = Rng::new(if let Choice::Sample { seed, .. } = settings.choice { seed } else { 0 });
        let keeps = self.inputs.iter().any(|(_, role)| matches!(role, Role::Cache(_)));
        let room = text.len().saturating_add(settings.count.min(ROOM));
        let mut caches = self.caches(room)?;
        let (mut all, mut made) = (text.to_vec(), vec![]);
        // The tokens of the next step are those behind so many.
        let mut done = 0;
        while all.len() < text.len() + settings.count {
            let first = self.first.as_deref().filter(|_| done == 0);
            let (step, none) = (first.unwrap_or(self), first.map(|first| first.caches(0)).transpose()?);
            let others = step.inputs(&all, done)?;
            let given = none.as_ref().unwrap_or(&caches).iter().zip(others.iter().zip(&step.held));
            let given = given.filter_map(|(cache, (other, held))| match cache {
                Some(cache) => Some(cache.given()),
                None => other.as_ref().or(held.as_ref()).map(Made::given),
            });
            step::run(&step.executable, &given.collect::<Vec<_>>(), &mut made)?;
            let scores = last_row(&made[step.scores].given())?;
            fits(text, settings, scores.len())?;
            let next = choose(&scores, &settings.choice, &mut rng)?;
            if keeps {
                self.keep(&mut caches, &mut made, all.len(), all.len() - done)?;
                done = all.len();
            }
            all.push(next);
            if each(next)?.is_break() || settings.stop.contains(&next) {
                break;
            }
        }
        Ok(all.split_off(text.len()))
    }

    /// For each input that is a cache, one of no tokens and with room for so many.
    fn caches(&self, room: usize) -> Result<Vec<Option<Cache>>> {
        let inputs = self.inputs.iter().zip(&self.rows);
        inputs.map(|((port, role), rows)| empty(port, *role, *rows, room)).collect()
    }

    /// Takes what the model has given for its caches in a step on the last `new` of `count` tokens, and holds it to be of these or of all of
    /// them: a whole cache of the last step's alone would have to be joined to the one before.
    fn keep(
        &self,
        caches: &mut [Option<Cache>],
        made: &mut [Made],
        count: usize,
        new: usize,
    ) -> Result<()> {
        for ((port, role), cache) in self.inputs.iter().zip(caches) {
            let (Role::Cache(output), Some(cache)) = (role, cache) else { continue };
            let made = &mut made[*output];
            let (have, want) = match cache {
                Cache::Rows(rows) => (rows.extend(made)?, new),
                Cache::Whole(whole) => {
                    std::mem::swap(whole, made);
                    let free = |(dim, _): &(&Dim, &i64)| dim.as_const().is_none();
                    let have =
                        port.ty.shape.iter().zip(&whole.dims).find(free).map(|(_, have)| *have as usize);
                    (have.unwrap_or(count), count)
                }
            };
            if have != want {
                return Err(Error::unsupported(format!(
                    "what the model keeps for `{}` is of {have} tokens where there are {want}: generate takes models whose caches \
                     grow by the tokens of each step",
                    port.name
                )));
            }
        }
        Ok(())
    }

    /// The inputs of a step on all tokens behind the first `done`, but for caches and what is given.
    fn inputs(&self, all: &[i64], done: usize) -> Result<Vec<Option<Made>>> {
        let given = |(port, role): &(Port, Role)| -> Result<Option<Made>> {
            let numbers: Vec<f64> = match role {
                Role::Cache(_) | Role::Held => return Ok(None),
                Role::Branch => vec![if done > 0 { 1.0 } else { 0.0 }],
                Role::Tokens => all[done..].iter().map(|&t| t as f64).collect(),
                Role::Mask => vec![1.0; all.len()],
                Role::Types => vec![0.0; all.len() - done],
                Role::Positions => (done..all.len()).map(|i| i as f64).collect(),
            };
            let n = numbers.len();
            let shape = match port.ty.shape.len() {
                0 => vec![],
                1 => vec![n],
                _ => vec![1, n],
            };
            let fits = |(have, want): (&usize, &Dim)| want.as_const().is_none_or(|w| w == *have as i64);
            if !shape.iter().zip(port.ty.shape.iter()).all(fits) {
                return Err(Error::unsupported(format!(
                    "the input `{}` is {}, and a step needs {shape:?}: generate takes models whose sequence and cache are free (a value \
                     for another input fixes the dims that both have)",
                    port.name, port.ty
                )));
            }
            Made::of(&Tensor::from_f64s(port.ty.dtype, &shape, numbers)).map(Some)
        };
        self.inputs.iter().map(given).collect()
    }
}

/// The value that is given for an input.
fn held(port: &Port, value: &Value) -> Result<Made> {
    let tensor = value.as_tensor().filter(|t| t.dtype() != DType::String);
    let tensor = tensor.ok_or_else(|| {
        Error::unsupported(format!("the value for the input `{}` is no tensor of numbers", port.name))
    })?;
    let same = |(have, want): (&usize, &Dim)| want.as_const().is_none_or(|w| w == *have as i64);
    let (have, want) = (tensor.shape(), &port.ty.shape);
    if have.len() != want.len() || !have.iter().zip(want.iter()).all(same) {
        return Err(Error::user(format!(
            "the input `{}` is {}, and the value given for it is {}",
            port.name,
            port.ty,
            tensor.ty()
        )));
    }
    Made::of(tensor)
}

/// That a model which scores so many tokens knows those of a text and those that end it.
fn fits(text: &[i64], settings: &Settings, known: usize) -> Result<()> {
    let unknown = |t: &&i64| usize::try_from(**t).is_ok_and(|t| t >= known);
    let what = match (text.iter().find(unknown), settings.stop.iter().find(unknown)) {
        (Some(token), _) => format!("the token {token}"),
        (None, Some(token)) => format!("the token {token}, which ends the text"),
        (None, None) => return Ok(()),
    };
    Err(Error::user(format!("{what}: the model knows {known}, from 0 on")))
}

/// Tokens behind the text for which caches have room at first, if there will be so many.
const ROOM: usize = 256;

/// A cache of no tokens: its free dim is 0. None for other inputs.
fn empty(port: &Port, role: Role, rows: Option<usize>, room: usize) -> Result<Option<Cache>> {
    if !matches!(role, Role::Cache(_)) {
        return Ok(None);
    }
    if let Some(axis) = rows {
        return Ok(Some(Cache::Rows(Rows::new(port.ty.dtype, &port.ty.shape, axis, room)?)));
    }
    let shape: Vec<usize> = port.ty.shape.iter().map(|d| d.as_const().map_or(0, |n| n as usize)).collect();
    if !shape.contains(&0) {
        return Err(Error::unsupported(format!(
            "the cache `{}` is {}: generate takes models whose cache may be empty, along a free dim",
            port.name, port.ty
        )));
    }
    Ok(Some(Cache::Whole(Made::of(&Tensor::from_f64s(port.ty.dtype, &shape, vec![]))?)))
}

/// The scores behind the last token.
fn last_row(scores: &Given<'_>) -> Result<Vec<f64>> {
    let count = scores.dims.last().map_or(0, |n| *n as usize);
    let last = scores.bytes.len().checked_sub(count * scores.dtype.size()).filter(|_| count > 0);
    let last = last.ok_or_else(|| Error::user("the model gave no scores"))?;
    let row = Tensor::from_bytes(scores.dtype, &[count], &scores.bytes[last..]);
    row.to_f64s().ok_or_else(|| Error::unsupported(format!("scores of {} are no numbers", row.dtype())))
}

/// The next token.
fn choose(scores: &[f64], choice: &Choice, rng: &mut Rng) -> Result<i64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if scores.iter().any(|s| s.is_nan()) || most == f64::NEG_INFINITY || most == f64::INFINITY {
        return Err(Error::user(
            "the scores of the next token are no numbers (NaN or infinite): the model overflowed",
        ));
    }
    let &Choice::Sample { temperature, top_k, top_p, .. } = choice else {
        return Ok(scores.iter().position(|s| *s == most).unwrap_or(0) as i64);
    };
    // The highest first, of equal ones the first.
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    if top_k > 0 {
        order.truncate(top_k);
    }
    let mut shares: Vec<f64> = order.iter().map(|&i| ((scores[i] - most) / temperature).exp()).collect();
    let all: f64 = shares.iter().sum();
    let mut sum = 0.0;
    let within = shares.iter().take_while(|share| {
        let before = sum;
        sum += **share / all;
        before < top_p
    });
    let within = within.count().max(1);
    shares.truncate(within);
    let all: f64 = shares.iter().sum();
    let mut left = f64::from(rng.unit()) * all;
    let drawn = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    Ok(order[drawn.unwrap_or(within - 1)] as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(temperature: f64, top_k: usize, top_p: f64) -> Choice {
        Choice::Sample { temperature, top_k, top_p, seed: 0 }
    }

    /// How often each of the scores is drawn of 4,000.
    fn drawn(choice: &Choice) -> Vec<usize> {
        let scores = [0.0, 2.0, 1.0, f64::NEG_INFINITY, 2.0];
        let mut rng = Rng::new(5);
        let mut counts = vec![0; scores.len()];
        for _ in 0..4000 {
            counts[choose(&scores, choice, &mut rng).expect("a token") as usize] += 1;
        }
        counts
    }

    #[test]
    fn tokens_are_drawn_by_their_shares() {
        assert_eq!(drawn(&Choice::Greedy), [0, 4000, 0, 0, 0]);
        assert_eq!(drawn(&sample(1.0, 1, 1.0)), [0, 4000, 0, 0, 0]);
        assert_eq!(drawn(&sample(1.0, 0, 0.1)), [0, 4000, 0, 0, 0]);
        // exp(0), exp(1) and twice exp(2) of all.
        let near = |have: usize, want: f64| (have as f64 / 4000.0 - want).abs() < 0.03;
        let all = drawn(&sample(1.0, 0, 1.0));
        assert!(
            near(all[0], 0.054) && near(all[1], 0.40) && near(all[2], 0.146) && near(all[4], 0.40),
            "{all:?}"
        );
        assert_eq!(all[3], 0);
        let cool = drawn(&sample(0.01, 0, 1.0));
        assert!(cool[1] + cool[4] == 4000 && near(cool[1], 0.5), "{cool:?}");
        let two = drawn(&sample(1.0, 2, 1.0));
        assert!(two[1] + two[4] == 4000 && near(two[4], 0.5), "{two:?}");
    }

    #[test]
    fn scores_that_are_no_numbers_are_refused() {
        for scores in [vec![0.0, f64::NAN], vec![f64::NEG_INFINITY], vec![], vec![f64::INFINITY, 1.0]] {
            assert!(choose(&scores, &Choice::Greedy, &mut Rng::new(0)).is_err(), "{scores:?}");
        }
    }
}
