//! Who comes in through an OpenID Connect provider, the sign-ins that are under way there, and the reasons that people
//! gave for listening.

crate::dialect::step!(
    "m0023_identities",
    "
create table identity (
    issuer text not null,
    subject text not null,
    account_id {uuid} not null references account (account_id),
    created_at_ms bigint not null,
    primary key (issuer, subject)
);
create index identity_account on identity (account_id);

create table oidc_flow (
    state_sha256 {bytes} not null primary key,
    next text not null,
    expires_at_ms bigint not null
);

create table given_reason (
    who text not null,
    call_id {uuid} not null,
    reason text not null,
    until_ms bigint not null,
    primary key (who, call_id)
);
"
);
