//! A topic that is deleted and made again: what is in it afterwards is what was sent since, from the first queue offset on.

use keelmq::protocol::header::Topic;

use super::*;

pub(super) async fn recreate(env: &Env, run: &Arc<Run>, index: usize) {
    let topic = format!("X{index}");
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut lives = run.plan.clients[index].get("count", 1);
    // Sent since the topic was last deleted; the second says which were acknowledged.
    let mut sent: BTreeMap<u64, bool> = BTreeMap::new();
    // The boot that deleted it. A crash derives its old queue from the log once more, as in RocketMQ: afterwards what was
    // sent before may be there, too.
    let mut deleted_by = Some(0);
    while lives > 0 && !run.quiet.load(Ordering::SeqCst) {
        if let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await {
            let mut life =
                Life { env, run, topic: &topic, boot: run.broker.boots(), wire: &mut wire, is_certain: false };
            while lives > 0 && !run.quiet.load(Ordering::SeqCst) {
                if life.live(&mut sent, &mut deleted_by, &mut dice).await.is_none() {
                    break;
                }
                lives -= 1;
                env.clock.sleep(Duration::from_millis(dice.log_within(10, 1_000))).await;
            }
        }
        env.clock.sleep(Duration::from_millis(dice.within(50, 500))).await;
    }
}

struct Life<'a> {
    env: &'a Env,
    run: &'a Arc<Run>,
    topic: &'a str,
    boot: u64,
    wire: &'a mut WireClient,
    /// Nothing of an earlier life can be there.
    is_certain: bool,
}

impl Life<'_> {
    /// Sends, reads everything, deletes. `None`: the connection is lost or the broker refuses; it goes on later.
    async fn live(
        &mut self,
        sent: &mut BTreeMap<u64, bool>,
        deleted_by: &mut Option<u64>,
        dice: &mut Dice,
    ) -> Option<()> {
        if let Some(boot) = *deleted_by {
            // What was never answered may still come, if the broker put it off.
            sent.retain(|_, acknowledged| !*acknowledged);
            // If it comes between the deletion and the removal of the queues, it keeps them, and all that is in them.
            self.is_certain = sent.is_empty()
                && (boot == self.boot || lock(&self.run.model).attempts.values().all(|a| a.topic != self.topic));
        }
        let what: Vec<_> = (0..dice.within(1, 5)).map(|_| (Kind::Plain, dice.within(0, 200) as usize)).collect();
        *deleted_by = None;
        let to = Whereto { group: "P", topic: self.topic, queue_id: 0 };
        let next = lock(&self.run.model).next_id();
        sent.extend((next..next + what.len() as u64).map(|id| (id, false)));
        let accepted = send_kinds(self.env, self.run, self.wire, self.boot, dice, to, &what).await?;
        for (id, _) in accepted {
            sent.insert(id, true);
        }
        self.read(sent).await?;
        if self.run.broker.boots() != self.boot {
            return None;
        }
        let mut call = Call::new(request::DELETE_TOPIC_IN_BROKER);
        Topic { topic: self.topic }.write(&mut call.fields);
        let answer = self.wire.call(self.env, call, WAIT).await.ok()??;
        note_wrong(self.run, self.wire);
        if answer.code != response::SUCCESS {
            return None;
        }
        *deleted_by = Some(self.boot);
        self.run.trace.sometimes("topic: deleted");
        Some(())
    }

    /// From the beginning of the queue to its end: all that was acknowledged, nothing of an earlier life.
    async fn read(&mut self, sent: &BTreeMap<u64, bool>) -> Option<()> {
        let mut seen = BTreeSet::new();
        let (mut offset, began) = (0, self.env.clock.monotonic());
        let wanted: Vec<u64> = sent.iter().filter(|(_, acknowledged)| **acknowledged).map(|(id, _)| *id).collect();
        while !wanted.iter().all(|id| seen.contains(id)) {
            let call = plain_pull("X", self.topic, 0, offset);
            let answer = self.wire.call(self.env, call, WAIT).await.ok()??;
            note_wrong(self.run, self.wire);
            if answer.code == response::SUCCESS {
                for record in log_image::records(&answer.body) {
                    let id = record.property("UNIQ_KEY").and_then(id_of).unwrap_or(0);
                    let is_next = record.queue_offset as i64 == offset && record.topic == self.topic;
                    if !is_next || (self.is_certain && !sent.contains_key(&id)) {
                        let text = format!(
                            "{} #{} (message {id}) came in place of {} #{offset} after the topic was made anew",
                            record.topic, record.queue_offset, self.topic
                        );
                        lock(&self.run.model).violation(CONSUMED, text);
                        return None;
                    }
                    seen.insert(id);
                    offset += 1;
                }
            } else if answer.code == response::PULL_OFFSET_MOVED && !self.is_certain {
                offset = answer.number("nextBeginOffset")?;
            } else {
                // Acknowledged and not yet in the queue: a moment later.
                if self.env.clock.monotonic() > began + Duration::from_secs(20) {
                    let missing: Vec<_> = wanted.iter().filter(|id| !seen.contains(id)).collect();
                    let text = format!("{} has {} and not {missing:?}: {}", self.topic, seen.len(), answer.remark);
                    let is_owed = lock(&self.run.model).promise == Promise::Disk;
                    if is_owed && self.run.broker.boots() == self.boot {
                        lock(&self.run.model).violation(CONSUMED, text);
                    }
                    return None;
                }
                self.env.clock.sleep(Duration::from_millis(20)).await;
            }
        }
        Some(())
    }
}
