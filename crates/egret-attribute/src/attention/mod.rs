//! Attention maps: the shares by which each head of a model weighs the values of its keys, whether the model's attention is one
//! operation or several, and whether the compiler fuses it or not.
//!
//! [`maps`] runs the passes up to the one that finds attentions on a copy of the graph, and gives the copy further outputs (*taps*):
//! `softmax(scale * q k^T + mask)` of every `attention`, in f64 as the reference interpreter computes it, so that there the shares
//! are those used, bit for bit. In compiled code the taps are the same definition, in f64, of the queries and keys that the code
//! computed; the fused kernel rounds to f32 on its way. A softmax that weighs values but is part of no `attention` (its scores pass through
//! something that no rule knows) is itself the output. The model's own outputs are left out: what is only needed for them does not run.
//!
//! [`weighted`] weights each map by the gradient of a score: where attention decided, not where it only was.
//!
//! # Example
//!
//! ```
//! use egret::{Engine, Options, inputs::{Given, Inputs}, source};
//! use egret_attribute::attention::{maps, rollout};
//!
//! let tokens = Given::named("tokens=[[3,1,2,3,1,2,3]]")?;
//! let model = source::Request {
//!     model: "../../fixtures/models/induction.onnx".into(),
//!     inputs: Inputs { named: vec![tokens], ..Inputs::default() },
//!     ..source::Request::default()
//! };
//! let layers = maps(&model.prepare()?, Engine::Jit, &Options::default())?;
//! assert_eq!(layers[0].name, "Softmax:/layer.0/Softmax");
//! assert_eq!((layers[0].shape.as_slice(), layers[0].heads()), (&[1, 2, 7, 7][..], 2));
//! assert_eq!(rollout(&layers)?.size, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod heat;
mod layer;
mod maps;
mod rollout;
mod taps;
mod weighted;

pub(crate) use heat::{Patches, patches_of};
pub use heat::{heads, over_image};
pub use layer::{Layer, Pair};
pub use maps::{find, maps};
pub use rollout::{Rollout, relevance, rollout};
pub use weighted::{Weighted, weighted};
