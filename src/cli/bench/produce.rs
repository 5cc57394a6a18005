//! `keelmq bench produce`: sends over many connections and measures until the acknowledgement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc::Receiver;

use super::{
    From, Produce,
    connection::{Load, Tally, drive},
    consume::{Pulls, positions, start_pulls},
    find::{Found, find},
    pace::paces,
    report::{Cost, Outcome, Progress},
    template::{Message, Template},
};
use crate::{
    cli::{ask::ask, exit},
    env::Env,
    protocol::{
        code::{request, response},
        command::Call,
    },
};

/// Time between two looks at the progress.
const TICK: Duration = Duration::from_millis(200);

pub async fn run(env: Env, args: &Produce) -> i32 {
    match measure(&env, args).await {
        Ok(result) => {
            result.print(args.target.json);
            if result.tally.messages == 0 { exit::FAILED } else { exit::OK }
        }
        Err(reason) => {
            eprintln!("keelmq bench: {reason}");
            exit::FAILED
        }
    }
}

pub async fn measure(env: &Env, args: &Produce) -> Result<Outcome, String> {
    let topics: Vec<String> = match args.topics {
        None => vec![args.topic.clone()],
        Some(count) => (0..count).map(|number| format!("{}-{number}", args.topic)).collect(),
    };
    let is_stamped = args.end_to_end;
    if is_stamped && (args.batch > 1 || args.topics.is_some() || args.size < 8) {
        return Err("--end-to-end is for one topic, no batches and bodies of 8 bytes or more".to_owned());
    }
    let found = match &args.target.broker {
        Some(address) => Found { address: address.clone(), queues: 0 },
        None => find(env, &args.target.namesrv, &topics[0]).await?,
    };
    let queues = args.queues.unwrap_or(if found.queues > 0 { found.queues } else { 4 });
    let body: Vec<u8> = (0..args.size).map(|at| b'a' + (at % 26) as u8).collect();
    let (born_ms, run) = (env.clock.wall_ms(), env.entropy.next_u64() as u32);
    let mut templates = Vec::new();
    for queue_id in 0..queues as i32 {
        for topic in &topics {
            let message = Message {
                topic,
                tag: args.tag.as_deref(),
                body: &body,
                batch: args.batch,
                queue_id,
                queues,
                born_ms,
                run,
                is_stamped,
            };
            templates.push(Template::send(&message, args.header.serialization()));
        }
        // Many topics need no template for each of their queues as well: memory would be all they cost.
        if topics.len() > 1_000 {
            break;
        }
    }

    let mut streams = Vec::new();
    for _ in 0..args.connections {
        streams.push(env.network.connect(&found.address).await.map_err(|error| error.to_string())?);
    }
    let (warm_up, seconds) = (seconds(args.span.warm_up)?, seconds(args.span.seconds)?);
    let start = env.clock.monotonic();
    let load = Arc::new(Load {
        templates,
        window: args.window,
        batch: args.batch,
        measure_from: start + warm_up,
        until: start + warm_up + seconds,
        left: args.count.map(|count| AtomicI64::new(count.min(i64::MAX as u64) as i64)),
        progress: AtomicU64::new(0),
    });
    let mut paces = match args.rate {
        None => Vec::new(),
        Some(rate) if rate.is_finite() && rate > 0.0 => {
            paces(env, args.connections, rate / f64::from(args.batch), start, load.until)
        }
        Some(rate) => return Err(format!("--rate {rate}: allowed is a number above 0")),
    }
    .into_iter();

    let cost = Cost::begin(env);
    let pulls = match is_stamped {
        false => None,
        true => {
            // Pulling a topic that is not there yet would be refused; the first send creates it.
            let hello = Call::new(request::SEND_MESSAGE)
                .with("producerGroup", "keelmq_bench")
                .with("topic", topics[0].clone())
                .with("defaultTopic", "TBW102")
                .with("defaultTopicQueueNums", queues as i32)
                .with("queueId", 0i32)
                .with("sysFlag", 0i32)
                .with("bornTimestamp", born_ms)
                .with("flag", 0i32)
                .with("properties", "")
                .with_body(body.clone());
            let answer = ask(env, &found.address, &hello).await?;
            if answer.code != response::SUCCESS {
                let remark = answer.remark.unwrap_or_default();
                return Err(format!("{} does not take a first message: {} {remark}", found.address, answer.code));
            }
            let pulls = Arc::new(Pulls {
                topic: topics[0].clone(),
                serialization: args.header.serialization(),
                count_max: 32,
                hold_ms: 1_000,
                measure_from: load.measure_from,
                until: load.until,
                is_stamped,
                progress: AtomicU64::new(0),
                count: u64::MAX,
            });
            let positions = positions(env, &found.address, &topics[0], queues, From::Last).await?;
            Some(start_pulls(env, &found.address, &pulls, positions, queues).await?)
        }
    };
    let (say, tallies) = tokio::sync::mpsc::channel::<Tally>(args.connections as usize);
    for (number, stream) in streams.into_iter().enumerate() {
        let (load, clock, say, pace) = (load.clone(), env.clock.clone(), say.clone(), paces.next());
        drop(env.spawner.task("bench connection", async move {
            let tally = drive(&*clock, load, stream, number as u32, pace).await;
            // The receiver waits for as many as there are connections.
            let _ = say.send(tally).await;
        }));
    }
    drop(say);

    let mut progress = Progress::new(args.target.json, warm_up + seconds);
    let show = || progress.show(env.clock.monotonic() - start, load.progress.load(Ordering::Relaxed));
    let total = collect(env, tallies, show).await;
    let end_to_end = match pulls {
        None => None,
        Some(tallies) => Some(collect(env, tallies, || ()).await),
    };
    progress.end();
    let spent = cost.end(env, &found.address, &topics[0]).await;
    let measured = total.last.saturating_sub(load.measure_from).min(seconds);
    let measured = if args.count.is_some() { measured } else { seconds };
    Ok(Outcome {
        kind: "produce",
        broker: found.address,
        connections: args.connections,
        window: args.window,
        size: args.size,
        batch: args.batch,
        rate_asked: args.rate,
        header: args.header,
        measured,
        acknowledged: load.progress.load(Ordering::Relaxed),
        spent,
        tally: total,
        end_to_end,
    })
}

/// What all connections saw, once each has ended. Calls `tick` from time to time.
pub async fn collect(env: &Env, mut tallies: Receiver<Tally>, mut tick: impl FnMut()) -> Tally {
    let mut total = Tally::new();
    let mut timer = env.clock.sleep(TICK);
    loop {
        tokio::select! {
            biased;
            () = &mut timer => {
                tick();
                timer = env.clock.sleep(TICK);
            }
            tally = tallies.recv() => match tally {
                Some(tally) => total.add(&tally),
                None => return total,
            }
        }
    }
}

pub fn seconds(number: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number).map_err(|error| format!("{number} seconds: {error}"))
}
