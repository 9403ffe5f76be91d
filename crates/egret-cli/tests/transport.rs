//! `egret run --plan --data --transport process`: the bits of threads, and one message, a code and no hang where the process of a stage ends, stops,
//! or has another model.
#![cfg(unix)]

mod kit;

use egret::stages::{Give, Staged};
use egret::{ErrorKind, Options, Result};
use kit::stages::{FAR, PICK, TOWERS, for_towers, numbers, partition, save, with_copies, write};
use kit::{egret, model, names, path, refused, temp, text, works};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any answer of these tests takes, on a machine that does much else.
const LONG: Duration = Duration::from_secs(300);

/// Both transports write the same files.
#[track_caller]
fn same(dir: &TempDir, args: &[&str]) {
    let read = |transport: &str, to: &str| {
        let out = path(dir, to);
        works(&[args, &["--transport", transport, "-o", &out]].concat());
        let files = names(Path::new(&out)).into_iter().map(|name| {
            let bytes = fs::read(Path::new(&out).join(&name)).unwrap();
            (name, bytes)
        });
        let files: Vec<_> = files.collect();
        fs::remove_dir_all(&out).unwrap();
        files
    };
    let (thread, process) = (read("thread", "threads"), read("process", "processes"));
    assert!(!thread.is_empty() && thread == process, "{args:?}");
}

#[test]
fn processes_give_the_bits_of_threads() {
    let dir = temp();
    for stages in [1, 3] {
        let (plan, read) = partition(&dir, &model("simple_cnn"), stages);
        let batch = save(&dir, "batch.npz", &[(&read.inputs[0].name, &numbers(&[12, 1, 28, 28], 0))]);
        for threads in ["1", "5"] {
            same(&dir, &["run", "--plan", &plan, "--data", &batch, "--threads", threads]);
        }
    }
    // Values that pass through stages, outputs of stages in the middle, dims of each sample's own, and of 0.
    let file = write(&dir, "far.egret", FAR);
    let (plan, _) = partition(&dir, &file, 4);
    fs::create_dir(path(&dir, "data")).unwrap();
    for (k, n) in [5, 1, 70, 0, 33, 2].into_iter().enumerate() {
        save(&dir, &format!("data/{k}.npz"), &[("x", &numbers(&[1, n, 16], k))]);
    }
    same(&dir, &["run", "--plan", &plan, "--data", &path(&dir, "data"), "--input", "idle=[1,2]"]);
    // Copies, and stages of one step.
    with_copies(&plan, &[2, 1, 3, 1]);
    same(&dir, &["run", "--plan", &plan, "--data", &path(&dir, "data"), "--input", "idle=[1,2]"]);
    let (towers, read) = partition(&dir, &write(&dir, "towers.egret", TOWERS), 3);
    assert_eq!(read.steps(), [0..2, 2..3]);
    let data = for_towers(&dir, 10, |_| false);
    for copies in [[1, 1, 1], [2, 1, 3]] {
        with_copies(&towers, &copies);
        same(&dir, &["run", "--plan", &towers, "--data", &data]);
    }
    // Element types of 1, 2 and 8 bytes cross.
    let body = "graph @g(%0 \"x\": f16[64, 64]) -> (%3 \"half\", %6 \"y\", %5 \"whole\") {
  %1 = const f16[64, 64] random(1)
  %2 = matmul(%0, %1)
  %3 = matmul(%2, %1)
  %4 = cast(%3) {round = \"nearest\", saturate = 0, to = i8}
  %5 = cast(%4) {round = \"nearest\", saturate = 0, to = i64}
  %6 = cumulative(%5) {axis = 0, exclusive = 0, kind = \"sum\", reverse = 0}
}";
    let file = write(&dir, "types.egret", body);
    let half = numbers(&[3, 64, 64], 1).data::<f32>().iter().map(|v| half::f16::from_f32(*v)).collect();
    let batch = save(&dir, "half.npz", &[("x", &egret::ir::Tensor::new::<half::f16>(&[3, 64, 64], half))]);
    let (plan, read) = partition(&dir, &file, 3);
    assert!(read.cuts.iter().any(|c| c.values.iter().any(|v| !v.ty.starts_with("f32"))), "{read:?}");
    same(&dir, &["run", "--plan", &plan, "--data", &batch]);
}

#[test]
fn an_error_of_a_stage_comes_out_of_its_process() {
    let dir = temp();
    let (plan, _) = partition(&dir, &write(&dir, "pick.egret", PICK), 3);
    let rows = (0..40).map(|k| if k / 2 == 7 { 64 } else { k }).collect();
    let rows = egret::ir::Tensor::new::<i64>(&[20, 2], rows);
    let batch = save(&dir, "batch.npz", &[("x", &numbers(&[20, 64, 64], 0)), ("at", &rows)]);
    let said = |transport: &str| {
        let out = path(&dir, transport);
        let done = egret(&["run", "--plan", &plan, "--data", &batch, "-o", &out, "--transport", transport]);
        assert_eq!(names(Path::new(&out)).len(), 7, "samples before it are written");
        (done.status.code(), text(&done.stderr).lines().last().unwrap_or_default().to_owned())
    };
    let (thread, process) = (said("thread"), said("process"));
    assert!(process.1.contains("sample 7: stage 1 (stage1.egret): "), "{process:?}");
    assert_eq!((thread.0, &thread), (Some(1), &process));
    // The same with copies.
    with_copies(&plan, &[1, 3, 2]);
    for out in ["thread", "process"] {
        fs::remove_dir_all(path(&dir, out)).unwrap();
    }
    assert_eq!((said("thread"), said("process")), (process.clone(), process));
    // What is wrong before a stage starts, and options that do not fit.
    let run = ["run", "--plan", &plan, "--data", &batch];
    refused(&[&run[..], &["--transport", "pigeon"]].concat(), 1, &["pigeon", "thread, process"]);
    refused(&[&run[..], &["--transport", "thread", "--timeout", "3"]].concat(), 1, &["--timeout is for"]);
    refused(&[&run[..], &["--transport", "process", "--timeout", "0"]].concat(), 1, &["at least 1"]);
    refused(&["run", "--plan", &plan, "--transport", "process"], 1, &["--data"]);
    refused(&["run", "--plan", &plan, "--as-stage", "0"], 1, &["started by"]);
    let whole = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, whole.replacen("used = [1", "used = [2", 1)).unwrap();
    refused(&[&run[..], &["--transport", "process"]].concat(), 1, &["cut 0"]);
    // A stage that cannot be read by its process either.
    fs::write(&plan, whole.replacen("stage1.egret", "stage7.egret", 1)).unwrap();
    refused(&[&run[..], &["--transport", "process"]].concat(), 1, &["stage7.egret"]);
}

/// A plan whose processes write down their numbers.
struct Watched {
    dir: TempDir,
    plan: String,
}

impl Watched {
    fn new() -> Watched {
        let dir = temp();
        let (plan, _) = partition(&dir, &model("simple_cnn"), 3);
        Watched { dir, plan }
    }

    /// The command of a stage, of this plan or another.
    fn stage(&self, k: usize, plan: &str) -> Command {
        let egret = env!("CARGO_BIN_EXE_egret");
        let script = format!(
            "echo $$ > '{}'; exec '{egret}' run --as-stage {k} --plan '{plan}'",
            path(&self.dir, &format!("pid{k}"))
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    }

    fn open(&self, limit: Duration) -> Staged {
        let options = Options::default();
        let plan = Path::new(&self.plan);
        Staged::open_processes(plan, &options, limit, |k| self.stage(k, &self.plan)).unwrap()
    }

    fn pid(&self, k: usize) -> String {
        fs::read_to_string(path(&self.dir, &format!("pid{k}"))).unwrap().trim().to_owned()
    }

    fn signal(&self, k: usize, signal: &str) -> bool {
        let kill = Command::new("kill").args([signal, &self.pid(k)]).output().expect("kill starts");
        kill.status.success()
    }

    fn none_is_left(&self) {
        for k in 0..3 {
            assert!(!self.signal(k, "-0"), "stage {k} still runs");
        }
    }
}

/// Samples of the model, without an end.
fn endless(give: &mut Give<'_>) -> Result<()> {
    loop {
        give(vec![numbers(&[1, 1, 28, 28], 3).into()])?;
    }
}

#[test]
fn a_stage_that_is_killed_ends_the_stream() {
    let watched = Watched::new();
    for k in 0..3 {
        let staged = watched.open(LONG);
        let mut taken = 0;
        let ended = staged.stream(endless, |number, outputs| {
            assert_eq!((number, outputs.len()), (taken, staged.outputs().len()));
            taken += 1;
            if number == 4 {
                assert!(watched.signal(k, "-KILL"));
            }
            Ok(())
        });
        let error = ended.unwrap_err();
        let said = format!(
            "sample {taken}: stage {k} (stage{k}.egret): its process ({}) was ended by signal 9",
            watched.pid(k)
        );
        assert_eq!((error.kind, error.message), (ErrorKind::Lost, said));
        assert!(taken > 4);
        // It stays lost.
        let again = staged.stream(endless, |_, _| Ok(())).unwrap_err();
        assert_eq!(again.kind, ErrorKind::Lost);
        drop(staged);
        watched.none_is_left();
    }
}

#[test]
fn a_stage_that_does_not_answer_ends_the_stream_and_a_slow_one_does_not() {
    let watched = Watched::new();
    // One of two copies: the other goes on, and waits.
    with_copies(&watched.plan, &[1, 2, 1]);
    let staged = watched.open(Duration::from_secs(20));
    let began = Instant::now();
    let ended = staged.stream(endless, |number, _| {
        if number == 4 {
            assert!(watched.signal(1, "-STOP"));
        }
        Ok(())
    });
    let error = ended.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lost, "{error}");
    for part in ["stage 1 (stage1.egret)", "has not answered within 20 s", "--timeout"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(began.elapsed() < LONG);
    drop(staged);
    watched.none_is_left();
    with_copies(&watched.plan, &[1, 1, 1]);
    // One that goes on in time.
    let staged = watched.open(LONG);
    let source =
        |give: &mut Give<'_>| (0..60).try_for_each(|k| give(vec![numbers(&[1, 1, 28, 28], k).into()]));
    let mut outputs = vec![];
    std::thread::scope(|scope| {
        let done = staged.stream(source, |number, values| {
            if number == 2 {
                assert!(watched.signal(1, "-STOP"));
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_secs(1));
                    assert!(watched.signal(1, "-CONT"));
                });
            }
            outputs.push(values);
            Ok(())
        });
        let done = done.unwrap();
        assert!(done.samples == 60 && done.time > Duration::from_millis(900), "{done:?}");
    });
    let here = Staged::open(Path::new(&watched.plan), &Options::default()).unwrap();
    for (k, values) in outputs.iter().enumerate() {
        let alone = here.run(&[numbers(&[1, 1, 28, 28], k).into()]).unwrap();
        assert!(
            alone
                .iter()
                .zip(values)
                .all(|(a, b)| a.as_tensor().unwrap().bytes() == b.as_tensor().unwrap().bytes())
        );
    }
}

#[test]
fn processes_of_another_model_and_those_that_are_none_are_told() {
    let watched = Watched::new();
    // The same graph with another weight: types fit, and so does the plan.
    let (a, b) = (temp(), temp());
    let other = FAR.replace("random(2)", "random(3)");
    let (plan, _) = partition(&a, &write(&a, "far.egret", FAR), 2);
    let (changed, _) = partition(&b, &write(&b, "far.egret", &other), 2);
    let open = |plan: &str, limit: u64, command: &dyn Fn(usize) -> Command| {
        let opened = Staged::open_processes(
            Path::new(plan),
            &Options::default(),
            Duration::from_secs(limit),
            command,
        );
        let error = opened.err().expect("it is refused");
        (error.kind, error.message)
    };
    let (kind, said) = open(&plan, 300, &|k| watched.stage(k, [&plan, &changed][k.min(1)]));
    assert!(kind == ErrorKind::User && said.contains("other weights"), "{said}");
    // Each has its stage by itself.
    let (kind, said) = open(&plan, 300, &|k| watched.stage(1 - k, &plan));
    assert!(kind == ErrorKind::User && said.contains("stage 0") && said.contains("another plan"), "{said}");
    let (kind, said) = open(&plan, 300, &|_| watched.stage(5, &plan));
    assert!(kind == ErrorKind::User && said.contains("no such stage"), "{said}");
    let (kind, said) = open(&plan, 300, &|_| Command::new("false"));
    assert!(kind == ErrorKind::Lost && said.contains("ended with exit code 1"), "{said}");
    let (kind, said) = open(&plan, 300, &|_| Command::new("/no/such/program"));
    assert!(kind == ErrorKind::User && said.contains("cannot be started"), "{said}");
    let silent = |_| {
        let mut sleep = Command::new("sleep");
        sleep.arg("300");
        sleep
    };
    let (kind, said) = open(&plan, 1, &silent);
    assert!(kind == ErrorKind::Lost && said.contains("not answered within 1 s to compile"), "{said}");
}

/// The processes of stages of a plan, by stage.
#[cfg(target_os = "linux")]
fn running(plan: &str) -> Vec<(String, String)> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|e| {
        let pid = e.ok()?.file_name().into_string().ok()?;
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let args: Vec<&str> = line.split('\0').collect();
        let stage = args.iter().position(|a| *a == "--as-stage")?;
        args.contains(&plan).then(|| (args[stage + 1].to_owned(), pid.clone()))
    });
    processes.collect()
}

#[test]
#[cfg(target_os = "linux")]
fn the_command_ends_when_a_stage_does_and_stages_when_the_command_does() {
    for (whole, copies) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let dir = temp();
        let (plan, read) = partition(&dir, &model("simple_cnn"), 2);
        with_copies(&plan, &[1, copies]);
        let input = &read.inputs[0].name;
        // More than it gets to.
        let batch = save(&dir, "batch.npz", &[(input, &numbers(&[10_000, 1, 28, 28], 0))]);
        let out = path(&dir, "out");
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        command.args(["run", "--plan", &plan, "--data", &batch, "-o", &out, "--transport", "process"]);
        let errors = fs::File::create(path(&dir, "errors")).unwrap();
        let mut child = command.stderr(errors).spawn().unwrap();
        let wait = |what: &str, ready: &mut dyn FnMut() -> bool| {
            let began = Instant::now();
            while !ready() {
                assert!(began.elapsed() < LONG, "{what}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait("the first results", &mut || Path::new(&out).join("0003.npz").exists());
        let stages = running(&plan);
        assert_eq!(stages.len(), 1 + copies, "{stages:?}");
        let last = stages.iter().find(|(stage, _)| stage == "1").unwrap();
        let victim = if whole { child.id().to_string() } else { last.1.clone() };
        assert!(Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
        let ended = child.wait().unwrap();
        wait("stages end", &mut || running(&plan).is_empty());
        if !whole {
            assert_eq!(ended.code(), Some(6));
            let said = fs::read_to_string(path(&dir, "errors")).unwrap();
            let messages: Vec<&str> = said.lines().filter(|l| l.starts_with("egret: ")).collect();
            let done = names(Path::new(&out)).len();
            let message = format!(
                "egret: sample {done}: stage 1 (stage1.egret): its process ({victim}) was ended by signal 9"
            );
            assert_eq!(messages, [message]);
        }
    }
}

/// Time in which the command does not run is not held against its stages.
#[test]
#[cfg(target_os = "linux")]
fn a_command_that_was_stopped_with_its_stages_goes_on() {
    let dir = temp();
    let (plan, read) = partition(&dir, &model("simple_cnn"), 2);
    let batch = save(&dir, "batch.npz", &[(&read.inputs[0].name, &numbers(&[2000, 1, 28, 28], 0))]);
    let out = path(&dir, "out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    command.args(["run", "--plan", &plan, "--data", &batch, "-o", &out, "--transport", "process"]);
    let mut child = command.args(["--timeout", "10"]).spawn().unwrap();
    let began = Instant::now();
    while !Path::new(&out).join("0003.npz").exists() {
        assert!(began.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(5));
    }
    let stages = running(&plan).into_iter().map(|(_, pid)| pid);
    let all: Vec<String> = std::iter::once(child.id().to_string()).chain(stages).collect();
    assert_eq!(all.len(), 3, "it ended before it was stopped");
    let signal =
        |signal: &str| assert!(Command::new("kill").arg(signal).args(&all).status().unwrap().success());
    signal("-STOP");
    std::thread::sleep(Duration::from_secs(12));
    // Stages answer after the command has looked.
    signal("-CONT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(names(Path::new(&out)).len(), 2000);
}
