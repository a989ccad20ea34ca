//! Stage 10: an answer fitted to the client who asked.
