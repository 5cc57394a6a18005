//! When the faults are over: everything heals, everyone is served, and what is owed arrives.

use super::{clients::last_client, *};

impl Driver {
    /// Everything heals: the broker is found through the name server, takes a message, and every group gets all.
    pub(super) async fn liveness(&mut self, mut process: Process<End>) {
        let run = self.run.clone();
        run.quiet.store(true, Ordering::SeqCst);
        {
            let mut disk = lock(&run.broker.disk);
            disk.faults = Default::default();
            disk.quota = u64::MAX / 2;
        }
        self.world.wires.set_faults(Default::default());
        self.world.wires.heal();
        let mut names = None;
        if !run.names.is_alive() {
            names = Some(self.boot_names());
        }
        let refusing = lock(&run.running).as_ref().is_some_and(|broker| scene::must_restart(&broker.core().store));
        if refusing || !run.broker.is_alive() {
            self.crash(&[Crash::Process]);
            process = self.boot();
        }
        for round in 0..2 {
            let last = last_client(run.clone());
            let lone = self.world.add_machine("last client", Default::default());
            let mut lone = lone.boot(last);
            let served = scene::within(&self.world, Duration::from_millis(FOUND_MS), lone.ended()).await;
            if !matches!(served, Some(Some(()))) {
                let why = lock(&run.first_refusal).clone().unwrap_or_default();
                let reason = lock(&run.running).as_ref().and_then(|broker| broker.core().store.refusal());
                let text =
                    format!("round {round}: a last client was not served within {FOUND_MS} ms; {why} {reason:?}");
                lock(&run.model).violation(LIVE, text);
                return;
            }
            self.all_delivered().await;
            self.inspect().await;
            if round == 0 && run.plan.seed % 8 == 3 {
                self.route_ends().await;
            }
            if round == 0 && run.plan.clients.iter().any(|client| client.kind == "locker") {
                self.locks_end().await;
            }
            if self.is_over() || round == 1 {
                break;
            }
            if run.plan.seed.is_multiple_of(2) {
                lock(&run.stop).notify_one();
                let ended = scene::within(&self.world, Duration::from_secs(30), process.ended()).await;
                if !matches!(ended, Some(Some(End::Stopped))) {
                    lock(&run.model).violation(LIVE, format!("a stop in order ended with {ended:?}"));
                    return;
                }
                lock(&run.running).take();
            } else {
                self.crash(&[Crash::Power]);
            }
            process = self.boot();
        }
        if !self.is_over() {
            self.nothing_is_left().await;
        }
        drop((process, names));
    }

    /// Clients that are gone leave no task behind.
    async fn nothing_is_left(&mut self) {
        for machine in
            self.world.machines.iter().filter(|machine| machine.name != "broker" && !machine.name.starts_with("names"))
        {
            machine.crash(Crash::Process);
        }
        let mut idle = lock(&self.run.idle_tasks).clone();
        // Its own, to the two name servers.
        idle.insert("connection", 2);
        if let Some(text) = still_going(&self.run, &idle).await {
            lock(&self.run.model).violation(LIVE, format!("when the clients are gone {text}"));
        }
    }

    /// Queries, positions and long polls, with nobody in the way.
    async fn inspect(&mut self) {
        let run = self.run.clone();
        let machine = self.world.add_machine("inspector", Default::default());
        let mut inspector = machine.boot(move |env| inspector::inspect(run, env));
        let served = scene::within(&self.world, Duration::from_millis(LIVE_MS), inspector.ended()).await;
        if served.is_none() {
            lock(&self.run.model).violation(LIVE, format!("the inspector was not served within {LIVE_MS} ms"));
        }
    }

    /// A broker that falls silent is taken out of the routes.
    async fn route_ends(&mut self) {
        let run = self.run.clone();
        let other = run.beside[1].clone();
        let plan = run.plan.clone();
        let process = other.boot(move |env| async move {
            let mut config = broker_config(&plan);
            (config.broker_name, config.broker_ip1) = ("beside".into(), "10.0.0.5".into());
            match broker::start(env, config, None).await {
                Ok(_broker) => std::future::pending().await,
                Err(error) => panic!("the second broker does not start: {error}"),
            }
        });
        for (alive, limit_ms) in [(true, LIVE_MS), (false, BROKER_EXPIRED_MS + 3_000)] {
            if !alive {
                other.crash(Crash::Power);
                self.run.trace.sometimes("name server: a broker fell silent");
            }
            let seen_by = run.clone();
            let machine = self.world.add_machine("route reader", Default::default());
            let mut reader = machine.boot(move |env| inspector::route_has(seen_by, env, "10.0.0.5:10911", alive));
            if scene::within(&self.world, Duration::from_millis(limit_ms), reader.ended()).await.is_none() {
                let text =
                    format!("after {limit_ms} ms the route does not say that the second broker is there: {alive}");
                lock(&run.model).violation(LIVE, text);
                return;
            }
        }
        drop(process);
    }

    /// Locks of clients that are gone are free after their time.
    async fn locks_end(&mut self) {
        let run = self.run.clone();
        let machine = self.world.add_machine("newcomer", Default::default());
        let mut newcomer = machine.boot(move |env| locks::newcomer(run, env));
        let served = scene::within(&self.world, Duration::from_millis(LIVE_MS), newcomer.ended()).await;
        if served.is_none() {
            lock(&self.run.model).violation(LIVE, format!("nobody can lock a queue within {LIVE_MS} ms"));
        }
    }

    /// Every group has got every acknowledged message, sooner or later; transactions are decided; what always fails is a
    /// dead letter.
    async fn all_delivered(&self) {
        let run = &self.run;
        if lock(&run.model).promise != Promise::Disk {
            return;
        }
        // Transactions that the table has no room for wait until others are given up.
        let transactors = run.plan.clients.iter().filter(|client| client.kind == "transactor");
        let halves: u64 = transactors.map(|client| client.get("count", 0)).sum();
        let turns = 1 + halves / run.plan.get("transactions_pending_max", 256);
        let deadline = self.world.time.now() + Duration::from_millis(3 * turns * LIVE_MS);
        loop {
            let missing = run.missing().or_else(|| run.undecided());
            match missing {
                None => return,
                Some(text) if self.world.time.now() > deadline => {
                    lock(&run.model).violation(CONSUMED, text);
                    return;
                }
                Some(_) => self.sleep_us(100_000).await,
            }
            if self.is_over() {
                return;
            }
        }
    }
}

impl Run {
    /// A message that a group should have got.
    fn missing(&self) -> Option<String> {
        let (model, groups) = (lock(&self.model), lock(&self.groups));
        let mut missing = groups.iter().flat_map(|(name, group)| {
            let wanted = move |topic: &str| {
                topic.strip_prefix('T').and_then(|number| number.parse().ok()).is_some_and(|n: u64| n < group.topics)
            };
            let ids = model.attempts.iter().filter(move |(id, attempt)| {
                attempt.is_owed()
                    && !group.seen.contains(id)
                    && wanted(&attempt.topic)
                    && members::wants(group.filter, **id)
            });
            ids.map(move |(id, attempt)| format!("group {name} never got message {id} of {}", attempt.topic))
        });
        missing.next()
    }

    /// Something whose end is in the log, and is not there yet.
    fn undecided(&self) -> Option<String> {
        let log = scene::read_log(&lock(&self.broker.disk));
        let mut ended: BTreeSet<(&str, u64)> = BTreeSet::new();
        for record in &log.records {
            if let Some(id) = record.property("UNIQ_KEY").and_then(id_of) {
                ended.insert((&record.topic, id));
            }
        }
        let (model, groups) = (lock(&self.model), lock(&self.groups));
        for (id, attempt) in &model.attempts {
            if attempt.kind == Kind::Half && attempt.acknowledged && attempt.word.decided.is_none() {
                let is_ended = ended.contains(&(kinds::GIVEN_UP_TOPIC, *id)) || ended.contains(&(&attempt.topic, *id));
                // It counts by a clock that was set back an hour; or those in front of it do, and there is no room.
                let fills_up = self.plan.get("transactions_pending_max", 256) < 256;
                let is_young = (clients::is_immune(*id) || fills_up) && model.kinds.clock_went_back;
                if !is_ended && !attempt.word.rollback_asked && !is_young {
                    return Some(format!("the transaction of message {id} stays open"));
                }
            }
        }
        let senders = groups.iter().filter(|(_, group)| group.sends_back);
        senders.flat_map(|(name, group)| group.seen.iter().map(move |id| (name, *id))).find_map(|(name, id)| {
            let attempt = model.attempts.get(&id)?;
            let dead = format!("{}{name}", kinds::DEAD_PREFIX);
            let is_owed = attempt.is_owed() && members::dies(id) && !ended.contains(&(&*dead, id));
            is_owed.then(|| format!("message {id}, which {name} sent back each time, is no dead letter"))
        })
    }
}
