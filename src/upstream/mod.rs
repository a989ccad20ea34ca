//! Resolvers out: choosing, asking, retrying.
