//! Builds every task from a configuration; reloads, drains and stops them.
