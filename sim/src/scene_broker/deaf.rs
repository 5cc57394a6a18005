//! A client that asks and does not listen: its answers have nowhere to go.

use super::*;

/// Asks for messages again and again and reads no answer: that costs nobody but itself.
pub(super) async fn ask_and_not_listen(env: &Env, run: &Arc<Run>, index: usize) {
    let client = &run.plan.clients[index];
    let mut dice = Dice::new(run.plan.seed, &format!("client {index}"));
    for _ in 0..client.get("count", 1) {
        env.clock.sleep(Duration::from_millis(dice.log_within(50, 2_000))).await;
        let Ok(mut wire) = WireClient::connect(env, run.address(), serialization(index)).await else { continue };
        let topic = format!("T{}", dice.below(client.get("topics", 1)));
        for _ in 0..dice.log_within(1, 200) {
            let call = plain_pull("DEAF", &topic, dice.below(QUEUES) as i32, 0);
            if wire.ask_only(env, &call).await.is_err() {
                run.trace.sometimes("client: cut off, it did not listen");
                break;
            }
        }
        env.clock.sleep(Duration::from_millis(dice.log_within(1, 5_000))).await;
    }
}
