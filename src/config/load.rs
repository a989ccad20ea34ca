//! Reads the main file and everything it includes.
