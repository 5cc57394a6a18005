//! `cargo sim`: runs seeds and plans, replays one, shrinks what fails.

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    keelmq_sim::command::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("the simulator needs --cfg madsim: unset RUSTFLAGS (it replaces the flags of .cargo/config.toml)");
    std::process::ExitCode::from(2)
}
