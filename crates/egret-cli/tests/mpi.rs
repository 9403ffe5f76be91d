//! `mpirun -n N egret run --plan --data --transport mpi`: the bits of threads, and one message, a code and no hang where a rank is killed, stops, or has another plan.
#![cfg(unix)]

mod kit;

#[cfg(not(feature = "mpi"))]
#[test]
fn without_mpi_it_is_refused_with_what_to_install() {
    use kit::stages::{numbers, partition, save};
    let dir = kit::temp();
    let (plan, read) = partition(&dir, &kit::model("simple_cnn"), 2);
    let batch = save(&dir, "batch.npz", &[(&read.inputs[0].name, &numbers(&[2, 1, 28, 28], 0))]);
    let run = ["run", "--plan", &plan, "--data", &batch, "--transport", "mpi"];
    kit::refused(&run, 2, &["built without MPI", "libopenmpi-dev", "--features mpi"]);
    eprintln!("left out: stages on ranks of MPI (egret-cli is built without its feature `mpi`)");
}

#[cfg(feature = "mpi")]
mod with {
    use super::kit::stages::{FAR, PICK, TOWERS, for_towers, numbers, partition, save, with_copies, write};
    use super::kit::{egret, model, names, path, temp, text, works};
    use std::fs::{self, File};
    use std::path::Path;
    use std::process::{Command, Output};
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    /// Longer than any of these runs takes, on a machine that does much else.
    const LONG: Duration = Duration::from_secs(300);

    /// What starts the ranks, of a plan for each or one for all.
    fn mpirun(plans: &[&str], ranks: usize, args: &[&str]) -> Command {
        let mut command = Command::new("mpirun");
        // Root has to say so in containers, and there are more ranks than cores.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .env("OMPI_MCA_hwloc_base_binding_policy", "none");
        let each = if plans.len() == 1 { ranks } else { 1 };
        for (k, plan) in plans.iter().enumerate() {
            if k > 0 {
                command.arg(":");
            }
            let egret = env!("CARGO_BIN_EXE_egret");
            command.args(["-n", &each.to_string(), egret, "run", "--transport", "mpi", "--plan", plan]);
            command.args(args);
        }
        command
    }

    /// Whether there is an mpirun; a line says so where there is none.
    fn is_there() -> bool {
        let there = Command::new("mpirun").arg("--version").output().is_ok();
        if !there {
            eprintln!("left out: stages on ranks of MPI (mpirun is not installed)");
        }
        there
    }

    /// The files of a folder, which goes.
    fn files(out: &str) -> Vec<(String, Vec<u8>)> {
        let read = |name: String| {
            let bytes = fs::read(Path::new(out).join(&name)).unwrap();
            (name, bytes)
        };
        let all = names(Path::new(out)).into_iter().map(read).collect();
        fs::remove_dir_all(out).unwrap();
        all
    }

    /// The messages of a run, which are Egret's: mpirun has its own.
    fn messages(out: &Output) -> Vec<String> {
        let said = text(&out.stderr);
        said.lines().filter(|l| l.starts_with("egret: ")).map(str::to_owned).collect()
    }

    /// One to so many ranks write what threads do.
    #[track_caller]
    fn same(dir: &TempDir, plan: &str, args: &[&str], ranks: usize) {
        let out = path(dir, "out");
        works(&[&["run", "--plan", plan], args, &["-o", &out]].concat());
        let threads = files(&out);
        assert!(!threads.is_empty());
        for n in 1..=ranks {
            let done = mpirun(&[plan], n, &[args, &["-o", &out]].concat()).output().expect("mpirun starts");
            assert_eq!(done.status.code(), Some(0), "{n}: {}", text(&done.stderr));
            assert!(files(&out) == threads, "{n} ranks: {args:?}");
        }
    }

    #[test]
    fn ranks_give_the_bits_of_threads() {
        if !is_there() {
            return;
        }
        let dir = temp();
        for (stages, ranks) in [(1, 3), (3, 4)] {
            let (plan, read) = partition(&dir, &model("simple_cnn"), stages);
            let batch = save(&dir, "batch.npz", &[(&read.inputs[0].name, &numbers(&[30, 1, 28, 28], 0))]);
            same(&dir, &plan, &["--data", &batch], ranks);
        }
        // Values that pass through stages, outputs of stages in the middle, dims of each sample's own, and of 0; some are long.
        let (plan, _) = partition(&dir, &write(&dir, "far.egret", FAR), 4);
        fs::create_dir(path(&dir, "data")).unwrap();
        for (k, n) in [5, 1, 70, 0, 60_000, 2].into_iter().enumerate() {
            save(&dir, &format!("data/{k}.npz"), &[("x", &numbers(&[1, n, 16], k))]);
        }
        let far = path(&dir, "data");
        same(&dir, &plan, &["--data", &far, "--input", "idle=[1,2]"], 4);
        with_copies(&plan, &[2, 1, 1, 2]);
        same(&dir, &plan, &["--data", &far, "--input", "idle=[1,2]"], 7);
        // Stages of one step, with copies and without.
        let (towers, read) = partition(&dir, &write(&dir, "towers.egret", TOWERS), 3);
        assert_eq!(read.steps(), [0..2, 2..3]);
        let data = for_towers(&dir, 20, |_| false);
        same(&dir, &towers, &["--data", &data], 4);
        with_copies(&towers, &[1, 2, 1]);
        same(&dir, &towers, &["--data", &data], 5);
    }

    #[test]
    fn errors_are_those_of_threads() {
        if !is_there() {
            return;
        }
        let dir = temp();
        let (plan, _) = partition(&dir, &write(&dir, "pick.egret", PICK), 3);
        let rows = (0..40).map(|k| if k / 2 == 7 { 64 } else { k }).collect();
        let rows = egret::ir::Tensor::new::<i64>(&[20, 2], rows);
        let batch = save(&dir, "batch.npz", &[("x", &numbers(&[20, 64, 64], 0)), ("at", &rows)]);
        let args = |out: &str| ["--data".to_owned(), batch.clone(), "-o".to_owned(), out.to_owned()];
        let threads = path(&dir, "threads");
        let alone = args(&threads);
        let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
        let alone = egret(&[&["run", "--plan", &plan], &alone[..]].concat());
        for n in [1, 3, 5] {
            let out = path(&dir, &format!("ranks{n}"));
            let given = args(&out);
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            let done = mpirun(&[&plan], n, &given).output().unwrap();
            assert_eq!((done.status.code(), messages(&done)), (Some(1), messages(&alone)), "{n}");
            assert_eq!(names(Path::new(&out)).len(), 7, "samples before it are written");
            // What is wrong before anything is compiled: the folder has files now.
            let again = mpirun(&[&plan], n, &given).output().unwrap();
            let said = messages(&again);
            assert!(
                again.status.code() == Some(1) && said.len() == 1 && said[0].contains("not empty"),
                "{said:?}"
            );
        }
        // Another weight, in a plan of the same stages.
        let (a, b) = (temp(), temp());
        let (one, _) = partition(&a, &write(&a, "far.egret", FAR), 2);
        let changed = FAR.replace("random(2)", "random(3)");
        let (other, _) = partition(&b, &write(&b, "far.egret", &changed), 2);
        let far = save(&dir, "far.npz", &[("x", &numbers(&[3, 5, 16], 0))]);
        let given = ["--data", &far, "--input", "idle=[1,2]"];
        let done = mpirun(&[&one, &other], 2, &given).output().unwrap();
        let said = messages(&done);
        assert_eq!((done.status.code(), said.len()), (Some(1), 1), "{said:?}");
        assert!(said[0].contains("rank 1 has another plan, other weights"), "{said:?}");
        // No plan at all, for one and for all.
        let done = mpirun(&[&one, "nowhere.toml"], 2, &given).output().unwrap();
        let said = messages(&done);
        assert!(said.len() == 1 && said[0].contains("rank 1: ") && said[0].contains("nowhere"), "{said:?}");
        let done = mpirun(&["nowhere.toml"], 3, &given).output().unwrap();
        let said = messages(&done);
        assert!(
            done.status.code() == Some(1) && said.len() == 1 && said[0].contains("nowhere"),
            "{said:?}"
        );
    }

    /// The processes of the ranks of a plan, by rank.
    #[cfg(target_os = "linux")]
    fn running(plan: &str) -> Vec<(usize, String)> {
        let processes = fs::read_dir("/proc").unwrap().filter_map(|e| {
            let pid = e.ok()?.file_name().into_string().ok()?;
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let args: Vec<&str> = line.split('\0').collect();
            if !(args.first()?.ends_with("egret") && args.contains(&plan)) {
                return None;
            }
            let env = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let env = String::from_utf8_lossy(&env).into_owned();
            let rank = |name: &str| env.split('\0').find_map(|v| v.strip_prefix(name)?.parse().ok());
            Some((rank("OMPI_COMM_WORLD_RANK=").or_else(|| rank("PMI_RANK="))?, pid))
        });
        processes.collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_rank_that_is_killed_or_stops_ends_the_run() {
        if !is_there() {
            return;
        }
        for (signal, victim) in [("-KILL", 1), ("-KILL", 0), ("-STOP", 1), ("-STOP", 0)] {
            let dir = temp();
            let (plan, read) = partition(&dir, &model("simple_cnn"), 2);
            // More than it gets to.
            let input = &read.inputs[0].name;
            let batch = save(&dir, "batch.npz", &[(input, &numbers(&[20_000, 1, 28, 28], 0))]);
            let out = path(&dir, "out");
            let args = ["--data", &batch, "-o", &out, "--timeout", "10"];
            let mut command = mpirun(&[&plan], 3, &args);
            command.stdout(File::create(path(&dir, "said")).unwrap());
            command.stderr(File::create(path(&dir, "errors")).unwrap());
            let mut child = command.spawn().unwrap();
            let wait = |what: &str, ready: &mut dyn FnMut() -> bool| {
                let began = Instant::now();
                while !ready() {
                    assert!(
                        began.elapsed() < LONG,
                        "{what}: {}",
                        fs::read_to_string(path(&dir, "errors")).unwrap()
                    );
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            wait("the first results", &mut || {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "{}", fs::read_to_string(path(&dir, "errors")).unwrap());
                Path::new(&out).join("00003.npz").exists()
            });
            let ranks = running(&plan);
            assert_eq!(ranks.len(), 3, "{ranks:?}");
            let pid = &ranks.iter().find(|(rank, _)| *rank == victim).unwrap().1;
            assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
            let mut ended = None;
            wait("mpirun ends", &mut || {
                ended = child.try_wait().unwrap();
                ended.is_some()
            });
            wait("ranks end", &mut || running(&plan).is_empty());
            let code = ended.unwrap().code();
            let said = fs::read_to_string(path(&dir, "errors")).unwrap();
            let ours: Vec<&str> = said.lines().filter(|l| l.starts_with("egret: ")).collect();
            match signal {
                // mpirun sees it, ends the others, and says so.
                "-KILL" => assert!(code == Some(137) && ours.is_empty(), "{code:?} {said}"),
                _ => {
                    assert_eq!((code, ours.is_empty()), (Some(6), false), "{said}");
                    let named = ours[0]
                        .contains(&format!("rank {victim} (stage {victim}) has not answered within 10 s"));
                    assert!(named, "{said}");
                    // Those that wait for rank 0 may say so at the same time.
                    assert!(ours.len() == 1 || victim == 0, "{said}");
                }
            }
        }
    }
}
