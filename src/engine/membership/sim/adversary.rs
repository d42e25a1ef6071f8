//! What befalls the nodes and links of a world.

use super::*;

impl World {
    pub(super) fn leave(&mut self, index: usize) {
        let now = self.now;
        self.nodes[index].membership.bye(now);
        self.drain(index);
        self.nodes[index].left = true;
    }

    /// The process is killed; its system closes its links.
    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].alive = false;
        let peers: Vec<NodeId> = self.nodes[index].ends.keys().copied().collect();
        for peer in peers {
            self.close(index, peer);
        }
        let node = &mut self.nodes[index];
        node.inbox.clear();
        node.wants.clear();
        node.redial.clear();
    }

    pub(super) fn switch_off(&mut self, index: usize) {
        self.kill(index);
        self.nodes[index].off = true;
        self.nodes[index].ends.clear();
    }

    pub(super) fn restart(&mut self, index: usize) {
        let id = self.nodes[index].id;
        // It has forgotten all fences.
        self.given_up.clear();
        let membership = self.membership(id);
        let node = &mut self.nodes[index];
        node.announcement = (membership.me().clone(), Vec::new(), BTreeMap::new());
        node.membership = membership;
        (node.alive, node.off, node.gates) = (true, false, true);
        (node.mute, node.words_left, node.left) = (false, None, false);
        node.ends.retain(|_, end| !end.flow.is_empty());
        self.drain(index);
        self.seek_a_seed(index);
    }

    pub(super) fn pause(&mut self, index: usize, time: Duration) {
        self.nodes[index].paused_until = Some(self.now + time);
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    /// Cuts each link between the two sides.
    pub(super) fn split(&mut self, side: &[usize]) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.cuts.insert((a, b));
                }
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }
}
