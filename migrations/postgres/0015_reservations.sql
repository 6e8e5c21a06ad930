-- What of a controller is given to sessions. A session says itself what it holds of its controller as it stands, and of the
-- one that it is moved to: a place, thousandths of a processor, and KiB of memory and storage; nothing = not known yet. The
-- sums are kept here, by the database, so that whoever changes a session changes them in the same moment.
ALTER TABLE sessions ADD COLUMN held_sessions BIGINT;
ALTER TABLE sessions ADD COLUMN held_cpu BIGINT;
ALTER TABLE sessions ADD COLUMN held_memory BIGINT;
ALTER TABLE sessions ADD COLUMN held_storage BIGINT;
ALTER TABLE sessions ADD COLUMN moving_to TEXT COLLATE "C" REFERENCES controllers(id);
CREATE INDEX idx_sessions_unheld ON sessions(id) WHERE held_sessions IS NULL;
CREATE INDEX idx_sessions_moving ON sessions(moving_to) WHERE moving_to IS NOT NULL;

ALTER TABLE controllers ADD COLUMN reserved_sessions BIGINT NOT NULL DEFAULT 0;
ALTER TABLE controllers ADD COLUMN reserved_cpu BIGINT NOT NULL DEFAULT 0;
ALTER TABLE controllers ADD COLUMN reserved_memory BIGINT NOT NULL DEFAULT 0;
ALTER TABLE controllers ADD COLUMN reserved_storage BIGINT NOT NULL DEFAULT 0;
-- What of that was given away since the controller last said how much is available.
ALTER TABLE controllers ADD COLUMN unseen_cpu BIGINT NOT NULL DEFAULT 0;
ALTER TABLE controllers ADD COLUMN unseen_memory BIGINT NOT NULL DEFAULT 0;
ALTER TABLE controllers ADD COLUMN unseen_storage BIGINT NOT NULL DEFAULT 0;
ALTER TABLE controllers ADD COLUMN last_placed BIGINT NOT NULL DEFAULT 0;
-- Whoever remembers all controllers of one revision reads those alone that changed since: see `fleet`.
ALTER TABLE controllers ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE INDEX idx_controllers_revision ON controllers(revision);

-- Where a session was before it was moved. What that controller still has of it, or has again, is not wanted there.
CREATE TABLE departures (
    session_id    TEXT COLLATE "C" NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    controller_id TEXT COLLATE "C" NOT NULL REFERENCES controllers(id) ON DELETE CASCADE,
    left_at       TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (session_id, controller_id)
);
CREATE INDEX idx_departures_controller ON departures(controller_id);

-- One row: how often anything changed that placement goes by, when a controller was last removed, and how many sessions were
-- ever placed.
CREATE TABLE fleet (
    one        BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    revision   BIGINT NOT NULL,
    removed    BIGINT NOT NULL,
    placements BIGINT NOT NULL,
    -- Thousandths of what controllers have that may be given away: as the server that started last is configured.
    overcommit_cpu     BIGINT NOT NULL DEFAULT 4000,
    overcommit_memory  BIGINT NOT NULL DEFAULT 1000,
    overcommit_storage BIGINT NOT NULL DEFAULT 1000
);
INSERT INTO fleet (revision, removed, placements) VALUES (1, 0, 0);

CREATE FUNCTION sessions_hold_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet SET placements = placements + 1;
    UPDATE controllers SET
        reserved_sessions = reserved_sessions + coalesce(NEW.held_sessions, 0),
        reserved_cpu = reserved_cpu + coalesce(NEW.held_cpu, 0),
        reserved_memory = reserved_memory + coalesce(NEW.held_memory, 0),
        reserved_storage = reserved_storage + coalesce(NEW.held_storage, 0),
        unseen_cpu = unseen_cpu + coalesce(NEW.held_cpu, 0),
        unseen_memory = unseen_memory + coalesce(NEW.held_memory, 0),
        unseen_storage = unseen_storage + coalesce(NEW.held_storage, 0),
        last_placed = (SELECT placements FROM fleet)
     WHERE id = NEW.controller_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_hold_first AFTER INSERT ON sessions FOR EACH ROW
    WHEN (NEW.controller_id IS NOT NULL) EXECUTE FUNCTION sessions_hold_first();

CREATE FUNCTION sessions_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet SET placements = placements + 1
     WHERE NEW.controller_id IS NOT NULL AND OLD.controller_id IS DISTINCT FROM NEW.controller_id;
    UPDATE controllers SET
        reserved_sessions = reserved_sessions
            + CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_sessions, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_sessions, 0) ELSE 0 END,
        reserved_cpu = reserved_cpu
            + CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_cpu, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_cpu, 0) ELSE 0 END,
        reserved_memory = reserved_memory
            + CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_memory, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_memory, 0) ELSE 0 END,
        reserved_storage = reserved_storage
            + CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_storage, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_storage, 0) ELSE 0 END,
        unseen_cpu = unseen_cpu + greatest(0,
            CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_cpu, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_cpu, 0) ELSE 0 END),
        unseen_memory = unseen_memory + greatest(0,
            CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_memory, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_memory, 0) ELSE 0 END),
        unseen_storage = unseen_storage + greatest(0,
            CASE WHEN id IN (NEW.controller_id, NEW.moving_to) THEN coalesce(NEW.held_storage, 0) ELSE 0 END
            - CASE WHEN id IN (OLD.controller_id, OLD.moving_to) THEN coalesce(OLD.held_storage, 0) ELSE 0 END),
        last_placed = CASE WHEN id = NEW.controller_id AND OLD.controller_id IS DISTINCT FROM NEW.controller_id
            THEN (SELECT placements FROM fleet) ELSE last_placed END
     WHERE id IN (OLD.controller_id, OLD.moving_to, NEW.controller_id, NEW.moving_to);
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_hold AFTER UPDATE OF controller_id, moving_to, held_sessions, held_cpu, held_memory, held_storage
ON sessions FOR EACH ROW WHEN (
    OLD.controller_id IS DISTINCT FROM NEW.controller_id OR
    OLD.moving_to IS DISTINCT FROM NEW.moving_to OR
    OLD.held_sessions IS DISTINCT FROM NEW.held_sessions OR
    OLD.held_cpu IS DISTINCT FROM NEW.held_cpu OR OLD.held_memory IS DISTINCT FROM NEW.held_memory OR
    OLD.held_storage IS DISTINCT FROM NEW.held_storage
) EXECUTE FUNCTION sessions_hold();

CREATE FUNCTION sessions_hold_no_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE controllers SET
        reserved_sessions = reserved_sessions - coalesce(OLD.held_sessions, 0),
        reserved_cpu = reserved_cpu - coalesce(OLD.held_cpu, 0),
        reserved_memory = reserved_memory - coalesce(OLD.held_memory, 0),
        reserved_storage = reserved_storage - coalesce(OLD.held_storage, 0)
     WHERE id IN (OLD.controller_id, OLD.moving_to);
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_hold_no_more AFTER DELETE ON sessions FOR EACH ROW
    WHEN (OLD.controller_id IS NOT NULL) EXECUTE FUNCTION sessions_hold_no_more();

CREATE FUNCTION controllers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet SET revision = revision + 1 RETURNING fleet.revision INTO NEW.revision;
    RETURN NEW;
END
$$;

CREATE TRIGGER controllers_added BEFORE INSERT ON controllers FOR EACH ROW EXECUTE FUNCTION controllers_changed();

CREATE TRIGGER controllers_changed BEFORE UPDATE ON controllers FOR EACH ROW WHEN (
    OLD.type IS DISTINCT FROM NEW.type OR OLD.name IS DISTINCT FROM NEW.name OR
    OLD.endpoint IS DISTINCT FROM NEW.endpoint OR OLD.status IS DISTINCT FROM NEW.status OR
    OLD.message IS DISTINCT FROM NEW.message OR OLD.capabilities IS DISTINCT FROM NEW.capabilities OR
    OLD.labels IS DISTINCT FROM NEW.labels OR
    OLD.operator_labels IS DISTINCT FROM NEW.operator_labels OR
    OLD.draining IS DISTINCT FROM NEW.draining OR
    OLD.current_sessions IS DISTINCT FROM NEW.current_sessions OR
    OLD.reserved_sessions IS DISTINCT FROM NEW.reserved_sessions OR
    OLD.reserved_cpu IS DISTINCT FROM NEW.reserved_cpu OR
    OLD.reserved_memory IS DISTINCT FROM NEW.reserved_memory OR
    OLD.reserved_storage IS DISTINCT FROM NEW.reserved_storage OR
    OLD.unseen_cpu IS DISTINCT FROM NEW.unseen_cpu OR
    OLD.unseen_memory IS DISTINCT FROM NEW.unseen_memory OR
    OLD.unseen_storage IS DISTINCT FROM NEW.unseen_storage OR
    OLD.last_placed IS DISTINCT FROM NEW.last_placed
) EXECUTE FUNCTION controllers_changed();

CREATE FUNCTION controllers_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet SET revision = revision + 1, removed = revision + 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER controllers_removed AFTER DELETE ON controllers FOR EACH ROW EXECUTE FUNCTION controllers_removed();
