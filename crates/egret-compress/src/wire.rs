//! The bytes of a weight in the model file, so that it can be zeroed in place and every other byte of the file stays.

use crate::constants::Place;
use crate::flat::{self, Step};
use onnx_protobuf::GraphProto;
use std::ops::Range;

/// A field of a message: its number, wire type, and the bytes of its value.
type Field = (u64, u64, Range<usize>);

/// `TensorProto`'s fields of elements.
const FLOAT_DATA: u64 = 4;
const INT32_DATA: u64 = 5;
const RAW_DATA: u64 = 9;
const DOUBLE_DATA: u64 = 10;

/// A varint at a place, and the place behind it.
fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}

/// The fields of a message.
fn fields(bytes: &[u8], message: &Range<usize>) -> Option<Vec<Field>> {
    let (mut at, mut out) = (message.start, vec![]);
    while at < message.end {
        let (tag, start) = varint(bytes, at)?;
        let value = match tag & 7 {
            0 => start..varint(bytes, start)?.1,
            1 => start..start + 8,
            2 => {
                let (length, start) = varint(bytes, start)?;
                start..start.checked_add(usize::try_from(length).ok()?)?
            }
            5 => start..start + 4,
            _ => return None,
        };
        at = value.end;
        out.push((tag >> 3, tag & 7, value));
    }
    (at == message.end).then_some(out)
}

/// The values of a field in messages that are one after merging.
fn children(bytes: &[u8], messages: &[Range<usize>], number: u64) -> Option<Vec<Range<usize>>> {
    let mut out = vec![];
    for message in messages {
        out.extend(fields(bytes, message)?.into_iter().filter(|f| f.0 == number).map(|f| f.2));
    }
    Some(out)
}

/// Where the elements of a tensor stand.
struct Slots {
    ranges: Vec<Range<usize>>,
    /// Whether they are varints and not of a fixed width.
    varints: bool,
}

/// Where a tensor stands in the file: the steps into graphs inside others, and the place in the innermost.
pub fn route(graph: &GraphProto, place: Place) -> Option<(Vec<Step>, Place)> {
    Some(match place {
        Place::Initializer(i) => {
            let (steps, i) = flat::route_of_tensor(graph, i)?;
            (steps, Place::Initializer(i))
        }
        Place::Attribute(node, attribute) => {
            let (steps, node) = flat::route_of_node(graph, node)?;
            (steps, Place::Attribute(node, attribute))
        }
    })
}

/// The bytes of each element of a float tensor.
fn elements(bytes: &[u8], (steps, place): &(Vec<Step>, Place), data_type: i32) -> Option<Slots> {
    let only = |list: Vec<Range<usize>>, at: usize| Some(vec![list.get(at)?.clone()]);
    let model = 0..bytes.len();
    let mut graph = children(bytes, std::slice::from_ref(&model), 7)?;
    for (node, attribute, one_of) in steps {
        let node = only(children(bytes, &graph, 1)?, *node)?;
        let attribute = only(children(bytes, &node, 5)?, *attribute)?;
        graph = match one_of {
            None => children(bytes, &attribute, 6)?,
            Some(i) => only(children(bytes, &attribute, 11)?, *i)?,
        };
    }
    let tensor = match *place {
        Place::Initializer(i) => only(children(bytes, &graph, 5)?, i)?,
        Place::Attribute(node, attribute) => {
            let node = only(children(bytes, &graph, 1)?, node)?;
            children(bytes, &only(children(bytes, &node, 5)?, attribute)?, 5)?
        }
    };
    let (number, width, raw_width) = match data_type {
        1 => (FLOAT_DATA, Some(4), 4),
        11 => (DOUBLE_DATA, Some(8), 8),
        _ => (INT32_DATA, None, 2),
    };
    let chunks = |range: &Range<usize>, width: usize| -> Vec<Range<usize>> {
        range.clone().step_by(width).map(|at| at..at + width).collect()
    };
    if let Some(raw) = children(bytes, &tensor, RAW_DATA)?.last().filter(|r| !r.is_empty()) {
        return Some(Slots { ranges: chunks(raw, raw_width), varints: false });
    }
    let mut out = vec![];
    for message in &tensor {
        for (_, _, value) in fields(bytes, message)?.into_iter().filter(|f| f.0 == number) {
            match width {
                Some(width) => out.extend(chunks(&value, width)),
                None => {
                    let mut at = value.start;
                    while at < value.end {
                        let (_, end) = varint(bytes, at)?;
                        out.push(at..end);
                        at = end;
                    }
                }
            }
        }
    }
    Some(Slots { ranges: out, varints: width.is_none() })
}

/// Set elements of a tensor of a model file to +0, without any change of lengths; `None` where the file is not as it was parsed.
pub fn zero(bytes: &mut [u8], route: &(Vec<Step>, Place), data_type: i32, at: &[usize]) -> Option<()> {
    let slots = elements(bytes, route, data_type)?;
    for &i in at {
        let slot = bytes.get_mut(slots.ranges.get(i)?.clone())?;
        slot.fill(0);
        if slots.varints {
            // A zero as long as what it replaces: all bytes but the last say that there is more.
            let more = slot.len() - 1;
            slot[..more].fill(0x80);
        }
    }
    Some(())
}
