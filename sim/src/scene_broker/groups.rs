//! A group that is closed and opened again by a tool: what was acknowledged holds from then on, through every crash.

use keelmq::protocol::body::subscription::SubscriptionGroupConfig;

use super::{
    clients::{heartbeat, subscription},
    *,
};

/// Who may consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    ToAll,
    /// Not by broadcast, as this client does.
    NotByBroadcast,
    ToNobody,
}

/// How the group may stand, as far as its tool knows.
struct Known {
    may_be: Vec<Open>,
    /// The boot in which something was asked for that was never answered: it may come true at any time while that runs.
    unsure: u64,
}

pub(super) async fn close(env: &Env, run: &Arc<Run>, index: usize) {
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    let mut left = run.plan.clients[index].get("count", 1);
    let mut known = Known { may_be: vec![Open::ToAll], unsure: 0 };
    while left > 0 && !run.quiet.load(Ordering::SeqCst) {
        if let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await {
            let mut tool = Tool { env, run, group: format!("C{index}"), boot: run.broker.boots(), wire: &mut wire };
            while left > 0 && tool.turn(index, &mut known, &mut dice).await.is_some() {
                left -= 1;
                env.clock.sleep(Duration::from_millis(dice.log_within(10, 1_000))).await;
            }
        }
        env.clock.sleep(Duration::from_millis(dice.within(50, 500))).await;
    }
}

struct Tool<'a> {
    env: &'a Env,
    run: &'a Arc<Run>,
    group: String,
    boot: u64,
    wire: &'a mut WireClient,
}

impl Tool<'_> {
    async fn ask(&mut self, call: Call) -> Option<Answer> {
        let answer = self.wire.call(self.env, call, WAIT).await;
        note_wrong(self.run, self.wire);
        answer.ok()?
    }

    /// Looks how the group stands, changes it, looks again. `None`: the connection is lost or silent.
    async fn turn(&mut self, index: usize, known: &mut Known, dice: &mut Dice) -> Option<()> {
        let wants = vec![subscription("T0", "TAG", "*")];
        let me = format!("10.0.0.3@{index}");
        self.ask(heartbeat(&me, &self.group, MessageModel::Broadcasting, wants)).await?;
        self.look(known).await?;
        let wanted = *dice.pick(&[Open::ToAll, Open::NotByBroadcast, Open::ToNobody]);
        let mut config = SubscriptionGroupConfig::new(&self.group);
        (config.consume_enable, config.consume_broadcast_enable) = (wanted != Open::ToNobody, wanted == Open::ToAll);
        known.may_be.push(wanted);
        let call = Call::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(config.encode());
        let answer = self.ask(call).await;
        if answer.is_none() {
            known.unsure = self.boot;
        }
        if answer?.code == response::SUCCESS && known.unsure != self.boot {
            known.may_be = vec![wanted];
        }
        self.look(known).await
    }

    async fn look(&mut self, known: &Known) -> Option<()> {
        let mut call = Call::new(request::PULL_MESSAGE);
        PullMessage {
            consumer_group: &self.group,
            topic: "T0",
            queue_id: 0,
            queue_offset: 0,
            max_message_nums: 1,
            sys_flag: 0,
            commit_offset: None,
            suspend_timeout_millis: None,
            subscription: None,
            sub_version: Some(1),
            expression_type: None,
            max_message_bytes: None,
        }
        .write(&mut call.fields);
        let answer = self.ask(call).await?;
        let found = match answer.code {
            response::NO_PERMISSION if answer.remark.contains("by broadcast way") => Open::NotByBroadcast,
            response::NO_PERMISSION => Open::ToNobody,
            response::SUCCESS
            | response::PULL_NOT_FOUND
            | response::PULL_RETRY_IMMEDIATELY
            | response::PULL_OFFSET_MOVED => Open::ToAll,
            _ => return Some(()),
        };
        if !known.may_be.contains(&found) {
            let text = format!("{} is open {found:?}, it was to be one of {:?}", self.group, known.may_be);
            lock(&self.run.model).violation(CONSUMED, text);
        }
        self.run.trace.sometimes(match found {
            Open::ToAll => "group: open",
            Open::NotByBroadcast => "group: closed to broadcasting",
            Open::ToNobody => "group: closed",
        });
        Some(())
    }
}
