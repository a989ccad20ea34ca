//! Turns what was written into a `Config`, or into everything that is wrong with it.
