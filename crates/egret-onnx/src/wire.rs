//! Protobuf's wire format, checked before any parser touches the bytes: no groups, no truncation, bounded nesting.

use crate::error::ImportError;

/// Messages nested deeper than this are refused.
const MAX_DEPTH: usize = 100;
/// More messages than this are refused: an empty message costs two bytes in the file but hundreds in memory.
const MAX_MESSAGES: usize = 8 << 20;

/// The message types of ONNX, as far as nesting matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// ModelProto
    Model,
    /// GraphProto
    Graph,
    /// NodeProto
    Node,
    /// AttributeProto
    Attribute,
    /// TensorProto
    Tensor,
    /// SparseTensorProto
    SparseTensor,
    /// ValueInfoProto
    ValueInfo,
    /// TypeProto
    Type,
    /// TypeProto.Tensor and TypeProto.SparseTensor
    TypeTensor,
    /// TypeProto.Sequence and TypeProto.Optional
    TypeElement,
    /// TypeProto.Map
    TypeMap,
    /// TensorShapeProto
    Shape,
    /// FunctionProto
    Function,
    /// TrainingInfoProto
    Training,
    /// TensorAnnotation
    Annotation,
    /// SequenceProto
    Sequence,
    /// OptionalProto
    Optional,
    /// MapProto
    Map,
    /// A message without messages in it.
    Leaf,
}

impl Message {
    /// The message type of a field, if the field is a message.
    pub(crate) fn field(self, number: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, number) {
            (Model, 7) => Graph,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Model, 8 | 14) | (Graph, 16) | (Node, 9) | (ValueInfo, 4) | (Annotation, 2) => Leaf,
            (Training, 1 | 2) => Graph,
            (Training, 3 | 4) => Leaf,
            (Graph, 1) => Node,
            (Graph, 5) => Tensor,
            (Graph, 15) => SparseTensor,
            (Graph, 11..=13) => ValueInfo,
            (Graph, 14) => Annotation,
            (Node, 5) => Attribute,
            (Attribute, 5 | 10) => Tensor,
            (Attribute, 6 | 11) => Graph,
            (Attribute, 22 | 23) => SparseTensor,
            (Attribute, 14 | 15) => Type,
            (SparseTensor, 1 | 2) => Tensor,
            (Tensor, 3 | 13 | 16) => Leaf,
            (ValueInfo, 2) => Type,
            (Type, 1 | 8) => TypeTensor,
            (Type, 4 | 9) => TypeElement,
            (Type, 5) => TypeMap,
            (TypeTensor, 2) => Shape,
            (TypeElement, 1) => Type,
            (TypeMap, 2) => Type,
            (Shape, 1) => Leaf,
            (Function, 11) => Attribute,
            (Function, 7) => Node,
            (Function, 9 | 14) => Leaf,
            (Function, 12) => ValueInfo,
            (Sequence | Optional, 3) => Tensor,
            (Sequence | Optional, 4) => SparseTensor,
            (Sequence | Optional, 5) => Sequence,
            (Sequence | Optional, 6) => Map,
            (Sequence | Optional, 7) => Optional,
            (Map, 4) => Sequence,
            _ => return None,
        })
    }
}

/// The payload of a field.
#[derive(Copy, Clone, Debug)]
pub enum Payload<'a> {
    /// Wire types 0, 1 and 5.
    Number(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
}

fn damaged(at: usize, what: &str) -> ImportError {
    ImportError::invalid(format!(
        "not valid protobuf at byte {at}: {what}; the file is damaged or not an ONNX file"
    ))
}

fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64, ImportError> {
    let start = *at;
    let mut value = 0u64;
    for shift in 0..10 {
        if *at >= end {
            return Err(damaged(start, "a number is cut off"));
        }
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(7 * shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged(start, "a number is longer than 10 bytes"))
}

/// Read one field of a message that ends at `end`; returns its number, and its payload as a number or a range.
pub(crate) fn field(
    bytes: &[u8],
    at: &mut usize,
    end: usize,
) -> Result<(u64, Result<u64, std::ops::Range<usize>>), ImportError> {
    let start = *at;
    let tag = varint(bytes, at, end)?;
    let number = tag >> 3;
    if number == 0 || number >= 1 << 29 {
        return Err(damaged(start, "a field number is out of range"));
    }
    let mut fixed = |size: usize| -> Result<u64, ImportError> {
        let from = *at;
        if end - from < size {
            return Err(damaged(from, "a number is cut off"));
        }
        *at += size;
        Ok(bytes[from..from + size].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    };
    let payload = match tag & 7 {
        0 => Ok(varint(bytes, at, end)?),
        1 => Ok(fixed(8)?),
        5 => Ok(fixed(4)?),
        2 => {
            let length = varint(bytes, at, end)?;
            let from = *at;
            match usize::try_from(length).ok().and_then(|l| from.checked_add(l)).filter(|&e| e <= end) {
                Some(to) => {
                    *at = to;
                    Err(from..to)
                }
                None => {
                    return Err(damaged(
                        start,
                        &format!("field {number} is {length} bytes long but only {} are left", end - from),
                    ));
                }
            }
        }
        kind => {
            return Err(damaged(
                start,
                &format!("field {number} has the wire type {kind}, which ONNX does not use"),
            ));
        }
    };
    Ok((number, payload))
}

/// Check a whole message with all messages nested in it.
///
/// # Errors
/// Groups, truncated fields, too deep nesting, too many messages; with the byte offset.
pub fn check(bytes: &[u8], message: Message) -> Result<(), ImportError> {
    let mut stack = vec![(message, bytes.len())];
    let (mut at, mut count) = (0, 0);
    while let Some(&(message, end)) = stack.last() {
        if at == end {
            stack.pop();
            continue;
        }
        let start = at;
        let (number, payload) = field(bytes, &mut at, end)?;
        if let (Err(range), Some(inner)) = (payload, message.field(number)) {
            count += 1;
            if stack.len() >= MAX_DEPTH {
                return Err(ImportError::invalid(format!(
                    "messages are nested deeper than {MAX_DEPTH} at byte {start}"
                )));
            }
            if count > MAX_MESSAGES {
                return Err(ImportError::invalid(format!("more than {MAX_MESSAGES} messages in one file")));
            }
            at = range.start;
            stack.push((inner, range.end));
        }
    }
    Ok(())
}

/// The fields of one message, in file order.
///
/// # Errors
/// As [`check`], without looking into nested messages.
pub fn fields(bytes: &[u8]) -> Result<Vec<(u64, Payload<'_>)>, ImportError> {
    let mut at = 0;
    let mut out = vec![];
    while at < bytes.len() {
        let (number, payload) = field(bytes, &mut at, bytes.len())?;
        out.push((number, payload.map_or_else(|r| Payload::Bytes(&bytes[r]), Payload::Number)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_truncation_and_depth_are_refused() {
        assert!(check(&[0x0b, 0x0c], Message::Model).unwrap_err().to_string().contains("wire type 3"));
        assert!(
            check(&[0x3a, 0x05, 0x00], Message::Model)
                .unwrap_err()
                .to_string()
                .contains("5 bytes long but only 1")
        );
        assert!(check(b"just some text", Message::Model).is_err());
        // type.sequence.type.sequence... inside out
        let mut deep = vec![];
        for i in 0..200 {
            let tag = if i % 2 == 0 { 0x0a } else { 0x22 };
            let mut outer = vec![tag];
            let mut n = deep.len();
            while n >= 0x80 {
                outer.push(n as u8 | 0x80);
                n >>= 7;
            }
            outer.push(n as u8);
            outer.extend(&deep);
            deep = outer;
        }
        assert!(check(&deep, Message::Type).unwrap_err().to_string().contains("deeper"));
    }
}
