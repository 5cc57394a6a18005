//! What a run found: a progress bar while it lasts, a table for people or one line of JSON for scripts at its end.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Header, bound, bound::Seen, connection::Tally};
use crate::{cli::text::quoted, env::Env};

/// A bar on stderr where somebody can see it.
pub struct Progress {
    bar: Option<ProgressBar>,
    before: (Duration, u64),
}

impl Progress {
    pub fn new(is_quiet: bool, lasts: Duration) -> Self {
        let bar = (!is_quiet && std::io::stderr().is_terminal()).then(|| {
            let style =
                ProgressStyle::with_template("{bar:40} {pos:>3}/{len} s  {msg}").expect("the template is right");
            ProgressBar::new(lasts.as_secs().max(1)).with_style(style)
        });
        Progress { bar, before: (Duration::ZERO, 0) }
    }

    pub fn show(&mut self, since_start: Duration, messages: u64) {
        let Some(bar) = &self.bar else { return };
        let (time, before) = self.before;
        let rate = (messages - before) as f64 / (since_start - time).as_secs_f64().max(1e-9);
        self.before = (since_start, messages);
        bar.set_position(since_start.as_secs());
        bar.set_message(format!("{rate:>10.0} messages/s"));
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What a run costs, from its beginning on.
pub struct Cost {
    processor: Duration,
    ticks: Option<(u64, u64)>,
    begun: Duration,
}

impl Cost {
    pub fn begin(env: &Env) -> Self {
        let (processor, ticks) = (crate::os::processor_time(), crate::os::machine_ticks());
        Cost { processor, ticks, begun: env.clock.monotonic() }
    }

    /// At the end of the run; asks the broker how long a question takes that costs it nothing.
    pub async fn end(self, env: &Env, broker: &str, topic: &str) -> Spent {
        let processor = crate::os::processor_time().saturating_sub(self.processor);
        let elapsed = env.clock.monotonic() - self.begun;
        let busy = self.ticks.zip(crate::os::machine_ticks()).map(|((used_before, all_before), (used, all))| {
            used.saturating_sub(used_before) as f64 / all.saturating_sub(all_before).max(1) as f64
        });
        Spent { processor, elapsed, busy, cpus: env.host.cpus, round_trip: bound::round_trip(env, broker, topic).await }
    }
}

pub struct Spent {
    /// Processor time of the generator in the whole run.
    processor: Duration,
    elapsed: Duration,
    /// Share of the machine's processor time that was used.
    busy: Option<f64>,
    cpus: usize,
    round_trip: Option<Duration>,
}

/// The result of a run.
pub struct Outcome {
    pub kind: &'static str,
    pub broker: String,
    pub connections: u32,
    pub window: u32,
    pub size: u32,
    pub batch: u32,
    pub rate_asked: Option<f64>,
    pub header: Header,
    /// The time that `tally` counts.
    pub measured: Duration,
    /// Messages acknowledged in the whole run, warm-up included.
    pub acknowledged: u64,
    pub spent: Spent,
    pub tally: Tally,
    /// From the moment a message was due until a consumer had it.
    pub end_to_end: Option<Tally>,
}

const PERCENTILES: [(&str, f64); 5] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

impl Outcome {
    fn rate(&self) -> f64 {
        self.tally.messages as f64 / self.measured.as_secs_f64().max(1e-9)
    }

    fn processor_us_per_message(&self) -> f64 {
        self.spent.processor.as_secs_f64() * 1e6 / self.acknowledged.max(1) as f64
    }

    pub fn print(&self, is_json: bool) {
        if is_json { println!("{}", self.json()) } else { print!("{}", self.table()) }
    }

    fn bound(&self) -> String {
        let Spent { busy, cpus, round_trip, .. } = self.spent;
        let p50 = Duration::from_nanos(self.tally.latency.value_at_percentile(50.0));
        let (rate_asked, rate, generator) = (self.rate_asked, self.rate(), self.processors());
        Seen { rate_asked, rate, generator, cpus, busy, p50, round_trip }.bound()
    }

    pub fn json(&self) -> String {
        let mut end_to_end = String::new();
        if let Some(tally) = &self.end_to_end {
            end_to_end = format!(
                ",\"end_to_end_us\":{{{}}},\"end_to_end_messages\":{},\"end_to_end_errors\":{}",
                latencies(tally),
                tally.messages,
                tally.errors.values().sum::<u64>()
            );
        }
        let errors: Vec<String> =
            self.tally.errors.iter().map(|(class, count)| format!("{}:{count}", quoted(class))).collect();
        format!(
            "{{\"kind\":{},\"broker\":{},\"connections\":{},\"window\":{},\"size\":{},\"batch\":{},\"rate_asked\":{},\
             \"header\":\"{}\",\"seconds\":{:.3},\"messages\":{},\"messages_per_s\":{:.1},\"latency_us\":{{{}}}{},\
             \"errors\":{{{}}},\"generator_us_per_message\":{:.3},\"generator_processors\":{:.3},\"bound\":{}}}",
            quoted(self.kind),
            quoted(&self.broker),
            self.connections,
            self.window,
            self.size,
            self.batch,
            self.rate_asked.map_or_else(|| "null".to_owned(), |rate| rate.to_string()),
            self.header_name(),
            self.measured.as_secs_f64(),
            self.tally.messages,
            self.rate(),
            latencies(&self.tally),
            end_to_end,
            errors.join(","),
            self.processor_us_per_message(),
            self.processors(),
            quoted(&self.bound()),
        )
    }

    fn header_name(&self) -> &'static str {
        match self.header {
            Header::Json => "json",
            Header::Binary => "binary",
        }
    }

    /// Processors that the generator kept busy.
    fn processors(&self) -> f64 {
        self.spent.processor.as_secs_f64() / self.spent.elapsed.as_secs_f64().max(1e-9)
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{} to {}: {} connections x {} under way, {} bytes{}, {} headers{}\n",
            self.kind,
            self.broker,
            self.connections,
            self.window,
            self.size,
            if self.batch > 1 { format!(" x {} in a batch", self.batch) } else { String::new() },
            self.header_name(),
            self.rate_asked.map_or_else(String::new, |rate| format!(", {rate} messages/s asked")),
        );
        text += &format!(
            "  {:.0} messages/s   {} in {:.1} s   {:.1} MB/s of bodies\n",
            self.rate(),
            self.tally.messages,
            self.measured.as_secs_f64(),
            self.rate() * f64::from(self.size) / 1e6
        );
        text += &latency_line("latency", &self.tally);
        if let Some(tally) = &self.end_to_end {
            text += &latency_line(&format!("in a consumer's hands, {} of them", tally.messages), tally);
            for (class, count) in &tally.errors {
                text += &format!("  error of a pull {class}: {count}\n");
            }
        }
        for (class, count) in &self.tally.errors {
            text += &format!("  error {class}: {count}\n");
        }
        text += &format!(
            "  the generator used {:.1} of {} processors, {:.2} us a message\n  bounded by {}\n",
            self.processors(),
            self.spent.cpus,
            self.processor_us_per_message(),
            self.bound()
        );
        text
    }
}

fn latencies(tally: &Tally) -> String {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let percentile =
        |(name, at): &(&str, f64)| format!("\"{name}\":{:.1}", micros(tally.latency.value_at_percentile(*at)));
    let ends =
        [format!("\"max\":{:.1}", micros(tally.latency.max())), format!("\"mean\":{:.1}", tally.latency.mean() / 1e3)];
    PERCENTILES.iter().map(percentile).chain(ends).collect::<Vec<_>>().join(",")
}

fn latency_line(name: &str, tally: &Tally) -> String {
    let mut line = format!("  {name}");
    for (name, at) in PERCENTILES {
        line += &format!("   {name} {}", human(tally.latency.value_at_percentile(at)));
    }
    line + &format!("   max {}\n", human(tally.latency.max()))
}

pub fn human(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{:.2} us", nanos as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} us", nanos as f64 / 1e3),
        1_000_000..10_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}
