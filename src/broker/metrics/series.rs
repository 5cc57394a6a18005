//! Figures as Prometheus knows them: a family has a name, a kind, and a sample for each set of labels. Bounded here: what
//! is beyond the limit is left out and counted.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};

use crate::model::spread::Spread;

/// Label and value.
pub type Labels = Vec<(&'static str, String)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Named without `_total`, which is put behind when it is written.
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Whole(i64),
    Spread(Spread),
}

impl From<Spread> for Value {
    fn from(spread: Spread) -> Self {
        Value::Spread(spread)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Whole(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::from(value as u64)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Whole(value.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Whole(value)
    }
}

#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<(Labels, Value)>,
}

impl Family {
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Family { name, kind, help, samples: Vec::new() }
    }

    /// A family of one sample without labels of its own.
    pub fn one(name: &'static str, help: &'static str, value: impl Into<Value>) -> Self {
        let mut family = Family::new(name, Kind::Gauge, help);
        family.add(Vec::new(), value);
        family
    }

    pub fn add(&mut self, labels: Labels, value: impl Into<Value>) {
        self.samples.push((labels, value.into()));
    }

    /// How many samples went because there were more than `max`.
    fn cut(&mut self, max: usize) -> usize {
        let left_out = self.samples.len().saturating_sub(max);
        self.samples.truncate(max);
        left_out
    }
}

/// The families as text (version 0.0.4 of the exposition format), each with at most `samples_max` samples. `common` are
/// labels of all.
pub fn page(mut families: Vec<Family>, common: &[(String, String)], samples_max: usize) -> String {
    let mut left_out = Family::new(
        "keelmq_metrics_left_out",
        Kind::Gauge,
        "Samples of a metric beyond metricsOtelCardinalityLimit, which are not on this page",
    );
    for family in &mut families {
        let cut = family.cut(samples_max);
        if cut > 0 {
            left_out.add(vec![("metric", family.name.to_owned())], cut);
        }
    }
    families.push(left_out);
    families.retain(|family| !family.samples.is_empty());
    let labels = common.iter().map(|(key, value)| (key.clone().into(), value.clone().into()));
    let mut registry = Registry::with_labels(labels);
    registry.register_collector(Box::new(Page(families)));
    let mut text = String::new();
    prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).expect("a string takes everything");
    text
}

#[derive(Debug)]
struct Page(Vec<Family>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut samples = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.samples {
                let mut sample = samples.encode_family(labels)?;
                match (family.kind, value) {
                    (Kind::Counter, Value::Whole(value)) => {
                        sample.encode_counter::<NoLabelSet, _, u64>(&(*value as u64), None)?;
                    }
                    (_, Value::Whole(value)) => sample.encode_gauge(value)?,
                    (_, Value::Spread(spread)) => {
                        let buckets: Vec<(f64, u64)> = spread
                            .bounds()
                            .iter()
                            .copied()
                            .chain([f64::INFINITY])
                            .zip(spread.counts().iter().copied())
                            .collect();
                        sample.encode_histogram::<NoLabelSet>(
                            spread.sum(),
                            spread.counts().iter().sum(),
                            &buckets,
                            None,
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// metricsLabel: `k:v,k:v`. What Prometheus would not take as a label is left out, and named.
pub fn extra_labels(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut labels, mut wrong) = (Vec::new(), Vec::new());
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
        let mut letters = key.chars();
        let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let is_name = begins && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') && !key.starts_with("__");
        match is_name && !value.is_empty() {
            true => labels.push((key.to_owned(), value.to_owned())),
            false => wrong.push(pair.to_owned()),
        }
    }
    (labels, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut messages = Family::new("rocketmq_messages_in", Kind::Counter, "Messages");
        messages.add(vec![("topic", "a\"b".to_owned())], 3u64);
        messages.add(vec![("topic", "c".to_owned())], 4u64);
        let mut sizes = Family::new("rocketmq_message_size", Kind::Histogram, "Sizes");
        sizes.add(vec![], Spread::of(&[10.0, 20.0], &[1, 2, 3], 99.0));
        let families =
            vec![messages, sizes, Family::one("up", "Up", 1u32), Family::new("none", Kind::Gauge, "Nothing")];
        let text = page(families, &[("cluster".to_owned(), "C".to_owned())], 1);
        assert_eq!(
            text,
            "# HELP rocketmq_messages_in_total Messages\n\
             # TYPE rocketmq_messages_in_total counter\n\
             rocketmq_messages_in_total{cluster=\"C\",topic=\"a\\\"b\"} 3\n\
             # HELP rocketmq_message_size Sizes\n\
             # TYPE rocketmq_message_size histogram\n\
             rocketmq_message_size_bucket{cluster=\"C\",le=\"10\"} 1\n\
             rocketmq_message_size_bucket{cluster=\"C\",le=\"20\"} 3\n\
             rocketmq_message_size_bucket{cluster=\"C\",le=\"+Inf\"} 6\n\
             rocketmq_message_size_sum{cluster=\"C\"} 99.0\n\
             rocketmq_message_size_count{cluster=\"C\"} 6\n\
             # HELP up Up\n\
             # TYPE up gauge\n\
             up{cluster=\"C\"} 1\n\
             # HELP keelmq_metrics_left_out Samples of a metric beyond metricsOtelCardinalityLimit, which are not on this page\n\
             # TYPE keelmq_metrics_left_out gauge\n\
             keelmq_metrics_left_out{cluster=\"C\",metric=\"rocketmq_messages_in\"} 1\n"
        );
    }

    #[test]
    fn labels_of_the_configuration() {
        let (labels, wrong) = extra_labels("zone:eu, rack:7,9x:1,plain,__x:1,a:");
        assert_eq!(labels, [("zone".to_owned(), "eu".to_owned()), ("rack".to_owned(), "7".to_owned())]);
        assert_eq!(wrong, ["9x:1", "plain", "__x:1", "a:"]);
        assert_eq!(extra_labels(""), (vec![], vec![]));
    }
}
