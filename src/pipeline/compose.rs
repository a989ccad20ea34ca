//! Stage 8: what is kept of a reply: the alias chain, within its bailiwick.
