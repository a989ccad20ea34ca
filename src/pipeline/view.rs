//! Stage 2: which view a client is in.
