//! The command `sparse`: compress, reconstruct, verify, quality, info, estimate.
//!
//! Everything is done by the library crate `sparse`; here is what only a program has: arguments,
//! progress, reports for people and for programs, exit codes.

#![forbid(unsafe_code)]

mod aliases;
mod args;
mod commands;
mod failure;
mod human;
mod outputs;
mod panic;
mod policy;
mod progress;
mod session;
mod signals;
mod text_file;

use args::Cli;
use clap::Parser;
use clap::error::ErrorKind as Clap;
use failure::Failure;
use session::{Session, print_error, print_help};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (args, note) = aliases::expand(std::env::args_os().collect());
    // The arguments may not parse, so look for the one that matters in any case by hand.
    let json = args.iter().skip(1).take_while(|a| *a != "--").any(|a| a == "--json");
    if let Some(note) = note.filter(|_| !json) {
        progress::eprint(&note);
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(not_run(&error, &args, json)),
    };
    let (command, common) = (cli.command, cli.common);
    let (name, json) = (command.name(), common.json);
    panic::install_hook(json);
    let run = || commands::run(&Session::new(name, common)?, command);
    let result = panic::catch(run);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        // The panic was told when it happened.
        Err(failure @ Failure::Fault(_)) if !json => ExitCode::from(failure.exit_code()),
        Err(failure) => {
            print_error(Some(name), json, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Prints what clap found: help, the version, or what is wrong with the arguments.
fn not_run(error: &clap::Error, args: &[OsString], json: bool) -> u8 {
    let text = error.to_string();
    let text = human::plain_lines(&text);
    let field = match error.kind() {
        Clap::DisplayHelp => "help",
        Clap::DisplayVersion => "version",
        _ => return wrong_usage(&text, args, json),
    };
    let failure = print_help(json, field, &text).err().filter(|f| !f.is_broken_pipe());
    failure.map_or(0, |f| {
        print_error(None, false, &f);
        f.exit_code()
    })
}

fn wrong_usage(text: &str, args: &[OsString], json: bool) -> u8 {
    if json {
        // The first paragraph is the message; usage and hints follow.
        let message = text.split("\n\n").next().unwrap_or_default();
        let message: Vec<&str> = message.split_whitespace().collect();
        let message = message.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
        print_error(command_name(args), true, &Failure::Usage(message));
    } else {
        progress::eprint(text);
    }
    2
}

/// Returns the command among the arguments, if there is one that exists.
fn command_name(args: &[OsString]) -> Option<&str> {
    let known = <Cli as clap::CommandFactory>::command();
    args.iter()
        .skip(1)
        .filter_map(|a| a.to_str())
        .find(|a| !a.starts_with('-'))
        .filter(|a| known.get_subcommands().any(|c| c.get_name() == *a))
}
