//! A producer of transactions: halves, commits, rollbacks, silence, answers when it is asked, and words that come twice or
//! contradict each other.

use keelmq::protocol::header::EndTransaction;

use super::{
    clients::{is_immune, producer_heartbeat},
    *,
};
use crate::{kinds::Decision, model::TIMED, wire_client::Pushed};

/// What becomes of a message, by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Commits,
    RollsBack,
    /// Says nothing until it is asked, and then this.
    WhenAsked(Decision),
    /// Does not know, however often it is asked.
    NeverKnows,
}

fn fate(id: u64) -> Fate {
    match id % 9 {
        0..=3 => Fate::Commits,
        4 => Fate::RollsBack,
        5 | 6 => Fate::WhenAsked(Decision::Commit),
        7 => Fate::WhenAsked(Decision::RollBack),
        _ => Fate::NeverKnows,
    }
}

/// Where a half stands, as the broker told.
#[derive(Clone, Copy)]
struct Half {
    id: u64,
    log_offset: i64,
    queue_offset: i64,
}

fn end_call(group: &str, half: Half, word: i32, is_asked: bool) -> Call {
    let mut call = Call::new(request::END_TRANSACTION);
    EndTransaction {
        topic: None,
        producer_group: group,
        tran_state_table_offset: half.queue_offset,
        commit_log_offset: half.log_offset,
        commit_or_rollback: word,
        from_transaction_check: is_asked,
        message_id: None,
        transaction_id: None,
    }
    .write(&mut call.fields);
    call
}

/// Says a word about a half and notes what was answered. `None`: the connection is lost.
async fn say(
    env: &Env,
    run: &Run,
    wire: &mut WireClient,
    group: &str,
    half: Half,
    word: Decision,
    asked: bool,
) -> Option<()> {
    {
        let mut model = lock(&run.model);
        let known = &mut model.attempts.get_mut(&half.id)?.word;
        match word {
            Decision::Commit => known.commit_asked = true,
            Decision::RollBack => known.rollback_asked = true,
        }
    }
    let number = if word == Decision::Commit { 8 } else { 12 };
    let answer = wire.call(env, end_call(group, half, number, asked), WAIT).await;
    note_wrong(run, wire);
    let answer = answer.ok()?;
    if let Some(answer) = answer {
        run.note("end of transaction", &answer.remark, half.id, answer.code as u64);
        if answer.code == response::SUCCESS {
            let end = lock(&run.running).as_ref().map_or(u64::MAX, |broker| broker.core().store.appended().0);
            let mut model = lock(&run.model);
            let known = &mut model.attempts.get_mut(&half.id)?.word;
            let opposite = if word == Decision::Commit { known.rollback_asked } else { known.commit_asked };
            if known.decided.is_none() && !opposite {
                known.decided = Some(word);
                known.decided_end = end;
            }
            run.trace.sometimes(match word {
                Decision::Commit => "transaction: committed",
                Decision::RollBack => "transaction: rolled back",
            });
        }
    }
    Some(())
}

/// What the broker asks: one of ours, as it was sent.
fn asked(run: &Run, group: &str, pushed: &Pushed) -> Option<Half> {
    let (log_offset, queue_offset) = (pushed.number("commitLogOffset")?, pushed.number("tranStateTableOffset")?);
    let id = pushed.fields.get("msgId").and_then(|key| id_of(key));
    let mut model = lock(&run.model);
    let record = log_image::parse(&pushed.body);
    match (id, record) {
        (Some(id), Ok(record)) if record.property("UNIQ_KEY").and_then(id_of) == Some(id) => {
            let attempt = model.attempts.get_mut(&id)?;
            attempt.word.questions += 1;
            let (word, born_ms) = (attempt.word, attempt.sent.born_ms);
            let is_ours = attempt.topic == record.topic && record.body == body_of(id, attempt.body_len);
            if !is_ours || attempt.kind != Kind::Half {
                let text = format!("the broker asks about message {id} as {} #{}", record.topic, record.queue_offset);
                model.violation(TIMED, text);
            }
            if record.property("PGROUP") != Some(group) {
                model.violation(TIMED, format!("producer group {group} is asked about message {id} of another"));
            }
            // What its clock says now, unless that was set back in between.
            let age_ms = run.broker.clock.wall_ms() - born_ms;
            let least_ms = if is_immune(id) { IMMUNITY_S * 1_000 } else { CHECK_AFTER_MS } as i64;
            if age_ms < least_ms && !model.kinds.clock_went_back {
                model.violation(TIMED, format!("the broker asks about message {id}, which is {age_ms} ms old"));
            }
            let lasts = model.promise == Promise::Disk && word.decided.is_some();
            if lasts && log_offset as u64 >= word.decided_end {
                let text = format!("the broker asks about message {id} after {word:?}, at log offset {log_offset}");
                model.violation(TIMED, text);
            }
            Some(Half { id, log_offset, queue_offset })
        }
        (_, record) => {
            model.violation(TIMED, format!("the broker asks about what nobody sent: {record:?}"));
            None
        }
    }
}

pub(super) async fn transact(env: &Env, run: &Arc<Run>, index: usize) {
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut left = run.plan.clients[index].get("count", 1);
    loop {
        if let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await {
            let boot = run.broker.boots();
            connected(env, run, index, boot, &mut wire, &mut left, &mut dice).await;
            note_wrong(run, &mut wire);
        }
        env.clock.sleep(Duration::from_millis(dice.within(20, 500))).await;
    }
}

async fn connected(
    env: &Env,
    run: &Arc<Run>,
    index: usize,
    boot: u64,
    wire: &mut WireClient,
    left: &mut u64,
    dice: &mut Dice,
) -> Option<()> {
    let client = &run.plan.clients[index];
    let group = format!("PT{index}");
    wire.call(env, producer_heartbeat(&format!("10.0.0.3@{index}"), &group), WAIT).await.ok()??;
    loop {
        if *left > 0 && !run.quiet.load(Ordering::SeqCst) {
            *left -= 1;
            let topic = format!("T{}", dice.below(client.get("topics", 1)));
            let to = Whereto { group: &group, topic: &topic, queue_id: dice.below(QUEUES) as u32 };
            let len = dice.within(0, client.get("size_max", 100)) as usize;
            let accepted = send_kinds(env, run, wire, boot, dice, to, &[(Kind::Half, len)]).await?;
            for (id, answer) in accepted {
                let place = lock(&run.model).attempts.get(&id)?.place?;
                let queue_offset = answer.number("queueOffset")?;
                let half = Half { id, log_offset: place.offset as i64, queue_offset };
                first_word(env, run, wire, &group, half, dice).await?;
            }
        }
        let wait = dice.log_within(10, client.get("gap_us", 1_000).max(10));
        let wait = if *left == 0 || run.quiet.load(Ordering::SeqCst) { 500_000 } else { wait };
        while let Some(pushed) = wire.next_push(env, Duration::from_micros(wait)).await.ok()? {
            note_wrong(run, wire);
            if pushed.code != request::CHECK_TRANSACTION_STATE {
                continue;
            }
            let Some(half) = asked(run, &group, &pushed) else { continue };
            run.note("asked", "", half.id, half.log_offset as u64);
            run.trace.sometimes("transaction: the producer was asked");
            // In half of the cases the question gets lost, or the answer.
            if dice.below(4) == 0 && !run.quiet.load(Ordering::SeqCst) {
                continue;
            }
            match fate(half.id) {
                Fate::NeverKnows => wire.oneway(env, &end_call(&group, half, 0, true)).await.ok()?,
                Fate::Commits | Fate::WhenAsked(Decision::Commit) => {
                    say(env, run, wire, &group, half, Decision::Commit, true).await?
                }
                Fate::RollsBack | Fate::WhenAsked(Decision::RollBack) => {
                    say(env, run, wire, &group, half, Decision::RollBack, true).await?
                }
            }
        }
    }
}

/// What the producer says when its half was taken: and sometimes it says it twice, or changes its mind.
async fn first_word(
    env: &Env,
    run: &Run,
    wire: &mut WireClient,
    group: &str,
    half: Half,
    dice: &mut Dice,
) -> Option<()> {
    let word = match fate(half.id) {
        Fate::Commits => Decision::Commit,
        Fate::RollsBack => Decision::RollBack,
        Fate::WhenAsked(_) => return Some(()),
        Fate::NeverKnows => return wire.oneway(env, &end_call(group, half, 0, false)).await.ok(),
    };
    say(env, run, wire, group, half, word, false).await?;
    match dice.below(6) {
        0 => say(env, run, wire, group, half, word, false).await?,
        1 => {
            let other = if word == Decision::Commit { Decision::RollBack } else { Decision::Commit };
            run.trace.sometimes("transaction: the producer changed its mind");
            say(env, run, wire, group, half, other, false).await?;
            say(env, run, wire, group, half, word, false).await?;
        }
        _ => {}
    }
    Some(())
}
