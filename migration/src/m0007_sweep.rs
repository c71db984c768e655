//! How far each source's list was read, who reads it now, and what went wrong at a vendor's door.

crate::dialect::step!(
    "m0007_sweep",
    "
create table sweep (
    source text not null primary key,
    owner text,
    token bigint not null default 0,
    until_at_ms bigint not null default 0
);

create table sweep_walk (
    source text not null,
    walk text not null,
    from_at_ms bigint not null,
    to_at_ms bigint not null,
    page text,
    primary key (source, walk)
);

create table fault (
    source text not null,
    doing text not null,
    code text not null,
    since_at_ms bigint not null,
    last_at_ms bigint not null,
    primary key (source, doing)
);
"
);
