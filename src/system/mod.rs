//! Other programs' files: what the machine already has.
