//! `kill -9` at random moments.

use crate::trial::{Legacy, Live, as_given, database_is_whole, resumed, undisturbed, words};
use peft_plan::order::SplitMix;
use peft_tests::home::{Home, text};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const STEPS: u64 = 120;
const CHECKPOINT_EVERY: u64 = 7;

/// Newest step of a checkpoint that the store shows as committed.
fn committed(home: &Home, name: &str) -> u64 {
    let run = home.json(&["runs", "show", name]);
    assert_ne!(run["status"], "running", "a dead process runs nothing");
    run["checkpoints"].as_array().into_iter().flatten().filter_map(|c| c["step"].as_u64()).max().unwrap_or(0)
}

#[expect(clippy::print_stdout, reason = "a campaign that fails is repeated with its seed")]
#[test]
fn killed_at_random_moments_a_run_ends_in_the_same_bytes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let kills = number("PEFT_STUDIO_KILLS").unwrap_or(6);
    let seed = number("PEFT_STUDIO_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("PEFT_STUDIO_KILL_SEED={seed}");
    let mut random = SplitMix::new(seed);
    let home = Home::new();
    let begun = Instant::now();
    let whole = undisturbed(&home, "whole", STEPS, CHECKPOINT_EVERY);
    let lasted = begun.elapsed();

    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        round += 1;
        let name = format!("killed-{round}");
        let mut words = words(&home, &name, STEPS, CHECKPOINT_EVERY);
        let mut safe = 0;
        loop {
            let mut command = home.command(&as_given(&words));
            let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
            // Up to a few kills of one run, then it may finish.
            let may_finish = killed >= kills || random.below(4) == 0;
            if !may_finish {
                std::thread::sleep(Duration::from_secs_f64(lasted.as_secs_f64() * random.unit()));
                process.kill().expect("killed or gone already");
            }
            let output = process.wait_with_output().expect("ends");
            if output.status.success() {
                break;
            }
            assert!(output.status.code().is_none(), "seed {seed}: {}", text(&output.stderr));
            killed += 1;
            database_is_whole(&home);
            // Killed before it said what it is, it is started again.
            let is_there = Path::new(&home.path(&name)).join("run.json").exists();
            if is_there {
                let now = committed(&home, &name);
                assert!(now >= safe, "seed {seed}: checkpoint {safe} was there and is not any more");
                safe = now;
                words = ["resume", &name, "--json"].map(String::from).into();
            }
        }
        Legacy::of(&home, &name).must_be(&whole, &format!("seed {seed}, {name}"));
        std::fs::remove_dir_all(home.path(&name)).expect("removed");
    }
    database_is_whole(&home);
}

#[test]
fn killed_before_its_first_checkpoint_a_run_begins_again() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 60, 50);
    let mut live = Live::start(home.command(&as_given(&words(&home, "early", 60, 50))));
    live.reach("step", 2);
    live.kill();
    assert_eq!(committed(&home, "early"), 0);
    resumed(&home, "early");
    Legacy::of(&home, "early").must_be(&whole, "from step 0");
}

#[test]
fn killed_while_it_writes_its_result_a_run_writes_it_again() {
    let home = Home::new();
    let whole = undisturbed(&home, "whole", 9, 3);
    // The last checkpoint is the last thing that is told before the result is written.
    let mut live = Live::start(home.command(&as_given(&words(&home, "late", 9, 3))));
    live.reach("checkpoint", 9);
    live.kill();
    resumed(&home, "late");
    Legacy::of(&home, "late").must_be(&whole, "from the last step");
}
