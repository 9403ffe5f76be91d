//! Compression: copies of ONNX models with fewer numbers in them.
//!
//! [`prune`] works on the model file itself, so that names, metadata and all that it does not prune stay as they are; with data, biases
//! are added where a layer has none. [`quantize`] makes integers of weights and adds the nodes that read them. Every contraction
//! gets a [`Verdict`]: what was done to it, or why not.
//!
//! | module | what it does |
//! |---|---|
//! | `contractions` | which nodes contract, in the graph, in subgraphs and in functions |
//! | `flat` | graphs with branches and bodies beside their nodes |
//! | `computed` | weights of recurrent layers that the model puts together, as constants |
//! | `constants` | which constant a weight is, through transpositions |
//! | `channels` | whole channels: which indices of constants go together, and the smaller model |
//! | `layout` | rows and reduction axes of a weight |
//! | `ends` | which contractions come first and last |
//! | `budget` | how many zeros each layer takes, where all layers together are asked for a part |
//! | `pattern`, `scope`, `mask` | which weights become zero |
//! | `wire` | where a weight's bytes stand in the file |
//! | `methods` | how zeros are chosen and what the other weights become, a file each |
//! | `integers` | integers of a weight, their scales, and the grids that they stand for |
//! | `movers` | operators that move numbers and make none |
//! | `quantize` | which numbers become integers, of which scales, and the nodes around them |
//! | `moments` | means and covariances of a layer's inputs and outputs; least squares with them is `egret::linalg` |
//! | `stats`, `learn` | what samples told of the values inside a model, in a file, and how it is made |
//! | `scores` | how much a loss depends on each weight, in a file |
//! | `state` | what a long run has found so far, in a file, so that it can be begun again |
//! | `page` | the report as one HTML page |
//! | `data` | values inside a model on samples, and layers made anew from their moments, in order |
//!
//! # Example
//!
//! ```
//! use egret_compress::{Request, prune};
//!
//! let request = Request { all: true, ..Request::new("sparse:0.5".parse()?) };
//! let pruned = prune("../../fixtures/models/simple_cnn.onnx".as_ref(), &request)?;
//! assert_eq!((pruned.report.zeros(), pruned.report.weights()), (10_875, 21_750));
//! # Ok::<(), egret::Error>(())
//! ```
#![forbid(unsafe_code)]

mod budget;
mod channels;
mod computed;
mod constants;
mod contractions;
mod damping;
mod data;
mod ends;
mod flat;
mod integers;
mod joint;
mod layers;
mod layout;
mod learn;
mod mask;
mod methods;
mod moments;
mod movers;
mod names;
mod numbers;
mod page;
mod pattern;
mod plan;
mod prune;
mod quantize;
mod report;
mod request;
mod scope;
mod scores;
mod search;
mod state;
mod stats;
mod wire;

pub use joint::{
    Allowed, Cost, Goal, Joint, Level, Levels, Metric, Outcome, Pace, Plan, Point, Recipe, Score, Shares,
    Size, Speed, Tried, Zeros, compress, lost, planned, replay,
};
pub use learn::{Learning, Learnt, learn};
pub use methods::Method;
pub use page::{About, Found, page, sheet};
pub use pattern::Pattern;
pub use prune::{prune, prune_watched};
pub use quantize::histogram::Histogram;
pub use quantize::{Precision, Quantization, Runtime, quantize, quantize_watched};
pub use report::{Compressed, Entry, Extent, Quality, Quantiser, Range, Reason, Report, Verdict};
pub use request::{Request, Watch};
pub use scope::Scope;
pub use scores::Scores;
pub use state::{Resume, State};
