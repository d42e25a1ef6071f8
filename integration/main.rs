//! Whole systems: several nodes in one process, several processes.

mod layers;
