-- What lets a controller in that registers from elsewhere, as hashes only.
CREATE TABLE join_tokens (
    id              TEXT COLLATE "C" PRIMARY KEY,
    token_hash      TEXT NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    -- Whom it lets in; absent = any.
    controller_type TEXT,
    controller_name TEXT,
    created_by      TEXT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    expires_at      TIMESTAMPTZ NOT NULL,
    last_used_at    TIMESTAMPTZ
);

CREATE INDEX idx_join_tokens_created ON join_tokens(created_at, id);

-- It runs in processes of its own, which register; otherwise it is part of a server, by its configuration.
ALTER TABLE controllers ADD COLUMN remote BOOLEAN NOT NULL DEFAULT FALSE;

-- The processes of a remote controller. One is called, as long as it is heard of before its lease is over; the others wait.
CREATE TABLE controller_instances (
    controller_id    TEXT COLLATE "C" NOT NULL REFERENCES controllers(id) ON DELETE CASCADE,
    -- Empty = the one and only.
    instance         TEXT COLLATE "C" NOT NULL,
    -- Empty = it connects by itself, and cannot be called otherwise.
    endpoint         TEXT NOT NULL,
    -- Certificates in PEM that its own has to come from; empty = those that a server's system trusts.
    ca               TEXT NOT NULL,
    active           BOOLEAN NOT NULL,
    lease_until      TIMESTAMPTZ NOT NULL,
    -- What it last said of itself.
    status           TEXT NOT NULL,
    current_sessions BIGINT,
    memory           TEXT NOT NULL DEFAULT '',
    cpu              TEXT NOT NULL DEFAULT '',
    registered_at    TIMESTAMPTZ NOT NULL,
    last_heartbeat   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (controller_id, instance)
);

CREATE UNIQUE INDEX idx_controller_instances_active ON controller_instances(controller_id) WHERE active;

-- Each process has a token of its own.
ALTER TABLE controller_tokens ADD COLUMN instance TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE controller_tokens DROP CONSTRAINT controller_tokens_pkey;
ALTER TABLE controller_tokens ADD PRIMARY KEY (controller_id, instance);

CREATE UNIQUE INDEX idx_controller_tokens_hash ON controller_tokens(token_hash);
CREATE INDEX idx_controller_tokens_previous ON controller_tokens(previous_token_hash);

-- The keys that servers sign their calls with: the halves that everybody may know. They go with the place of their server.
CREATE TABLE server_keys (
    kid        TEXT COLLATE "C" PRIMARY KEY,
    server     TEXT COLLATE "C" NOT NULL REFERENCES servers(id) ON DELETE CASCADE,
    public_key TEXT NOT NULL
);

CREATE INDEX idx_server_keys_server ON server_keys(server);
