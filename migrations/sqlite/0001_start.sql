-- The schema of the API server on SQLite. Ids are text; times are RFC 3339 in UTC to the microsecond. Comparing
-- texts compares times, because the zone is always written alike and the missing digits of a shorter fraction sort
-- first; JSON is text. Numbers are wide enough for 64 bits.

CREATE TABLE users (
    id          TEXT PRIMARY KEY,
    username    TEXT NOT NULL UNIQUE,
    email       TEXT UNIQUE,
    full_name   TEXT NOT NULL DEFAULT '',
    role        TEXT NOT NULL DEFAULT 'user',
    provider    TEXT NOT NULL DEFAULT 'local',
    active      BOOLEAN NOT NULL DEFAULT TRUE,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);

-- Tokens of the API, as hashes only.
CREATE TABLE api_tokens (
    token_hash  TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    user_id     TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    role        TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    expires_at  TEXT
);

CREATE INDEX idx_api_tokens_user ON api_tokens(user_id);

CREATE TABLE controllers (
    id               TEXT PRIMARY KEY,
    type             TEXT NOT NULL,
    name             TEXT NOT NULL,
    endpoint         TEXT NOT NULL DEFAULT '',
    status           TEXT NOT NULL DEFAULT 'offline',
    message          TEXT NOT NULL DEFAULT '',
    capabilities     TEXT,
    labels           TEXT NOT NULL DEFAULT '{}',
    -- How many sessions are placed here; kept in the transaction that places or removes one.
    current_sessions INTEGER NOT NULL DEFAULT 0,
    last_heartbeat   TEXT,
    -- Fencing number of calls: raised whenever somebody takes the controller over.
    epoch            INTEGER NOT NULL DEFAULT 0,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    UNIQUE (type, name)
);

CREATE INDEX idx_controllers_type ON controllers(type);
CREATE INDEX idx_controllers_status ON controllers(status);

CREATE TABLE controller_tokens (
    controller_id       TEXT PRIMARY KEY REFERENCES controllers(id) ON DELETE CASCADE,
    token_hash          TEXT NOT NULL,
    expires_at          TEXT,
    -- The token before this one is taken until then, so that a rotation leaves no gap.
    previous_token_hash TEXT,
    previous_expires_at TEXT,
    created_at          TEXT NOT NULL
);

CREATE TABLE sessions (
    id                  TEXT PRIMARY KEY,
    user_id             TEXT NOT NULL,
    template_id         TEXT NOT NULL DEFAULT '',
    controller_id       TEXT REFERENCES controllers(id),
    controller_type     TEXT,
    node_id             TEXT NOT NULL DEFAULT '',
    -- The wish …
    state               TEXT NOT NULL,
    deleting            BOOLEAN NOT NULL DEFAULT FALSE,
    purge_home          BOOLEAN NOT NULL DEFAULT FALSE,
    generation          INTEGER NOT NULL,
    -- … and what was observed. The one never overwrites the other.
    phase               TEXT NOT NULL,
    observed_generation INTEGER,
    conditions          TEXT NOT NULL DEFAULT '[]',
    url                 TEXT NOT NULL,
    spec                TEXT NOT NULL,
    spec_hash           TEXT NOT NULL,
    controller_config   TEXT NOT NULL DEFAULT '{}',
    placement           TEXT NOT NULL DEFAULT '{}',
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL
);

CREATE INDEX idx_sessions_controller ON sessions(controller_id);
CREATE INDEX idx_sessions_controller_type ON sessions(controller_type);
CREATE INDEX idx_sessions_created ON sessions(created_at, id);
CREATE INDEX idx_sessions_user ON sessions(user_id, created_at, id);

-- One row for each session, for as long as the session lives: what is under way, or was last.
CREATE TABLE operations (
    session_id        TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
    -- The controller whose turn it is; empty while the session has none.
    queue             TEXT NOT NULL DEFAULT '',
    id                TEXT NOT NULL,
    kind              TEXT NOT NULL,
    generation        INTEGER NOT NULL,
    attempt           INTEGER NOT NULL DEFAULT 0,
    failures          INTEGER NOT NULL DEFAULT 0,
    internal_failures INTEGER NOT NULL DEFAULT 0,
    -- Absent = nothing to do.
    next_attempt_at   TEXT,
    deadline          TEXT,
    lease_owner       TEXT,
    lease_expires_at  TEXT,
    epoch             INTEGER NOT NULL DEFAULT 0,
    handle            BLOB NOT NULL,
    accepted          BOOLEAN NOT NULL DEFAULT FALSE,
    message           TEXT NOT NULL DEFAULT '',
    last_error        TEXT NOT NULL DEFAULT '',
    updated_at        TEXT NOT NULL
);

CREATE INDEX idx_operations_due ON operations(queue, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX idx_operations_leased ON operations(queue, lease_expires_at) WHERE lease_owner IS NOT NULL;

-- Sessions that are gone: what a backend still shows under such an id is not wanted.
CREATE TABLE tombstones (
    session_id    TEXT PRIMARY KEY,
    controller_id TEXT,
    deleted_at    TEXT NOT NULL,
    expires_at    TEXT NOT NULL
);

CREATE INDEX idx_tombstones_expiry ON tombstones(expires_at);

CREATE TABLE idempotency_keys (
    caller      TEXT NOT NULL,
    key         TEXT NOT NULL,
    body_hash   TEXT NOT NULL,
    session_id  TEXT NOT NULL,
    -- The answer as it was given, without secrets.
    response    TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    PRIMARY KEY (caller, key)
);

CREATE INDEX idx_idempotency_keys_expiry ON idempotency_keys(expires_at);
