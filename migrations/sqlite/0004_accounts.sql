-- Templates. What people decide about one is a JSON document: it is read and written as a whole.
CREATE TABLE templates (
    name        TEXT PRIMARY KEY,
    body        TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);

CREATE INDEX idx_sessions_template ON sessions(template_id, created_at, id);

-- Tokens get a name that may be shown: their hash stays where it is.
ALTER TABLE api_tokens ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE api_tokens ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE api_tokens ADD COLUMN last_used_at TEXT;

UPDATE api_tokens SET id = 'tok-' || lower(hex(randomblob(6))), created_by = user_id;

CREATE UNIQUE INDEX idx_api_tokens_id ON api_tokens(id);

-- What operators say about a controller. Their labels win over those of its registration, which come again with
-- every start.
ALTER TABLE controllers ADD COLUMN draining BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE controllers ADD COLUMN operator_labels TEXT NOT NULL DEFAULT '{}';
