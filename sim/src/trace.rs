//! What happened, as a rolling hash and the last events: two runs of one plan must agree in every one of them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard},
};

/// Events kept for the report of a failure.
const EVENTS_KEPT: usize = 200;

/// One operation of the world. `what` names a file, an address or a fault in the trace's own table.
#[derive(Clone, Copy, Debug)]
struct Event {
    time_ns: u64,
    node: u8,
    operation: &'static str,
    what: u32,
    a: u64,
    b: u64,
}

#[derive(Default)]
struct State {
    hash: u64,
    count: u64,
    events: VecDeque<Event>,
    names: Vec<Arc<str>>,
    ids: BTreeMap<Arc<str>, u32>,
    print: bool,
    /// How often each fault and each event of interest came up.
    counters: BTreeMap<&'static str, u64>,
}

/// Shared by everything in one world.
#[derive(Clone, Default)]
pub struct Trace {
    state: Arc<Mutex<State>>,
}

impl Trace {
    /// With `print` every event goes to stderr as it happens.
    pub fn new(print: bool) -> Trace {
        let trace = Trace::default();
        trace.lock().print = print;
        trace
    }

    /// The number under which events speak of `name`; the same in every run of a seed.
    pub fn name(&self, name: &str) -> u32 {
        let mut state = self.lock();
        if let Some(id) = state.ids.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let id = state.names.len() as u32;
        state.names.push(name.clone());
        state.ids.insert(name, id);
        id
    }

    pub fn event(&self, time_ns: u64, node: u8, operation: &'static str, what: &str, a: u64, b: u64) {
        let what = self.name(what);
        self.event_of(time_ns, node, operation, what, a, b);
    }

    /// Like `event`, for a name asked for before.
    pub fn event_of(&self, time_ns: u64, node: u8, operation: &'static str, what: u32, a: u64, b: u64) {
        let mut state = self.lock();
        let mut hash = state.hash;
        for word in [time_ns, u64::from(node), crate::dice::hash_name(operation), u64::from(what), a, b] {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
        }
        state.hash = hash;
        state.count += 1;
        if state.events.len() == EVENTS_KEPT {
            state.events.pop_front();
        }
        let event = Event { time_ns, node, operation, what, a, b };
        state.events.push_back(event);
        if state.print {
            eprintln!("{}", state.render(&event));
        }
    }

    /// Counts a fault or an event of interest for the sometimes-table.
    pub fn sometimes(&self, what: &'static str) {
        *self.lock().counters.entry(what).or_default() += 1;
    }

    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counters.clone()
    }

    /// (rolling hash, number of events)
    pub fn digest(&self) -> (u64, u64) {
        let state = self.lock();
        (state.hash, state.count)
    }

    /// The last events, one per line.
    pub fn tail(&self) -> String {
        let state = self.lock();
        let mut text = String::new();
        for event in &state.events {
            writeln!(text, "{}", state.render(event)).expect("a String takes everything");
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

impl State {
    fn render(&self, event: &Event) -> String {
        let Event { time_ns, node, operation, what, a, b } = *event;
        format!(
            "{:>6}.{:09} n{node} {operation} {} {a} {b}",
            time_ns / 1_000_000_000,
            time_ns % 1_000_000_000,
            self.names[what as usize]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_argument() {
        let digest = |node, operation, what: &str, b| {
            let trace = Trace::default();
            trace.event(5, 0, "boot", "a", 0, 0);
            trace.event(9, node, operation, what, 1, b);
            trace.digest()
        };
        let base = digest(0, "write", "x", 2);
        assert_eq!(base, digest(0, "write", "x", 2));
        for other in [
            digest(1, "write", "x", 2),
            digest(0, "read", "x", 2),
            digest(0, "write", "a", 2),
            digest(0, "write", "x", 3),
        ] {
            assert_ne!(base, other);
        }
    }
}
