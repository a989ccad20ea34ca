//! The order in which a query is decided, once.

pub mod access;
pub mod cache;
pub mod compose;
pub mod respond;
pub mod route;
pub mod special_types;
pub mod view;
pub mod zone;
