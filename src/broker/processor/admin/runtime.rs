//! The broker's figures of this moment (28), and the figures of a topic or group over time (315). Every number is measured
//! when it is asked for.

use std::{collections::BTreeMap, io, path::Path};

use crate::{
    broker::topics::SCHEDULE_TOPIC,
    env::Space,
    protocol::{body::KvTable, command::Response, header::ViewBrokerStatsData},
    remoting::Request,
    store::{
        MessageStore,
        record::{self, Scan},
    },
};

use super::{Admin, Refused, success, unreadable};

/// The version that our answers state, as tools print it.
const VERSION_NAME: &str = "V4_9_7";

/// Lanes and what their keys begin with.
const LANES: [(&str, &str); 8] = [
    ("send", "sendThreadPoolQueue"),
    ("pull", "pullThreadPoolQueue"),
    ("lite pull", "litePullThreadPoolQueue"),
    ("query", "queryThreadPoolQueue"),
    ("reply", "replyThreadPoolQueue"),
    ("heartbeat", "heartbeatThreadPoolQueue"),
    ("admin", "adminBrokerThreadPoolQueue"),
    ("end transaction", "EndTransactionThreadPoolQueue"),
];

impl Admin {
    pub(super) fn stats(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = ViewBrokerStatsData::decode(&asked.command.fields)?;
        let (name, key) = (header.stats_name, header.stats_key);
        match self.0.stats.view(name, key, &self.0.config().broker_cluster_name) {
            Some(data) => Ok(success(&data)),
            None => Err(Refused::system(format!("The stats <{name}> <{key}> not exist"))),
        }
    }

    pub(super) fn runtime(&self) -> Result<Response, Refused> {
        let mut table = BTreeMap::new();
        self.flow(&mut table);
        self.space(&mut table)?;
        self.log(&mut table)?;
        self.queues(&mut table);
        self.identity(&mut table);
        let table = table.into_iter().collect();
        Ok(success(&KvTable { table }))
    }

    fn flow(&self, table: &mut Table) {
        let (rates, totals) = (self.0.stats.rates(), self.0.stats.totals());
        let three = |[a, b, c]: [f64; 3]| format!("{a:?} {b:?} {c:?}");
        put(table, "putTps", three(rates.put));
        put(table, "getFoundTps", three(rates.found));
        put(table, "getMissTps", three(rates.missed));
        put(table, "getTotalTps", three(rates.total));
        // 4.9.7 and later versions spell it differently.
        put(table, "getTransferedTps", three(rates.transferred));
        put(table, "getTransferredTps", three(rates.transferred));
        put(table, "putMessageEntireTimeMax", totals.put_ms_max);
        put(table, "putMessageTimesTotal", totals.put);
        put(table, "putMessageFailedTimes", totals.put_failed);
        put(table, "putMessageSizeTotal", totals.put_bytes);
        put(table, "putMessageDistributeTime", totals.put_classes);
        put(table, "putMessageAverageSize", format!("{:?}", totals.put_bytes as f64 / totals.put.max(1) as f64));
        put(table, "putLatency99", format!("{:.2}", totals.put_p99_ms));
        put(table, "putLatency999", format!("{:.2}", totals.put_p999_ms));
        put(table, "getMessageEntireTimeMax", totals.get_ms_max);
        put(table, "msgPutTotalYesterdayMorning", totals.put_mornings[0]);
        put(table, "msgPutTotalTodayMorning", totals.put_mornings[1]);
        put(table, "msgPutTotalTodayNow", totals.put);
        put(table, "msgGetTotalYesterdayMorning", totals.got_mornings[0]);
        put(table, "msgGetTotalTodayMorning", totals.got_mornings[1]);
        put(table, "msgGetTotalTodayNow", totals.got);
    }

    fn space(&self, table: &mut Table) -> Result<(), Refused> {
        let (storage, config) = (self.0.store.storage(), self.0.config());
        let directory = self.0.store.segments().directory().to_owned();
        let log = storage.space(&directory).map_err(unreadable)?;
        let queues = storage.space(&Path::new(&config.store_path_root_dir).join("consumequeue")).map_err(unreadable)?;
        put(table, "commitLogDiskRatio", ratio(log));
        table.insert(format!("commitLogDiskRatio_{}", directory.display()), ratio(log));
        put(table, "consumeQueueDiskRatio", ratio(queues));
        let (total, free) = (readable_bytes(log.total_bytes), readable_bytes(log.free_bytes));
        put(table, "commitLogDirCapacity", format!("Total : {total}, Free : {free}."));
        Ok(())
    }

    fn log(&self, table: &mut Table) -> Result<(), Refused> {
        let store = &self.0.store;
        let (begin, appended) = (store.log_begin(), store.appended().0);
        let earliest = earliest_stored(store).map_err(unreadable)?;
        put(table, "commitLogMinOffset", begin.0);
        put(table, "commitLogMaxOffset", appended);
        put(table, "earliestMessageTimeStamp", earliest.unwrap_or(-1));
        put(table, "dispatchBehindBytes", appended.saturating_sub(store.dispatched().get()));
        put(table, "remainHowManyDataToFlush", readable_bytes(appended.saturating_sub(store.flushed().get())));
        put(table, "remainHowManyDataToCommit", readable_bytes(appended.saturating_sub(store.readable().get())));
        // There is no buffer between the log and what is derived from it, nor one that could run out.
        put(table, "dispatchMaxBuffer", 0);
        put(table, "remainTransientStoreBufferNumbs", i32::MAX);
        put(table, "pageCacheLockTimeMills", self.append_wait_ms());
        for (level, offset) in self.0.delay.offsets() {
            let key = format!("scheduleMessageOffset_{level}");
            table.insert(key, format!("{offset},{}", self.max_of(SCHEDULE_TOPIC, level - 1)));
        }
        Ok(())
    }

    /// How long an append would have to wait just now for the one before it.
    fn append_wait_ms(&self) -> u128 {
        let clock = &self.0.env.clock;
        let begun = clock.monotonic();
        self.0.store.await_append();
        (clock.monotonic() - begun).max(self.0.store.writing_for()).as_millis()
    }

    fn queues(&self, table: &mut Table) {
        let lanes = self.0.lanes();
        for (name, prefix) in LANES {
            let of_name = || lanes.iter().filter(|lane| lane.name == name);
            let under_way: u32 = of_name().map(|lane| lane.in_flight()).sum();
            table.insert(format!("{prefix}Size"), under_way.to_string());
            let capacity = of_name().map(|lane| lane.in_flight_max).max().unwrap_or(0);
            table.insert(format!("{prefix}Capacity"), capacity.to_string());
            // Requests run where they arrive: none stands at the head of a queue.
            table.insert(format!("{prefix}HeadWaitTimeMills"), "0".to_owned());
        }
        let transactions = table.get("EndTransactionThreadPoolQueueSize").cloned().unwrap_or_default();
        put(table, "EndTransactionQueueSize", transactions);
        // Nothing is ever in a timer wheel here; tools of 5.x read these as numbers.
        for key in ["timerReadBehind", "timerOffsetBehind", "timerCongestNum", "timerEnqueueTps", "timerDequeueTps"] {
            put(table, key, 0);
        }
    }

    fn identity(&self, table: &mut Table) {
        let core = &self.0;
        put(table, "brokerVersionDesc", VERSION_NAME);
        put(table, "brokerVersion", crate::protocol::command::OUR_VERSION);
        put(table, "brokerActive", core.store.refusal().is_none());
        put(table, "bootTimestamp", core.started_ms);
        put(table, "startAcceptSendRequestTimeStamp", core.config().start_accept_send_request_timestamp_ms);
        let seconds = (core.env.clock.monotonic() - core.started).as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        let text = format!("[ {days} days, {hours} hours, {minutes} minutes, {} seconds ]", seconds % 60);
        put(table, "runtime", text);
    }
}

/// When the oldest message was stored; `None` if there is none.
pub(crate) fn earliest_stored(store: &MessageStore) -> io::Result<Option<i64>> {
    let record = store.record_at(store.log_begin())?;
    Ok(record.and_then(|bytes| match record::scan(&bytes, false) {
        Scan::Record(record) => Some(record.store_timestamp),
        _ => None,
    }))
}

type Table = BTreeMap<String, String>;

fn put(table: &mut Table, key: &str, value: impl ToString) {
    table.insert(key.to_owned(), value.to_string());
}

/// Used hundredths, rounded up, as a fraction (UtilAll.getDiskPartitionSpaceUsedPercent).
fn ratio(space: Space) -> String {
    let used = u128::from(space.total_bytes.saturating_sub(space.free_bytes));
    let hundredths = (used * 100).div_ceil(u128::from(space.total_bytes.max(1)));
    format!("{:?}", hundredths as f64 / 100.0)
}

/// UtilAll's and MixAll's way of writing sizes.
fn readable_bytes(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, None);
    for prefix in ["K", "M", "G", "T", "P", "E"] {
        if size < 1_024.0 {
            break;
        }
        (size, unit) = (size / 1_024.0, Some(prefix));
    }
    match unit {
        None => format!("{bytes} B"),
        Some(prefix) => format!("{size:.1} {prefix}iB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ratios_read_as_javas() {
        let check = |bytes: u64, expect: &str| assert_eq!(readable_bytes(bytes), expect);
        check(0, "0 B");
        check(1_023, "1023 B");
        check(1_024, "1.0 KiB");
        check(252 << 30, "252.0 GiB");
        let check =
            |total_bytes, free_bytes, expect: &str| assert_eq!(ratio(Space { total_bytes, free_bytes }), expect);
        check(100, 52, "0.48");
        check(1_000, 521, "0.48");
        check(100, 100, "0.0");
    }
}
