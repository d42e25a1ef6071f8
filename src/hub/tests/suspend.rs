//! A machine that is suspended and goes on.

use futures_util::FutureExt;

use super::*;
use crate::hub::worker::Peek;

#[actix::test]
async fn no_handler_starts_after_a_suspend_before_the_engine_has_looked_at_the_time() {
    let hub = node("a", &MemoryNetwork::new(), None).await;
    hub.start_child(spec("c")).await.expect("it starts");
    let child = hub.child::<Counter>("c");
    assert_eq!(child.send(Add(1)).await, Ok(1));
    // The engine's thread is the last that the machine lets run again.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (tell, held) = tokio::sync::oneshot::channel();
    hub.0.arbiters.lock().expect("nobody panics with it")[0].spawn_fn(move || {
        let _ = tell.send(());
        let _ = released.recv();
    });
    held.await.expect("it is held");
    let window = hub.settings().suspicion_window();
    hub.shared().doors.uptime.suspend(2 * window.as_millis() as u64);
    let mut sent = child.send(Add(2));
    let id = ChildId::new("c").expect("an id");
    for _ in 0..3 {
        // The actor has had its turn when it has answered this.
        for worker in hub.shared().workers() {
            worker.send(Peek { child: id.clone() }).await.expect("it runs");
        }
        assert!((&mut sent).now_or_never().is_none(), "another node may own the child by now");
    }
    release.send(()).expect("it waits");
    assert_eq!(sent.await, Ok(3), "nobody does");
    hub.stop().await;
}
