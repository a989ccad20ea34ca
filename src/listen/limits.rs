//! What is bounded on the client's side, and what happens at the bound.
