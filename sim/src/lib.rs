//! The seeded simulator: worlds of machines whose time, disks, wires and processes are a function of a seed, and the
//! checks that what a broker acknowledged in them is never lost. Everything that runs needs `--cfg madsim`.

// It is the world that stands behind `env`'s doors, and its command line runs seeds on threads of the real one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod commits;
pub mod derived_image;
pub mod dice;
pub mod disk;
pub mod kinds;
pub mod log_image;
pub mod model;
pub mod plan;
pub mod trace;

#[cfg(madsim)]
pub mod batch;
#[cfg(madsim)]
pub mod clock;
#[cfg(madsim)]
pub mod command;
#[cfg(madsim)]
pub mod network;
#[cfg(madsim)]
pub mod plants;
#[cfg(madsim)]
pub mod run;
#[cfg(madsim)]
pub mod scene;
#[cfg(madsim)]
pub mod scene_broker;
#[cfg(madsim)]
pub mod scene_store;
#[cfg(madsim)]
pub mod suite;
#[cfg(madsim)]
pub mod time;
#[cfg(madsim)]
pub mod wire_client;
#[cfg(madsim)]
pub mod world;

#[cfg(all(test, madsim))]
mod tests;
