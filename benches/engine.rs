//! What steps of the engine cost with many children, without actors, sockets or waiting.
//!
//! `cargo bench --features bench-internals --bench engine -- --json`
//!
//! One row for each step and number of children; what the steps are is told by `step_costs`. For each:
//! `children` that it was about, `events` that the engines of the cluster took in, `total_ms` of all of
//! them, `us_per_child`, `us_per_event`, and `worst_us`, the longest that one event kept an engine.

mod support;

use std::time::{Duration, Instant};

use actix_hub::bench_internals::{StepCost, step_costs};
use serde_json::{Value, json};
use support::Options;

const USAGE: &str = "\
cargo bench --features bench-internals --bench engine -- [options]

  --children N,M,..   how many children (default 1000,10000,100000)
  --leave-limit S     ends with status 1 if a leave takes the engines longer, in seconds (default 15)
  --json              only the JSON object on the last line";

fn row(at: usize, cost: &StepCost) -> Value {
    let us = |time: Duration, count: u64| {
        (time.as_secs_f64() * 1e7 / count.max(1) as f64).round() / 10.0
    };
    json!({
        "at": at, "step": cost.step, "children": cost.children, "events": cost.events,
        "total_ms": cost.total.as_millis() as u64,
        "us_per_child": us(cost.total, cost.children as u64),
        "us_per_event": us(cost.total, cost.events),
        "worst_us": cost.worst.as_micros() as u64,
    })
}

fn main() {
    let options = Options::from_args();
    options.check(&["--children", "--leave-limit"], &["--json"], USAGE);
    let sizes = options.text("--children").unwrap_or("1000,10000,100000");
    let sizes: Vec<usize> = sizes
        .split(',')
        .map(|size| {
            size.parse().unwrap_or_else(|_| {
                eprintln!("--children wants numbers, got {size:?}");
                std::process::exit(2);
            })
        })
        .collect();
    let limit = options.number("--leave-limit", 15);
    let (mut rows, mut is_slow) = (Vec::new(), false);
    for at in sizes {
        for cost in step_costs(at, Instant::now) {
            is_slow |= cost.step == "leave" && cost.total.as_secs() >= limit;
            let row = row(at, &cost);
            if !options.flag("--json") {
                println!(
                    "{at:>7} {:<8} {:>7} children {:>8} events {:>7} ms {:>8} us/child {:>8} us/event \
                     worst {:>7} us",
                    cost.step,
                    cost.children,
                    cost.events,
                    row["total_ms"],
                    row["us_per_child"],
                    row["us_per_event"],
                    row["worst_us"]
                );
            }
            rows.push(row);
        }
    }
    println!("{}", json!({ "steps": rows }));
    std::process::exit(i32::from(is_slow));
}
