//! The integration tests, one binary so that linking is paid once.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod architecture;
mod lockfile;
