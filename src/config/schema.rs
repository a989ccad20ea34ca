//! The JSON schema for editors and the tables of `docs/config.md`.
