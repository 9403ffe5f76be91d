//! Weights in files: external data of a model, large tensors of a model that are read from it later, and the weights file of a compiled
//! model. Each is read, every byte of it, or refused with a message.
//!
//! An input is lines, an empty line, and the bytes of the file `w`:
//!
//! ```text
//! 1 2,3 w 0 24        a tensor: element type, dims, location, offset, length (`-`: the entry is not there)
//! 7 90000 = 720000    one of the model's own with so many bytes
//! @12 255             byte 12 of the model's file is another
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use onnx_protobuf::{
    GraphProto, Message as _, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto,
};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Bytes that tensors of the model's own have at most, together.
const OWN: usize = 4 << 20;

static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for temporary use").keep());

/// A model of its lines, and what is changed in its file.
fn model(lines: &str) -> (ModelProto, Vec<(usize, u8)>) {
    let (mut graph, mut changes, mut room) =
        (GraphProto { name: "g".into(), ..Default::default() }, vec![], OWN);
    for (i, line) in lines.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        match &words[..] {
            [at, byte] => {
                let change = at.strip_prefix('@').and_then(|a| Some((a.parse().ok()?, byte.parse().ok()?)));
                changes.extend(change);
            }
            [dtype, dims, location, rest @ ..] => {
                let name = format!("t{i}");
                let mut tensor = TensorProto {
                    name: name.clone(),
                    data_type: dtype.parse().unwrap_or(1),
                    dims: dims.split(',').filter_map(|d| d.parse().ok()).collect(),
                    ..Default::default()
                };
                if *location == "=" {
                    let bytes = rest.first().and_then(|n| n.parse().ok()).unwrap_or(0).min(room);
                    room -= bytes;
                    tensor.raw_data = vec![1; bytes];
                } else {
                    tensor.data_location = onnx_protobuf::tensor_proto::DataLocation::EXTERNAL.into();
                    let entries =
                        [("location", Some(location)), ("offset", rest.first()), ("length", rest.get(1))];
                    tensor.external_data = entries
                        .into_iter()
                        .filter_map(|(key, value)| Some((key, value.filter(|v| **v != "-")?)))
                        .map(|(key, value)| StringStringEntryProto {
                            key: key.into(),
                            value: (*value).into(),
                            ..Default::default()
                        })
                        .collect();
                }
                graph.initializer.push(tensor);
                graph.output.push(ValueInfoProto { name, ..Default::default() });
            }
            _ => {}
        }
    }
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 21, ..Default::default() }],
        graph: Some(graph).into(),
        ..Default::default()
    };
    (model, changes)
}

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.windows(2).position(|w| w == b"\n\n");
    let (lines, data) = split.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + 2..]));
    let (model, changes) = model(&String::from_utf8_lossy(lines));
    let mut file = model.write_to_bytes().expect("a message");
    for (at, byte) in changes {
        match byte {
            // Nothing else shortens the file.
            0 => file.truncate(at.max(1)),
            _ => file.get_mut(at).into_iter().for_each(|b| *b = byte),
        }
    }
    let (w, m) = (FOLDER.join("w"), FOLDER.join("m.onnx"));
    std::fs::write(&w, data).expect("a file for temporary use");
    std::fs::write(&m, file).expect("a file for temporary use");
    match egret_onnx::import_path(&m, &egret_onnx::ImportOptions::default()) {
        Ok(graph) => {
            if let Err(errors) = egret_ir::verify(&graph) {
                panic!("an imported graph does not verify: {}", errors[0]);
            }
            let hashes = egret_ir::text::constants(&graph).len();
            assert!(hashes <= graph.outputs().len());
        }
        Err(e) => assert!(e.to_string().contains("m.onnx"), "{e}"),
    }
    if let Err(e) = egret::artifact::check_weights(&w) {
        assert!(!e.to_string().is_empty());
    }
});
