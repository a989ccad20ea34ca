//! Stages 3 and 9: answers kept as bytes.
