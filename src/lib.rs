//! KeelMQ: a message broker that speaks RocketMQ's remoting protocol and keeps RocketMQ's files.
//!
//! The floors, from the ground: `model`; `protocol` and `env`; `store` and `remoting`; `broker` and `namesrv`; `cli`.
//! A room imports only lower floors; siblings do not know each other. `os` keeps `env`'s promises with the kernel and
//! is imported by `main` and `cli` alone, so that everything else runs under the simulator as it is.

// Unit tests may use the world past `env`'s doors.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

/// True where the planted bug of this name is switched on; never without feature `plant`.
#[cfg(feature = "plant")]
macro_rules! plant {
    ($name:ident) => {
        $crate::plant::on($crate::plant::Plant::$name)
    };
}

#[cfg(not(feature = "plant"))]
macro_rules! plant {
    ($name:ident) => {
        false
    };
}

pub mod broker;
pub mod cli;
pub mod env;
pub mod model;
pub mod namesrv;
pub mod os;
#[cfg(feature = "plant")]
pub mod plant;
pub mod protocol;
pub mod remoting;
pub mod store;
