//! `--transport mpi`: what runs the stages are the processes that `mpirun` has started.
//!
//! Whatever goes wrong, rank 0 says it, and its exit code is the run's. The other ranks speak only where rank 0 cannot be reached.

use super::{Stream, TIMEOUT, begin, through};
use crate::common::{note, progress};
use egret::stages::{Ranks, Team};
use egret::suite::guarded;
use egret::{Error, ErrorKind, Options, Result};
use egret_mpi::{Failed, World};
use std::time::Duration;

/// What an `mpirun` tells each process that it starts: how many there are.
const COUNTS: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// The ranks of MPI.
struct Mpi(World);

fn lost(e: Failed) -> Error {
    Error { kind: ErrorKind::Lost, message: e.to_string() }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn count(&self) -> usize {
        self.0.count()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        self.0.send(to, bytes).map_err(lost)
    }

    fn receive(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        self.0.receive().map_err(lost)
    }

    fn sent(&mut self) -> Result<bool> {
        self.0.sent().map_err(lost)
    }

    fn give_up(&mut self, reason: &Error) {
        self.abort(reason)
    }
}

impl Mpi {
    /// Say what happened, and end all ranks.
    fn abort(&mut self, e: &Error) -> ! {
        match self.rank() {
            0 => note(format_args!("egret: {}", e.message)),
            rank => note(format_args!("egret: rank {rank}: {}", e.message)),
        }
        // A moment for what has started the ranks to pass the message on.
        std::thread::sleep(Duration::from_millis(200));
        self.0.abort(e.kind.exit_code())
    }
}

/// Be one of the ranks.
pub fn run(stream: &Stream<'_>) -> Result<()> {
    let mut ranks = Mpi(World::start().map_err(lost)?);
    let limit = stream.timeout.unwrap_or(TIMEOUT);
    // Ranks of one machine share its threads.
    let threads = (stream.options.threads / ranks.0.local().max(1)).max(1);
    let options = Options { threads, ..stream.options.clone() };
    let rank = ranks.rank();
    let mut team = Team::new(&mut ranks, limit);
    let done = match rank {
        0 => {
            let led = guarded(|| lead(stream, &options, &mut team));
            // Whoever is lost cannot be told.
            match led {
                Err(e) if e.kind == ErrorKind::Lost => Err(e),
                led => Ok((led, team.dismiss())),
            }
        }
        _ => guarded(|| team.serve(stream.plan, &options)).map(|()| (Ok(()), Ok(()))),
    };
    match done {
        Ok((result, Ok(()))) => {
            ranks.0.end().map_err(lost)?;
            result
        }
        // The first error is what the run ends with.
        Ok((Err(e), Err(_)) | (Ok(()), Err(e))) | Err(e) => ranks.abort(&e),
    }
}

fn lead(stream: &Stream<'_>, options: &Options, team: &mut Team<'_, Mpi>) -> Result<()> {
    one_world(team)?;
    begin(stream)?;
    let staged = progress("compiling", || team.open(stream.plan, options))?;
    through(stream, &staged, |source, sink| team.stream(&staged, source, sink))
}

/// That the `mpirun` that has started this is that of the MPI that this is built with: else each process believes that it is alone.
fn one_world(team: &Team<'_, Mpi>) -> Result<()> {
    let count = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    match COUNTS.into_iter().find_map(count) {
        Some(started) if started > 1 && team.count() == 1 => Err(Error::user(format!(
            "{started} processes were started, and MPI knows of one: this mpirun is of another MPI than egret is built with"
        ))),
        _ => Ok(()),
    }
}
