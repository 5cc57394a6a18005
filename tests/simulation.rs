//! Hundreds of seeds of the simulator in every `cargo test`: whatever was acknowledged survives every crash they know.
//! `cargo sim -- --seed X` replays one, `cargo sim -- --seeds N` runs more.

// A test stands on the world's side of the doors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(madsim)]
mod seeds {
    use std::path::Path;

    use keelmq_sim::{plan::Scene, suite};

    #[test]
    fn bugs_once_found_stay_away() {
        suite::replay_corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sim/corpus"));
    }

    #[test]
    fn the_store_keeps_what_it_acknowledged() {
        suite::seeds(Scene::Store, 0, suite::SEEDS);
    }

    #[test]
    fn the_broker_keeps_and_delivers_what_it_acknowledged() {
        suite::seeds(Scene::Broker, 0, suite::SEEDS);
    }
}

/// Somebody's own RUSTFLAGS replace those of .cargo/config.toml. The suite must not vanish with them: it runs itself
/// again, with the flag on the command line and a target directory of its own.
#[cfg(not(madsim))]
#[test]
fn the_seeds_run_with_their_flag() {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        cargo.env_remove(name);
    }
    cargo.args(["test", "--test", "simulation", "--target-dir", "target/sim"]);
    cargo.args(["--config", "target.'cfg(all())'.rustflags=['--cfg=madsim']"]);
    let status = cargo.status().expect("cargo runs this test, so it can run once more");
    assert!(
        status.success(),
        "the simulator needs --cfg madsim; unset RUSTFLAGS and run `cargo test --test simulation` again"
    );
}
