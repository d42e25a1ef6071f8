//! What an app lends to its children on this node: pools, clients, addresses of local actors.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
};

/// One value of each type.
#[derive(Default)]
pub(crate) struct Data(HashMap<TypeId, Entry>);

struct Entry {
    type_name: &'static str,
    value: Box<dyn Any + Send + Sync>,
}

impl Data {
    /// Adds a value; a later one of the same type takes the place of the earlier one.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let entry = Entry { type_name: type_name::<T>(), value: Box::new(value) };
        self.0.insert(TypeId::of::<T>(), entry);
    }

    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.value.downcast_ref()
    }

    /// The same, or a sentence that says what is there instead.
    pub(crate) fn require<T: 'static>(&self) -> Result<&T, String> {
        self.get().ok_or_else(|| {
            let mut known: Vec<&str> = self.0.values().map(|entry| entry.type_name).collect();
            known.sort_unstable();
            let there = match &known[..] {
                [] => "nothing was given".to_owned(),
                known => format!("there is {}", known.join(", ")),
            };
            let wanted = type_name::<T>();
            format!("the hub of this node has no {wanted}; give it to `HubBuilder::data` ({there})")
        })
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values().map(|entry| entry.type_name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_type_and_the_last_one_counts() {
        let mut data = Data::default();
        assert_eq!(data.get::<u32>(), None);
        data.insert(1_u32);
        data.insert("text");
        data.insert(2_u32);
        assert_eq!(data.get::<u32>(), Some(&2));
        assert_eq!(data.require::<&str>(), Ok(&"text"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_is_there() {
        let mut data = Data::default();
        let missing = |data: &Data| data.require::<u64>().expect_err("it is not there");
        assert!(missing(&data).contains("no u64") && missing(&data).contains("nothing was given"));
        data.insert(true);
        assert!(missing(&data).contains("there is bool"), "{}", missing(&data));
    }
}
