//! A model without the bytes of its large tensors: they stay in the file until a graph is made, and are then read straight into
//! their place. Parsed whole, a model of 500 MB takes that twice before its graph takes it once more.

use crate::error::ImportError;
use crate::wire::{Message, field, fields};
use onnx_protobuf::TensorProto;
use std::ops::Range;

/// Tensors of fewer bytes stay in the message.
const LARGE: usize = 1 << 16;

/// The key of an entry of `external_data` that says where the file of the model itself has a tensor's bytes: `OFFSET LENGTH`.
const IN_MODEL: &str = "egret.in-model";

/// The bytes of a checked ModelProto, with a reference ([`IN_MODEL`]) in place of every large `raw_data`.
///
/// # Errors
/// Bytes that are no such message.
pub(crate) fn model(bytes: &[u8]) -> Result<Vec<u8>, ImportError> {
    let mut out = vec![];
    message(bytes, 0..bytes.len(), Message::Model, &mut out)?;
    Ok(out)
}

/// Where in the model's file the bytes of a tensor are that [`model`] left there.
pub(crate) fn place(tensor: &TensorProto) -> Option<Range<usize>> {
    let entry = tensor.external_data.iter().find(|e| e.key == IN_MODEL)?;
    let (offset, length) = entry.value.split_once(' ')?;
    let offset: usize = offset.parse().ok()?;
    Some(offset..offset.checked_add(length.parse().ok()?)?)
}

fn message(bytes: &[u8], range: Range<usize>, kind: Message, out: &mut Vec<u8>) -> Result<(), ImportError> {
    // A field that occurs twice is that of the last: such a tensor stays as it is.
    let raw = |number| kind == Message::Tensor && number == RAW_DATA;
    let refers = kind == Message::Tensor
        && fields(&bytes[range.clone()])?.iter().filter(|(number, _)| raw(*number)).count() == 1;
    let mut at = range.start;
    while at < range.end {
        let start = at;
        let (number, payload) = field(bytes, &mut at, range.end)?;
        if kind == Message::Tensor
            && number == EXTERNAL_DATA
            && bytes[start..at].windows(IN_MODEL.len()).any(|w| w == IN_MODEL.as_bytes())
        {
            return Err(ImportError::invalid(format!(
                "a tensor refers to its data by `{IN_MODEL}`, which is Egret's own"
            )));
        }
        match (payload, kind.field(number)) {
            (Err(inner), _) if refers && raw(number) && inner.len() >= LARGE => {
                let place = format!("{} {}", inner.start, inner.len());
                let mut entry = vec![];
                put(1, IN_MODEL.as_bytes(), &mut entry);
                put(2, place.as_bytes(), &mut entry);
                put(EXTERNAL_DATA, &entry, out);
            }
            (Err(inner), Some(nested)) if inner.len() >= LARGE => {
                let mut body = vec![];
                message(bytes, inner, nested, &mut body)?;
                put(number, &body, out);
            }
            _ => out.extend_from_slice(&bytes[start..at]),
        }
    }
    Ok(())
}

/// Fields of a TensorProto.
const RAW_DATA: u64 = 9;
const EXTERNAL_DATA: u64 = 13;

/// Write a field of bytes.
fn put(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    for mut n in [number << 3 | 2, bytes.len() as u64] {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImportOptions, import_bytes, import_path, parse_lean};
    use onnx_protobuf::{GraphProto, Message as _, ModelProto, OperatorSetIdProto, ValueInfoProto};

    /// What is left in the file comes from it when a graph is made; the graph is the same.
    #[test]
    fn large_tensors_are_read_from_the_file() {
        let tensor = |name: &str, len: i64| TensorProto {
            name: name.into(),
            data_type: 1,
            dims: vec![len],
            raw_data: (0..len).flat_map(|i| (i as f32).to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        let output = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
        let graph = GraphProto {
            name: "g".into(),
            initializer: vec![tensor("small", 3), tensor("large", 20_000), tensor("larger", 30_001)],
            output: ["small", "large", "larger"].map(output).into(),
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
            graph: Some(graph).into(),
            ..ModelProto::default()
        };
        let bytes = model.write_to_bytes().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        std::fs::write(&path, &bytes).unwrap();
        let lean = parse_lean(&path).unwrap();
        let kept: Vec<usize> = lean.graph.initializer.iter().map(|t| t.raw_data.len()).collect();
        assert_eq!(kept, [12, 0, 0]);
        let options = ImportOptions::default();
        let whole = import_bytes(&bytes, None, &options).unwrap();
        assert_eq!(import_path(&path, &options).unwrap().to_string(), whole.to_string());
        // A tensor whose dims ask for other bytes than it has is refused as ever.
        let mut wrong = model;
        wrong.graph.as_mut().unwrap().initializer[1].dims = vec![20_001];
        std::fs::write(&path, wrong.write_to_bytes().unwrap()).unwrap();
        let error = import_path(&path, &options).unwrap_err().to_string();
        assert!(
            error.contains("tensor `large`") && error.contains("80004 bytes but the file has 80000"),
            "{error}"
        );
    }
}
