//! Members of one group that share its queues, through a filter, and send back what fails in their hands.

use keelmq::protocol::{
    body::{client::ConsumerIdList, subscription::SubscriptionGroupConfig},
    header::{ConsumerGroup, SendBack},
};

use super::{
    clients::{heartbeat, pulled, subscription},
    *,
};

/// Filters by number: 0 everything, then tags (two of one hash among them) and expressions.
pub(super) fn wants(filter: u64, id: u64) -> bool {
    let (tag, own) = (kinds::tag_of(id), kinds::own_of(id));
    match filter {
        1 => tag == "Aa",
        2 => tag == "Aa" || tag == "BB",
        3 => (2..=6).contains(&own),
        4 => tag == "BB" || own > 7,
        _ => true,
    }
}

fn expression(filter: u64) -> (&'static str, &'static str) {
    match filter {
        1 => ("TAG", "Aa"),
        2 => ("TAG", "Aa || BB"),
        3 => ("SQL92", "own BETWEEN 2 AND 6"),
        4 => ("SQL92", "TAGS = 'BB' OR own > 7"),
        _ => ("TAG", "*"),
    }
}

/// Messages that every attempt to consume fails on.
pub(super) fn fails_always(id: u64) -> bool {
    id % 7 == 3
}

fn fails(id: u64, times: i32) -> bool {
    fails_always(id) || (id % 7 == 4 && times == 0)
}

/// Messages that end as dead letters.
pub(super) fn dies(id: u64) -> bool {
    fails_always(id) || (fails(id, 0) && kinds::retry_level_asked(id) < 0)
}

/// Every second group has a name that makes its retry topic longer than a record of version 1 can say.
fn group_of(number: u64) -> String {
    let padding = if number.is_multiple_of(2) { "" } else { &"x".repeat(125) };
    format!("S{number}{padding}")
}

/// One member of a group: (its name, its filter, whether it sends back).
pub(super) async fn belong(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let group = group_of(client.get("group", 0));
    {
        let mut groups = lock(&run.groups);
        let known = groups.entry(group.clone()).or_insert_with(|| Group::new(client.get("topics", 1)));
        (known.filter, known.sends_back) = (client.get("filter", 0), client.get("back", 0) == 1);
    }
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    loop {
        if let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await {
            let boot = run.broker.boots();
            let mut member = Member { env, run, index, group: &group, boot, wire: &mut wire, dice: &mut dice };
            while member.balanced().await.is_some() {}
            note_wrong(run, &mut wire);
        }
        env.clock.sleep(Duration::from_millis(dice.within(20, 500))).await;
    }
}

struct Member<'a> {
    env: &'a Env,
    run: &'a Arc<Run>,
    index: usize,
    group: &'a str,
    boot: u64,
    wire: &'a mut WireClient,
    dice: &'a mut Dice,
}

impl Member<'_> {
    async fn ask(&mut self, call: Call) -> Option<Answer> {
        let answer = self.wire.call(self.env, call, WAIT).await;
        note_wrong(self.run, self.wire);
        answer.ok()?
    }

    /// From one distribution of the queues to the next. `None`: the connection is lost or silent.
    async fn balanced(&mut self) -> Option<()> {
        let client = &self.run.plan.clients[self.index];
        let topics = client.get("topics", 1);
        let (kind, text) = expression(client.get("filter", 0));
        let me = format!("10.0.0.3@{}", self.index);
        let retry = format!("{}{}", kinds::RETRY_PREFIX, self.group);
        let mut subscriptions: Vec<_> =
            (0..topics).map(|topic| subscription(&format!("T{topic}"), kind, text)).collect();
        subscriptions.push(subscription(&retry, "TAG", "*"));
        // Its tries are the group's where a message that comes back does not say how many there are.
        let mut config = SubscriptionGroupConfig::new(self.group);
        config.retry_max_times = lock(&self.run.model).kinds.retry_max;
        let made = Call::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(config.encode());
        if self.ask(made).await?.code != response::SUCCESS {
            return Some(());
        }
        self.ask(heartbeat(&me, self.group, MessageModel::Clustering, subscriptions)).await?;
        let mut call = Call::new(request::GET_CONSUMER_LIST_BY_GROUP);
        ConsumerGroup { consumer_group: self.group }.write(&mut call.fields);
        let answer = self.ask(call).await?;
        let mut members = ConsumerIdList::decode(&answer.body).map(|list| list.consumer_id_list).unwrap_or_default();
        members.sort();
        members.dedup();
        let Some(place) = members.iter().position(|member| *member == me) else {
            self.env.clock.sleep(Duration::from_millis(self.dice.within(20, 200))).await;
            return Some(());
        };
        if members.len() > 1 {
            self.run.trace.sometimes("consumer: shares its group's queues");
        }
        let queues = (0..topics).flat_map(|topic| (0..QUEUES).map(move |queue| (format!("T{topic}"), queue)));
        let queues = queues.chain([(retry, 0)]).enumerate();
        let mine: Vec<_> = queues.filter(|(at, _)| at % members.len() == place).map(|(_, queue)| queue).collect();
        let mut next = Vec::new();
        for (topic, queue) in &mine {
            let mut call = Call::new(request::QUERY_CONSUMER_OFFSET);
            QueryConsumerOffset {
                consumer_group: self.group,
                topic,
                queue_id: *queue as i32,
                set_zero_if_not_found: None,
            }
            .write(&mut call.fields);
            let answer = self.ask(call).await?;
            let known = answer.number("offset").filter(|_| answer.code == response::SUCCESS);
            next.push(known.unwrap_or(0).max(0));
        }
        for _ in 0..self.dice.within(4, 40) {
            let mut got = false;
            for (at, (topic, queue)) in mine.iter().enumerate() {
                let waits = !got && at + 1 == mine.len();
                let after = self.pull(topic, *queue, next[at], waits).await?;
                got |= after > next[at];
                next[at] = after;
            }
            // 40: the members changed.
            if self.wire.pushed.drain(..).any(|pushed| pushed.code == request::NOTIFY_CONSUMER_IDS_CHANGED) {
                self.run.trace.sometimes("consumer: told that its group changed");
                break;
            }
            if !got {
                self.env.clock.sleep(Duration::from_millis(self.dice.within(50, 400))).await;
            }
        }
        for (at, (topic, queue)) in mine.iter().enumerate() {
            let mut call = Call::new(request::UPDATE_CONSUMER_OFFSET);
            UpdateConsumerOffset {
                consumer_group: self.group,
                topic,
                queue_id: *queue as i32,
                commit_offset: next[at],
            }
            .write(&mut call.fields);
            self.ask(call).await?;
        }
        Some(())
    }

    /// Where to go on after what a pull brought was consumed or sent back.
    async fn pull(&mut self, topic: &str, queue: u64, offset: i64, waits: bool) -> Option<i64> {
        let client = &self.run.plan.clients[self.index];
        let (kind, text) =
            if topic.starts_with(kinds::RETRY_PREFIX) { ("TAG", "*") } else { expression(client.get("filter", 0)) };
        // The expression comes with the pull, or is the one of the heartbeat.
        let says = self.dice.coin();
        let mut call = Call::new(request::PULL_MESSAGE);
        PullMessage {
            consumer_group: self.group,
            topic,
            queue_id: queue as i32,
            queue_offset: offset,
            max_message_nums: 16,
            sys_flag: COMMIT | if says { SUBSCRIPTION } else { 0 } | if waits { SUSPEND } else { 0 },
            commit_offset: Some(offset),
            suspend_timeout_millis: Some(self.dice.within(50, 1_000) as i64),
            subscription: says.then_some(text),
            sub_version: Some(1),
            expression_type: says.then_some(kind),
            max_message_bytes: None,
        }
        .write(&mut call.fields);
        let answer = self.ask(call).await?;
        let Some((after, messages)) = pulled(self.run, self.group, topic, offset, &answer) else {
            return Some(offset);
        };
        if client.get("back", 0) == 1 {
            for (id, record) in messages {
                if fails(id, record.reconsume_times) && !self.send_back(id, &record).await? {
                    // It is tried again with all that came behind it.
                    return Some(record.queue_offset as i64);
                }
            }
        }
        Some(after)
    }

    async fn send_back(&mut self, id: u64, record: &Found) -> Option<bool> {
        let mut call = Call::new(request::CONSUMER_SEND_MSG_BACK);
        let origin = record.property("ORIGIN_MESSAGE_ID");
        SendBack {
            offset: record.offset as i64,
            group: self.group,
            delay_level: kinds::retry_level_asked(id),
            origin_message_id: origin,
            origin_topic: Some(&record.topic),
            unit_mode: false,
            max_reconsume_times: id.is_multiple_of(2).then(|| lock(&self.run.model).kinds.retry_max),
        }
        .write(&mut call.fields);
        let answer = self.ask(call).await?;
        let is_taken = answer.code == response::SUCCESS;
        if is_taken {
            self.run.trace.sometimes("consumer: sent back");
            let key = (self.group.to_owned(), id, record.reconsume_times);
            lock(&self.run.model).kinds.sent_back.entry(key).or_insert(self.boot);
        }
        Some(is_taken)
    }
}
