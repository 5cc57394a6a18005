//! The program. Everything it can do is said in `keelmq::cli`.

fn main() {
    std::process::exit(keelmq::cli::run());
}
