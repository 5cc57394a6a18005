//! Clients that lock queues, as orderly consumers do: no two may hold one at a time, and who is gone holds none for long.

use keelmq::protocol::body::{LockBatch, LockedBatch, MessageQueue};

use super::*;

/// How long a lock lasts without renewal.
pub(super) const LIFE: Duration = Duration::from_secs(2);
const QUEUES_LOCKED: i32 = 4;

/// Who holds a queue for certain.
#[derive(Clone, Debug)]
struct Holder {
    client: String,
    boot: u64,
    /// From when it was told.
    since: Duration,
    /// It holds the queue at least so long.
    until: Duration,
}

#[derive(Default)]
pub(super) struct Holders {
    by_queue: BTreeMap<i32, Holder>,
    /// Clients and boots in which a request of an earlier connection may still give a queue back.
    unsure: BTreeSet<(String, u64)>,
}

fn queue(id: i32) -> MessageQueue {
    MessageQueue { broker_name: "tiny".into(), queue_id: id, topic: "T0".into() }
}

fn call(code: i32, client: &str, queues: &[i32]) -> Call {
    let batch = LockBatch {
        client_id: Some(client.to_owned()),
        consumer_group: Some("L".to_owned()),
        mq_set: queues.iter().map(|id| queue(*id)).collect(),
        only_this_broker: None,
    };
    Call::new(code).with_body(batch.encode())
}

/// Asks for queues; those that were granted.
async fn lock_queues(env: &Env, run: &Run, wire: &mut WireClient, client: &str, queues: &[i32]) -> Option<Vec<i32>> {
    let answer = wire.call(env, call(request::LOCK_BATCH_MQ, client, queues), WAIT).await.ok()??;
    note_wrong(run, wire);
    let granted = LockedBatch::decode(&answer.body).ok()?;
    Some(granted.lock_ok_mq_set.iter().map(|queue| queue.queue_id).collect())
}

pub(super) async fn hold(env: &Env, run: &Arc<Run>, index: usize) {
    let client = format!("10.0.0.3@{index}");
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    while !run.quiet.load(Ordering::SeqCst) {
        if let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await {
            let boot = run.broker.boots();
            while !run.quiet.load(Ordering::SeqCst)
                && turn(env, run, &mut wire, &client, boot, &mut dice).await.is_some()
            {
                let pause = dice.log_within(20, 3_000);
                env.clock.sleep(Duration::from_millis(pause)).await;
            }
        }
        // Its locks stay behind for as long as they live.
        env.clock.sleep(Duration::from_millis(dice.within(50, 1_000))).await;
    }
}

async fn turn(env: &Env, run: &Run, wire: &mut WireClient, client: &str, boot: u64, dice: &mut Dice) -> Option<()> {
    let queues: Vec<i32> = (0..QUEUES_LOCKED).filter(|_| dice.coin()).collect();
    let asked = env.clock.monotonic();
    if dice.below(4) == 0 {
        // Also those of others: they must not mind. From this moment on nothing is certain about one's own.
        lock(&run.locks).by_queue.retain(|id, holder| holder.client != client || !queues.contains(id));
        let answer = wire.call(env, call(request::UNLOCK_BATCH_MQ, client, &queues), WAIT).await;
        let Ok(Some(_)) = answer else {
            // A broker that was paused may do it long after this client has connected anew and locked again.
            lock(&run.locks).unsure.insert((client.to_owned(), boot));
            return None;
        };
        run.trace.sometimes("lock: given back");
        return Some(());
    }
    let granted = lock_queues(env, run, wire, client, &queues).await?;
    let now = env.clock.monotonic();
    if run.broker.boots() != boot || !run.broker.is_alive() {
        return None;
    }
    let mut holders = lock(&run.locks);
    for id in &granted {
        if !queues.contains(id) {
            lock(&run.model).violation(LOCKED, format!("{client} was given queue {id}, which it did not ask for"));
        }
        let other = holders.by_queue.get(id).filter(|other| other.client != client && other.boot == boot);
        if let Some(other) = other
            && other.since < asked
            && now < other.until
        {
            let text = format!("queue {id} was given to {client} while {other:?} holds it, asked at {asked:?}");
            lock(&run.model).violation(LOCKED, text);
        }
        let holder = Holder { client: client.to_owned(), boot, since: now, until: asked + LIFE };
        if holders.unsure.contains(&(client.to_owned(), boot)) {
            holders.by_queue.remove(id);
        } else {
            holders.by_queue.insert(*id, holder);
        }
        run.trace.sometimes("lock: granted");
    }
    if granted.len() < queues.len() {
        run.trace.sometimes("lock: refused");
    }
    Some(())
}

/// After everyone has been silent for long enough, a newcomer gets every queue; what it gives back, the next one gets at
/// once.
pub(super) async fn newcomer(run: Arc<Run>, env: Env) {
    let all: Vec<i32> = (0..QUEUES_LOCKED).collect();
    // Whoever is gone still had something.
    while let Ok(mut wire) = WireClient::connect(&env, run.address(), Serialization::Json).await {
        if lock_queues(&env, &run, &mut wire, "the one who is gone", &all).await.is_some() {
            break;
        }
    }
    env.clock.sleep(LIFE + Duration::from_secs(1)).await;
    loop {
        if let Ok(mut wire) = WireClient::connect(&env, run.address(), Serialization::Json).await
            && newcomer_connected(&env, &run, &mut wire).await.is_some()
        {
            return;
        }
        env.clock.sleep(Duration::from_millis(200)).await;
    }
}

async fn newcomer_connected(env: &Env, run: &Run, wire: &mut WireClient) -> Option<()> {
    let all: Vec<i32> = (0..QUEUES_LOCKED).collect();
    for client in ["newcomer", "the next one"] {
        let granted = lock_queues(env, run, wire, client, &all).await?;
        if granted != all {
            let text = format!("{client} was given {granted:?}, and nobody holds any queue");
            lock(&run.model).violation(LOCKED, text);
        }
        wire.call(env, call(request::UNLOCK_BATCH_MQ, client, &all), WAIT).await.ok()??;
    }
    Some(())
}
