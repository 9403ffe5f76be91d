//! What calibration data tell of a model: values inside it, and layers made anew from their moments.

pub mod bias;
pub mod distance;
pub mod given;
pub mod original;
pub mod reconstruct;
pub mod restore;
pub mod rounds;
pub mod taps;
pub mod view;
