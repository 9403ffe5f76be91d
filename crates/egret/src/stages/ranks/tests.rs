//! Ranks that are threads: results and errors are those of one process, whoever is lost is named, and nobody waits for ever.

use super::super::{split, write};
use super::*;
use crate::source::Request;
use egret_ir::{Tensor, Value};
use std::sync::mpsc::Sender;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(2);

/// `early` is used by every stage, `x` by the last too; outputs come from everywhere, one is an input, and a row that there is none of has no result.
const MODEL: &str = "graph @far(%0 \"x\": f32[n, 16], %1 \"at\": i64[2]) -> (%10 \"early\", %16 \"y\", %0 \"again\", %12 \"middle\") {
  %3 = const f32[16, 16] random(1)
  %20 = const f32[16, 16] random(2)
  %10 = matmul(%0, %3)
  %11 = matmul(%10, %20)
  %12 = matmul(%11, %3)
  %13 = gather(%12, %1) {axis = 1}
  %15 = matmul(%12, %3)
  %16 = add(%15, %0)
  %17 = add(%16, %10)
}";

/// Two towers, neither of which has a result for a row that there is none of, and a head.
const TOWERS: &str = "graph @towers(%0 \"x\": f32[n, 16], %1 \"at\": i64[2]) -> (%14 \"side\", %31 \"y\") {
  %3 = const f32[16, 16] random(1)
  %4 = const f32[16, 16] random(2)
  %10 = matmul(%0, %3)
  %11 = tanh(%10)
  %12 = matmul(%11, %4)
  %13 = tanh(%12)
  %14 = gather(%13, %1) {axis = 1}
  %20 = matmul(%0, %4)
  %21 = tanh(%20)
  %22 = matmul(%21, %3)
  %23 = gather(%22, %1) {axis = 1}
  %24 = const f32[2, 16] random(3)
  %25 = matmul(%23, %24)
  %31 = add(%13, %25)
}";

/// A rank that is a thread of this process.
struct Near {
    rank: usize,
    to: Vec<Sender<(usize, Vec<u8>)>>,
    from: Receiver<(usize, Vec<u8>)>,
    /// After so many messages it says nothing more.
    says: usize,
}

impl Ranks for Near {
    fn rank(&self) -> usize {
        self.rank
    }
    fn count(&self) -> usize {
        self.to.len()
    }
    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        if self.says > 0 {
            self.says -= 1;
            // One that has ended hears nothing.
            drop(self.to[to].send((self.rank, bytes)));
        }
        Ok(())
    }
    fn receive(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        Ok(self.from.try_recv().ok())
    }
    fn sent(&mut self) -> Result<bool> {
        Ok(true)
    }
}

fn near(count: usize) -> Vec<Near> {
    let (to, from): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    let from = from.into_iter().enumerate();
    from.map(|(rank, from)| Near { rank, to: to.clone(), from, says: usize::MAX }).collect()
}

/// A plan of a model in stages.
fn plan(model: &str, stages: usize) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.egret");
    std::fs::write(&file, model).unwrap();
    let imported = Request { model: file, ..Request::default() }.import().unwrap();
    let (plan, graphs) = split(imported, stages, &Options::default()).unwrap();
    write(&plan, &graphs, dir.path()).unwrap();
    let file = dir.path().join(super::super::PLAN);
    (dir, file)
}

fn options() -> Options {
    Options { threads: 1, ..Options::default() }
}

fn sample(k: usize) -> Vec<Value> {
    let rows = 1 + k % 3;
    let x = (0..rows * 16).map(|i| ((i + k) * 7 % 23) as f32 / 23.0).collect();
    let at = vec![0, if k == 17 { 16 } else { k as i64 % 16 }];
    vec![Tensor::new::<f32>(&[rows, 16], x).into(), Tensor::new::<i64>(&[2], at).into()]
}

fn same(a: &[Value], b: &[Value]) -> bool {
    let bits = |v: &Value| v.as_tensor().map(|t| (t.ty(), t.bytes().to_vec()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(a) == bits(b))
}

/// Stream samples through ranks of which each but the first serves a plan; the first has `plans[0]`.
fn stream(
    ranks: Vec<Near>,
    plans: &[&Path],
    limit: Duration,
    samples: usize,
    sink: impl FnMut(usize, Vec<Value>) -> Result<()> + Send,
) -> (Result<usize>, Vec<Result<()>>) {
    let mut ranks = ranks.into_iter();
    let mut first = ranks.next().unwrap();
    std::thread::scope(|scope| {
        let serve = |mut near: Near| {
            let plan = plans[near.rank.min(plans.len() - 1)];
            scope.spawn(move || Team::new(&mut near, limit).serve(plan, &options()))
        };
        let others: Vec<_> = ranks.map(serve).collect();
        let mut team = Team::new(&mut first, limit);
        let done = team.open(plans[0], &options()).and_then(|staged| {
            let source = |give: &mut super::super::Give<'_>| (0..samples).try_for_each(|k| give(sample(k)));
            Ok(team.stream(&staged, source, sink)?.samples)
        });
        let lost = matches!(&done, Err(e) if e.kind == ErrorKind::Lost);
        if !lost {
            team.dismiss().unwrap();
        }
        // Those that wait for it hear nothing more.
        (done, others.into_iter().map(|o| o.join().unwrap()).collect())
    })
}

#[test]
fn ranks_give_the_bits_of_one_process() {
    for stages in [1, 3] {
        let (_dir, plan) = plan(MODEL, stages);
        let here = Staged::open(&plan, &options()).unwrap();
        for count in 1..=7 {
            let mut taken = 0;
            let (done, others) = stream(near(count), &[&plan], LONG, 16, |k, outputs| {
                assert_eq!(k, taken);
                taken += 1;
                assert!(same(&outputs, &here.run(&sample(k)).unwrap()), "{stages} {count} {k}");
                Ok(())
            });
            assert_eq!((done.unwrap(), taken), (16, 16), "{stages} {count}");
            assert!(others.iter().all(Result::is_ok));
        }
    }
}

/// Stages of one step, and copies, on more and fewer ranks than there are of them.
#[test]
fn ranks_with_copies_and_steps_give_the_bits_of_one_process() {
    let (_dir, file) = plan(TOWERS, 3);
    let mut read = super::super::Plan::read(&file).unwrap();
    assert_eq!(read.steps(), [0..2, 2..3]);
    let here = Staged::open(&file, &options()).unwrap();
    for copies in [[1, 1, 1], [2, 1, 3]] {
        read.set_copies(&copies).unwrap();
        std::fs::write(&file, read.text().unwrap()).unwrap();
        for count in 1..=7 {
            let mut taken = 0;
            let (done, others) = stream(near(count), &[&file], LONG, 16, |k, outputs| {
                assert_eq!(k, taken);
                taken += 1;
                assert!(same(&outputs, &here.run(&sample(k)).unwrap()), "{copies:?} {count} {k}");
                Ok(())
            });
            assert_eq!((done.unwrap(), taken), (16, 16), "{copies:?} {count}");
            assert!(others.iter().all(Result::is_ok));
            // Both towers fail, and the first of them is who says so.
            let (done, others) = stream(near(count), &[&file], LONG, 60, |_, _| Ok(()));
            let alone = here.run(&sample(17)).unwrap_err();
            assert_eq!(
                done.unwrap_err().message,
                format!("sample 17: {}", alone.message),
                "{copies:?} {count}"
            );
            assert!(others.iter().all(Result::is_ok));
        }
    }
}

#[test]
fn the_first_error_by_samples_ends_the_stream() {
    let picks = MODEL.replace("%12 \"middle\"", "%12 \"middle\", %13 \"picked\"");
    let (_dir, plan) = plan(&picks, 3);
    let alone = Staged::open(&plan, &options()).unwrap().run(&sample(17)).unwrap_err();
    for count in [1, 2, 3, 5, 8] {
        let mut taken = 0;
        let (done, others) = stream(near(count), &[&plan], LONG, 60, |_, _| {
            taken += 1;
            Ok(())
        });
        let error = done.unwrap_err();
        assert_eq!((error.kind, error.message), (alone.kind, format!("sample 17: {}", alone.message)));
        assert_eq!(taken, 17, "{count}");
        assert!(others.iter().all(Result::is_ok));
        // That of the sink, before it.
        let (done, _) = stream(near(count), &[&plan], LONG, 60, |k, _| match k {
            5 => Err(Error::user("full")),
            _ => Ok(()),
        });
        assert_eq!(done.unwrap_err().message, "full");
    }
}

#[test]
fn a_rank_that_says_nothing_is_lost() {
    let (_dir, plan) = plan(MODEL, 3);
    // When it compiles, when it has run some samples, and as one of several with the same stage.
    for (count, mute, says, what) in [
        (3, 1, 0, "to compile"),
        (3, 2, 9, "for a sample"),
        (3, 1, 4, "for a sample"),
        (6, 4, 5, "for a sample"),
    ] {
        let mut ranks = near(count);
        ranks[mute].says = says;
        let began = Instant::now();
        let (done, others) = stream(ranks, &[&plan], SHORT, 1000, |_, _| Ok(()));
        let error = done.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Lost, "{error}");
        let named = format!("rank {mute} (stage {}) has not answered within 2 s {what}", mute % 3);
        assert!(error.message.starts_with(&named) && error.message.contains("--timeout"), "{error}");
        assert!(began.elapsed() < LONG);
        // The first rank is gone without a word, which the others notice.
        for other in others {
            let error = other.unwrap_err();
            assert!(error.kind == ErrorKind::Lost && error.message.starts_with("rank 0 "), "{error}");
        }
    }
}

#[test]
fn ranks_of_another_model_are_told() {
    let (_a, one) = plan(MODEL, 3);
    let (_b, other) = plan(&MODEL.replace("random(2)", "random(3)"), 3);
    let refused = |plans: &[&Path]| {
        let (done, others) = stream(near(3), plans, LONG, 10, |_, _| Ok(()));
        assert!(others.iter().all(Result::is_ok), "{others:?}");
        done.unwrap_err()
    };
    let e = refused(&[&one, &one, &other]);
    assert!(
        e.kind == ErrorKind::User && e.message.starts_with("rank 2 has another plan, other weights"),
        "{e}"
    );
    let e = refused(&[&one, Path::new("nowhere/plan.toml"), &one]);
    assert!(e.kind == ErrorKind::User && e.message.contains("rank 1: "), "{e}");
    assert!(e.message.contains("nowhere/plan.toml"), "{e}");
    let e = refused(&[Path::new("nowhere/plan.toml"), &one]);
    assert!(e.message.contains("nowhere/plan.toml") && !e.message.contains("rank"), "{e}");
}
