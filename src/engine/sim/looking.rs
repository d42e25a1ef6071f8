//! Questions about the cluster, and words of those who have no right to them.

use super::*;

#[test]
fn who_looks_at_the_cluster_reaches_a_node_through_a_third_one() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 5);
        assert_eq!(look(&mut world, 0, 2, 1), 1, "seed {seed}");
        let (third, straight) = (world.nodes[1].me.id, Way::Straight);
        assert_eq!(world.nodes[2].observed[0].1, straight, "seed {seed}");
        world.cuts.extend([(0, 2), (2, 0)]);
        world.unlink(0, 2);
        world.run_for(SECOND);
        assert_eq!(look(&mut world, 0, 2, 2), 1, "seed {seed}");
        let (asker, way, _) = world.nodes[2].observed[1].clone();
        assert_eq!(way, Way::By(third), "seed {seed}");
        // The answer goes back the same way.
        let answer = Answer::History(None);
        let tell = ObserveWord::Tell { request: 2, answer };
        world.nodes[2].engine.observe(asker, way, tell.clone());
        world.drain(2);
        world.run_for(SECOND);
        let asked = world.nodes[2].me.run();
        assert_eq!(world.nodes[0].observed, [(asked, Way::By(third), tell)], "seed {seed}");
        assert!(world.nodes[0].engine.ways_to(node_id(200, 0)).is_empty(), "seed {seed}");
    }
}

#[test]
fn who_looks_at_the_cluster_is_not_stuck_with_a_third_one_that_has_no_link_either() {
    for seed in seeds(10) {
        // Of the others only one has a link to the last.
        let mut world = cluster(seed, 6, 5);
        for node in 0..4 {
            world.cuts.extend([(node, 5), (5, node)]);
            world.unlink(node, 5);
        }
        world.run_for(SECOND);
        let came = (0..4).map(|request| look(&mut world, 0, 5, request)).sum::<usize>();
        assert!(came >= 2, "seed {seed}: {came} of 4");
    }
}

#[test]
fn a_stranger_does_not_speak_through_a_relay() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 2, 5);
        let (me, member) = (world.nodes[0].me.run(), world.nodes[1].me.run());
        let stranger = NodeRun { node: node_id(200, 0), nonce: 7 };
        let word = ObserveWord::Ask { request: 1, question: Question::Leave };
        let message = Box::new(PeerMessage::Observe(word));
        let relayed = PeerMessage::Relay { from: member, to: me, hops: 1, message };
        let now = world.now;
        for (from, heard) in [(stranger, 0), (member, 1)] {
            let event = Event::Peer { from, message: relayed.clone() };
            world.nodes[0].engine.handle(now, event);
            world.drain(0);
            assert_eq!(world.nodes[0].observed.len(), heard, "seed {seed}");
        }
    }
}

#[test]
fn words_of_a_blocked_node_count_for_nothing_by_whatever_path_they_come() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 4, 20);
        // It goes on alone with its children, as after a split.
        world.calm = false;
        let blocked = world.nodes[3].me.id;
        // One that is blocked on the others has no links to them; its words go by the last.
        for other in [0, 1] {
            world.cuts.extend([(other, 3), (3, other)]);
            world.unlink(other, 3);
        }
        world.run_for(2 * SECOND);
        let hears = |world: &World, index: usize| {
            let engine = &world.nodes[index].engine;
            engine.membership.is_heard(blocked)
        };
        assert!(hears(&world, 0) && hears(&world, 1), "seed {seed}: by way of n2");
        world.input(0, Input::Event(Event::Blocked { node: blocked }));
        world.run_for(4 * SECOND);
        assert!(!hears(&world, 0) && hears(&world, 1), "seed {seed}");
        for index in 0..3 {
            let member = world.nodes[index].engine.view().member(blocked);
            assert!(member.is_some(), "seed {seed}: others hear it, and n{index} keeps it in");
        }
        // Its words by a member that has blocked it go no further.
        world.input(2, Input::Event(Event::Blocked { node: blocked }));
        world.run_for(4 * SECOND);
        for index in 0..3 {
            let member = world.nodes[index].engine.view().member(blocked);
            assert!(member.is_none(), "seed {seed}: n{index}");
        }
        for index in [0, 2] {
            world.input(index, Input::Event(Event::Allowed { node: blocked }));
        }
        // Links that were let in while it was blocked are closed by the network.
        world.unlink(2, 3);
        world.heal();
        world.run_for(10 * SECOND);
        world.check_end(false);
    }
}
