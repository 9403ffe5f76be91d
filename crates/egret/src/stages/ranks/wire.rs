//! What ranks send each other: a line of JSON as between a stage's process and its parent, and behind it the bytes of values.

use super::super::form::Form;
use super::super::held::Held;
use super::super::run::{Flight, Staged};
use crate::error::{Error, ErrorKind, Result};
use egret_ir::Value;
use serde::{Deserialize, Serialize};

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// To rank 0: it is compiled, from what has this fingerprint.
    Ready(String),
    /// To rank 0: it cannot take part.
    Unfit(ErrorKind, String),
    /// Run your stages on a sample, whose values follow.
    Sample(usize, Vec<Sent>),
    /// To rank 0: the sample is through its last stage, what follows are results; and how long each stage of the sender took, in nanoseconds.
    Results(usize, Vec<u64>, Vec<Sent>),
    /// To rank 0: the sample goes on to the next rank; and how long each stage of the sender took, in nanoseconds.
    HandedOn(usize, Vec<u64>),
    /// To rank 0: the sample has no result.
    Failed(usize, ErrorKind, String),
    /// From rank 0: it is still there.
    Here,
    /// From rank 0: there are no more samples.
    End,
    /// To rank 0: the last that is said.
    Gone,
}

/// A value whose bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    name: String,
    form: Form,
    /// Whether stages further on may take it.
    value: bool,
    /// Whether it is an output of the model.
    output: bool,
}

/// A message and the values that follow it.
pub(super) fn pack(message: &Message, values: &[Value]) -> Result<Vec<u8>> {
    let mut out = serde_json::to_vec(message).map_err(|e| Error::internal(format!("a message: {e}")))?;
    out.push(b'\n');
    let tensors = || values.iter().filter_map(Value::as_tensor);
    out.reserve_exact(tensors().map(|t| t.bytes().len()).sum());
    tensors().for_each(|t| out.extend_from_slice(t.bytes()));
    Ok(out)
}

/// A message, and the bytes of what follows.
pub(super) fn unpack(bytes: &[u8]) -> Result<(Message, &[u8])> {
    let bad = |e: String| Error::internal(format!("a rank said what is no message: {e}"));
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("it has no end".into()))?;
    let message = serde_json::from_slice(&bytes[..end]).map_err(|e| bad(e.to_string()))?;
    Ok((message, &bytes[end + 1..]))
}

/// A sample on its way, for another rank.
pub(super) fn pack_flight(
    flight: Flight<'_>,
    message: impl FnOnce(Vec<Sent>) -> Message,
) -> Result<Vec<u8>> {
    let Flight { mut values, outputs } = flight;
    let (mut sent, mut bodies) = (vec![], vec![]);
    let mut add = |name: &str, held: Held, value: bool, output: bool| {
        let body = held.value()?;
        let tensor = body.as_tensor().ok_or_else(|| Error::internal(format!("`{name}` is no tensor")))?;
        sent.push(Sent { name: name.to_owned(), form: Form::of(tensor), value, output });
        bodies.push(body);
        Ok::<(), Error>(())
    };
    for (name, held) in outputs {
        // One that crosses too is the same value: it goes once. An input of that name is another.
        let crosses = held.is(values.get(name));
        if crosses {
            values.remove(name);
        }
        add(name, held, crosses, true)?;
    }
    for (name, held) in values {
        add(name, held, true, false)?;
    }
    pack(&message(sent), &bodies)
}

/// A sample that came.
pub(super) fn unpack_flight<'s>(staged: &'s Staged, sent: &[Sent], mut bytes: &[u8]) -> Result<Flight<'s>> {
    let mut flight = Flight::default();
    let short = || Error::internal("a rank sent fewer bytes than it said");
    for Sent { name, form, value, output } in sent {
        let name = staged.known(name)?;
        let tensor = form.read(|into| {
            let (now, rest) = bytes.split_at_checked(into.len()).ok_or_else(short)?;
            into.copy_from_slice(now);
            bytes = rest;
            Ok(())
        })?;
        let held = Held::Here(Value::from(tensor));
        if *output {
            flight.outputs.insert(name, held.clone());
        }
        if *value {
            flight.values.insert(name, held);
        }
    }
    match bytes.is_empty() {
        true => Ok(flight),
        false => Err(Error::internal("a rank sent more bytes than it said")),
    }
}
