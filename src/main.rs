//! Arguments in, exit status out.

fn main() -> std::process::ExitCode {
    truename::cli::main()
}
