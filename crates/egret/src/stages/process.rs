//! A stage in a process of its own: this side starts it, hands samples to it, and notices that it ends or does not answer; [`serve`] is the other.
//!
//! ```text
//! this process ◀── messages, a line of JSON each: a socket ──▶ the stage's process
//!       └─────────── values: [`Memory`] that both have ───────────┘
//! ```
//!
//! The stage's process is given both ends as its standard input (the socket) and standard output (the memory). A stage says what it made before it
//! lays it down, and is told where: one process shares the memory out, and places are taken for as long as somebody needs them.

use super::form::Form;
use super::held::Held;
use super::opened::{fingerprint, lower, settle, stage_graph};
use super::payload;
use super::plan::Plan;
use super::shared::{Memory, Place, Shared, read, write};
use crate::error::{Error, ErrorKind, Result};
use crate::native::Native;
use crate::options::Options;
use crate::suite::guarded;
use egret_ir::Value;
use egret_runtime::Pool;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind as Io, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// To a stage.
#[derive(Serialize, Deserialize)]
enum Ask {
    /// Lay its weights down at this place, for other copies of the stage too.
    Lay(u64),
    /// Take its weights from this place, where another copy has laid them.
    Take(u64),
    /// Run on these values, which begin at these places.
    Run(Vec<(Form, u64)>),
    /// Lay down what was made, at these places.
    Put(Vec<u64>),
}

/// From a stage.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// It has this many bytes of weights. Stages with copies say so.
    Lowered(u64),
    /// Its weights are laid down.
    Laid,
    /// It is compiled; what it was compiled from, as [`fingerprint`] says.
    Ready(String),
    /// It has run, and made these.
    Made(Vec<Form>),
    /// They are where they should be.
    Put,
    /// It has no result.
    Failed(ErrorKind, String),
}

/// A stage in a process of its own. The process is ended when this is dropped.
pub(super) struct Process {
    memory: Arc<Memory>,
    limit: Duration,
    link: Mutex<Link>,
    /// Where its weights are, if other copies of the stage have them too.
    weights: Option<Arc<Place>>,
}

struct Link {
    child: Child,
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Process {
    /// Start the process of a stage by a command that comes to [`serve`]; it is not waited for.
    pub(super) fn start(mut command: Command, memory: &Arc<Memory>, limit: Duration) -> Result<Process> {
        let starts = |e: std::io::Error| Error::user(format!("its process cannot be started: {e}"));
        let (here, there) = UnixStream::pair().map_err(starts)?;
        here.set_read_timeout(Some(limit)).map_err(starts)?;
        here.set_write_timeout(Some(limit)).map_err(starts)?;
        let from = BufReader::new(here.try_clone().map_err(starts)?);
        command.stdin(Stdio::from(OwnedFd::from(there)));
        command.stdout(Stdio::from(memory.file().map_err(starts)?));
        let child = command.spawn().map_err(starts)?;
        Ok(Process {
            memory: memory.clone(),
            limit,
            link: Mutex::new(Link { child, to: here, from }),
            weights: None,
        })
    }

    /// Have the first of a stage's copies lay its weights down, for all of them. Copies that have another number of bytes of weights are refused, before they map what is not there.
    pub(super) fn lay(copies: &mut [Process]) -> Result<()> {
        let Some((first, others)) = copies.split_first_mut() else { return Ok(()) };
        let bytes = first.lowered()?;
        let place = first.memory.room(bytes);
        first.tell(&mut first.lock(), &Ask::Lay(place.at()))?;
        for process in others {
            if process.lowered()? != bytes {
                return Err(changed());
            }
            process.weights = Some(place.clone());
        }
        first.weights = Some(place);
        Ok(())
    }

    /// Wait for the number of bytes of its weights.
    fn lowered(&self) -> Result<u64> {
        match self.hear(&mut self.lock(), "to compile")? {
            Answer::Lowered(bytes) => Ok(bytes),
            _ => Err(out_of_turn()),
        }
    }

    /// Have the others take what the first has laid down.
    pub(super) fn take(copies: &[Process]) -> Result<()> {
        let Some((first, others)) = copies.split_first() else { return Ok(()) };
        let Answer::Laid = first.hear(&mut first.lock(), "to compile")? else { return Err(out_of_turn()) };
        let place = first.weights.as_ref().ok_or_else(out_of_turn)?;
        others.iter().try_for_each(|process| process.tell(&mut process.lock(), &Ask::Take(place.at())))
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until it is compiled, from what has this fingerprint.
    pub(super) fn ready(&self, fingerprint: &str) -> Result<()> {
        let mut link = self.lock();
        match self.hear(&mut link, "to compile")? {
            Answer::Ready(is) if is == fingerprint => Ok(()),
            Answer::Ready(_) => Err(changed()),
            _ => Err(out_of_turn()),
        }
    }

    /// Run it on values, which are laid into the memory unless they are there.
    pub(super) fn run(&self, inputs: Vec<Held>) -> Result<Vec<Held>> {
        let inputs = inputs.into_iter().map(|held| self.share(held)).collect::<Result<Vec<_>>>()?;
        let mut link = self.lock();
        let asked = inputs.iter().map(|s| (s.form.clone(), s.at())).collect();
        self.tell(&mut link, &Ask::Run(asked))?;
        let Answer::Made(forms) = self.hear(&mut link, "for a sample")? else { return Err(out_of_turn()) };
        let made = forms.into_iter().map(|form| self.memory.take(form)).collect::<Result<Vec<_>>>()?;
        self.tell(&mut link, &Ask::Put(made.iter().map(Shared::at).collect()))?;
        match self.hear(&mut link, "for a sample")? {
            Answer::Put => Ok(made.into_iter().map(Held::There).collect()),
            _ => Err(out_of_turn()),
        }
    }

    fn share(&self, held: Held) -> Result<Shared> {
        match held {
            Held::There(shared) => Ok(shared),
            Held::Here(value) => {
                let tensor = value.as_tensor();
                self.memory.put(tensor.ok_or_else(|| Error::internal("a stage takes what is no tensor"))?)
            }
        }
    }

    fn tell(&self, link: &mut Link, ask: &Ask) -> Result<()> {
        send(&mut link.to, ask).map_err(|e| self.lost(link, &e, "for a sample"))
    }

    fn hear(&self, link: &mut Link, what: &str) -> Result<Answer> {
        match receive(&mut link.from) {
            Ok(Some(Answer::Failed(kind, message))) => Err(Error { kind, message }),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.lost(link, &Io::UnexpectedEof.into(), what)),
            Err(e) => Err(self.lost(link, &e, what)),
        }
    }

    /// What became of a process that cannot be talked to; it is ended, as nothing that it says later has a place.
    fn lost(&self, link: &mut Link, error: &std::io::Error, what: &str) -> Error {
        let number = link.child.id();
        // Both do nothing to a process that has ended by itself.
        let _ = link.child.kill();
        let ended = link.child.wait();
        let message = match error.kind() {
            Io::WouldBlock | Io::TimedOut => format!(
                "its process ({number}) has not answered within {} s {what}, and was ended; --timeout gives it longer",
                self.limit.as_secs_f64()
            ),
            Io::UnexpectedEof | Io::BrokenPipe | Io::ConnectionReset => match ended {
                Ok(status) => match (status.signal(), status.code()) {
                    (Some(signal), _) => format!("its process ({number}) was ended by signal {signal}"),
                    (None, Some(code)) => format!("its process ({number}) ended with exit code {code}"),
                    (None, None) => format!("its process ({number}) ended: {status}"),
                },
                Err(e) => format!("its process ({number}) ended, it is not known how: {e}"),
            },
            _ => format!("its process ({number}) cannot be talked to, and was ended: {error}"),
        };
        Error { kind: ErrorKind::Lost, message }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let link = self.link.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It holds nothing that is needed any more; that it has ended before is no matter.
        let _ = link.child.kill();
        let _ = link.child.wait();
    }
}

fn out_of_turn() -> Error {
    Error::internal("its process answered what it was not asked")
}

/// A stage's process has not what this one has, or other copies.
fn changed() -> Error {
    Error::user(
        "its process has another plan, other weights or another version of Egret than this one; \
         were files changed while it started?",
    )
}

fn send(to: &mut UnixStream, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// The next message, or nothing where the other side has ended.
fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> std::io::Result<Option<T>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    // One that is cut off was said by a process that ended over it.
    if !line.ends_with('\n') {
        return Ok(None);
    }
    Ok(serde_json::from_str(&line).map(Some)?)
}

/// Be the process of stage `k` of a plan: standard input and output are what [`Staged::open_processes`](super::Staged::open_processes) of another
/// process has set up. Ends when that process has no more samples, or has ended.
///
/// # Errors
/// Standard input is no such thing. What goes wrong with the stage, that process is told.
pub fn serve(plan: &Path, k: usize, options: &Options) -> Result<()> {
    let odd = |e: std::io::Error| {
        Error::user(format!("a stage is started by `egret run --transport process`: {e}"))
    };
    let mut to = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(odd)?);
    to.local_addr().map_err(odd)?;
    let mut from = BufReader::new(to.try_clone().map_err(odd)?);
    let memory = File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(odd)?);
    let failed = |e: Error| Answer::Failed(e.kind, e.message);
    let native = match guarded(|| compile(plan, k, options, (&mut to, &mut from), &memory)) {
        Ok((native, fingerprint)) => {
            send(&mut to, &Answer::Ready(fingerprint)).map_err(odd)?;
            native
        }
        Err(e) => return send(&mut to, &failed(e)).map_err(odd),
    };
    let mut made = vec![];
    while let Some(ask) = receive(&mut from).map_err(odd)? {
        let answer = match ask {
            Ask::Run(inputs) => guarded(|| step(&native, &memory, &inputs)).map(|values| {
                made = values;
                Answer::Made(made.iter().filter_map(Value::as_tensor).map(Form::of).collect())
            }),
            Ask::Put(places) => put(&memory, &std::mem::take(&mut made), &places).map(|()| Answer::Put),
            Ask::Lay(_) | Ask::Take(_) => Err(out_of_turn()),
        };
        if send(&mut to, &answer.unwrap_or_else(failed)).is_err() {
            break;
        }
    }
    Ok(())
}

fn compile(
    path: &Path,
    k: usize,
    options: &Options,
    (to, from): (&mut UnixStream, &mut BufReader<UnixStream>),
    memory: &File,
) -> Result<(Native, String)> {
    let plan = Plan::read(path)?;
    let graph = stage_graph(path, &plan, k)?;
    let fingerprint = fingerprint(&plan, [&graph])?;
    let threads = plan.share(options.threads);
    let options = settle(path, &plan, options, threads)?;
    let pool = Arc::new(Pool::new(threads));
    let lowered = lower(graph, &options)?;
    let weights = &lowered.program.weights;
    let mut shared = None;
    if plan.stages[k].copies > 1 {
        let gone = |e: std::io::Error| {
            Error::user(format!("the process that started it cannot be talked to: {e}"))
        };
        send(to, &Answer::Lowered(payload::size(weights) as u64)).map_err(gone)?;
        let at = match receive(from).map_err(gone)? {
            Some(Ask::Lay(at)) => {
                payload::lay(weights, memory, at)?;
                send(to, &Answer::Laid).map_err(gone)?;
                at
            }
            Some(Ask::Take(at)) => at,
            _ => return Err(out_of_turn()),
        };
        shared = Some(payload::take(weights, memory, at)?);
    }
    Ok((Native::of_lowered_with(&lowered, &options, pool, shared)?, fingerprint))
}

fn step(native: &Native, memory: &File, inputs: &[(Form, u64)]) -> Result<Vec<Value>> {
    let inputs = inputs.iter().map(|(form, at)| read(memory, *at, form)).collect::<Result<Vec<_>>>()?;
    native.run(&inputs)
}

fn put(memory: &File, made: &[Value], places: &[u64]) -> Result<()> {
    made.iter()
        .filter_map(Value::as_tensor)
        .zip(places)
        .try_for_each(|(tensor, at)| write(memory, *at, tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes that say this of their weights, and nothing else.
    fn copies(bytes: &[u64]) -> Vec<Process> {
        let memory = Memory::new().unwrap();
        let start = |bytes: &u64| {
            let mut command = Command::new("sh");
            // Standard input is the socket, both ways.
            command.args(["-c", &format!("echo '{{\"Lowered\":{bytes}}}' >&0; read asked; exec sleep 60")]);
            Process::start(command, &memory, Duration::from_secs(60)).unwrap()
        };
        bytes.iter().map(start).collect()
    }

    /// A file of weights that was replaced between the reads of two copies is refused before the second maps more than the first has laid down, or less.
    #[test]
    fn copies_have_as_many_bytes_of_weights() {
        for others in [[100, 164], [164, 100]] {
            let mut all = copies(&[100, others[0], others[1]]);
            let e = Process::lay(&mut all).unwrap_err();
            assert!(e.kind == ErrorKind::User && e.message.contains("were files changed"), "{e}");
        }
        let mut all = copies(&[100; 3]);
        Process::lay(&mut all).unwrap();
        let places: Vec<u64> = all.iter().filter_map(|p| Some(p.weights.as_ref()?.at())).collect();
        assert!(places.len() == 3 && places.iter().all(|at| *at == places[0]), "{places:?}");
    }
}
