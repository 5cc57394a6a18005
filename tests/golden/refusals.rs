//! A conversation recorded with a 4.9.7 broker, held again with ours: what it refused, ours refuses in the same words.

use std::time::Duration;

use keelmq::{
    broker::{self, config::Config},
    os,
    protocol::{
        command::{self, Command},
        frame,
    },
};

use crate::{
    reading::{folder, read},
    world::{Peer, ask, until},
};

fn command(frame: &[u8]) -> Command<'_> {
    let (content, size) = frame::split(frame, 16 << 20).unwrap().expect("a whole frame");
    assert_eq!(size, frame.len());
    command::decode(content).unwrap()
}

/// A remark without the port of whoever asked.
fn masked(remark: Option<&str>) -> String {
    let remark = remark.unwrap_or_default();
    match remark.find("127.0.0.1:") {
        Some(at) => {
            remark[..at].to_owned() + "<client>" + remark[at..].trim_start_matches(|c| "0123456789.:".contains(c))
        }
        None => remark.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_java_s() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::tiny();
    config.broker_name = "broker-a".into();
    // The sizes that a remark names.
    config.max_message_size_bytes = 4 << 20;
    config.mapped_file_size_commit_log_bytes = 8 << 20;
    config.frame_size_max_bytes = 16 << 20;
    config.store_path_root_dir = data.path().display().to_string();
    let broker = broker::start(os::env(tokio::runtime::Handle::current()), config, None).await.unwrap();
    let mut other = Peer::connect(broker.address()).await;
    let mut peer = Peer::connect(broker.address()).await;

    let names = std::fs::read_dir(folder("refusals")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with("-request.bin"));
    names.sort();
    let (mut sent, mut compared) = (0, 0);
    for name in names {
        let request = read(&format!("refusals/{name}"));
        peer.send(&request).await;
        let opaque = command(&request).opaque;
        let ours = loop {
            let heard = peer.answer().await;
            if heard.flag & 1 == 1 {
                break heard;
            }
        };
        assert_eq!(ours.opaque, opaque, "{name}");
        if name.contains("-sent-") {
            sent += 1;
            let of_queue = [("topic", "Refusals"), ("queueId", "0")];
            until("the queue knows it", async || {
                ask(&mut other, 30, &of_queue, b"").await.fields["offset"] == sent.to_string()
            })
            .await;
        }
        let answer = folder("refusals").join(name.replace("-request", "-answer"));
        let Ok(recorded) = std::fs::read(answer) else {
            assert_eq!(ours.code, 0, "{name}: {}", ours.remark);
            continue;
        };
        let java = command(&recorded);
        let fields = java.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_eq!((ours.code, ours.flag, &ours.fields), (java.code, java.flag, &fields), "{name}: {}", ours.remark);
        assert_eq!(masked(Some(&ours.remark)), masked(java.remark.as_deref()), "{name}");
        assert_eq!((ours.serialization, &ours.body[..]), (java.serialization, java.body), "{name}");
        compared += 1;
    }
    assert!(compared >= 30, "{compared} answers");
    broker.shutdown(Duration::from_secs(1)).await;
}
