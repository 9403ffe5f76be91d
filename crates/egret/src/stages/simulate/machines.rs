//! `links.toml`: which workers there are, what links are between them, and which stages each has.

use crate::error::{Error, Result};
use crate::files;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

/// The most workers that are simulated.
const MOST_WORKERS: usize = 1000;

/// The longest that anything may take, in nanoseconds: an hour. Sums of what is simulated stay far below 2^64.
pub(super) const LONGEST: u64 = 3_600_000_000_000;

/// A link from one worker to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// How long a byte is under way, in nanoseconds.
    pub latency: u64,
    /// How many bytes a second begin their way; nothing where there is no limit.
    pub bandwidth: Option<u64>,
}

impl Link {
    /// How long so many bytes keep the link busy, in nanoseconds, rounded up.
    pub(super) fn busy(self, bytes: u64) -> u64 {
        let exact = self.bandwidth.map_or(0, |b| (u128::from(bytes) * 1_000_000_000).div_ceil(b.into()));
        u64::try_from(exact).unwrap_or(u64::MAX)
    }
}

/// Workers that have the same stages, and take samples in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stages, which each of the workers runs one behind the other.
    pub stages: Range<usize>,
    /// The workers.
    pub workers: Vec<usize>,
}

/// Workers, and links between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machines {
    /// How many workers there are.
    pub workers: usize,
    /// Who has which stages, in the order of stages.
    pub groups: Vec<Group>,
    /// The link between two workers that [`Machines::between`] does not have.
    pub link: Link,
    /// Links from a worker to another.
    pub between: BTreeMap<(usize, usize), Link>,
}

/// Which workers have which stages, where nothing else is said. Where stages have copies, the workers are those of stage 0, then those of stage 1, and so on; workers beyond them begin anew at
/// stage 0. Where there are fewer, stages with the most copies lose some, and where none has any, or has lost them, all is [`in_turn`].
pub(in crate::stages) fn share_out(copies: &[usize], workers: usize) -> Vec<Group> {
    let stages = copies.len();
    if workers < stages || copies.iter().all(|c| *c == 1) {
        return in_turn(stages, workers);
    }
    let mut left = copies.to_vec();
    for _ in workers..copies.iter().sum() {
        // The last of those that have most.
        if let Some(most) = left.iter_mut().max_by_key(|c| **c) {
            *most -= 1;
        }
    }
    let list: Vec<usize> = left.iter().enumerate().flat_map(|(k, n)| vec![k; *n]).collect();
    let group = |k: usize| Group {
        stages: k..k + 1,
        workers: (0..workers).filter(|w| list[w % list.len()] == k).collect(),
    };
    (0..stages).map(group).collect()
}

/// Which workers have which of a number of stages without copies: as many groups as there are stages, or workers where they are
/// fewer; worker `w` is in group `w` modulo their number. Neighbouring stages share a worker where there are more stages than workers.
fn in_turn(stages: usize, workers: usize) -> Vec<Group> {
    let count = stages.min(workers);
    let group = |g: usize| Group {
        stages: g * stages / count..(g + 1) * stages / count,
        workers: (g..workers).step_by(count).collect(),
    };
    (0..count).map(group).collect()
}

impl Machines {
    /// So many workers that take the stages in turn, with the same link between each two.
    ///
    /// # Panics
    /// There is no stage, or no worker.
    pub fn even(stages: usize, workers: usize, link: Link) -> Machines {
        assert!(stages > 0 && workers > 0, "somebody has something to do");
        Machines { workers, groups: in_turn(stages, workers), link, between: BTreeMap::new() }
    }

    /// Read `links.toml` for a plan whose stages have so many copies.
    ///
    /// # Errors
    /// It cannot be read, or is wrong: what, and in which line.
    pub fn read(path: &Path, copies: &[usize]) -> Result<Machines> {
        let text = files::read_text(path, "a file of workers and links")?;
        Machines::parse(&text, copies).map_err(|(at, message)| {
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            Error::user(format!("{}:{line}: {message}", path.display()))
        })
    }

    /// The link from a worker to another.
    pub(super) fn link(&self, from: usize, to: usize) -> Link {
        self.between.get(&(from, to)).copied().unwrap_or(self.link)
    }

    /// A mistake comes with the byte where it is.
    fn parse(text: &str, copies: &[usize]) -> Outcome<Machines> {
        let stages = copies.len();
        let wrong = |e: toml::de::Error| (e.span().map_or(0, |s| s.start), e.message().to_owned());
        let file: File = toml::from_str(text).map_err(wrong)?;
        let Some(link) = &file.link else {
            return Err((0, "there is no [link], with the latency and bandwidth of links".into()));
        };
        let link = link.get_ref().link()?;
        let (workers, groups) = match (&file.workers, file.groups.as_slice()) {
            (Some(count), []) => {
                let at = count.span().start;
                let count = *count.get_ref();
                if count == 0 || count > MOST_WORKERS {
                    return Err((at, format!("{count} workers: 1 to {MOST_WORKERS} can be simulated")));
                }
                (count, share_out(copies, count))
            }
            (None, []) => {
                let count = copies.iter().fold(0usize, |a, b| a.saturating_add(*b));
                if count > MOST_WORKERS {
                    return Err((
                        0,
                        format!(
                            "the copies of the stages are {count} workers: 1 to {MOST_WORKERS} can be simulated"
                        ),
                    ));
                }
                (count, share_out(copies, count))
            }
            (None, list) => groups(list, stages)?,
            (Some(count), _) => {
                return Err((
                    count.span().start,
                    "`workers` and [[group]] both say who has which stages; leave one out".into(),
                ));
            }
        };
        let mut between = BTreeMap::new();
        for pair in &file.between {
            let own = pair.get_ref().link.get_ref().link()?;
            let (one, other) = (list(&pair.get_ref().one)?, list(&pair.get_ref().other)?);
            for (side, at) in [(&one, &pair.get_ref().one), (&other, &pair.get_ref().other)] {
                if let Some(w) = side.iter().find(|w| **w >= workers) {
                    return Err((at.span().start, format!("there is no worker {w}: there are {workers}")));
                }
            }
            for (&a, &b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                let at = pair.span().start;
                if a == b {
                    return Err((at, format!("worker {a} needs no link to itself")));
                }
                if between.insert((a, b), own).is_some() || between.insert((b, a), own).is_some() {
                    return Err((at, format!("the link between the workers {a} and {b} is given twice")));
                }
            }
        }
        Ok(Machines { workers, groups, link, between })
    }
}

/// A byte of the file, and what is wrong there.
type Mistake = (usize, String);

type Outcome<T> = std::result::Result<T, Mistake>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    workers: Option<Spanned<usize>>,
    link: Option<Spanned<Speed>>,
    #[serde(default, rename = "group")]
    groups: Vec<Spanned<Part>>,
    #[serde(default)]
    between: Vec<Spanned<Between>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Speed {
    latency: Spanned<String>,
    bandwidth: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    stages: Spanned<Vec<Spanned<Member>>>,
    workers: Spanned<Vec<Spanned<Member>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    one: Spanned<Vec<Spanned<Member>>>,
    other: Spanned<Vec<Spanned<Member>>>,
    link: Spanned<Speed>,
}

/// One of a list, or neighbours: 3, "4-7".
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number such as 3, or numbers from one to another such as \"4-7\"")]
enum Member {
    One(usize),
    Several(String),
}

impl Speed {
    fn link(&self) -> Outcome<Link> {
        const TIMES: [(&str, f64); 4] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
        const RATES: [(&str, f64); 8] = [
            ("B/s", 1.0),
            ("kB/s", 1e3),
            ("MB/s", 1e6),
            ("GB/s", 1e9),
            ("kbit/s", 1e3 / 8.0),
            ("Mbit/s", 1e6 / 8.0),
            ("Gbit/s", 1e9 / 8.0),
            ("Tbit/s", 1e12 / 8.0),
        ];
        let latency = number(&self.latency, &TIMES, "2 us")?;
        if latency > LONGEST {
            return Err((self.latency.span().start, "a latency is at most an hour".into()));
        }
        if self.bandwidth.get_ref() == "unlimited" {
            return Ok(Link { latency, bandwidth: None });
        }
        let bandwidth = number(&self.bandwidth, &RATES, "10 GB/s, or unlimited")?;
        if bandwidth == 0 {
            return Err((self.bandwidth.span().start, "a bandwidth is at least 1 B/s".into()));
        }
        Ok(Link { latency, bandwidth: Some(bandwidth) })
    }
}

/// A number and its unit, in the smallest one, rounded.
fn number(written: &Spanned<String>, units: &[(&str, f64)], example: &str) -> Outcome<u64> {
    let text = written.get_ref().trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = units.iter().find(|(name, _)| *name == text[split..].trim());
    let value = text[..split].parse::<f64>().ok().zip(unit).map(|(value, (_, of))| (value * of).round());
    match value {
        // Every f64 below it is a whole number that u64 has.
        Some(value) if value < 1e18 => Ok(value as u64),
        _ => {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
            let at = written.span().start;
            Err((at, format!("`{text}`: write a number and one of {}, e.g. {example}", names.join(", "))))
        }
    }
}

/// The members of a list, which has some, each once.
fn list(written: &Spanned<Vec<Spanned<Member>>>) -> Outcome<Vec<usize>> {
    let mut out = vec![];
    for member in written.get_ref() {
        let at = member.span().start;
        match member.get_ref() {
            Member::One(one) => out.push(*one),
            Member::Several(text) => {
                let ends = text.split_once('-').and_then(|(a, b)| {
                    Some((a.trim().parse::<usize>().ok()?, b.trim().parse::<usize>().ok()?))
                });
                match ends {
                    Some((a, b)) if a <= b && b - a < MOST_WORKERS => out.extend(a..=b),
                    _ => {
                        return Err((
                            at,
                            format!("`{text}` is no list; write e.g. \"4-7\" for 4, 5, 6, 7"),
                        ));
                    }
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    match out.iter().find(|n| !seen.insert(**n)) {
        Some(twice) => Err((written.span().start, format!("{twice} stands twice"))),
        None if out.is_empty() => Err((written.span().start, "the list is empty".into())),
        None => Ok(out),
    }
}

/// How many workers there are, and who has which stages.
fn groups(written: &[Spanned<Part>], stages: usize) -> Outcome<(usize, Vec<Group>)> {
    let (mut out, mut next, mut taken) = (vec![], 0, BTreeMap::new());
    for (k, group) in written.iter().enumerate() {
        let (of, workers) = (list(&group.get_ref().stages)?, list(&group.get_ref().workers)?);
        let at = group.get_ref().stages.span().start;
        if of.iter().enumerate().any(|(i, s)| *s != next + i) {
            return Err((
                at,
                format!("groups have the stages in order, each once: stage {next} is the next one here"),
            ));
        }
        if next + of.len() > stages {
            return Err((at, format!("there is no stage {stages}: the plan has {stages}")));
        }
        for &w in &workers {
            let at = group.get_ref().workers.span().start;
            if w >= MOST_WORKERS {
                return Err((at, format!("worker {w}: workers are 0 to {}", MOST_WORKERS - 1)));
            }
            if let Some(other) = taken.insert(w, k) {
                return Err((
                    at,
                    format!("worker {w} is in group {other} too; give one group all its stages"),
                ));
            }
        }
        out.push(Group { stages: next..next + of.len(), workers });
        next += of.len();
    }
    let end = written.last().map_or(0, |group| group.span().start);
    if next < stages {
        return Err((end, format!("no group has stage {next}: the plan has {stages} stages")));
    }
    match (0..taken.len()).find(|w| !taken.contains_key(w)) {
        Some(w) => Err((end, format!("no group has worker {w}, and workers are counted from 0"))),
        None => Ok((taken.len(), out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "[link]\nlatency = \"2 us\"\nbandwidth = \"10 GB/s\"\n";

    #[test]
    fn a_file_is_read() {
        let read =
            |text: &str, stages| Machines::parse(&format!("{text}{LINK}"), &vec![1; stages]).unwrap();
        let link = Link { latency: 2000, bandwidth: Some(10_000_000_000) };
        assert_eq!(read("", 3), Machines::even(3, 3, link));
        assert_eq!(read("workers = 7\n", 3), Machines::even(3, 7, link));
        let workers = |m: &Machines| m.groups.iter().map(|g| g.workers.clone()).collect::<Vec<_>>();
        assert_eq!(workers(&read("workers = 7\n", 3)), [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
        let few: Vec<_> = read("workers = 2\n", 5).groups.into_iter().map(|g| g.stages).collect();
        assert_eq!(few, [0..2, 2..5]);
        let text = format!(
            "{LINK}[[group]]\nstages = [0, 1]\nworkers = [2]\n[[group]]\nstages = [2]\nworkers = [0, \"1-1\", 3]
[[between]]\none = [\"0-1\"]\nother = [2]\nlink = {{ latency = \"1.5 ms\", bandwidth = \"unlimited\" }}\n"
        );
        let read = Machines::parse(&text, &[1; 3]).unwrap();
        assert_eq!((read.workers, workers(&read)), (4, vec![vec![2], vec![0, 1, 3]]));
        let slow = Link { latency: 1_500_000, bandwidth: None };
        for (from, to, is) in [(0, 2, slow), (2, 1, slow), (3, 2, link), (0, 1, link)] {
            assert_eq!(read.link(from, to), is);
        }
        let gigabit = Machines::parse(&LINK.replace("10 GB", "1 Gbit"), &[1]).unwrap().link;
        assert_eq!((gigabit.bandwidth, gigabit.busy(1), gigabit.busy(125)), (Some(125_000_000), 8, 1000));
    }

    #[test]
    fn copies_are_workers_one_after_the_other() {
        let workers = |copies: &[usize], count| {
            let groups = share_out(copies, count);
            let mut all: Vec<usize> = groups.iter().flat_map(|g| g.workers.clone()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "{copies:?} {count}");
            groups.into_iter().map(|g| g.workers).collect::<Vec<_>>()
        };
        assert_eq!(workers(&[2, 1, 3], 6), [vec![0, 1], vec![2], vec![3, 4, 5]]);
        // More of them begin anew, fewer take from who has most.
        assert_eq!(workers(&[2, 1, 3], 8), [vec![0, 1, 6, 7], vec![2], vec![3, 4, 5]]);
        assert_eq!(workers(&[2, 1, 3], 5), [vec![0, 1], vec![2], vec![3, 4]]);
        assert_eq!(workers(&[2, 1, 3], 4), [vec![0, 1], vec![2], vec![3]]);
        assert_eq!(workers(&[2, 1, 3], 3), [vec![0], vec![1], vec![2]]);
        assert_eq!(workers(&[2, 1, 3], 2), [vec![0], vec![1]]);
        assert_eq!(workers(&[1, 1], 3), [vec![0, 2], vec![1]]);
        assert_eq!(workers(&[1], 1), [vec![0]]);
        let even = Machines::parse(LINK, &[1, 3]).unwrap();
        assert_eq!((even.workers, even.groups[1].workers.clone()), (4, vec![1, 2, 3]));
        assert!(Machines::parse(LINK, &[999, 2]).unwrap_err().1.contains("1001 workers"));
    }

    #[test]
    fn every_mistake_has_its_line() {
        let group =
            |stages: &str, workers: &str| format!("[[group]]\nstages = {stages}\nworkers = {workers}\n");
        let two = group("[0]", "[0]") + &group("[1]", "[1]");
        let between = |one: &str, other: &str, latency: &str| {
            format!(
                "[[between]]\none = {one}\nother = {other}\nlink = {{ latency = \"{latency}\", bandwidth = \"1 B/s\" }}\n"
            )
        };
        let cases = [
            (String::new(), 1, "no [link]"),
            (LINK.replace("latency", "delay"), 2, "delay"),
            (LINK.replace("2 us", "2"), 2, "one of ns, us, ms, s"),
            (LINK.replace("2 us", "-2 us"), 2, "`-2 us`"),
            (LINK.replace("2 us", "1e9 us"), 2, "`1e9 us`"),
            (LINK.replace("2 us", "3601 s"), 2, "an hour"),
            (LINK.replace("10 GB/s", "0 B/s"), 3, "at least 1 B/s"),
            (LINK.replace("10 GB/s", "10 GB"), 3, "e.g. 10 GB/s, or unlimited"),
            (LINK.replace("\"10 GB/s\"", "10"), 3, "string"),
            (format!("workers = 0\n{LINK}"), 1, "1 to 1000"),
            (format!("workers = 1001\n{LINK}"), 1, "1 to 1000"),
            (format!("workers = -1\n{LINK}"), 1, ""),
            (format!("workers = 2\n{LINK}{two}"), 1, "leave one out"),
            (format!("{LINK}{}", group("[1]", "[0]")), 5, "stage 0 is the next"),
            (format!("{LINK}{}", group("[0]", "[0]")), 4, "no group has stage 1"),
            (format!("{LINK}{}", group("[0, 1, 2]", "[0]")), 5, "no stage 2"),
            (format!("{LINK}{}", group("[0, 1]", "[]")), 6, "empty"),
            (format!("{LINK}{}", group("[0, 1]", "[0, 0]")), 6, "0 stands twice"),
            (format!("{LINK}{}", group("[0, 1]", "[0, 2]")), 4, "no group has worker 1"),
            (format!("{LINK}{}", group("[0, 1]", "[0, 1000]")), 6, "0 to 999"),
            (format!("{LINK}{}", group("[0, 1]", "[0, \"3-1\"]")), 6, "\"4-7\""),
            (format!("{LINK}{}", group("[0, 1]", "[0, 1.5]")), 6, "\"4-7\""),
            (format!("{LINK}{}{}", group("[0]", "[0]"), group("[1]", "[0, 1]")), 9, "in group 0 too"),
            (format!("{LINK}{two}{}", between("[0]", "[2]", "1 ns")), 12, "no worker 2"),
            (format!("{LINK}{two}{}", between("[0]", "[0]", "1 ns")), 10, "to itself"),
            (format!("{LINK}{two}{}", between("[0]", "[1]", "x")), 13, "`x`"),
            (
                format!("{LINK}{two}{0}{0}", between("[0]", "[1]", "1 ns")),
                14,
                "between the workers 0 and 1 is given twice",
            ),
            (format!("{LINK}speed = 3\n"), 4, "speed"),
            ("[link".into(), 1, ""),
        ];
        for (text, line, part) in cases {
            let (at, message) = Machines::parse(&text, &[1; 2]).unwrap_err();
            let is = text[..at].matches('\n').count() + 1;
            assert_eq!(is, line, "{text}\n{message}");
            assert!(message.contains(part) && !message.trim().contains('\n'), "{text}\n{message}");
        }
    }
}
