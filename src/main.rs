//! The program: a decoder child when it is called as one, else the command line.

use std::process::ExitCode;

use callvault::media::child;

fn main() -> ExitCode {
    // Before any runtime or thread: the child limits its whole process.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == child::SUBCOMMAND)
    {
        return child::run();
    }
    callvault::cli::main()
}
