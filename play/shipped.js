/* Written by tools/compact.py. */
const SHIPPED = {"compact": 6113073, "pretrained": 40205000, "deep": 11616720, "conv": 35216, "paper": 11616728, "noise-free": 11428528};
const SPRITE = { reach: 6, frames: 9, sliders: [[268, 0.5816], [656, 0.5723], [182, 0.5275], [464, 0.5125], [214, 0.5075], [216, 0.5075]] }; // dimension, σ
