#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| truename_fuzz::control::run(data));
