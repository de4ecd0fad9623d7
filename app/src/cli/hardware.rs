//! `hardware`: what this machine has, what is used for training, and why; with `--watch`, what it is doing.

use super::args::HardwareArgs;
use super::context::Context;
use super::quantity::bytes;
use super::{interrupt, output};
use crate::jobs::hardware::{Card, Hardware, probe};
use crate::jobs::monitor::{Monitor, PERIOD};
use peft_models::engine::Engine;
use peft_plan::{Fault, Reading, RunEvent};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

pub(super) fn run(context: &Context, args: &HardwareArgs) -> Result<u8, Fault> {
    let chosen = Engine::choice(&context.backend)?;
    if args.watch {
        watch(context);
        return Ok(0);
    }
    let (hardware, faults) = probe(&context.data_dir, &chosen, &context.backend, context.threads)?;
    if context.json {
        output::print_json(&hardware);
    } else {
        output::line(&for_people(&hardware, &faults, &context.data_dir));
    }
    Ok(0)
}

/// Tells what the machine is doing until Ctrl-C, or until nobody reads it.
fn watch(context: &Context) {
    interrupt::install();
    let (sender, receiver) = channel();
    let monitor = Monitor::start(move |reading| {
        // Nobody listens any more once the loop below has ended.
        sender.send(reading).ok();
    });
    while !interrupt::requested() {
        match receiver.recv_timeout(PERIOD.min(Duration::from_millis(200))) {
            Ok(reading) if context.json => output::print_json(&RunEvent::Hardware(reading)),
            Ok(reading) => output::line(&reading_line(&reading)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if output::is_unread() {
            break;
        }
    }
    drop(monitor);
}

fn reading_line(reading: &Reading) -> String {
    let mut parts = vec![
        format!("processor {:3.0} %", reading.cpu_utilization),
        format!("memory {} used, {} free", bytes(reading.ram_used_bytes), bytes(reading.ram_available_bytes)),
    ];
    for gpu in &reading.gpus {
        let used = gpu.memory_used_bytes.map_or_else(String::new, |used| format!(" {}", bytes(used)));
        parts.push(format!("card {:3.0} %{used}", gpu.utilization.unwrap_or(0.0)));
    }
    parts.extend(reading.temperature_celsius.map(|t| format!("{t:.0} °C")));
    parts.extend(reading.power_watts.map(|w| format!("{w:.0} W")));
    parts.join(", ")
}

fn for_people(hardware: &Hardware, faults: &[Fault], data_dir: &Path) -> String {
    let Hardware {
        gpus, gpu_reason, cpu, memory_bytes, memory_available_bytes, disk_free_bytes, system, backend, ..
    } = hardware;
    let features = if cpu.features.is_empty() { "none of those we use".to_owned() } else { cpu.features.join(" ") };
    let cards: Vec<String> = gpus.iter().map(card).collect();
    let cards = match (cards.is_empty(), gpu_reason) {
        (true, Some(reason)) => format!("none found: {reason}"),
        (true, None) => "none found".to_owned(),
        (false, _) => cards.join(", "),
    };
    let bytes_of = backend
        .byte_products
        .map_or_else(String::new, |how| format!(", quantised models answer in whole numbers ({how})"));
    let unused =
        backend.unused_tiles.map_or_else(String::new, |why| format!("; its tile unit (AMX) is not used: {why}"));
    let told = |what: &str, why: &Option<String>| why.as_ref().map_or_else(String::new, |why| format!("; {what}{why}"));
    let singly = [
        told("each launched by itself, no graphs: ", &backend.graphs_off),
        told("no products of compute capability 9.0: ", &backend.wgmma_off),
        told("products also by ", &backend.library),
        told("no products by cuBLASLt: ", &backend.library_off),
    ]
    .concat();
    let inside = match (&system.container, system.wsl) {
        (Some(kind), _) => format!(", inside {kind}"),
        (None, true) => ", inside WSL".to_owned(),
        (None, false) => String::new(),
    };
    let mut lines = vec![
        format!("System          {}{inside}", system.os),
        format!("Processor       {} ({} cores, {} threads)", cpu.model, cpu.cores, cpu.threads),
        format!("Instructions    {features}"),
        format!("Memory          {}, {} free", bytes(*memory_bytes), bytes(*memory_available_bytes)),
        format!("Free disk       {} in {}", bytes(*disk_free_bytes), data_dir.display()),
        format!("Graphics cards  {cards}"),
        format!("Used            {} with {} threads: {}", backend.name, backend.threads, backend.reason),
        format!(
            "Kernels         {}, fastest in {}{bytes_of}{unused}{singly}",
            backend.kernels, backend.fastest_precision
        ),
    ];
    for one in &hardware.selectable {
        let about = format!("{}, compute {}", bytes(one.memory_bytes), one.compute_capability);
        lines.push(format!("Can be chosen   --backend {}: {} ({about})", one.backend, one.name));
    }
    for fault in faults {
        lines.push(format!("Note            {} ({}): {}", fault.entry().title, fault.code, fault.detail));
        lines.extend(fault.shown_actions().iter().map(|action| format!("                - {}", action.label)));
    }
    output::printable(&lines.join("\n")).into_owned()
}

fn card(card: &Card) -> String {
    let mut about = Vec::new();
    about.extend(card.memory_bytes.map(bytes));
    about.extend(card.driver.as_ref().map(|driver| format!("driver {driver}")));
    about.extend(card.compute_capability.as_ref().map(|c| format!("compute {c}")));
    if about.is_empty() { card.name.clone() } else { format!("{} ({})", card.name, about.join(", ")) }
}
