//! The broker: what requests mean. Knows the store and the connections by their doors only.

pub mod config;
