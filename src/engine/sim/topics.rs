//! Which topics have subscribers is known to all members, whatever was lost on the way.

use super::*;

impl World {
    /// A topic gets its first subscriber on a node, or loses its last one.
    fn toggle(&mut self, index: usize, topic: u64) {
        let topic = TopicName::new(format!("t{topic}")).expect("a valid name");
        let (topics, version) = &mut self.nodes[index].topics;
        let subscribed = topics.insert(topic.clone());
        if !subscribed {
            topics.remove(&topic);
        }
        *version += 1;
        let (version, changes) = (*version, vec![TopicChange { topic, subscribed }]);
        self.push(Duration::ZERO, index, Input::Event(Event::Topics { version, changes }));
    }

    /// Of each node that is up, what all others know of it.
    fn check_topics(&self) {
        let up = self.alive();
        for (one, other) in up.iter().flat_map(|one| up.iter().map(move |other| (*one, *other))) {
            let run = self.nodes[other].me.run();
            let known = self.nodes[one].subscribed.get(&run).cloned().unwrap_or_default();
            if one != other {
                let seed = self.seed;
                assert_eq!(known, self.nodes[other].topics.0, "seed {seed}: n{one} of n{other}");
            }
        }
        for index in up {
            let known = self.nodes[index].subscribed.keys();
            let gone: Vec<_> =
                known.filter(|run| !self.nodes[index].engine.view().is_live(**run)).collect();
            assert_eq!(gone, Vec::<&NodeRun>::new(), "seed {}: n{index}", self.seed);
        }
    }
}

#[test]
fn all_members_learn_which_topics_have_subscribers_whatever_links_break() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 4, 4);
        for round in 0..12 {
            for _ in 0..world.dice.below(20) {
                let (index, topic) = (world.dice.below(4) as usize, world.dice.below(10));
                world.toggle(index, topic);
            }
            let (a, b) = (world.dice.below(4) as usize, world.dice.below(4) as usize);
            match round % 3 {
                0 if a != b => drop(world.cuts.insert((a, b))),
                1 => world.heal(),
                _ => {}
            }
            let wait = world.dice.ms(1, 900);
            world.run_for(wait);
        }
        world.heal();
        world.run_for(15 * SECOND);
        world.check_topics();
    }
}

#[test]
fn a_newcomer_learns_them_and_those_of_a_node_that_dies_are_forgotten() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 4);
        for topic in 0..30 {
            world.toggle((topic % 3) as usize, topic);
        }
        world.run_for(SECOND);
        world.check_topics();
        let joiner = world.join();
        world.toggle(joiner, 7);
        world.run_for(6 * SECOND);
        world.check_topics();
        world.crash(1);
        world.run_for(6 * SECOND);
        world.check_topics();
        let dead = world.nodes[1].me.run();
        assert!(!world.nodes[joiner].subscribed.contains_key(&dead), "seed {seed}");
    }
}
