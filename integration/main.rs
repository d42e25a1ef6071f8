//! Whole systems: several nodes in one process, several processes.

mod admin;
mod answers;
mod children;
mod config;
mod detours;
mod draining;
mod ends;
mod gateways;
mod labels;
mod layers;
mod moves;
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
mod topics;
mod unsettled;
mod versions;
mod web;
