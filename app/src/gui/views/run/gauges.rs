//! What the machine is doing while a run trains (S4.5.5): looked at every two seconds by the run itself.

use crate::cli::quantity::bytes;
use crate::gui::theme::{of, space, text};
use eframe::egui::{Color32, CornerRadius, Role, Sense, Ui, WidgetInfo, vec2};
use peft_plan::Reading;

/// One gauge: its name, its value in words, and how full it is.
#[derive(Clone, Debug, PartialEq)]
struct Gauge {
    name: String,
    value: String,
    share: Option<f64>,
    /// Nearly full is a reason to worry: what only works hard is as it should be.
    worries: bool,
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn gauges(reading: &Reading) -> Vec<Gauge> {
    let percent = |value: f64| format!("{value:.0} %");
    let memory = reading.ram_used_bytes + reading.ram_available_bytes;
    let mut all = vec![
        Gauge {
            name: "Processor".to_owned(),
            value: percent(reading.cpu_utilization),
            share: Some(reading.cpu_utilization / 100.0),
            worries: false,
        },
        Gauge {
            name: "Memory".to_owned(),
            value: format!("{} of {}", bytes(reading.ram_used_bytes), bytes(memory)),
            share: share(reading.ram_used_bytes, memory),
            worries: true,
        },
    ];
    for (i, card) in reading.gpus.iter().enumerate() {
        let number = if reading.gpus.len() > 1 { format!(" {}", i + 1) } else { String::new() };
        if let Some(busy) = card.utilization {
            let (name, share) = (format!("Graphics card{number}"), Some(busy / 100.0));
            all.push(Gauge { name, value: percent(busy), share, worries: false });
        }
        if let (Some(used), Some(whole)) = (card.memory_used_bytes, card.memory_bytes) {
            let value = format!("{} of {}", bytes(used), bytes(whole));
            all.push(Gauge { name: format!("Its memory{number}"), value, share: share(used, whole), worries: true });
        }
    }
    if let Some(degrees) = reading.temperature_celsius {
        all.push(Gauge {
            name: "Temperature".to_owned(),
            value: format!("{degrees:.0} °C"),
            share: Some(degrees / 100.0),
            worries: true,
        });
    }
    if let Some(watts) = reading.power_watts {
        let value = format!("{watts:.0} W");
        all.push(Gauge { name: "Power".to_owned(), value, share: None, worries: false });
    }
    all
}

/// Draw them side by side.
pub(super) fn gauges_ui(ui: &mut Ui, reading: &Reading) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 28.0;
        for gauge in gauges(reading) {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 3.0;
                ui.label(text::hint(t, &gauge.name));
                ui.label(text::value(t, &gauge.value));
                if let Some(share) = gauge.share {
                    let color = if gauge.worries && share > 0.95 { t.warn.fg } else { t.accent };
                    bar(ui, &gauge, share, color);
                }
            });
        }
    });
    ui.add_space(space::XS);
}

fn bar(ui: &mut Ui, gauge: &Gauge, share: f64, color: Color32) {
    let (rect, response) = ui.allocate_exact_size(vec2(112.0, 4.0), Sense::hover());
    let name = format!("{}: {}", gauge.name, gauge.value);
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, &name);
        info.value = Some(share.clamp(0.0, 1.0));
        info
    });
    ui.painter().rect_filled(rect, CornerRadius::same(2), of(ui).hover);
    let mut filled = rect;
    filled.set_width(rect.width() * share.clamp(0.0, 1.0) as f32);
    ui.painter().rect_filled(filled, CornerRadius::same(2), color);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_say_has_no_gauge_s4_5_5() {
        let mut reading =
            Reading { cpu_utilization: 50.0, ram_used_bytes: 3, ram_available_bytes: 1, ..Reading::default() };
        assert_eq!(gauges(&reading).len(), 2);
        assert_eq!(gauges(&reading)[1].share, Some(0.75));
        reading.gpus = vec![peft_plan::GpuReading { utilization: Some(97.0), ..Default::default() }];
        reading.temperature_celsius = Some(61.0);
        let names: Vec<String> = gauges(&reading).into_iter().map(|gauge| gauge.name).collect();
        assert_eq!(names, ["Processor", "Memory", "Graphics card", "Temperature"]);
    }
}
