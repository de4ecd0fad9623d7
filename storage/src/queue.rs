//! The queue: runs that wait for their turn, in an order that people can change and the clock cannot.

use crate::runs::{Run, json};
use crate::store::{Durability, Store};
use peft_plan::Result;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

/// A run that waits for its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The run.
    pub run: Run,
    /// Its turn has begun.
    pub taken: bool,
    /// What its process is to be told, as it was put in.
    pub wishes: Value,
}

impl Store {
    /// Puts a run behind those that wait already. One that waits keeps its place and gets the new wishes.
    pub fn enqueue(&self, run: &str, wishes: &Value) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction
                .execute(
                    "INSERT INTO queue (run, position, wishes)
                     VALUES (?1, (SELECT coalesce(max(position), 0) + 1 FROM queue), ?2)
                     ON CONFLICT (run) DO UPDATE SET wishes = excluded.wishes",
                    params![run, wishes.to_string()],
                )
                .map(|_| ())
        })
    }

    /// The runs that wait, the next one first. One whose turn has begun comes before all others.
    pub fn queue(&self) -> Result<Vec<Waiting>> {
        let waiting: Vec<Waiting> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT runs.*, queue.taken AS is_taken, queue.wishes AS wishes
                     FROM queue JOIN runs ON runs.id = queue.run
                     ORDER BY queue.taken DESC, queue.position, queue.run",
                )?
                .query_map([], |row| {
                    Ok(Waiting {
                        run: Run::from_row(row)?,
                        taken: row.get("is_taken")?,
                        wishes: json(&row.get::<_, String>("wishes")?)?,
                    })
                })?
                .collect()
        })?;
        waiting.into_iter().map(|waiting| Ok(Waiting { run: self.observed(waiting.run)?, ..waiting })).collect()
    }

    /// Begins the turn of a run. False where it was taken out in the meantime.
    pub fn take_turn(&self, run: &str) -> Result<bool> {
        self.change_queue("UPDATE queue SET taken = 1 WHERE run = ?1", run)
    }

    /// Ends the turn of a run. False where it was not in the queue.
    pub fn end_turn(&self, run: &str) -> Result<bool> {
        self.change_queue("DELETE FROM queue WHERE run = ?1", run)
    }

    /// Takes a run out whose turn has not begun. False where there is no such run in the queue.
    pub fn leave_queue(&self, run: &str) -> Result<bool> {
        self.change_queue("DELETE FROM queue WHERE run = ?1 AND taken = 0", run)
    }

    /// Moves a run to a place counted from 1 among those whose turn has not begun; the last place where there are
    /// fewer. False where it is not among them.
    pub fn move_in_queue(&self, run: &str, place: usize) -> Result<bool> {
        self.write(Durability::Committed, |transaction| {
            let mut order = order(transaction)?;
            let Some(from) = order.iter().position(|waiting| waiting == run) else { return Ok(false) };
            let moved = order.remove(from);
            order.insert(place.saturating_sub(1).min(order.len()), moved);
            for (position, run) in (1_i64..).zip(&order) {
                transaction
                    .prepare_cached("UPDATE queue SET position = ?2 WHERE run = ?1")?
                    .execute(params![run, position])?;
            }
            Ok(true)
        })
    }

    /// Asks the worker to end after the run it is at, or takes that back.
    pub fn halt_queue(&self, halts: bool) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            transaction.execute("UPDATE queue_halt SET halts = ?1", [halts]).map(|_| ())
        })
    }

    /// Whether the worker was asked to end.
    pub fn queue_halts(&self) -> Result<bool> {
        self.read(|connection| {
            let halts = connection.prepare_cached("SELECT halts FROM queue_halt")?.query_row([], |row| row.get(0));
            Ok(halts.optional()?.unwrap_or(false))
        })
    }

    fn change_queue(&self, statement: &str, run: &str) -> Result<bool> {
        let changed =
            self.write(Durability::Committed, |transaction| transaction.prepare_cached(statement)?.execute([run]))?;
        Ok(changed > 0)
    }
}

fn order(transaction: &Transaction) -> rusqlite::Result<Vec<String>> {
    transaction
        .prepare_cached("SELECT run FROM queue WHERE taken = 0 ORDER BY position, run")?
        .query_map([], |row| row.get(0))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewRun, Status};

    fn waiting(store: &Store, name: &str) -> String {
        let id = store.create_run(&NewRun { name: name.to_owned(), ..NewRun::default() }).expect("new");
        store.enqueue(&id, &Value::Null).expect("queued");
        id.as_str().to_owned()
    }

    fn names(store: &Store) -> Vec<String> {
        store.queue().expect("readable").into_iter().map(|waiting| waiting.run.name).collect()
    }

    #[test]
    fn runs_wait_in_the_order_that_people_gave_them() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let ids: Vec<String> = ["a", "b", "c", "d"].iter().map(|name| waiting(&store, name)).collect();
        assert_eq!(names(&store), ["a", "b", "c", "d"]);
        assert!(store.move_in_queue(&ids[3], 1).expect("moved"));
        assert!(store.move_in_queue(&ids[0], 99).expect("moved"));
        assert!(!store.move_in_queue("nobody", 1).expect("not there"));
        assert_eq!(names(&store), ["d", "b", "c", "a"]);
        waiting(&store, "e");
        store.enqueue(&ids[1], &Value::Bool(true)).expect("again");
        assert_eq!(names(&store), ["d", "b", "c", "a", "e"], "who comes again keeps the place");
        assert_eq!(store.queue().expect("readable")[1].wishes, Value::Bool(true));
        store.delete_run(&ids[2]).expect("deleted");
        assert_eq!(names(&store), ["d", "b", "a", "e"]);
    }

    #[test]
    fn a_turn_that_has_begun_is_first_and_nobody_takes_it_out() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let ids: Vec<String> = ["a", "b"].iter().map(|name| waiting(&store, name)).collect();
        assert!(store.take_turn(&ids[1]).expect("taken"));
        assert_eq!(names(&store), ["b", "a"]);
        assert!(!store.leave_queue(&ids[1]).expect("it is at work"));
        assert!(!store.move_in_queue(&ids[1], 2).expect("it is at work"));
        assert!(store.leave_queue(&ids[0]).expect("it waits"));
        assert!(!store.take_turn(&ids[0]).expect("it was taken out"));
        assert!(store.end_turn(&ids[1]).expect("over") && !store.end_turn(&ids[1]).expect("over already"));
        assert_eq!(store.get_run(&ids[0]).expect("there").status, Status::Queued);
    }

    #[test]
    fn the_request_to_halt_is_kept_until_it_is_taken_back() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        assert!(!store.queue_halts().expect("readable"));
        store.halt_queue(true).expect("asked");
        assert!(Store::open(home.path()).expect("a store").queue_halts().expect("readable"));
        store.halt_queue(false).expect("taken back");
        assert!(!store.queue_halts().expect("readable"));
    }
}
