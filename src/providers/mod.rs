//! One vendor, one file; `contract` is the trait, `registry` the list, `http` the only client for foreign addresses.
