//! A language model that goes on with a text, token by token: from a model whose inputs are tokens and whose outputs are a score for each
//! token that may come next. What it keeps of the tokens before (a cache of keys and values, as exporters of decoders write it) is given
//! back to it at each step; a model without such a cache is run on all tokens again.

use crate::engine::Executable;
use crate::error::{Error, Result};
use egret_ir::rng::Rng;
use egret_ir::{Dim, Graph, Tensor, TensorType, Type, Value};

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

/// What an input is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Role {
    /// The tokens of a step.
    Tokens,
    /// Ones for all tokens, those of the cache too.
    Mask,
    /// Where each token of a step stands in the text.
    Positions,
    /// What an output has kept of the tokens before.
    Cache(usize),
}

/// An input or output.
#[derive(Clone, Debug)]
struct Port {
    name: String,
    ty: TensorType,
}

/// A model that goes on with texts.
pub struct Decoder {
    executable: Executable,
    inputs: Vec<(Port, Role)>,
    /// The output of scores.
    scores: usize,
}

/// The parts of a name behind the words that exporters begin those of caches with.
fn behind<'a>(name: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().find_map(|word| name.strip_prefix(word)).map(|rest| rest.trim_start_matches(['.', '_']))
}

fn ports(graph: &Graph) -> Result<[Vec<Port>; 2]> {
    let port = |name: &str, ty: &Type| {
        let ty = ty.as_tensor().cloned();
        let ty = ty.ok_or_else(|| {
            Error::unsupported(format!("`{name}` is no tensor: it is not known what to give it"))
        })?;
        Ok(Port { name: name.to_owned(), ty })
    };
    let inputs = graph.inputs().iter().map(|&v| port(&graph.value(v).name, graph.ty(v)));
    let outputs =
        graph.outputs().iter().zip(graph.output_names()).map(|(&v, name)| port(name, graph.ty(v)));
    Ok([inputs.collect::<Result<_>>()?, outputs.collect::<Result<_>>()?])
}

/// What each input is for, and the output of scores.
fn roles(inputs: Vec<Port>, outputs: &[Port]) -> Result<(Vec<(Port, Role)>, usize)> {
    let cache_of = |name: &str| -> Option<usize> {
        let rest = behind(name, &["past_key_values", "past"])?;
        let words = ["present_key_values", "present", "new_key_values"];
        outputs.iter().position(|o| behind(&o.name, &words) == Some(rest))
    };
    let mut out: Vec<(Port, Role)> = vec![];
    for port in inputs {
        let name = port.name.to_lowercase();
        let whole = port.ty.dtype.is_int();
        let role = match cache_of(&port.name) {
            Some(output) => Role::Cache(output),
            None if name.contains("mask") && port.ty.shape.len() == 2 => Role::Mask,
            None if name.contains("position") && whole => Role::Positions,
            None if whole && (1..=2).contains(&port.ty.shape.len()) => Role::Tokens,
            None => {
                return Err(Error::unsupported(format!(
                    "the input `{}` ({}) is neither tokens, nor a mask or positions of them, nor a cache with an output of \
                     its name (past... and present...): `egret run` takes values for all inputs",
                    port.name, port.ty
                )));
            }
        };
        let twice = out.iter().find(|(_, r)| *r == role && !matches!(role, Role::Cache(_)));
        if let Some((other, _)) = twice {
            return Err(Error::unsupported(format!(
                "both `{}` and `{}` could be the tokens or their mask: `egret run` takes values for all inputs",
                other.name, port.name
            )));
        }
        out.push((port, role));
    }
    if !out.iter().any(|(_, role)| *role == Role::Tokens) {
        return Err(Error::user(
            "no input of the model takes tokens (whole numbers): it is no language model",
        ));
    }
    let kept = |i: &usize| out.iter().any(|(_, role)| *role == Role::Cache(*i));
    let float = |i: &usize| outputs[*i].ty.dtype.is_float() && outputs[*i].ty.shape.len() >= 2;
    let free: Vec<usize> = (0..outputs.len()).filter(|i| !kept(i) && float(i)).collect();
    let named = free.iter().find(|&&i| outputs[i].name == "logits").or(free.first());
    let scores = *named.ok_or_else(|| Error::user("no output of the model is a score for each token"))?;
    Ok((out, scores))
}

impl Decoder {
    /// A model, ready: `make` compiles its graph, for a batch of one text and with all other dims as they are.
    ///
    /// # Errors
    /// A model that is no decoder; what `make` fails by.
    pub fn new(mut graph: Graph, make: impl FnOnce(Graph) -> Result<Executable>) -> Result<Decoder> {
        let [inputs, outputs] = ports(&graph)?;
        let (inputs, scores) = roles(inputs, &outputs)?;
        // The first dim of everything is the batch.
        let first = inputs.iter().filter(|(port, _)| port.ty.shape.len() > 1);
        let batch: Vec<String> =
            first.filter_map(|(port, _)| Some(port.ty.shape[0].as_symbol()?.to_owned())).collect();
        graph.bind_dims(&batch.into_iter().map(|name| (name, 1)).collect());
        let [ports, _] = ports(&graph)?;
        let inputs = ports.into_iter().zip(inputs).map(|(port, (_, role))| (port, role)).collect();
        Ok(Decoder { executable: make(graph)?, inputs, scores })
    }

    /// Goes on with a text; `each` gets every token when it is known.
    ///
    /// # Errors
    /// A text without tokens; a token that the model does not know; what a run or `each` fails by; scores that are no numbers.
    pub fn generate(
        &self,
        text: &[i64],
        settings: &Settings,
        each: &mut dyn FnMut(i64) -> Result<()>,
    ) -> Result<Vec<i64>> {
        if text.is_empty() {
            return Err(Error::user("no tokens to go on with; give at least one, e.g. --tokens 1"));
        }
        if let Some(token) = text.iter().find(|t| **t < 0) {
            return Err(Error::user(format!("the token {token}: tokens are whole numbers, 0 or more")));
        }
        let mut rng = Rng::new(if let Choice::Sample { seed, .. } = settings.choice { seed } else { 0 });
        let keeps = self.inputs.iter().any(|(_, role)| matches!(role, Role::Cache(_)));
        let mut all = text.to_vec();
        // The tokens of the next step are those behind so many.
        let (mut done, mut kept): (usize, Option<Vec<Value>>) = (0, None);
        while all.len() < text.len() + settings.count {
            let inputs = self.inputs(&all, done, kept.as_deref())?;
            let outputs = self.executable.run(&inputs)?;
            let scores = last_row(&outputs[self.scores])?;
            if let Some(token) = text.iter().find(|t| **t >= scores.len() as i64) {
                let known = scores.len();
                return Err(Error::user(format!("the token {token}: the model knows {known}, from 0 on")));
            }
            let next = choose(&scores, &settings.choice, &mut rng)?;
            if keeps {
                self.holds_all(&outputs, all.len())?;
                done = all.len();
                kept = Some(outputs);
            }
            all.push(next);
            each(next)?;
            if settings.stop.contains(&next) {
                break;
            }
        }
        Ok(all.split_off(text.len()))
    }

    /// Holds what is kept of the tokens to be of all of them: a cache of the last step's alone would have to be joined to the one before.
    fn holds_all(&self, outputs: &[Value], count: usize) -> Result<()> {
        for (port, role) in &self.inputs {
            let Role::Cache(output) = role else { continue };
            let shape = outputs[*output].as_tensor().map_or(&[][..], |t| t.shape());
            let of_tokens = port.ty.shape.iter().zip(shape).find(|(dim, _)| dim.as_const().is_none());
            if let Some((_, &have)) = of_tokens.filter(|(_, have)| **have != count) {
                return Err(Error::unsupported(format!(
                    "what the model keeps for `{}` is of {have} tokens where there are {count}: generate takes models whose caches \
                     grow by the tokens of each step",
                    port.name
                )));
            }
        }
        Ok(())
    }

    /// The inputs of a step on all tokens behind the first `done`; `kept`: the outputs of the step before.
    fn inputs(&self, all: &[i64], done: usize, kept: Option<&[Value]>) -> Result<Vec<Value>> {
        let given = |(port, role): &(Port, Role)| -> Result<Value> {
            let numbers: Vec<f64> = match role {
                Role::Cache(output) => {
                    return match kept {
                        Some(outputs) => Ok(outputs[*output].clone()),
                        None => nothing(port),
                    };
                }
                Role::Tokens => all[done..].iter().map(|&t| t as f64).collect(),
                Role::Mask => vec![1.0; all.len()],
                Role::Positions => (done..all.len()).map(|i| i as f64).collect(),
            };
            let n = numbers.len();
            let shape = if port.ty.shape.len() == 1 { vec![n] } else { vec![1, n] };
            let fits = |(have, want): (&usize, &Dim)| want.as_const().is_none_or(|w| w == *have as i64);
            if !shape.iter().zip(port.ty.shape.iter()).all(fits) {
                return Err(Error::unsupported(format!(
                    "the input `{}` is {}, and a step needs {shape:?}: generate takes models whose sequence and cache are free",
                    port.name, port.ty
                )));
            }
            Ok(Tensor::from_f64s(port.ty.dtype, &shape, numbers).into())
        };
        self.inputs.iter().map(given).collect()
    }
}

/// A cache of no tokens: its free dim is 0.
fn nothing(port: &Port) -> Result<Value> {
    let shape: Vec<usize> = port.ty.shape.iter().map(|d| d.as_const().map_or(0, |n| n as usize)).collect();
    if !shape.contains(&0) {
        return Err(Error::unsupported(format!(
            "the cache `{}` is {}: generate takes models whose cache may be empty, along a free dim",
            port.name, port.ty
        )));
    }
    Ok(Tensor::from_f64s(port.ty.dtype, &shape, vec![]).into())
}

/// The scores behind the last token.
fn last_row(scores: &Value) -> Result<Vec<f64>> {
    let t = scores.as_tensor().ok_or_else(|| Error::internal("the scores are no tensor"))?;
    let count = t.shape().last().copied().unwrap_or(0);
    let bytes = count * t.dtype().size();
    let last = t.bytes().len().checked_sub(bytes).filter(|_| count > 0);
    let last = last.ok_or_else(|| Error::user("the model gave no scores"))?;
    let row = Tensor::from_bytes(t.dtype(), &[count], &t.bytes()[last..]);
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
