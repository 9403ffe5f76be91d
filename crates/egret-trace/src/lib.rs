//! What the Egret compiler did and why, as typed events.
