//! Stage 1: who may ask.
