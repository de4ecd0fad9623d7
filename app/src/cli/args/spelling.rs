//! Every option with a dash also answers to the same name with underscores (D5).

use clap::Command;

/// Adds `--foo_bar` beside each `--foo-bar` of `command` and of everything below it.
pub(super) fn with_snake_case(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        let names = arg.get_long().into_iter().chain(aliases);
        let spellings: Vec<String> =
            names.filter(|name| name.contains('-')).map(|name| name.replace('-', "_")).collect();
        arg.aliases(spellings)
    });
    command.mut_subcommands(with_snake_case)
}
