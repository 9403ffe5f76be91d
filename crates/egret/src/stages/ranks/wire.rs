//! What ranks send each other: a line of JSON as between a stage's process and its parent, and behind it the bytes of values.

use super::super::form::Form;
use super::super::held::{Held, Values};
use super::super::run::Staged;
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
    /// A part of a sample for your stages, whose values follow.
    Part(usize, Vec<Sent>),
    /// In place of a part: a stage before has no result.
    Void(usize),
    /// To rank 0: the sample is through the stages of the sender, and outputs of the model that they made follow; how long each stage took, in nanoseconds.
    Done(usize, Vec<u64>, Vec<Sent>),
    /// To rank 0: this stage of the sender has no result for the sample; how long each stage took, as far as they ran.
    Failed(usize, Vec<u64>, usize, ErrorKind, String),
    /// To rank 0: the sample has no result, as stages before those of the sender have none.
    Skipped(usize),
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

/// Values for another rank.
pub(super) fn pack_values(
    values: Values<'_>,
    message: impl FnOnce(Vec<Sent>) -> Message,
) -> Result<Vec<u8>> {
    let (mut sent, mut bodies) = (vec![], vec![]);
    for (name, held) in values {
        let body = held.value()?;
        let tensor = body.as_tensor().ok_or_else(|| Error::internal(format!("`{name}` is no tensor")))?;
        sent.push(Sent { name: name.to_owned(), form: Form::of(tensor) });
        bodies.push(body);
    }
    pack(&message(sent), &bodies)
}

/// Values that came.
pub(super) fn unpack_values<'s>(staged: &'s Staged, sent: &[Sent], mut bytes: &[u8]) -> Result<Values<'s>> {
    let mut values = Values::new();
    let short = || Error::internal("a rank sent fewer bytes than it said");
    for Sent { name, form } in sent {
        let name = staged.known(name)?;
        let tensor = form.read(|into| {
            let (now, rest) = bytes.split_at_checked(into.len()).ok_or_else(short)?;
            into.copy_from_slice(now);
            bytes = rest;
            Ok(())
        })?;
        values.insert(name, Held::Here(Value::from(tensor)));
    }
    match bytes.is_empty() {
        true => Ok(values),
        false => Err(Error::internal("a rank sent more bytes than it said")),
    }
}
