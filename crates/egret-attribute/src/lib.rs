//! Attributions: how much each feature of the inputs had to do with a score of a model. Attention maps: [`attention`].
//!
//! [`explain`] takes a model with its inputs and a [`Request`]: a target (one element of an output, the largest if none is named)
//! and a method. It gives a [`Map`] per input, with a number for every element.
//!
//! | method | attribution of a feature x | costs |
//! |---|---|---|
//! | `saliency` | the size of the gradient | one gradient |
//! | `input-x-gradient` | x times the gradient | one gradient |
//! | `integrated-gradients` | (x - baseline) times the mean gradient on the straight way from the baseline (Sundararajan 2017) | `steps` gradients |
//! | `smoothgrad` | the mean gradient of noisy copies (Smilkov 2017) | `samples` gradients |
//! | `lrp-epsilon` | what x has of the score when each layer shares its part out among its inputs, as each contributed (Bach 2015) | one gradient |
//! | `lrp-gamma` | the same, with what has the sign of the sum counting more (Montavon 2019) | four gradients |
//! | `grad-cam` | feature maps of a layer, weighed by their mean gradients, where positive (Selvaraju 2017) | one gradient |
//! | `grad-cam++` | as Grad-CAM, the channels weighed by their positive gradients, by second and third derivatives (Chattopadhay 2018) | one gradient |
//! | `occlusion` | what the score loses when a window is set to the baseline, averaged over the windows that cover x (Zeiler 2014) | a run per window |
//! | `rise` | the mean score of randomly masked inputs that leave x (Petsiuk 2018) | a run per mask |
//! | `kernel-shap` | the Shapley value of x's segment in the game whose absent segments are as the baseline (Lundberg 2017) | a run per set of segments |
//! | `lime` | the coefficient of x's segment in a linear model near the inputs (Ribeiro 2016) | a run per sample |
//! | `tree-shap` | the Shapley value of x in the game whose absent features are those of background rows (Lundberg 2018), exactly | a walk through all nodes per row and background row |
//!
//! Gradients are programs of `egret-grad` with a seed: one program gives every element of the output, so that it is compiled once.
//!
//! # Example
//!
//! ```
//! use egret::{Engine, Options, inputs::{Given, Inputs}, source};
//! use egret_attribute::{Baseline, Checks, Choices, Method, Request, explain, top};
//!
//! let digits = Given::named("image=../../fixtures/digits/images.npy")?;
//! let model = source::Request {
//!     model: "../../fixtures/models/simple_cnn.onnx".into(),
//!     inputs: Inputs { named: vec![digits], sample: Some(292), ..Inputs::default() },
//!     ..source::Request::default()
//! };
//! let found = explain(&model, &Request {
//!     target: None,
//!     method: Method::new("integrated-gradients", &Choices::default())?,
//!     wrt: vec![],
//!     baseline: Baseline::default(),
//!     checks: Checks::default(),
//!     engine: Engine::Jit,
//!     options: Options::default(),
//! })?;
//! assert_eq!(found.target.spelt(), "logits[0,4]");
//! assert!(found.completeness.unwrap().error() < 0.01);
//! assert_eq!(top(&found.maps, 1)[0].feature, "image[0,0,6,13]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod attention;
mod batch;
mod curves;
mod explain;
mod explanation;
mod feature;
mod features;
mod gradcam;
mod gradients;
mod kernel_shap;
mod layer;
mod least_squares;
mod lime;
mod map;
mod method;
mod numbers;
mod occlusion;
pub mod page;
mod picture;
mod program;
mod quadrature;
mod randomised;
mod request;
mod rise;
mod surrogate;
mod swap;
mod target;
mod trees;
mod variants;
mod windows;

pub use explain::{explain, explain_by};
pub use explanation::{Completeness, Curve, Curves, Explanation, Randomised, Stage};
pub use feature::Baseline;
pub use map::{Map, Top, top};
pub use method::{Choices, Method};
pub use numbers::short;
pub use picture::picture;
pub use request::{Checks, Request};
pub use target::Target;
