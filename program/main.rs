//! tarebench: what does the box weigh? The program is what must come before its command line, which is the crate in `src/`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A measured operation of `control/spawn`: nothing may come before it.
    workloads::control::spawn::exit_if_told(std::env::args_os());
    // As the init of a guest there is no command line of ours: the kernel's is for the kernel.
    #[cfg(target_os = "linux")]
    if std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == "/init") {
        workloads::init::main();
    }
    command_line::main()
}
