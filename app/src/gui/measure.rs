//! What the window itself costs: `PEFT_STUDIO_MEASURE=SECONDS peft-studio` prints how long the first frame took and how
//! busy the window is while nobody touches it, and closes. Linux says both in `/proc`.

use eframe::egui::{Context, ViewportCommand};
use std::time::{Duration, Instant};

/// The window settles for so long before it is called idle.
const SETTLE: Duration = Duration::from_secs(3);
/// Ticks a second of the times in `/proc`: a constant of Linux.
const TICKS: f64 = 100.0;

/// A measurement under way.
#[derive(Debug)]
pub(super) struct Measure {
    idle: Duration,
    frames: u64,
    /// Seconds from the start of the process to the second frame: the first was on the screen then.
    first: Option<f64>,
    begun: Option<Instant>,
    /// Where it began to be idle: CPU seconds and frames.
    quiet: Option<(f64, u64)>,
    /// The longest time that thinking and painting took, once the window is there.
    thinking: Duration,
    painting: Duration,
}

impl Measure {
    /// One, where somebody asks for it.
    pub(super) fn wanted() -> Option<Self> {
        let seconds: f64 = std::env::var("PEFT_STUDIO_MEASURE").ok()?.parse().ok()?;
        let idle = Duration::try_from_secs_f64(seconds.clamp(1.0, 600.0)).ok()?;
        let (thinking, painting) = (Duration::ZERO, Duration::ZERO);
        Some(Self { idle, frames: 0, first: None, begun: None, quiet: None, thinking, painting })
    }

    /// A frame was thought about for so long: input waits meanwhile.
    pub(super) fn thought(&mut self, time: Duration) {
        if self.begun.is_some() {
            self.thinking = self.thinking.max(time);
        }
    }

    /// A frame was laid out for so long.
    pub(super) fn painted(&mut self, time: Duration) {
        if self.begun.is_some() {
            self.painting = self.painting.max(time);
        }
    }

    /// A frame begins.
    pub(super) fn frame(&mut self, ctx: &Context) {
        self.frames += 1;
        match self.frames {
            1 => return ctx.request_repaint(),
            2 => {
                self.first = since_start();
                self.begun = Some(Instant::now());
            }
            _ => {}
        }
        let Some(begun) = self.begun else { return };
        let elapsed = begun.elapsed();
        if elapsed < SETTLE {
            return ctx.request_repaint_after(SETTLE.saturating_sub(elapsed));
        }
        let (cpu, frames) = *self.quiet.get_or_insert((busy().unwrap_or(f64::NAN), self.frames));
        let end = SETTLE + self.idle;
        if elapsed < end {
            return ctx.request_repaint_after(end.saturating_sub(elapsed));
        }
        let share = 100.0 * (busy().unwrap_or(f64::NAN) - cpu) / elapsed.saturating_sub(SETTLE).as_secs_f64();
        let first = 1000.0 * self.first.unwrap_or(f64::NAN);
        let frames = self.frames - frames;
        let [thinking, painting] = [self.thinking, self.painting].map(|time| 1000.0 * time.as_secs_f64());
        crate::cli::output::line(&format!(
            "first frame {first:.0} ms, idle {share:.2} % of a core, {frames} frames while idle; at most {thinking:.1} ms \
             to think and {painting:.1} ms to lay out a frame"
        ));
        ctx.send_viewport_cmd(ViewportCommand::Close);
        self.begun = None;
    }
}

/// Fields of `/proc/self/stat` after the name of the program.
fn fields() -> Option<Vec<f64>> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(f64::NAN)).collect())
}

/// CPU seconds of this process.
fn busy() -> Option<f64> {
    let fields = fields()?;
    Some((fields.get(11)? + fields.get(12)?) / TICKS)
}

/// Seconds since this process began.
fn since_start() -> Option<f64> {
    let began = fields()?.get(19)? / TICKS;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let now: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(now - began)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_age_and_its_work() {
        let age = since_start().expect("Linux says so");
        assert!((0.0..86_400.0).contains(&age) && busy().is_some_and(|busy| (0.0..1e6).contains(&busy)), "{age}");
    }
}
