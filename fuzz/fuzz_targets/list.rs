#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| truename_fuzz::list::run(data));
