//! One compilation: from a model file to the files in a folder, all of them or none.

use super::manifest::{Facts, manifest};
use super::{Emit, Request, WeightsPlace, exe, header, rust};
use crate::error::{Error, Result};
use crate::files::Scratch;
use crate::options::{self, Options};
use crate::pipeline::{self, Lowered, ObjectOptions};
use crate::source::{self, Imported};
use crate::{frontend, link, notes, report, story};
use egret_ir::Graph;
use egret_runtime::abi;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a compilation made.
pub struct Compiled {
    /// The files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// Number of kernels.
    pub kernels: usize,
    /// Bytes of arena.
    pub arena_bytes: usize,
    /// Bytes of weights.
    pub weights_bytes: usize,
    /// What it was compiled for, and where else that runs.
    pub target: String,
    /// What the user should know about the result, a line each.
    pub notes: Vec<String>,
}

/// Compile a model into files. On an error no file is left behind.
pub fn compile(request: &Request) -> Result<Compiled> {
    compile_changed(request, &Ok)
}

/// As [`compile`], for the graph that `change` makes of the model's.
pub fn compile_changed(request: &Request, change: &dyn Fn(Graph) -> Result<Graph>) -> Result<Compiled> {
    check(request)?;
    let Imported { files: sources, graph, bound, mut notes, .. } = request.source.import()?;
    let graph = change(graph)?;
    let before = notes::Constants::of(&graph);
    let mut recorder = match &request.report {
        Some(_) => Some(report::Recorder::new(pipeline::cost_model(&request.options)?)),
        None => None,
    };
    if let Some(r) = &mut recorder {
        r.stage(report::IMPORT, &graph);
    }
    let options = Options { explain: true, ..request.options.clone() };
    let (lowered, story) = match &mut recorder {
        Some(r) => {
            let about = story::Request { bound: bound.clone(), ..story::Request::default() };
            let told = story::tell(graph, &options, &about, &mut |pass| r.pass(pass))?;
            let lowered =
                Lowered { graph: told.graph, program: told.program?, nodes: told.nodes, trace: told.trace };
            (lowered, told.story)
        }
        None => (pipeline::lower(graph, &options, &bound)?, story::Story::default()),
    };
    let program = &lowered.program;
    let target = pipeline::target_name(&request.options)?;
    notes.extend(notes::of(&before, &lowered, &options));
    notes.extend(notes::growth(frontend::bytes_of(&sources)?, program.weights.len()));
    let files = files(request, &sources, &lowered, &hash_of(&sources[0])?, &target)?;
    let mut files = place(&request.out_dir, &files)?;
    if let (Some(path), Some(recorder)) = (&request.report, recorder) {
        let page = report::page(&recorder.finish(
            &request.options.name,
            &lowered.trace,
            &story,
            Ok(program),
            &report::Focus::default(),
        ));
        if let Err(e) = crate::files::write(path, page.as_bytes()) {
            files.iter().for_each(|f| drop(std::fs::remove_file(f)));
            return Err(e);
        }
        files.push(path.clone());
    }
    Ok(Compiled {
        files,
        kernels: program.calls.len(),
        arena_bytes: program.arena_bytes,
        weights_bytes: program.weights.len(),
        target: pipeline::target_words(&request.options)?,
        notes,
    })
}

fn check(request: &Request) -> Result<()> {
    let name = &request.options.name;
    if !options::is_identifier(name) {
        return Err(Error::user(format!(
            "--name `{name}` is no identifier of C; use letters, digits and _ only"
        )));
    }
    pipeline::check_target(&request.options)?;
    if source::is_text(&request.source.model) {
        return Err(Error::unsupported(
            "compile takes .onnx models; text IR can be run, printed and optimised",
        ));
    }
    if request.emit.contains(&Emit::Exe) && request.weights == WeightsPlace::File {
        return Err(Error::user("an executable carries its weights; use --weights embed with --emit exe"));
    }
    Ok(())
}

/// The hash of a file.
fn hash_of(path: &Path) -> Result<[u8; 32]> {
    let failed = |e| Error::io("read", path, &e);
    let file = std::fs::File::open(path).map_err(failed)?;
    Ok(*blake3::Hasher::new().update_reader(file).map_err(failed)?.finalize().as_bytes())
}

/// The content of every file, by name; `sources` is the model file and its files of external data.
fn files(
    request: &Request,
    sources: &[PathBuf],
    lowered: &Lowered,
    model_hash: &[u8; 32],
    target: &str,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let (program, m) = (&lowered.program, &lowered.program.name);
    let embedded = request.weights == WeightsPlace::Embed;
    let place = if embedded { pipeline::WeightsPlace::Embedded } else { pipeline::WeightsPlace::External };
    let object = pipeline::object(
        program,
        &request.options,
        &ObjectOptions { weights: place, model_hash: *model_hash },
    )?;
    let object_name = format!("{m}.o");
    let archive = pipeline::archive(&[(&object_name, &object)])?;
    let header = header::header(program, embedded, model_hash);
    let weights_hash = *blake3::hash(&program.weights).as_bytes();
    let mut out = BTreeMap::new();
    let wants = |e: Emit| request.emit.contains(&e);
    if wants(Emit::So) || wants(Emit::Exe) {
        // The linker works on files, in a folder of their own and by relative names, so that no path gets into the result.
        let dir = Scratch::new()?;
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(at(name), bytes).map_err(|e| Error::io("write", &at(name), &e))
        };
        let read = |name: &str| std::fs::read(at(name)).map_err(|e| Error::io("read", &at(name), &e));
        write(&object_name, &object)?;
        if wants(Emit::So) {
            link::shared(&at(&object_name), &at("model.so"))?;
            out.insert(format!("lib{m}.so"), read("model.so")?);
        }
        if wants(Emit::Exe) {
            write("model.a", &archive)?;
            write(&format!("{m}.h"), header.as_bytes())?;
            write("main.c", exe::main_c(program).as_bytes())?;
            link::executable(dir.path(), "main.c", "model.a", "model.exe")?;
            out.insert(m.clone(), read("model.exe")?);
        }
    }
    if wants(Emit::Obj) {
        out.insert(object_name, object);
    }
    if wants(Emit::Lib) {
        out.insert(format!("lib{m}.a"), archive);
    }
    if wants(Emit::Header) {
        out.insert(format!("{m}.h"), header.into_bytes());
    }
    if wants(Emit::Rs) {
        out.insert(format!("{m}.rs"), rust::rust_module(program, embedded).into_bytes());
    }
    if !embedded {
        let mut bytes = abi::weights_header(program.weights.len() as u64, &weights_hash).to_vec();
        bytes.extend(&program.weights);
        out.insert(format!("{m}.weights"), bytes);
    }
    out.insert(format!("{m}.trace"), lowered.trace.to_bytes());
    let facts = Facts { model: &sources[0], model_hash, weights_hash: &weights_hash, target, files: &out };
    let manifest = manifest(request, program, &facts);
    out.insert(format!("{m}.manifest.json"), manifest);
    let depfile = depfile(sources, &request.out_dir, &out);
    out.insert(format!("{m}.d"), depfile);
    Ok(out)
}

/// The rule of Make that says what the files depend on. Targets are spelt as the caller spells the folder, as Make knows them.
fn depfile(sources: &[PathBuf], dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let escape = |s: &str| s.replace('$', "$$").replace(' ', "\\ ").replace('#', "\\#");
    let targets: Vec<String> = files.keys().map(|f| escape(&dir.join(f).to_string_lossy())).collect();
    let sources: Vec<String> = sources.iter().map(|p| escape(&p.to_string_lossy())).collect();
    format!("{}: {}\n", targets.join(" "), sources.join(" ")).into_bytes()
}

/// Write files into a folder: first all beside it, then into their places.
fn place(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<PathBuf>> {
    let existed = dir.is_dir();
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, &e))?;
    let result = fill(dir, files);
    if result.is_err() && !existed {
        // Only if it is empty, as it was made here.
        let _ = std::fs::remove_dir(dir);
    }
    result
}

fn fill(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<PathBuf>> {
    let staging = Scratch::inside(dir)?;
    for (name, bytes) in files {
        let path = staging.path().join(name);
        // The place that it is meant for is the user's.
        let fail = |e| Error::io("write", &dir.join(name), &e);
        std::fs::write(&path, bytes).map_err(fail)?;
        #[cfg(unix)]
        if bytes.starts_with(b"\x7fELF") && !name.ends_with(".o") {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        }
    }
    let mut done: Vec<PathBuf> = vec![];
    for name in files.keys() {
        let path = dir.join(name);
        if let Err(e) = std::fs::rename(staging.path().join(name), &path) {
            for path in &done {
                let _ = std::fs::remove_file(path);
            }
            return Err(Error::io("write", &path, &e));
        }
        done.push(path);
    }
    Ok(done)
}
