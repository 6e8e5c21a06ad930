-- The schema of the API server on PostgreSQL: the tables, columns and indexes of SQLite's versions 1 to 5, with
-- PostgreSQL's own types. Texts that are sorted or paged by compare by their bytes (COLLATE "C"), as on SQLite, whatever
-- the database's own collation is.

-- A database of the implementation before this one has tables `users` and `sessions`. Its users are taken over. Its
-- sessions are set aside as `earlier_sessions`, with everything that refers to them: the objects behind them were made
-- by others, and nothing here may act on a row that does not say by whom and from what.
DO $$
DECLARE
    found RECORD;
BEGIN
    IF EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass('sessions') AND relkind IN ('r', 'p'))
        AND NOT EXISTS (SELECT 1 FROM pg_attribute
                         WHERE attrelid = to_regclass('sessions') AND attname = 'spec_hash' AND NOT attisdropped)
    THEN
        -- The names of indexes are one space with those of tables.
        FOR found IN
            SELECT indexrelid::regclass AS name, relname FROM pg_index JOIN pg_class ON oid = indexrelid
             WHERE indrelid = to_regclass('sessions')
        LOOP
            EXECUTE format('ALTER INDEX %s RENAME TO %I', found.name, left('earlier_' || found.relname, 63));
        END LOOP;
        ALTER TABLE sessions RENAME TO earlier_sessions;
    END IF;

    IF to_regclass('users') IS NOT NULL THEN
        UPDATE users SET full_name = '' WHERE full_name IS NULL;
        UPDATE users SET role = 'user' WHERE role IS NULL;
        UPDATE users SET provider = 'local' WHERE provider IS NULL;
        -- Who was neither active nor inactive does not become active.
        UPDATE users SET active = FALSE WHERE active IS NULL;
        UPDATE users SET created_at = coalesce(created_at, updated_at, 'epoch');
        UPDATE users SET updated_at = created_at WHERE updated_at IS NULL;
        -- An empty address is none, and may be nobody's.
        ALTER TABLE users ALTER COLUMN email DROP NOT NULL;
        UPDATE users SET email = NULL WHERE email = '';
        -- The columns that are not used here stay as they are, the hashes of passwords among them.
        ALTER TABLE users
            ALTER COLUMN id TYPE TEXT COLLATE "C",
            ALTER COLUMN username TYPE TEXT,
            ALTER COLUMN email TYPE TEXT,
            ALTER COLUMN full_name TYPE TEXT,
            ALTER COLUMN full_name SET DEFAULT '',
            ALTER COLUMN full_name SET NOT NULL,
            ALTER COLUMN role TYPE TEXT,
            ALTER COLUMN role SET DEFAULT 'user',
            ALTER COLUMN role SET NOT NULL,
            ALTER COLUMN provider TYPE TEXT,
            ALTER COLUMN provider SET DEFAULT 'local',
            ALTER COLUMN provider SET NOT NULL,
            ALTER COLUMN active SET DEFAULT TRUE,
            ALTER COLUMN active SET NOT NULL,
            ALTER COLUMN created_at DROP DEFAULT,
            ALTER COLUMN created_at TYPE TIMESTAMPTZ USING created_at AT TIME ZONE 'UTC',
            ALTER COLUMN created_at SET NOT NULL,
            ALTER COLUMN updated_at DROP DEFAULT,
            ALTER COLUMN updated_at TYPE TIMESTAMPTZ USING updated_at AT TIME ZONE 'UTC',
            ALTER COLUMN updated_at SET NOT NULL;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS users (
    id          TEXT COLLATE "C" PRIMARY KEY,
    username    TEXT NOT NULL UNIQUE,
    email       TEXT UNIQUE,
    full_name   TEXT NOT NULL DEFAULT '',
    role        TEXT NOT NULL DEFAULT 'user',
    provider    TEXT NOT NULL DEFAULT 'local',
    active      BOOLEAN NOT NULL DEFAULT TRUE,
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL
);

-- Tokens of the API, as hashes only. The id may be shown.
CREATE TABLE api_tokens (
    token_hash   TEXT PRIMARY KEY,
    id           TEXT COLLATE "C" NOT NULL,
    name         TEXT NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    role         TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);

CREATE UNIQUE INDEX idx_api_tokens_id ON api_tokens(id);
CREATE INDEX idx_api_tokens_user ON api_tokens(user_id);

CREATE TABLE controllers (
    id               TEXT COLLATE "C" PRIMARY KEY,
    type             TEXT NOT NULL,
    name             TEXT NOT NULL,
    endpoint         TEXT NOT NULL DEFAULT '',
    status           TEXT NOT NULL DEFAULT 'offline',
    message          TEXT NOT NULL DEFAULT '',
    capabilities     JSONB,
    labels           JSONB NOT NULL DEFAULT '{}',
    -- What operators say about it. Their labels win over those of its registration, which come again with every start.
    operator_labels  JSONB NOT NULL DEFAULT '{}',
    draining         BOOLEAN NOT NULL DEFAULT FALSE,
    -- How many sessions are placed here; kept in the transaction that places or removes one.
    current_sessions BIGINT NOT NULL DEFAULT 0,
    last_heartbeat   TIMESTAMPTZ,
    -- Fencing number of calls: raised whenever somebody takes the controller over.
    epoch            BIGINT NOT NULL DEFAULT 0,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL,
    UNIQUE (type, name)
);

CREATE INDEX idx_controllers_type ON controllers(type);
CREATE INDEX idx_controllers_status ON controllers(status);

CREATE TABLE controller_tokens (
    controller_id       TEXT COLLATE "C" PRIMARY KEY REFERENCES controllers(id) ON DELETE CASCADE,
    token_hash          TEXT NOT NULL,
    expires_at          TIMESTAMPTZ,
    -- The token before this one is taken until then, so that a rotation leaves no gap.
    previous_token_hash TEXT,
    previous_expires_at TIMESTAMPTZ,
    created_at          TIMESTAMPTZ NOT NULL
);

CREATE TABLE sessions (
    id                  TEXT COLLATE "C" PRIMARY KEY,
    user_id             TEXT COLLATE "C" NOT NULL,
    template_id         TEXT COLLATE "C" NOT NULL DEFAULT '',
    controller_id       TEXT COLLATE "C" REFERENCES controllers(id),
    controller_type     TEXT,
    node_id             TEXT NOT NULL DEFAULT '',
    -- The wish …
    state               TEXT NOT NULL,
    deleting            BOOLEAN NOT NULL DEFAULT FALSE,
    purge_home          BOOLEAN NOT NULL DEFAULT FALSE,
    generation          BIGINT NOT NULL,
    -- … and what was observed. The one never overwrites the other.
    phase               TEXT NOT NULL,
    observed_generation BIGINT,
    conditions          JSONB NOT NULL DEFAULT '[]',
    url                 TEXT NOT NULL,
    spec                JSONB NOT NULL,
    spec_hash           TEXT NOT NULL,
    controller_config   JSONB NOT NULL DEFAULT '{}',
    placement           JSONB NOT NULL DEFAULT '{}',
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL,
    -- The last sign of a user. Written on its own, so that it moves neither `updated_at` nor an observation.
    last_activity       TIMESTAMPTZ
);

CREATE INDEX idx_sessions_controller ON sessions(controller_id);
CREATE INDEX idx_sessions_controller_type ON sessions(controller_type);
CREATE INDEX idx_sessions_created ON sessions(created_at, id);
CREATE INDEX idx_sessions_user ON sessions(user_id, created_at, id);
CREATE INDEX idx_sessions_template ON sessions(template_id, created_at, id);

-- One row for each session, for as long as the session lives: what is under way, or was last.
CREATE TABLE operations (
    session_id        TEXT COLLATE "C" PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
    -- The controller whose turn it is; empty while the session has none.
    queue             TEXT COLLATE "C" NOT NULL DEFAULT '',
    id                TEXT NOT NULL,
    kind              TEXT NOT NULL,
    generation        BIGINT NOT NULL,
    attempt           BIGINT NOT NULL DEFAULT 0,
    failures          BIGINT NOT NULL DEFAULT 0,
    internal_failures BIGINT NOT NULL DEFAULT 0,
    -- Absent = nothing to do.
    next_attempt_at   TIMESTAMPTZ,
    deadline          TIMESTAMPTZ,
    lease_owner       TEXT,
    lease_expires_at  TIMESTAMPTZ,
    epoch             BIGINT NOT NULL DEFAULT 0,
    handle            BYTEA NOT NULL,
    accepted          BOOLEAN NOT NULL DEFAULT FALSE,
    message           TEXT NOT NULL DEFAULT '',
    last_error        TEXT NOT NULL DEFAULT '',
    updated_at        TIMESTAMPTZ NOT NULL,
    -- The session's object has been there as wished: whatever fails from then on does not remove it.
    established       BOOLEAN NOT NULL DEFAULT FALSE,
    -- How often the backend drifted in a short time, and when it was last set right.
    repairs           BIGINT NOT NULL DEFAULT 0,
    repaired_at       TIMESTAMPTZ
);

CREATE INDEX idx_operations_due ON operations(queue, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX idx_operations_leased ON operations(queue, lease_expires_at) WHERE lease_owner IS NOT NULL;

-- Sessions that are gone: what a backend still shows under such an id is not wanted.
CREATE TABLE tombstones (
    session_id    TEXT COLLATE "C" PRIMARY KEY,
    controller_id TEXT,
    deleted_at    TIMESTAMPTZ NOT NULL,
    expires_at    TIMESTAMPTZ NOT NULL
);

CREATE INDEX idx_tombstones_expiry ON tombstones(expires_at);

CREATE TABLE idempotency_keys (
    caller      TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    body_hash   TEXT NOT NULL,
    session_id  TEXT NOT NULL,
    -- The answer as it was given, without secrets.
    response    TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (caller, key)
);

CREATE INDEX idx_idempotency_keys_expiry ON idempotency_keys(expires_at);

-- What happened, told in the transaction in which it happened. All transactions that write are in one line, so the
-- order of ids is the order of commits; a sequence gives no number twice: an id is a place to go on from.
CREATE TABLE events (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            TIMESTAMPTZ NOT NULL,
    type          TEXT NOT NULL,
    -- No references: the events of what is gone stay readable.
    session_id    TEXT COLLATE "C",
    -- The session's owner; absent = of a controller, for operators only.
    user_id       TEXT COLLATE "C",
    controller_id TEXT,
    generation    BIGINT,
    reason        TEXT NOT NULL DEFAULT '',
    message       TEXT NOT NULL DEFAULT '',
    data          JSONB NOT NULL DEFAULT '{}'
);

CREATE INDEX idx_events_session ON events(session_id, id);
CREATE INDEX idx_events_user ON events(user_id, id);
CREATE INDEX idx_events_at ON events(at);

-- The last event that was removed: of one session, or (empty) of all. Who stopped reading before it has missed some.
CREATE TABLE swept_events (
    session_id TEXT COLLATE "C" PRIMARY KEY,
    user_id    TEXT COLLATE "C",
    last_id    BIGINT NOT NULL
);

CREATE INDEX idx_swept_events_last ON swept_events(last_id);

-- Templates. What people decide about one is a JSON document: it is read and written as a whole.
CREATE TABLE templates (
    name        TEXT COLLATE "C" PRIMARY KEY,
    body        JSONB NOT NULL,
    generation  BIGINT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL
);

-- Rights to reach one session through the gateway, as hashes only. A ticket is redeemed once, for a cookie.
CREATE TABLE access_grants (
    token_hash  TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    session_id  TEXT COLLATE "C" NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    created_at  TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL
);

CREATE INDEX idx_access_grants_session ON access_grants(session_id);
CREATE INDEX idx_access_grants_user ON access_grants(user_id);
CREATE INDEX idx_access_grants_expiry ON access_grants(expires_at);
