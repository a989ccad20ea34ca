//! Stage 4: what truename answers by itself: rewrites, hosts files, local zones, special-use names.
