//! A plan: everything that a run is a function of. Drawn from a seed, printed and read as text, made smaller by
//! leaving things out.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use keelmq::plant::Plant;

use crate::dice::Dice;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// The message store alone.
    Store,
    /// Name server, broker and clients.
    Broker,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Scene::Store => "store",
            Scene::Broker => "broker",
        })
    }
}

/// One client: its kind and its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub kind: String,
    pub numbers: BTreeMap<String, u64>,
}

/// Something that happens `after_us` the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub after_us: u64,
    pub kind: String,
    pub value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub scene: Scene,
    pub profile: String,
    /// A change of the product that breaks no promise, but leads to states that are rare without it.
    pub change: Option<Plant>,
    /// Chances, sizes and times by name; an absent one is its default.
    pub numbers: BTreeMap<String, u64>,
    pub clients: Vec<Client>,
    pub faults: Vec<Fault>,
}

impl Client {
    pub fn new(kind: &str, numbers: &[(&str, u64)]) -> Client {
        let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Client { kind: kind.to_owned(), numbers }
    }

    pub fn get(&self, name: &str, default: u64) -> u64 {
        self.numbers.get(name).copied().unwrap_or(default)
    }
}

impl Plan {
    pub fn get(&self, name: &str, default: u64) -> u64 {
        self.numbers.get(name).copied().unwrap_or(default)
    }

    pub fn chance(&self, name: &str) -> u32 {
        self.get(name, 0).min(1_000_000) as u32
    }

    fn set(&mut self, name: &str, value: u64) {
        self.numbers.insert(name.to_owned(), value);
    }

    /// The plan of a seed for a scene.
    pub fn draw(seed: u64, scene: Scene) -> Plan {
        let mut dice = Dice::new(seed, "plan");
        let profile = *dice.pick(&["calm", "long", "storm", "storm"]);
        let mut plan = Plan {
            seed,
            scene,
            profile: profile.to_owned(),
            change: None,
            numbers: BTreeMap::new(),
            clients: Vec::new(),
            faults: Vec::new(),
        };
        plan.draw_world(&mut dice.fork("world"));
        plan.draw_clients(&mut dice.fork("clients"));
        if scene == Scene::Broker {
            plan.draw_kinds(&mut dice.fork("kinds"));
        }
        plan.draw_faults(&mut dice.fork("faults"));
        if scene == Scene::Store {
            plan.draw_retention(&mut dice.fork("retention"));
        }
        plan.draw_forms(&mut dice.fork("forms"));
        plan
    }

    fn draw_world(&mut self, dice: &mut Dice) {
        // 0 SYNC_FLUSH, 1 ASYNC_FLUSH, 2 ASYNC_FLUSH with the transient pool.
        self.set("flush", *dice.pick(&[0, 0, 0, 0, 0, 1, 1, 2]));
        self.set("segment_bytes", *dice.pick(&[64 << 10, 64 << 10, 128 << 10, 1 << 20]));
        self.set("queue_file_units", dice.log_within(8, 256));
        self.draw_bounds(dice);
        // Messages are of this length; later starts may take none so large.
        self.set("body_max_bytes", 16 << 10);
        // Each class of faults is off in half of the runs, and of any weight in the others.
        let mut sometimes = |name: &str, low: u64, high: u64| {
            if dice.coin() {
                self.numbers.insert(name.to_owned(), dice.log_within(low, high));
            }
        };
        sometimes("disk.write_back", 1_000, 500_000);
        sometimes("disk.sync_in_batches", 10_000, 1_000_000);
        sometimes("disk.sync_max_us", 100, 200_000);
        sometimes("disk.sync_fails", 50, 5_000);
        sometimes("disk.open_fails", 100, 20_000);
        sometimes("disk.create_no_space", 1_000, 100_000);
        sometimes("disk.write_fails", 20, 1_000);
        sometimes("clock.tick_ms", 2, 1_000);
        sometimes("clock.drift_per_million", 10, 50_000);
        sometimes("clock.is_slow", 1, 1);
        sometimes("reconfigured", 1, 1);
        if self.scene == Scene::Broker {
            sometimes("net.latency_max_us", 100, 30_000);
            sometimes("net.reset", 10, 3_000);
            sometimes("net.connect_refused", 1_000, 200_000);
            sometimes("net.accept_fails", 1_000, 100_000);
            sometimes("net.tiny_pieces", 10_000, 300_000);
            sometimes("net.pieces", 10_000, 1_000_000);
            sometimes("net.buffer_bytes", 1_000, 64 << 10);
        }
    }

    /// What the next start may have otherwise.
    pub fn draw_bounds(&mut self, dice: &mut Dice) {
        self.set("segments_ahead", dice.within(1, 2));
        self.set("upkeep_ms", dice.log_within(20, 2_000));
        self.set("upkeep_behind_bytes", dice.log_within(8 << 10, 256 << 10));
        self.set("staged_max_bytes", dice.log_within(4 << 10, 64 << 10));
        self.set("queue_files_open_max", dice.within(2, 16));
        self.set("flush_interval_ms", dice.log_within(5, 500));
        self.set("flush_thorough_ms", dice.log_within(50, 10_000));
        self.set("body_max_bytes", *dice.pick(&[16 << 10, 16 << 10, 4 << 10]));
    }

    /// In some runs old segments go.
    fn draw_retention(&mut self, dice: &mut Dice) {
        if dice.below(3) == 0 {
            self.set("retention_age_ms", dice.log_within(1, 3_000));
            self.set("retention_batch", dice.within(1, 3));
            self.set("upkeep_thorough_ms", dice.log_within(20, 2_000));
        }
    }

    fn draw_clients(&mut self, dice: &mut Dice) {
        // The store alone bears more of them; here there are other clients, too.
        let (producers_max, topics_max) = if self.scene == Scene::Store { (6, 12) } else { (3, 4) };
        let producers = dice.within(1, producers_max);
        let topics = dice.log_within(1, topics_max);
        let segment = self.get("segment_bytes", 64 << 10);
        for _ in 0..producers {
            let size_max = dice.log_within(16, 12 << 10).min(segment / 4);
            self.clients.push(Client::new(
                "producer",
                &[
                    ("count", dice.log_within(20, 600)),
                    ("gap_us", dice.log_within(100, 200_000)),
                    ("size_max", size_max),
                    // Lengths: 0 any up to the maximum, 1 all equal, 2 aimed at the end of the segment.
                    ("size_kind", *dice.pick(&[0, 0, 1, 2])),
                    ("batch_max", *dice.pick(&[1, 1, 1, 4, 12])),
                    ("topics", topics),
                    ("queues", dice.log_within(1, 8)),
                    ("burst", dice.log_within(1, 20)),
                ],
            ));
        }
        for _ in 0..dice.within(1, 3) {
            self.clients
                .push(Client::new("consumer", &[("topics", topics), ("gap_us", dice.log_within(100, 500_000))]));
        }
    }

    /// Clients that do more than send and read; each kind is there in half of the runs.
    fn draw_kinds(&mut self, dice: &mut Dice) {
        let topics = self.clients.iter().map(|client| client.get("topics", 1)).max().unwrap_or(1);
        let size_max = self.clients[0].get("size_max", 100);
        self.set("retry_max", dice.within(1, 3));
        self.set("flush_offsets_ms", dice.log_within(50, 5_000));
        self.set("sync_flush_timeout_ms", dice.log_within(20, 5_000));
        if dice.below(3) == 0 {
            self.set("transactions_pending_max", dice.within(4, 30));
        }
        self.set("flush_delay_offset_ms", dice.log_within(50, 5_000));
        for client in &mut self.clients {
            if client.kind == "producer" && dice.coin() {
                client.numbers.insert("delayed".to_owned(), dice.log_within(2, 60));
            } else if client.kind == "consumer" && dice.below(4) == 0 {
                client.numbers.insert("broadcast".to_owned(), 1);
            }
        }
        let gap_us = |dice: &mut Dice| dice.log_within(1_000, 300_000);
        if dice.coin() {
            for _ in 0..dice.within(1, 2) {
                let count = dice.log_within(5, 80);
                let numbers = [("count", count), ("gap_us", gap_us(dice)), ("topics", topics), ("size_max", size_max)];
                self.clients.push(Client::new("transactor", &numbers));
            }
        }
        if dice.coin() {
            for group in 0..dice.within(1, 2) {
                let (filter, back) = (dice.below(5), dice.below(2));
                for _ in 0..dice.within(1, 3) {
                    let numbers = [("group", group), ("filter", filter), ("back", back), ("topics", topics)];
                    self.clients.push(Client::new("member", &numbers));
                }
            }
        }
        if dice.coin() {
            for _ in 0..dice.within(2, 3) {
                self.clients.push(Client::new("locker", &[]));
            }
        }
        if dice.coin() {
            self.clients.push(Client::new("asker", &[("count", dice.log_within(3, 60)), ("gap_us", gap_us(dice))]));
        }
        if dice.coin() {
            self.clients.push(Client::new("recreator", &[("count", dice.within(1, 12))]));
        }
        if dice.coin() {
            self.clients.push(Client::new("deaf", &[("count", dice.log_within(1, 20)), ("topics", topics)]));
        }
        if dice.coin() {
            self.clients.push(Client::new("closer", &[("count", dice.within(1, 30))]));
        }
    }

    /// Forms that records and requests may have.
    fn draw_forms(&mut self, dice: &mut Dice) {
        if dice.below(4) == 0 {
            self.set("ipv6", 1);
        }
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        let (crashes, pause) = match self.profile.as_str() {
            "calm" => (dice.within(1, 3), (500_000, 4_000_000)),
            "long" => (dice.within(3, 6), (200_000, 3_000_000)),
            _ => (dice.within(6, 20), (100, 400_000)),
        };
        let off: Vec<bool> = (0..8).map(|_| dice.coin()).collect();
        let mut push = |after_us: u64, kind: &str, value: u64| {
            self.faults.push(Fault { after_us, kind: kind.to_owned(), value });
        };
        for _ in 0..crashes {
            let after = dice.log_within(pause.0, pause.1);
            // Things that happen while the process runs.
            match dice.below(10) {
                0 if !off[0] => push(after / 2, "pause", dice.log_within(100, 30_000_000)),
                1 if !off[1] => push(after / 2, "clock", dice.below(7_200_000)),
                2 if !off[2] => push(after / 2, "sync fails", 0),
                3 if !off[3] => push(after / 2, "stall", dice.log_within(10_000, 2_000_000)),
                4 if !off[4] => push(after / 2, "full", dice.log_within(10_000, 2_000_000)),
                5 if !off[5] && self.scene == Scene::Broker => {
                    push(after / 2, "cut", dice.log_within(10_000, 3_000_000))
                }
                6 if !off[6] && self.scene == Scene::Broker => push(after / 2, "break", dice.within(1, 5)),
                7 if !off[7] && self.scene == Scene::Broker => {
                    push(after / 2, "namesrv", dice.log_within(10_000, 3_000_000))
                }
                _ => {}
            }
            let is_store = self.scene == Scene::Store;
            let kind = match dice.below(20) {
                0 if is_store => "rot",
                1 if is_store => "lose",
                2 if is_store => "tear",
                _ => *dice.pick(&["kill", "power", "power", "kill and power", "stop"]),
            };
            push(after, kind, dice.log_within(100, 300_000));
        }
        if self.scene == Scene::Store && dice.below(4) == 0 {
            push(dice.log_within(1_000, 400_000), "full for a while", dice.within(300_000, 2_000_000));
        }
    }

    pub fn print(&self) -> String {
        let mut text = String::new();
        write!(text, "seed {}\nscene {}\nprofile {}\n", self.seed, self.scene, self.profile)
            .expect("a String takes everything");
        if let Some(change) = self.change {
            writeln!(text, "change {}", change.name()).expect("a String takes everything");
        }
        for (name, value) in &self.numbers {
            writeln!(text, "set {name} {value}").expect("a String takes everything");
        }
        for client in &self.clients {
            let numbers: Vec<String> = client.numbers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            writeln!(text, "client {} {}", client.kind, numbers.join(" ")).expect("a String takes everything");
        }
        for fault in &self.faults {
            writeln!(text, "after {} {} {}", fault.after_us, fault.value, fault.kind)
                .expect("a String takes everything");
        }
        text
    }

    /// Reads what `print` wrote; empty lines and lines that begin with `#` are ignored.
    pub fn parse(text: &str) -> Result<Plan, String> {
        let mut plan = Plan {
            seed: 0,
            scene: Scene::Store,
            profile: String::new(),
            change: None,
            numbers: BTreeMap::new(),
            clients: Vec::new(),
            faults: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            plan.parse_line(line).ok_or_else(|| format!("line {} cannot be read: {line}", number + 1))?;
        }
        Ok(plan)
    }

    fn parse_line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "seed" => self.seed = rest.parse().ok()?,
            "scene" => {
                self.scene = match rest {
                    "store" => Scene::Store,
                    "broker" => Scene::Broker,
                    _ => return None,
                }
            }
            "profile" => self.profile = rest.to_owned(),
            "change" => self.change = Some(*Plant::HARMLESS.iter().find(|change| change.name() == rest)?),
            "set" => {
                let (name, value) = rest.split_once(' ')?;
                self.numbers.insert(name.to_owned(), value.parse().ok()?);
            }
            "client" => {
                let mut words = rest.split_whitespace();
                let mut client = Client::new(words.next()?, &[]);
                for pair in words {
                    let (name, value) = pair.split_once('=')?;
                    client.numbers.insert(name.to_owned(), value.parse().ok()?);
                }
                self.clients.push(client);
            }
            "after" => {
                let mut words = rest.splitn(3, ' ');
                let (after_us, value) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                self.faults.push(Fault { after_us, value, kind: words.next()?.to_owned() });
            }
            _ => return None,
        }
        Some(())
    }

    /// Plans with something less, the boldest first.
    pub fn smaller(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        let count = self.faults.len();
        let mut chunk = count.div_ceil(2);
        while chunk > 0 {
            for from in (0..count).step_by(chunk).rev() {
                let mut plan = self.clone();
                plan.faults.drain(from..(from + chunk).min(count));
                plans.push(plan);
            }
            chunk /= 2;
        }
        if self.clients.len() > 1 {
            for at in 0..self.clients.len() {
                let mut plan = self.clone();
                plan.clients.remove(at);
                plans.push(plan);
            }
        }
        for name in self.numbers.keys().filter(|name| name.contains('.')) {
            let mut plan = self.clone();
            plan.numbers.remove(name);
            plans.push(plan);
        }
        for at in 0..self.clients.len() {
            for (name, least) in
                [("count", 1), ("batch_max", 1), ("topics", 1), ("queues", 1), ("burst", 1), ("size_max", 16)]
            {
                let value = self.clients[at].get(name, 0);
                if value > least {
                    let mut plan = self.clone();
                    plan.clients[at].numbers.insert(name.to_owned(), least.max(value / 2));
                    plans.push(plan);
                }
            }
        }
        plans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_a_function_of_their_seed_and_survive_printing() {
        for seed in 0..200 {
            for scene in [Scene::Store, Scene::Broker] {
                let plan = Plan::draw(seed, scene);
                assert_eq!(plan, Plan::draw(seed, scene));
                assert_eq!(Plan::parse(&plan.print()).unwrap(), plan);
                for smaller in plan.smaller() {
                    assert!(smaller.print().len() <= plan.print().len() && smaller != plan);
                }
            }
        }
        assert!(Plan::parse("seed x").is_err());
    }
}
