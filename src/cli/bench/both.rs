//! `keelmq bench both`: sends and pulls at the same time, each as fast as the other lets it.

use std::time::Duration;

use super::{Both, Consume, From, consume, produce, report::Outcome};
use crate::{cli::exit, env::Env};

/// The topic may first have to be made by the first send.
const TOPIC_WAIT: Duration = Duration::from_millis(100);
const TOPIC_TRIES: u32 = 50;

pub async fn run(env: Env, args: &Both) -> i32 {
    let (sent, pulled) = tokio::join!(produce::measure(&env, &args.produce), pull(&env, args));
    match (sent, pulled) {
        (Ok(sent), Ok(pulled)) => {
            print(&sent, &pulled, args.produce.target.json);
            if sent.tally.messages == 0 || pulled.tally.messages == 0 { exit::FAILED } else { exit::OK }
        }
        (sent, pulled) => {
            for reason in [sent.err(), pulled.err()].into_iter().flatten() {
                eprintln!("keelmq bench: {reason}");
            }
            exit::FAILED
        }
    }
}

fn print(sent: &Outcome, pulled: &Outcome, is_json: bool) {
    if is_json {
        println!("{{\"kind\":\"both\",\"produce\":{},\"consume\":{}}}", sent.json(), pulled.json());
    } else {
        print!("{}{}", sent.table(), pulled.table());
    }
}

async fn pull(env: &Env, args: &Both) -> Result<Outcome, String> {
    let produce = &args.produce;
    let mut target = produce.target.clone();
    // One bar is enough, and it is the sender's.
    target.json = true;
    let consume = Consume {
        target,
        span: produce.span.clone(),
        connections: args.pull_connections,
        topic: produce.topics.map_or_else(|| produce.topic.clone(), |_| format!("{}-0", produce.topic)),
        queues: produce.queues,
        max: args.max,
        window: 1,
        hold_ms: 1_000,
        from: From::First,
        count: None,
        header: produce.header,
    };
    let mut outcome = consume::measure(env, &consume).await;
    for _ in 0..TOPIC_TRIES {
        if outcome.is_ok() {
            break;
        }
        env.clock.sleep(TOPIC_WAIT).await;
        outcome = consume::measure(env, &consume).await;
    }
    outcome
}
