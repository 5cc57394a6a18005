//! `keelmq bench consume`: pulls a topic's queues as fast as they come, or waits for what arrives.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Consume, From,
    connection::Tally,
    find::{Found, find},
    produce::{collect, seconds},
    record,
    report::{Cost, Outcome, Progress},
    template::OPAQUE_MIN,
};
use crate::{
    cli::{
        ask::{FRAME_SIZE_MAX_BYTES, ask},
        exit,
    },
    env::{Clock, Env, Stream},
    protocol::{
        code::{request, response},
        command::{Call, Command, Serialization, decode, encode_call},
        frame,
    },
};

/// Bytes read in one go.
const READ_BYTES: usize = 256 << 10;

/// Subscription in the request, hold when there is nothing.
const PULL_FLAGS: i32 = 2 | 4;

/// What all pulling connections share.
pub struct Pulls {
    pub topic: String,
    pub serialization: Serialization,
    pub count_max: u32,
    /// How long the broker may hold a pull that finds nothing.
    pub hold_ms: i64,
    pub measure_from: Duration,
    pub until: Duration,
    /// Bodies begin with the moment at which they were due: the latency is the time since then. Otherwise it is that
    /// of the pull.
    pub is_stamped: bool,
    pub progress: AtomicU64,
    /// The end, if that is before the time is over.
    pub count: u64,
}

/// A queue and where reading it goes on.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    pub id: i32,
    pub offset: i64,
    asked: Duration,
}

pub async fn run(env: Env, args: &Consume) -> i32 {
    match measure(&env, args).await {
        Ok(outcome) => {
            outcome.print(args.target.json);
            // Who waits for what arrives may wait in vain; who reads from the beginning may not.
            let is_missing = outcome.tally.messages == 0 && args.from == From::First;
            if is_missing || !outcome.tally.errors.is_empty() { exit::FAILED } else { exit::OK }
        }
        Err(reason) => {
            eprintln!("keelmq bench: {reason}");
            exit::FAILED
        }
    }
}

pub async fn measure(env: &Env, args: &Consume) -> Result<Outcome, String> {
    let found = match &args.target.broker {
        Some(address) => Found { address: address.clone(), queues: 0 },
        None => find(env, &args.target.namesrv, &args.topic).await?,
    };
    let count = args.queues.unwrap_or(if found.queues > 0 { found.queues } else { 4 });
    let queues = positions(env, &found.address, &args.topic, count, args.from).await?;
    let queues = queues.repeat(args.window as usize);
    let connections = args.connections.min(queues.len() as u32);
    let (warm_up, seconds) = (seconds(args.span.warm_up)?, seconds(args.span.seconds)?);
    let start = env.clock.monotonic();
    let pulls = Arc::new(Pulls {
        topic: args.topic.clone(),
        serialization: args.header.serialization(),
        count_max: args.max,
        hold_ms: args.hold_ms.into(),
        measure_from: start + warm_up,
        until: start + warm_up + seconds,
        is_stamped: false,
        progress: AtomicU64::new(0),
        count: args.count.unwrap_or(u64::MAX),
    });
    let cost = Cost::begin(env);
    let tallies = start_pulls(env, &found.address, &pulls, queues, connections).await?;
    let mut progress = Progress::new(args.target.json, warm_up + seconds);
    let tally =
        collect(env, tallies, || progress.show(env.clock.monotonic() - start, pulls.progress.load(Ordering::Relaxed)))
            .await;
    progress.end();
    let spent = cost.end(env, &found.address, &args.topic).await;
    let is_whole = args.from == From::Last;
    Ok(Outcome {
        kind: "consume",
        broker: found.address,
        connections,
        window: args.window,
        size: 0,
        batch: args.max,
        rate_asked: None,
        header: args.header,
        // A queue read to its end leaves nothing to measure: the time counts until the last message.
        measured: if is_whole { seconds } else { tally.last.saturating_sub(pulls.measure_from).min(seconds) },
        acknowledged: pulls.progress.load(Ordering::Relaxed),
        spent,
        tally,
        end_to_end: None,
    })
}

/// Where reading begins on each queue.
pub async fn positions(env: &Env, broker: &str, topic: &str, count: u32, from: From) -> Result<Vec<Queue>, String> {
    let code = match from {
        From::First => request::GET_MIN_OFFSET,
        From::Last => request::GET_MAX_OFFSET,
    };
    let mut queues = Vec::new();
    for id in 0..count as i32 {
        let answer = ask(env, broker, &Call::new(code).with("topic", topic.to_owned()).with("queueId", id)).await?;
        let offset = answer.fields.get("offset").and_then(|text| text.parse().ok());
        let Some(offset) = offset.filter(|_| answer.code == response::SUCCESS) else {
            let remark = answer.remark.unwrap_or_default();
            return Err(format!("{broker} does not say where queue {id} of {topic} is: {} {remark}", answer.code));
        };
        queues.push(Queue { id, offset, asked: Duration::ZERO });
    }
    Ok(queues)
}

/// Spreads the queues over at most `connections` and starts pulling. What each connection saw comes at its end.
pub async fn start_pulls(
    env: &Env,
    broker: &str,
    pulls: &Arc<Pulls>,
    queues: Vec<Queue>,
    connections: u32,
) -> Result<tokio::sync::mpsc::Receiver<Tally>, String> {
    let connections = (connections as usize).min(queues.len());
    let (say, tallies) = tokio::sync::mpsc::channel(connections.max(1));
    for number in 0..connections {
        let mine: Vec<Queue> = queues.iter().copied().skip(number).step_by(connections).collect();
        let stream = env.network.connect(broker).await.map_err(|error| error.to_string())?;
        let (clock, pulls, say) = (env.clock.clone(), pulls.clone(), say.clone());
        drop(env.spawner.task("bench pulls", async move {
            // The receiver waits for as many as there are connections.
            let _ = say.send(pull(&*clock, pulls, stream, mine).await).await;
        }));
    }
    Ok(tallies)
}

async fn pull(clock: &dyn Clock, pulls: Arc<Pulls>, mut stream: Box<dyn Stream>, queues: Vec<Queue>) -> Tally {
    let mut puller = Puller { clock, pulls: &pulls, queues, out: Vec::new(), tally: Tally::new() };
    if let Err(error) = puller.run(&mut *stream).await {
        puller.tally.error(format!("connection lost: {error}"), 1);
    }
    puller.tally
}

struct Puller<'a> {
    clock: &'a dyn Clock,
    pulls: &'a Pulls,
    queues: Vec<Queue>,
    out: Vec<u8>,
    tally: Tally,
}

impl Puller<'_> {
    async fn run(&mut self, stream: &mut dyn Stream) -> io::Result<()> {
        let mut end = self.clock.sleep(self.pulls.until.saturating_sub(self.clock.monotonic()));
        let mut input = vec![0; READ_BYTES];
        let mut filled = 0;
        for index in 0..self.queues.len() {
            self.ask(index);
        }
        loop {
            if self.pulls.progress.load(Ordering::Relaxed) >= self.pulls.count {
                return Ok(());
            }
            stream.write_all(&self.out).await?;
            self.out.clear();
            let len = tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                len = stream.read(&mut input[filled..]) => len?,
            };
            if len == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the broker"));
            }
            filled += len;
            let mut taken = 0;
            while let Some((content, len)) =
                frame::split(&input[taken..filled], FRAME_SIZE_MAX_BYTES).map_err(io::Error::other)?
            {
                let command = decode(content).map_err(io::Error::other)?;
                if command.is_response() {
                    self.take(&command);
                }
                taken += len;
            }
            input.copy_within(taken..filled, 0);
            filled -= taken;
            if filled == input.len() {
                input.resize(input.len() * 2, 0);
            }
        }
    }

    /// Writes the next pull of a queue; its index is the opaque.
    fn ask(&mut self, index: usize) {
        let now = self.clock.monotonic();
        let queue = &mut self.queues[index];
        queue.asked = now;
        let call = Call::new(request::PULL_MESSAGE)
            .with("consumerGroup", "keelmq_bench_consumer")
            .with("topic", self.pulls.topic.clone())
            .with("queueId", queue.id)
            .with("queueOffset", queue.offset)
            .with("maxMsgNums", self.pulls.count_max as i32)
            .with("sysFlag", PULL_FLAGS)
            .with("commitOffset", 0i64)
            .with("suspendTimeoutMillis", self.pulls.hold_ms)
            .with("subscription", "*")
            .with("subVersion", 0i64)
            .with("expressionType", "TAG");
        encode_call(&call, OPAQUE_MIN + index as i32, false, self.pulls.serialization, &mut self.out);
    }

    fn take(&mut self, answer: &Command<'_>) {
        let now = self.clock.monotonic();
        let index = answer.opaque.wrapping_sub(OPAQUE_MIN) as usize;
        let Some(queue) = self.queues.get_mut(index) else {
            self.tally.error("answer to nothing that was asked".to_owned(), 1);
            return;
        };
        if let Some(next) = answer.fields.get("nextBeginOffset").and_then(|text| text.parse().ok()) {
            queue.offset = next;
        }
        let asked = queue.asked;
        match answer.code {
            response::SUCCESS => {
                let counts = now >= self.pulls.measure_from && now <= self.pulls.until;
                let latency = &mut self.tally.latency;
                let is_stamped = self.pulls.is_stamped && counts;
                let messages = record::bodies(answer.body, |body| {
                    if let (true, Some(stamp)) = (is_stamped, body.first_chunk::<8>()) {
                        let due = u64::from_be_bytes(*stamp);
                        latency.saturating_record((now.as_nanos() as u64).saturating_sub(due));
                    }
                });
                if counts && !self.pulls.is_stamped {
                    latency.saturating_record(now.saturating_sub(asked).as_nanos() as u64);
                }
                self.pulls.progress.fetch_add(messages, Ordering::Relaxed);
                if counts {
                    self.tally.messages += messages;
                    self.tally.last = now;
                }
            }
            response::PULL_NOT_FOUND | response::PULL_RETRY_IMMEDIATELY | response::PULL_OFFSET_MOVED => {}
            code => {
                let remark = answer.remark.as_deref().unwrap_or("").chars().take(60).collect::<String>();
                let name = response::name(code).unwrap_or("unknown code");
                self.tally.error(format!("{code} {name} {remark}").trim_end().to_owned(), 1);
                // A queue that answers errors is left alone: asking again at once would only measure the errors.
                return;
            }
        }
        self.ask(index);
    }
}
