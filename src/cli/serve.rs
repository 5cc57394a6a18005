//! Starts the servers, says what they are, waits for their end.

use crate::env::Env;

use super::{configuration::Loaded, exit};

pub(super) fn run(runtime: tokio::runtime::Runtime, env: Env, loaded: Loaded) -> i32 {
    let _ = (runtime, env, loaded);
    eprintln!("keelmq: nothing to serve yet");
    exit::FAILED
}
