//! One compilation: from a model file to the files in a folder, all of them or none.

use super::manifest::{Facts, manifest};
use super::place::Staging;
use super::{Emit, Request, WeightsPlace, depfile, exe, header, hpp, pc, rust, sbom};
use crate::error::{Error, Result};
use crate::files::{Scratch, hash_of};
use crate::host::{Cut, Plan};
use crate::options::{self, Options};
use crate::pipeline::{self, Lowered, ObjectOptions};
use crate::source::Imported;
use crate::{frontend, link, notes, report, story};
use egret_codegen::CodeCache;
use egret_ir::{Denormals, Graph};
use egret_loop::Program;
use egret_runtime::abi;
use egret_trace::Trace;
use std::path::PathBuf;
use std::sync::Arc;

/// What a compilation made.
pub struct Compiled {
    /// The files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// Number of kernels.
    pub kernels: usize,
    /// Bytes of arena; at least, where dims are free.
    pub arena_bytes: usize,
    /// The free dims.
    pub free_dims: Vec<String>,
    /// Bytes of weights.
    pub weights_bytes: usize,
    /// What it was compiled for, and where else that runs.
    pub target: String,
    /// What the user should know about the result, a line each.
    pub notes: Vec<String>,
    /// Whether the files are those of an earlier compilation, see [`super::Cache`].
    pub cached: bool,
    /// Functions whose machine code is that of earlier compilations, of how many; of none where the cache was not asked.
    pub reused: (usize, usize),
}

/// A compilation whose files are not in their places yet.
pub(super) struct Made {
    /// The files, all but the depfile.
    pub staged: Staging,
    /// What it is; the files are to come.
    pub compiled: Compiled,
    /// The model file and its files of external data.
    pub sources: Vec<PathBuf>,
    /// The page that [`Request::report`] asks for.
    pub page: Option<String>,
}

/// Compile a model into files. On an error no file is left behind.
pub fn compile(request: &Request) -> Result<Compiled> {
    compile_changed(request, &Ok)
}

/// As [`compile`], for the graph that `change` makes of the model's.
pub fn compile_changed(request: &Request, change: &dyn Fn(Graph) -> Result<Graph>) -> Result<Compiled> {
    check(request)?;
    place(request, make(request, change, None)?)
}

/// What there is to do beside about sizes that only a run tells.
const RUN_INSTEAD: &str = "an artifact has no interpreter; `egret run` and the JIT engine interpret the nodes that tell such a size, and compile \
                           the others for it";

/// Compile the graph that `change` makes of a model's, of a request that was checked; `cache` has machine code of earlier compilations.
pub(super) fn make(
    request: &Request,
    change: &dyn Fn(Graph) -> Result<Graph>,
    cache: Option<Arc<dyn CodeCache>>,
) -> Result<Made> {
    let Imported { files: sources, graph, bound, mut notes, .. } = request.source.import()?;
    let graph = change(graph)?;
    if graph.outputs().is_empty() {
        return Err(Error::user(
            "the model has no output, so that there is nothing to compute; name one in its graph (output)",
        ));
    }
    // What passes over all bytes of the model, beside what is made of it.
    let passed = {
        let (model, constants) = (sources[0].clone(), egret_ir::text::constants(&graph));
        move || {
            let before = notes::Constants::among(&constants);
            drop(constants);
            hash_of(&model).map(|hash| (hash, before))
        }
    };
    // What is told of a compilation is about the highest level.
    let mut below = request.options.each_level();
    let top = below.pop().ok_or_else(|| Error::internal("a compilation without a target"))?;
    let mut recorder = match &request.report {
        Some(_) => Some(report::Recorder::new(pipeline::cost_model(&top)?)),
        None => None,
    };
    if let Some(r) = &mut recorder {
        r.stage(report::IMPORT, &graph);
    }
    let options = Options { explain: true, ..top.clone() };
    // Whether a run could do what an artifact cannot.
    let mixed = Plan::of(&graph, Cut::Counted)?.is_some();
    let lower = || -> Result<(Vec<Program>, Lowered, story::Story)> {
        let program = |level| Ok(pipeline::lower(graph.clone(), level, &bound)?.program);
        let programs = below.iter().map(program).collect::<Result<Vec<_>>>()?;
        let Some(r) = &mut recorder else {
            return Ok((programs, pipeline::lower(graph, &options, &bound)?, story::Story::default()));
        };
        let about = story::Request { bound: bound.clone(), ..story::Request::default() };
        let told = story::tell(graph, &options, &about, &mut |pass| r.pass(pass))?;
        let lowered = Lowered {
            graph: told.graph,
            program: told.program?,
            nodes: told.nodes,
            slow: told.slow,
            trace: told.trace,
        };
        Ok((programs, lowered, told.story))
    };
    let (passed, lowered) = egret_threads::both(passed, lower);
    let lowered = lowered.map_err(|e| match mixed && pipeline::is_told_by_runs(&e) {
        true => Error { message: format!("{}\n{RUN_INSTEAD}", e.message), ..e },
        false => e,
    });
    let ((mut programs, lowered, story), (model_hash, before)) = (lowered?, passed?);
    let target = pipeline::target_name(&request.options)?;
    notes.extend(notes::of(&before, &lowered, &options));
    let Lowered { graph, program, trace, .. } = lowered;
    let kernels = program.calls.len();
    let free_dims = program.symbols.iter().map(|s| s.name.clone()).collect();
    notes.extend(notes::growth(frontend::bytes_of(&sources)?, program.weights.len(), &graph));
    let page = recorder.map(|recorder| {
        let focus = report::Focus::default();
        report::page(&recorder.finish(&request.options.name, &trace, &story, Ok(&program), &focus))
    });
    // Graphs hold the weights as they were in the model.
    drop((graph, story));
    programs.push(program);
    let parts = Parts::of(&request.options, programs)?;
    let (arena_bytes, weights_bytes) = (parts.front.arena_bytes, parts.front.weights.len());
    let weights = match request.weights {
        WeightsPlace::Embed => pipeline::WeightsPlace::Embedded,
        WeightsPlace::File => pipeline::WeightsPlace::External,
    };
    let object = ObjectOptions { weights, model_hash, cache };
    let staged = files(request, &sources, parts, &trace, &object, &target)?;
    let target = pipeline::target_words(&request.options)?;
    let compiled = Compiled {
        files: vec![],
        kernels,
        arena_bytes,
        free_dims,
        weights_bytes,
        target,
        notes,
        cached: false,
        reused: (0, 0),
    };
    Ok(Made { staged, compiled, sources, page })
}

/// Put the files of a compilation into their places, and the depfile with them: it names these.
pub(super) fn place(request: &Request, made: Made) -> Result<Compiled> {
    let Made { mut staged, mut compiled, sources, page } = made;
    let given = request.source.given_files();
    let sources: Vec<&PathBuf> =
        sources.iter().chain(&given).chain(&request.read).chain(&request.settings).collect();
    let depfile = depfile::rule(&sources, &request.out_dir, staged.files().keys())?;
    staged.write(&format!("{}.d", request.options.name), &depfile)?;
    if request.keep_times {
        staged.keep_times(|name| [".h", ".hpp", ".rs"].iter().any(|end| name.ends_with(end)));
    }
    compiled.files = staged.finish()?;
    if let (Some(path), Some(page)) = (&request.report, page) {
        if let Err(e) = crate::files::write(path, page.as_bytes()) {
            compiled.files.iter().for_each(|f| drop(std::fs::remove_file(f)));
            return Err(e);
        }
        compiled.files.push(path.clone());
    }
    Ok(compiled)
}

/// Refuse what no model can be compiled to.
pub(super) fn check(request: &Request) -> Result<()> {
    let name = &request.options.name;
    if !options::is_identifier(name) {
        return Err(Error::user(format!(
            "--name `{name}` is no identifier of C; use letters, digits and _ only"
        )));
    }
    if name == "egret" {
        return Err(Error::user("--name `egret`: the C ABI has types that begin so; use another name"));
    }
    pipeline::check_target(&request.options)?;
    if request.emit.iter().any(|e| [Emit::So, Emit::Exe].contains(e)) {
        crate::targets::check_linked(&request.options)?;
    }
    if request.emit.contains(&Emit::Exe) && request.weights == WeightsPlace::File {
        return Err(Error::user(
            "an executable carries its weights, up to 1 GiB of them: use --weights embed with --emit exe, or --emit lib with --weights file",
        ));
    }
    if request.options.keeps_denormals() && request.options.denormals() == Denormals::Flush {
        return Err(Error::user(format!(
            "code for {} keeps subnormal numbers, it has nothing that flushes them: use --denormals keep",
            request.options.target
        )));
    }
    check_wasm(request)
}

/// Refuse modules for what is no WebAssembly, and all else for what is.
fn check_wasm(request: &Request) -> Result<()> {
    let emits = request.emit.contains(&Emit::Wasm);
    if !request.options.is_wasm() {
        return match emits {
            true => Err(Error::user(
                "a WebAssembly module is for the target wasm32: use --target wasm32 with --emit wasm",
            )),
            false => Ok(()),
        };
    }
    if !emits || request.emit.iter().any(|e| ![Emit::Wasm, Emit::Sbom].contains(e)) {
        return Err(Error::user(
            "code for the target wasm32 is a WebAssembly module, and no object, library or header: use --emit wasm (or wasm,sbom)",
        ));
    }
    if request.weights == WeightsPlace::File {
        return Err(Error::user("a WebAssembly module carries its weights: use --weights embed"));
    }
    Ok(())
}

/// The programs of an artifact.
struct Parts {
    /// What callers see.
    front: Program,
    /// The levels of its instruction set, lowest first, each with its options and the name of its object; none where there is one, which is the front.
    levels: Vec<(Options, Program, String)>,
}

impl Parts {
    /// Of a program for each level of the options.
    fn of(options: &Options, mut programs: Vec<Program>) -> Result<Parts> {
        if options.lower.is_empty()
            && let Some(front) = programs.pop()
        {
            return Ok(Parts { front, levels: vec![] });
        }
        let pipeline::Levels { front, levels } = pipeline::join(programs)?;
        let named = |(options, program): (Options, Program)| {
            let level = pipeline::target_level(&options)?.replace('-', "_");
            let object = format!("{}_{level}.o", program.name);
            Ok((options, program, object))
        };
        let levels = options.each_level().into_iter().zip(levels).map(named).collect::<Result<_>>()?;
        Ok(Parts { front, levels })
    }
}

/// Write every file but the depfile; `sources` is the model file and its files of external data.
fn files(
    request: &Request,
    sources: &[PathBuf],
    parts: Parts,
    trace: &Trace,
    options: &ObjectOptions,
    target: &str,
) -> Result<Staging> {
    let Parts { front: mut program, levels } = parts;
    let m = &program.name.clone();
    let wants = |e: Emit| request.emit.contains(&e);
    let embedded = request.weights == WeightsPlace::Embed;
    let model_hash = &options.model_hash;
    let object_name = format!("{m}.o");
    let weights_bytes = program.weights.len();
    let mut out = Staging::new(&request.out_dir)?;
    // No copy of the weights is made without need, or kept for longer than it is needed.
    let linked = wants(Emit::Lib) || wants(Emit::So) || wants(Emit::Exe);
    let weights_hash = if wants(Emit::Wasm) {
        out.write(&format!("{m}.wasm"), &pipeline::wasm_module(&program)?)?;
        *blake3::hash(&program.weights).as_bytes()
    } else {
        let write = |file: &mut dyn std::io::Write| match &levels[..] {
            [] => pipeline::object_into(&program, &request.options, options, file),
            _ => pipeline::front_into(&program, &request.options, options, file),
        };
        match (wants(Emit::Obj), linked) {
            (true, _) => out.stream(&object_name, write)?,
            (false, true) => out.stream_aside(&object_name, write)?,
            // Without the object, its weights are hashed all the same.
            (false, false) => write(&mut std::io::sink())?
                .map_err(|e| Error::internal(format!("an object for nobody: {e}")))?,
        }
    };
    let weights = std::mem::take(&mut program.weights);
    if !embedded {
        let head = abi::weights_header(weights_bytes as u64, &weights_hash);
        out.stream(&format!("{m}.weights"), |file| {
            let mut written = file.write_all(&head);
            weights.each(|piece| {
                if written.is_ok() {
                    written = file.write_all(piece);
                }
            });
            Ok(written)
        })?;
    }
    drop(weights);
    let program = &program;
    let mut objects = vec![];
    if linked || wants(Emit::Obj) {
        objects.push((object_name.clone(), if linked { out.read(&object_name)? } else { vec![] }));
        for (level, program, name) in &levels {
            let object = pipeline::level_object(program, level, &levels[0].0, options, weights_hash)?;
            if wants(Emit::Obj) {
                out.write(name, &object)?;
            }
            objects.push((name.clone(), object));
        }
    }
    let archive = match wants(Emit::Lib) || wants(Emit::Exe) {
        true => {
            let members: Vec<_> = objects.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
            pipeline::archive(&members)?
        }
        false => vec![],
    };
    let header = header::header(program, embedded, request.options.denormals(), model_hash);
    if wants(Emit::So) || wants(Emit::Exe) {
        // The linker works on files, in a folder of their own and by relative names, so that no path gets into the result.
        let dir = Scratch::new()?;
        let cross = crate::targets::foreign(&request.options)?;
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(at(name), bytes).map_err(|e| Error::io("write", &at(name), &e))
        };
        let read = |name: &str| std::fs::read(at(name)).map_err(|e| Error::io("read", &at(name), &e));
        if wants(Emit::So) {
            for (name, object) in &objects {
                write(name, object)?;
            }
            let objects: Vec<PathBuf> = objects.iter().map(|(name, _)| at(name)).collect();
            link::shared(&objects, &at("model.so"), cross.clone())?;
            out.write(&format!("lib{m}.so"), &read("model.so")?)?;
        }
        if wants(Emit::Exe) {
            write("model.a", &archive)?;
            write(&format!("{m}.h"), header.as_bytes())?;
            write("main.c", exe::main_c(program).as_bytes())?;
            link::executable(dir.path(), "main.c", "model.a", "model.exe", cross)?;
            out.write(m, &read("model.exe")?)?;
        }
    }
    drop(objects);
    if wants(Emit::Lib) {
        out.write(&format!("lib{m}.a"), &archive)?;
    }
    drop(archive);
    if wants(Emit::Header) || wants(Emit::Hpp) {
        out.write(&format!("{m}.h"), header.as_bytes())?;
    }
    if wants(Emit::Hpp) {
        out.write(&format!("{m}.hpp"), hpp::header(program, embedded, model_hash).as_bytes())?;
    }
    if wants(Emit::Pc) {
        out.write(&format!("{m}.pc"), pc::package(program).as_bytes())?;
    }
    if wants(Emit::Rs) {
        out.write(&format!("{m}.rs"), rust::rust_module(program, embedded).as_bytes())?;
    }
    out.write(&format!("{m}.trace"), &trace.to_bytes())?;
    let facts =
        Facts { model: &sources[0], model_hash, weights_bytes, weights_hash: &weights_hash, target };
    if wants(Emit::Sbom) {
        let bill = sbom::bill(program, &facts, out.files(), sources)?;
        out.write(&format!("{m}.cdx.json"), &bill)?;
    }
    let levels: Vec<_> = levels.iter().map(|(options, program, _)| (options, program)).collect();
    let manifest = manifest(request, program, &levels, &facts, out.files())?;
    out.write(&format!("{m}.manifest.json"), &manifest)?;
    Ok(out)
}
