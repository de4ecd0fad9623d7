//! What a person sees who types the name of the program and nothing else.

use super::output;

const TEXT: &str = "\
PEFT Studio teaches language models from your own examples, on your own computer.

Three commands to try:

  peft-studio quickstart                  train the built-in model on sample data, offline
  peft-studio data inspect FILE           see how your examples will be read
  peft-studio train --model starter --data FILE
                                          train on your examples

`peft-studio --help` lists all commands.";

pub(super) fn run() {
    output::line(TEXT);
}
