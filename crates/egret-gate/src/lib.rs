//! Gates: what a model may cost and what must become of it, held against what the compiler makes of it.
//!
//! [`Config`] is an `egret.toml`; [`Config::find`] says what the one beside a model says of it: [`Settings`], with which it is compiled by
//! whatever command compiles it to files, and [`Gate`]s with their places in the file.
//! [`measure`] finds the figures that these need, [`judge`] holds them against each other, and [`Report`] is printed as text, JSON,
//! annotations of GitHub, SARIF or JUnit by [`Format`]. Equal models and files give equal reports, except where a budget of compile
//! time asks for a clock.
//!
//! # Example
//!
//! ```
//! use egret_gate::{Config, Figure, Check};
//!
//! let config = Config::parse("egret.toml", "[budget]\nsize = \"1.5MB\"\n")?;
//! let rules = config.rules_for(None);
//! assert!(matches!(rules.gates[0].check, Check::Budget { figure: Figure::Size, limit: 1_500_000 }));
//!
//! let wrong = Config::parse("egret.toml", "[budget]\nsise = \"1.5MB\"\n").unwrap_err();
//! assert!(wrong.to_string().starts_with("egret.toml:2:1: [budget] has no `sise`; the nearest is `size`"));
//! # Ok::<(), egret::Error>(())
//! ```
#![forbid(unsafe_code)]

mod config;
mod deny;
mod format;
mod gate;
mod judge;
mod measure;
mod plain;
mod propose;
mod report;
mod settings;
mod units;

pub use config::{Config, FILE, Found, Rules};
pub use deny::Deny;
pub use format::Format;
pub use gate::{Check, Figure, Gate, Place};
pub use judge::{Verdict, judge};
pub use measure::{Measured, measure};
pub use plain::plain;
pub use propose::{Proposal, propose};
pub use report::{ModelReport, Report};
pub use settings::Settings;
