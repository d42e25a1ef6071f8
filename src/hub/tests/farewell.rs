//! A node that ends with something left.

use super::*;
use crate::hub::{farewell::say_bye, worker::Peek};

#[actix::test]
async fn nothing_begins_after_the_last_answer_on_a_thread_that_was_held() {
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    let b = node("b", &network, Some(&a)).await;
    members(&a, 2).await;
    a.start_child(spec("c")).await.expect("it starts");
    a.migrate("c", b.node_id()).await.expect("it is moved there");
    let child = a.child::<Counter>("c");
    assert_eq!(child.send(Add(1)).await, Ok(1));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    for arbiter in &b.0.arbiters.lock().expect("nobody panics with it")[1..] {
        let (tell, held) = std::sync::mpsc::channel();
        let released = released.clone();
        arbiter.spawn_fn(move || {
            let _ = tell.send(());
            let _ = released.lock().expect("nobody panics with it").recv();
        });
        held.recv_timeout(Duration::from_secs(20)).expect("it is held");
    }
    let sent = actix_rt::spawn(child.send(Add(2)).timeout(Duration::from_secs(60)).into_future());
    let id = ChildId::new("c").expect("an id");
    let cell = b.shared().doors.cell(&id);
    until("it waits at the gate", || async { cell.tally() == (1, 1) }).await;
    say_bye(&b, tokio::time::Instant::now() + Duration::from_secs(20)).await;
    drop(release);
    for _ in 0..3 {
        // The actor has had its turn when it has answered this.
        for worker in b.shared().workers() {
            worker.send(Peek { child: id.clone() }).await.expect("it runs");
        }
    }
    assert_eq!(cell.tally().1, 1, "its next owner handles it, too");
    sent.abort();
    b.stop().await;
    a.stop().await;
}
