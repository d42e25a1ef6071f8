//! Children on one node and across two: errors, restarts, bounds.

use std::time::Duration;

use actix_hub::{Inspect, Leave, Migrate, StartChildren, StopChildren, prelude::*};

use crate::support::*;

fn not_handled(error: &HubSendError) -> bool {
    !error.may_have_been_handled()
}

#[test]
fn a_child_that_is_not_there_is_told_at_once() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let nobody: ChildRef<Counter> = hubs[1].child("nobody");
        let error = nobody.send(Read { sender: 1 }).await.expect_err("there is none");
        assert!(
            matches!(error, HubSendError::NotHandled { reason: NotHandled::NoSuchChild, .. }),
            "{error}"
        );
        stop(hubs).await;
    });
}

#[test]
fn a_panic_is_told_to_its_caller_and_the_child_begins_anew() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let child = start(&hubs[0], "c").await;
        for hub in &hubs {
            let child: ChildRef<Counter> = hub.child("c");
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
            let boom = child.send(Boom {});
            let queued = child.send(Add { sender: 1, number: 2 });
            let error = boom.await.expect_err("it panicked");
            assert!(error.may_have_been_handled(), "{error}");
            assert_eq!(queued.await, Ok(1), "the queue goes on with a fresh state");
        }
        drop(child);
        stop(hubs).await;
    });
}

#[test]
fn a_child_that_ends_too_often_is_given_up() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let mut events = hub.events();
        let spec = ChildSpec::new::<Counter>("c", ())
            .expect("valid")
            .intensity(RestartIntensity { restarts: 2, within: Duration::from_secs(60) });
        hub.start_child(spec).await.expect("it starts");
        let child: ChildRef<Counter> = hub.child("c");
        for _ in 0..3 {
            let _ = child.send(Boom {}).await;
        }
        let reason = event(&mut events, |event| match event {
            HubEvent::ChildGivenUp { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
        assert!(reason.contains("boom on purpose"), "{reason}");
        let failure = hub
            .lookup("c")
            .await
            .expect("the hub runs")
            .and_then(|child| child.failure)
            .expect("it stays");
        assert!(failure.is_given_up() && failure.reason().contains("boom on purpose"));
        stop(vec![hub]).await;
    });
}

#[test]
fn the_restart_rule_says_who_comes_back() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        for (rule, comes_back) in [
            (RestartRule::Permanent, true),
            (RestartRule::Transient, false),
            (RestartRule::Temporary, false),
        ] {
            let id = format!("{rule:?}");
            let spec = ChildSpec::new::<Counter>(&id, ()).expect("valid").restart(rule);
            hub.start_child(spec).await.expect("it starts");
            let child: ChildRef<Counter> = hub.child(&id);
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
            let _ = child.send(Quit {}).await;
            if comes_back {
                eventually("it began anew", async || {
                    child.send(Read { sender: 1 }).await == Ok(Numbers(Vec::new()))
                })
                .await;
            } else {
                eventually("it is gone", async || {
                    hub.lookup(&id).await.expect("the hub runs").is_none()
                })
                .await;
            }
        }
        stop(vec![hub]).await;
    });
}

#[test]
fn a_full_queue_is_told_and_what_was_taken_is_handled_in_order() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let hub = net
            .node("a", None, |settings| {
                settings.mailbox = 8;
                settings.waiting = 4;
            })
            .await;
        let child = start(&hub, "c").await;
        let block = child.send(Block { ms: 300 });
        let mut taken = Vec::new();
        let mut busy = 0;
        for number in 1..=30 {
            match child.do_send(Add { sender: 1, number }) {
                Ok(()) => taken.push(number),
                Err(error) => {
                    assert!(not_handled(&error), "{error}");
                    busy += 1;
                }
            }
        }
        assert!(busy > 0 && taken.len() >= 7, "{busy} refused, {} taken", taken.len());
        block.await.expect("it answers");
        assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(taken)));
        stop(vec![hub]).await;
    });
}

#[test]
fn a_deadline_says_whether_the_message_may_have_been_handled() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let child = start(&hub, "c").await;
        let started = child.send(Later { ms: 1_000 }).timeout(Duration::from_millis(100));
        let error = started.await.expect_err("it takes longer");
        assert!(error.may_have_been_handled(), "{error}");
        let block = child.send(Block { ms: 600 });
        let queued = child.send(Add { sender: 1, number: 1 }).timeout(Duration::from_millis(100));
        let error = queued.await.expect_err("the child is busy");
        assert!(not_handled(&error), "{error}");
        block.await.expect("it answers");
        assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(Vec::new())), "it was skipped");
        stop(vec![hub]).await;
    });
}

#[test]
fn a_blocked_child_brings_nobody_down() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let mut events = hubs[1].events();
        let child = start(&hubs[0], "c").await;
        let at = hubs[0].lookup("c").await.expect("the hub runs").expect("it exists").node;
        let blocked = usize::from(hubs[1].node_id() == at);
        let block = child.send(Block { ms: 4_000 }).timeout(Duration::from_secs(20));
        block.await.expect("it answers in the end");
        assert_eq!(members(&hubs[1 - blocked]).await, 2);
        let told = futures_util::FutureExt::now_or_never(events.next());
        assert!(!matches!(told, Some(Some(HubEvent::NodeDown { .. }))), "{told:?}");
        stop(hubs).await;
    });
}

#[test]
fn a_node_of_another_hub_or_with_another_secret_does_not_come_in() {
    run(async {
        let first = tcp("a").secret([1; 32]).start().await.expect("it starts");
        let mut events = first.events();
        let seed = first.addresses().remove(0);
        let stranger = builder("other", "b")
            .listen("/ip4/127.0.0.1/tcp/0")
            .secret([1; 32])
            .seed(&seed)
            .start()
            .await
            .expect("it starts alone");
        let reason = event(&mut events, |event| match event {
            HubEvent::PeerRefused { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
        assert!(reason.contains("other"), "{reason}");
        let locked_out =
            tcp("c").secret([2; 32]).seed(&seed).start().await.expect("it starts alone");
        let friend = tcp("d").secret([1; 32]).seed(&seed).start().await.expect("it starts");
        eventually("the friend is in", async || members(&first).await == 2).await;
        assert_eq!(stranger.nodes().await.expect("the hub runs").len(), 1);
        assert_eq!(locked_out.nodes().await.expect("the hub runs").len(), 1);
        stop(vec![first, stranger, locked_out, friend]).await;
    });
}

#[test]
fn a_wrong_setting_or_address_is_named() {
    run(async {
        let error = tcp("a").settings(Settings { mailbox: 0, ..settings() }).start().await;
        let error = error.expect_err("no place for a message").to_string();
        assert!(error.contains("mailbox is 0"), "{error}");
        let error = builder("test", "a").listen("localhost").start().await;
        let error = error.expect_err("no port").to_string();
        assert!(error.contains("localhost") && error.contains("port"), "{error}");
        let nowhere = [
            ("0.0.0.0:4001", "/ip4/0.0.0.0/tcp/4001", "all interfaces"),
            ("[::]:4001", "/ip6/::/tcp/4001", "all interfaces"),
            ("/ip6/::/tcp/4001", "/ip6/::/tcp/4001", "all interfaces"),
            ("10.0.0.1:0", "/ip4/10.0.0.1/tcp/0", "port 0"),
            ("/dns/hub.example.org/tcp/0", "/dns/hub.example.org/tcp/0", "port 0"),
        ];
        for (advertised, named, why) in nowhere {
            let error = tcp("a").advertise(advertised).start().await;
            let error = error.expect_err("it leads nowhere").to_string();
            assert!(error.contains(named) && error.contains(why), "{advertised}: {error}");
        }
        let error = builder("test", "a").listen("/ip4/0.0.0.0/tcp/0").start().await;
        let error = error.expect_err("nothing says who may join").to_string();
        assert!(error.contains("secret"), "{error}");
    });
}

#[test]
fn a_seed_may_be_a_name() {
    run(async {
        let first = tcp("a").start().await.expect("it starts");
        let port = first.addresses()[0].rsplit('/').next().expect("a port").to_owned();
        let seed = format!("localhost:{port}");
        let second = tcp("b").seed(seed).start().await.expect("it starts");
        eventually("both are in", async || members(&first).await == 2).await;
        stop(vec![first, second]).await;
    });
}

#[test]
fn nodes_with_one_name_for_all_of_them_become_one_cluster() {
    run(async {
        let network = MemoryNetwork::new();
        // For the first of them its own address comes first, for the last there are others before.
        network.name("all", [1, 2, 3].map(|n| format!("/memory/{n}")));
        let mut hubs = Vec::new();
        for n in 1..=3 {
            let hub = builder("test", &format!("n{n}")).memory(&network).seed("/memory/all");
            hubs.push(hub.listen(format!("/memory/{n}")).start().await.expect("it starts"));
        }
        for hub in &hubs {
            eventually("all are in", async || members(hub).await == 3).await;
        }
        stop(hubs).await;
    });
}

#[test]
fn two_hubs_live_in_one_process_beside_each_other() {
    run(async {
        let first = builder("one", "a").listen("/ip4/127.0.0.1/tcp/0").start().await.expect("one");
        let second = builder("two", "a").listen("/ip4/127.0.0.1/tcp/0").start().await.expect("two");
        let (a, b) = (start(&first, "c").await, start(&second, "c").await);
        a.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        assert_eq!(b.send(Read { sender: 1 }).await, Ok(Numbers(Vec::new())));
        stop(vec![first, second]).await;
    });
}

#[test]
fn a_child_started_through_one_node_is_reached_at_once_from_every_other() {
    for net in [Net::Memory(MemoryNetwork::new()), Net::Tcp] {
        run(async {
            let hubs = net.cluster(3).await;
            for n in 0..60 {
                let name = format!("c{n}");
                start(&hubs[n % 3], &name).await;
                let other: ChildRef<Counter> = hubs[(n + 1) % 3].child(&name);
                other.do_send(Add { sender: 1, number: 1 }).expect("it is taken");
                assert_eq!(other.send(Add { sender: 1, number: 2 }).await, Ok(2), "{name}");
                let moved = hubs[(n + 2) % 3].migrate(&name, hubs[n % 3].node_id()).await;
                moved.expect("it is found");
            }
            stop(hubs).await;
        });
    }
}

#[test]
fn the_hub_takes_its_requests_as_actor_messages_too() {
    run(async {
        let hubs = Net::Memory(MemoryNetwork::new()).cluster(2).await;
        let system = hubs[0].system();
        let spec = |id: &str| ChildSpec::new::<Counter>(id, ()).expect("valid");
        let report = system
            .send(StartChildren {
                specs: vec![spec("a"), spec("b")],
                on_failure: OnFailure::Continue,
                timeout: None,
            })
            .await
            .expect("the hub runs")
            .expect("it is not stopped");
        assert_eq!(report.started(), 2);
        let id = |id: &str| ChildId::new(id).expect("valid");
        let to = hubs[1].node_id();
        system
            .send(Migrate { child: id("a"), to, forced: false, timeout: None })
            .await
            .expect("the hub runs")
            .expect("it moves");
        let seen = system.send(Inspect).await.expect("the hub runs").expect("it is not stopped");
        assert_eq!(seen.nodes.len(), 2);
        assert!(seen.children.iter().any(|child| child.id == id("a") && child.node == to));
        let stopped = system
            .send(StopChildren { children: vec![id("b")], timeout: None })
            .await
            .expect("the hub runs")
            .expect("it is not stopped");
        assert_eq!(stopped.stopped(), 1);
        system.send(Leave { timeout: None }).await.expect("the hub runs").expect("it leaves");
        eventually("one is left", async || members(&hubs[1]).await == 1).await;
        let child: ChildRef<Counter> = hubs[1].child("a");
        assert_eq!(child.send(Add { sender: 1, number: 1 }).await, Ok(1));
        stop(hubs).await;
    });
}
