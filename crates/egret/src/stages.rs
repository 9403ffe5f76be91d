//! A graph as several files of text IR, one for each stage, with their large constants beside them.

use crate::error::{Error, Result};
use crate::options::Options;
use crate::{files, npz, pipeline};
use egret_ir::{Graph, Tensor, text};
use egret_opt::partition;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder beside a text IR file in which its large constants are looked for: `HASH.npy` for `#HASH`.
const CONSTANTS: &str = "constants";

/// What a stage came to.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its file.
    pub file: PathBuf,
    /// Its nodes.
    pub nodes: usize,
    /// Its estimated time in nanoseconds.
    pub cost: u64,
    /// Bytes that it receives from the stages before it; a symbolic dim counts as 64.
    pub received: u64,
}

/// Split a graph into stages that take about the same time on the target of the options, and write `stage0.egret`,
/// `stage1.egret`, .. into a folder.
///
/// # Errors
/// The target is unknown, the graph has no so many stages, a constant's type cannot be written, or the folder cannot.
pub fn write(graph: &Graph, stages: usize, dir: &Path, options: &Options) -> Result<Vec<Stage>> {
    let model = pipeline::cost_model(options)?;
    let parts = partition::split(graph, stages, model).map_err(|e| Error::user(e.to_string()))?;
    let constants: BTreeMap<String, Tensor> = parts.iter().flat_map(text::constants).collect();
    if let Some((hash, t)) = constants.iter().find(|(_, t)| !npz::has_type(t.dtype())) {
        let ty = t.ty();
        return Err(Error::unsupported(format!(
            "the constant #{hash} ({ty}) cannot be written beside text IR: .npy files have no {}; call egret_opt::partition::split from Rust",
            t.dtype()
        )));
    }
    let folder = dir.join(CONSTANTS);
    let make = if constants.is_empty() { dir } else { folder.as_path() };
    std::fs::create_dir_all(make).map_err(|e| Error::io("make", make, &e))?;
    for (hash, tensor) in &constants {
        files::write(&folder.join(format!("{hash}.npy")), &npz::npy_bytes(tensor))?;
    }
    let mut out = vec![];
    for (k, part) in parts.iter().enumerate() {
        let file = dir.join(format!("stage{k}.egret"));
        files::write(&file, text::print(part).as_bytes())?;
        out.push(Stage {
            file,
            nodes: part.node_count(),
            cost: partition::cost(part, model),
            received: partition::received(&parts, k),
        });
    }
    Ok(out)
}

/// The constant of a text IR file that is spelt by this hash, if it lies beside it and has it.
pub fn constant(file: &Path, hash: &str) -> Option<Tensor> {
    let plain = hash.chars().all(|c| c.is_ascii_hexdigit());
    let at = file.parent()?.join(CONSTANTS).join(format!("{hash}.npy"));
    let tensor = plain.then(|| npz::read_npy(&at).ok()).flatten()?;
    (tensor.content_hash().to_string() == hash).then_some(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source;
    use egret_ir::{Value, interp};
    use egret_onnx::ImportOptions;

    const CHAIN: &str = "graph @chain(%0 \"x\": f32[n, 8]) -> (%4 \"y\") {
  %1 = const f32[8, 8] random(1)
  %2 = matmul(%0, %1)
  %3 = tanh(%2)
  %5 = const f32[8, 8] random(2)
  %4 = matmul(%3, %5)
}";

    #[test]
    fn stages_are_written_and_read_again() {
        let whole = text::parse(CHAIN, &|_| None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let stages = write(&whole, 2, dir.path(), &Options::default()).unwrap();
        assert_eq!(stages.iter().map(|s| s.nodes).sum::<usize>(), 3);
        let x = Tensor::new(&[2, 8], (0..16).map(|i| i as f32 * 0.1).collect());
        let mut values = vec![Value::from(x)];
        let wanted = interp::run(&whole, &values).unwrap();
        for s in &stages {
            values =
                interp::run(&source::graph(&s.file, &ImportOptions::default()).unwrap(), &values).unwrap();
        }
        assert_eq!(wanted[0].as_tensor().unwrap().bytes(), values[0].as_tensor().unwrap().bytes());
        // A constant that is another one is not taken.
        let one = std::fs::read_dir(dir.path().join(CONSTANTS)).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&one, npz::npy_bytes(&Tensor::new(&[8, 8], vec![0f32; 64]))).unwrap();
        assert!(stages.iter().any(|s| source::graph(&s.file, &ImportOptions::default()).is_err()));
    }

    #[test]
    fn types_without_a_file_format_are_refused() {
        let body = "graph @g(%0 \"x\": bf16[20]) -> (%2 \"y\") {\n %1 = const bf16[20] random(1)\n %2 = add(%0, %1)\n}";
        let e =
            write(&text::parse(body, &|_| None).unwrap(), 1, Path::new("/nowhere"), &Options::default())
                .unwrap_err();
        assert!(e.to_string().contains(".npy files have no bf16"), "{e}");
    }
}
