//! The shipped lists of domains an ecosystem downloads from.
