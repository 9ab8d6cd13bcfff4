// A compression method of one's own: `random_k:DENSITY`, such as `random_k:0.1`.
#pragma once

/// Call it first, on every rank. From then on `random_k` is a method like any other: in levels,
/// plans, policies and checkpoints.
void register_random_k();
