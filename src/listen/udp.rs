//! UDP workers and the fast path.
