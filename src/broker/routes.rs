//! Which processor serves which code, in which lane, on which port.

use std::{sync::Arc, time::Duration};

use super::{
    core::Core,
    processor::{
        self, admin::Admin, client::ClientManage, end_transaction::EndTransactions, offset::Offset, pull::Pull,
        query::Query, reply::Reply, send::Send, send_back::ConsumerSendBack,
    },
};
use crate::{
    protocol::code::request,
    remoting::{Lane, Promise, Router},
};

/// The routers of the main port and of the fast one.
pub fn routers(core: &Arc<Core>) -> (Router, Router) {
    let main = router(core);
    let mut fast = router(core);
    fast.refuse(&processor::NOT_ON_FAST_PORT);
    (main, fast)
}

/// Whether a write of the log has been with the kernel for longer than osPageCacheBusyTimeOutMills: sends are refused
/// until it comes back, rather than piled up behind it.
fn is_too_long(writing: Duration, core: &Core) -> bool {
    writing.as_millis() > core.config().os_page_cache_busy_timeout_ms.into()
}

fn router(core: &Arc<Core>) -> Router {
    let config = core.config();
    let wait = |ms: u32| if config.broker_fast_failure_enable { ms } else { u32::MAX };
    // The core knows its lanes: they must not hold it in turn.
    let (store, busy) = (core.store.clone(), Arc::downgrade(core));
    let is_busy = Arc::new(move || {
        let writing = store.writing_for();
        !writing.is_zero() && busy.upgrade().is_some_and(|core| is_too_long(writing, &core))
    });
    let send = Lane::refusing("send", config.send_lane_max, wait(config.send_wait_ms_max), is_busy);
    let pull = Lane::new("pull", config.pull_lane_max, wait(config.pull_wait_ms_max));
    let lite_pull = Lane::new("lite pull", config.lite_pull_lane_max, wait(config.lite_pull_wait_ms_max));
    let heartbeat = Lane::new("heartbeat", config.heartbeat_lane_max, wait(config.heartbeat_wait_ms_max));
    let clients = Lane::new("client manage", config.client_manage_lane_max, u32::MAX);
    let consumers = Lane::new("consumer manage", config.consumer_manage_lane_max, u32::MAX);
    let replies = Lane::new("reply", config.reply_lane_max, u32::MAX);
    let transactions =
        Lane::new("end transaction", config.end_transaction_lane_max, wait(config.transaction_wait_ms_max));
    let queries = Lane::new("query", config.query_lane_max, u32::MAX);
    let admin = Lane::new("admin", config.admin_lane_max, wait(config.admin_wait_ms_max));

    core.watch_lanes([&send, &pull, &lite_pull, &heartbeat, &replies, &queries, &transactions, &admin].map(Arc::clone));

    let sends = Arc::new(Send(core.clone()));
    let pulls = Arc::new(Pull(core.clone()));
    let offsets = Arc::new(Offset(core.clone()));
    let client = Arc::new(ClientManage(core.clone()));
    let mut router = Router::new();
    router.serve(&[request::SEND_MESSAGE, request::SEND_MESSAGE_V2, request::SEND_BATCH_MESSAGE], sends, &send);
    let send_backs = Arc::new(ConsumerSendBack(core.clone()));
    router.serve(&[request::CONSUMER_SEND_MSG_BACK], send_backs, &send);
    router.serve(&[request::PULL_MESSAGE], pulls.clone(), &pull);
    router.serve(&[request::LITE_PULL_MESSAGE], pulls, &lite_pull);
    let reply = Arc::new(Reply(core.clone()));
    router.serve(&[request::SEND_REPLY_MESSAGE, request::SEND_REPLY_MESSAGE_V2], reply, &replies);
    router.serve(&[request::END_TRANSACTION], Arc::new(EndTransactions(core.clone())), &transactions);
    router.serve(&[request::QUERY_MESSAGE, request::VIEW_MESSAGE_BY_ID], Arc::new(Query(core.clone())), &queries);
    router.serve(&[request::HEART_BEAT], client.clone(), &heartbeat);
    router.serve(&[request::UNREGISTER_CLIENT, request::CHECK_CLIENT_CONFIG], client.clone(), &clients);
    router.serve(&[request::GET_CONSUMER_LIST_BY_GROUP], client.clone(), &consumers);
    router.serve(&[request::QUERY_CONSUMER_OFFSET, request::UPDATE_CONSUMER_OFFSET], offsets.clone(), &consumers);
    router.serve(&[request::LOCK_BATCH_MQ, request::UNLOCK_BATCH_MQ], client, &admin);
    let positions = [
        request::SEARCH_OFFSET_BY_TIMESTAMP,
        request::GET_MAX_OFFSET,
        request::GET_MIN_OFFSET,
        request::GET_EARLIEST_MSG_STORETIME,
    ];
    router.serve(&positions, offsets, &admin);
    router.serve_others(Arc::new(Admin(core.clone())), &admin);

    router.latencies = core.latencies.clone();
    let (ending, over) = (core.store.clone(), core.store.clone());
    router.promise = Some(Promise {
        kept: core.store.promise().clone(),
        turn_end: Arc::new(move || ending.turn_end_before_answers()),
        turn_over: Arc::new(move || over.turn_over()),
        wait_ms_max: config.sync_flush_timeout_ms.try_into().unwrap_or(u32::MAX),
    });
    let closed = core.clone();
    router.on_close = Arc::new(move |channel| {
        let to_tell = closed.clients.channel_closed(channel.id());
        closed.tell(to_tell);
        closed.hold.channel_closed(channel.id());
    });
    router
}
