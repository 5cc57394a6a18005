//! One connection under load: keeps its window full, or sends what is due, and notes when each answer came.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    pace::Pace,
    template::{OPAQUE_MIN, Template},
};
use crate::{
    cli::ask::FRAME_SIZE_MAX_BYTES,
    env::{Clock, Stream},
    protocol::{code, command, frame},
};

/// How long answers may take that are still missing when the time is over.
const DRAIN: Duration = Duration::from_secs(5);

/// Bytes read at most in one go.
const READ_BYTES: usize = 256 << 10;

/// Bytes of requests collected before they are handed over.
const WRITE_BYTES: usize = 256 << 10;

/// What all connections of a run share.
pub struct Load {
    /// Sent in turn.
    pub templates: Vec<Template>,
    pub window: u32,
    /// Messages in each request.
    pub batch: u32,
    pub measure_from: Duration,
    pub until: Duration,
    /// Messages that may still be sent; negative where nobody counts.
    pub left: Option<AtomicI64>,
    /// Messages acknowledged so far, for the progress bar.
    pub progress: AtomicU64,
}

/// What one connection saw.
pub struct Tally {
    /// Nanoseconds from sending (or from being due) to the answer.
    pub latency: Histogram<u64>,
    pub messages: u64,
    pub errors: BTreeMap<String, u64>,
    /// When the first and the last answer that counts came.
    pub last: Duration,
}

impl Tally {
    pub fn new() -> Self {
        let latency = Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("the bounds are in order");
        Tally { latency, messages: 0, errors: BTreeMap::new(), last: Duration::ZERO }
    }

    pub fn add(&mut self, other: &Tally) {
        self.latency += &other.latency;
        self.messages += other.messages;
        for (class, count) in &other.errors {
            *self.errors.entry(class.clone()).or_default() += count;
        }
        self.last = self.last.max(other.last);
    }

    pub fn error(&mut self, class: String, count: u64) {
        *self.errors.entry(class).or_default() += count;
    }
}

/// A request under way.
#[derive(Clone, Copy)]
struct Sent {
    opaque: i32,
    at: Duration,
    is_open: bool,
}

struct Driver<'a> {
    clock: &'a dyn Clock,
    load: &'a Load,
    stream: Box<dyn Stream>,
    slots: Vec<Sent>,
    free: Vec<u32>,
    generation: i32,
    next_template: usize,
    next_key: u64,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    tally: Tally,
}

/// Drives the load over `stream` until the time is over and every answer is here. `number` is the connection's.
pub async fn drive(
    clock: &dyn Clock,
    load: Arc<Load>,
    stream: Box<dyn Stream>,
    number: u32,
    pace: Option<Pace>,
) -> Tally {
    let mut driver = Driver {
        clock,
        load: &load,
        stream,
        slots: vec![Sent { opaque: 0, at: Duration::ZERO, is_open: false }; load.window as usize],
        free: (0..load.window).rev().collect(),
        generation: 0,
        next_template: number as usize,
        next_key: u64::from(number) << 32,
        out: Vec::with_capacity(WRITE_BYTES),
        written: 0,
        input: vec![0; READ_BYTES],
        filled: 0,
        tally: Tally::new(),
    };
    if let Err(error) = driver.run(pace).await {
        let open = driver.in_flight() as u64 * u64::from(load.batch);
        driver.tally.error(format!("connection lost: {error}"), open.max(1));
    }
    driver.tally
}

impl Driver<'_> {
    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    async fn run(&mut self, mut pace: Option<Pace>) -> io::Result<()> {
        let now = self.clock.monotonic();
        let mut end = self.clock.sleep(self.load.until.saturating_sub(now));
        let mut is_over = false;
        loop {
            let now = self.clock.monotonic();
            if !is_over {
                is_over = !self.fill(now, pace.as_mut());
                if is_over {
                    end = self.clock.sleep(DRAIN);
                }
            }
            if is_over && self.in_flight() == 0 {
                return Ok(());
            }
            let waits_for_due = !is_over && !self.free.is_empty();
            let turn = Turn { driver: self, end: &mut end, pace: pace.as_mut().filter(|_| waits_for_due) }.await?;
            match turn {
                Progress::Moved => self.take_answers()?,
                Progress::Due => {}
                Progress::Ended if is_over => {
                    let open = self.in_flight() as u64 * u64::from(self.load.batch);
                    self.tally.error(format!("no answer within {} s of the end", DRAIN.as_secs()), open);
                    return Ok(());
                }
                Progress::Ended => {
                    is_over = true;
                    end = self.clock.sleep(DRAIN);
                }
            }
        }
    }

    /// Writes requests into `out` as long as the window has room. False once nothing more is to be sent.
    fn fill(&mut self, now: Duration, mut pace: Option<&mut Pace>) -> bool {
        if now >= self.load.until {
            return false;
        }
        while self.out.len() - self.written < WRITE_BYTES {
            let Some(slot) = self.free.last().copied() else { return true };
            let at = match &mut pace {
                None => now,
                Some(pace) => match pace.take_due(now) {
                    None => return true,
                    Some(due) => due,
                },
            };
            if let Some(left) = &self.load.left
                && left.fetch_sub(self.load.batch.into(), Ordering::Relaxed) <= 0
            {
                return false;
            }
            self.free.pop();
            if slot == 0 {
                self.generation = (self.generation + 1) % (1_000_000_000 / self.load.window as i32);
            }
            let opaque = OPAQUE_MIN + self.generation * self.load.window as i32 + slot as i32;
            self.slots[slot as usize] = Sent { opaque, at, is_open: true };
            let template = &self.load.templates[self.next_template % self.load.templates.len()];
            self.next_template += 1;
            template.write(opaque, at, &mut self.next_key, &mut self.out);
        }
        true
    }

    fn take_answers(&mut self) -> io::Result<()> {
        let now = self.clock.monotonic();
        let mut taken = 0;
        while let Some((content, len)) =
            frame::split(&self.input[taken..self.filled], FRAME_SIZE_MAX_BYTES).map_err(io::Error::other)?
        {
            taken += len;
            let (code, opaque, remark) = {
                let answer = command::decode(content).map_err(io::Error::other)?;
                if !answer.is_response() {
                    continue;
                }
                let remark = answer.remark.filter(|_| answer.code != code::response::SUCCESS);
                (answer.code, answer.opaque, remark.map(|remark| remark.into_owned()))
            };
            self.take_answer(now, code, opaque, remark);
        }
        self.input.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        if self.filled == self.input.len() {
            self.input.resize(self.input.len() * 2, 0);
        }
        Ok(())
    }

    fn take_answer(&mut self, now: Duration, code: i32, opaque: i32, remark: Option<String>) {
        let slot = (opaque.wrapping_sub(OPAQUE_MIN) % self.load.window as i32).max(0) as usize;
        let sent = self.slots[slot];
        if !sent.is_open || sent.opaque != opaque {
            self.tally.error("answer to nothing that was asked".to_owned(), 1);
            return;
        }
        self.slots[slot].is_open = false;
        self.free.push(slot as u32);
        let messages = u64::from(self.load.batch);
        if code != code::response::SUCCESS {
            let name = code::response::name(code).unwrap_or("unknown code");
            let remark = remark.as_deref().unwrap_or("").chars().take(60).collect::<String>();
            self.tally.error(format!("{code} {name} {remark}").trim_end().to_owned(), messages);
            return;
        }
        self.load.progress.fetch_add(messages, Ordering::Relaxed);
        if now >= self.load.measure_from && now <= self.load.until {
            self.tally.messages += messages;
            self.tally.last = now;
            self.tally.latency.saturating_record(now.saturating_sub(sent.at).as_nanos() as u64);
        }
    }

    /// Writes and reads what can be written and read now. Ready once either has moved.
    fn poll_both(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut has_moved = false;
        while self.written < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.out[self.written..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(len) => {
                    self.written += len;
                    has_moved = true;
                }
                Poll::Pending => break,
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let mut into = ReadBuf::new(&mut self.input[self.filled..]);
        if Pin::new(&mut self.stream).poll_read(context, &mut into)?.is_ready() {
            match into.filled().len() {
                0 => return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the broker"))),
                len => self.filled += len,
            }
            has_moved = true;
        }
        if has_moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

enum Progress {
    Moved,
    Due,
    Ended,
}

/// Waits for the stream, the next message that is due, or the end.
struct Turn<'t, 'd> {
    driver: &'t mut Driver<'d>,
    end: &'t mut crate::env::BoxFuture<'static, ()>,
    pace: Option<&'t mut Pace>,
}

impl Future for Turn<'_, '_> {
    type Output = io::Result<Progress>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(moved) = this.driver.poll_both(context) {
            return Poll::Ready(moved.map(|()| Progress::Moved));
        }
        if let Some(pace) = &mut this.pace
            && pace.poll_due(context).is_ready()
        {
            return Poll::Ready(Ok(Progress::Due));
        }
        this.end.as_mut().poll(context).map(|()| Ok(Progress::Ended))
    }
}
