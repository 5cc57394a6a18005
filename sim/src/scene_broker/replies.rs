//! Request-reply: a client that waits for answers, and one that sends them; each must come once, whole, to the one who
//! asked.

use super::{
    clients::{Whereto, acknowledged, producer_heartbeat, properties_of},
    *,
};

const REPLY_TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

fn client_id(index: usize) -> String {
    format!("10.0.0.3@{index}")
}

/// Takes what is pushed to it.
pub(super) async fn ask(env: &Env, run: &Arc<Run>, index: usize) {
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    loop {
        if let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await {
            let hello = wire.call(env, producer_heartbeat(&client_id(index), &format!("A{index}")), WAIT).await;
            if matches!(hello, Ok(Some(_))) {
                while let Ok(pushed) = wire.next_push(env, Duration::from_secs(10)).await {
                    note_wrong(run, &mut wire);
                    let Some(pushed) = pushed else { continue };
                    if pushed.code == request::PUSH_REPLY_MESSAGE_TO_CLIENT {
                        arrived(run, index, &pushed);
                        if dice.below(10) != 0 && wire.answer(env, &pushed).await.is_err() {
                            break;
                        }
                    }
                }
            }
            note_wrong(run, &mut wire);
        }
        env.clock.sleep(Duration::from_millis(dice.within(20, 500))).await;
    }
}

fn arrived(run: &Run, index: usize, pushed: &crate::wire_client::Pushed) {
    let properties = pushed.fields.get("properties").map(String::as_str).unwrap_or_default();
    let property = |name: &str| {
        let pairs = properties.split('\u{2}').filter_map(|pair| pair.split_once('\u{1}'));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back()
    };
    let id = property("UNIQ_KEY").and_then(|key| id_of(&key));
    let mut model = lock(&run.model);
    let sent = id.and_then(|id| model.attempts.get(&id).map(|attempt| (id, attempt.body_len)));
    let is_right = sent.is_some_and(|(id, len)| pushed.body == body_of(id, len))
        && property("REPLY_TO_CLIENT") == Some(client_id(index));
    if !is_right {
        model.violation(ANSWERED, format!("{} got a reply that is none of its own: {properties:?}", client_id(index)));
    }
    let times = id.map_or(0, |id| {
        let times = model.kinds.replies.entry(id).or_default();
        *times += 1;
        *times
    });
    if times > 1 {
        model.violation(ANSWERED, format!("{} got one reply {times} times", client_id(index)));
    }
    run.trace.sometimes("reply: arrived");
}

/// Sends replies.
pub(super) async fn reply(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let mut dice = Dice::new(run.plan.seed, &format!("replier {index}"));
    let mut left = client.get("count", 1);
    while left > 0 && !run.quiet.load(Ordering::SeqCst) {
        let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await else {
            env.clock.sleep(Duration::from_millis(dice.within(50, 1_000))).await;
            continue;
        };
        let boot = run.broker.boots();
        while left > 0 && !run.quiet.load(Ordering::SeqCst) {
            left -= 1;
            env.clock.sleep(Duration::from_micros(dice.log_within(10, client.get("gap_us", 1_000).max(10)))).await;
            let to = Whereto { group: "R", topic: REPLY_TOPIC, queue_id: 0 };
            let len = dice.within(0, 500) as usize;
            let text =
                |id| format!("{}REPLY_TO_CLIENT\u{1}{}\u{2}", properties_of(id, Kind::Plain, "R"), client_id(index));
            let id = lock(&run.model).attempt_kind(Kind::Plain, REPLY_TOPIC, 0, len, Some(boot), text);
            let mut call =
                clients::send_call(&mut dice, to, id, (Kind::Plain, Sent::default()), &text(id), body_of(id, len));
            call.code = match call.code {
                request::SEND_MESSAGE => request::SEND_REPLY_MESSAGE,
                _ => request::SEND_REPLY_MESSAGE_V2,
            };
            let answer = wire.call(env, call, WAIT).await;
            note_wrong(run, &mut wire);
            match answer {
                // "0": it was pushed and could not be stored.
                Ok(Some(answer)) if answer.fields.get("msgId").is_some_and(|id| id == "0") => {
                    run.trace.sometimes("reply: pushed and not stored");
                }
                Ok(Some(answer)) if answer.code == response::SUCCESS => acknowledged(run, boot, id, &answer, 0),
                Ok(Some(_)) => run.trace.sometimes("reply: the client that asked is not there"),
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }
}
