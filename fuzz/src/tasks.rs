//! Tasks and time on one thread. Whoever is ready runs; when nobody is, the clock moves to the next sleeper. A world in
//! which nothing happens any more, or too much, is a hang, and a hang is a finding.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use keelmq::env::{BoxFuture, Clock, Entropy, Spawner};

/// Polls of one run. A busy loop is noticed after some seconds.
const POLLS_MAX: u64 = 2_000_000;
/// What a run may take of the world's time.
const TIME_MAX: Duration = Duration::from_secs(4 * 3_600);
/// Wall milliseconds at the beginning.
const WALL_MS: i64 = 1_700_000_000_000;
/// The name of whoever called `run`.
const MAIN: u64 = 0;

#[derive(Clone)]
pub struct Tasks {
    state: Arc<Mutex<State>>,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

struct State {
    now: Duration,
    tasks: BTreeMap<u64, (BoxFuture<'static, ()>, Waker)>,
    timers: BTreeMap<(Duration, u64), Waker>,
    next_id: u64,
    random: u64,
}

/// Puts its task into the queue once, until it is polled again.
struct Bell {
    id: u64,
    rung: AtomicBool,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // The flag is only an economy: a task that is polled once too often finds nothing to do.
        if !self.rung.swap(true, Ordering::SeqCst) {
            lock(&self.ready).push_back(self.id);
            self.rung.store(false, Ordering::SeqCst);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

impl Tasks {
    pub fn new() -> Tasks {
        let state = State {
            now: Duration::ZERO,
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            next_id: MAIN + 1,
            random: 0x9E37_79B9_7F4A_7C15,
        };
        Tasks { state: Arc::new(state.into()), ready: Arc::default() }
    }

    /// Runs the world until `main` is done.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let main_waker = self.waker(MAIN);
        main_waker.wake_by_ref();
        let until = lock(&self.state).now + TIME_MAX;
        let mut polls = 0;
        loop {
            let Some(id) = lock(&self.ready).pop_front() else {
                self.move_clock(until);
                continue;
            };
            polls += 1;
            assert!(polls < POLLS_MAX, "a hang: {polls} polls and no end");
            if id == MAIN {
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                    return output;
                }
                continue;
            }
            let Some((mut task, waker)) = lock(&self.state).tasks.remove(&id) else { continue };
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                lock(&self.state).tasks.insert(id, (task, waker));
            }
        }
    }

    fn move_clock(&self, until: Duration) {
        let waker = {
            let mut state = lock(&self.state);
            let ((at, _), waker) = state.timers.pop_first().expect("a hang: everybody waits for each other");
            assert!(at < until, "a hang: nothing came of waiting {TIME_MAX:?}");
            state.now = state.now.max(at);
            waker
        };
        waker.wake();
    }

    /// Drops every task where it stands.
    pub fn clear(&self) {
        loop {
            let tasks = std::mem::take(&mut lock(&self.state).tasks);
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        lock(&self.state).timers.clear();
        lock(&self.ready).clear();
    }

    pub fn sleep_for(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let due = lock(&self.state).now.saturating_add(duration);
        Sleep { tasks: self.clone(), due, timer: None }
    }

    fn waker(&self, id: u64) -> Waker {
        Arc::new(Bell { id, rung: AtomicBool::new(false), ready: self.ready.clone() }).into()
    }

    fn start(&self, task: BoxFuture<'static, ()>) {
        let mut state = lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        let waker = self.waker(id);
        waker.wake_by_ref();
        state.tasks.insert(id, (task, waker));
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

struct Sleep {
    tasks: Tasks,
    due: Duration,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let tasks = self.tasks.clone();
        let mut state = lock(&tasks.state);
        if state.now >= self.due {
            return Poll::Ready(());
        }
        let id = *self.timer.get_or_insert_with(|| {
            state.next_id += 1;
            state.next_id
        });
        state.timers.insert((self.due, id), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            lock(&self.tasks.state).timers.remove(&(self.due, id));
        }
    }
}

impl Clock for Tasks {
    fn wall_ms(&self) -> i64 {
        WALL_MS + lock(&self.state).now.as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        lock(&self.state).now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.sleep_for(duration))
    }

    fn utc_offset_s(&self, _wall_ms: i64) -> i32 {
        3_600
    }
}

impl Spawner for Tasks {
    fn start_task(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.start(task);
    }

    fn start_service(&self, _name: &'static str, service: BoxFuture<'static, ()>) {
        self.start(service);
    }
}

impl Entropy for Tasks {
    fn next_u64(&self) -> u64 {
        let mut state = lock(&self.state);
        state.random = state.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.random ^ state.random >> 29
    }
}
