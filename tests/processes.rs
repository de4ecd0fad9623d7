//! Runs as processes of their own: detached, followed, killed, waiting in a queue, and many on one store.

#[path = "processes/detached.rs"]
mod detached;
#[path = "processes/lone.rs"]
mod lone;
#[path = "processes/queue.rs"]
mod queue;
#[path = "processes/sharing.rs"]
mod sharing;
#[path = "processes/store.rs"]
mod store;
