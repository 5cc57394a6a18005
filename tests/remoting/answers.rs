//! Answers that are held back, and lanes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keelmq::{
    protocol::command::Response,
    remoting::{Lane, ServerConfig},
};

use crate::world::{ECHO, HELD, KEPT, LATER, LATER_PANIC, Peer, World, flagged, request};

async fn send_kept(peer: &mut Peer, rows: &[(i32, &str, &str)]) {
    let bytes: Vec<u8> =
        rows.iter().flat_map(|(opaque, at, code)| request(KEPT, *opaque, &[("at", at), ("code", code)], b"")).collect();
    peer.send(&bytes).await;
}

async fn heard(peer: &mut Peer, count: usize) -> Vec<(i32, i32)> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let answer = peer.answer().await;
        heard.push((answer.opaque, answer.code));
    }
    heard
}

#[tokio::test]
async fn kept_answers_wait_for_their_position() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    send_kept(&mut peer, &[(1, "10", "0"), (2, "20", "0"), (3, "30", "11"), (4, "30", "0"), (5, "40", "0")]).await;
    world.until("dispatch", |world| world.processed.load(Ordering::SeqCst) == 5).await;
    assert_eq!(world.turns.load(Ordering::SeqCst), 1, "one call for what came together");
    peer.nothing_else().await;
    assert_eq!(world.lane.in_flight(), 5);
    world.kept.advance(19);
    assert_eq!(heard(&mut peer, 1).await, [(1, 0)]);
    peer.nothing_else().await;
    world.kept.advance(35);
    assert_eq!(heard(&mut peer, 3).await, [(2, 0), (3, 11), (4, 0)]);
    assert_eq!(world.lane.in_flight(), 1);
    world.kept.advance(40);
    assert_eq!(heard(&mut peer, 1).await, [(5, 0)]);
    // What is reached already is answered at once.
    send_kept(&mut peer, &[(6, "40", "0"), (7, "1", "0")]).await;
    assert_eq!(heard(&mut peer, 2).await, [(7, 0), (6, 0)]);
    assert_eq!(world.lane.in_flight(), 0);
    // A one-way request is appended as well, but waits for nothing.
    peer.send(&flagged(KEPT, 8, 2, &[("at", "99")], b"")).await;
    peer.nothing_else().await;
    assert_eq!((world.lane.in_flight(), world.turns.load(Ordering::SeqCst)), (0, 3));
}

#[tokio::test]
async fn a_failed_promise_is_never_a_success() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    send_kept(&mut peer, &[(1, "10", "0"), (2, "20", "0"), (3, "30", "13"), (4, "40", "0")]).await;
    world.until("dispatch", |world| world.lane.in_flight() == 4).await;
    world.kept.advance(10);
    world.kept.fail("sync of 00000000000000000000 failed: no disk");
    assert_eq!(heard(&mut peer, 1).await, [(1, 0)]);
    let second = peer.answer().await;
    assert_eq!((second.opaque, second.code), (2, 14));
    assert_eq!(second.remark, "sync of 00000000000000000000 failed: no disk");
    assert!(second.fields.is_empty(), "an offset of what is not there would be a lie: {:?}", second.fields);
    assert_eq!(heard(&mut peer, 2).await, [(3, 13), (4, 14)]);
    send_kept(&mut peer, &[(5, "50", "0"), (6, "10", "0")]).await;
    assert_eq!(heard(&mut peer, 2).await, [(6, 0), (5, 14)]);
    assert_eq!(world.lane.in_flight(), 0);
}

/// A message sent with `WAIT=false` behind others on one connection was answered only when those had lasted.
#[tokio::test]
async fn what_waits_for_less_is_answered_first() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    send_kept(&mut peer, &[(1, "10", "0"), (2, "0", "0"), (3, "20", "13"), (4, "0", "0")]).await;
    assert_eq!(heard(&mut peer, 2).await, [(2, 0), (4, 0)]);
    peer.nothing_else().await;
    send_kept(&mut peer, &[(5, "0", "11"), (6, "15", "0")]).await;
    assert_eq!(heard(&mut peer, 1).await, [(5, 11)]);
    world.kept.advance(15);
    assert_eq!(heard(&mut peer, 2).await, [(1, 0), (6, 0)]);
    world.kept.advance(20);
    assert_eq!(heard(&mut peer, 1).await, [(3, 13)]);
    assert_eq!(world.lane.in_flight(), 0);
}

#[tokio::test]
async fn a_slow_promise_is_said_to_be_slow() {
    let world = World::with_lane(ServerConfig::default(), Lane::new("test", 100, 5_000), 150).await;
    let mut peer = world.connect().await;
    send_kept(&mut peer, &[(1, "10", "0"), (2, "20", "11"), (3, "30", "0")]).await;
    let first = peer.answer().await;
    assert_eq!((first.opaque, first.code, &first.fields["at"][..]), (1, 10, "10"), "fields stay");
    assert_eq!(heard(&mut peer, 2).await, [(2, 11), (3, 10)]);
    world.kept.advance(100);
    peer.nothing_else().await;
    assert_eq!(world.lane.in_flight(), 0);
}

#[tokio::test]
async fn a_connection_that_ends_leaves_its_lanes() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    send_kept(&mut peer, &[(1, "10", "0"), (2, "20", "0")]).await;
    peer.send(&request(LATER, 3, &[("at", "1")], b"")).await;
    world.until("dispatch", |world| world.lane.in_flight() == 3).await;
    world.server.channels()[0].close();
    assert_eq!(peer.hear().await, None);
    world.until("closing", |world| world.lane.in_flight() == 1).await;
    world.gate.advance(1);
    world.until("the task's end", |world| world.lane.in_flight() == 0).await;
    assert_eq!(world.closed.lock().unwrap().len(), 1);
    assert_eq!(world.server.connections_in_all(), 0);
}

#[tokio::test]
async fn a_full_lane_and_a_late_request_are_refused() {
    let world = World::with_lane(ServerConfig::default(), Lane::new("test", 2, 5_000), 5_000).await;
    let mut peer = world.connect().await;
    let rows: Vec<u8> = (1..=3).flat_map(|opaque| request(LATER, opaque, &[("at", "1")], b"")).collect();
    peer.send(&rows).await;
    let refused = peer.answer().await;
    assert_eq!((refused.opaque, refused.code), (3, 2));
    assert_eq!(refused.remark, "[OVERLOAD]system busy, start flow control for a while");
    peer.send(&flagged(LATER, 4, 2, &[("at", "1")], b"")).await;
    world.gate.advance(1);
    let mut rest = heard(&mut peer, 2).await;
    rest.sort();
    assert_eq!(rest, [(1, 0), (2, 0)]);
    world.until("room", |world| world.lane.in_flight() == 0).await;
    peer.nothing_else().await;
}

#[tokio::test]
async fn a_request_that_waited_behind_others_is_refused() {
    // Two may be under way on the connection; the third waits in the buffer longer than its lane allows.
    let config = ServerConfig { connection_in_flight_max: 2, ..ServerConfig::default() };
    let world = World::with_lane(config, Lane::new("test", 100, 100), 5_000).await;
    let mut peer = world.connect().await;
    let rows: Vec<u8> = (1..=3).flat_map(|opaque| request(LATER, opaque, &[("at", "1")], b"")).collect();
    peer.send(&rows).await;
    world.until("two under way", |world| world.lane.in_flight() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.processed.load(Ordering::SeqCst), 2, "the third is not even looked at");
    world.gate.advance(1);
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(peer.answer().await);
    }
    answers.sort_by_key(|answer| answer.opaque);
    assert_eq!(answers.iter().map(|answer| answer.code).collect::<Vec<_>>(), [0, 0, 2]);
    let remark = &answers[2].remark;
    assert!(
        remark.starts_with("[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: ")
            && remark.contains("ms, size of queue: "),
        "{remark}"
    );
}

#[tokio::test]
async fn what_is_busy_refuses_the_new_and_drains_those_that_wait() {
    let busy = Arc::<AtomicBool>::default();
    let asked = busy.clone();
    let lane = Lane::refusing("test", 100, 5_000, Arc::new(move || asked.load(Ordering::SeqCst)));
    let config = ServerConfig { connection_in_flight_max: 2, ..ServerConfig::default() };
    let world = World::with_lane(config, lane, 5_000).await;
    let mut peer = world.connect().await;
    let rows: Vec<u8> = (1..=3).flat_map(|opaque| request(LATER, opaque, &[("at", "1")], b"")).collect();
    peer.send(&rows).await;
    world.until("two under way", |world| world.lane.in_flight() == 2).await;
    busy.store(true, Ordering::SeqCst);
    // Long enough for the third to have waited measurably.
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.gate.advance(1);
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(peer.answer().await);
    }
    answers.sort_by_key(|answer| answer.opaque);
    assert_eq!(answers.iter().map(|answer| answer.code).collect::<Vec<_>>(), [0, 0, 2]);
    let remark = &answers[2].remark;
    let expected = "[PCBUSY_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: ";
    assert!(remark.starts_with(expected) && remark.contains("ms, size of queue: "), "{remark}");
    peer.send(&request(ECHO, 4, &[], b"")).await;
    let refused = peer.answer().await;
    let rejected = "[REJECTREQUEST]system busy, start flow control for a while";
    assert_eq!((refused.opaque, refused.code, refused.remark.as_str()), (4, 2, rejected));
    busy.store(false, Ordering::SeqCst);
    peer.nothing_else().await;
}

#[tokio::test]
async fn later_and_held_answers() {
    let world = World::start(ServerConfig::default()).await;
    let mut peer = world.connect().await;
    peer.send(&request(LATER, 1, &[("at", "1")], b"")).await;
    peer.send(&request(HELD, 2, &[], b"")).await;
    peer.send(&request(ECHO, 3, &[], b"")).await;
    assert_eq!(heard(&mut peer, 1).await, [(3, 0)]);
    let (channel, opaque, serialization) = world.held.lock().unwrap().pop().unwrap();
    channel.respond(opaque, serialization, Response::error(19, "nothing came"));
    assert_eq!(heard(&mut peer, 1).await, [(2, 19)]);
    world.gate.advance(1);
    assert_eq!(heard(&mut peer, 1).await, [(1, 0)]);
    peer.send(&request(LATER_PANIC, 4, &[], b"")).await;
    let broken = peer.answer().await;
    assert_eq!((broken.opaque, broken.code, &broken.remark[..]), (4, 1, "request 906 broke off: its task panicked"));
    world.until("room", |world| world.lane.in_flight() == 0).await;
    drop(peer);
    world.until("closing", |_| !channel.is_open()).await;
    channel.respond(opaque, serialization, Response::success());
}
