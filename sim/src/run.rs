//! One run: a thread of its own (std's hash maps repeat only then), a madsim runtime, and whatever went wrong as a value.

use std::{
    cell::RefCell,
    future::Future,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::{Duration, Instant},
};

use madsim::{Config, runtime::Runtime};

thread_local! {
    /// Set in threads of runs: what panics said there, instead of stderr.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Panics in threads of runs are kept for the report; all others print as ever.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = PANICS.with(|panics| match &mut *panics.borrow_mut() {
                Some(kept) => {
                    kept.push(info.to_string());
                    true
                }
                None => false,
            });
            if !kept {
                usual(info);
            }
        }));
    });
}

/// What panics of this thread's run have said so far.
pub fn panics() -> Vec<String> {
    PANICS.with(|panics| panics.borrow().clone().unwrap_or_default())
}

/// Processor time that this thread has used, as far as the system says.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Runs `main` in a world of its own for at most `limit` of virtual time. `Err` is what the panics said.
pub fn run<F>(seed: u64, limit: Duration, main: impl FnOnce() -> F + Send + 'static) -> Result<F::Output, String>
where
    F: Future,
    F::Output: Send + 'static,
{
    run_timed(seed, limit, main).0
}

/// The same, with the processor time that it took.
pub fn run_timed<F>(
    seed: u64,
    limit: Duration,
    main: impl FnOnce() -> F + Send + 'static,
) -> (Result<F::Output, String>, Duration)
where
    F: Future,
    F::Output: Send + 'static,
{
    install_hook();
    let body = move || {
        let started = Instant::now();
        PANICS.with(|panics| *panics.borrow_mut() = Some(Vec::new()));
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut runtime = Runtime::with_seed_and_config(seed, Config::default());
            runtime.set_time_limit(limit);
            runtime.block_on(main())
        }));
        let busy = processor_time().unwrap_or_else(|| started.elapsed());
        (outcome.map_err(|_| panics().join("\n")), busy)
    };
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(body).expect("a thread can be started");
    thread.join().expect("the run's panics are caught inside")
}
