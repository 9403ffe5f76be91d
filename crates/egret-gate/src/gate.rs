//! One thing that is asked of a model, and where it is asked.

use crate::deny::Deny;
use crate::units::Unit;
use egret::ir::Op;
use egret::{Error, Result};
use std::fmt;

/// A figure of a compiled model that can have a budget.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Bytes of the static library, its weights embedded: what a program grows by, before the linker.
    Size,
    /// Bytes of memory that a run needs beside inputs, outputs and weights.
    Arena,
    /// Kernels of a run.
    Kernels,
    /// Bytes of weights as compiled.
    Weights,
    /// What `egret compile` takes, by the clock.
    CompileTime,
    /// What a run is estimated to take on one core of the target.
    EstimatedTime,
}

impl Figure {
    /// All of them, in the order of reports.
    pub const ALL: [Figure; 6] = [
        Figure::Size,
        Figure::Arena,
        Figure::Kernels,
        Figure::Weights,
        Figure::CompileTime,
        Figure::EstimatedTime,
    ];

    /// Its key in `[budget]`.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Size => "size",
            Figure::Arena => "arena",
            Figure::Kernels => "kernels",
            Figure::Weights => "weights",
            Figure::CompileTime => "compile-time",
            Figure::EstimatedTime => "estimated-time",
        }
    }

    /// What it is counted in.
    pub fn unit(self) -> Unit {
        match self {
            Figure::Kernels => Unit::Count,
            Figure::CompileTime | Figure::EstimatedTime => Unit::Nanoseconds,
            _ => Unit::Bytes,
        }
    }

    /// The figure of a key.
    ///
    /// # Errors
    /// There is none: the nearest.
    pub fn from_name(name: &str) -> Result<Figure> {
        Figure::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
            let names = Figure::ALL.map(Figure::name);
            Error::user(format!("no budget is called `{name}`; there are {}", names.join(", ")))
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A figure is at most so large.
    Budget {
        /// Which.
        figure: Figure,
        /// In the unit of the figure.
        limit: u64,
    },
    /// The optimised graph has exactly so many nodes of an operation.
    Expect {
        /// The operation.
        op: Op,
        /// How many.
        count: u64,
    },
    /// Something did not happen.
    Deny(Deny),
}

impl Check {
    /// What it is called in reports, the same in every version of a model: `budget/size`, `expect/attention`, `deny/missed:attention`.
    pub fn id(&self) -> String {
        match self {
            Check::Budget { figure, .. } => format!("budget/{}", figure.name()),
            Check::Expect { op, .. } => format!("expect/{op}"),
            Check::Deny(deny) => format!("deny/{deny}"),
        }
    }

    /// A budget, as `--max` spells it: `size=2MB`.
    ///
    /// # Errors
    /// No such figure; no amount of its unit.
    pub fn budget(text: &str) -> Result<Check> {
        let (name, amount) = text
            .split_once('=')
            .ok_or_else(|| Error::user("write FIGURE=AMOUNT, e.g. size=2MB or kernels=60"))?;
        let figure = Figure::from_name(name)?;
        let limit = figure.unit().parse(amount).ok_or_else(|| {
            Error::user(format!("`{amount}` is no amount of {name}; give {}", figure.unit().example()))
        })?;
        Ok(Check::Budget { figure, limit })
    }

    /// An expectation about an operation.
    ///
    /// # Errors
    /// No such operation: the nearest.
    pub fn expect(name: &str, count: u64) -> Result<Check> {
        Ok(Check::Expect { op: operation(name)?, count })
    }
}

/// The operation of a name.
fn operation(name: &str) -> Result<Op> {
    Op::from_name(name).ok_or_else(|| {
        let names: Vec<String> = Op::all().map(|op| op.to_string()).collect();
        let near = egret::near(name, names.iter().map(String::as_str));
        Error::user(format!(
            "`{name}` is no operation of ir-spec/ops; the nearest is `{}`",
            near.first().unwrap_or(&"none")
        ))
    })
}

/// Where a gate is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, at a line from 1.
    File {
        /// The file, as it was named.
        file: String,
        /// The line.
        line: usize,
    },
    /// By an option.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line } => write!(f, "{file}:{line}"),
            Place::CommandLine => f.write_str("the command line"),
        }
    }
}

/// A check and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What is asked.
    pub check: Check,
    /// Where.
    pub place: Place,
}
