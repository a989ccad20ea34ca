//! Arguments in, exit status out.

/// What a forwarded question allots comes and goes in bursts, which costs glibc's allocator a third of the question and
/// musl's more (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    truename::cli::main()
}
