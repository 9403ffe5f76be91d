//! What calibration data tell of a model: values inside it, their moments, and layers made anew from them.

pub mod bias;
pub mod budget;
pub mod linalg;
pub mod moments;
pub mod reconstruct;
pub mod restore;
pub mod rounds;
pub mod taps;
pub mod view;
