//! What a person sees who types the name of the program and nothing else: the window, or what to type where none can
//! be shown.

use super::context::Context;
use super::output;
use crate::gui;
use peft_plan::Result;

const TEXT: &str = "\
PEFT Studio teaches language models from your own examples, on your own computer.

There is no display here, so the window cannot be shown. Everything it can do, the command line can.
Three commands to try:

  peft-studio quickstart                  train the built-in model on sample data, offline
  peft-studio data inspect FILE           see how your examples will be read
  peft-studio train --model starter --data FILE
                                          train on your examples

`peft-studio --help` lists all commands.";

pub(super) fn run(context: &Context) -> Result<u8> {
    if gui::has_display() {
        gui::open(context)?;
        return Ok(0);
    }
    output::line(TEXT);
    Ok(0)
}
