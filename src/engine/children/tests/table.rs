use super::{Node, child, epoch, owned, run};
use crate::engine::children::{
    instance::Instance, phase::Begin, successor::Successor, table::Table,
};

fn successor(attempt: u64) -> Successor {
    Successor::new(run(2), owned(epoch(1, attempt)), epoch(1, 0), true)
}

#[test]
fn a_child_never_has_an_instance_and_a_successor() {
    let node = Node::new(&[1]);
    let instance = || Instance::starting(&node.core, owned(epoch(2, 0)), Begin::Recovered);
    let mut table = Table::default();
    assert!(table.expect(child(), successor(1)).is_none());
    // A later attempt replaces the one before it, which somebody has to discard.
    let older = table.expect(child(), successor(2)).expect("it had the place");
    assert_eq!(older.attempt(), epoch(1, 1));
    let superseded = table.put(child(), instance()).expect("it had the place");
    assert_eq!(superseded.attempt(), epoch(1, 2));
    assert!(table.successor(&child()).is_none() && table.instance(&child()).is_some());
    // And none comes in where an instance is.
    let refused = table.expect(child(), successor(3)).expect("there is an instance");
    assert_eq!(refused.attempt(), epoch(1, 3));
    assert!(table.successor(&child()).is_none() && table.instance(&child()).is_some());
    assert!(table.remove(&child()).is_some());
    assert!(table.expect(child(), successor(4)).is_none());
    assert!(!table.is_spent(), "a successor would be lost");
    assert!(table.remove_successor(&child()).is_some());
    assert!(table.is_spent());
}
