//! Stage 5: which upstream group a name goes to, and under which policy.
