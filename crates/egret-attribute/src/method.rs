//! The methods and their settings.

use egret::grad::Shares;
use egret::{Error, Result};
use std::fmt;

/// A method with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// The size of the gradient.
    Saliency,
    /// The input times the gradient.
    InputXGradient,
    /// The mean gradient on the way from the baseline, times the way.
    IntegratedGradients {
        /// Points on the way: those of Gauss and Legendre.
        steps: usize,
    },
    /// The mean gradient of noisy copies.
    SmoothGrad {
        /// How many copies.
        samples: usize,
        /// Standard deviation of the noise, relative to the input's range.
        noise: f64,
        /// Equal seeds give equal noise.
        seed: u64,
    },
    /// Layer-wise relevance: the score shared out layer by layer.
    Relevance {
        /// How; a gamma of 0 is the epsilon rule.
        shares: Shares,
    },
    /// Feature maps of a layer weighed by their mean gradients.
    GradCam {
        /// A value or an ONNX node; the last convolution if there is none.
        layer: Option<String>,
    },
    /// Feature maps of a layer weighed by their positive gradients, by second and third derivatives.
    GradCamPlus {
        /// As for Grad-CAM.
        layer: Option<String>,
    },
    /// The mean score of randomly masked inputs.
    Rise {
        /// The size of a mask's cells, as for occlusion.
        window: Option<Vec<usize>>,
        /// Masks.
        samples: usize,
        /// Equal seeds give equal masks.
        seed: u64,
    },
    /// What the score loses without a window of the input.
    Occlusion {
        /// The window's size over the input's last axes; it covers the others whole.
        window: Option<Vec<usize>>,
        /// How far one window is from the next.
        stride: Option<Vec<usize>>,
    },
    /// Shapley values of segments.
    KernelShap {
        /// As for occlusion; segments do not overlap.
        window: Option<Vec<usize>>,
        /// Sets of segments; 2048 and two for each segment if there is no number.
        samples: Option<usize>,
        /// Equal seeds give equal sets.
        seed: u64,
    },
    /// Coefficients of segments in a linear model near the inputs.
    Lime {
        /// As for occlusion; segments do not overlap.
        window: Option<Vec<usize>>,
        /// Sets of segments.
        samples: usize,
        /// The cosine distance within which a set counts.
        width: f64,
        /// The penalty on squared coefficients.
        ridge: f64,
        /// Equal seeds give equal sets.
        seed: u64,
    },
    /// Shapley values of decision trees, exactly.
    TreeShap,
}

/// Settings that the user gave, whatever the method.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// For integrated gradients.
    pub steps: Option<usize>,
    /// For SmoothGrad, RISE, KernelSHAP and LIME.
    pub samples: Option<usize>,
    /// For SmoothGrad.
    pub noise: Option<f64>,
    /// For SmoothGrad.
    pub noise_seed: Option<u64>,
    /// For RISE, KernelSHAP and LIME.
    pub sample_seed: Option<u64>,
    /// For LIME.
    pub kernel_width: Option<f64>,
    /// For LIME.
    pub ridge: Option<f64>,
    /// For layer-wise relevance by either rule.
    pub epsilon: Option<f64>,
    /// For layer-wise relevance by the gamma rule.
    pub gamma: Option<f64>,
    /// For Grad-CAM and Grad-CAM++.
    pub layer: Option<String>,
    /// For occlusion, RISE, KernelSHAP and LIME.
    pub window: Option<Vec<usize>>,
    /// For occlusion.
    pub stride: Option<Vec<usize>>,
    /// Whether a baseline was given: for integrated gradients, occlusion, RISE, KernelSHAP and LIME.
    pub baseline: bool,
    /// Whether rows of a background were given: for tree-shap.
    pub background: bool,
}

/// Points of integrated gradients unless others are asked for.
const STEPS: usize = 64;
/// More of them cost time and gain nothing; finding them takes time with their square.
const MOST_STEPS: usize = 10_000;
/// Copies of SmoothGrad unless others are asked for.
const SAMPLES: usize = 50;
/// Noise of SmoothGrad: within the 10 % to 20 % that its authors advise.
const NOISE: f64 = 0.15;
/// Epsilon of layer-wise relevance: above the rounding of sums in f32, below what is seen.
const EPSILON: f64 = 1e-6;
/// Gamma of layer-wise relevance, as its authors advise for lower layers.
const GAMMA: f64 = 0.25;
/// Masks of RISE unless others are asked for: those of its authors for the smaller of their networks.
const MASKS: usize = 4000;
/// Samples of LIME unless others are asked for: those of its authors' package for images.
const LIME_SAMPLES: usize = 1000;
/// The kernel's width and the penalty of LIME: those of its authors' package for images.
const KERNEL_WIDTH: f64 = 0.25;
const RIDGE: f64 = 1.0;
/// More sets than this cost memory and gain little.
const MOST_SETS: usize = 1_000_000;

/// Names, and the settings that each takes.
const METHODS: [(&str, &[&str]); 13] = [
    ("saliency", &[]),
    ("input-x-gradient", &[]),
    ("integrated-gradients", &["--steps", "--baseline"]),
    ("smoothgrad", &["--samples", "--noise", "--noise-seed"]),
    ("lrp-epsilon", &["--epsilon"]),
    ("lrp-gamma", &["--gamma", "--epsilon"]),
    ("grad-cam", &["--layer"]),
    ("grad-cam++", &["--layer"]),
    ("occlusion", &["--window", "--stride", "--baseline"]),
    ("rise", &["--window", "--samples", "--sample-seed", "--baseline"]),
    ("kernel-shap", &["--window", "--samples", "--sample-seed", "--baseline"]),
    ("lime", &["--window", "--samples", "--kernel-width", "--ridge", "--sample-seed", "--baseline"]),
    ("tree-shap", &["--background"]),
];

impl Choices {
    /// The options, and whether each was given.
    fn given(&self) -> [(&'static str, bool); 14] {
        [
            ("--steps", self.steps.is_some()),
            ("--samples", self.samples.is_some()),
            ("--noise", self.noise.is_some()),
            ("--noise-seed", self.noise_seed.is_some()),
            ("--sample-seed", self.sample_seed.is_some()),
            ("--kernel-width", self.kernel_width.is_some()),
            ("--ridge", self.ridge.is_some()),
            ("--epsilon", self.epsilon.is_some()),
            ("--gamma", self.gamma.is_some()),
            ("--layer", self.layer.is_some()),
            ("--window", self.window.is_some()),
            ("--stride", self.stride.is_some()),
            ("--baseline", self.baseline),
            ("--background", self.background),
        ]
    }

    /// Those of some options.
    fn only(&self, options: &[&str]) -> Choices {
        let has = |option: &str| options.contains(&option);
        Choices {
            steps: self.steps.filter(|_| has("--steps")),
            samples: self.samples.filter(|_| has("--samples")),
            noise: self.noise.filter(|_| has("--noise")),
            noise_seed: self.noise_seed.filter(|_| has("--noise-seed")),
            sample_seed: self.sample_seed.filter(|_| has("--sample-seed")),
            kernel_width: self.kernel_width.filter(|_| has("--kernel-width")),
            ridge: self.ridge.filter(|_| has("--ridge")),
            epsilon: self.epsilon.filter(|_| has("--epsilon")),
            gamma: self.gamma.filter(|_| has("--gamma")),
            layer: self.layer.clone().filter(|_| has("--layer")),
            window: self.window.clone().filter(|_| has("--window")),
            stride: self.stride.clone().filter(|_| has("--stride")),
            baseline: self.baseline && has("--baseline"),
            background: self.background && has("--background"),
        }
    }
}

/// `a`, `a and b`, `a, b and c`
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., one, last] => [first, &[&format!("{one} and {last}")]].concat().join(", "),
        names => names.concat(),
    }
}

impl Method {
    /// The method of a name, its settings chosen or usual.
    ///
    /// # Errors
    /// An unknown name; a setting that the method has not, or out of range.
    pub fn new(name: &str, choices: &Choices) -> Result<Method> {
        let names = || METHODS.map(|(n, _)| n).join(", ");
        let (_, takes) = METHODS
            .iter()
            .find(|(n, _)| *n == name)
            .ok_or_else(|| Error::user(format!("no method `{name}`; there are {}", names())))?;
        let given = choices.given();
        if let Some((option, _)) = given.iter().find(|(option, given)| *given && !takes.contains(option)) {
            let of: Vec<&str> =
                METHODS.iter().filter(|(_, t)| t.contains(option)).map(|(n, _)| *n).collect();
            return Err(Error::user(format!("{option} belongs to {}, not to {name}", listed(&of))));
        }
        let positive = |option: &str, n: usize| match n {
            0 => Err(Error::user(format!("{option} 0: at least 1 is needed"))),
            n => Ok(n),
        };
        for (option, list) in [("--window", &choices.window), ("--stride", &choices.stride)] {
            list.iter().flatten().try_for_each(|&n| positive(option, n).map(drop))?;
        }
        let sets = |n: usize| match positive("--samples", n)? {
            n if n > MOST_SETS => Err(Error::user(format!("--samples {n}: at most {MOST_SETS} sets"))),
            n => Ok(n),
        };
        let (window, seed) = (choices.window.clone(), choices.sample_seed.unwrap_or(0));
        Ok(match name {
            "saliency" => Method::Saliency,
            "input-x-gradient" => Method::InputXGradient,
            "integrated-gradients" => {
                let steps = positive("--steps", choices.steps.unwrap_or(STEPS))?;
                if steps > MOST_STEPS {
                    return Err(Error::user(format!("--steps {steps}: at most {MOST_STEPS}")));
                }
                Method::IntegratedGradients { steps }
            }
            "smoothgrad" => {
                let noise = choices.noise.unwrap_or(NOISE);
                if !(noise.is_finite() && noise >= 0.0) {
                    return Err(Error::user(format!("--noise {noise}: 0 or more of the input's range")));
                }
                let samples = positive("--samples", choices.samples.unwrap_or(SAMPLES))?;
                Method::SmoothGrad { samples, noise, seed: choices.noise_seed.unwrap_or(0) }
            }
            "lrp-epsilon" | "lrp-gamma" => {
                let above_0 = |option: &str, v: f64| match v.is_finite() && v > 0.0 {
                    true => Ok(v),
                    false => Err(Error::user(format!("{option} {v}: a number above 0"))),
                };
                let epsilon = above_0("--epsilon", choices.epsilon.unwrap_or(EPSILON))?;
                let gamma = match name {
                    "lrp-gamma" => above_0("--gamma", choices.gamma.unwrap_or(GAMMA))?,
                    _ => 0.0,
                };
                Method::Relevance { shares: Shares { epsilon, gamma } }
            }
            "tree-shap" => Method::TreeShap,
            "grad-cam" => Method::GradCam { layer: choices.layer.clone() },
            "grad-cam++" => Method::GradCamPlus { layer: choices.layer.clone() },
            "rise" => Method::Rise { window, samples: sets(choices.samples.unwrap_or(MASKS))?, seed },
            "kernel-shap" => {
                Method::KernelShap { window, samples: choices.samples.map(sets).transpose()?, seed }
            }
            "lime" => {
                let width = choices.kernel_width.unwrap_or(KERNEL_WIDTH);
                if !(width.is_finite() && width >= 0.01) {
                    return Err(Error::user(format!("--kernel-width {width}: a distance of 0.01 or more")));
                }
                let ridge = choices.ridge.unwrap_or(RIDGE);
                if !(ridge.is_finite() && ridge >= 0.0) {
                    return Err(Error::user(format!("--ridge {ridge}: a penalty of 0 or more")));
                }
                let samples = sets(choices.samples.unwrap_or(LIME_SAMPLES))?;
                Method::Lime { window, samples, width, ridge, seed }
            }
            _ => Method::Occlusion { window, stride: choices.stride.clone() },
        })
    }

    /// Several methods. A setting goes to those that have it, and at least one has to.
    ///
    /// # Errors
    /// As [`Method::new`]; a method twice.
    pub fn several(names: &[String], choices: &Choices) -> Result<Vec<Method>> {
        if let [one] = names {
            return Ok(vec![Method::new(one, choices)?]);
        }
        if let Some((_, name)) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            return Err(Error::user(format!("--method {name} is given twice")));
        }
        let takes = |name: &str| METHODS.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, t)| *t);
        // The first method tells to which a setting belongs that none of these has.
        for (option, _) in choices.given().into_iter().filter(|(_, given)| *given) {
            if !names.iter().any(|n| takes(n).contains(&option)) {
                Method::new(&names[0], &choices.only(&[option]))?;
            }
        }
        names.iter().map(|name| Method::new(name, &choices.only(takes(name)))).collect()
    }

    /// Whether it needs derivatives.
    pub(crate) fn has_gradients(&self) -> bool {
        use Method::{KernelShap, Lime, Occlusion, Rise, TreeShap};
        !matches!(self, Occlusion { .. } | Rise { .. } | KernelShap { .. } | Lime { .. } | TreeShap)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Saliency => f.write_str("saliency"),
            Method::InputXGradient => f.write_str("input x gradient"),
            Method::IntegratedGradients { steps } => write!(f, "integrated gradients, {steps} steps"),
            Method::SmoothGrad { samples, noise, seed } => {
                write!(f, "SmoothGrad, {samples} copies with noise of {noise} of the range, seed {seed}")
            }
            Method::Relevance { shares: Shares { epsilon, gamma } } if *gamma == 0.0 => {
                write!(f, "layer-wise relevance, epsilon {epsilon}")
            }
            Method::Relevance { shares: Shares { epsilon, gamma } } => {
                write!(f, "layer-wise relevance, gamma {gamma}, epsilon {epsilon}")
            }
            Method::GradCam { .. } => f.write_str("Grad-CAM"),
            Method::GradCamPlus { .. } => f.write_str("Grad-CAM++"),
            Method::Rise { .. } => f.write_str("RISE"),
            Method::Occlusion { .. } => f.write_str("occlusion"),
            Method::KernelShap { .. } => f.write_str("KernelSHAP"),
            Method::Lime { width, ridge, .. } => write!(f, "LIME, kernel width {width}, ridge {ridge}"),
            Method::TreeShap => f.write_str("SHAP values of trees"),
        }
    }
}
