//! `keelmq bench produce`: sends over many connections and measures until the acknowledgement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Produce,
    connection::{Load, Tally, drive},
    find::{Found, find},
    pace::paces,
    report::{Outcome, Progress},
    template::{Message, Template},
};
use crate::{cli::exit, env::Env};

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

async fn measure(env: &Env, args: &Produce) -> Result<Outcome, String> {
    let topics: Vec<String> = match args.topics {
        None => vec![args.topic.clone()],
        Some(count) => (0..count).map(|number| format!("{}-{number}", args.topic)).collect(),
    };
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

    let used_before = crate::os::processor_time();
    let (say, mut tallies) = tokio::sync::mpsc::channel::<Tally>(args.connections as usize);
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
    let mut total = Tally::new();
    let mut tick = env.clock.sleep(Duration::from_millis(200));
    loop {
        tokio::select! {
            biased;
            () = &mut tick => {
                progress.show(env.clock.monotonic() - start, load.progress.load(Ordering::Relaxed));
                tick = env.clock.sleep(Duration::from_millis(200));
            }
            tally = tallies.recv() => match tally {
                Some(tally) => total.add(&tally),
                None => break,
            }
        }
    }
    progress.end();
    let used = crate::os::processor_time().saturating_sub(used_before);
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
        processor: used,
        elapsed: env.clock.monotonic() - start,
        cpus: env.host.cpus,
        tally: total,
    })
}

fn seconds(number: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number).map_err(|error| format!("{number} seconds: {error}"))
}
