//! Whole systems: several nodes in one process, several processes.

mod admin;
mod answers;
mod children;
mod compile_fail;
mod config;
mod detours;
mod draining;
mod ends;
mod find;
mod gateways;
mod guide;
mod labels;
mod layers;
mod moves;
mod on_demand;
mod parked;
mod processes;
mod references;
mod restarts;
mod rooms;
mod same_key;
mod seen;
mod shutdown;
mod strangers;
mod support;
mod tell_all;
#[cfg(feature = "testkit")]
mod testkit;
mod topics;
mod unsettled;
mod versions;
mod watches;
mod web;
