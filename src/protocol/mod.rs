//! The wire, pure over bytes: frames, commands in both serializations, headers, bodies, the JSON dialect. Never fails on
//! short input (it asks for more), never allocates more than the bytes it has seen justify; knows no sockets.

pub mod body;
pub mod code;
pub mod command;
pub mod frame;
pub mod header;
pub mod json;
